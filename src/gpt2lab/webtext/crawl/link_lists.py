"""Lists of links, streamed: a .txt, .jsonl or .parquet of any length."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput


def stream_links(path: Path) -> Iterator[str]:
    """Links from a .txt (one a line, # comments), a .jsonl (a `url` each) or a .parquet (a column `url`).

    Raises BadInput, with the line or row, when one is no text. Links are not judged here.
    """
    readers = {".txt": _links_of_text, ".jsonl": _links_of_jsonl, ".parquet": _links_of_parquet}
    if path.suffix not in readers:
        raise BadInput(f"{path}: can't tell what it holds; give a .txt, .jsonl or .parquet of links.")
    try:
        yield from readers[path.suffix](path)
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{path}: no such file.") from None


def read_links(path: Path) -> list[str]:
    """All links of a list; raises BadInput as `stream_links` does, and when there is none."""
    links = list(stream_links(path))
    if not links:
        raise BadInput(f"{path}: holds no links.")
    return links


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    with path.open("rb") as handle:
        for data in handle:
            try:
                yield data.decode("utf-8-sig" if offset == 0 else "utf-8").strip()
            except UnicodeDecodeError as error:
                place = f"byte {offset + error.start:,}"
                raise BadInput(f"{path}: {place} is not UTF-8; save the list as UTF-8.") from None
            offset += len(data)


def _links_of_text(path: Path) -> Iterator[str]:
    for line in _lines(path):
        if line and not line.startswith("#"):
            yield line


def _links_of_jsonl(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if not line:
            continue
        try:
            url = json.loads(line)["url"]
        except (ValueError, KeyError, TypeError, RecursionError):
            url = None
        if not isinstance(url, str):
            raise BadInput(f'{path}: line {number:,} is not of the form {{"url": "https://..."}}.')
        yield url


def _links_of_parquet(path: Path) -> Iterator[str]:
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            if "url" not in table.schema_arrow.names:
                raise BadInput(f"{path}: has no column called url.")
            for batch in table.iter_batches(1 << 14, columns=["url"]):
                for url in batch.column("url").to_pylist():
                    if not isinstance(url, str):
                        raise BadInput(f"{path}: the url of row {row:,} is {url!r}, not text; take such rows out.")
                    row += 1
                    yield url
    except (pyarrow.ArrowInvalid, OSError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError)):
            raise
        raise BadInput(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}).") from None
