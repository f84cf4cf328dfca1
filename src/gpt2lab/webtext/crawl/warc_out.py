"""The WARC records of a page: request, metadata, and a response, or a revisit where the same bytes came before.

The response or revisit comes last: a page counts as finished when that record is whole on disk.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from gpt2lab.webtext.crawl.answers import Headers

LOG_FIELD = "X-Gpt2lab-Log"
SMALLEST_REPEAT = 1024
"""Bytes from which on a page that came before is stored as a reference; for less the reference is no shorter."""
GZIP_LEVEL = 4
"""On English HTML 3 % larger than level 9 and 1 % larger than level 6, in half and 60 % of their time."""
_CHUNK = 1 << 16
_LAST_RECORDS = ("response", "revisit")


@dataclass(frozen=True)
class FetchedPage:
    """A page as it came. `body` has no content or transfer encoding left. `date` is UTC as WARC writes it.

    `hops` are the addresses that redirected to the next, from the link on; `address` is the IP connected to.
    """

    link: str
    url: str
    status: int
    reason: str
    path: str
    request_headers: Headers
    response_headers: Headers
    body: bytes
    seconds: float
    date: str
    address: str | None = None
    hops: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogLine:
    """What became of one link. `error` is a kind such as `robots` or `http_404`, or None for a page that was kept.

    `digest` is the page's SHA-1 as WARC writes it; `repeat_of` the address of the same bytes, where only a reference
    was stored.
    """

    url: str
    final_url: str | None
    status: int | None
    bytes: int
    seconds: float
    error: str | None
    date: str | None = None
    digest: str | None = None
    repeat_of: str | None = None
    warc: str | None = None
    offset: int | None = None

    def json(self) -> str:
        """The line as it stands in the log, with its line break."""
        return json.dumps(self.__dict__) + "\n"


@dataclass(frozen=True)
class Original:
    """Where the bytes of a repeat are: the address and date of the response that holds them."""

    url: str
    date: str


def payload_digest(body: bytes) -> str:
    """SHA-1 of a page as WARC writes it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()


def log_line(page: FetchedPage, digest: str, original: Original | None) -> LogLine:
    """The log line of a page, as far as it is known before the page is written."""
    return LogLine(
        page.link,
        page.url,
        page.status,
        len(page.body),
        page.seconds,
        error=None,
        date=page.date,
        digest=digest,
        repeat_of=original.url if original else None,
    )


class _HttpHead(StatusAndHeaders):  # type: ignore[misc]  # warcio has no types
    """Header bytes as they came; warcio would percent-encode what is not ASCII, and fails on some of it."""

    def to_ascii_bytes(self, filter_func: Any = None) -> bytes:
        return bytes(self.to_bytes(filter_func, "latin-1"))


class RecordWriter:
    """Appends records, one gzip member each, to an open file."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._plain = BytesIO()
        # warcio's own compression is level 9 and in small steps; ours is one call that lets other threads run.
        self._warcio = WARCWriter(self._plain, gzip=False, warc_version="1.1")

    def write_info(self, name: str, agent: str) -> None:
        """The record that a file begins with."""
        info = {"software": agent, "format": "WARC File Format 1.1"}
        self._handle.write(self._member(self._warcio.create_warcinfo_record(name, info)))

    def write_page(self, page: FetchedPage, line: LogLine, original: Original | None) -> LogLine:
        """Append a page's records and flush them to the operating system; returns `line` with the place filled in."""
        response = self._response(page, line, original)
        about = {"WARC-Date": page.date, "WARC-Concurrent-To": response.rec_headers.get_header("WARC-Record-ID")}
        wish = _HttpHead(f"GET {page.path} HTTP/1.1", page.request_headers, is_http_request=True)
        request = self._warcio.create_warc_record(page.url, "request", http_headers=wish, warc_headers_dict=dict(about))
        facts = _metadata(page)
        metadata = self._warcio.create_warc_record(
            page.url, "metadata", payload=BytesIO(facts), length=len(facts), warc_headers_dict=about
        )
        before = self._member(request) + self._member(metadata)
        place = self._handle.tell() + len(before)
        self._handle.write(before + self._member(response))
        self._handle.flush()
        return replace(line, offset=place)

    def _response(self, page: FetchedPage, line: LogLine, original: Original | None) -> Any:
        known = {name: value for name, value in line.__dict__.items() if name not in ("warc", "offset")}
        fields = {"WARC-Date": page.date, LOG_FIELD: json.dumps(known)}
        if page.address:
            fields["WARC-IP-Address"] = page.address
        http = _HttpHead(f"{page.status} {page.reason}".strip(), plain_headers(page), protocol="HTTP/1.1")
        if original:
            return self._warcio.create_revisit_record(
                page.url, line.digest, original.url, original.date, http_headers=http, warc_headers_dict=fields
            )
        fields["WARC-Payload-Digest"] = line.digest or payload_digest(page.body)
        return self._warcio.create_warc_record(
            page.url,
            "response",
            payload=BytesIO(page.body),
            length=len(page.body),
            http_headers=http,
            warc_headers_dict=fields,
        )

    def _member(self, record: Any) -> bytes:
        self._plain.seek(0)
        self._plain.truncate()
        self._warcio.write_record(record)
        return zlib.compress(self._plain.getvalue(), GZIP_LEVEL, zlib.MAX_WBITS | 16)


def _metadata(page: FetchedPage) -> bytes:
    facts = [f"fetchTimeMs: {page.seconds * 1000:.0f}"]
    if page.hops:
        facts += [f"hopsFromSeed: {'R' * len(page.hops)}", *(f"via: {url}" for url in page.hops)]
    return "".join(f"{fact}\r\n" for fact in facts).encode()


def plain_headers(page: FetchedPage) -> Headers:
    """The response's headers made true for the decoded body; those that described its transport are kept renamed."""
    transport = {"content-encoding", "transfer-encoding", "content-length"}
    renamed = [
        (f"X-Archive-Orig-{name}" if name.lower() in transport else name, value)
        for name, value in page.response_headers
    ]
    return [*renamed, ("Content-Length", str(len(page.body)))]


@dataclass(frozen=True)
class Member:
    """One whole gzip member, which is one record: where it begins and ends in the file, and its WARC headers."""

    start: int
    end: int
    head: dict[str, str]

    @property
    def ends_page(self) -> bool:
        """Whether this is the last record of a page."""
        return self.head.get("warc-type") in _LAST_RECORDS


def whole_members(path: Path) -> Iterator[Member]:
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
            yield Member(start, start + size, _warc_headers(head))
            start += size


def _warc_headers(record: bytes) -> dict[str, str]:
    lines = record.partition(b"\r\n\r\n")[0].decode("utf-8", errors="replace").split("\r\n")
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
