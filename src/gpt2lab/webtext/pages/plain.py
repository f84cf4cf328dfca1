"""Text and HTML files become pages: a file is one page, a long text one page for every MiB or so."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from gpt2lab.webtext.pages.compressed import COMPRESSED_SUFFIXES, DecompressedFile
from gpt2lab.webtext.pages.page import (
    LARGEST_PAGE_BYTES,
    LARGEST_TEXT_BYTES,
    MIB,
    DamageError,
    FilePart,
    InputFile,
    Page,
    Unreadable,
    decode_page,
    unicode_of,
)

PIECE_BYTES = MIB
_BREAK_WITHIN = 1 << 16
_BREAKS = (b"\n\n", b"\r\n\r\n", b"\n", b" ")


def open_file(file: InputFile) -> BinaryIO:
    """The file's bytes, decompressed as its name says."""
    if file.path.suffix.lower() in COMPRESSED_SUFFIXES:
        return io.BufferedReader(DecompressedFile(file.path), 1 << 16)
    return file.path.open("rb")


def read_html(part: FilePart) -> Iterator[Page | Unreadable]:
    """The page in an HTML file."""
    with open_file(part.file) as handle:
        data = handle.read(LARGEST_PAGE_BYTES + 1)
    if len(data) > LARGEST_PAGE_BYTES:
        raise DamageError(f"larger than {LARGEST_PAGE_BYTES // MIB} MiB")
    content = decode_page(data)
    if content is None:
        raise DamageError("binary, not text")
    yield Page(part.file.source_file, 0, None, content, "html")


def read_text(part: FilePart) -> Iterator[Page | Unreadable]:
    """A text file as one page; one above LARGEST_TEXT_BYTES in pieces of about PIECE_BYTES, at the ends of paragraphs.

    A piece ends behind the first blank line after a multiple of PIECE_BYTES (else a line, else a space, if there is
    none in the next 64 KiB); its index is the byte where it begins.
    """
    source = part.file.source_file
    with open_file(part.file) as handle:
        if part.begin == 0:
            data = handle.read(LARGEST_TEXT_BYTES + 1)
            if len(data) <= LARGEST_TEXT_BYTES:
                yield Page(source, 0, None, _decoded(data, 0), "text")
                return
            encoding = unicode_of(data)
            if encoding not in (None, "utf-8-sig"):
                raise DamageError(f"larger than {LARGEST_TEXT_BYTES // MIB} MiB and not UTF-8; convert it to UTF-8")
        else:
            handle.seek(part.begin)
            data = b""
        for start, piece in _pieces(handle, data, part.begin, part.end):
            try:
                yield Page(source, start, None, _decoded(piece, start), "text")
            except DamageError as damage:
                yield Unreadable(source, start, None, f"text: {damage.reason}", damage.where)


def _pieces(handle: BinaryIO, data: bytes, begin: int, end: int | None) -> Iterator[tuple[int, bytes]]:
    """Pieces and where they begin; `begin` is a multiple of PIECE_BYTES, `data` what was read from there on."""
    start = begin
    if begin:
        data = handle.read(_BREAK_WITHIN)
        skipped = _break(data)
        start, data = begin + skipped, data[skipped:]
    target = begin + PIECE_BYTES
    while end is None or target - PIECE_BYTES < end:
        if (missing := target + _BREAK_WITHIN - start - len(data)) > 0:
            data += handle.read(missing)
        if not data:
            return
        nominal = target - start
        cut = nominal + _break(data[nominal : nominal + _BREAK_WITHIN])
        yield start, data[:cut]
        start, data = start + len(data[:cut]), data[cut:]
        target += PIECE_BYTES


def _break(data: bytes) -> int:
    """The first good place to cut."""
    for mark in _BREAKS:
        if (found := data.find(mark)) >= 0:
            return found + len(mark)
    inside = 0
    while inside < len(data) and data[inside] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        inside += 1
    return inside


def _decoded(data: bytes, begin: int) -> str:
    """The text of bytes that stand at `begin` in their file."""
    encoding = unicode_of(data) or "utf-8"
    if b"\0" in data and not encoding.startswith(("utf-16", "utf-32")):
        raise DamageError("binary, not text")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"at byte {begin + error.start:,}"
        raise DamageError(f"not valid {encoding.removesuffix('-sig').upper()}", where) from None
