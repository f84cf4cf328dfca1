"""The gzip members of a WARC file, each with its checksum verified, and where to go on after a damaged one.

A WARC is best compressed record by record, one gzip member each; `gzip file.warc` makes one member of all, and bgzip
starts a member every 64 KiB. All three are sequences of runs: a member whose text begins with a WARC header, and the
members after it whose text does not.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fastwarc import GzipReader

from gpt2lab.webtext.pages.compressed import TOO_MUCH_TEXT, decompressed, most_text
from gpt2lab.webtext.pages.page import MIB, DamageError
from gpt2lab.webtext.pages.window import Window, file_window, memory_window

LARGEST_HELD_BYTES = 32 * MIB  # decompressed; the text of a longer run is decompressed twice, first for its checksum
PROOF_BYTES = 2 * 65536
"""Whole members for this long prove that they are no gzip file stored inside a member: a stored block of deflate holds
at most 65,535 bytes, and the header between two of them breaks the chain."""
_MAGIC = b"\x1f\x8b\x08"
_SMALLEST_MEMBER = 20
_FEED_BYTES = 1 << 16
_FREE_REREADING = 64 * MIB
_EXCERPT = 4096
CUT_SHORT = "cut short"


@dataclass(frozen=True)
class Run:
    """Text of the members in bytes `begin` to `end` of a file.

    `damage` is None where every checksum holds. Else it says what is wrong; `text` is then what came out before the
    damage, and `end` the place from which reading can go on, or None for nowhere.
    """

    begin: int
    end: int | None
    text: Window
    damage: str | None = None


@dataclass(frozen=True)
class _Member:
    end: int  # where reading stopped, if damaged
    text: bytes | None  # None: too long to hold
    damage: str | None


def runs(handle: BinaryIO, begin: int, end: int | None) -> Iterator[Run]:
    """The runs that begin in bytes `begin` to `end` of a file; a damaged stretch comes as one run with `damage`."""
    window = file_window(handle)
    position, reread = begin, 0
    bad: Run | None = None
    while (end is None or position < end) and window.at(position, 1):
        run, stopped = _run_at(handle, window, position)
        if run.damage is None:
            if bad:
                yield Run(bad.begin, position, bad.text, bad.damage)
                bad = None
            yield run
            position = stopped
            continue
        bad = bad or run
        # Candidates inside candidates could make a file be read once for each: then some are passed over
        reread += stopped - position
        again = position + 1 if reread < _FREE_REREADING + 4 * position else max(stopped, position + 1)
        found = next_record(window, again, end)
        if found is None:
            position = -1
            break
        position = found
    if bad:
        more = end is not None and window.at(end, 1)
        yield Run(bad.begin, end if more else None, bad.text, bad.damage)


def next_record(window: Window, begin: int, end: int | None = None) -> int | None:
    """Where the first gzip member at or after `begin` whose text begins with a WARC header begins."""
    found = window.find(_MAGIC, begin, end)
    while found is not None and not _begins_record(window, found):
        found = window.find(_MAGIC, found + 1, end)
    return found


def next_proven_record(window: Window, begin: int, end: int) -> int | None:
    """As next_record, and certain to be no member of a gzip file that is stored inside a record."""
    found = next_record(window, begin, end)
    while found is not None and not _is_proven(window, found):
        found = next_record(window, found + 1, end)
    return found


def is_one_long_member(window: Window) -> bool:
    """Whether the first member is too long to be one page: then the file is probably one member."""
    return (_short_member(window, 0) or _any_member(window, 0, only_held=True)).text is None


def _is_proven(window: Window, begin: int) -> bool:
    position = begin
    while position < begin + PROOF_BYTES and window.at(position, 1):
        member = _member_at(window, position)
        if member.damage:
            return False
        position = member.end
    return True


def _begins_record(window: Window, begin: int) -> bool:
    """Whether a gzip member begins here whose text begins with a WARC header."""
    head = window.at(begin, _EXCERPT)
    if not _is_gzip(head):
        return False
    try:
        return zlib.decompressobj(31).decompress(head, 5) == b"WARC/"
    except zlib.error:
        return False


def _is_gzip(head: bytes) -> bool:
    return head[:3] == _MAGIC and len(head) > 3 and not head[3] & 0xE0  # the upper three flags are reserved


def _run_at(handle: BinaryIO, window: Window, begin: int) -> tuple[Run, int]:
    """The run that begins here, and where reading it stopped."""
    head = window.at(begin, _SMALLEST_MEMBER)
    if len(head) < _SMALLEST_MEMBER and _MAGIC.startswith(head[:3]):
        return Run(begin, None, memory_window(b""), CUT_SHORT), begin + len(head)
    if not _is_gzip(head):
        return Run(begin, None, memory_window(b""), "no WARC record"), begin + 1
    member = _member_at(window, begin)
    if member.text is not None and not member.text.startswith(b"WARC/"):
        return Run(begin, None, memory_window(b""), member.damage or "no WARC record"), member.end
    if member.damage == TOO_MUCH_TEXT:
        return Run(begin, None, memory_window(b""), member.damage), member.end
    if member.damage:
        return Run(begin, None, _text(handle, begin, None, member.text), member.damage), member.end
    texts, end = [member.text], member.end
    while _is_gzip(window.at(end, 4)) and not _begins_record(window, end):
        member = _member_at(window, end)
        if member.damage:
            break
        end = member.end
        texts = [None] if sum(len(text or b"") for text in texts) > LARGEST_HELD_BYTES else [*texts, member.text]
    held = texts[0] if len(texts) == 1 else None if None in texts else b"".join(text or b"" for text in texts)
    return Run(begin, end, _text(handle, begin, end, held)), end


def _text(handle: BinaryIO, begin: int, end: int | None, held: bytes | None) -> Window:
    return memory_window(held) if held is not None else Window(_LongText(handle, begin, end).read)


def _member_at(window: Window, begin: int) -> _Member:
    return _short_member(window, begin) or _any_member(window, begin)


def _short_member(window: Window, begin: int) -> _Member | None:
    """A member that ends where the next one, or the file, seems to: fastwarc's gzip is faster than zlib's."""
    end = window.find(_MAGIC, begin + _SMALLEST_MEMBER, begin + 4 * MIB)
    if end is None:
        return None
    data = window.at(begin, end - begin)
    size = int.from_bytes(data[-4:], "little")  # a member ends with the length of its text
    if size > LARGEST_HELD_BYTES:
        return None
    try:
        text = GzipReader(io.BytesIO(data)).read(size + 1)
    except OSError:
        return None
    return _Member(end, text, None) if len(text) == size else None


def _any_member(window: Window, begin: int, only_held: bool = False) -> _Member:
    """The member that begins here; `only_held` stops where its text is too long to hold."""
    decoder = zlib.decompressobj(31)
    position, size = begin, 0
    pieces: list[bytes] | None = []
    damage = None
    while not decoder.eof and damage is None:
        data = window.at(position, _FEED_BYTES)
        position += len(data)
        if not data:
            damage = CUT_SHORT
        while data and not decoder.eof:
            try:
                piece = decoder.decompress(data, MIB)
            except zlib.error as error:
                damage = str(error).rpartition(": ")[2]
                break
            data = decoder.unconsumed_tail
            size += len(piece)
            if pieces is not None:
                pieces.append(piece)
                pieces = pieces if size <= LARGEST_HELD_BYTES else None
            if only_held and pieces is None:
                return _Member(position, None, None)
        if size > most_text(position - begin):
            damage = TOO_MUCH_TEXT
    return _Member(position - len(decoder.unused_data), None if pieces is None else b"".join(pieces), damage)


def _compressed(handle: BinaryIO, begin: int, end: int | None) -> Iterator[bytes]:
    """Bytes of a file that others read from in between."""
    position = begin
    while end is None or position < end:
        handle.seek(position)
        data = handle.read(_FEED_BYTES if end is None else min(_FEED_BYTES, end - position))
        if not data:
            break
        position += len(data)
        yield data


class _LongText:
    """The text of a run that is too long to hold; reading backwards means to begin again, which a few times is fine."""

    _LEFT = 8

    def __init__(self, handle: BinaryIO, begin: int, end: int | None) -> None:
        self._handle, self._first, self._end = handle, begin, end
        self._restarts = 0
        self._restart()

    def _restart(self) -> None:
        self._restarts += 1
        self._offset, self._rest = 0, b""
        self._pieces = decompressed(_compressed(self._handle, self._first, self._end), ".gz")

    def read(self, offset: int, size: int) -> bytes:
        if offset < self._offset:
            if self._restarts > self._LEFT:
                return b""
            self._restart()
        parts, missing = [], size
        while missing > 0:
            if not self._rest:
                try:
                    self._rest = next(self._pieces, b"")
                except DamageError:
                    self._rest = b""
                if not self._rest:
                    break
            if (skipped := min(offset - self._offset, len(self._rest))) > 0:
                self._offset += skipped
                self._rest = self._rest[skipped:]
                continue
            part, self._rest = self._rest[:missing], self._rest[missing:]
            self._offset += len(part)
            offset += len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)
