"""Token shards of other tools, in and out.

nanogpt   train.bin, val.bin: ids and nothing else, uint16 (karpathy/nanoGPT `data/openwebtext/prepare.py`)
llm.c     NAME_train_000001.bin: 256 int32, of which three count (20240520, 1, how many ids), then uint16 ids; where
          ids need uint32, 20240801 and 7 (karpathy/llm.c `dev/data/data_common.py`; modded-nanogpt reads the first)
hf        a folder for `datasets.load_dataset`: Parquet, a row a document, columns `id` and `input_ids`, the latter
          without <|endoftext|>

In nanoGPT's files `<|endoftext|>` stands behind each document, in llm.c's and in ours before it; on the way in the last
one of a raw file is put first, which makes the former the latter; files with llm.c's header are taken as they are. Of
Hugging Face's formats Parquet and the Arrow files that `save_to_disk` writes are read.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import locked_folder, sha256_of, whole_file
from gpt2lab.base.progress import progress_bar
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.shard_writer import ShardWriter
from gpt2lab.tokens.shards import (
    SPLITS,
    ShardNote,
    Split,
    TokensInfo,
    dtype_for,
    read_shard_note,
    read_tokens_info,
    shards_identity,
    write_shard_note,
    write_tokens_info,
)
from gpt2lab.tokens.stream import TokenStream

ForeignFormat = Literal["nanogpt", "llm.c", "hf"]
TOKENS_AT_ONCE = 1 << 24
LLM_C_SHARD = 10**8
"""Tokens a file, as llm.c's own scripts have it."""
_LLM_C_HEADER = 256
_LLM_C_KINDS: dict[np.dtype[np.unsignedinteger], tuple[int, int]] = {
    np.dtype("<u2"): (20240520, 1),
    np.dtype("<u4"): (20240801, 7),
}
_SUFFIXES = (".bin", ".parquet", ".arrow")
_ID_COLUMNS = ("input_ids", "ids", "tokens")
_VALIDATION = ("val", "valid", "validation", "test", "eval")
_Ids = npt.NDArray[np.unsignedinteger]


def export_shards(tokens: Path, out: Path, to: ForeignFormat) -> list[Path]:
    """Write the shards in another tool's format into the folder `out`; returns the files, whole or not there at all."""
    info = read_tokens_info(tokens)
    if to == "nanogpt" and info.dtype != "uint16":
        raise BadOption(f"{tokens}: nanoGPT reads 16-bit ids, these have {info.vocab_size:,} kinds; export --to llm.c.")
    if out.is_dir() and any(file.suffix in _SUFFIXES for file in out.iterdir()):
        raise BadOption(f"{out}: has token files already; choose another --out, or remove them.")
    files: list[Path] = []
    with (
        locked_folder(out),
        progress_bar("export", total=sum(shard.tokens for shard in info.shards), unit="tokens") as bar,
    ):
        for split in SPLITS:
            stream = TokenStream(tokens, split, info)
            if not len(stream):
                continue
            if to == "nanogpt":
                files.append(out / f"{split}.bin")
                with whole_file(files[-1]) as handle:
                    for ids in _pieces(stream, 0, len(stream)):
                        handle.write(ids.data)
                        bar.advance(len(ids))
            elif to == "llm.c":
                for number, start in enumerate(range(0, len(stream), LLM_C_SHARD), 1):
                    end = min(start + LLM_C_SHARD, len(stream))
                    files.append(out / f"{tokens.resolve().name}_{split}_{number:06d}.bin")
                    magic, version = _LLM_C_KINDS[dtype_for(info.vocab_size)]
                    header = np.zeros(_LLM_C_HEADER, "<i4")
                    header[:3] = magic, version, end - start
                    with whole_file(files[-1]) as handle:
                        handle.write(header.data)
                        for ids in _pieces(stream, start, end):
                            handle.write(ids.data)
                            bar.advance(len(ids))
            else:
                files += _export_documents(tokens, out, split, info, stream)
                bar.advance(len(stream))
    return files


def _pieces(stream: TokenStream, start: int, end: int) -> Iterator[_Ids]:
    for place in range(start, end, TOKENS_AT_ONCE):
        yield stream.pieces(np.array([place]), np.array([min(TOKENS_AT_ONCE, end - place)]))


