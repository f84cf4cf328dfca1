"""The texts of a file of any size, streamed: Parquet and JSON lines a record each, plain text in pieces."""

import codecs
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput

LONGEST_LINE_BYTES = 1 << 28
ROWS_AT_ONCE = 256
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

Record = dict[str, Any]


def suffix_of(path: Path) -> str:
    """What a file's name says it holds, lower-cased, whatever it is compressed with: `.jsonl` of `a.jsonl.gz`."""
    name = Path(path.stem) if path.suffix.lower() in COMPRESSIONS else path
    return name.suffix.lower()


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as its name says. Raises BadInput when it can't be read to its end."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file." if not path.exists() else f"{path}: a folder, not a file.")
    compression = COMPRESSIONS.get(path.suffix.lower())
    try:
        if compression is None:
            with path.open("rb") as handle:
                yield handle
        else:
            with pyarrow.input_stream(str(path), compression=compression) as stream:
                yield cast(BinaryIO, io.BufferedReader(stream))
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BadInput(f"{path}: can't be read to its end ({reason}); fetch the file again.") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Line numbers, from 1, and objects. Raises BadInput at the first line that is not a JSON object."""
    with open_bytes(path) as handle:
        number = 0
        while line := handle.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            if not line.strip():
                continue
            if len(line) > LONGEST_LINE_BYTES:
                raise BadInput(f"{path}: line {number:,} is longer than {LONGEST_LINE_BYTES >> 20} MiB; split it.")
            try:
                record = json.loads(line.removeprefix(codecs.BOM_UTF8))
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise BadInput(f"{path}: line {number:,} is not a JSON object; give one object a line, with its text.")
            yield number, record


def read_parquet_records(path: Path, column: str = "text") -> Iterator[tuple[int, Record]]:
    """Row numbers, from 0, and rows: only `column`, where there is one. Raises BadInput for what is no Parquet file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            columns = [column] if column in names else None  # what else is there may be large
            number = 0
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                for record in batch.to_pylist():
                    yield number, record
                    number += 1
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file.") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path}: not a Parquet file ({str(error).splitlines()[0]}).") from None


def after_last_word(text: str) -> int:
    """Where the last line or word of `text` ends, its space included; 0 where there is no such place."""
    return max(text.rfind("\n"), text.rfind(" ")) + 1


def read_plain_pieces(
    path: Path, piece_bytes: int = 1 << 24, find_cut: Callable[[str], int] = after_last_word
) -> Iterator[str]:
    """A text file in pieces that end where a line or word does, or where `find_cut` says (0: nowhere yet); UTF-8.

    Raises BadInput for a binary file, or one in another encoding. A character that is cut at the very end is dropped.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    rest, read = "", 0
    with open_bytes(path) as handle:
        while data := handle.read(piece_bytes):
            rest += _decoded(path, decode.decode, data, read)
            read += len(data)
            if cut := find_cut(rest):
                yield rest[:cut]
                rest = rest[cut:]
            if len(rest) > LONGEST_LINE_BYTES:
                raise BadInput(
                    f"{path}: no space in {LONGEST_LINE_BYTES >> 20} MiB before byte {read:,}; break its lines."
                )
    if rest:
        yield rest


def _decoded(path: Path, decode: Callable[[bytes], str], data: bytes, before: int) -> str:
    if b"\0" in data:
        place = before + data.index(b"\0")
        raise BadInput(f"{path}: a zero byte at {place:,}: binary, not text; give text, JSON lines or Parquet.")
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 near byte {before + error.start:,}; convert it (iconv -t utf-8).") from None
