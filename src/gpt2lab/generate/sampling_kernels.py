"""The inner loops of choosing a token, compiled by numba: passes over the vocabulary that a processor does in vectors.

Nothing is sorted. A token is drawn from all tokens first; then one pass finds how much probability comes before it in
the filter's order, and so whether the filter keeps it. If not, no token after it is kept either, and the next draw is
among those before it only. The token drawn follows the filtered distribution exactly, and most take a pass or two
(the idea of FlashInfer's "Sorting-Free GPU Kernels for LLM Sampling", 2025).

Random numbers are Philox 4x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", 2011): a function of a key and a counter without any state, of which 53 bits make a number in [0, 1).

No logit is NaN or +inf here; -inf stands for a banned token. Arrays end in their shape: V vocabulary, N tokens that
take part, S stretches of them, K tokens kept.
"""

import numba
import numpy as np

STRETCH = 256
"""Tokens whose weights are summed up together (in float32: so few that rounding stays near 1e-8 of all)."""

_LOG2_E, _LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
# Taylor's series of exp to the sixth power: what it leaves out is below 2e-7 where |x| < ln 2 / 2.
_C2, _C3, _C4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
_C5, _C6 = np.float32(1 / 120), np.float32(1 / 720)
_ZERO, _HALF, _ONE, _SMALLEST = np.float32(0), np.float32(0.5), np.float32(1), np.float32(-87)

# Sums may be taken in any order: that is what lets them be vectors. Infinities keep their meaning.
_ANY_ORDER = {"reassoc", "nsz", "nnan"}

_BITS_OF_1 = np.int32(0x3F800000)
_MASK = np.uint64(0xFFFFFFFF)
_ROUND_0, _ROUND_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_HALF_WORD, _5, _6, _26 = np.uint64(32), np.uint64(5), np.uint64(6), np.uint64(26)


@numba.njit(cache=True, nogil=True)
def philox(key, counter_0, counter_1, counter_2):  # type: ignore[no-untyped-def]
    """The first two of the four 32-bit words of Philox 4x32-10; the key and `counter_2` have 64 bits, the others 32."""
    key_0, key_1 = np.uint64(key) & _MASK, np.uint64(key) >> _HALF_WORD
    word_0, word_1 = np.uint64(counter_0) & _MASK, np.uint64(counter_1) & _MASK
    word_2, word_3 = np.uint64(counter_2) & _MASK, np.uint64(counter_2) >> _HALF_WORD
    for _ in range(10):
        product_0, product_1 = _ROUND_0 * word_0, _ROUND_1 * word_2
        word_0, word_2 = (product_1 >> _HALF_WORD) ^ word_1 ^ key_0, (product_0 >> _HALF_WORD) ^ word_3 ^ key_1
        word_1, word_3 = product_1 & _MASK, product_0 & _MASK
        key_0, key_1 = (key_0 + _WEYL_0) & _MASK, (key_1 + _WEYL_1) & _MASK
    return word_0, word_1


@numba.njit(cache=True, nogil=True)
def _random(seed, index, step, attempt):  # type: ignore[no-untyped-def]
    """A number in [0, 1) of 53 bits, decided by its arguments alone."""
    high, low = philox(seed, step, attempt, index)
    return np.float64(np.int64(((high >> _5) << _26) | (low >> _6))) / 9007199254740992.0


@numba.njit(cache=True, nogil=True)
def _exp(x):  # type: ignore[no-untyped-def]
    """e**x of a float32 x <= 0, to 1 part in a million down to -20 and to 5 down to -87, and 0 below.

    Plain arithmetic, of which loops are made vectors; a library's function would be called for each number.
    """
    inside = max(x, _SMALLEST)
    power = np.int32(inside * _LOG2_E - _HALF)
    rest = inside - np.float32(power) * _LN_2
    series = _C6 * rest + _C5
    series = series * rest + _C4
    series = series * rest + _C3
    series = series * rest + _C2
    series = series * rest + _ONE
    series = series * rest + _ONE
    scaled = series * np.int32((power + np.int32(127)) << np.int32(23)).view(np.float32)
    return scaled if x >= _SMALLEST else _ZERO


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def weigh(values_N, best, sharpness, least, weights_N, sums_S):  # type: ignore[no-untyped-def]
    """Fill `weights_N` with exp((value - best) * sharpness), 0 where that is below `least`, and sum up its stretches.

    Gives the sum of all weights, those below `least` included. Arrays and scalars float32, sums float64.
    """
    total = 0.0
    for stretch in range(len(sums_S)):
        everything, kept = _ZERO, _ZERO
        for place in range(stretch * STRETCH, min(stretch * STRETCH + STRETCH, len(values_N))):
            n = np.uint64(place)  # what might count from the end can't be a vector
            weight = _exp((values_N[n] - best) * sharpness)
            enough = weight if weight >= least else _ZERO
            weights_N[n] = enough
            everything += weight
            kept += enough
        sums_S[stretch] = kept
        total += np.float64(everything)
    return total


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def weight_before(keys_N, weights_N, token, sums_S):  # type: ignore[no-untyped-def]
    """The weight of all tokens of greater keys than a token's, or equal ones and lower places; by stretches too."""
    key, total = keys_N[token], 0.0
    for stretch in range(len(sums_S)):
        start, stop = stretch * STRETCH, min(stretch * STRETCH + STRETCH, len(keys_N))
        border = min(max(token, start), stop)
        before = _ZERO
        for place in range(start, border):
            n = np.uint64(place)
            before += weights_N[n] if keys_N[n] >= key else _ZERO
        for place in range(border, stop):
            n = np.uint64(place)
            before += weights_N[n] if keys_N[n] > key else _ZERO
        sums_S[stretch] = before
        total += np.float64(before)
    return total