def _export_documents(tokens: Path, out: Path, split: Split, info: TokensInfo, stream: TokenStream) -> list[Path]:
    """One Parquet file a shard, named as Hugging Face's hub names them."""
    shards = [shard for shard in info.shards if shard.split == split and shard.tokens]
    name = "train" if split == "train" else "validation"
    kind = pyarrow.uint16() if info.dtype == "uint16" else pyarrow.uint32()
    schema = pyarrow.schema([("id", pyarrow.string()), ("input_ids", pyarrow.list_(kind))])
    files = []
    shard_start = 0
    for number, shard in enumerate(shards):
        note = read_shard_note(tokens, shard.file)
        files.append(out / f"{name}-{number:05d}-of-{len(shards):05d}.parquet")
        bounds = np.array([*note.document_offsets, shard.tokens], np.int64)
        names = note.document_ids or [f"{shard.file}:{document}" for document in range(len(bounds) - 1)]
        with (
            whole_file(files[-1]) as handle,
            pyarrow.parquet.ParquetWriter(handle, schema, compression="zstd") as table,
        ):
            first = 0
            while first < len(bounds) - 1:
                last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + TOKENS_AT_ONCE, side="right")) - 1)
                ids = stream.pieces(bounds[first : first + 1] + shard_start, bounds[last : last + 1] - bounds[first])
                inside = ids != info.end_of_text
                offsets = np.concatenate([[0], np.cumsum(inside)])[bounds[first : last + 1] - bounds[first]]
                lists = pyarrow.ListArray.from_arrays(offsets.astype(np.int32), pyarrow.array(ids[inside], kind))
                table.write_table(pyarrow.table([pyarrow.array(names[first:last]), lists], schema=schema))
                first = last
        shard_start += shard.tokens
    return files


