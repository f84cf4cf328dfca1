"""The word 5-grams of many texts at once, as 64-bit hashes: whole batches go through numpy, no word through Python."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

Hashes = npt.NDArray[np.uint64]

WORDS_PER_GRAM = 5
BYTES_AT_ONCE = 1 << 18  # what numpy makes of it on the way still fits a core's cache
LONG_WORD = 64  # bytes; longer words are rare, and may be very long

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(8)] + [2**64 - 1], np.uint64)

# What str.split() takes for white space, in UTF-8: these bytes, and the sequences below that begin with others.
_WORD, _SPACE, _MAYBE_SPACE = 0, 1, 2
_KINDS = np.zeros(256, np.uint8)
_KINDS[[*b"\t\n\v\f\r\x1c\x1d\x1e\x1f "]] = _SPACE
_KINDS[[0xC2, 0xE1, 0xE2, 0xE3]] = _MAYBE_SPACE
_KINDS_OF_BYTES = _KINDS.tobytes()
_WIDE_SPACES = np.array(
    [int.from_bytes(space.encode().ljust(3, b"\0"), "big") for space in "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"]
    + [int.from_bytes(chr(0x2000 + n).encode(), "big") for n in range(11)]
)


@dataclass(frozen=True)
class Shingles:
    """The 5-grams of some texts, one after the other, repeated ones included."""

    grams: Hashes
    offsets: npt.NDArray[np.int64]
    """text n has grams[offsets[n]:offsets[n + 1]]: one for each 5 words in a row; of fewer words, all of them as one"""
    text_hashes: list[bytes]
    """xxh3-128 of the words with single spaces between, 16 bytes a text"""


def shingles(texts: Sequence[str]) -> Iterator[Shingles]:
    """The 5-grams of `texts`, in order, some texts at a time.

    Words are what str.split() gives, in UTF-8 (what can't be encoded counts as "?", as in our tables). Equal grams
    have equal hashes, two different ones share theirs once in 2**64; the hashes are the same on every machine.
    """
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text.encode(errors="replace"))
        size += len(batch[-1])
        if size >= BYTES_AT_ONCE:
            yield _shingles(batch)
            batch, size = [], 0
    if batch:
        yield _shingles(batch)


def _shingles(texts: list[bytes]) -> Shingles:
    # A space after each text ends its last word; the others are for windows of 8 bytes that look past the end.
    joined = b" ".join(texts) + b" " * 9
    space = _is_space(joined)
    edges = np.flatnonzero(space[1:] != space[:-1]) + 1
    if not space[0]:
        edges = np.concatenate([[0], edges])
    starts, lengths = edges[0::2], edges[1::2] - edges[0::2]
    words = _hash_words(joined, starts, lengths)

    ends = np.cumsum([len(text) + 1 for text in texts])  # of texts in bytes, each with its space
    last = np.searchsorted(starts, ends)  # of texts in words
    first = np.concatenate([[0], last[:-1]])
    grams, offsets = _grams(words, first, last)
    return Shingles(grams, offsets, _text_hashes(joined, space, lengths, first, last))


def _is_space(text: bytes) -> npt.NDArray[np.bool_]:
    """Which bytes belong to white space."""
    kinds = np.frombuffer(text.translate(_KINDS_OF_BYTES), np.uint8)
    space: npt.NDArray[np.bool_] = kinds == _SPACE
    maybe = np.flatnonzero(kinds == _MAYBE_SPACE)
    if maybe.size:
        codes = np.frombuffer(text, np.uint8)
        two = codes[maybe] == 0xC2
        characters = codes[maybe].astype(np.int64) << 16 | codes[maybe + 1].astype(np.int64) << 8
        characters |= np.where(two, 0, codes[maybe + 2])
        found = np.isin(characters, _WIDE_SPACES)
        wide, two = maybe[found], two[found]
        space[wide] = space[wide + 1] = True
        space[wide[~two] + 2] = True
    return space


def _hash_words(text: bytes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Hashes:
    """A 64-bit hash of each word, taken 8 bytes at a time."""
    windows = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    hashes = lengths.astype(np.uint64) * _MIXER
    _mix(hashes, windows[starts] & _FIRST_BYTES[np.minimum(lengths, 8)])
    longer = np.flatnonzero((lengths > 8) & (lengths <= LONG_WORD))
    done = 8
    while longer.size:
        left = lengths[longer] - done
        part = hashes[longer]
        _mix(part, windows[starts[longer] + done] & _FIRST_BYTES[np.minimum(left, 8)])
        hashes[longer] = part
        longer = longer[left > 8]
        done += 8
    for n in np.flatnonzero(lengths > LONG_WORD).tolist():
        hashes[n] = xxhash.xxh3_64_intdigest(text[starts[n] : starts[n] + lengths[n]])
    return hashes


def _mix(hashes: Hashes, more: Hashes) -> None:
    hashes ^= more
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF
    hashes *= _MIXER
    hashes ^= hashes >> _HALF


def _grams(
    words: Hashes, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """The grams of texts that have words[first:last] each, and where each text's begin and end."""
    padded = np.concatenate([words, np.zeros(WORDS_PER_GRAM - 1, np.uint64)])
    grams = padded[: words.size].copy()
    for k in range(1, WORDS_PER_GRAM):
        grams *= _MULTIPLIER
        grams += padded[k : k + words.size]
    whole = np.ones(words.size, np.bool_)
    for k in range(1, WORDS_PER_GRAM):  # the last 4 places of a text have no 5 words after them
        whole[np.maximum(last - k, first)[last > first]] = False
    counts = last - first
    for n in np.flatnonzero((counts > 0) & (counts < WORDS_PER_GRAM)).tolist():
        total = int(counts[n])
        for word in words[first[n] : last[n]].tolist():
            total = (total * int(_MULTIPLIER) + word) % 2**64
        grams[first[n]] = total
        whole[first[n]] = True
    counts = np.where(counts < WORDS_PER_GRAM, np.minimum(counts, 1), counts - WORDS_PER_GRAM + 1)
    return grams[whole], np.concatenate([[0], np.cumsum(counts)])


def _text_hashes(
    text: bytes,
    space: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> list[bytes]:
    """xxh3-128 of the words of each text with single spaces between."""
    kept = ~space
    kept[1:] |= kept[:-1]  # and the space after each word
    single = np.frombuffer(text, np.uint8)[kept]
    single[np.cumsum(lengths + 1) - 1] = ord(" ")
    ends = np.concatenate([[0], np.cumsum(lengths + 1)])
    view = memoryview(single.tobytes())
    return [
        xxhash.xxh3_128_digest(view[ends[begin] : max(ends[end] - 1, ends[begin])])
        for begin, end in zip(first.tolist(), last.tolist(), strict=True)
    ]
