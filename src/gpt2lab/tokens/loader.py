"""Batches whose place in the data is a pure function of (seed, step): no state to save, none to lose.

Sequence n of a run is row n % batch_size of step n // batch_size. Which source it comes from (`mixture`) and which of
that source's sequences it is (`sequences`, `connor_windows`) are computed from the seed and n, so that neither the
steps before nor the number of ranks or workers matter.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadOption
from gpt2lab.tokens.mixture import BLOCK, block_counts, block_sources
from gpt2lab.tokens.sequences import Batch


class Source(Protocol):
    """Something that numbers sequences without end, epoch after epoch, and reads them."""

    def places(self, numbers: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.int64]:
        """Where the sequences with these running numbers lie, a row each."""

    def read(self, places: npt.NDArray[np.int64]) -> Batch:
        """The sequences at these places."""


class Loader:
    """Training batches of `batch_size` sequences from one source, or from several by their weights.

    Raises BadOption for weights that can't be used.
    """

    def __init__(
        self, sources: Sequence[Source], batch_size: int, seed: int, weights: Sequence[float] | None = None
    ) -> None:
        if weights is not None and len(weights) != len(sources):
            raise BadOption(f"data.weights: {len(weights)} weights for {len(sources)} sources.")
        self.sources, self.batch_size, self.seed = sources, batch_size, seed
        self._counts = block_counts(weights or [1.0] * len(sources))
        # Consecutive steps lie in one block: a permutation of 1,000 numbers costs hardly more than one of 8.
        self._block = lru_cache(maxsize=2)(self._find_block)

    def _find_block(self, block: int) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
        """The source of each sequence of a block, and the places of each source's sequences in their order."""
        sources, numbers = block_sources(block, self._counts, f"{self.seed}:mixture".encode())
        places = [
            source.places(numbers[sources == n], f"{self.seed}:{n}".encode()) for n, source in enumerate(self.sources)
        ]
        return sources, places

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Inputs and targets of a step counted from 0: int64 [2, batch_size / ranks, context_length].

        Rank r has the r-th share of the rows; all shares, one after the other, are the whole batch. Targets that are
        not to be predicted are `IGNORED`. Raises BadOption for a batch that can't be divided among the ranks, BadInput
        for an id beyond the vocabulary.
        """
        if self.batch_size % ranks:
            raise BadOption(f"a batch of {self.batch_size:,} sequences can't be divided among {ranks:,} ranks.")
        rows = self.batch_size // ranks
        start = step * self.batch_size + rank * rows
        parts = []
        while rows:
            block, first = divmod(start, BLOCK)
            count = min(rows, BLOCK - first)
            parts.append(self._read(block, first, count))
            start, rows = start + count, rows - count
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _read(self, block: int, first: int, count: int) -> Batch:
        sources, places = self._block(block)
        if len(self.sources) == 1:
            return self.sources[0].read(places[0][first : first + count])
        wanted = sources[first : first + count]
        batch: Batch | None = None
        for n, source in enumerate(self.sources):
            rows = np.flatnonzero(wanted == n)
            if not len(rows):
                continue
            before = int((sources[:first] == n).sum())
            part = source.read(places[n][before : before + len(rows)])
            if batch is None:
                batch = np.empty((2, count, part.shape[2]), np.int64)
            batch[:, rows] = part
        assert batch is not None
        return batch
