"""Token shards on disk: raw little-endian ids (nanoGPT's layout) with a JSON file that says what they are.

tokens/
  train_00000.bin ...   uint16 up to 65,536 ids, else uint32; each document starts with <|endoftext|>
  val_00000.bin ...     the held-out documents, chosen by the hash of their text
  tokens.json           counts, bytes of text, SHA-256 of each shard, tokenizer
  merges.txt ...        the tokenizer
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import locked_folder, read_json, sha256_of, whole_file, write_json
from gpt2lab.base.progress import progress_bar, say
from gpt2lab.datasets.documents import document_files, read_documents
from gpt2lab.tokens.bpe import ByteLevelBPE

Split = Literal["train", "val"]
DOCUMENTS_A_BATCH = 256
SHORTEST_TAIL = 1025
_HASH_RANGE = 2**64


def is_held_out(text: str, share: float) -> bool:
    """Whether a document belongs to the held-out `share`: decided by its text alone, so the same in every build."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * _HASH_RANGE


@dataclass(frozen=True)
class Shard:
    """One `.bin` file: its ids, documents, and the bytes of text they stand for."""

    file: str
    split: Split
    tokens: int
    documents: int
    text_bytes: int
    sha256: str


@dataclass(frozen=True)
class TokensInfo:
    """What `tokens.json` says of a folder of shards."""

    vocab_size: int
    dtype: str
    end_of_text: int
    tokenizer_sha256: str
    held_out_share: float
    shards: tuple[Shard, ...]

    def total(self, split: Split) -> int:
        """Tokens in a split."""
        return sum(shard.tokens for shard in self.shards if shard.split == split)


def write_shards(documents: Path, out: Path, tokenizer: ByteLevelBPE, held_out_share: float) -> TokensInfo:
    """Encode a folder of documents into `out`, one pair of shards (train, val) for each documents file.

    A shard whose `.json` note is there is kept when the same command is run again. Raises BadInput for a folder
    without documents, or when `out` holds the shards of another tokenizer or split.
    """
    if not 0 <= held_out_share < 1:
        raise BadOption(f"--held-out-share {held_out_share}: must be at least 0 and below 1.")
    with locked_folder(out):
        return _write_shards(documents, out, tokenizer, held_out_share)


def _write_shards(documents: Path, out: Path, tokenizer: ByteLevelBPE, held_out_share: float) -> TokensInfo:
    sources = document_files(documents)
    dtype = np.dtype("<u2") if tokenizer.vocab_size <= 2**16 else np.dtype("<u4")
    shards: list[Shard] = []
    with progress_bar("tokenize", unit="documents") as bar:
        for number, source in enumerate(sources):
            note = out / f"shard_{number:05d}.json"
            identity = {
                "source": source.name,
                "source_sha256": sha256_of(source),
                "tokenizer_sha256": tokenizer.sha256,
                "held_out_share": held_out_share,
            }
            done = read_json(note) if note.exists() else None
            if done is not None and {key: done.get(key) for key in identity} != identity:
                raise BadInput(
                    f"{note}: these shards are of other documents, another tokenizer or another split."
                    " Choose another --out, or remove the folder."
                )
            if done is None:
                pair = _write_pair(source, out, number, tokenizer, dtype, held_out_share)
                done = identity | {"shards": [asdict(shard) for shard in pair]}
                write_json(note, done)
            shards.extend(Shard(**shard) for shard in done["shards"])
            bar.advance(sum(shard["documents"] for shard in done["shards"]))
    if not any(shard.tokens for shard in shards):
        raise BadInput(f"{documents}: the documents hold no text.")
    if held_out_share and {shard.split for shard in shards if shard.tokens} != {"train", "val"}:
        shards = _hold_out_tail(out, shards, held_out_share, dtype)
        say(f"{out}: too few documents to hold some out; the end of the last one is held out instead.")
    tokenizer.save(out)
    info = TokensInfo(
        tokenizer.vocab_size, dtype.name, tokenizer.end_of_text, tokenizer.sha256, held_out_share, tuple(shards)
    )
    write_json(out / "tokens.json", asdict(info))
    return info


