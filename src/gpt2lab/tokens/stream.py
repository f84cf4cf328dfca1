"""The tokens of one split of a folder of shards, memory-mapped, as one long sequence."""

from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.shards import Split, TokensInfo, read_tokens_info

Ids = npt.NDArray[Any]
"""uint16 or uint32, as the folder has them."""
SCANNED_AT_ONCE = 2**22
"""Tokens; numpy counts ids as int64, and a shard may be larger than a fourth of the memory."""


class TokenStream:
    """All tokens of one split as one long sequence across its shards.

    Raises BadInput for a shard that is missing or whose length is not what `tokens.json` says, and, when it is read,
    for an id beyond the vocabulary.
    """

    def __init__(self, folder: Path, split: Split, info: TokensInfo | None = None) -> None:
        self.folder, self.split = folder, split
        self.info = info or read_tokens_info(folder)
        self._files: list[Path] = []
        self._shards: list[Ids] = []
        for shard in self.info.shards:
            if shard.split != split or not shard.tokens:
                continue
            path = folder / shard.file
            dtype = np.dtype(self.info.dtype).newbyteorder("<")
            size = path.stat().st_size if path.exists() else 0
            if size != shard.tokens * dtype.itemsize:
                raise BadInput(
                    f"{path}: has {size:,} bytes where tokens.json says {shard.tokens * dtype.itemsize:,}."
                    " Run the gpt2lab tokenize that made it again."
                )
            self._files.append(path)
            self._shards.append(np.asarray(np.memmap(path, dtype, "r")))  # a slice of a plain array costs a tenth
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Tokens `start` to `start + count` as int64 [count]; fewer where the stream ends before."""
        count = min(count, len(self) - start)
        if count <= 0:
            return np.empty(0, np.int64)
        return self.pieces(np.array([start]), np.array([count])).astype(np.int64)

    def pieces(self, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Ids:
        """Pieces of the stream, one after the other, as they lie on disk: [sum of `counts`].

        There is at least one piece, and every piece lies within the stream.
        """
        shards = np.searchsorted(self._starts, starts, side="right") - 1
        inside = starts - self._starts[shards]
        found: list[Ids] = []
        # Joined at once: copying one by one takes a fifth longer, and indexing by an array needs a pass a shard.
        for number, place, count in zip(shards.tolist(), inside.tolist(), counts.tolist(), strict=True):
            piece = self._shards[number][place : place + count]
            found.append(piece)
            while len(piece) < count:
                number, count = number + 1, count - len(piece)
                piece = self._shards[number][:count]
                found.append(piece)
        ids: Ids = np.concatenate(found)
        if ids.max(initial=0) >= self.info.vocab_size:
            self._refuse(ids, starts, counts)
        return ids

    def _refuse(self, ids: Ids, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> NoReturn:
        """Raise BadInput that names the file and the place of the first id that is beyond the vocabulary."""
        at = int(np.argmax(ids >= self.info.vocab_size))
        piece = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        position = int(starts[piece]) + at - int(counts[:piece].sum())
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        raise BadInput(
            f"{self._files[number]}: token {position - int(self._starts[number]):,} is {ids[at]:,}, beyond the"
            f" vocabulary of {self.info.vocab_size:,}. The file is damaged, or tokens.json is another's: run"
            " gpt2lab tokenize again with another --out."
        )

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each id occurs: int64 [vocab_size]. Reads the whole split once."""
        total = np.zeros(self.info.vocab_size, np.int64)
        for start in range(0, len(self), SCANNED_AT_ONCE):
            total += np.bincount(self.read(start, SCANNED_AT_ONCE), minlength=self.info.vocab_size)
        return total

    @cached_property
    def document_starts(self) -> npt.NDArray[np.int64]:
        """Where each document's `<|endoftext|>` stands, rising: int64 [documents]. Reads the whole split once.

        Tokens before the first one belong to no document here.
        """
        found = [
            np.flatnonzero(shard[place : place + SCANNED_AT_ONCE] == self.info.end_of_text) + (start + place)
            for shard, start in zip(self._shards, self._starts.tolist(), strict=False)
            for place in range(0, len(shard), SCANNED_AT_ONCE)
        ]
        return np.concatenate([np.zeros(0, np.int64), *found])
