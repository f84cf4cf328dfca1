"""Lines of a file of any size, compressed or not, in bounded memory; what comes before a damaged place is given first.

zstandard's own file reader takes a file that was cut for its end, and pyarrow's can't have the long windows of Reddit
dumps (`zstd --long=31`): so here each format's decompressor is fed by hand, a little at a time.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import zstandard

from gpt2lab.webtext.pages.page import MIB, DamageError

LONGEST_LINE_BYTES = 16 * MIB
LONGEST_WINDOW_BYTES = 1 << 31
"""The most a zstd or xz file may ask for its window: as far back as its bytes may be copied from."""
LARGEST_EXPANSION = 1000  # decompressed over compressed bytes, looked at once a file has given FREE_EXPANSION_BYTES
FREE_EXPANSION_BYTES = 1 << 30
TOO_MUCH_TEXT = f"expands more than {LARGEST_EXPANSION:,} times when decompressed"
_READ_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_ZSTD_SLICE_BYTES = 1 << 10  # one zstd block of 4 bytes may stand for 128 KiB, so this much gives at most 32 MiB


class LineReader:
    """Iterates over a file's lines, without their ends, decompressed as its name says.

    A line longer than LONGEST_LINE_BYTES comes as its first LONGEST_LINE_BYTES + 1 bytes. Raises DamageError where the
    compressed bytes end early or stop making sense, after all whole lines before that place; the rest of the line that
    it falls in is dropped. `ends_within_line` tells afterwards that the last line had no end. `advance` is told how
    many compressed bytes were read.
    """

    def __init__(self, path: Path, advance: Callable[[int], None] = lambda _: None) -> None:
        self._path = path
        self._advance = advance
        self.ends_within_line = False

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        skipping = False  # in a line whose beginning was already given
        with self._path.open("rb") as handle:
            for piece in self._pieces(handle):
                first, *lines = piece.split(b"\n")
                if not skipping:
                    rest += first
                if lines:
                    if not skipping:
                        yield rest[: LONGEST_LINE_BYTES + 1]
                    *whole, rest = lines
                    skipping = False
                    yield from whole
                if len(rest) > LONGEST_LINE_BYTES:
                    yield rest[: LONGEST_LINE_BYTES + 1]
                    rest, skipping = b"", True
        self.ends_within_line = bool(rest) or skipping
        if rest:
            yield rest

    def _pieces(self, handle: BinaryIO) -> Iterator[bytes]:
        suffix = self._path.suffix.lower()
        compressed = _pieces_of(handle, self._advance)
        return decompressed(compressed, suffix) if suffix in COMPRESSED_SUFFIXES else compressed


class DecompressedFile(io.RawIOBase):
    """The bytes of a compressed file; the limit on expansion and DamageError as with LineReader."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb")
        self._pieces = decompressed(_pieces_of(self._handle), path.suffix.lower())
        self._rest = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of the buffer; returns how much, 0 at the end."""
        while not self._rest:
            try:
                self._rest = next(self._pieces)
            except StopIteration:
                return 0
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
        super().close()


def most_text(compressed: int) -> int:
    """As many bytes may come out of so many compressed ones; more is a "zip bomb"."""
    return max(FREE_EXPANSION_BYTES, LARGEST_EXPANSION * compressed)


def _pieces_of(handle: BinaryIO, advance: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    while data := handle.read(_READ_BYTES):
        advance(len(data))
        yield data


class _Decoder(Protocol):
    """Decompresses one stream; after its `eof`, `unused_data` is what followed it."""

    eof: bool
    unused_data: bytes

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Zstandard:
    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW_BYTES).decompressobj()
        self.eof, self.unused_data = False, b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            yield self._decoder.decompress(data[start : start + _ZSTD_SLICE_BYTES])
            if self._decoder.eof:
                self.eof, self.unused_data = True, self._decoder.unused_data + data[start + _ZSTD_SLICE_BYTES :]
                return


class _Xz:
    def __init__(self, decoder: Any = None) -> None:
        self._decoder = decoder or lzma.LZMADecompressor(memlimit=LONGEST_WINDOW_BYTES)
        self.eof, self.unused_data = False, b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._decoder.decompress(data, _PIECE_BYTES)
        while not (self._decoder.needs_input or self._decoder.eof):
            yield self._decoder.decompress(b"", _PIECE_BYTES)
        self.eof = self._decoder.eof
        self.unused_data = self._decoder.unused_data


class _Bzip2(_Xz):
    def __init__(self) -> None:
        super().__init__(bz2.BZ2Decompressor())


class _Gzip:
    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.eof, self.unused_data = False, b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._decoder.eof:
            yield self._decoder.decompress(data, _PIECE_BYTES)
            data = self._decoder.unconsumed_tail
        self.eof = self._decoder.eof
        self.unused_data = self._decoder.unused_data


_DECODERS: dict[str, Callable[[], _Decoder]] = {".zst": _Zstandard, ".xz": _Xz, ".bz2": _Bzip2, ".gz": _Gzip}
COMPRESSED_SUFFIXES = frozenset(_DECODERS)


def decompressed(pieces: Iterator[bytes], suffix: str) -> Iterator[bytes]:
    """The contents of all streams of a file, one after the other; NUL bytes may pad the place between two.

    Raises DamageError as LineReader does.
    """
    new_decoder = _DECODERS[suffix]
    decoder: _Decoder | None = None
    streams = read = given = 0
    for compressed in pieces:
        data = compressed
        read += len(data)
        while data:
            if decoder is None:
                data = data.lstrip(b"\0") if streams else data
                if not data:
                    break
                decoder = new_decoder()
                streams += 1
            try:
                for piece in decoder.pieces(data):
                    given += len(piece)
                    if given > most_text(read):
                        raise DamageError(TOO_MUCH_TEXT)
                    if piece:
                        yield piece
            except (zstandard.ZstdError, lzma.LZMAError, zlib.error, OSError, ValueError, EOFError) as error:
                raise DamageError(f"damaged ({error})", f"near byte {read:,}") from None
            data = b""
            if decoder.eof:
                data, decoder = decoder.unused_data, None
    if decoder is not None:
        raise DamageError("cut short", f"after {read:,} bytes")
