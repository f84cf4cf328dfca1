"""`links`: from Reddit dumps and lists of URLs to one table of links worth fetching, each once, with its karma.

Stages are files on disk. Each input file becomes one file of its links, spread over partitions by the hash of the link,
whole or absent; then each partition is brought together by itself. So memory does not grow with the dumps, a killed run
goes on at the input it was at, and the same inputs give the same bytes in whatever order they are named. Links come in
the order of their hashes, which mixes hosts as a polite crawl wants them.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import xxhash

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, remove_partial_files, whole_file, write_json
from gpt2lab.base.progress import progress_bar
from gpt2lab.webtext.links.domain_comparison import DomainComparison, compare_domains, read_published_domains
from gpt2lab.webtext.links.partitions import PartitionWriter, read_parts
from gpt2lab.webtext.links.stage import (
    EXAMPLES_PER_REASON,
    FileCounts,
    LinkFile,
    counts_file,
    link_files,
    read_counts,
    read_dropped_domains,
    score_reason,
    stage_key,
    stage_links,
)
from gpt2lab.webtext.links.stage import LinksOptions as LinksOptions
from gpt2lab.webtext.links.url_rules import SHORTENERS
from gpt2lab.webtext.workers import run_tasks

TOP_DOMAINS = 1000
_NEVER = 1 << 62  # stands for no date while dates are compared

LINKS = pyarrow.schema(
    [
        ("url", pyarrow.string()),
        ("score", pyarrow.int64()),
        ("submissions", pyarrow.int64()),
        ("first_seen", pyarrow.timestamp("ms", tz="UTC")),
        ("source", pyarrow.string()),
    ]
)
DOMAINS = pyarrow.schema([("domain", pyarrow.string()), ("links", pyarrow.int64()), ("score", pyarrow.int64())])
_DOMAIN_ROWS = pyarrow.schema([("hash", pyarrow.uint64()), *DOMAINS])


@dataclass(frozen=True)
class LinksReport:
    """What was read, taken and dropped. lines = taken + the sum of `dropped`; several lines may give one link."""

    links: int
    lines: int
    """submissions, and lines of lists"""
    taken: int
    malformed: int
    """lines that could not be understood; they are among those dropped"""
    dropped: dict[str, int]
    """how many lines for each reason, most first"""
    examples: dict[str, list[str]]
    """a few for each reason"""
    score: int
    """karma of all links together"""
    shortened: int
    """links by a URL shortener: what they stand for shows when they are fetched"""
    domains: int
    top_domains: list[tuple[str, int, int]]
    """(name, links, karma) of those with most links, named without what is before or after as WebText's list does"""
    files: list[dict[str, Any]]
    """of each input: source, bytes, lines, taken, malformed, and the damage, if any, where it ends"""
    options: dict[str, Any]
    seconds: float
    """of the run that made the table"""
    comparison: DomainComparison | None = None
    already_finished: bool = False
    """the table was found finished, nothing was done"""


def links(
    inputs: Sequence[Path], out: Path, options: LinksOptions | None = None, compare: Path | None = None
) -> LinksReport:
    """Make `out/links.parquet` of all `inputs` (files or folders), with `domains.parquet` and `report.json`.

    `compare` is WebText's published list of domains, lines of a count and a name. Run again, it goes on where it was.
    Raises BadInput when an input is absent or of a type not read, and when nothing in any of them could be read.
    """
    options = options or LinksOptions()
    published = read_published_domains(compare) if compare else None
    dropped_domains = read_dropped_domains(options.drop_domains)
    files = link_files(inputs, except_under=out)
    keys = [stage_key(file, options, dropped_domains) for file in files]
    key = hashlib.sha256(repr((keys, options.minimum_score, options.combine)).encode()).hexdigest()
    saved = _finished_report(out, key)
    started = monotonic()
    if saved is None:
        (out / "report.json").unlink(missing_ok=True)
        stage_files = _read_inputs(files, keys, out / "stages", options, dropped_domains)
        counts = [read_counts(stage_file) for stage_file in stage_files]
        _demand_something_readable(counts, inputs)
        merged = _merge(stage_files, counts, out, options)
        saved = {**_summary(counts, merged, options), **asdict(merged), "seconds": round(monotonic() - started, 3)}
        saved |= {"options": {**asdict(options), "drop_domains": sorted(dropped_domains)}, "already_finished": False}
        del saved["too_low"]
    saved["top_domains"] = top_domains(out)
    saved["comparison"] = compare_domains(published, domain_counts(out)) if published and compare else None
    report = LinksReport(**saved)
    write_json(out / "report.json", {"key": key, **asdict(report)})
    return report


