"""The word 5-grams of many texts at once, as 64-bit hashes, a word being what str.split() gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from gpt2lab.webtext.word_hashes import LANE, Hashes, Numbers, fold, hash_runs, mix, runs

WORDS_PER_GRAM = 5
BYTES_AT_ONCE = 1 << 18  # what numpy makes of it on the way still fits a core's cache

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
    offsets: Numbers
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
    # A space after each text ends its last word; the others are for what looks past the end.
    joined = b" ".join(texts) + b" " * (LANE + 1)
    codes = np.frombuffer(joined, np.uint8)
    in_word = _is_in_word(joined, codes)
    starts, lengths = runs(in_word)
    words = hash_runs(codes, starts, lengths)
    last = np.searchsorted(starts, np.cumsum([len(text) + 1 for text in texts]))  # of texts, counted in words
    first = np.concatenate([[0], last[:-1]])
    grams, offsets = _grams(words, first, last - first)
    return Shingles(grams, offsets, _text_hashes(codes, in_word, lengths, first, last))


def _is_in_word(text: bytes, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which bytes belong to no white space; `codes` are those of `text`."""
    kinds = np.frombuffer(text.translate(_KINDS_OF_BYTES), np.uint8)
    in_word: npt.NDArray[np.bool_] = kinds != _SPACE
    maybe = np.flatnonzero(kinds == _MAYBE_SPACE)
    if maybe.size:
        two = codes[maybe] == 0xC2
        characters = codes[maybe].astype(np.int64) << 16 | codes[maybe + 1].astype(np.int64) << 8
        characters |= np.where(two, 0, codes[maybe + 2])
        found = np.isin(characters, _WIDE_SPACES)
        wide, two = maybe[found], two[found]
        in_word[wide] = in_word[wide + 1] = False
        in_word[wide[~two] + 2] = False
    return in_word


def _grams(words: Hashes, first: Numbers, words_of: Numbers) -> tuple[Hashes, Numbers]:
    """The grams of texts that have words[first:first + words_of] each, and where each text's begin and end."""
    grams = fold(words, words_of, WORDS_PER_GRAM)
    grams_of = np.maximum(words_of - (WORDS_PER_GRAM - 1), 0)
    few = np.flatnonzero((words_of > 0) & (words_of < WORDS_PER_GRAM))
    if few.size:
        wholes = words_of[few].astype(np.uint64)
        for k in range(WORDS_PER_GRAM - 1):
            there = words_of[few] > k
            part = wholes[there]
            mix(part, words[first[few[there]] + k])
            wholes[there] = part
        grams = np.insert(grams, np.cumsum(grams_of)[few], wholes)
        grams_of[few] = 1
    return grams, np.concatenate([[0], np.cumsum(grams_of)])


def _text_hashes(
    codes: npt.NDArray[np.uint8],
    in_word: npt.NDArray[np.bool_],
    lengths: Numbers,
    first: Numbers,
    last: Numbers,
) -> list[bytes]:
    """xxh3-128 of the words of each text with single spaces between."""
    kept = in_word.copy()
    kept[1:] |= in_word[:-1]  # and the space after each word
    single = codes[kept]
    single[np.cumsum(lengths + 1) - 1] = ord(" ")
    ends = np.concatenate([[0], np.cumsum(lengths + 1)])
    view = memoryview(single.tobytes())
    return [
        xxhash.xxh3_128_digest(view[ends[begin] : max(ends[end] - 1, ends[begin])])
        for begin, end in zip(first.tolist(), last.tolist(), strict=True)
    ]
