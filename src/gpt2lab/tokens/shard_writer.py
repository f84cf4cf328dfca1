"""Writes one token shard: ids to the `.bin` file, and what its note has to say of them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from gpt2lab.tokens.shards import Shard, ShardNote, SourceCounts, Split, largest_sources


class ShardWriter:
    """Takes the ids of documents, each with its `<|endoftext|>` first, in the dtype that the shard has."""

    def __init__(self, path: Path, split: Split, handle: IO[bytes]) -> None:
        self.path, self.split = path, split
        self._handle = handle
        self._sha256 = hashlib.sha256()
        self._tokens = self._documents = 0
        self._ids: list[str] = []
        self._offsets: list[npt.NDArray[np.int64]] = []
        self._sources: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    def write(self, ids: npt.NDArray[np.unsignedinteger], starts: npt.NDArray[np.int64]) -> None:
        """Add ids; at `starts` among them documents begin."""
        self._handle.write(ids.data)
        self._sha256.update(ids.data)
        self._offsets.append(starts + self._tokens)
        self._tokens += len(ids)

    def count(
        self,
        documents: Sequence[str],
        sources: Iterable[str],
        text_bytes: Iterable[int],
        tokens: Iterable[int],
    ) -> None:
        """Note whose each document is and how large."""
        self._ids += documents
        self._documents += len(documents)
        for source, size, count in zip(sources, text_bytes, tokens, strict=True):
            counts = self._sources[source]
            counts[0] += 1
            counts[1] += size
            counts[2] += count

    def count_many(self, names: Sequence[str], documents: int, source: str, text_bytes: int, tokens: int) -> None:
        """Note how large some documents of one source are, in sum; `names` is empty where they have no ids."""
        self._ids += names
        self._documents += documents
        counts = self._sources[source]
        counts[:] = counts[0] + documents, counts[1] + text_bytes, counts[2] + tokens

    def note(self, source: str, source_sha256: str) -> ShardNote:
        """What there is to say when all is written: `source` is the file that the documents came from."""
        sources = {name: SourceCounts(*counts) for name, counts in self._sources.items()}
        shard = Shard(
            self.path.name,
            self.split,
            self._tokens,
            self._documents,
            sum(counts.text_bytes for counts in sources.values()),
            self._sha256.hexdigest(),
            source,
            source_sha256,
        )
        offsets = np.concatenate(self._offsets).tolist() if self._offsets else []
        return ShardNote(shard, tuple(self._ids), tuple(offsets), largest_sources([sources]))
