"""Texts of one's own to go on training with: plain text, JSON lines, CSV, Parquet; or prompts with their completions.

| file | a document is |
|---|---|
| .txt, .md and whatever else is text | the file; where it holds `<|endoftext|>`, each part between them |
| .jsonl | a line's `text`, or its `prompt` and `completion` |
| .csv | a row's only column, or the one that is asked for; the first row names the columns |
| .parquet | a row's `text` |
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.documents import document_files
from gpt2lab.datasets.texts import (
    LONGEST_LINE_BYTES,
    read_json_lines,
    read_parquet_records,
    read_plain_pieces,
    suffix_of,
)

SUFFIXES = (".txt", ".md", ".jsonl", ".csv", ".parquet")
"""What is read of a folder; a file that is named may have any other name, if it is text."""
_SEPARATOR = "<|endoftext|>"  # what people put between documents for GPT-2's own code and its descendants


@dataclass(frozen=True)
class Example:
    """A document, or what is to follow a prompt."""

    text: str
    prompt: str | None = None


@dataclass(frozen=True)
class OwnTexts:
    """The examples of all files in their order; `empty` ones, which hold white space alone, are left out."""

    examples: tuple[Example, ...]
    files: tuple[Path, ...]
    empty: int

    @property
    def are_completions(self) -> bool:
        """Whether these are prompts and completions."""
        return self.examples[0].prompt is not None


def read_own_texts(places: Sequence[Path], column: str | None = None) -> OwnTexts:
    """Read files and folders of them; `column` names what holds the text in CSV, JSON lines and Parquet.

    Raises BadInput that names the file and the line of a row that can't be used, for files that are binary, not UTF-8
    or empty, and where documents and completions are mixed; BadOption for a CSV file of several columns without
    `column`.
    """
    if not places:
        raise BadOption("no text given: name a .txt, .jsonl, .csv or .parquet file, or a folder of them.")
    files = [file for place in places for file in document_files(place, SUFFIXES, below=True)]
    found: list[Example] = []
    empty = 0
    kinds: dict[bool, Path] = {}
    for file in files:
        before = len(found)
        for example in _read(file, column):
            if not example.text.strip():
                empty += 1
                continue
            found.append(example)
            kinds.setdefault(example.prompt is not None, file)
        if len(found) == before:
            raise BadInput(f"{file}: holds no text; leave it out.")
    if len(kinds) > 1:
        raise BadInput(f"{kinds[False]} holds documents and {kinds[True]} prompts with completions; train on one kind.")
    return OwnTexts(tuple(found), tuple(files), empty)


def _read(file: Path, column: str | None) -> Iterator[Example]:
    match suffix_of(file):
        case ".jsonl":
            return (_example(record, column, f"{file}: line {line:,}") for line, record in read_json_lines(file))
        case ".parquet":
            rows = read_parquet_records(file, column or "text")
            return (_example(record, column, f"{file}: row {row:,}") for row, record in rows)
        case ".csv":
            return _read_csv(file, column)
        case ".json":
            raise BadInput(f"{file}: one JSON value; give JSON lines (.jsonl), an object with its text on each line.")
        case _:
            parts = "".join(read_plain_pieces(file)).replace("\r\n", "\n").split(_SEPARATOR)
            return (Example(part if len(parts) == 1 else part.strip("\n")) for part in parts)


def _example(record: dict[str, Any], column: str | None, place: str) -> Example:
    if column is None and "prompt" in record and "completion" in record:
        prompt, completion = (_string(record, key, place) for key in ("prompt", "completion"))
        if not completion:
            raise BadInput(f"{place}: its completion is empty; mend or remove it.")
        return Example(completion, prompt)
    if (column or "text") not in record:
        wanted = repr(column) if column else "'text', nor 'prompt' and 'completion'"
        raise BadInput(f"{place}: has no {wanted} (it has {', '.join(record) or 'nothing'}); mend it or name --column.")
    return Example(_string(record, column or "text", place))


def _string(record: dict[str, Any], key: str, place: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise BadInput(f"{place}: its {key} is {type(value).__name__}, not a string; mend or remove it.")
    return value


def _read_csv(file: Path, column: str | None) -> Iterator[Example]:
    text = "".join(read_plain_pieces(file))
    csv.field_size_limit(LONGEST_LINE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(reader, [])
        if column is None and len(names) > 1:
            raise BadOption(
                f"{file}: has the columns {', '.join(names)}; say which holds the text: --column {names[-1]}."
            )
        if len(names) == 1 and set(names[0]) & {";", "\t"}:
            raise BadInput(f"{file}: its columns are not separated by commas; write it as CSV with commas.")
        if column is not None and column not in names:
            raise BadOption(f"{file}: has no column {column!r}; its first row names {', '.join(names)}.")
        place = names.index(column) if column is not None else 0
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise BadInput(
                    f"{file}: line {reader.line_num:,} has {len(row)} columns, the first row {len(names)}; put quotes"
                    " around a text that holds commas."
                )
            yield Example(row[place])
    except csv.Error as error:
        raise BadInput(f"{file}: line {reader.line_num:,} is no CSV ({error}); mend it.") from None
