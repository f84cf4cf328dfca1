"""Near duplicates: pairs out of groups that share a band hash, verified by the similarity of their word 5-grams."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from gpt2lab.webtext.duplicates.gram_file import GramFile, sorted_set
from gpt2lab.webtext.duplicates.groups import Groups, Numbers

Pairs = npt.NDArray[np.uint64]  # two set numbers in one, the smaller above
_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)

SMALL = 16  # groups up to this size are compared pair by pair
ENTRIES_AT_ONCE = 1 << 21  # pairs, or grams of a large group, in memory
PAIRS_REMEMBERED = 1 << 24  # 8 bytes each; what is forgotten is compared again

# For larger groups, see _promising_pairs.
WINDOW = 4
COMPARISONS_PER_DOCUMENT = 64
COUNTERS = 1 << 20  # of grams by their hash: they only order the grams, so that grams that share one do no harm


class Clusters:
    """Union-find over numbers, and the similarities of the pairs that were joined."""

    def __init__(self, size: int) -> None:
        self._parent = array("q", range(size))
        self._pairs = array("Q")
        self._similarities = array("d")

    def root(self, number: int) -> int:
        """The number that stands for the cluster of this one."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    def join(self, a: int, b: int, similarity: float) -> None:
        """Make one cluster of the two of a and b, a < b."""
        self._pairs.append(a << 32 | b)
        self._similarities.append(similarity)
        a, b = self.root(a), self.root(b)
        self._parent[max(a, b)] = min(a, b)

    def similarities(self, a: Numbers, b: Numbers) -> npt.NDArray[np.float64]:
        """Of each a and b that were joined; NaN for others."""
        known, values = np.frombuffer(self._pairs, np.uint64), np.frombuffer(self._similarities)
        found = np.full(len(a), np.nan)
        if len(known):
            order = np.argsort(known)
            pairs = _pack(a, b)
            places = order[np.minimum(np.searchsorted(known, pairs, sorter=order), len(known) - 1)]
            same = known[places] == pairs
            found[same] = values[places[same]]
        return found

    def roots(self) -> Numbers:
        """`root` of every number."""
        parent = np.frombuffer(self._parent, np.int64)
        while True:
            grandparent = parent[parent]
            if np.array_equal(grandparent, parent):
                return grandparent
            parent[:] = grandparent


def cluster(bands: Iterable[Groups], grams: GramFile, threshold: float) -> Clusters:
    """Connected components of the pairs in `bands` (groups of set numbers) that are at least `threshold` similar.

    Pairs that are in one cluster already, or were not similar in an earlier band, are not compared again.
    """
    clusters = Clusters(len(grams.sizes))
    dissimilar = np.empty(0, np.uint64)
    for groups in bands:
        for pairs in candidate_pairs(_not_one_cluster(groups, clusters.roots()), grams, threshold):
            roots = clusters.roots()
            news = pairs[roots[_first(pairs)] != roots[_second(pairs)]]
            news = _without(news, dissimilar)
            rejected = []
            for pair, a, b in zip(news.tolist(), _first(news).tolist(), _second(news).tolist(), strict=True):
                if clusters.root(a) == clusters.root(b):
                    continue
                similarity = grams.jaccard(a, b)
                if similarity >= threshold:
                    clusters.join(a, b, similarity)
                else:
                    rejected.append(pair)
            if len(dissimilar) + len(rejected) < PAIRS_REMEMBERED:
                # Both are sorted: the stable sort is one that merges them, in a thirtieth of the time of the other.
                dissimilar = np.sort(np.concatenate([dissimilar, np.array(rejected, np.uint64)]), kind="stable")
    return clusters


def _without(pairs: Pairs, known: Pairs) -> Pairs:
    """Those `pairs` that are not among the sorted `known` ones."""
    places = np.searchsorted(known, pairs)
    places[places == len(known)] = 0
    return pairs[known[places] != pairs] if len(known) else pairs


def similar_pairs(bands: Iterable[Groups], grams: GramFile, threshold: float) -> dict[tuple[int, int], float]:
    """Every pair in `bands` that is at least `threshold` similar, with its similarity. For sets that are not many."""
    pairs = [some for groups in bands for some in candidate_pairs(groups, grams, threshold)]
    every = sorted_set(np.concatenate([np.empty(0, np.uint64), *pairs]))
    found = {(a, b): grams.jaccard(a, b) for a, b in zip(_first(every).tolist(), _second(every).tolist(), strict=True)}
    return {pair: similarity for pair, similarity in found.items() if similarity >= threshold}


def candidate_pairs(groups: Groups, grams: GramFile, threshold: float) -> Iterator[Pairs]:
    """The pairs to compare: all of a small group, the promising ones of a large group.

    The same whatever the order of the documents. Sets of too different sizes are left out. Each array has different
    pairs, in ascending order: at most ENTRIES_AT_ONCE, and not many arrays with fewer, since what is done with one
    may take time for every document there is, and groups may be many.
    """
    waiting: list[Pairs] = []
    count = 0
    for pairs in _pairs_of_groups(groups, grams, threshold):
        waiting.append(pairs)
        count += len(pairs)
        if count >= ENTRIES_AT_ONCE:
            yield from _in_parts(waiting)
            waiting, count = [], 0
    yield from _in_parts(waiting)


def _in_parts(some: list[Pairs]) -> Iterator[Pairs]:
    every = sorted_set(np.concatenate([np.empty(0, np.uint64), *some]))
    for begin in range(0, len(every), ENTRIES_AT_ONCE):
        yield every[begin : begin + ENTRIES_AT_ONCE]


