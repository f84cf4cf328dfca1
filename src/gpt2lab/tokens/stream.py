"""The tokens of one split of a folder of shards, memory-mapped, as one long sequence."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.shards import Split, TokensInfo, read_tokens_info

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class TokenStream:
    """All tokens of one split, memory-mapped, as one long sequence across its shards.

    Raises BadInput for a shard that is missing or whose length is not what `tokens.json` says.
    """

    def __init__(self, folder: Path, split: Split, info: TokensInfo | None = None) -> None:
        self.info = info or read_tokens_info(folder)
        maps: list[Ids] = []
        for shard in self.info.shards:
            if shard.split != split or not shard.tokens:
                continue
            path = folder / shard.file
            dtype = np.dtype(self.info.dtype).newbyteorder("<")
            size = path.stat().st_size if path.exists() else 0
            if size != shard.tokens * dtype.itemsize:
                raise BadInput(
                    f"{path}: has {size:,} bytes where tokens.json says {shard.tokens * dtype.itemsize:,}."
                    " Run gpt2lab tokenize again with another --out."
                )
            maps.append(np.memmap(path, dtype=dtype, mode="r"))
        self._maps = maps
        self._starts = np.cumsum([0, *(len(shard) for shard in maps)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Tokens `start` to `start + count` as int64 [count]."""
        pieces: list[npt.NDArray[np.int64]] = []
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while count > 0 and number < len(self._maps):
            inside = start - int(self._starts[number])
            piece = self._maps[number][inside : inside + count].astype(np.int64)
            pieces.append(piece)
            start, count, number = start + len(piece), count - len(piece), number + 1
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each id occurs: int64 [vocab_size]. Reads the whole split once."""
        total = np.zeros(self.info.vocab_size, np.int64)
        for shard in self._maps:
            total += np.bincount(shard, minlength=self.info.vocab_size)
        return total
