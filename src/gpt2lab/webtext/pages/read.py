"""Readers: WARC, WET, HTML, text, JSON lines and Parquet files become a stream of pages, whatever state they are in.

Bad input never stops a run: what can't be read comes out as an `Unreadable` with its reason, in its place.
"""

import codecs
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.crawl.crawl_folder import LOG_NAME
from gpt2lab.webtext.pages.page import (
    LARGEST_PAGE_BYTES,
    LARGEST_TEXT_BYTES,
    MIB,
    DamageError,
    Format,
    InputFile,
    Kind,
    Page,
    Unreadable,
    byte_order_mark,
    decode_page,
)
from gpt2lab.webtext.pages.warc import read_warc

LARGEST_EXPANSION = 250  # decompressed over compressed bytes, looked at once a file has given FREE_EXPANSION_BYTES
FREE_EXPANSION_BYTES = 1 << 30
PARQUET_ROWS_AT_ONCE = 64

FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
}


def input_files(inputs: Sequence[Path], except_under: Path | None = None) -> list[InputFile]:
    """All files under `inputs` (files, or folders walked in sorted order), except those under one folder.

    Names that start with a dot, and the logs that `fetch` leaves beside its pages, are passed over.
    `source_file` is the path relative to the input it was found in, or the whole path where two inputs would
    give the same name. Raises BadInput when an input is absent or no file is of a type we read.
    """
    found: dict[Path, str] = {}
    for given in inputs:
        if not given.exists():
            raise BadInput(f"{given}: no such file or folder.")
        for path in _walk(given) if given.is_dir() else [given]:
            if except_under and path.absolute().is_relative_to(except_under.absolute()):
                continue
            found.setdefault(path, path.relative_to(given).as_posix() if given.is_dir() else path.name)
    times = Counter(found.values())
    files = [
        InputFile(path, name if times[name] == 1 else path.as_posix(), _size(path), format_of(path))
        for path, name in found.items()
    ]
    if not any(file.format for file in files):
        where = ", ".join(map(str, inputs)) or "no input"
        raise BadInput(f"{where}: nothing to read here; give files of type {' '.join(FORMATS)} (.gz and .zst too).")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith(".") and name != LOG_NAME)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def format_of(path: Path) -> Format | None:
    """The format a file's name promises; None for other types and for what is no regular file (nor a broken link)."""
    if path.exists() and not path.is_file():
        return None
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compressed = bool(suffixes) and suffixes[-1] in (".gz", ".zst")
    if compressed:
        suffixes.pop()
    found = FORMATS.get(suffixes[-1]) if suffixes else None
    if compressed and (found == "parquet" or (found == "warc" and path.suffix.lower() == ".zst")):
        return None
    return found


def _type(path: Path) -> str:
    if path.exists() and not path.is_file():
        return "what is no regular file"
    suffix = "".join(path.suffixes[-2:] if path.suffix.lower() in (".gz", ".zst") else path.suffixes[-1:])
    return f"type {suffix}" if suffix else "a name without a type"


def read_pages(file: InputFile, text_column: str = "text") -> Iterator[Page | Unreadable]:
    """Everything in one file, in its order; never raises for what the file holds."""
    if file.format is None:
        yield Unreadable(file.source_file, 0, None, f"file: {_type(file.path)} is not read")
        return
    if file.size == 0 and file.path.exists():
        yield Unreadable(file.source_file, 0, None, "file: empty")
        return
    index = -1
    try:
        for item in _items(file, text_column):
            index = max(index, item.index)
            yield item
    except DamageError as damage:
        yield Unreadable(file.source_file, index + 1, None, f"file: {damage}")
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
        yield Unreadable(file.source_file, index + 1, None, f"file: can't be read ({reason})")


def _items(file: InputFile, text_column: str) -> Iterator[Page | Unreadable]:
    match file.format:
        case "warc":
            return read_warc(file)
        case "jsonl":
            return _read_jsonl(file, text_column)
        case "parquet":
            return _read_parquet(file, text_column)
        case _:
            return _read_whole(file, cast(Kind, file.format))


