"""How much of a text is n-grams that it repeats, exactly and in one pass for all lengths n.

A (n+1)-gram can occur twice only where the n-gram it starts with does, so each length looks only at what the one
before left over: after the pairs, that is little of an ordinary text.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RepeatedNgrams:
    """Shares of a text's characters (white space not counted), from 0 to 1."""

    top_share: float
    """in the n-gram that occurs most often, if it occurs more than once; of several such, the longest"""
    duplicate_share: float
    """in n-grams that had occurred before, each character counted once"""


def repeated_ngrams(words: Integers, characters: Integers, longest: int) -> Iterator[tuple[int, RepeatedNgrams]]:
    """For n = 2 .. `longest`, what the repeated n-grams of a text take up.

    `words` (words,) int64: equal numbers for equal words, from 0; `characters` (words,) int64: how long each is.
    """
    total = max(1, int(characters.sum()))
    vocabulary = int(words.max(initial=0)) + 1
    ends = np.zeros(len(words) + 1, np.int64)
    np.cumsum(characters, out=ends[1:])  # so that a gram's characters are a difference
    starts, grams = np.arange(len(words)), words  # of the n-grams looked at: where they are, which they are
    for n in range(2, longest + 1):
        fits = starts <= len(words) - n
        starts, grams = starts[fits], grams[fits]
        keys = grams * vocabulary + words[starts + (n - 1)]
        order = np.argsort(keys, kind="stable")  # starts of equal grams stay in the order of the text
        starts, keys = starts[order], keys[order]
        is_first = np.ones(len(keys), dtype=bool)
        np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
        first = is_first.nonzero()[0]
        if len(first) == len(keys):
            for longer in range(n, longest + 1):
                yield longer, RepeatedNgrams(0.0, 0.0)
            return
        counts = np.empty(len(first), np.int64)
        np.subtract(first[1:], first[:-1], out=counts[:-1])
        counts[-1] = len(keys) - first[-1]
        most = int(counts.max())
        candidates = first[counts == most]
        top = candidates[(ends[starts[candidates] + n] - ends[starts[candidates]]).argmax()]
        yield (
            n,
            RepeatedNgrams(
                _characters(starts[top : top + most], n, characters) / total,
                _characters(starts[~is_first], n, characters) / total,
            ),
        )
        repeated = ~is_first  # and the first of each of them, the one before its second
        repeated[:-1] |= ~is_first[1:]
        starts, grams = starts[repeated], is_first.cumsum()[repeated]


def _characters(starts: Integers, n: int, characters: Integers) -> int:
    """Characters of the words in the n-grams at `starts`; those in two overlapping grams count once."""
    begins = np.zeros(len(characters), np.int64)
    begins[starts] = 1
    so_far = begins.cumsum()
    so_far[n:] -= so_far[:-n].copy()  # n-grams that begin among the n words up to each: those it is in
    return int(characters[so_far > 0].sum())
