"""The training side of an overlap, streamed in parts that can be read apart from each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.documents import check_documents, document_files, read_columns
from gpt2lab.datasets.texts import read_json_lines, read_plain_pieces, suffix_of
from gpt2lab.webtext.overlap.grams import WORDS_PER_GRAM, normalise

_SUFFIXES = (".parquet", ".jsonl", ".txt", ".md")


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
    return [part for place in inputs for file in document_files(place, _SUFFIXES, below=True) for part in _parts(file)]


def read_part(part: Part) -> Iterator[str]:
    """Its texts in order; an empty one where a Parquet row has none, so that rows keep their numbers."""
    match suffix_of(part.path):
        case ".parquet":
            return _parquet_texts(part)
        case ".jsonl" | ".json":
            return _json_texts(part.path)
        case _:
            return _plain_texts(part.path)


def _parts(file: Path) -> list[Part]:
    if suffix_of(file) != ".parquet":
        return [Part(file)]
    check_documents(file)
    table = pyarrow.parquet.read_metadata(file)
    rows = [table.row_group(group).num_rows for group in range(table.num_row_groups)]
    return [Part(file, (group,), sum(rows[:group])) for group in range(len(rows))]


def _parquet_texts(part: Part) -> Iterator[str]:
    for batch in read_columns(part.path, ["text"], part.row_groups):
        for text in batch.column(0).to_pylist():
            yield text or ""


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
