"""Documents to token shards: some are encoded on all cores while the next ones are read and the last ones written."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import locked_folder, read_json, sha256_of, whole_file
from gpt2lab.base.progress import Bar, progress_bar, say
from gpt2lab.datasets.documents import check_documents, document_files
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.bulk import BulkEncoder, JoinedTexts
from gpt2lab.tokens.document_batches import Batch, read_batches
from gpt2lab.tokens.shard_writer import ShardWriter
from gpt2lab.tokens.shards import (
    SPLITS,
    ShardNote,
    TokensInfo,
    check_held_out_share,
    largest_sources,
    parse_shard_note,
    read_tokens_info,
    shards_identity,
    write_shard_note,
    write_tokens_info,
)

SHORTEST_TAIL = 1025
Item = TypeVar("Item")


def write_shards(
    documents: Path,
    out: Path,
    tokenizer: ByteLevelBPE,
    held_out_share: float,
    encoder: BulkEncoder | None = None,
) -> TokensInfo:
    """Encode a folder of documents into `out`, one pair of shards (train, val) for each documents file.

    An `encoder` of this tokenizer that has met words before is fast at once. Shards whose notes are there are kept when
    the same command is run again. Raises BadInput for a folder without documents, or when `out` holds the shards of
    other documents, another tokenizer or split.
    """
    check_held_out_share(held_out_share)
    files = document_files(documents)
    for file in files:
        check_documents(file)
    with locked_folder(out):
        return _write_shards(documents, files, out, tokenizer, held_out_share, encoder or BulkEncoder(tokenizer))


def _write_shards(
    documents: Path,
    files: Sequence[Path],
    out: Path,
    tokenizer: ByteLevelBPE,
    held_out_share: float,
    encoder: BulkEncoder,
) -> TokensInfo:
    identity = shards_identity(tokenizer, held_out_share)
    _check_same_shards(out, files, identity)
    pairs = {number: _finished_pair(out, number, file, identity) for number, file in enumerate(files)}
    missing = [(number, files[number]) for number, pair in pairs.items() if pair is None]
    total = sum(file.stat().st_size for file in files)
    if missing:
        (out / "tokens.json").unlink(missing_ok=True)  # it would speak of shards that are made anew
    with progress_bar("tokenize", total=total, unit="bytes") as bar:
        bar.skip(total - sum(file.stat().st_size for _, file in missing))
        encoded = _ahead(_encoded(_ahead(_all_batches(missing, held_out_share)), encoder))
        for number, of_file in groupby(encoded, key=lambda one: one.number):
            pairs[number] = _write_pair(out, number, files[number], of_file, identity, bar)
    notes = [note for pair in pairs.values() for note in pair or ()]
    if not any(note.shard.text_bytes for note in notes):
        raise BadInput(f"{documents}: the documents hold no text.")
    if held_out_share and {note.shard.split for note in notes if note.shard.tokens} != set(SPLITS):
        notes = _hold_out_tail(out, notes, identity)
        say(f"{out}: too few documents to hold some out; the end of the last one is held out instead.")
    tokenizer.save(out)
    return write_tokens_info(out, identity, notes)


def _check_same_shards(out: Path, files: Sequence[Path], identity: dict[str, Any]) -> None:
    """Raise BadInput when `out` is a finished folder of other shards, which would be overwritten."""
    if not (out / "tokens.json").exists():
        return
    before = read_tokens_info(out)
    others = {shard.source for shard in before.shards} - {file.name for file in files}
    if before.tokenizer_sha256 != identity["tokenizer_sha256"]:
        raise BadInput(_other_tokenizer(out, before.tokenizer_sha256, identity["tokenizer_sha256"]))
    if others or before.held_out_share != identity["held_out_share"]:
        raise BadInput(f"{out}: holds shards of other documents or another split. Choose another --out.")


def _other_tokenizer(place: Path, theirs: str, ours: str) -> str:
    return (
        f"{place}: these shards were made with another tokenizer ({theirs[:12]}, not {ours[:12]}). Choose another"
        " --out, or remove the folder."
    )


def _pair_paths(out: Path, number: int) -> list[Path]:
    return [out / f"{split}_{number:05d}.bin" for split in SPLITS]


def _finished_pair(out: Path, number: int, file: Path, identity: dict[str, Any]) -> list[ShardNote] | None:
    """The notes of the two shards of a documents file, when all is there; raises BadInput when they are of others."""
    paths = _pair_paths(out, number)
    notes = [path.with_suffix(".json") for path in paths]
    if not all(note.exists() for note in notes):
        return None
    source = {"source": file.name, "source_sha256": sha256_of(file)}
    found = []
    for note in notes:
        values = read_json(note)
        try:
            there = {key: values[key] for key in identity}
            shard = parse_shard_note(values)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{note}: not a note of a token shard ({error}); remove the folder.") from None
        if there["tokenizer_sha256"] != identity["tokenizer_sha256"]:
            raise BadInput(_other_tokenizer(note, there["tokenizer_sha256"], identity["tokenizer_sha256"]))
        if there != identity or {key: getattr(shard.shard, key) for key in source} != source:
            raise BadInput(
                f"{note}: these shards are of other documents or another split. Choose another --out, or remove the"
                " folder."
            )
        found.append(shard)
    width = np.dtype(identity["dtype"]).itemsize
    whole = (_size(path) == note.shard.tokens * width for path, note in zip(paths, found, strict=True))
    return found if all(whole) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


@dataclass(frozen=True)
class _Encoded:
    """Some documents of one file, and their ids: uint32 [N], each document's from one of `starts` to the next."""

    number: int
    batch: Batch
    ids: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]


