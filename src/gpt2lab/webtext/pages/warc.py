"""WARC and WET files become pages; damage is noticed, told, and passed over to the next whole record.

fastwarc's own reader takes a cut file for a short one, stops at the first damaged gzip member and passes over garbage
without a word: so here the frame of every record is checked, and fastwarc reads the HTTP message in it.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, cast

from fastwarc import ArchiveIterator
from resiliparse.parse.encoding import detect_mime

from gpt2lab.webtext.pages.gzip_members import (
    CUT_SHORT,
    Run,
    is_one_long_member,
    next_proven_record,
    runs,
)
from gpt2lab.webtext.pages.page import LARGEST_PAGE_BYTES, MIB, FilePart, Page, Unreadable, decode_page, is_panic
from gpt2lab.webtext.pages.window import Window, file_window

TOO_LARGE = f"page: larger than {LARGEST_PAGE_BYTES // MIB} MiB"
REPEAT = "repeat: the same bytes as an earlier page"
"""A revisit record: the page itself stands where its excerpt says, so it is no page a second time."""
WRONG_DIGEST = "damaged: not the bytes that its digest was made of"

_LARGEST_HEADER_BYTES = 1 << 16
_LONGEST_LENGTH = 18  # digits; more bytes than that are in no file
_DIGESTS = frozenset({"md5", "sha1", "sha224", "sha256", "sha384", "sha512"})
_LAYER = 1 << 52  # more bytes than a file has
_LAYERS = 1 << 10
"""Deflate makes at most 1,032 bytes of one, and a record has at least 27 of them: only damage can have more layers."""
# No line of a header ends like the first line of another, so that a search tries no byte in two headers
_HEADER = re.compile(
    rb"WARC/[01]\.\d+\r?\n((?:[^\r\n][^\n]*(?<!WARC/\d\.\d)(?<!WARC/\d\.\d\r)(?<!WARC/\d\.\d\d)\n)++)\r?\n"
)
_FIELD = re.compile(r"^([^\s:][^:\n]*):([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)


@dataclass(frozen=True)
class _Record:
    """Where a record is in its window: its header from `begin`, its block from `block` to `end`."""

    begin: int
    block: int
    end: int
    fields: dict[str, str]  # names in lower case


@dataclass(frozen=True)
class _Stretch:
    """Bytes that are no record; `end` None: nothing follows."""

    begin: int
    end: int | None
    damage: str


def read_warc(part: FilePart) -> Iterator[Page | Unreadable]:
    """Pages of the records of a WARC or WET file that start in one part of it.

    A damaged stretch is one Unreadable: `file: ...` if nothing follows it, else `damaged: ...`, with the place as
    excerpt. No page comes from a record whose gzip checksum, length or digest does not hold.
    """
    source = part.file.source_file
    with part.file.path.open("rb") as handle:
        if not _is_gzip(handle):
            window = file_window(handle)
            for found in _records(window, part.begin, part.end):
                if isinstance(found, _Stretch):
                    yield _unreadable(source, found.begin, found)
                elif item := _item(window, found, source, found.begin, has_checksum=False):
                    yield item
            return
        for run in runs(handle, part.begin, part.end):
            yield from _read_run(run, source)


def _read_run(run: Run, source: str) -> Iterator[Page | Unreadable]:
    number = 0
    for number, found in enumerate(islice(_records(run.text, 0, None), _LAYERS * _size(run)), 1):
        index = _index(run, number - 1)
        item: Page | Unreadable | None = None
        if isinstance(found, _Stretch):
            where = f" of the text of the gzip member at byte {run.begin:,}"
            item = None if run.damage else _unreadable(source, index, found, where)
        elif not run.damage or _is_trusted(run, found):
            item = _item(run.text, found, source, index, has_checksum=True)
        if item:
            yield item
    if run.damage:
        yield _unreadable(source, _index(run, number), _Stretch(run.begin, run.end, run.damage))


def _index(run: Run, number: int) -> int:
    """A number for a record of a run that no record of another run has: one of the run's own bytes, and a layer."""
    return run.begin + number % _size(run) + number // _size(run) * _LAYER