@numba.njit(cache=True, nogil=True)
def _walk(keys_N, weights_N, sums_S, bound, bound_at, way):  # type: ignore[no-untyped-def]
    """The token at which the running sum of weights passes `way`, of those before the token `bound_at` of key `bound`.

    Sums of stretches are rounded: where `way` lies a trifle beyond the end, it is the last token there is.
    """
    found = -1
    for stretch in range(len(sums_S)):
        if sums_S[stretch] <= 0:
            continue
        found = stretch
        if way < sums_S[stretch]:
            break
        way -= sums_S[stretch]
    token = -1
    for n in range(found * STRETCH, min(found * STRETCH + STRETCH, len(keys_N))):
        if weights_N[n] > 0 and (keys_N[n] > bound or (keys_N[n] == bound and n < bound_at)):
            token = n
            way -= weights_N[n]
            if way < 0:
                break
    return token


@numba.njit(cache=True, nogil=True)
def _draw(keys_N, weights_N, sums_S, mass, seed, index, step):  # type: ignore[no-untyped-def]
    """Draw by weight one of the fewest tokens, by falling keys, that weigh `mass` together.

    A token belongs to them where all before it weigh less than `mass`. Each is drawn from a set that holds them all,
    by weight, and so with the right chance, whatever was drawn and dropped before.
    """
    bound, bound_at, weight, attempt = np.float32(-np.inf), len(keys_N), 0.0, 0
    for stretch in range(len(sums_S)):
        weight += sums_S[stretch]
    while True:
        way = _random(seed, index, step, attempt) * weight
        token = _walk(keys_N, weights_N, sums_S, bound, bound_at, way)
        if mass == np.inf:
            return token
        weight = weight_before(keys_N, weights_N, token, sums_S)
        if weight < mass:
            return token
        bound, bound_at = keys_N[token], token
        attempt += 1


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _weight_from(weights_N, least, sums_S):  # type: ignore[no-untyped-def]
    """The sum of the weights of at least `least`, and each stretch's part of it."""
    total = 0.0
    for stretch in range(len(sums_S)):
        part = _ZERO
        for place in range(stretch * STRETCH, min(stretch * STRETCH + STRETCH, len(weights_N))):
            n = np.uint64(place)
            part += weights_N[n] if weights_N[n] >= least else _ZERO
        sums_S[stretch] = part
        total += np.float64(part)
    return total