def _finished_report(out: Path, key: str) -> dict[str, Any] | None:
    wanted = [out / name for name in ("report.json", "links.parquet", "domains.parquet")]
    if not all(path.exists() for path in wanted):
        return None
    saved = read_json(wanted[0])
    if not isinstance(saved, dict) or saved.pop("key", None) != key:
        return None
    return saved | {"already_finished": True}


def _read_inputs(
    files: list[LinkFile], keys: list[str], folder: Path, options: LinksOptions, dropped_domains: frozenset[str]
) -> list[Path]:
    """One finished stage file for each input; those that are there already stay, those of other inputs go."""
    stage_files = [folder / f"{key}.arrow" for key in keys]
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    current = {*stage_files, *map(counts_file, stage_files)}
    for stale in set(folder.glob("*.*")) - current:
        stale.unlink()
    todo = [(file, path) for file, path in zip(files, stage_files, strict=True) if not counts_file(path).exists()]
    todo.sort(key=lambda task: -task[0].size)  # the largest first: workers end together
    total = sum(file.size for file in files)
    with progress_bar("links", total / 1e6, "MB") as bar:
        bar.skip((total - sum(file.size for file, _ in todo)) / 1e6)
        tasks = [(file, path, options, dropped_domains) for file, path in todo]
        run_tasks(stage_links, tasks, options.workers, lambda amount: bar.advance(amount / 1e6))
    return stage_files


def _demand_something_readable(counts: list[FileCounts], inputs: Sequence[Path]) -> None:
    if any(one.lines > one.malformed for one in counts):
        return
    where = ", ".join(map(str, inputs))
    damaged = next((f"{one.source}: {one.damage}" for one in counts if one.damage), None)
    odd = next((f"{one.source}: {reason.removeprefix('line: ')}" for one in counts for reason in one.dropped), None)
    raise BadInput(f"{where}: nothing could be read ({damaged or odd or 'there are no lines'}); give other files.")


@dataclass
class _Merged:
    """What the second stage counts."""

    links: int = 0
    score: int = 0
    shortened: int = 0
    domains: int = 0
    too_low: int = 0  # lines whose link has too little karma in all


def _merge(stage_files: list[Path], counts: list[FileCounts], out: Path, options: LinksOptions) -> _Merged:
    """Bring the mentions of each link together and write the tables."""
    merged = _Merged()
    domain_rows = out / "stages" / "domains.arrow"
    for folder in (out, domain_rows.parent):
        remove_partial_files(folder)
    with (
        whole_file(domain_rows) as domain_handle,
        PartitionWriter(domain_handle, _DOMAIN_ROWS) as domain_writer,
        whole_file(out / "links.parquet") as handle,
        pyarrow.parquet.ParquetWriter(handle, LINKS, compression="zstd") as writer,
        progress_bar("merge", sum(one.taken for one in counts), "lines") as bar,
    ):
        for part in read_parts(stage_files, [one.rows for one in counts]):
            bar.advance(len(part))
            table = _links_of(part)
            del part  # or it would stay while the next one is read
            if options.combine == "before":
                enough = _has_enough(table, options.minimum_score)
                merged.too_low += (
                    pyarrow.compute.sum(table.filter(pyarrow.compute.invert(enough))["lines"]).as_py() or 0
                )
                table = table.filter(enough)
            merged.links += len(table)
            merged.score += pyarrow.compute.sum(table["score"]).as_py() or 0
            merged.shortened += _shortened(table)
            writer.write_table(_as_written(table))
            for row in table.group_by("domain").aggregate([("score", "sum"), ([], "count_all")]).to_pylist():
                digest = xxhash.xxh3_64_intdigest(row["domain"].encode())
                domain_writer.add((digest, row["domain"], row["count_all"], row["score_sum"] or 0))
            del table
    with (
        whole_file(out / "domains.parquet") as handle,
        pyarrow.parquet.ParquetWriter(handle, DOMAINS, compression="zstd") as writer,
    ):
        for part in read_parts([domain_rows], [domain_writer.rows]):
            grouped = part.group_by("domain").aggregate([("links", "sum"), ("score", "sum")])
            table = grouped.sort_by("domain").rename_columns({"links_sum": "links", "score_sum": "score"})
            writer.write_table(table.select(DOMAINS.names).cast(DOMAINS))
            merged.domains += len(table)
    domain_rows.unlink()
    return merged


