"""Token shards on disk: raw little-endian ids (nanoGPT's layout), each with a JSON file beside it.

tokens/
  train_00000.bin   ids and nothing else: uint16 up to 65,536 of them, else uint32, least significant byte first;
                    each document begins with <|endoftext|>
  train_00000.json  what the ids are: how many, their SHA-256, tokenizer, documents file, and each document's place
  val_00000.*       the held-out documents of the same documents file, chosen by the hash of their text
  tokens.json       all shards, without their documents
  merges.txt ...    the tokenizer
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, write_json
from gpt2lab.tokens.bpe import ByteLevelBPE

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
FORMAT = "gpt2lab-tokens-1"
SOURCES_KEPT = 1000
OTHER_SOURCES = "(others)"
_HASH_RANGE = 2**64


def check_held_out_share(share: float) -> None:
    """Raise BadOption for a share that can't be held out."""
    if not 0 <= share < 1:
        raise BadOption(f"--held-out-share {share}: must be at least 0 and below 1.")


def is_held_out(text: str, share: float) -> bool:
    """Whether a document belongs to the held-out `share`: decided by its text alone, so the same in every build."""
    return is_held_out_bytes(text.encode("utf-8", "surrogatepass"), share)


def is_held_out_bytes(text: bytes | memoryview, share: float) -> bool:
    """The same of a text in UTF-8."""
    return xxhash.xxh3_64_intdigest(text) < share * _HASH_RANGE


def dtype_for(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """How ids of a vocabulary are stored."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


@dataclass(frozen=True)
class Shard:
    """One `.bin` file: its ids, documents, and the bytes of text they stand for."""

    file: str
    split: Split
    tokens: int
    documents: int
    text_bytes: int
    sha256: str
    source: str
    """the documents file that it was made of"""
    source_sha256: str


@dataclass(frozen=True)
class SourceCounts:
    """What came of the documents of one source: a domain, or what a column `source` says."""

    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0

    @property
    def bytes_a_token(self) -> float:
        """`<|endoftext|>` not counted."""
        return self.text_bytes / max(1, self.tokens - self.documents)

    def plus(self, documents: int, text_bytes: int, tokens: int) -> "SourceCounts":
        """With so many more."""
        return SourceCounts(self.documents + documents, self.text_bytes + text_bytes, self.tokens + tokens)


@dataclass(frozen=True)
class ShardNote:
    """What the JSON file beside a shard says of it: the documents with the places of their `<|endoftext|>`."""

    shard: Shard
    document_ids: tuple[str, ...]
    document_offsets: tuple[int, ...]
    sources: dict[str, SourceCounts]


@dataclass(frozen=True)
class TokensInfo:
    """What `tokens.json` says of a folder of shards."""

    format: str
    vocab_size: int
    dtype: str
    end_of_text: int
    tokenizer_sha256: str
    held_out_share: float | None
    """of the documents; None for shards that came from elsewhere, split"""
    shards: tuple[Shard, ...]
    sources: dict[str, SourceCounts]
    """the largest ones, by name"""

    def total(self, split: Split) -> int:
        """Tokens in a split."""
        return sum(shard.tokens for shard in self.shards if shard.split == split)


def read_tokens_info(folder: Path) -> TokensInfo:
    """Read `tokens.json`; raises BadInput where `folder` holds no finished shards."""
    path = folder / "tokens.json"
    if not path.exists():
        raise BadInput(
            f"{folder}: no tokens.json here. Make token shards with: gpt2lab tokenize DOCUMENTS --out {folder}"
        )
    found = read_json(path)
    try:
        if found["format"] != FORMAT:
            raise KeyError(f"format {found['format']!r}")
        shards = tuple(Shard(**shard) for shard in found["shards"])
        return TokensInfo(**(found | {"shards": shards, "sources": _sources(found["sources"])}))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: not a tokens file of this version ({error}). Run gpt2lab tokenize again with another --out."
        ) from None


def read_shard_note(folder: Path, file: str) -> ShardNote:
    """Read the JSON beside a shard; raises BadInput where it is missing or not one."""
    path = (folder / file).with_suffix(".json")
    if not path.exists():
        raise BadInput(f"{path}: missing; run the gpt2lab tokenize that made the folder again.")
    try:
        return parse_shard_note(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a note of a token shard ({error}).") from None


def parse_shard_note(found: dict[str, Any]) -> ShardNote:
    """A note from its JSON values; raises KeyError or TypeError for what is none."""
    return ShardNote(
        Shard(**found["shard"]),
        tuple(found["document_ids"]),
        tuple(found["document_offsets"]),
        _sources(found["sources"]),
    )


def _sources(found: dict[str, Any]) -> dict[str, SourceCounts]:
    return {name: SourceCounts(**counts) for name, counts in found.items()}


def shards_identity(tokenizer: ByteLevelBPE, held_out_share: float | None) -> dict[str, Any]:
    """What all shards of a folder have in common."""
    return {
        "format": FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "dtype": dtype_for(tokenizer.vocab_size).name,
        "end_of_text": tokenizer.end_of_text,
        "tokenizer_sha256": tokenizer.sha256,
        "held_out_share": held_out_share,
    }


def write_shard_note(folder: Path, note: ShardNote, identity: dict[str, Any]) -> None:
    """Write the JSON beside a shard."""
    values = {
        "shard": asdict(note.shard),
        "sources": {name: asdict(counts) for name, counts in note.sources.items()},
        "document_ids": note.document_ids,
        "document_offsets": note.document_offsets,
    }
    write_json((folder / note.shard.file).with_suffix(".json"), identity | values, indent=None)


def write_tokens_info(folder: Path, identity: dict[str, Any], notes: Sequence[ShardNote]) -> TokensInfo:
    """Write `tokens.json`, the last of all files: with it the folder is finished."""
    sources = largest_sources(note.sources for note in notes)
    info = TokensInfo(**identity, shards=tuple(note.shard for note in notes), sources=sources)
    write_json(folder / "tokens.json", asdict(info))
    return info


def largest_sources(counts: Iterable[dict[str, SourceCounts]]) -> dict[str, SourceCounts]:
    """The sources with most bytes of text, most first; the rest in one sum."""
    total: defaultdict[str, SourceCounts] = defaultdict(SourceCounts)
    for one in counts:
        for name, found in one.items():
            total[name] = total[name].plus(found.documents, found.text_bytes, found.tokens)
    rest = total.pop(OTHER_SOURCES, SourceCounts())
    ranked = sorted(total.items(), key=lambda item: (-item[1].text_bytes, item[0]))
    for _, found in ranked[SOURCES_KEPT:]:
        rest = rest.plus(found.documents, found.text_bytes, found.tokens)
    return dict(ranked[:SOURCES_KEPT]) | ({OTHER_SOURCES: rest} if rest.documents else {})


def check_same_tokenizer(info: TokensInfo, tokenizer: ByteLevelBPE, where: Path) -> None:
    """Raise BadInput that names both hashes when the shards were made with another tokenizer."""
    if info.tokenizer_sha256 != tokenizer.sha256:
        raise BadInput(
            f"{where}: the shards were made with tokenizer {info.tokenizer_sha256[:12]}, not {tokenizer.sha256[:12]}."
        )