def _size(run: Run) -> int:
    return (_LAYER if run.end is None else run.end) - run.begin


def _is_trusted(run: Run, record: _Record) -> bool:
    """Whether a record came out whole of a gzip member whose checksum is wrong or absent."""
    if record.end - record.block > LARGEST_PAGE_BYTES:
        return False
    digest = _digest_holds(record.fields, run.text.view(record.block, record.end - record.block))
    if digest is None and run.damage == CUT_SHORT:  # what stands before a cut is right; the last record may be the cut
        return run.text.at(run.text.skip(b"\r\n", record.end), 5) == b"WARC/"
    return bool(digest)


def warc_boundaries(handle: BinaryIO, size: int, step: int) -> Iterator[int]:
    """Starts of records about `step` bytes apart, all of them starts that reading from the beginning comes to."""
    window = file_window(handle)
    if not _is_gzip(handle):
        last = 0
        for found in _records(window, 0, None):
            if isinstance(found, _Record) and found.begin >= last + step:
                yield found.begin
                last = found.begin
        return
    if is_one_long_member(window):
        return
    begin = step
    while begin < size and (found_at := next_proven_record(window, begin, size)) is not None:
        yield found_at
        begin = max(found_at + 1, found_at // step * step + step)


def _is_gzip(handle: BinaryIO) -> bool:
    """What the bytes say, not the name: some servers and tools decompress without renaming."""
    handle.seek(0)
    return handle.read(2) == b"\x1f\x8b"


def _records(window: Window, begin: int, end: int | None) -> Iterator[_Record | _Stretch]:
    """The records that begin from `begin` to `end`, and the stretches between them that are none."""
    position = begin
    bad: _Stretch | None = None
    while True:
        position = window.skip(b"\r\n", position)
        if (end is not None and position >= end) or not window.at(position, 1):
            break
        record = _record_at(window, position)
        if isinstance(record, _Record):
            if bad:
                yield _Stretch(bad.begin, position, bad.damage)
                bad = None
            yield record
            position = record.end
            continue
        bad = bad or _Stretch(position, None, record)
        found = window.find(b"WARC/", position + 1, end)
        if found is None:
            position = -1
            break
        position = found
    if bad:
        more = end is not None and window.at(end, 1)
        yield _Stretch(bad.begin, end if more else None, bad.damage)


def _record_at(window: Window, begin: int) -> _Record | str:
    """The record that begins here, or what is wrong with it."""
    header = _HEADER.match(window.at(begin, 4096)) or _HEADER.match(window.at(begin, _LARGEST_HEADER_BYTES))
    if header is None:
        seen = window.at(begin, _LARGEST_HEADER_BYTES)
        is_cut = b"WARC/".startswith(seen[:5]) and len(seen) < _LARGEST_HEADER_BYTES and b"\0" not in seen
        return CUT_SHORT if is_cut else "no WARC record"
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(header[1].decode(errors="replace")):
        fields.setdefault(name.strip().lower(), value.strip())
    length = fields.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH):
        return "a record without a length"
    block = begin + header.end()
    end = block + int(length)
    if end - begin <= LARGEST_PAGE_BYTES:
        window.hold(begin, end + 16 - begin)  # it will be read next
    if end > block and not window.at(end - 1, 1):
        return CUT_SHORT
    after = window.at(end, 16)
    line_end = b"\r\n" if b"\r\n" in header[0] else b"\n"
    if not after.startswith(line_end * 2) and after.strip(b"\r\n")[:5] not in (b"", b"WARC/"):
        return "a record of another length than it says"
    return _Record(begin, block, end, fields)


def _unreadable(source: str, index: int, stretch: _Stretch, where: str = "") -> Unreadable:
    if stretch.end is None and not where:
        why = CUT_SHORT if stretch.damage == CUT_SHORT else f"damaged ({stretch.damage})"
        return Unreadable(source, index, None, f"file: {why}", f"at byte {stretch.begin:,}")
    end = "the end" if stretch.end is None else f"{stretch.end:,}"
    return Unreadable(source, index, None, f"damaged: {stretch.damage}", f"bytes {stretch.begin:,} to {end}{where}")


