"""Documents as bulk encoding takes them: some megabytes at a time, with their ids, sources and side of the split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.documents import read_columns
from gpt2lab.tokens.bulk import JoinedTexts
from gpt2lab.tokens.shards import is_held_out_bytes

BYTES_AT_ONCE = 1 << 23
_ORIGIN = ("source", "url", "source_file")


@dataclass(frozen=True)
class Batch:
    """Some documents, whose they are, and whether they are held out; how many rows they were, those of no text too."""

    ids: list[str]
    texts: JoinedTexts
    sources: list[str]
    held_out: list[bool]
    rows: int


def read_batches(file: Path, share: float) -> Iterator[Batch]:
    """The documents of a file, some megabytes at a time; rows whose text is null are passed over."""
    row = 0
    for table in _larger(read_columns(file, ("id", "text", *_ORIGIN))):
        rows = table.num_rows
        if "id" not in table.column_names:
            table = table.append_column("id", [[f"{file.name}:{number}" for number in range(row, row + rows)]])
        if table.column("text").null_count:
            table = table.filter(table.column("text").is_valid())
        try:
            texts = JoinedTexts.of_column(table.column("text"))
            ids = [str(name) for name in table.column("id").to_pylist()]
            origins = [
                table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows
                for name in _ORIGIN
            ]
        except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
            raise BadInput(f"{file}: after row {row:,}: {str(error).splitlines()[0]}; build it again.") from None
        sources = [
            str(source or (_domain(str(url)) if url else source_file or file.name))
            for source, url, source_file in zip(*origins, strict=True)
        ]
        held_out = [share > 0 and is_held_out_bytes(text, share) for text in texts]
        yield Batch(ids, texts, sources, held_out, rows)
        row += rows


def _domain(url: str) -> str:
    try:
        return (urlsplit(url).hostname or url).removeprefix("www.")
    except ValueError:
        return url


def _larger(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.Table]:
    """Record batches joined to tables of some megabytes, so that all cores have enough to do."""
    waiting: list[pyarrow.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= BYTES_AT_ONCE:
            yield pyarrow.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pyarrow.Table.from_batches(waiting)
