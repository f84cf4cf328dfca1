"""The sets of word 5-grams of some documents, on disk: more than memory holds."""

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.webtext.duplicates.shingles import shingles
from gpt2lab.webtext.word_hashes import Hashes


class GramFile:
    """Sets of 5-grams by number, 8 bytes a gram; a context manager. The system's cache is what keeps them near."""

    def __init__(self, path: Path, sets: Iterable[Hashes]) -> None:
        sizes: list[int] = []
        with path.open("wb") as handle:
            for grams in sets:
                handle.write(grams.astype("<u8", copy=False).data)
                sizes.append(grams.size)
        self.sizes: npt.NDArray[np.int64] = np.array(sizes, np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes) * 8]).tolist()
        self._descriptor = os.open(path, os.O_RDONLY)

    def __enter__(self) -> "GramFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, number: int) -> Hashes:
        """One set, sorted."""
        begin, end = self._offsets[number], self._offsets[number + 1]
        return np.frombuffer(os.pread(self._descriptor, end - begin, begin), "<u8")

    def jaccard(self, a: int, b: int) -> float:
        """Jaccard similarity of two sets."""
        return jaccard(self.read(a), self.read(b))


def gram_sets(texts: Sequence[str]) -> list[Hashes]:
    """The set of word 5-grams of each text, sorted."""
    return [
        sorted_set(some.grams[begin:end]) for some in shingles(texts) for begin, end in pairwise(some.offsets.tolist())
    ]


def sorted_set(values: Hashes) -> Hashes:
    """The different values in order: np.unique, which goes by a hash table, takes twice the time."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered


def jaccard(a: Hashes, b: Hashes) -> float:
    """Jaccard similarity of two sorted arrays of different hashes; 1 when both are empty."""
    if a.size > b.size:
        a, b = b, a
    if not a.size:
        return float(not b.size)
    places = np.searchsorted(b, a)  # in order, so what it looks at is near: half the time of sorting both together
    places[places == b.size] = 0
    shared = int(np.count_nonzero(b[places] == a))
    return shared / (a.size + b.size - shared)
