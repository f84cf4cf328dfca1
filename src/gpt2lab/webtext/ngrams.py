"""Word n-grams as arrays of 64-bit hashes: what near-duplicates and overlap are counted in."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

Hashes = npt.NDArray[np.uint64]

_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so no word of a gram is lost modulo 2**64


def hash_ngrams(words: Sequence[bytes], n: int) -> Hashes:
    """uint64 hashes of the `len(words) - n + 1` n-grams of `words`, in order; none when there are fewer words.

    A gram's hash is a polynomial modulo 2**64 in the xxhash of its words, so equal grams have equal hashes and two
    different ones share theirs once in 2**64.
    """
    grams = len(words) - n + 1
    if grams <= 0:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, words), np.uint64, len(words))
    total = np.zeros(grams, np.uint64)
    for k in range(n):
        total = total * np.uint64(_MULTIPLIER) + hashes[k : k + grams]
    return total
