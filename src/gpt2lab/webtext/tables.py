"""The Parquet tables of a build: what columns they have, how rows are written and read in bounded memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

ROWS_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 1 << 24

_TEXT = pyarrow.string()
_ORIGIN = [
    ("url", _TEXT),
    ("source_file", _TEXT),
    ("offset", pyarrow.int64()),
    ("date", _TEXT),
    ("title", _TEXT),
    ("extractor", _TEXT),
    ("language", _TEXT),
]
_REMOVAL = [("reason", _TEXT), ("value", pyarrow.float64()), ("duplicate_of", _TEXT)]

Row = dict[str, Any]


def _scores(names: Sequence[str]) -> pyarrow.DataType:
    return pyarrow.struct([(name, pyarrow.float32()) for name in names])


def extracted_schema(scores: Sequence[str]) -> pyarrow.Schema:
    """One row a record read; with the hashes that find its duplicates, see `duplicates.sketch`."""
    return pyarrow.schema(
        [
            ("id", _TEXT),
            ("text", _TEXT),
            *_ORIGIN,
            ("scores", _scores(scores)),
            *_REMOVAL[:2],
            ("contamination", pyarrow.float64()),
            ("contaminated_by", _TEXT),
            ("url_key", _TEXT),
            ("characters", pyarrow.int32()),
            ("text_hash", pyarrow.binary(16)),
            ("bands", pyarrow.binary()),
        ]
    )


def documents_schema(scores: Sequence[str]) -> pyarrow.Schema:
    """One row a document kept. `scores` has what each rule measured."""
    return pyarrow.schema([("id", _TEXT), ("text", _TEXT), *_ORIGIN, ("scores", _scores(scores))])


def removed_schema(scores: Sequence[str]) -> pyarrow.Schema:
    """One row a record left out: why, and the value that the rule measured or the document it is a duplicate of."""
    return pyarrow.schema([("id", _TEXT), *_REMOVAL, *_ORIGIN, ("scores", _scores(scores)), ("text", _TEXT)])


class TableWriter:
    """Writes a Parquet file in groups of rows, so that memory is bounded."""

    def __init__(self, handle: Any, schema: pyarrow.Schema) -> None:
        self.schema = schema
        self.text_bytes = 0
        self._writer = pyarrow.parquet.ParquetWriter(handle, schema, compression="zstd")
        self._batches: list[pyarrow.RecordBatch] = []
        self._rows = self._bytes = 0

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self._flush()
        self._writer.close()

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Take rows of this writer's schema."""
        size = text_bytes(batch)
        self.text_bytes += size
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += size
        if self._rows >= ROWS_AT_ONCE or self._bytes >= CHARACTERS_AT_ONCE:
            self._flush()

    def note(self, notes: dict[str, str]) -> None:
        """Keep some words with the file; see `read_notes`."""
        self._writer.add_key_value_metadata(notes)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_batches(self._batches, self.schema), row_group_size=self._rows)
        self._batches, self._rows, self._bytes = [], 0, 0


def text_bytes(batch: pyarrow.RecordBatch) -> int:
    """UTF-8 bytes of the column `text`."""
    return pyarrow.compute.sum(pyarrow.compute.binary_length(batch["text"])).as_py() or 0


def batch_of_rows(rows: Sequence[Row], schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Rows as a batch; columns they lack are null."""
    storable = [{name: _storable(row.get(name)) for name in schema.names} for row in rows]
    return pyarrow.RecordBatch.from_pylist(storable, schema)


def _storable(value: Any) -> Any:
    """Lone surrogates, as in a file name that is no UTF-8, can't be stored."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def read_batches(file: Path, columns: list[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
    """Stream a Parquet file's rows in batches, all columns or some."""
    with pyarrow.parquet.ParquetFile(file) as table:
        for group in range(table.num_row_groups):  # a batch would go on over the end of one, however long its texts
            yield from table.iter_batches(512, row_groups=[group], columns=columns)


def read_notes(file: Path) -> dict[str, str]:
    """What `TableWriter.note` kept with a file."""
    metadata = pyarrow.parquet.read_metadata(file).metadata or {}
    return {name.decode(): value.decode() for name, value in metadata.items() if not name.startswith(b"ARROW:")}