def _hold_out_tail(out: Path, shards: list[Shard], share: float, dtype: np.dtype[np.unsignedinteger]) -> list[Shard]:
    """Divide the tokens of the largest documents file anew: the end is held out. A single book can't spare a document.

    At least one context of GPT-2 is held out, where that is not more than half.
    """
    number = max(range(0, len(shards), 2), key=lambda n: shards[n].tokens + shards[n + 1].tokens)
    train, val = shards[number], shards[number + 1]
    ids = np.concatenate([np.fromfile(out / train.file, dtype), np.fromfile(out / val.file, dtype)])
    count = min(max(int(sum(shard.tokens for shard in shards) * share), SHORTEST_TAIL), len(ids) // 2)
    parts = []
    for shard, part in ((train, ids[: len(ids) - count]), (val, ids[len(ids) - count :])):
        with whole_file(out / shard.file) as handle:
            handle.write(part.tobytes())
        text_bytes = round((train.text_bytes + val.text_bytes) * len(part) / len(ids))
        parts.append(replace(shard, tokens=len(part), text_bytes=text_bytes, sha256=sha256_of(out / shard.file)))
    note = out / f"shard_{number // 2:05d}.json"
    write_json(note, read_json(note) | {"shards": [asdict(shard) for shard in parts]})
    return [*shards[:number], *parts, *shards[number + 2 :]]


def _write_pair(
    source: Path, out: Path, number: int, tokenizer: ByteLevelBPE, dtype: np.dtype[np.unsignedinteger], share: float
) -> list[Shard]:
    """Write the train and val shards of one documents file."""
    paths: dict[Split, Path] = {split: out / f"{split}_{number:05d}.bin" for split in ("train", "val")}
    tokens: dict[Split, int] = {"train": 0, "val": 0}
    documents: dict[Split, int] = {"train": 0, "val": 0}
    text_bytes: dict[Split, int] = {"train": 0, "val": 0}
    with whole_file(paths["train"]) as train, whole_file(paths["val"]) as val:
        for texts in _batches(source):
            for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
                split: Split = "val" if is_held_out(text, share) else "train"
                handle = val if split == "val" else train
                handle.write(np.array([tokenizer.end_of_text, *ids], dtype=dtype).tobytes())
                tokens[split] += len(ids) + 1
                documents[split] += 1
                text_bytes[split] += len(text.encode("utf-8", "replace"))
    return [
        Shard(path.name, split, tokens[split], documents[split], text_bytes[split], sha256_of(path))
        for split, path in paths.items()
    ]


def _batches(source: Path) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in read_documents(source):
        batch.append(document.text)
        if len(batch) == DOCUMENTS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def read_tokens_info(folder: Path) -> TokensInfo:
    """Read `tokens.json`; raises BadInput where `folder` holds no finished shards."""
    if not (folder / "tokens.json").exists():
        raise BadInput(
            f"{folder}: no tokens.json here. Make token shards with: gpt2lab tokenize DOCUMENTS --out {folder}"
        )
    found = read_json(folder / "tokens.json")
    try:
        return TokensInfo(**(found | {"shards": tuple(Shard(**shard) for shard in found["shards"])}))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'tokens.json'}: not a tokens file of this version ({error}).") from None


def check_same_tokenizer(info: TokensInfo, tokenizer: ByteLevelBPE, where: Path) -> None:
    """Raise BadInput that names both hashes when the shards were made with another tokenizer."""
    if info.tokenizer_sha256 != tokenizer.sha256:
        raise BadInput(
            f"{where}: the shards were made with tokenizer {info.tokenizer_sha256[:12]}, not {tokenizer.sha256[:12]}."
        )
