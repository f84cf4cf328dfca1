"""Seeded orders that are computed, not stored: the place of a number among a billion others costs no memory."""

import hashlib

import numpy as np
import numpy.typing as npt

FEISTEL_ROUNDS = 4


def permuted(numbers: npt.NDArray[np.uint64], size: int, key: bytes) -> npt.NDArray[np.uint64]:
    """A pseudo-random permutation of 0..size-1, keyed by `key`, at the places `numbers` (any shape); uses no memory.

    A balanced Feistel network (Luby & Rackoff 1988) over the smallest 4**k >= size, walked until it falls below size.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    round_keys = [_word(key + bytes([n])) for n in range(FEISTEL_ROUNDS)]

    def once(places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = places >> half, places & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        return (left << half) | right

    result = once(numbers.astype(np.uint64))
    while (outside := result >= size).any():
        result[outside] = once(result[outside])
    return result


def permuted_by_epoch(
    numbers: npt.NDArray[np.uint64], epochs: npt.NDArray[np.uint64], size: int, key: bytes
) -> npt.NDArray[np.int64]:
    """As `permuted`, each number (first axis) by the order of its epoch: int64 of the shape of `numbers`."""
    result = np.empty(numbers.shape, np.int64)
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        result[rows] = permuted(numbers[rows], size, key + f":{epoch}".encode())
    return result


def random_below(numbers: npt.NDArray[np.uint64], limits: npt.NDArray[np.int64], key: bytes) -> npt.NDArray[np.int64]:
    """A pseudo-random number from 0 to below each limit, a function of its number and `key` alone."""
    words = _mixed(_mixed(numbers ^ _word(key + b"0")) ^ _word(key + b"1"))
    # The remainder of 64 bits prefers some numbers by less than limit / 2**64.
    return (words % limits.astype(np.uint64)).astype(np.int64)


def _word(key: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little"))


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