def _item(window: Window, record: _Record, source: str, index: int, has_checksum: bool) -> Page | Unreadable | None:
    """The page in a record; None for a record that is none (requests, metadata, ...).

    Digests are looked at where gzip has no checksum: behind one they can tell only of a writer's own mistakes, and
    take as long as a third of all reading.
    """
    fields = record.fields
    kind = fields.get("warc-type", "").lower()
    url = fields.get("warc-target-uri", "").removeprefix("<").removesuffix(">") or None
    if kind == "revisit":
        original = fields.get("warc-refers-to-target-uri") or "an unnamed page"
        return Unreadable(source, index, url, REPEAT, f"stored as {original}")
    is_http = fields.get("content-type", "").lower().replace(" ", "").startswith("application/http")
    if kind != "conversion" and not (kind == "response" and is_http):
        return None
    if record.end - record.block > LARGEST_PAGE_BYTES:
        return Unreadable(source, index, url, TOO_LARGE)
    block = window.view(record.block, record.end - record.block)
    if not has_checksum and _digest_holds(fields, block) is False:
        return Unreadable(source, index, url, WRONG_DIGEST)
    date = fields.get("warc-date") or None
    if kind == "conversion":
        return Page(source, index, url, str(block, "utf-8", "replace"), "text", date)
    return _page_of_response(block, source, index, url, date)


def _digest_holds(fields: dict[str, str], block: memoryview) -> bool | None:
    """Whether a record's block is what its digest was made of; None where that can't be told.

    A payload digest counts where there is no block digest and the payload stands in the block as it is: whether
    it is taken before or after chunks are joined, writers do not agree.
    """
    said, data = fields.get("warc-block-digest"), block
    if not said:
        head = bytes(block[:_LARGEST_HEADER_BYTES]).partition(b"\r\n\r\n")[0]
        said, data = fields.get("warc-payload-digest"), block[len(head) + 4 :]
        if not said or "warc-truncated" in fields or b"transfer-encoding:" in head.lower():
            return None
    algorithm, _, value = said.partition(":")
    algorithm = algorithm.strip().lower().replace("-", "")
    if algorithm not in _DIGESTS:
        return None
    digest = hashlib.new(algorithm, data, usedforsecurity=False).digest()
    return value.strip().rstrip("=").lower() in (digest.hex(), base64.b32encode(digest).decode().rstrip("=").lower())


class _Response:
    """A file of one record: what fastwarc reads an HTTP message from, a little at a time."""

    def __init__(self, block: memoryview) -> None:
        head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
        self._head = head % len(block)
        self._block = block
        self._position = 0

    def read(self, size: int) -> bytes:
        """The header, then the block."""
        begin = self._position - len(self._head)
        data = self._head if begin < 0 else bytes(self._block[begin : begin + size])
        self._position += len(data)
        return data

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position


def _page_of_response(
    block: memoryview, source: str, index: int, url: str | None, date: str | None
) -> Page | Unreadable:
    try:
        record = next(ArchiveIterator(cast(BinaryIO, _Response(block)), parse_http=False))
        record.parse_http(auto_decode="all")
        body = record.reader.read(LARGEST_PAGE_BYTES + 1)
    except BaseException as error:
        if not isinstance(error, OSError | ValueError | StopIteration) and not is_panic(error):
            raise
        return Unreadable(source, index, url, "broken http response", str(error)[:200])
    status = record.http_headers.status_code
    if status != 200:
        return Unreadable(source, index, url, f"http status {status}")
    if len(body) > LARGEST_PAGE_BYTES:
        return Unreadable(source, index, url, TOO_LARGE)
    mime = (record.http_content_type or detect_mime(body)).lower().strip()[:60]
    if mime not in ("text/html", "application/xhtml+xml", "text/plain"):
        return Unreadable(source, index, url, f"not text: {mime}")
    content = decode_page(body, record.http_charset)
    if content is None:
        return Unreadable(source, index, url, "not text: binary")
    return Page(source, index, url, content, "text" if mime == "text/plain" else "html", date)
