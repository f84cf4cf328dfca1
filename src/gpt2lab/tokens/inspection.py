"""What a folder of token shards holds: counts, lengths, the commonest ids; and what stands at a position."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2lab.base.errors import BadOption
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.shards import (
    SPLITS,
    SourceCounts,
    Split,
    check_same_tokenizer,
    read_shard_note,
    read_tokens_info,
)
from gpt2lab.tokens.stream import TokenStream

COMMONEST = 20
SHOWN_SOURCES = 20


@dataclass(frozen=True)
class SplitStatistics:
    """One split in figures; lengths of documents in tokens, `<|endoftext|>` not counted."""

    split: Split
    shards: int
    tokens: int
    documents: int
    text_bytes: int
    bytes_a_token: float | None
    """`<|endoftext|>` not counted; None without tokens"""
    median_document: float
    longest_document: int
    ids_that_occur: int
    commonest: tuple[tuple[int, str, int], ...]
    """(id, its text, how often)"""


@dataclass(frozen=True)
class TokensStatistics:
    """A folder of token shards in figures."""

    vocab_size: int
    dtype: str
    tokenizer_sha256: str
    held_out_share: float | None
    splits: tuple[SplitStatistics, ...]
    sources: dict[str, SourceCounts]


@dataclass(frozen=True)
class Place:
    """Some tokens of a split and where they are from."""

    split: Split
    position: int
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """the text of each id; bytes that are not UTF-8 by themselves as U+FFFD"""
    text: str
    shard: str
    position_in_shard: int
    document: str
    """the id of the document that the first of the tokens is in; empty where the shards came without ids"""
    document_start: int
    source: str


def inspect_tokens(folder: Path) -> TokensStatistics:
    """Count everything once. Raises BadInput for a shard that is cut short, or ids beyond the vocabulary."""
    info = read_tokens_info(folder)
    tokenizer = ByteLevelBPE.load(folder)
    check_same_tokenizer(info, tokenizer, folder)
    splits = []
    for split in SPLITS:
        stream = TokenStream(folder, split, info)
        counts = stream.counts()
        shards = [shard for shard in info.shards if shard.split == split and shard.tokens]
        text_bytes = sum(shard.text_bytes for shard in shards)
        text_tokens = len(stream) - int(counts[info.end_of_text])
        starts = stream.document_starts
        lengths = np.diff(starts, append=len(stream)) - 1
        commonest = np.argsort(-counts, kind="stable")[:COMMONEST].tolist()
        splits.append(
            SplitStatistics(
                split,
                len(shards),
                len(stream),
                len(starts),
                text_bytes,
                text_bytes / text_tokens if text_tokens else None,
                float(np.median(lengths)) if len(lengths) else 0.0,
                int(lengths.max(initial=0)),
                int((counts > 0).sum()),
                tuple((token, tokenizer.decode([token]), int(counts[token])) for token in commonest if counts[token]),
            )
        )
    return TokensStatistics(
        info.vocab_size, info.dtype, info.tokenizer_sha256, info.held_out_share, tuple(splits), info.sources
    )


def tokens_at(folder: Path, split: Split, position: int, count: int) -> Place:
    """The `count` tokens from `position` of a split on. Raises BadOption for a position that is not there."""
    info = read_tokens_info(folder)
    tokenizer = ByteLevelBPE.load(folder)
    check_same_tokenizer(info, tokenizer, folder)
    stream = TokenStream(folder, split, info)
    if not 0 <= position < len(stream):
        raise BadOption(f"--at {position}: the {split} tokens of {folder} are {len(stream):,}, counted from 0.")
    if count < 1:
        raise BadOption(f"--count {count}: must be at least 1.")
    ids = stream.read(position, count).tolist()
    inside = position
    shards = [shard for shard in info.shards if shard.split == split]
    for shard in shards:
        if inside < shard.tokens:
            break
        inside -= shard.tokens
    note = read_shard_note(folder, shard.file)
    number = bisect_right(note.document_offsets, inside) - 1
    return Place(
        split,
        position,
        tuple(ids),
        tuple(tokenizer.decode([token]) for token in ids),
        tokenizer.decode(ids),
        shard.file,
        inside,
        note.document_ids[number] if 0 <= number < len(note.document_ids) else "",
        position - inside + (note.document_offsets[number] if number >= 0 else 0),
        shard.source,
    )


def statistics_table(found: TokensStatistics) -> str:
    """The figures, to be read in a terminal."""
    lines = [
        f"{found.vocab_size:,} ids as {found.dtype}, tokenizer {found.tokenizer_sha256[:12]}",
        f"{'':22}" + "".join(f"{split.split:>16}" for split in found.splits),
    ]
    rows: tuple[tuple[str, Callable[[SplitStatistics], str]], ...] = (
        ("tokens", lambda split: f"{split.tokens:,}"),
        ("shards", lambda split: f"{split.shards:,}"),
        ("documents", lambda split: f"{split.documents:,}"),
        ("bytes of text", lambda split: f"{split.text_bytes:,}"),
        ("bytes a token", lambda split: "-" if split.bytes_a_token is None else f"{split.bytes_a_token:.3f}"),
        ("median document", lambda split: f"{split.median_document:,.0f}"),
        ("longest document", lambda split: f"{split.longest_document:,}"),
        ("ids that occur", lambda split: f"{split.ids_that_occur:,}"),
    )
    lines += [f"{name:22}" + "".join(f"{show(split):>16}" for split in found.splits) for name, show in rows]
    commonest = [f"{text!r} {count / found.splits[0].tokens:.1%}" for _, text, count in found.splits[0].commonest[:8]]
    lines.append(f"commonest: {', '.join(commonest)}")
    if found.sources:
        lines.append(
            f"{'bytes a token':>14}{'tokens':>16}  source (the largest {min(SHOWN_SOURCES, len(found.sources))})"
        )
    for name, counts in list(found.sources.items())[:SHOWN_SOURCES]:
        lines.append(f"{counts.bytes_a_token:14.3f}{counts.tokens:16,}  {name}")
    return "\n".join(lines)


def told_place(place: Place) -> str:
    """A place, to be read in a terminal: where, the tokens one by one, the text."""
    document = f", document {place.document}" if place.document else ""
    inside = place.position - place.document_start
    return "\n".join(
        [
            f"{place.split} token {place.position:,} = {place.shard} token {place.position_in_shard:,};"
            f" token {inside:,} of its document{document}; from {place.source}",
            " ".join(f"{token}:{piece!r}" for token, piece in zip(place.ids, place.pieces, strict=True)),
            "",
            place.text,
        ]
    )
