"""What a crawl leaves on disk: WARC files and one log line a link. Killed at any instant, it loses no finished page.

The WARC being written is called `.part` and becomes a `.warc.gz` when it is full or the crawl ends.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from gpt2lab.base.errors import BadInput, explain_full_disk
from gpt2lab.base.files import locked_folder, sync_file, whole_file
from gpt2lab.webtext.crawl.addresses import host_number, host_of_link
from gpt2lab.webtext.crawl.scratch import ScratchDatabase
from gpt2lab.webtext.crawl.warc_out import (
    LOG_FIELD,
    SMALLEST_REPEAT,
    FetchedPage,
    LogLine,
    Original,
    RecordWriter,
    log_line,
    payload_digest,
    whole_members,
)

LOG_NAME = "fetch.jsonl"
PART = ".part"


def cut_to_last_whole_page(part: Path) -> list[LogLine]:
    """Cut a `.part` back to the end of its last whole page, and return the log lines of its pages.

    A file without one whole page becomes empty.
    """
    pages, end = [], 0
    for member in whole_members(part):
        if member.ends_page:
            end = member.end
            known = json.loads(member.head[LOG_FIELD.lower()])
            pages.append(LogLine(**known | {"warc": part.name.removesuffix(PART), "offset": member.start}))
    if end < part.stat().st_size:
        os.truncate(part, end)
    return pages


class CrawlFolder:
    """The folder of one crawl, open for more. Use as a context manager; one thread at a time may add to it.

    Opening it mends what a killed crawl left. Leaving the block well gives the last WARC its final name; leaving it by
    an exception keeps the `.part` for the next time. Raises BadOption when another process has the folder open,
    BadInput when the log is not one, NoSpace when the disk is full.
    """

    def __init__(self, path: Path, rotate_bytes: int, agent: str) -> None:
        self.path = path
        self._rotate_bytes, self._agent = rotate_bytes, agent
        self._part: Path | None = None
        self._warc: IO[bytes] | None = None
        self._records: RecordWriter
        self._log: IO[str]
        self._lock: ExitStack
        self._seen: _Seen

    def __enter__(self) -> "CrawlFolder":
        with ExitStack() as held:
            held.enter_context(locked_folder(self.path, "fetch"))
            with explain_full_disk(self.path):
                self._mend()
                self._log = (self.path / LOG_NAME).open("a", encoding="utf-8")
                self._seen = _Seen(self.path / ".seen.sqlite")
            self._lock = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._seen.close()
            if kind is None:
                self._finish_part()
                self._log.close()
            else:
                with suppress(OSError):  # what can't be flushed to a full disk is cut off next time
                    self._log.close()
                    if self._warc:
                        self._warc.close()
        finally:
            self._lock.close()

    def take_up(self) -> Iterator[str]:
        """The links that have a log line; to be gone through before pages are added, so that repeats are noticed."""
        for line in _read_log(self.path / LOG_NAME):
            assert line is not None  # a torn line was mended
            if line.error is None and line.digest and line.date and not line.repeat_of:
                self._seen.add(line.url, line.digest, Original(line.final_url or line.url, line.date))
            yield line.url

    def add(self, items: Sequence[FetchedPage | LogLine]) -> None:
        """Write pages with their log lines, and lines of links without a page.

        They are in the operating system's hands on return.
        """
        with explain_full_disk(self.path):
            for item in items:
                self._log.write((self._add_page(item) if isinstance(item, FetchedPage) else item).json())
            self._log.flush()

    def _add_page(self, page: FetchedPage) -> LogLine:
        if self._warc and self._warc.tell() >= self._rotate_bytes:
            self._finish_part()
        if not self._warc or not self._part:
            self._open_part()
        assert self._part
        digest = payload_digest(page.body)
        original = self._seen.find(page.link, digest) if len(page.body) >= SMALLEST_REPEAT else None
        line = self._records.write_page(page, log_line(page, digest, original), original)
        if original is None and len(page.body) >= SMALLEST_REPEAT:
            self._seen.add(page.link, digest, Original(page.url, page.date))
        return replace(line, warc=self._part.name.removesuffix(PART))

    def _mend(self) -> None:
        """Make WARC files and log agree, in memory bounded by the pages of one WARC file."""
        log = self.path / LOG_NAME
        parts = sorted(self.path.glob(f"pages-*.warc.gz{PART}"))
        found = {line.url: line for part in parts for line in cut_to_last_whole_page(part)}
        cut_files = {part.name.removesuffix(PART) for part in parts}
        missing, has_bad_lines = dict(found), False
        for line in _read_log(log):
            if line is None or (line.warc in cut_files and line.url not in found):
                has_bad_lines = True  # a torn line, or one whose record did not reach the disk
            else:
                missing.pop(line.url, None)
        if has_bad_lines or missing:
            with whole_file(log, "w") as handle:
                for line in _read_log(log):
                    if line and not (line.warc in cut_files and line.url not in found):
                        handle.write(line.json())
                handle.writelines(line.json() for line in missing.values())
        for part in parts:
            if part.stat().st_size == 0:
                part.unlink()
            elif self._part is None:
                self._part = part
        if self._part:
            self._warc = self._part.open("ab")
            self._records = RecordWriter(self._warc)

    def _open_part(self) -> None:
        used = [int(file.name.removeprefix("pages-")[:5]) for file in self.path.glob("pages-*.warc.gz")]
        self._part = self.path / f"pages-{max(used, default=-1) + 1:05d}.warc.gz{PART}"
        self._warc = self._part.open("xb")
        self._records = RecordWriter(self._warc)
        self._records.write_info(self._part.name.removesuffix(PART), self._agent)

    def _finish_part(self) -> None:
        if not self._warc or not self._part:
            return
        self._warc.close()
        self._log.flush()
        sync_file(self._part)
        sync_file(self.path / LOG_NAME)
        self._part.rename(self._part.with_name(self._part.name.removesuffix(PART)))
        sync_file(self.path)
        self._part, self._warc = None, None


class _Seen:
    """Digests of the pages of this crawl by host, in a scratch database: memory does not grow with their number.

    A repeat is looked for among the links of one host alone. They are fetched in order and never by two machines, so
    a crawl finds the same repeats whole, in shards, and killed and taken up again.
    """

    def __init__(self, path: Path) -> None:
        self._scratch = ScratchDatabase(path, cache_kib=8192)
        self._scratch.connection.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, url TEXT, date TEXT) WITHOUT ROWID")

    def close(self) -> None:
        self._scratch.close()

    def add(self, link: str, digest: str, original: Original) -> None:
        row = (_seen_id(link, digest), original.url, original.date)
        with self._scratch.full_disk_explained():
            self._scratch.connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row)

    def find(self, link: str, digest: str) -> Original | None:
        found = self._scratch.connection.execute(
            "SELECT url, date FROM seen WHERE id = ?", (_seen_id(link, digest),)
        ).fetchone()
        return Original(*found) if found else None


def _seen_id(link: str, digest: str) -> str:
    return f"{host_number(host_of_link(link)):x} {digest}"


def _read_log(path: Path) -> Iterator[LogLine | None]:
    """The lines of a log; None for a last line that was torn off. An absent log has none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as handle:
        for number, text in enumerate(handle, 1):
            if not text.endswith("\n"):
                yield None
                return
            try:
                yield LogLine(**json.loads(text))
            except (json.JSONDecodeError, TypeError) as error:
                raise BadInput(
                    f"{path}: line {number:,} is not of a fetch log ({error}); name another folder for this crawl."
                ) from None
