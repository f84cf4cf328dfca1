"""What the engine asks of a device: to read tokens into a KV cache made of blocks, and to say the next token's logits.

A block holds the keys and values of `block_tokens` tokens that follow each other in one sequence, for all layers. The
engine alone decides which sequence owns which blocks (`kv_blocks.py`); a backend reads and writes where it is told.
A table is an int32 array of block numbers: entry i holds positions [i * block_tokens, (i + 1) * block_tokens).

Names of arrays end in their shape: T new tokens of one sequence, B sequences, N blocks of a table, V vocabulary.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2lab.model.config import GPT2Config

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
LogitsOf = Literal["none", "last", "all"]


class NextTokens(NamedTuple):
    """What may follow each of B sequences."""

    logits: Float32
    """[B, V]"""
    greatest: Sequence[int | None]
    """[B] ids of the greatest logits, the lowest of equals, -1 where one is not finite; None where nobody looked."""


class Backend(Protocol):
    """A network ready to decode on some device."""

    config: GPT2Config
    name: str
    """What it is, for people: `cpu int8, 2 threads`."""
    block_tokens: int
    """Tokens a block holds."""
    block_bytes: int
    """Memory a block takes."""
    max_batch: int
    """Most sequences that one `decode` takes."""

    def reserve(self, blocks: int) -> None:
        """Make room for the KV cache, `blocks` blocks; whatever was held is forgotten."""

    def prefill(self, tokens_T: Int32, start: int, table_N: Int32, logits: LogitsOf = "last") -> Float32 | None:
        """Read T tokens of one sequence, of which `start` are in the cache already, and keep their keys and values.

        Gives nothing, the logits [V] after the last token, or those after each token [T, V]; the array may be written
        again by the next call. `start + T` is at most the context.
        """

    def decode(self, tokens_B: Int32, positions_B: Int32, tables_BN: Int32) -> NextTokens:
        """One token more for each of B sequences, the one at position `positions_B`: the logits after it.

        Tables of unequal length are padded with zeros. The array may be written again by the next call.
        """

    def copy_block(self, source: int, target: int) -> None:
        """Copy all that block `source` holds into block `target`."""