def import_shards(places: Sequence[Path], out: Path, tokenizer: ByteLevelBPE) -> TokensInfo:
    """Make token shards of other tools' files: one shard each, those named val, valid, test or eval held out.

    Whether a `.bin` is llm.c's shows in its header. Raises BadInput for a file that is cut short, of none of the
    formats, or with ids that `tokenizer` does not have.
    """
    if out.resolve() in {place.resolve() for place in places}:
        raise BadOption(f"{out}: is read and written; choose another --out.")
    files = [(file, _split_of(file, place)) for place in places for file in _files(place)]
    identity = shards_identity(tokenizer, None)
    dtype = dtype_for(tokenizer.vocab_size)
    counts: dict[Split, int] = {"train": 0, "val": 0}
    notes: list[ShardNote] = []
    lengths = np.array([len(token) for token in tokenizer.token_bytes], np.int32)
    with (
        locked_folder(out),
        progress_bar("import", total=sum(file.stat().st_size for file, _ in files), unit="bytes") as bar,
    ):
        if (out / "tokens.json").exists():
            raise BadOption(f"{out}: there are token shards already; choose another --out, or remove the folder.")
        for file, split in files:
            path = out / f"{split}_{counts[split]:05d}.bin"
            counts[split] += 1
            with whole_file(path) as handle:
                writer = ShardWriter(path, split, handle)
                for ids, names in _documents_first(file, tokenizer):
                    starts = np.flatnonzero(ids == tokenizer.end_of_text)
                    writer.write(ids.astype(dtype, copy=False), starts)
                    text_bytes = int(lengths[ids].sum(dtype=np.int64))
                    writer.count_many(names, len(starts), file.name, text_bytes, len(ids))
            notes.append(writer.note(file.name, sha256_of(file)))
            write_shard_note(out, notes[-1], identity)
            bar.advance(file.stat().st_size)
        if not any(note.shard.tokens for note in notes):
            raise BadInput(f"{places[0]}: no tokens here.")
        tokenizer.save(out)
        return write_tokens_info(out, identity, notes)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise BadInput(f"{place}: no such file or folder.")
    if (place / "tokens.json").exists():
        raise BadInput(f"{place}: these are gpt2lab's shards already.")
    files = sorted(path for path in place.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not files:
        raise BadInput(f"{place}: no token files here (*.bin, *.parquet, *.arrow).")
    return files


def _split_of(file: Path, place: Path) -> Split:
    """By the words in a file's name and its folders' below `place`."""
    inside = file.relative_to(place) if place.is_dir() else Path(file.name)
    words = "_".join(inside.with_suffix("").parts).lower().replace("-", "_").replace(".", "_").split("_")
    return "val" if any(word in _VALIDATION for word in words) else "train"


def _documents_first(file: Path, tokenizer: ByteLevelBPE) -> Iterator[tuple[_Ids, list[str]]]:
    """Ids in which `<|endoftext|>` begins each document, with the documents' ids where they have some."""
    if file.suffix == ".bin":
        for ids in _read_bin(file, tokenizer):
            _check_ids(file, ids, tokenizer)
            yield ids, []
        return
    end = np.array([tokenizer.end_of_text], np.uint32)
    for values, offsets, names in _read_lists(file):
        _check_ids(file, values, tokenizer)
        pieces: list[_Ids] = []
        for number in range(len(offsets) - 1):
            document = values[offsets[number] : offsets[number + 1]]
            inside = document[document != tokenizer.end_of_text]
            pieces += [end, inside.astype(np.uint32)]
        yield np.concatenate(pieces) if pieces else end[:0], names


def _check_ids(file: Path, ids: npt.NDArray[np.integer], tokenizer: ByteLevelBPE) -> None:
    if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
        strange = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise BadInput(
            f"{file}: id {strange:,} is not in the tokenizer's vocabulary of {tokenizer.vocab_size:,} ids; name the"
            " right --tokenizer (and leave out padding)."
        )


def _read_bin(file: Path, tokenizer: ByteLevelBPE) -> Iterator[_Ids]:
    """The ids of a raw file or one of llm.c's."""
    header = np.fromfile(file, "<i4", _LLM_C_HEADER)
    kinds = {magic: (version, dtype) for dtype, (magic, version) in _LLM_C_KINDS.items()}
    dtype: np.dtype[np.unsignedinteger] = dtype_for(tokenizer.vocab_size)
    skip, size = 0, file.stat().st_size
    first = header[0] if len(header) else 0
    if int(first) in kinds:
        version, dtype = kinds[int(first)]
        skip = header.nbytes
        if int(header[1]) != version:
            raise BadInput(f"{file}: version {header[1]} of llm.c's format; only {version} is known.")
        if (size - skip) != int(header[2]) * dtype.itemsize:
            raise BadInput(
                f"{file}: its header says {header[2]:,} ids, it has {(size - skip) / dtype.itemsize:,.1f}; cut short?"
            )
    elif int(np.int32(first).byteswap()) in kinds:
        raise BadInput(f"{file}: llm.c's format, but big-endian; write it anew on a little-endian machine.")
    elif size % dtype.itemsize:
        raise BadInput(f"{file}: {size:,} bytes are no whole number of {dtype.name} ids; cut short?")
    ids: _Ids = np.memmap(file, dtype, "r", skip) if size > skip else np.zeros(0, dtype)
    if not len(ids):
        return
    if not skip and ids[0] != tokenizer.end_of_text:  # llm.c's files may begin inside a document
        yield np.array([tokenizer.end_of_text], dtype)
        ids = ids[: -1 if ids[-1] == tokenizer.end_of_text else None]
    for start in range(0, len(ids), TOKENS_AT_ONCE):
        yield np.asarray(ids[start : start + TOKENS_AT_ONCE])


def _read_lists(file: Path) -> Iterator[tuple[npt.NDArray[np.integer], npt.NDArray[np.int64], list[str]]]:
    """Ids, where each row's begin, and the rows' own names, of a column of lists in Parquet or Arrow."""
    try:
        for batch in _record_batches(file):
            column = next((name for name in _ID_COLUMNS if name in batch.schema.names), None)
            kind = batch.schema.field(column).type if column else None
            if kind is None or not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)):
                hint = "; its texts go to `gpt2lab tokenize`" if "text" in batch.schema.names else ""
                raise BadInput(f"{file}: no column of lists of ids ({', '.join(_ID_COLUMNS)}){hint}.")
            lists = batch.column(column)
            if not pyarrow.types.is_integer(kind.value_type) or lists.null_count or lists.flatten().null_count:
                raise BadInput(f"{file}: column {column!r} must hold lists of whole numbers, none missing.")
            values = lists.flatten().to_numpy(zero_copy_only=False)
            offsets = np.cumsum([0, *lists.value_lengths().to_pylist()])
            names = [str(name) for name in batch.column("id").to_pylist()] if "id" in batch.schema.names else []
            yield values, offsets, names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise BadInput(f"{file}: damaged, or no file of its kind ({str(error).splitlines()[0]}).") from None


def _record_batches(file: Path) -> Iterable[pyarrow.RecordBatch]:
    if file.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(file) as table:
            yield from table.iter_batches(4096)
    else:
        with pyarrow.memory_map(str(file)) as source:
            yield from pyarrow.ipc.open_stream(source)
