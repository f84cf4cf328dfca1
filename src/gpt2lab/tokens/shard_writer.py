"""Writes one token shard: ids to the `.bin` file, and what its note has to say of them."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
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
        self._tokens = self._text_bytes = self._documents = 0
        self._ids: list[str] = []
        self._offsets: list[npt.NDArray[np.int64]] = []
        self._sources: defaultdict[str, SourceCounts] = defaultdict(SourceCounts)

    def write(self, ids: npt.NDArray[np.unsignedinteger], starts: npt.NDArray[np.int64]) -> None:
        """Add ids; at `starts` among them documents begin."""
        self._handle.write(ids.data)
        self._sha256.update(ids.data)
        self._offsets.append(starts + self._tokens)
        self._tokens += len(ids)

    def count(self, document: str, source: str, text_bytes: int, tokens: int) -> None:
        """Note whose a document is and how large."""
        self.count_documents([document], source, 1, text_bytes, tokens)

    def count_documents(self, names: Sequence[str], source: str, documents: int, text_bytes: int, tokens: int) -> None:
        """Note how large some documents of one source are; `names` may be empty where they have none."""
        self._ids += names
        self._documents += documents
        self._text_bytes += text_bytes
        self._sources[source] = self._sources[source].plus(documents, text_bytes, tokens)

    def note(self, source: str, source_sha256: str) -> ShardNote:
        """What there is to say when all is written: `source` is the file that the documents came from."""
        shard = Shard(
            self.path.name,
            self.split,
            self._tokens,
            self._documents,
            self._text_bytes,
            self._sha256.hexdigest(),
            source,
            source_sha256,
        )
        offsets = np.concatenate(self._offsets).tolist() if self._offsets else []
        return ShardNote(shard, tuple(self._ids), tuple(offsets), largest_sources([self._sources]))
