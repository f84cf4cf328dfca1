"""What is read of a file: pages, and what can't be read with its reason; the limits on both."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

MIB = 1 << 20
LARGEST_PAGE_BYTES = 16 * MIB  # an HTML page or one WARC record; parsers are slow and hungry beyond it
LARGEST_TEXT_BYTES = 64 * MIB  # a text file, or one line of JSON

Format = Literal["text", "html", "jsonl", "parquet", "warc"]
Kind = Literal["html", "text"]


@dataclass(frozen=True)
class InputFile:
    """One file to read: where it is, what records say it is called, its size in bytes, its format (None: not ours)."""

    path: Path
    source_file: str
    size: int
    format: Format | None


@dataclass(frozen=True)
class Page:
    """One page as it was found. `index` is the byte offset of a WARC record, else the record's number from 0."""

    source_file: str
    index: int
    url: str | None
    content: str
    kind: Kind


@dataclass(frozen=True)
class Unreadable:
    """What could not be read: a record, or (reason `file: ...`) a file from here on."""

    source_file: str
    index: int
    url: str | None
    reason: str
    excerpt: str = ""


class DamageError(Exception):
    """The bytes of a file stop making sense; the message goes behind `file: `."""


def decode_page(data: bytes, declared_charset: str | None = None) -> str | None:
    """Text of a page from the web, or None when it is binary.

    What is valid UTF-8 is UTF-8, whatever the server says; then the declared charset; then `<meta>` and statistics.
    """
    mark = byte_order_mark(data)
    if mark != "utf-16" and b"\0" in data[:8192]:
        return None
    declared = map_encoding_to_html5(declared_charset, fallback_utf8=False) if declared_charset else None
    for encoding in (mark or "utf-8", declared):
        if encoding:
            try:
                return data.decode(encoding)
            except (UnicodeDecodeError, LookupError):
                continue
    return bytes_to_str(data, detect_encoding(data, from_html_meta=True) or "cp1252")


def byte_order_mark(data: bytes) -> str | None:
    """The encoding that a text's first bytes announce."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None
