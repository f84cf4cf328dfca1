"""JSON lines become pages."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from gpt2lab.webtext.pages.page import (
    LARGEST_TEXT_BYTES,
    MIB,
    DamageError,
    FilePart,
    Page,
    Unreadable,
    well_formed,
)
from gpt2lab.webtext.pages.plain import open_file

DATE_COLUMNS = ("date", "timestamp", "created")
LONGEST_DATE = 40  # characters; anything longer is no date


def read_jsonl(part: FilePart, text_column: str) -> Iterator[Page | Unreadable]:
    """A page for each line that begins in one part of a file."""
    source = part.file.source_file
    with open_file(part.file) as handle:
        begin = part.begin
        if begin:
            handle.seek(begin - 1)  # a line begins at `begin` itself if a line ends right before it
            begin += _skip_line(handle) - 1
        while part.end is None or begin < part.end:
            line = _next_line(handle, begin)
            if not line:
                return
            size = len(line)
            if size > LARGEST_TEXT_BYTES:
                size += 0 if line.endswith(b"\n") else _skip_line(handle)
                yield Unreadable(source, begin, None, f"line: larger than {LARGEST_TEXT_BYTES // MIB} MiB")
            elif not line.isspace():
                yield _page_of_line(source, begin, line, text_column)
            begin += size


def date_of(value: Any) -> str | None:
    """A date column's value, if it looks like a date."""
    return well_formed(value) if isinstance(value, str) and 0 < len(value) <= LONGEST_DATE else None


def _skip_line(handle: BinaryIO) -> int:
    """Reads to the end of a line; how many bytes that was."""
    size = 0
    while line := handle.readline(MIB):
        size += len(line)
        if line.endswith(b"\n"):
            break
    return size


def _next_line(handle: BinaryIO, begin: int) -> bytes:
    try:
        return handle.readline(LARGEST_TEXT_BYTES + 1)
    except DamageError as damage:
        where = f"{damage.where}, " if damage.where else ""
        raise DamageError(damage.reason, f"{where}in the line at byte {begin:,}") from None


def _page_of_line(source_file: str, index: int, line: bytes, text_column: str) -> Page | Unreadable:
    excerpt = line[:400].decode(errors="replace").strip()
    try:
        record = json.loads(line.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        return Unreadable(source_file, index, None, "line: not valid JSON", excerpt)
    text = record.get(text_column) if isinstance(record, dict) else None
    if not isinstance(text, str):
        return Unreadable(source_file, index, None, f"line: no text in column {text_column!r}", excerpt)
    url = record.get("url")
    date = next((date for name in DATE_COLUMNS if (date := date_of(record.get(name)))), None)
    return Page(source_file, index, well_formed(url) if isinstance(url, str) else None, well_formed(text), "text", date)
