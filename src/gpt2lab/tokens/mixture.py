"""Which source each sequence of a mixture comes from: exact in every thousand, and computed from its number alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadOption
from gpt2lab.tokens.permutation import permuted

BLOCK = 1000
"""Sequences within which each source has exactly its share."""


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """`total` divided by the method of largest remainders (Hamilton's); of equal remainders the first goes first."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda n: (counts[n] - exact[n], n))
    for n in by_remainder[: total - sum(counts)]:
        counts[n] += 1
    return counts


def block_counts(weights: Sequence[float]) -> list[int]:
    """How many of each `BLOCK` sequences come from each source; weights are above 0.

    Raises BadOption for a weight so small that its source would never be read.
    """
    counts = apportioned(BLOCK, weights)
    if 0 in counts:
        share = weights[counts.index(0)] / sum(weights)
        raise BadOption(
            f"data.weights: a source with {share:.2g} of the weight would never be read; the least is 1 in {BLOCK:,}."
            " Leave that source out, or give data.weights that raise it."
        )
    return counts


def block_sources(
    block: int, counts: Sequence[int], key: bytes
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The source of each sequence of a block, and the running number of the sequence within its source: [BLOCK] both.

    The numbers of a source go on from block to block without a gap.
    """
    order = permuted(np.arange(BLOCK, dtype=np.uint64), BLOCK, key + f":{block}".encode())
    sources = np.repeat(np.arange(len(counts)), counts)[order.astype(np.int64)]
    numbers = np.empty(BLOCK, np.uint64)
    for source, count in enumerate(counts):
        numbers[sources == source] = np.arange(block * count, (block + 1) * count, dtype=np.uint64)
    return sources, numbers
