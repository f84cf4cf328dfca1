"""Databases that outlive no run: what would otherwise be a dictionary too large for memory."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2lab.base.errors import NoSpace


class ScratchDatabase:
    """An SQLite file that is made anew and removed on `close`. Used by one thread at a time, not always the same.

    Raises NoSpace when the disk is full.
    """

    def __init__(self, path: Path, cache_kib: int) -> None:
        self.path = path
        with self.full_disk_explained():
            path.unlink(missing_ok=True)
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # Nothing here outlives the run, so nothing needs a journal or a lock.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "temp_store = FILE"):
                self.connection.execute(f"PRAGMA {pragma}")
            self.connection.execute(f"PRAGMA cache_size = -{cache_kib}")

    def close(self) -> None:
        """Close and remove the file."""
        self.connection.close()
        self.path.unlink(missing_ok=True)

    @contextmanager
    def full_disk_explained(self) -> Iterator[None]:
        """Turn SQLite's words for a full disk into a NoSpace."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
                raise NoSpace(
                    f"{self.path}: the disk is full, or that of temporary files (TMPDIR); all pages fetched are whole."
                    " Free some space and run the same command again."
                ) from error
            raise
