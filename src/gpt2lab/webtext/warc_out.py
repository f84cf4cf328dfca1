"""What a crawl leaves on disk: WARC files and one log line a link. Killed at any instant, it loses no finished page.

A page is a request record and then its response record; it counts as finished when the response is whole on disk.
The WARC being written is called `.part` and becomes a `.warc.gz` when it is full or the crawl ends.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from gpt2lab.base.errors import BadInput, BadOption, explain_full_disk
from gpt2lab.base.files import sync_file, whole_file

LOG_NAME = "fetch.jsonl"
LOG_FIELD = "X-Gpt2lab-Log"
PART = ".part"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class FetchedPage:
    """A page as it came. Header values and the body are decoded; `body` has no content or transfer encoding left."""

    link: str
    url: str
    status: int
    reason: str
    path: str
    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]]
    body: bytes
    seconds: float


@dataclass(frozen=True)
class LogLine:
    """What became of one link. `error` is a kind such as `robots` or `http_404`, or None for a page that was kept."""

    url: str
    final_url: str | None
    status: int | None
    bytes: int
    seconds: float
    error: str | None
    warc: str | None = None
    offset: int | None = None


@dataclass(frozen=True)
class _Member:
    """One whole gzip member, which is one record: where it begins and ends in the file, and its WARC headers."""

    start: int
    end: int
    head: dict[str, str]


def whole_members(path: Path) -> Iterator[_Member]:
    """The gzip members from the start of a file to the first that is cut short or damaged."""
    with path.open("rb") as handle:
        start, read = 0, b""
        while read := read or handle.read(_CHUNK):
            unzip, head, size = zlib.decompressobj(zlib.MAX_WBITS | 16), b"", 0
            while not unzip.eof:
                if not read:
                    return
                try:
                    text = unzip.decompress(read)
                except zlib.error:
                    return
                if b"\r\n\r\n" not in head:
                    head += text
                size += len(read) - len(unzip.unused_data)
                read = unzip.unused_data if unzip.eof else handle.read(_CHUNK)
            yield _Member(start, start + size, _warc_headers(head))
            start += size


def _warc_headers(record: bytes) -> dict[str, str]:
    lines = record.partition(b"\r\n\r\n")[0].decode("utf-8", errors="replace").split("\r\n")
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


def cut_to_last_whole_page(part: Path) -> list[LogLine]:
    """Cut a `.part` back to the end of its last whole response, and return the log lines of its pages.

    A file without one whole page becomes empty.
    """
    pages, end = [], 0
    for member in whole_members(part):
        if member.head.get("warc-type") == "response":
            end = member.end
            known = json.loads(member.head[LOG_FIELD.lower()])
            pages.append(LogLine(**known, warc=part.name.removesuffix(PART), offset=member.start))
    if end < part.stat().st_size:
        os.truncate(part, end)
    return pages


class CrawlFolder:
    """The folder of one crawl, open for more. Use as a context manager; `done` holds the links that have a log line.

    Opening it mends what a killed crawl left. Leaving the block well gives the last WARC its final name; leaving it by
    an exception keeps the `.part` for the next time. Raises BadOption when another process has the folder open,
    BadInput when the log is not one, NoSpace when the disk is full.
    """

    def __init__(self, path: Path, rotate_bytes: int, agent: str) -> None:
        self.path = path
        self.done: set[str] = set()
        self._rotate_bytes, self._agent = rotate_bytes, agent
        self._part: Path | None = None
        self._warc: IO[bytes] | None = None
        self._log: IO[str]
        self._lock: int

    def __enter__(self) -> "CrawlFolder":
        with explain_full_disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._mend()
                self._log = (self.path / LOG_NAME).open("a", encoding="utf-8")
            except BlockingIOError:
                os.close(self._lock)
                raise BadOption(
                    f"{self.path}: another fetch is writing there; wait for it or name another folder."
                ) from None
            except BaseException:
                os.close(self._lock)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish_part()
                self._log.close()
            else:
                with suppress(OSError):  # what can't be flushed to a full disk is cut off next time
                    self._log.close()
                    if self._warc:
                        self._warc.close()
        finally:
            os.close(self._lock)

    def add_page(self, page: FetchedPage) -> None:
        """Write the page's records and its log line; both are in the operating system's hands on return."""
        line = LogLine(page.link, page.url, page.status, len(page.body), page.seconds, None)
        with explain_full_disk(self.path):
            if self._warc and self._warc.tell() >= self._rotate_bytes:
                self._finish_part()
            if not self._warc or not self._part:
                self._warc, self._part = self._open_part()
            offset = write_page(self._warc, page, line)
        self.add_line(replace(line, warc=self._part.name.removesuffix(PART), offset=offset))

    def add_line(self, line: LogLine) -> None:
        """Write the log line of a link."""
        with explain_full_disk(self.path):
            self._log.write(json.dumps(asdict(line)) + "\n")
            self._log.flush()
        self.done.add(line.url)

    def _mend(self) -> None:
        log = self.path / LOG_NAME
        parts = sorted(self.path.glob(f"pages-*.warc.gz{PART}"))
        found = {line.url: line for part in parts for line in cut_to_last_whole_page(part)}
        cut_files = {part.name.removesuffix(PART) for part in parts}
        kept, mended = [], False
        for line in _read_log(log) if log.exists() else ():
            if line is None or (line.warc in cut_files and line.url not in found):
                mended = True  # a torn line, or one whose record did not reach the disk
                continue
            kept.append(line)
            self.done.add(line.url)
        missing = [line for url, line in found.items() if url not in self.done]
        if mended or missing:
            with whole_file(log, "w") as handle:
                handle.writelines(json.dumps(asdict(line)) + "\n" for line in kept + missing)
            self.done.update(line.url for line in missing)
        for part in parts:
            if part.stat().st_size == 0:
                part.unlink()
            elif self._part is None:
                self._part = part
        if self._part:
            self._warc = self._part.open("ab")

    def _open_part(self) -> tuple[IO[bytes], Path]:
        used = [int(file.name.removeprefix("pages-")[:5]) for file in self.path.glob("pages-*.warc.gz")]
        part = self.path / f"pages-{max(used, default=-1) + 1:05d}.warc.gz{PART}"
        handle = part.open("xb")
        writer = WARCWriter(handle, gzip=True, warc_version="1.1")
        info = {"software": self._agent, "format": "WARC File Format 1.1"}
        writer.write_record(writer.create_warcinfo_record(part.name.removesuffix(PART), info))
        return handle, part

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


def write_page(handle: IO[bytes], page: FetchedPage, line: LogLine) -> int:
    """Append a page's request and response records; returns the offset of the response in bytes."""
    writer = WARCWriter(handle, gzip=True, warc_version="1.1")
    status = StatusAndHeaders(f"{page.status} {page.reason}".strip(), plain_headers(page), protocol="HTTP/1.1")
    known = {name: value for name, value in asdict(line).items() if name not in ("warc", "offset")}
    response = _record(writer, "response", page.url, status, page.body, {LOG_FIELD: json.dumps(known)})
    identity = response.rec_headers.get_header("WARC-Record-ID")
    wish = StatusAndHeaders(f"GET {page.path} HTTP/1.1", page.request_headers, is_http_request=True)
    writer.write_record(_record(writer, "request", page.url, wish, b"", {"WARC-Concurrent-To": identity}))
    offset = handle.tell()
    writer.write_record(response)
    return offset


def _record(writer: Any, kind: str, url: str, http: StatusAndHeaders, body: bytes, fields: dict[str, str]) -> Any:
    return writer.create_warc_record(
        url, kind, payload=BytesIO(body), length=len(body), http_headers=http, warc_headers_dict=fields
    )


def plain_headers(page: FetchedPage) -> list[tuple[str, str]]:
    """The response's headers made true for the decoded body; those that described its transport are kept renamed."""
    transport = {"content-encoding", "transfer-encoding", "content-length"}
    renamed = [
        (f"X-Archive-Orig-{name}" if name.lower() in transport else name, value)
        for name, value in page.response_headers
    ]
    return [*renamed, ("Content-Length", str(len(page.body)))]


def _read_log(path: Path) -> Iterator[LogLine | None]:
    """The lines of a log; None for a last line that was torn off."""
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
