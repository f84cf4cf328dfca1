"""Exact and near duplicates: found with MinHash and banding, verified by the Jaccard similarity of word 5-grams."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash
from rensa import RMinHash

from gpt2lab.webtext.ngrams import Hashes, hash_ngrams

WORDS_PER_GRAM = 5
PERMUTATIONS = 128
SEED = 1
RECALL = 0.999  # of pairs exactly at the threshold; more above it
TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class Duplicate:
    """Why a document goes: the id of the one that stays, and the Jaccard similarity of their 5-grams (1: exact)."""

    duplicate_of: str
    similarity: float
    exact: bool


@dataclass(frozen=True)
class _Sketch:
    """What is kept of a document in memory: 8 bytes a 5-gram."""

    id: str
    characters: int
    grams: Hashes


def find_duplicates(documents: Iterable[tuple[str, str]], threshold: float | None = 0.8) -> dict[str, Duplicate]:
    """Every (id, text) that repeats another one, by id.

    Two texts are exact duplicates when they differ in white space only, near duplicates when the Jaccard similarity
    of their sets of word 5-grams is at least `threshold` (0 < threshold <= 1; None: only exact ones count). Of
    everything connected by such pairs the longest text stays, of equally long ones the smallest id, whatever the
    order of `documents`. A document may thus be less similar than `threshold` to the one that stays, linked to it
    by others.
    """
    sketches, same_as = _sketch(documents)
    clusters = _Clusters(len(sketches))
    if threshold is not None:
        for band in _bands(_min_hashes([sketch.grams for sketch in sketches]), rows_per_band(threshold)):
            for bucket in _buckets(band):
                _join_similar(bucket, sketches, clusters, threshold)
    return _removals(sketches, same_as, clusters)


def rows_per_band(threshold: float) -> int:
    """The longest band of hashes that still finds RECALL of the pairs at `threshold` (Leskovec et al., section 3.4)."""
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def jaccard(a: Hashes, b: Hashes) -> float:
    """Jaccard similarity of two sorted arrays of different hashes; 0 when one is empty."""
    shared = np.intersect1d(a, b, assume_unique=True).size
    return shared / (a.size + b.size - shared) if shared else 0.0


def _sketch(documents: Iterable[tuple[str, str]]) -> tuple[list[_Sketch], list[list[tuple[int, str]]]]:
    """One sketch for each different text, and for each of them the (characters, id) of all documents that have it."""
    sketches: list[_Sketch] = []
    same_as: list[list[tuple[int, str]]] = []
    first_of: dict[int, int] = {}
    for id_, text in documents:
        words = " ".join(text.split()).encode().split(b" ")
        number = first_of.setdefault(xxhash.xxh3_128_intdigest(b" ".join(words)), len(sketches))
        if number == len(sketches):
            grams = np.unique(hash_ngrams(words, min(WORDS_PER_GRAM, len(words))))
            sketches.append(_Sketch(id_, len(text), grams))
            same_as.append([])
        same_as[number].append((len(text), id_))
    return sketches, same_as


def _min_hashes(grams: Sequence[Hashes]) -> npt.NDArray[np.uint32]:
    """MinHash digests, one row of PERMUTATIONS a document."""
    digests = np.empty((len(grams), PERMUTATIONS), np.uint32)
    for start in range(0, len(grams), TEXTS_AT_ONCE):
        batch = grams[start : start + TEXTS_AT_ONCE]
        offsets = np.concatenate([[0], np.cumsum([each.size for each in batch])]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(batch), offsets, PERMUTATIONS, SEED)
        digests[start : start + len(batch)] = matrix.to_rows()
    return digests


def _bands(digests: npt.NDArray[np.uint32], rows: int) -> Iterator[npt.NDArray[np.uint32]]:
    for start in range(0, PERMUTATIONS - rows + 1, rows):
        yield digests[:, start : start + rows]


def _buckets(band: npt.NDArray[np.uint32]) -> Iterator[list[int]]:
    """Groups of two or more documents whose hashes agree all over a band."""
    members: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, row in enumerate(np.ascontiguousarray(band)):
        members[row.tobytes()].append(number)
    return (bucket for bucket in members.values() if len(bucket) > 1)


def _join_similar(bucket: list[int], sketches: list[_Sketch], clusters: "_Clusters", threshold: float) -> None:
    """Join the documents of a bucket that are similar enough; those joined before are not compared again."""
    groups: dict[int, list[int]] = {}
    for number in bucket:
        for group in list(groups.values()):
            if clusters.root(number) == clusters.root(group[0]):
                continue
            if any(jaccard(sketches[number].grams, sketches[other].grams) >= threshold for other in group):
                clusters.join(number, group[0])
        merged = [number]
        for key in [key for key, group in groups.items() if clusters.root(group[0]) == clusters.root(number)]:
            merged += groups.pop(key)
        groups[number] = merged


class _Clusters:
    """Union-find over documents."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = number = self._parent[self._parent[number]]
        return number

    def join(self, a: int, b: int) -> None:
        self._parent[self.root(a)] = self.root(b)


def _removals(
    sketches: list[_Sketch], same_as: list[list[tuple[int, str]]], clusters: _Clusters
) -> dict[str, Duplicate]:
    components: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(len(sketches)):
        components[clusters.root(number)].append(number)
    removals = {}
    for members in components.values():
        ranked = [(-characters, id_, number) for number in members for characters, id_ in same_as[number]]
        _, survivor, kept = min(ranked)
        similarity = {number: jaccard(sketches[number].grams, sketches[kept].grams) for number in members}
        for _, id_, number in ranked:
            if id_ != survivor:
                exact = number == kept
                removals[id_] = Duplicate(survivor, 1.0 if exact else similarity[number], exact)
    return removals
