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
class FilePart:
    """What of a file starts in `begin` to `end` (None: its end): bytes, or row groups of a Parquet file.

    `size` is about how many bytes of the file that takes.
    """

    file: InputFile
    begin: int
    end: int | None
    size: int


@dataclass(frozen=True)
class Page:
    """One page as it was found.

    `index` tells the pages of a file apart: the byte offset of a WARC record, of a JSON line or of a piece of a long
    text (in the decompressed text, if compressed), or the number of a Parquet row from 0. Records that share a gzip
    member have the member's offset plus their number in it from 0; should there be more records than the member has
    compressed bytes, numbering begins again at its offset plus 2^52, 2^53, 3 * 2^52, ... `date` is as the file has it:
    ISO 8601 in a WARC.
    """

    source_file: str
    index: int
    url: str | None
    content: str
    kind: Kind
    date: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """What could not be read: a record, a stretch (reason `damaged: ...`), or (`file: ...`) a file from here on.

    `excerpt` shows the beginning of it, or tells the place and what else is particular to it.
    """

    source_file: str
    index: int
    url: str | None
    reason: str
    excerpt: str = ""


class DamageError(Exception):
    """The bytes of a file stop making sense.

    `reason` goes behind `file: ` and `where`, with the other particulars, into the excerpt: so that many files with the
    same trouble have one reason.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"{reason} {where}".strip())
        self.reason = reason
        self.where = where


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust has hit a bug of its own; pyo3 makes it no `Exception`, and shows its class nowhere."""
    return type(error).__name__ == "PanicException"


def well_formed(text: str) -> str:
    """Text that can be written as UTF-8: lone surrogates (JSON may spell them) become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def decode_page(data: bytes, declared_charset: str | None = None) -> str | None:
    """Text of a page from the web, or None when it is binary.

    What is valid UTF-8 is UTF-8, whatever the server says; then the declared charset; then `<meta>` and statistics.
    """
    declared = map_encoding_to_html5(declared_charset, fallback_utf8=False) if declared_charset else None
    unicode = unicode_of(data)
    if unicode is None and b"\0" in data[:8192]:
        if not (declared or "").startswith("utf-16"):
            return None
        unicode = declared
    for encoding in (unicode or "utf-8", declared):
        if encoding:
            try:
                return data.decode(encoding)
            except (UnicodeDecodeError, LookupError):
                continue
    return bytes_to_str(data, unicode or detect_encoding(data, from_html_meta=True) or "cp1252")


def unicode_of(data: bytes) -> str | None:
    """The Unicode encoding that a text's mark announces, or the place of its NUL bytes shows; None if there is neither.

    ASCII in UTF-16 and UTF-32 has its NULs at every second place, or at three places of four.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    head = data[: 4096 & ~3]
    if len(head) < 16 or b"\0" not in head:
        return None
    nul = [head[place::4].count(0) > len(head) // 4 * 0.6 for place in range(4)]
    return _NULS.get(tuple(nul)) if not any(head[place::4].count(0) for place in range(4) if not nul[place]) else None


_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16's mark does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NULS: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
