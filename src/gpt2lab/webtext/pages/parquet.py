"""Rows of a Parquet file become pages."""

import datetime
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet

from gpt2lab.webtext.pages.jsonl import DATE_COLUMNS, date_of
from gpt2lab.webtext.pages.page import LARGEST_TEXT_BYTES, MIB, DamageError, FilePart, Page, Unreadable

ROWS_AT_ONCE = 64


def read_parquet(part: FilePart, text_column: str) -> Iterator[Page | Unreadable]:
    """A page for each row in the part's row groups; a damaged row group is one Unreadable."""
    source = part.file.source_file
    with pyarrow.parquet.ParquetFile(part.file.path) as table:
        names = table.schema_arrow.names
        if text_column not in names:
            if part.begin:
                return  # the first part says so
            raise DamageError(f"no column {text_column!r} (it has {', '.join(names)[:200]})")
        dates = [name for name in DATE_COLUMNS if name in names and _may_be_dates(table.schema_arrow.field(name).type)]
        columns = [text_column, *(["url"] if "url" in names else []), *dates]
        sizes = [table.metadata.row_group(n).num_rows for n in range(table.num_row_groups)]
        for group in range(part.begin, len(sizes) if part.end is None else part.end):
            first = index = sum(sizes[:group])
            try:
                for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                    for row in batch.to_pylist():
                        yield _page_of_row(source, index, row, text_column, dates)
                        index += 1
            except (OSError, pyarrow.ArrowException) as error:
                reason = str(error).splitlines()[0][:200]
                rows = f"rows {index:,} to {first + sizes[group]:,}"
                yield Unreadable(source, index, None, f"damaged: a row group that can't be read ({reason})", rows)


def row_group_sizes(part: FilePart) -> list[int]:
    """Bytes of each row group, compressed."""
    with pyarrow.parquet.ParquetFile(part.file.path) as table:
        metadata = table.metadata
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        return [
            sum(group.column(column).total_compressed_size for column in range(metadata.num_columns))
            for group in groups
        ]


def _may_be_dates(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    return any(is_it(kind) for is_it in (types.is_string, types.is_large_string, types.is_timestamp, types.is_date))


def _page_of_row(source: str, index: int, row: dict[str, Any], text_column: str, dates: list[str]) -> Page | Unreadable:
    text, url = row[text_column], row.get("url")
    if not isinstance(text, str):
        return Unreadable(source, index, None, f"line: no text in column {text_column!r}")
    if len(text) > LARGEST_TEXT_BYTES:
        return Unreadable(source, index, None, f"line: larger than {LARGEST_TEXT_BYTES // MIB} MiB")
    values = (row[name] for name in dates)
    texts = (value.isoformat() if isinstance(value, datetime.date) else value for value in values)
    date = next((date for text in texts if (date := date_of(text))), None)
    return Page(source, index, url if isinstance(url, str) else None, text, "text", date)