def _links_of(mentions: pyarrow.Table) -> pyarrow.Table:
    """One row for each link, in the order of the hashes. Of its forms the last is taken: https before http.

    Sorted and then summed by NumPy: Arrow's `group_by` takes over 1 kB for each group when it compares texts.
    """
    order = pyarrow.compute.sort_indices(mentions, [(name, "ascending") for name in ("hash", "check", "url")])
    mentions = mentions.take(order).combine_chunks()
    high, low = (mentions[name].to_numpy() for name in ("hash", "check"))
    starts = np.flatnonzero(np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])]))
    lines = np.diff(np.append(starts, len(high)))
    last = starts + lines - 1
    listed = np.add.reduceat(mentions["score"].is_null().to_numpy().astype(np.int64), starts)
    score = np.add.reduceat(mentions["score"].fill_null(0).to_numpy(), starts)
    first_seen = np.minimum.reduceat(mentions["first_seen"].fill_null(_NEVER).to_numpy(), starts)
    sources = sorted(pyarrow.compute.unique(mentions["source"]).to_pylist())
    source = np.minimum.reduceat(
        pyarrow.compute.index_in(mentions["source"], pyarrow.array(sources, pyarrow.string())).to_numpy(), starts
    )
    return pyarrow.table(
        {
            "url": mentions["url"].take(last),
            "domain": mentions["domain"].take(last),
            "score": pyarrow.array(score, mask=listed == lines),
            "listed": listed,
            "submissions": np.add.reduceat(mentions["submissions"].to_numpy(), starts),
            "first_seen": pyarrow.array(first_seen, mask=first_seen == _NEVER),
            "source": pyarrow.array(sources, pyarrow.string()).take(pyarrow.array(source)),
            "lines": lines,
        }
    )


def _has_enough(table: pyarrow.Table, minimum_score: int) -> Any:
    """Which links have the karma, or stand in a list that asks for none."""
    listed = pyarrow.compute.greater(table["listed"], 0)
    high = pyarrow.compute.fill_null(pyarrow.compute.greater_equal(table["score"], minimum_score), False)
    return pyarrow.compute.or_(listed, high)


def _shortened(table: pyarrow.Table) -> int:
    hosts = pyarrow.compute.list_element(pyarrow.compute.split_pattern(table["url"], "/", max_splits=3), 2)
    known = pyarrow.array(sorted(SHORTENERS | {f"www.{name}" for name in SHORTENERS}))
    return pyarrow.compute.sum(pyarrow.compute.is_in(hosts, known)).as_py() or 0


def _as_written(table: pyarrow.Table) -> pyarrow.Table:
    seconds = table["first_seen"].cast(pyarrow.timestamp("s", tz="UTC"))
    table = table.set_column(table.schema.get_field_index("first_seen"), "first_seen", seconds)
    return table.select(LINKS.names).cast(LINKS)


def _summary(counts: list[FileCounts], merged: _Merged, options: LinksOptions) -> dict[str, Any]:
    """The counts of all inputs together."""
    dropped: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for one in counts:
        dropped.update(one.dropped)
        for reason, some in one.examples.items():
            examples[reason] = [*examples.get(reason, []), *some][:EXAMPLES_PER_REASON]
    if merged.too_low:
        dropped[score_reason(options.minimum_score)] += merged.too_low
    ordered = dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))
    shown = ("source", "bytes", "lines", "taken", "malformed", "damage")
    return {
        "lines": sum(one.lines for one in counts),
        "taken": sum(one.taken for one in counts) - merged.too_low,
        "malformed": sum(one.malformed for one in counts),
        "dropped": ordered,
        "examples": {reason: examples.get(reason, []) for reason in ordered},
        "files": [{name: getattr(one, name) for name in shown} for one in counts],
    }


def domain_counts(out: Path) -> Iterator[tuple[str, int, int]]:
    """(name, links, karma) of every domain of the table in `out`."""
    with pyarrow.parquet.ParquetFile(out / "domains.parquet") as table:
        for batch in table.iter_batches(1 << 14):
            yield from zip(*(batch.column(name).to_pylist() for name in DOMAINS.names), strict=True)


def top_domains(out: Path) -> list[tuple[str, int, int]]:
    """The TOP_DOMAINS domains with most links; of equals the first in the alphabet."""
    return heapq.nsmallest(TOP_DOMAINS, domain_counts(out), key=lambda row: (-row[1], row[0]))
