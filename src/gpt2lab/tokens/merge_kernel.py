"""The inner loop of BPE training, compiled by numba: the most frequent pair of neighbours becomes one token, and again.

Why it is fast: a merge only makes pairs that hold the new token, so a pair's count never grows after the merge that
made it. The places of a pair are stored once, in order, in one stretch of a pool, and pairs too rare to be merged ever
are not stored at all. A place that a later merge destroyed is told by `pair_at`, the number of the pair that now begins
there.

Legend: T bytes of all words, one word after another; a token lies at the place of its first byte, and the last byte of
a longer one holds minus its length, so that the token before a place is found. M merges, P pairs known so far.
"""

import numba
import numpy as np

NONE = -1
BYTES = 256


@numba.njit(cache=True)
def _longer(array, length):  # type: ignore[no-untyped-def]
    copy = np.empty(length, array.dtype)
    for place in range(len(array)):  # a slice would take numba two seconds to compile
        copy[place] = array[place]
    return copy


@numba.njit(cache=True)
def _comes_first(pair, other, counts, keys):  # type: ignore[no-untyped-def]
    return counts[pair] > counts[other] or (counts[pair] == counts[other] and keys[pair] < keys[other])


@numba.njit(cache=True)
def _push(heap, size, pair, counts, keys):  # type: ignore[no-untyped-def]
    """Add a pair to a heap of `size` pairs, the one that comes first on top."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if not _comes_first(pair, heap[parent], counts, keys):
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = pair


@numba.njit(cache=True)
def _replace_top(heap, size, pair, counts, keys):  # type: ignore[no-untyped-def]
    """Put a pair in place of the top of a heap of `size` pairs."""
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _comes_first(heap[child + 1], heap[child], counts, keys):
            child += 1
        if not _comes_first(heap[child], pair, counts, keys):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = pair


@numba.njit(cache=True)
def _token_before(place, ids, word_at):  # type: ignore[no-untyped-def]
    """The place of the token before one, NONE at the start of a word."""
    if place == 0 or word_at[place - 1] != word_at[place]:
        return NONE
    return place - 1 if ids[place - 1] >= 0 else place + ids[place - 1]


@numba.njit(cache=True)
def _pairs_of_bytes(ids, word_at, word_counts):  # type: ignore[no-untyped-def]
    """All pairs that bytes make, in rising order of their keys.

    Their keys (left id << 32 | right id), counts, int64 [P], and where their places are: `places[starts[p] :
    starts[p + 1]]`, int32 and int64 [P + 1], in rising order; and the pair at each place or NONE, int32 [T].
    """
    totals, ends = np.zeros(BYTES * BYTES, np.int64), np.zeros(BYTES * BYTES, np.int64)
    for place in range(len(ids) - 1):
        if word_at[place] == word_at[place + 1]:
            totals[ids[place] * BYTES + ids[place + 1]] += word_counts[word_at[place]]
            ends[ids[place] * BYTES + ids[place + 1]] += 1
    keys, counts = np.empty(len(totals), np.int64), np.empty(len(totals), np.int64)
    starts, pair_of = np.zeros(len(totals) + 1, np.int64), np.empty(len(totals), np.int32)
    pairs = 0
    for both in range(len(totals)):
        if ends[both]:
            keys[pairs], counts[pairs], pair_of[both] = (both // BYTES) << 32 | both % BYTES, totals[both], pairs
            starts[pairs + 1] = starts[pairs] + ends[both]
            ends[both] = starts[pairs]
            pairs += 1
    # A merge leaves a token less, and makes at most two pairs: three places a byte are never passed. What is not needed
    # is never touched, and so takes no memory.
    places, pair_at = np.empty(3 * len(ids), np.int32), np.empty(len(ids), np.int32)
    for place in range(len(ids)):
        pair_at[place] = NONE
        if place + 1 < len(ids) and word_at[place] == word_at[place + 1]:
            both = ids[place] * BYTES + ids[place + 1]
            pair_at[place] = pair_of[both]
            places[ends[both]] = place
            ends[both] += 1
    return pairs, keys, counts, starts, places, pair_at


@numba.njit(cache=True, nogil=True)
def learn_merges(ids, word_at, word_counts, min_count, merges, progress):  # type: ignore[no-untyped-def]
    """Fill `merges` int32 [M, 2] with the pairs of ids that become the tokens 256, 257, ...

    `ids` int32 [T] are all words' bytes, each as its id (overwritten), `word_at` int32 [T] the word each belongs to,
    and `word_counts` int64 [words] how often each word occurs. The merges done are told in `progress[0]` (int64) while
    they grow; the work ends early where no pair occurs `min_count` times any more, or when `progress[1]` is not 0.
    """
    lengths = np.ones(BYTES + len(merges), np.int32)
    pairs, keys, counts, starts, places, pair_at = _pairs_of_bytes(ids, word_at, word_counts)
    pool_size = starts[pairs]
    # Counts as the heap knows them: it is in order by these, which lag behind the true ones.
    heap, heap_counts, heap_size = np.empty(len(counts), np.int32), counts.copy(), 0
    for pair in range(pairs):
        if counts[pair] >= min_count:
            _push(heap, heap_size, pair, heap_counts, keys)
            heap_size += 1
    merged, made_at, made_side = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32)
    # The pairs a merge makes are known by the new token's neighbour: 2 * id where it is on the left, 2 * id + 1 on the
    # right.
    sides = np.empty(2 * len(lengths), np.int32)
    side_places, side_counts = np.zeros(2 * len(lengths), np.int64), np.zeros(2 * len(lengths), np.int64)
    side_pair = np.empty(2 * len(lengths), np.int32)
    done = 0
    while done < len(merges) and heap_size > 0 and progress[1] == 0:
        chosen = heap[0]
        if heap_counts[chosen] != counts[chosen]:
            heap_counts[chosen] = counts[chosen]
            if counts[chosen] < min_count:
                heap_size -= 1
                chosen = heap[heap_size]
            _replace_top(heap, heap_size, chosen, heap_counts, keys)
            continue
        heap_size -= 1
        _replace_top(heap, heap_size, heap[heap_size], heap_counts, keys)
        left, right, new = keys[chosen] >> 32, keys[chosen] & 0xFFFFFFFF, BYTES + done
        merges[done, 0], merges[done, 1] = left, right
        lengths[new] = lengths[left] + lengths[right]
        done += 1
        progress[0] = done

        # Merge at all its places, left to right; the pairs around them are gone.
        first, last = starts[chosen], starts[chosen + 1]
        if last - first > len(merged):
            merged = np.empty(2 * (last - first), np.int32)
            made_at, made_side = np.empty(2 * len(merged), np.int32), np.empty(2 * len(merged), np.int32)
        merges_done = 0
        for n in range(first, last):
            place = places[n]
            if pair_at[place] != chosen:
                continue
            weight = word_counts[word_at[place]]
            second, before = place + lengths[left], _token_before(place, ids, word_at)
            if pair_at[second] != NONE:
                counts[pair_at[second]] -= weight
                pair_at[second] = NONE
            if before != NONE and pair_at[before] != NONE:
                counts[pair_at[before]] -= weight
                pair_at[before] = NONE
            pair_at[place] = NONE
            ids[place] = new
            ids[place + lengths[new] - 1] = -lengths[new]
            merged[merges_done] = place
            merges_done += 1
        counts[chosen] = 0

        # Find the pairs made.
        made, kinds = 0, 0
        for n in range(merges_done):
            place = merged[n]
            word = word_at[place]
            before, after = _token_before(place, ids, word_at), place + lengths[new]
            for side in (0, 1):
                if side == 0:
                    if before == NONE or ids[before] == new:  # two new tokens: found from the left one
                        continue
                    at, kind = before, 2 * ids[before]
                else:
                    if after == len(ids) or word_at[after] != word:
                        continue
                    at, kind = place, 2 * ids[after] + 1
                made_at[made], made_side[made] = at, kind
                made += 1
                if side_places[kind] == 0:
                    sides[kinds] = kind
                    kinds += 1
                side_places[kind] += 1
                side_counts[kind] += word_counts[word]
        # Store those that may be merged some day.
        if pairs + kinds >= len(counts):
            room = 2 * (pairs + kinds)
            keys, counts, heap_counts = _longer(keys, room), _longer(counts, room), _longer(heap_counts, room)
            starts, heap = _longer(starts, room + 1), _longer(heap, room)
        for n in range(kinds):
            kind = sides[n]
            if side_counts[kind] >= min_count:
                neighbour = np.int64(kind >> 1)
                keys[pairs] = (np.int64(new) << 32) | neighbour if kind & 1 else (neighbour << 32) | new
                counts[pairs] = heap_counts[pairs] = side_counts[kind]
                _push(heap, heap_size, pairs, heap_counts, keys)
                heap_size += 1
                side_pair[kind] = pairs
                pool_size += side_places[kind]
                starts[pairs + 1] = pool_size
                side_places[kind] = starts[pairs]
                pairs += 1
            else:
                side_pair[kind] = NONE
        for n in range(made):
            pair = side_pair[made_side[n]]
            if pair != NONE:
                pair_at[made_at[n]] = pair
                places[side_places[made_side[n]]] = made_at[n]
                side_places[made_side[n]] += 1
        for n in range(kinds):
            side_places[sides[n]] = side_counts[sides[n]] = 0