@numba.njit(cache=True, nogil=True)
def _keep(weights_N, sums_S, mass):  # type: ignore[no-untyped-def]
    """Make all weights 0 but those of the fewest heaviest tokens that weigh `mass`; gives the weight that is left.

    The lightest weight kept is found by halving, from the bits of float32, which have the order of the numbers.
    """
    low, high = np.int32(0), _BITS_OF_1 + np.int32(1)
    while high - low > 1:
        middle = np.int32(low + (high - low) // 2)
        if _weight_from(weights_N, np.int32(middle).view(np.float32), sums_S) >= mass:
            low = middle
        else:
            high = middle
    least = np.int32(low).view(np.float32)
    weight = _weight_from(weights_N, np.int32(high).view(np.float32), sums_S)
    for n in range(len(weights_N)):
        if weights_N[n] == least and weight < mass:
            weight += least
        elif weights_N[n] <= least:
            weights_N[n] = 0
    return _weight_from(weights_N, _ZERO, sums_S)


@numba.njit(cache=True, nogil=True)
def _typicality(values_N, weights_N, best, sharpness, weight):  # type: ignore[no-untyped-def]
    """Keys [N]: minus the distance of each token's surprise from the expected surprise, of tokens that have a weight.

    The logarithm of the sum of weights is in both surprises, so that the distance of the exponents is the same.
    """
    expected = 0.0
    for n in range(len(values_N)):
        if weights_N[n] > 0:
            expected += weights_N[n] / weight * ((values_N[n] - best) * sharpness)
    keys_N = np.empty(len(values_N), np.float32)
    for n in range(len(values_N)):
        keys_N[n] = -abs((values_N[n] - best) * sharpness - expected)
    return keys_N


@numba.njit(cache=True, nogil=True)
def _kth_greatest(values_N, size, k):  # type: ignore[no-untyped-def]
    """The k-th greatest of the first `size` values, which change places (Hoare's selection)."""
    first, last = 0, size - 1
    while first < last:
        pivot, left, right = values_N[(first + last) // 2], first, last
        while left <= right:
            while values_N[left] > pivot:
                left += 1
            while values_N[right] < pivot:
                right -= 1
            if left <= right:
                values_N[left], values_N[right] = values_N[right], values_N[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            last = right
        elif k - 1 >= left:
            first = left
        else:
            break
    return values_N[k - 1]


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _maxima(values_V, width, maxima):  # type: ignore[no-untyped-def]
    for stretch in range(len(maxima)):
        greatest = values_V[stretch * width]
        for place in range(stretch * width, min(stretch * width + width, len(values_V))):
            n = np.uint64(place)
            greatest = max(greatest, values_V[n])
        maxima[stretch] = greatest


@numba.njit(cache=True, nogil=True)
def most_probable(values_V, k):  # type: ignore[no-untyped-def]
    """Ids [K], rising, and values [K] of the k greatest values, 0 < k <= V; equals of the k-th all stay.

    The k-th greatest of the maxima of short stretches is at most the k-th greatest value: only the few stretches that
    reach it are looked into.
    """
    width = min(64, max(8, len(values_V) // (8 * k)))
    maxima = np.empty((len(values_V) + width - 1) // width, np.float32)
    _maxima(values_V, width, maxima)
    least = np.float32(-np.inf)
    if len(maxima) >= k:
        least = _kth_greatest(maxima.copy(), len(maxima), k)
    ids, values, found = np.empty(len(values_V), np.int32), np.empty(len(values_V), np.float32), 0
    for stretch in range(len(maxima)):
        if maxima[stretch] >= least:
            for n in range(stretch * width, min(stretch * width + width, len(values_V))):
                if values_V[n] >= least:
                    ids[found], values[found] = n, values_V[n]
                    found += 1
    least = _kth_greatest(values, found, k)
    kept = 0
    for n in range(found):
        if values_V[ids[n]] >= least:
            ids[kept] = ids[n]
            kept += 1
    ids_K, values_K = np.empty(kept, np.int32), np.empty(kept, np.float32)
    for n in range(kept):  # a slice would take numba a second to compile
        ids_K[n], values_K[n] = ids[n], values_V[ids[n]]
    return ids_K, values_K


@numba.njit(cache=True, nogil=True)
def log_of_sum(values_V, best):  # type: ignore[no-untyped-def]
    """The logarithm of the sum of e**value, by the greatest value `best`."""
    weights_V, sums_S = np.empty(len(values_V), np.float32), np.empty((len(values_V) + STRETCH - 1) // STRETCH)
    return best + np.log(weigh(values_V, best, _ONE, _ZERO, weights_V, sums_S))


@numba.njit(cache=True, nogil=True)
def filtered(values_V, best, sharpness, top_k, top_p, min_p, typical_p):  # type: ignore[no-untyped-def]
    """What is left of softmax(values * sharpness) after top-k (0 keeps all), top-p, min-p and typical.

    Gives ids [N] int32 (empty where all tokens take part), keys [N], weights [N], the weights' sums by stretches, and a
    mass: a token stays if its weight is not 0 and the tokens before it (`weight_before`) weigh less than the mass.
    `values_V`, `best` (the greatest of them) and `sharpness` (1 / temperature) are float32.
    """
    values_N, ids_N = values_V, np.empty(0, np.int32)
    if 0 < top_k < len(values_V):
        ids_N, values_N = most_probable(values_V, top_k)
    weights_N, sums_S = np.empty(len(values_N), np.float32), np.empty((len(values_N) + STRETCH - 1) // STRETCH)
    weight = weigh(values_N, best, sharpness, np.float32(min_p), weights_N, sums_S)
    mass, keys_N = top_p * weight if top_p < 1 else np.inf, weights_N
    if typical_p < 1:
        weight = _keep(weights_N, sums_S, mass) if top_p < 1 else _weight_from(weights_N, _ZERO, sums_S)
        mass, keys_N = typical_p * weight, _typicality(values_N, weights_N, best, sharpness, weight)
    return ids_N, keys_N, weights_N, sums_S, mass


@numba.njit(cache=True, nogil=True)
def draw_token(values_V, best, sharpness, top_k, top_p, min_p, typical_p, seed, index, step):  # type: ignore[no-untyped-def]
    """A token id drawn from what `filtered` leaves."""
    ids_N, keys_N, weights_N, sums_S, mass = filtered(values_V, best, sharpness, top_k, top_p, min_p, typical_p)
    n = _draw(keys_N, weights_N, sums_S, mass, seed, index, step)
    return ids_N[n] if len(ids_N) else n
