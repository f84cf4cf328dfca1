"""A stream cut into sequences so that within an epoch each token is predicted exactly once."""

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.permutation import permuted_by_epoch
from gpt2lab.tokens.stream import TokenStream

IGNORED = -100
"""The target of a token that is not to be predicted; `torch.nn.functional.cross_entropy` leaves it out by default."""

Batch = npt.NDArray[np.int64]
"""Inputs, targets and, where documents are kept apart, the number of each token's document within its row: int64
[2 or 3, rows, context_length]."""


class Sequences:
    """The sequences of a stream: `context_length` tokens, each read with the one token after it.

    The last one begins earlier, so that it is whole; its targets that the one before it has already are `IGNORED`.
    Each epoch has a seeded order of its own. The first token of a stream is never predicted: nothing stands before it.
    Raises BadInput where the stream is shorter than one sequence and its next token.
    """

    def __init__(self, stream: TokenStream, context_length: int) -> None:
        if len(stream) <= context_length:
            kind, remedy = {
                "train": ("training", "Use more text or a smaller context_length."),
                "val": ("held-out", "Tokenize with a larger --held-out-share or use more text."),
            }[stream.split]
            raise BadInput(
                f"{stream.folder}: the {kind} tokens ({len(stream):,}) are fewer than one context of"
                f" {context_length:,} and its next token. {remedy}"
            )
        self.stream, self.context_length = stream, context_length

    @property
    def sequences(self) -> int:
        """Sequences in one epoch."""
        return -(-(len(self.stream) - 1) // self.context_length)

    def places(self, numbers: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.int64]:
        """Which sequence comes at each running number (epoch follows epoch) in the order keyed by `key`."""
        size = np.uint64(self.sequences)
        return permuted_by_epoch(numbers % size, numbers // size, self.sequences, key)

    def read(self, places: npt.NDArray[np.int64]) -> Batch:
        """The sequences at `places`."""
        starts = places * self.context_length
        whole = np.minimum(starts, len(self.stream) - 1 - self.context_length)
        count = self.context_length + 1
        batch = shifted(self.stream.pieces(whole, np.full(len(whole), count)).reshape(-1, count))
        for row in np.flatnonzero(whole < starts):
            batch[1, row, : starts[row] - whole[row]] = IGNORED
        return batch


def shifted(rows: npt.NDArray[np.integer]) -> Batch:
    """Inputs and targets of rows of tokens [rows, context_length + 1]."""
    # One block: two of 4 MB each would be given back to the system and faulted in again at every step.
    batch = np.empty((2, len(rows), rows.shape[1] - 1), np.int64)
    batch[0] = rows[:, :-1]
    batch[1] = rows[:, 1:]
    return batch


def document_numbers(inputs: npt.NDArray[np.int64], end_of_text: int) -> npt.NDArray[np.int64]:
    """The number within its row of each token's document, int64 [rows, context_length].

    A document begins at its `<|endoftext|>`, which stands before its text; what comes before the first is number 0.
    """
    return np.cumsum(inputs == end_of_text, axis=1)


def with_document_numbers(batch: Batch, end_of_text: int) -> Batch:
    """A batch of inputs and targets with the numbers of their documents."""
    return np.concatenate([batch, document_numbers(batch[0], end_of_text)[None]])


def validation_batches(stream: TokenStream, context_length: int, batch_size: int, most: int) -> list[Batch]:
    """Up to `most` sequences spread evenly over a stream, the same ones each time, in batches of <= `batch_size`.

    Raises BadInput where the stream is shorter than one sequence.
    """
    sequences = Sequences(stream, context_length)
    count = min(most, sequences.sequences)
    places = np.arange(count) * sequences.sequences // count
    return [sequences.read(part) for part in np.array_split(places, -(-count // batch_size))]
