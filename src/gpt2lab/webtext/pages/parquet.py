"""Rows of a Parquet file become pages."""

import datetime
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import pyarrow
import pyarrow.parquet

from gpt2lab.webtext.pages.jsonl import DATE_COLUMNS, date_of
from gpt2lab.webtext.pages.page import LARGEST_TEXT_BYTES, MIB, DamageError, FilePart, Page, Unreadable

ROWS_AT_ONCE = 64
DATES_AT_ONCE = 256
DAMAGED_PARQUET = (OSError, ValueError, KeyError, OverflowError, pyarrow.ArrowException)
"""What pyarrow raises for wrong bytes: besides its own errors, Python's for values that Python can't hold."""


def read_parquet(part: FilePart, text_column: str) -> Iterator[Page | Unreadable]:
    """A page for each row in the part's row groups; a damaged row group is one Unreadable.

    Of several columns with the name of the text, or `url`, the first counts. A date that can't be read is left out.
    """
    source = part.file.source_file
    with pyarrow.parquet.ParquetFile(part.file.path) as table:
        names = table.schema_arrow.names
        if text_column not in names:
            if part.begin:
                return  # the first part says so
            raise DamageError(f"no column {text_column!r}", f"it has {', '.join(names)[:200]}")
        columns = [text_column, *(["url"] if "url" in names else [])]
        dates = [name for name in DATE_COLUMNS if names.count(name) == 1 and _may_be_dates(table.schema_arrow, name)]
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        for group in range(part.begin, len(sizes) if part.end is None else part.end):
            first = index = sum(sizes[:group])
            try:
                dates_of_rows = chain(
                    zip(*(chain.from_iterable(_dates(table, group, name)) for name in dates), strict=False), repeat(())
                )
                rows = chain.from_iterable(zip(*values, strict=True) for values in _columns(table, group, columns))
                for row, dates_of_row in zip(rows, dates_of_rows, strict=False):
                    yield _page_of_row(source, index, row, text_column, dates_of_row)
                    index += 1
            except DAMAGED_PARQUET as error:
                lost = f"rows {index:,} to {first + sizes[group]:,}: {first_line(error)}"
                yield Unreadable(source, index, None, "damaged: a row group that can't be read", lost)


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def row_group_sizes(part: FilePart) -> list[int]:
    """About how many bytes of the file each row group takes.

    Its share of all decompressed bytes: to ask a damaged footer for a column's compressed ones can end the process.
    """
    with pyarrow.parquet.ParquetFile(part.file.path) as table:
        sizes = [max(table.metadata.row_group(n).total_byte_size, 0) for n in range(table.num_row_groups)]
    total = max(sum(sizes), 1)
    return [part.file.size * size // total for size in sizes]


def _may_be_dates(schema: pyarrow.Schema, name: str) -> bool:
    types, kind = pyarrow.types, schema.field(name).type
    return any(is_it(kind) for is_it in (types.is_string, types.is_large_string, types.is_timestamp, types.is_date))


def _dates(table: pyarrow.parquet.ParquetFile, group: int, name: str) -> Iterator[Iterable[Any]]:
    """Read apart from the texts, so that a damaged one costs no text."""
    try:
        for (values,) in _columns(table, group, [name], DATES_AT_ONCE):
            yield values
    except DAMAGED_PARQUET:
        yield repeat(None)


def _columns(
    table: pyarrow.parquet.ParquetFile, group: int, columns: list[str], rows: int = ROWS_AT_ONCE
) -> Iterator[list[list[Any]]]:
    """Values of some columns, so many rows at a time; the error in place of a value that Python can't hold."""
    for batch in table.iter_batches(rows, row_groups=[group], columns=columns):
        names = batch.schema.names
        yield [_values(batch.column(names.index(name))) for name in columns]


def _values(column: pyarrow.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
        return values
    except DAMAGED_PARQUET:
        return [_value(scalar) for scalar in column]


def _value(scalar: pyarrow.Scalar) -> Any:
    try:
        return scalar.as_py()
    except DAMAGED_PARQUET as error:
        return error


def _page_of_row(
    source: str, index: int, row: tuple[Any, ...], text_column: str, dates: tuple[Any, ...]
) -> Page | Unreadable:
    text, url = row if len(row) > 1 else (row[0], None)
    bad = url if isinstance(url, UnicodeDecodeError) else text  # a takedown list must not miss a url
    if isinstance(bad, UnicodeDecodeError):
        return Unreadable(source, index, None, "line: not valid UTF-8", bad.object[:400].decode(errors="replace"))
    if not isinstance(text, str):
        return Unreadable(source, index, None, f"line: no text in column {text_column!r}")
    if len(text) > LARGEST_TEXT_BYTES:
        return Unreadable(source, index, None, f"line: larger than {LARGEST_TEXT_BYTES // MIB} MiB")
    texts = (value.isoformat() if isinstance(value, datetime.date) else value for value in dates)
    date = next((date for text in texts if (date := date_of(text))), None)
    return Page(source, index, url if isinstance(url, str) else None, text, "text", date)
