"""Bytes of a file or of a decompressed text at any place, read once where they are asked for in order."""

from collections.abc import Callable
from typing import BinaryIO

from gpt2lab.webtext.pages.page import MIB

_AHEAD = MIB


class Window:
    """`read(offset, size)` gives up to `size` bytes, fewer only at the end; what it gave last is kept."""

    def __init__(self, read: Callable[[int, int], bytes] | None, data: bytes = b"") -> None:
        self._read = read
        self._begin = 0
        self._data = data

    def hold(self, offset: int, size: int) -> None:
        """Have these bytes here, so that reading all of them and a little more takes one read of the file."""
        first = offset - self._begin
        if self._read and (first < 0 or first + size > len(self._data)):
            self._data, self._begin = self._read(offset, max(size, _AHEAD)), offset

    def at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer only at the end."""
        self.hold(offset, size)
        first = offset - self._begin
        return self._data[first : first + size]

    def view(self, offset: int, size: int) -> memoryview:
        """As `at`, without a copy."""
        self.hold(offset, size)
        first = offset - self._begin
        return memoryview(self._data)[first : first + size]

    def find(self, wanted: bytes, begin: int, end: int | None = None) -> int | None:
        """Where `wanted` first begins at or after `begin` (and before `end`)."""
        while end is None or begin < end:
            if not self.at(begin, len(wanted)):
                return None
            stop = len(self._data) if end is None else end - self._begin + len(wanted) - 1
            found = self._data.find(wanted, begin - self._begin, stop)
            if found >= 0:
                return self._begin + found
            begin = max(begin + 1, self._begin + len(self._data) - len(wanted) + 1)
        return None

    def skip(self, unwanted: bytes, begin: int) -> int:
        """The first place at or after `begin` with none of the bytes in `unwanted`, or the end."""
        size = 16
        while data := self.at(begin, size):
            rest = data.lstrip(unwanted)
            begin += len(data) - len(rest)
            if rest:
                break
            size = _AHEAD
        return begin


def file_window(handle: BinaryIO) -> Window:
    """The bytes of an open file."""

    def read(offset: int, size: int) -> bytes:
        handle.seek(offset)
        return handle.read(size)

    return Window(read)


def memory_window(data: bytes) -> Window:
    """Bytes that are already here."""
    return Window(None, data)
