"""How the independent replication read its text: one random window in a few dozen documents joined together.

ConnorJL/GPT2, `inputs.py` and `datasets/openwebtext/create_tfrecords.py`. Documents below a minimum length are dropped;
those left are shuffled anew for each pass, `stitch` consecutive ones are joined by `<|endoftext|>`, and one window of
context_length + 1 tokens is taken from each such text; documents left over at the end of a pass are not read in it. So
most tokens of a pass are thrown away (`share_predicted` says how many are not), and documents are cut at both ends.

The window begins at a uniform r in [0, size - (context_length + 1)), as his: the last token of a text is never read.

What is not his, and can't be: he shuffled within a buffer of 1,000 * stitch documents, and read his files interleaved
in whatever order they came (`sloppy=True`); here a pass is one permutation of all documents, a function of the seed.
Where a text is too short for a window, which he assumes can't be (it can: two documents of 512 tokens for a context of
1,024, as in his "long" part), the documents that follow in the order are joined on until it is not. His "long-biased"
mixture drew each sequence by a coin of 0.3; here it is exactly 300 in each 1,000 (`mixture`).
"""

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.permutation import permuted_by_epoch, random_below
from gpt2lab.tokens.sequences import Batch, shifted
from gpt2lab.tokens.stream import TokenStream

STITCH, MINIMUM_LENGTH = 42, 25
"""Of all documents: 42 documents of 25 tokens, with what joins them, are longer than a context of 1,024."""
LONG_STITCH, LONG_MINIMUM_LENGTH = 2, 512
LONG_SHARE = 0.7
"""Share of the sequences that the long-biased mixture takes from the documents of at least 512 tokens."""


class ConnorWindows:
    """One window from each `stitch` documents of at least `minimum_length` tokens (`<|endoftext|>` not counted).

    Raises BadInput where all such documents together are too short for a window, or fewer than `stitch`.
    """

    def __init__(
        self,
        stream: TokenStream,
        context_length: int,
        stitch: int = STITCH,
        minimum_length: int = MINIMUM_LENGTH,
    ) -> None:
        starts = stream.document_starts
        sizes = np.diff(starts, append=len(stream))  # with the <|endoftext|> that begins each
        kept = sizes > minimum_length
        self._starts, self._sizes = starts[kept], sizes[kept]
        self.stream, self.context_length, self.stitch = stream, context_length, stitch
        if len(self._starts) < stitch or self._sizes.sum() - 1 < context_length + 2:
            raise BadInput(
                f"{stream.folder}: {len(self._starts):,} documents of at least {minimum_length} tokens,"
                f" {int(self._sizes.sum()):,} tokens together, are too few to join {stitch} and take a window of"
                f" {context_length + 1:,}. Use more text, a smaller context_length or another data.sampling."
            )

    @property
    def sequences(self) -> int:
        """Windows in one pass over the documents."""
        return len(self._starts) // self.stitch

    @property
    def share_predicted(self) -> float:
        """Tokens predicted in one pass, as a share of all tokens of the stream: 1 where none is thrown away."""
        return self.sequences * self.context_length / len(self.stream)

    def places(self, numbers: npt.NDArray[np.uint64], key: bytes) -> npt.NDArray[np.int64]:
        """Of each window, its first token within the joined documents, and the documents: int64 [n, 1 + documents]."""
        size, needed = len(self._starts), self.context_length + 2
        groups, epochs = numbers % np.uint64(self.sequences), numbers // np.uint64(self.sequences)
        width = self.stitch
        while True:
            order = groups[:, None] * np.uint64(self.stitch) + np.arange(width, dtype=np.uint64)
            documents = permuted_by_epoch(np.asarray(order % np.uint64(size), np.uint64), epochs, size, key)
            lengths = np.cumsum(self._sizes[documents], axis=1) - 1  # of the first 1, 2, ... documents joined
            if width == size or (lengths[:, -1] >= needed).all():
                break
            width = min(2 * width, size)
        joined = np.maximum(self.stitch, (lengths < needed).sum(axis=1) + 1)
        limits = lengths[np.arange(len(lengths)), joined - 1] - (self.context_length + 1)
        return np.column_stack([random_below(numbers, limits, key + b":window"), documents])

    def read(self, places: npt.NDArray[np.int64]) -> Batch:
        """The windows at `places`."""
        count = self.context_length + 1
        documents = places[:, 1:]
        begins, ends = places[:, :1] + 1, places[:, :1] + 1 + count  # the first <|endoftext|>, at 0, is not of the text
        sizes = self._sizes[documents]
        document_ends = np.cumsum(sizes, axis=1)
        document_begins = document_ends - sizes
        first = np.maximum(document_begins, begins)
        counts = np.minimum(document_ends, ends) - first
        read = counts > 0  # the documents that the window touches
        starts = self._starts[documents] + first - document_begins
        return shifted(self.stream.pieces(starts[read], counts[read]).reshape(-1, count))
