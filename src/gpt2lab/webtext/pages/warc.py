"""WARC and WET files become pages, and what is cut short or damaged is noticed."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from fastwarc import ArchiveIterator, GzipReader, WarcRecord, WarcRecordType
from resiliparse.parse.encoding import detect_mime

from gpt2lab.webtext.pages.page import LARGEST_PAGE_BYTES, MIB, DamageError, InputFile, Page, Unreadable, decode_page

TOO_LARGE = f"page: larger than {LARGEST_PAGE_BYTES // MIB} MiB"
REPEAT = "repeat: the same bytes as an earlier page"
"""A revisit record: the page itself stands where its excerpt says, so it is no page a second time."""

_CUT_SHORT = Unreadable("", 0, None, "cut short")


def read_warc(file: InputFile) -> Iterator[Page | Unreadable]:
    """Pages of a WARC or WET file.

    fastwarc takes a cut file for a short one: it hands out what is left of the last record and stops without a word.
    So every record's length is compared with what it promised, and the last gzip member is looked at again.
    A record is held back until the next one begins, so that its gzip member's checksum has been seen.
    Raises DamageError after the last page that is whole.
    """
    with file.path.open("rb") as handle:
        members = GzipReader(handle) if file.path.suffix.lower() == ".gz" else None
        held: Page | Unreadable | None = None
        count, start, offset = 0, 0, -1
        try:
            for record in ArchiveIterator(members or handle, parse_http=False):
                if held:
                    yield held
                start = _member_start(members) if members else record.stream_pos
                offset = max(start, offset + 1)  # many records may share one gzip member
                count += 1
                held = _page_of_record(record, file.source_file, offset)
                if held is _CUT_SHORT:
                    place = f"byte {start}" if start == offset else f"record {count}"
                    raise DamageError(f"cut short at {place}")
        except OSError as error:
            damaged_at = _member_start(members) if members else max(offset, 0)
            if held and damaged_at > offset:
                yield held
            raise DamageError(f"damaged at byte {damaged_at} ({str(error)[:100]})") from None
        if held:
            yield held
        if members and not _is_whole_member(file.path, _member_start(members)):
            raise DamageError(f"cut short at byte {_member_start(members)}")


def _member_start(members: GzipReader) -> int:
    return members.frame_start_position() or 0


def _is_whole_member(path: Path, start: int) -> bool:
    """Whether the gzip member that begins at byte `start` has its end, with checksum and length."""
    member = zlib.decompressobj(wbits=31)
    with path.open("rb") as handle:
        handle.seek(start)
        while not member.eof and (data := handle.read(MIB)):
            while data and not member.eof:
                member.decompress(data, MIB)
                data = member.unconsumed_tail
    return member.eof


def _url(record: WarcRecord) -> str | None:
    url = record.headers.get("WARC-Target-URI")
    return str(url).strip().removeprefix("<").removesuffix(">") if url else None


def _page_of_record(record: WarcRecord, source: str, offset: int) -> Page | Unreadable | None:
    """The page in a record; None for a record that is none (requests, metadata, ...), _CUT_SHORT for half a record."""
    url, length = _url(record), record.content_length
    promised = (record.headers.get("Content-Length") or "").strip()
    if not promised.isdigit():
        return _CUT_SHORT
    if record.record_type == WarcRecordType.revisit:
        original = record.headers.get("WARC-Refers-To-Target-URI") or "an unnamed page"
        excerpt = f"stored as {original}"
        return _CUT_SHORT if record.consume() < length else Unreadable(source, offset, url, REPEAT, excerpt)
    if length > LARGEST_PAGE_BYTES or record.record_type not in (WarcRecordType.response, WarcRecordType.conversion):
        is_page = record.record_type in (WarcRecordType.response, WarcRecordType.conversion)
        if record.consume() < length:
            return _CUT_SHORT
        return Unreadable(source, offset, url, TOO_LARGE) if is_page else None
    record.freeze()
    if record.content_length < length:
        return _CUT_SHORT
    if record.record_type == WarcRecordType.conversion:
        return Page(source, offset, url, record.reader.read().decode(errors="replace"), "text")
    return _page_of_response(record, source, offset, url) if record.is_http else None


def _page_of_response(record: WarcRecord, source: str, offset: int, url: str | None) -> Page | Unreadable:
    try:
        record.parse_http(auto_decode="all")
        body = record.reader.read(LARGEST_PAGE_BYTES + 1)
    except (OSError, ValueError) as error:
        return Unreadable(source, offset, url, f"broken http response ({str(error)[:100]})")
    status = record.http_headers.status_code
    if status != 200:
        return Unreadable(source, offset, url, f"http status {status}")
    if len(body) > LARGEST_PAGE_BYTES:
        return Unreadable(source, offset, url, TOO_LARGE)
    mime = (record.http_content_type or detect_mime(body)).lower().strip()[:60]
    if mime not in ("text/html", "application/xhtml+xml", "text/plain"):
        return Unreadable(source, offset, url, f"not text: {mime}")
    content = decode_page(body, record.http_charset)
    if content is None:
        return Unreadable(source, offset, url, "not text: binary")
    return Page(source, offset, url, content, "text" if mime == "text/plain" else "html")
