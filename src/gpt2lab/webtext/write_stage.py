"""The last stage of `build`: documents and removed records are written in the input's order, and counted."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow
import pyarrow.compute as pc

from gpt2lab.base.files import whole_folder
from gpt2lab.base.progress import progress_bar
from gpt2lab.webtext.duplicates.find import KINDS, Decisions, FileDecisions
from gpt2lab.webtext.links.url_rules import site_of
from gpt2lab.webtext.page_stage import DROPPED, FIRST_LOOK, TAKEDOWN
from gpt2lab.webtext.tables import TableWriter, documents_schema, read_batches, removed_schema, text_bytes

FILE_BYTES = 256 << 20
"""UTF-8 bytes of text after which the next Parquet file begins"""
EXAMPLES_PER_REASON = 3
EXCERPT_CHARACTERS = 300
LENGTH_BINS_PER_DECADE = 8


@dataclass(frozen=True)
class RemovedExample:
    """One removed record for a report: where it is from and how it begins."""

    id: str
    url: str | None
    source_file: str
    value: float | None
    excerpt: str


@dataclass
class Tally:
    """What is counted while a build is written."""

    kept: int = 0
    characters: int = 0
    bytes: int = 0
    unread: int = 0
    unwanted: int = 0
    """taken down or of a dropped domain: not looked at"""
    given_up: int = 0
    """after the first look"""
    removed: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[RemovedExample]] = field(default_factory=lambda: defaultdict(list))
    sites: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    """documents by floor(LENGTH_BINS_PER_DECADE x log10 of their characters)"""
    extractors: Counter[str] = field(default_factory=Counter)


def write_documents(
    stage_files: Sequence[Path], scores: Sequence[str], decisions: Decisions | None, out: Path
) -> Tally:
    """Write `out/documents` and `out/removed` anew from the stage files, without duplicates (None: they stay)."""
    tally = Tally()
    with (
        whole_folder(out / "documents") as documents_folder,
        whole_folder(out / "removed") as removed_folder,
        _Files(documents_folder, "documents", documents_schema(scores)) as documents,
        _Files(removed_folder, "removed", removed_schema(scores)) as removed,
        progress_bar("write", len(stage_files), "files") as bar,
    ):
        for number, stage_file in enumerate(stage_files):
            for batch in _decided(stage_file, decisions.of_file(number) if decisions else None):
                kept = pc.is_null(batch["reason"])
                for rows, files, count in (
                    (batch.filter(kept), documents, _count_kept),
                    (batch.filter(pc.invert(kept)), removed, _count_removed),
                ):
                    files.add(rows)
                    count(tally, rows)
            bar.advance()
    return tally


class _Files:
    """Parquet files NAME-00000.parquet, ... of one table, a new one whenever one has FILE_BYTES; at least one."""

    def __init__(self, folder: Path, name: str, schema: pyarrow.Schema) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self._stack = ExitStack()
        self._number = 0

    def __enter__(self) -> "_Files":
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _open(self) -> None:
        path = self._folder / f"{self._name}-{self._number:05d}.parquet"
        self._number += 1
        self._writer = self._stack.enter_context(TableWriter(self._stack.enter_context(path.open("wb")), self._schema))

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Take the columns of this table from some rows."""
        if batch.num_rows:
            if self._writer.text_bytes >= FILE_BYTES:
                self._stack.close()
                self._open()
            self._writer.add(batch.select(self._schema.names))


def _decided(stage_file: Path, decisions: FileDecisions | None) -> Iterator[pyarrow.RecordBatch]:
    """The rows of a stage file; those that are duplicates or contaminated get their reason."""
    columns = set(removed_schema(()).names) - {"duplicate_of"} | {"characters", "contamination", "contaminated_by"}
    start = 0
    for batch in read_batches(stage_file, sorted(columns)):
        some = slice(start, start + batch.num_rows)
        start += batch.num_rows
        reasons, values = batch["reason"].to_pylist(), batch["value"].to_pylist()
        survivors: list[str | None] = [None] * batch.num_rows
        if decisions:
            for row in np.flatnonzero(decisions.kinds[some]).tolist():
                reasons[row] = KINDS[decisions.kinds[some][row]]
                values[row] = float(decisions.similarities[some][row])
                survivors[row] = decisions.survivors[some][row].decode()
        for row in np.flatnonzero(batch["contaminated_by"].is_valid()).tolist():
            if reasons[row] is None:
                reasons[row] = f"contaminated: {batch['contaminated_by'][row]}"
                values[row] = batch["contamination"][row].as_py()
        yield (
            batch.set_column(batch.schema.get_field_index("reason"), "reason", pyarrow.array(reasons, pyarrow.string()))
            .set_column(batch.schema.get_field_index("value"), "value", pyarrow.array(values, pyarrow.float64()))
            .append_column("duplicate_of", pyarrow.array(survivors, pyarrow.string()))
        )


def _count_kept(tally: Tally, rows: pyarrow.RecordBatch) -> None:
    tally.kept += rows.num_rows
    tally.bytes += text_bytes(rows)
    lengths = rows["characters"].to_numpy()
    tally.characters += int(lengths.sum())
    bins = np.floor(LENGTH_BINS_PER_DECADE * np.log10(np.maximum(lengths, 1))).astype(int)
    tally.lengths.update(bins.tolist())
    tally.languages.update(language or "" for language in rows["language"].to_pylist())
    tally.extractors.update(rows["extractor"].to_pylist())
    tally.sites.update(site for url in rows["url"].to_pylist() if url and (site := site_of(url)))


def _count_removed(tally: Tally, rows: pyarrow.RecordBatch) -> None:
    reasons = rows["reason"].to_pylist()
    tally.removed.update(reasons)
    unwanted = sum(reason in (TAKEDOWN, DROPPED) for reason in reasons)
    tally.unwanted += unwanted
    tally.unread += rows["extractor"].null_count - unwanted
    tally.given_up += pc.sum(pc.equal(rows["extractor"], FIRST_LOOK)).as_py() or 0
    for number, reason in enumerate(reasons):
        if len(tally.examples[reason]) < EXAMPLES_PER_REASON:
            row = {name: rows[name][number].as_py() for name in ("id", "url", "source_file", "value", "text")}
            excerpt = (row.pop("text") or "")[:EXCERPT_CHARACTERS]
            tally.examples[reason].append(RemovedExample(**row, excerpt=excerpt))
