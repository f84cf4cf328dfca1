"""Batches from token shards whose place in the data is a pure function of (seed, step).

The stream is cut into sequences of `context_length` tokens, each read with the one token after it, so that within an
epoch every token is predicted once (but for a tail shorter than one sequence). Each epoch has its own seeded order,
computed, not stored: a Feistel network over the sequence numbers.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.stream import TokenStream

FEISTEL_ROUNDS = 4


def permuted(numbers: npt.NDArray[np.uint64], size: int, key: bytes) -> npt.NDArray[np.uint64]:
    """A pseudo-random permutation of 0..size-1, keyed by `key`, at the places `numbers`; uses no memory.

    A balanced Feistel network (Luby & Rackoff 1988) over the smallest 4**k >= size, walked until it falls below size.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    round_keys = [
        np.uint64(int.from_bytes(hashlib.blake2b(key + bytes([n]), digest_size=8).digest(), "little"))
        for n in range(FEISTEL_ROUNDS)
    ]

    def once(places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = places >> half, places & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        return (left << half) | right

    result = once(numbers.astype(np.uint64))
    while (outside := result >= size).any():
        result[outside] = once(result[outside])
    return result


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Loader:
    """Training batches: the sequences of a stream in a seeded order, a new order each epoch."""

    stream: TokenStream
    context_length: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.sequences < 1:
            raise BadInput(
                f"the training tokens ({len(self.stream):,}) are fewer than one context of {self.context_length:,} and"
                " its next token. Use more text or a smaller context_length."
            )

    @property
    def sequences(self) -> int:
        """Whole sequences in one epoch."""
        return (len(self.stream) - 1) // self.context_length

    def batch(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Inputs and targets int64 [batch_size, context_length] of a step counted from 0."""
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.uint64)
        epochs = numbers // np.uint64(self.sequences)
        rows = []
        for epoch in np.unique(epochs):
            key = f"{self.seed}:{epoch}".encode()
            places = permuted(numbers[epochs == epoch] % np.uint64(self.sequences), self.sequences, key)
            rows += [self.stream.read(int(place) * self.context_length, self.context_length + 1) for place in places]
        block = np.stack(rows)
        return block[:, :-1], block[:, 1:]


def validation_batches(
    stream: TokenStream, context_length: int, batch_size: int, most: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Up to `most` sequences spread evenly over a stream, the same ones each time, in batches [<= batch_size, T].

    Raises BadInput where the stream is shorter than one sequence.
    """
    available = (len(stream) - 1) // context_length
    if available < 1:
        raise BadInput(
            f"the held-out tokens ({len(stream):,}) are fewer than one context of {context_length:,} and its next"
            " token. Tokenize with a larger --held-out-share or use more text."
        )
    count = min(most, available)
    places = [n * available // count for n in range(count)]
    rows = np.stack([stream.read(place * context_length, context_length + 1) for place in places])
    return [(part[:, :-1], part[:, 1:]) for part in np.array_split(rows, -(-count // batch_size))]
