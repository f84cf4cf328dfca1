"""The documents that `build` makes and every later stage reads: Parquet files with a column `text`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.texts import ROWS_AT_ONCE, suffix_of


@dataclass(frozen=True)
class Document:
    """One clean text and where it comes from."""

    id: str
    text: str
    url: str | None
    source_file: str


def document_files(place: Path, suffixes: tuple[str, ...] = (".parquet",), below: bool = False) -> list[Path]:
    """The files of documents at `place`: a file, a folder of them, or a folder that `build` wrote; in sorted order.

    In a folder those count that have one of `suffixes`, compressed or not; with `below` those in its folders, too; none
    that is hidden. Raises BadInput when there are none.
    """
    if place.is_file():
        return [place]
    if not place.exists():
        raise BadInput(f"{place}: no such file or folder.")
    folder = place / "documents" if (place / "documents").is_dir() else place
    paths = folder.rglob("*") if below else folder.iterdir()
    files = sorted(path for path in paths if suffix_of(path) in suffixes and path.is_file())
    files = [path for path in files if not any(name.startswith(".") for name in path.relative_to(folder).parts)]
    if not files:
        kinds = " ".join(f"*{suffix}" for suffix in suffixes)
        raise BadInput(f"{place}: no documents here ({kinds}); make them with `gpt2lab build`.")
    return files


def read_documents(place: Path) -> Iterator[Document]:
    """Stream the documents at `place` in the order they are stored; rows whose text is null are passed over.

    Columns `id`, `url` and `source_file` may be absent: the id is then `file name:row`. Raises BadInput at once
    when there are no documents or a file has no column `text`.
    """
    files = document_files(place)
    for file in files:
        check_documents(file)
    return _stream(files)


def check_documents(file: Path) -> None:
    """Raise BadInput unless `file` is a Parquet file with a column `text` of text."""
    try:
        schema = pyarrow.parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{file}: not a Parquet file ({str(error).splitlines()[0]}).") from None
    if "text" not in schema.names:
        raise BadInput(f"{file}: no column 'text' (it has {', '.join(schema.names)}); run `gpt2lab build` on it first.")
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise BadInput(f"{file}: has two columns {twice[0]!r}; leave one out.")
    kind = schema.field("text").type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise BadInput(f"{file}: column 'text' holds {kind}, not text.")


def read_columns(
    file: Path, columns: Sequence[str], row_groups: Sequence[int] | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """Those of `columns` that a Parquet file has, some rows at a time. Raises BadInput where it is damaged."""
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            # One thread: with more, pyarrow takes longer for groups as small as these, and more memory.
            there = [name for name in columns if name in table.schema_arrow.names]
            yield from table.iter_batches(ROWS_AT_ONCE, row_groups=row_groups, columns=there, use_threads=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{file}: damaged ({str(error).splitlines()[0]}); build it again.") from None


def _stream(files: list[Path]) -> Iterator[Document]:
    for file in files:
        row = 0
        for batch in read_columns(file, ("id", "text", "url", "source_file")):
            for record in batch.to_pylist():
                if record["text"] is not None:
                    yield Document(
                        str(record.get("id", f"{file.name}:{row}")),
                        record["text"],
                        record.get("url"),
                        record.get("source_file") or file.name,
                    )
                row += 1
