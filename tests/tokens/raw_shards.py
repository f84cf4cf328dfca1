"""Folders of token shards made from ids, for tests that choose each token."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from gpt2lab.base.files import sha256_of, write_json
from gpt2lab.tokens.shards import FORMAT, Shard, Split, TokensInfo
from gpt2lab.tokens.stream import TokenStream

END_OF_TEXT = 0


def write_raw_shards(
    folder: Path, parts: list[list[int]], vocab_size: int = 1000, dtype: str = "uint16", split: Split = "train"
) -> TokensInfo:
    """One shard for each part; `END_OF_TEXT` begins a document."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, ids in enumerate(parts):
        path = folder / f"{split}_{number:05d}.bin"
        np.array(ids, np.dtype(dtype).newbyteorder("<")).tofile(path)
        shards.append(
            Shard(path.name, split, len(ids), ids.count(END_OF_TEXT), len(ids), sha256_of(path), "ids", "0" * 64)
        )
    info = TokensInfo(FORMAT, vocab_size, dtype, END_OF_TEXT, "0" * 64, 0.0, tuple(shards), {})
    write_json(folder / "tokens.json", asdict(info))
    return info


def raw_stream(folder: Path, parts: list[list[int]], **kwargs) -> TokenStream:
    """The stream of shards that hold these ids."""
    return TokenStream(folder, kwargs.get("split", "train"), write_raw_shards(folder, parts, **kwargs))