def _pairs_of_groups(groups: Groups, grams: GramFile, threshold: float) -> Iterator[Pairs]:
    """`candidate_pairs` by one large group or some small ones, a pair of several groups more than once."""
    sizes = np.diff(groups.starts)
    for size in range(2, SMALL + 1):
        starts = groups.starts[:-1][sizes == size]
        if not len(starts):
            continue
        members = groups.members[starts[:, None] + np.arange(size)]
        left, right = np.triu_indices(size, 1)
        every = max(1, ENTRIES_AT_ONCE // len(left))
        for begin in range(0, len(members), every):
            some = members[begin : begin + every]
            yield _of_similar_size(_pack(some[:, left].ravel(), some[:, right].ravel()), grams, threshold)
    for n in np.flatnonzero(sizes > SMALL).tolist():
        members = groups.members[groups.starts[n] : groups.starts[n + 1]]
        yield _of_similar_size(_promising_pairs(members, grams, threshold), grams, threshold)


def _promising_pairs(members: Numbers, grams: GramFile, threshold: float) -> Pairs:
    """Pairs of a large group that may be similar: far fewer than all, and nearly all that are.

    Two sets with a Jaccard similarity t have a gram in common among the first |set| - ceil(t |set|) + 1 grams of both,
    whatever the order of the grams (prefix filter: Bayardo, Ma & Srikant 2007). With the rare grams first, documents
    that share only what the group has in common, a template, are never compared. Of the sets that share a gram,
    ordered by size, each is paired with the WINDOW ones before it: in sets that are similar many grams are shared,
    so the pairs missed here appear with other grams, or are connected by others. Should still more than
    COMPARISONS_PER_DOCUMENT pairs a document be left, those that share the most grams are taken.
    """
    counts = np.zeros(COUNTERS, np.uint32)
    fingerprints = np.empty(len(members), np.uint64)
    for n, member in enumerate(members.tolist()):
        some = grams.read(member)
        np.add.at(counts, some % COUNTERS, 1)
        fingerprints[n] = some.sum()
    sizes = grams.sizes[members]
    ranked = members[np.lexsort((fingerprints, sizes))]
    prefixes = np.sort(sizes) - np.ceil(threshold * np.sort(sizes) - 1e-9).astype(np.int64) + 1
    parts = int(prefixes.sum()) // ENTRIES_AT_ONCE + 1
    found, shared = np.empty(0, np.uint64), np.empty(0, np.int64)
    for part in range(parts):
        keys, owners = _prefix_grams(ranked, prefixes, counts, grams, part, parts)
        pairs = []
        for back in range(1, WINDOW + 1):
            same = np.flatnonzero(keys[back:] == keys[:-back])
            pairs.append(_pack(owners[same], owners[same + back]))
        some, times = np.unique(np.concatenate(pairs), return_counts=True)
        found, inverse = np.unique(np.concatenate([found, some]), return_inverse=True)
        shared = np.bincount(inverse, np.concatenate([shared, times])).astype(np.int64)
    most = COMPARISONS_PER_DOCUMENT * len(members)
    if len(found) > most:
        found = found[shared > np.partition(shared, -most)[-most]]
    return _pack(ranked[_first(found)], ranked[_second(found)])


def _prefix_grams(
    ranked: Numbers, prefixes: Numbers, counts: npt.NDArray[np.uint32], grams: GramFile, part: int, parts: int
) -> tuple[npt.NDArray[np.uint64], Numbers]:
    """The rare grams of each set of one part of all grams, and the rank of their set; sorted by gram, then rank."""
    keys = []
    for member, length in zip(ranked.tolist(), prefixes.tolist(), strict=True):
        some = grams.read(member)
        # Ordered by how often a gram is in the group, those as frequent by their hash: one number says both.
        order = counts[some % COUNTERS].astype(np.uint64) << np.uint64(40) | some >> np.uint64(24)
        first = np.partition(order, length - 1)[:length] if 0 < length <= order.size else order[:0]
        keys.append(first[first % parts == part] if parts > 1 else first)
    owners = np.repeat(np.arange(len(ranked)), [len(some) for some in keys])
    flat = np.concatenate(keys)
    order = np.argsort(flat, kind="stable")
    return flat[order], owners[order]


def _of_similar_size(pairs: Pairs, grams: GramFile, threshold: float) -> Pairs:
    """Those pairs that can be similar: |a ∩ b| / |a ∪ b| is at most |a| / |b|."""
    a, b = grams.sizes[_first(pairs)], grams.sizes[_second(pairs)]
    return pairs[np.minimum(a, b) >= threshold * np.maximum(a, b) - 1e-9]


def _not_one_cluster(groups: Groups, roots: Numbers) -> Groups:
    """Those groups that are not of one cluster already."""
    if not len(groups.members):
        return groups
    own = roots[groups.members]
    mixed = np.minimum.reduceat(own, groups.starts[:-1]) != np.maximum.reduceat(own, groups.starts[:-1])
    sizes = np.diff(groups.starts)
    return Groups(
        groups.members[np.repeat(mixed, sizes)], np.concatenate([[0], np.cumsum(sizes[mixed])]).astype(np.int64)
    )


def _pack(a: Numbers, b: Numbers) -> Pairs:
    packed: Pairs = np.minimum(a, b).astype(np.uint64) << _HALF | np.maximum(a, b).astype(np.uint64)
    return packed


def _first(pairs: Pairs) -> Numbers:
    return (pairs >> _HALF).astype(np.int64)


def _second(pairs: Pairs) -> Numbers:
    return (pairs & _LOW).astype(np.int64)
