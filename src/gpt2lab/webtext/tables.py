"""The Parquet tables of a build: what columns they have, how rows are written and read in bounded memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from gpt2lab.base.files import PARTIAL

ROWS_AT_ONCE = 512
CHARACTERS_AT_ONCE = 1 << 24

_TEXT = pyarrow.string()
_ORIGIN = [("id", _TEXT), ("url", _TEXT), ("source_file", _TEXT), ("index", pyarrow.int64())]
EXTRACTED = pyarrow.schema(
    [*_ORIGIN, ("title", _TEXT), ("text", _TEXT), ("extractor", _TEXT), ("reason", _TEXT), ("value", pyarrow.float64())]
)
DOCUMENTS = pyarrow.schema(
    [("id", _TEXT), ("text", _TEXT), *_ORIGIN[1:], ("title", _TEXT), ("extractor", _TEXT)],
)
REMOVED = pyarrow.schema(
    [*_ORIGIN, ("reason", _TEXT), ("value", pyarrow.float64()), ("duplicate_of", _TEXT), ("text", _TEXT)]
)

Row = dict[str, Any]


class TableWriter:
    """Writes rows to a Parquet file in groups, so that memory is bounded."""

    def __init__(self, handle: Any, schema: pyarrow.Schema) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(handle, schema, compression="zstd")
        self._schema = schema
        self._rows: list[Row] = []
        self._characters = 0

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        """Take a row; columns it lacks are null."""
        self._rows.append({name: _storable(row.get(name)) for name in self._schema.names})
        self._characters += len(row.get("text") or "")
        if len(self._rows) >= ROWS_AT_ONCE or self._characters >= CHARACTERS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pyarrow.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows, self._characters = [], 0


def _storable(value: Any) -> Any:
    """Lone surrogates, as in a file name that is no UTF-8, can't be stored."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def read_rows(files: Sequence[Path], columns: list[str] | None = None) -> Iterator[Row]:
    """Stream the rows of some Parquet files in their order, all columns or some."""
    for file in files:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()


def remove_partial_files(folder: Path) -> None:
    """Delete what a killed run left half-written."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)
