"""The training side of an overlap, streamed in parts that can be read apart from each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.texts import read_json_lines, read_plain_pieces, suffix_of
from gpt2lab.webtext.overlap.grams import WORDS_PER_GRAM, normalise

_SUFFIXES = (".parquet", ".jsonl", ".txt", ".md")
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """Some row groups of a Parquet file, or all of another file; `first_row` is the number of its first text."""

    path: Path
    row_groups: tuple[int, ...] = ()
    first_row: int = 0


def training_parts(inputs: Sequence[Path]) -> list[Part]:
    """All there is to read under some files and folders (those of `build` too), in sorted order.

    Raises BadInput when one is absent, holds no texts, or is no Parquet file with a column `text`.
    """
    return [part for place in inputs for file in _files(place) for part in _parts(file)]


def read_part(part: Part) -> Iterator[str]:
    """Its texts in order; an empty one where a Parquet row has none, so that rows keep their numbers."""
    match suffix_of(part.path):
        case ".parquet":
            return _parquet_texts(part)
        case ".jsonl" | ".json":
            return _json_texts(part.path)
        case _:
            return _plain_texts(part.path)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.exists():
        raise BadInput(f"{place}: no such file or folder.")
    folder = place / "documents" if (place / "documents").is_dir() else place
    files = sorted(path for path in folder.rglob("*") if suffix_of(path) in _SUFFIXES and path.is_file())
    files = [path for path in files if not any(name.startswith(".") for name in path.relative_to(folder).parts)]
    if not files:
        raise BadInput(f"{place}: no documents here ({' '.join(_SUFFIXES)}); make them with `gpt2lab build`.")
    return files


def _parts(file: Path) -> list[Part]:
    if suffix_of(file) != ".parquet":
        return [Part(file)]
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names, groups = table.schema_arrow.names, table.num_row_groups
            rows = [table.metadata.row_group(group).num_rows for group in range(groups)]
            kind = table.schema_arrow.field("text").type if "text" in names else None
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{file}: not a Parquet file ({str(error).splitlines()[0]}).") from None
    if kind is None:
        raise BadInput(f"{file}: no column 'text' (it has {', '.join(names)}); run `gpt2lab build` on it first.")
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise BadInput(f"{file}: column 'text' holds {kind}, not text.")
    return [Part(file, (group,), sum(rows[:group])) for group in range(groups)]


def _parquet_texts(part: Part) -> Iterator[str]:
    try:
        with pyarrow.parquet.ParquetFile(part.path) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=list(part.row_groups), columns=["text"]):
                for text in batch.column(0).to_pylist():
                    yield text or ""
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{part.path}: damaged ({str(error).splitlines()[0]}); build it again.") from None


def _json_texts(path: Path) -> Iterator[str]:
    for number, record in read_json_lines(path):
        text = record.get("text")
        if not isinstance(text, str):
            raise BadInput(
                f"{path}: line {number:,} has no text in 'text' ({', '.join(record)}); name its column text."
            )
        yield text


def _plain_texts(path: Path) -> Iterator[str]:
    """The pieces of a text, each behind the last words of the one before, so that no gram is lost between them."""
    before = ""
    for piece in read_plain_pieces(path):
        text = before + piece
        yield text
        before = _last_words(text)


def _last_words(text: str) -> str:
    width = 256
    while True:
        words = normalise(text[-width:]).split()
        if width >= len(text):
            break
        if len(words) > WORDS_PER_GRAM:  # the first may be the end of a word
            words = words[1:]
            break
        width *= 4
    return " ".join([*words[1 - WORDS_PER_GRAM :], ""])
