"""64-bit hashes of words and of their n-grams, of whole batches of texts at once: no word goes through Python.

The hashes are the same on every machine. Two different words or grams share theirs once in about 2**64 pairs.
"""

import numpy as np
import numpy.typing as npt
import xxhash

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

LANE = 8  # bytes of a word that are hashed at once
LONG_WORD_BYTES = 64  # longer words are rare, and may be very long

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_FIRST_BYTES = np.array([(1 << 8 * length) - 1 for length in range(LANE + 1)], np.uint64)
"""Masks of the first 0 to 8 bytes of a little-endian number."""


def runs(inside: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Where the runs of True begin, and how long they are; there is a last item, and it is False."""
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate([[0], edges])
    starts = edges[0::2]
    return starts, edges[1::2] - starts


def hash_runs(data: npt.NDArray[np.uint8], starts: Numbers, lengths: Numbers) -> Hashes:
    """A hash of the bytes of each run; behind the last one, `data` has LANE bytes or more."""
    lanes = np.ndarray((data.size - LANE + 1,), "<u8", data, strides=(1,))  # the 8 bytes from each place on, unaligned
    hashes = lengths.view(np.uint64) * _MIXER  # a word may end with zeros, which its last lane doesn't tell
    mix(hashes, lanes[starts] & _FIRST_BYTES[np.minimum(lengths, LANE)])
    longer = np.flatnonzero((lengths > LANE) & (lengths <= LONG_WORD_BYTES))
    done = LANE
    while longer.size:
        left = lengths[longer] - done
        part = hashes[longer]
        mix(part, lanes[starts[longer] + done] & _FIRST_BYTES[np.minimum(left, LANE)])
        hashes[longer] = part
        longer = longer[left > LANE]
        done += LANE
    for n in np.flatnonzero(lengths > LONG_WORD_BYTES).tolist():
        hashes[n] = xxhash.xxh3_64_intdigest(data[starts[n] : starts[n] + lengths[n]].data)
    return hashes


def mix(hashes: Hashes, more: Hashes) -> None:
    """Add what is `more` to the hashes, in place, each bit spread over all; different numbers stay different."""
    hashes ^= more
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF
    hashes *= _MIXER
    hashes ^= hashes >> _HALF


def fold(words: Hashes, words_of: Numbers, width: int) -> Hashes:
    """The hashes of all grams of `width` words: the polynomial of the words' hashes modulo 2**64.

    `words` are those of some texts, one after the other, `words_of` how many each text has; no gram reaches over the
    end of a text.
    """
    if words.size < width:
        return np.empty(0, np.uint64)
    grams, so_far = words, 1
    for bit in f"{width:b}"[1:]:  # by doubling: grams of 8 words take three rounds, not seven
        grams = grams[:-so_far] * _power(so_far) + grams[so_far:]
        so_far *= 2
        if bit == "1":
            grams = grams[:-1] * _MULTIPLIER + words[so_far:]
            so_far += 1
    if words_of.size == 1:
        return grams
    ends = np.cumsum(words_of)
    within = np.ones(words.size, np.bool_)
    for k in range(1, width):  # too few words follow on the last places of a text
        within[ends[words_of >= k] - k] = False
    return grams[within[: grams.size]]


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_MULTIPLIER), exponent, 1 << 64))
