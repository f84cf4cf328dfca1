"""Files and folders that appear whole or not at all: written beside, flushed to disk, then renamed."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gpt2lab.base.errors import BadInput, BadOption, explain_full_disk

PARTIAL = ".partial"
REPLACED = ".replaced"


def sync_file(path: Path) -> None:
    """Flush a closed file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_unwritable(path: Path) -> Iterator[None]:
    """Turn a refusal to make `path` into a BadOption that names it, and not what would have stood beside it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        # mkdir says "File exists" of a file where a folder is needed.
        reason = os.strerror(errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or 0)
        raise BadOption(f"{path}: can't be written there ({reason}); name another place.") from None


def refuse_no_ordinary_file(path: Path) -> None:
    """Raise BadOption for a device, pipe or socket, which a rename would replace by a file."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadOption(f"{path}: is no ordinary file, and would be replaced by one; name another file.")


def _beside(path: Path, ending: str) -> Path:
    """Our name for what is not yet, or no longer, `path`; another process would choose another."""
    return path.with_name(f".{path.name}.{os.getpid()}{ending}")


def _mend_after_kill(path: Path) -> None:
    """Clear up what a process that was killed while it wrote `path` left beside it."""
    import psutil  # here, so that what only reads starts sooner

    for ending in (REPLACED, PARTIAL):
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{ending}"):
            owner = left.name.removesuffix(ending).rpartition(".")[2]
            if owner.isdigit() and psutil.pid_exists(int(owner)):
                continue
            if ending == REPLACED and not path.exists():
                left.rename(path)  # killed between the two renames of whole_folder
            elif left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def remove_partial_files(folder: Path) -> None:
    """Delete what killed runs left half-written in a folder that is ours alone."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file handle whose contents become `path` when the block ends well, and vanish when it raises.

    Raises NoSpace when the disk fills up; an older file of that name is then untouched. BadOption for a device or pipe.
    """
    refuse_no_ordinary_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend_after_kill(path)
    partial = _beside(path, PARTIAL)
    try:
        with explain_full_disk(path):
            with partial.open(mode, encoding=None if "b" in mode else "utf-8") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(path)
            sync_file(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A fresh folder that becomes `path` when the block ends well, replacing what was there; else it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend_after_kill(path)
    partial, replaced = _beside(path, PARTIAL), _beside(path, REPLACED)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with explain_full_disk(path):
            yield partial
            for file in sorted(partial.rglob("*")):
                sync_file(file)
            sync_file(partial)
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
            sync_file(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def locked_folder(path: Path, who: str = "process") -> Iterator[None]:
    """Make a folder and hold it alone: raises BadOption while another one (`who`) does, or where it can't be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(f"{path}: can't be made a folder ({error.strerror}); name another one.") from None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise BadOption(f"{path}: another {who} is at work there; wait for it or name another folder.") from None
    try:
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Write UTF-8 JSON, whole or not at all; much faster without `indent`."""
    with whole_file(path, "w") as handle:
        handle.write(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises BadInput that names the file and the line when it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file.") from None
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError, too
        raise BadInput(f"{path}: not valid JSON ({error}).") from None


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