def _write_pair(
    out: Path, number: int, file: Path, batches: Iterable[_Encoded], identity: dict[str, Any], bar: Bar
) -> list[ShardNote]:
    """Write the two shards of one documents file."""
    dtype = np.dtype(identity["dtype"]).newbyteorder("<")
    paths = _pair_paths(out, number)
    bytes_a_row = file.stat().st_size / max(1, pyarrow.parquet.read_metadata(file).num_rows)
    with whole_file(paths[0]) as train, whole_file(paths[1]) as val:
        writers = [
            ShardWriter(path, split, handle) for path, split, handle in zip(paths, SPLITS, (train, val), strict=True)
        ]
        for encoded in batches:
            _write_batch(writers, encoded, identity["end_of_text"], dtype)
            bar.advance(bytes_a_row * encoded.batch.rows)
    source_sha256 = sha256_of(file)
    pair = [writer.note(file.name, source_sha256) for writer in writers]
    for note in pair:
        write_shard_note(out, note, identity)
    return pair


def _encoded(batches: Iterable[tuple[int, Batch]], encoder: BulkEncoder) -> Iterator[_Encoded]:
    for number, batch in batches:
        yield _Encoded(number, batch, *encoder.encode(batch.texts))


def _all_batches(files: Iterable[tuple[int, Path]], share: float) -> Iterator[tuple[int, Batch]]:
    """The documents of all files, each batch with its file's number; one without any for a file without any."""
    for number, file in files:
        batch = None
        for batch in read_batches(file, share):
            yield number, batch
        if batch is None:
            yield number, Batch([], JoinedTexts.of([]), [], [], 0)


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, made in a thread of their own, one before it is asked for; the first one at once."""
    pool = ThreadPoolExecutor(1)
    end: Any = object()
    coming = pool.submit(next, items, end)

    def in_order(coming: "Future[Item]") -> Iterator[Item]:
        with pool:
            while (item := coming.result()) is not end:
                coming = pool.submit(next, items, end)
                yield item

    return in_order(coming)


def _write_batch(
    writers: Sequence[ShardWriter], encoded: _Encoded, end_of_text: int, dtype: np.dtype[np.unsignedinteger]
) -> None:
    """Write each document, `<|endoftext|>` before it, to the shard of its split."""
    batch, ids = encoded.batch, encoded.ids
    end = np.array([end_of_text], dtype)
    bounds = encoded.starts.tolist()
    sizes = np.diff(batch.texts.starts).tolist()
    for split, writer in enumerate(writers):
        chosen = [number for number, held_out in enumerate(batch.held_out) if held_out == split]
        if not chosen:
            continue
        pieces = [piece for number in chosen for piece in (end, ids[bounds[number] : bounds[number + 1]])]
        tokens = [bounds[number + 1] - bounds[number] + 1 for number in chosen]
        writer.write(np.concatenate(pieces, dtype=dtype, casting="unsafe"), np.cumsum([0, *tokens[:-1]]))
        writer.count(
            [batch.ids[number] for number in chosen],
            (batch.sources[number] for number in chosen),
            (sizes[number] for number in chosen),
            tokens,
        )


def _hold_out_tail(out: Path, notes: list[ShardNote], identity: dict[str, Any]) -> list[ShardNote]:
    """Divide the tokens of the largest documents file anew: the end is held out. A single book can't spare a document.

    At least one context of GPT-2 is held out, where that is not more than half. The document that is cut is in both
    shards, its second part without `<|endoftext|>`.
    """
    number = max(range(0, len(notes), 2), key=lambda n: notes[n].shard.tokens + notes[n + 1].shard.tokens)
    pair = notes[number : number + 2]
    dtype = np.dtype(identity["dtype"]).newbyteorder("<")
    ids = np.concatenate([np.fromfile(out / note.shard.file, dtype) for note in pair])
    total = sum(note.shard.tokens for note in notes)
    cut = len(ids) - min(max(int(total * identity["held_out_share"]), SHORTEST_TAIL), len(ids) // 2)
    documents = list(zip(pair[0].document_ids, pair[0].document_offsets, strict=True))
    later = [offset + pair[0].shard.tokens for offset in pair[1].document_offsets]
    documents += zip(pair[1].document_ids, later, strict=True)
    before = [document for document in documents if document[1] < cut]
    after = documents[len(before) :]
    if not after or after[0][1] > cut:
        after = [(before[-1][0], cut), *after]
    text_bytes = sum(note.shard.text_bytes for note in pair)
    train_bytes = round(text_bytes * cut / len(ids))
    sources = largest_sources(note.sources for note in pair)
    for note in pair:  # killed from here on, the next run makes both anew
        (out / note.shard.file).with_suffix(".json").unlink()
    found = []
    for note, (start, end), inside, size in (
        (pair[0], (0, cut), before, train_bytes),
        (pair[1], (cut, len(ids)), after, text_bytes - train_bytes),
    ):
        path = out / note.shard.file
        with whole_file(path) as handle:
            handle.write(ids[start:end].data)
        shard = replace(note.shard, tokens=end - start, documents=len(inside), text_bytes=size, sha256=sha256_of(path))
        names, offsets = tuple(name for name, _ in inside), tuple(offset - start for _, offset in inside)
        # Which part of a source is held out is not worked out: the training shard keeps the counts of both.
        found.append(ShardNote(shard, names, offsets, sources if note is pair[0] else {}))
        write_shard_note(out, found[-1], identity)
    return [*notes[:number], *found, *notes[number + 2 :]]
