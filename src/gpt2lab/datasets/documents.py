"""The documents that `build` makes and every later stage reads: Parquet files with a column `text`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Document:
    """One clean text and where it comes from."""

    id: str
    text: str
    url: str | None
    source_file: str


def document_files(place: Path) -> list[Path]:
    """The Parquet files at `place`: a file, a folder of them, or a folder that `build` wrote; in sorted order.

    Raises BadInput when there are none.
    """
    if place.is_file():
        return [place]
    if not place.exists():
        raise BadInput(f"{place}: no such file or folder.")
    folder = place / "documents" if (place / "documents").is_dir() else place
    files = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not files:
        raise BadInput(f"{place}: no documents here (*.parquet); make them with `gpt2lab build`.")
    return files


def read_documents(place: Path) -> Iterator[Document]:
    """Stream the documents at `place` in the order they are stored; rows whose text is null are passed over.

    Columns `id`, `url` and `source_file` may be absent: the id is then `file name:row`. Raises BadInput at once
    when there are no documents or a file has no column `text`.
    """
    files = document_files(place)
    for file in files:
        _check(file)
    return _stream(files)


def _check(file: Path) -> None:
    try:
        schema = pyarrow.parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{file}: not a Parquet file ({str(error).splitlines()[0]}).") from None
    if "text" not in schema.names:
        raise BadInput(f"{file}: no column 'text' (it has {', '.join(schema.names)}); run `gpt2lab build` on it first.")
    kind = schema.field("text").type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise BadInput(f"{file}: column 'text' holds {kind}, not text.")


def _stream(files: list[Path]) -> Iterator[Document]:
    for file in files:
        with pyarrow.parquet.ParquetFile(file) as table:
            columns = [name for name in ("id", "text", "url", "source_file") if name in table.schema_arrow.names]
            row = 0
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                for record in batch.to_pylist():
                    if record["text"] is not None:
                        yield Document(
                            str(record.get("id", f"{file.name}:{row}")),
                            record["text"],
                            record.get("url"),
                            record.get("source_file") or file.name,
                        )
                    row += 1