class _Decompressed(io.RawIOBase):
    """The bytes of a .gz or .zst file (pyarrow notices one cut short, zstandard does not); no "zip bombs"."""

    def __init__(self, file: InputFile) -> None:
        self._stream = pyarrow.input_stream(
            str(file.path), compression="gzip" if file.path.suffix.lower() == ".gz" else "zstd"
        )
        self._left = max(FREE_EXPANSION_BYTES, LARGEST_EXPANSION * file.size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise DamageError("cut short" if "Truncated" in str(error) else f"damaged ({error})") from None
        self._left -= len(data)
        if self._left < 0:
            raise DamageError(f"expands more than {LARGEST_EXPANSION} times when decompressed")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open(file: InputFile) -> BinaryIO:
    """The file's bytes, decompressed as its name says."""
    if file.path.suffix.lower() in (".gz", ".zst"):
        return io.BufferedReader(_Decompressed(file), 1 << 16)
    return file.path.open("rb")


def _read_whole(file: InputFile, kind: Kind) -> Iterator[Page | Unreadable]:
    largest = LARGEST_TEXT_BYTES if kind == "text" else LARGEST_PAGE_BYTES
    with _open(file) as handle:
        data = handle.read(largest + 1)
    if len(data) > largest:
        raise DamageError(f"larger than {largest // MIB} MiB")
    if kind == "html":
        content = decode_page(data)
        if content is None:
            raise DamageError("binary, not text")
    else:
        content = _decode_text_file(data)
    yield Page(file.source_file, 0, None, content, kind)


def _decode_text_file(data: bytes) -> str:
    encoding = byte_order_mark(data) or "utf-8"
    if encoding != "utf-16" and b"\0" in data:
        raise DamageError("binary, not text")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DamageError(f"not valid {encoding.removesuffix('-sig').upper()} at byte {error.start}") from None


def _read_jsonl(file: InputFile, text_column: str) -> Iterator[Page | Unreadable]:
    with _open(file) as handle:
        index = 0
        while line := _next_line(handle, index):
            if len(line) > LARGEST_TEXT_BYTES:
                while line and not line.endswith(b"\n"):
                    line = handle.readline(LARGEST_TEXT_BYTES)
                yield Unreadable(file.source_file, index, None, f"line: larger than {LARGEST_TEXT_BYTES // MIB} MiB")
            elif line.strip():
                yield _page_of_line(file.source_file, index, line, text_column)
            index += 1


def _next_line(handle: BinaryIO, index: int) -> bytes:
    try:
        return handle.readline(LARGEST_TEXT_BYTES + 1)
    except DamageError as damage:
        raise DamageError(f"{damage} at line {index + 1}") from None


def _page_of_line(source_file: str, index: int, line: bytes, text_column: str) -> Page | Unreadable:
    excerpt = line[:400].decode(errors="replace").strip()
    try:
        record = json.loads(line.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        return Unreadable(source_file, index, None, "line: not valid JSON", excerpt)
    text = record.get(text_column) if isinstance(record, dict) else None
    if not isinstance(text, str):
        return Unreadable(source_file, index, None, f"line: no text in column {text_column!r}", excerpt)
    url = record.get("url")
    return Page(source_file, index, url if isinstance(url, str) else None, text, "text")


def _read_parquet(file: InputFile, text_column: str) -> Iterator[Page | Unreadable]:
    with pyarrow.parquet.ParquetFile(file.path) as table:
        names = table.schema_arrow.names
        if text_column not in names:
            raise DamageError(f"no column {text_column!r} (it has {', '.join(names)})")
        columns = [text_column, "url"] if "url" in names else [text_column]
        index = 0
        for batch in table.iter_batches(PARQUET_ROWS_AT_ONCE, columns=columns):
            for row in batch.to_pylist():
                text, url = row[text_column], row.get("url")
                if isinstance(text, str):
                    yield Page(file.source_file, index, url if isinstance(url, str) else None, text, "text")
                else:
                    yield Unreadable(file.source_file, index, None, f"line: no text in column {text_column!r}")
                index += 1
