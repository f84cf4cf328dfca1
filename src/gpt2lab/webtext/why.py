"""`why`: one page's story, from where it was read to why it is in or out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json
from gpt2lab.webtext.crawl.crawl_folder import LOG_NAME
from gpt2lab.webtext.links.url_rules import url_key
from gpt2lab.webtext.quality.filters import rules_of

EXCERPT_CHARACTERS = 400
DUPLICATES_SHOWN = 20


@dataclass(frozen=True)
class Story:
    """One record of a build: `kept`, or removed for `reason`."""

    kept: bool
    record: dict[str, Any]
    """the row of documents/ or removed/, its text cut to an excerpt"""
    duplicates: tuple[dict[str, Any], ...]
    """id, url, reason and value of the records that were removed as duplicates of this one, the first few"""
    duplicate_count: int
    bounds: dict[str, str]
    """of each rule, the measurements x that keep a text"""


def why(build_folder: Path, wanted: str) -> list[Story]:
    """The stories of all records whose id is `wanted`, or whose URL is, in whatever spelling.

    Raises BadInput when the folder is no finished build, or knows nothing of `wanted`; the line then says what the
    log of the crawl knows of it.
    """
    report = _report(build_folder)
    key = url_key(wanted)
    found = [*_find(build_folder, wanted, key)]
    if not found:
        failure = _failure_in_crawl(report, key)
        reason = f"; the crawl could not fetch it: {failure}" if failure else ""
        raise BadInput(f"{build_folder}: no page has the id or URL {wanted!r}{reason}.")
    options = report["options"]
    rules = rules_of(tuple(options["filters"]), tuple(options["without_rules"]), options["minimum_characters"])
    bounds = {rule.name: rule.bounds for rule in rules}
    return [_story(build_folder, kept, record, bounds) for kept, record in found]


def told(story: Story) -> str:
    """A story in plain lines."""
    record = story.record
    scores = {name: value for name, value in (record.get("scores") or {}).items() if value is not None}
    lines = [
        f"{record['id']}  {record['url'] or record['source_file']}",
        f"  {_verdict(story)}",
        f"  read from    {record['source_file']} at {record['offset']:,}" + _dated(record["date"]),
    ]
    for name, label in (("extractor", "text by"), ("language", "language"), ("title", "title")):
        if record.get(name):
            lines.append(f"  {label:<12} {record[name]}")
    if scores:
        lines.append("  measured")
        broken = None if story.kept else record["reason"]
        lines += [
            f"    {name:<34}{value:>12,.6g}   {story.bounds.get(name, '')}{'   <- broken' * (name == broken)}"
            for name, value in scores.items()
        ]
    if story.duplicate_count:
        lines.append(f"  stands for   {story.duplicate_count:,} others that were removed as its duplicates:")
        lines += [f"    {_duplicate(other)}" for other in story.duplicates]
    if record.get("text"):
        lines.append("  begins       " + " ".join(record["text"].split())[:200])
    return "\n".join(lines)


def _verdict(story: Story) -> str:
    if story.kept:
        return "kept: it broke no rule, and is the longest of its duplicates." if story.duplicates else "kept."
    record = story.record
    if record["duplicate_of"]:
        alike = "" if record["value"] is None else f", {record['value']:.0%} alike"
        return f"removed: {record['reason']} of {record['duplicate_of']}{alike}."
    return f"removed: {record['reason']}" + ("." if record["value"] is None else f" = {record['value']:.4g}.")


def _dated(date: str | None) -> str:
    return f", of {date}" if date else ""


def _duplicate(other: dict[str, Any]) -> str:
    alike = "" if other["value"] is None else f" ({other['value']:.0%} alike)"
    return f"{other['id']}  {other['reason']}{alike}  {other['url'] or other['source_file']}"


def _report(folder: Path) -> dict[str, Any]:
    if not (folder / "report.json").exists():
        raise BadInput(f"{folder}: no finished build; make one with `gpt2lab build ... --out {folder}`.")
    report: dict[str, Any] = read_json(folder / "report.json")
    return report


def _find(folder: Path, wanted: str, key: str | None) -> Iterator[tuple[bool, dict[str, Any]]]:
    for kept, name in ((True, "documents"), (False, "removed")):
        for file in sorted((folder / name).glob("*.parquet")):
            with pyarrow.parquet.ParquetFile(file) as table:
                for group in range(table.num_row_groups):
                    rows = table.read_row_group(group, columns=["id", "url"])
                    for row in _matching(rows, wanted, key):
                        record = table.read_row_group(group).slice(row, 1).to_pylist()[0]
                        record["text"] = _excerpt(record["text"])
                        yield kept, record


def _matching(rows: pyarrow.Table, wanted: str, key: str | None) -> list[int]:
    """Rows with the id, or with a URL of the same key: only those of the same host are looked at closely."""
    same_id = pc.indices_nonzero(pc.fill_null(pc.equal(rows["id"], wanted), False)).to_pylist()
    if key is None:
        return list(same_id)
    host = "" if "xn--" in key else key.partition("/")[0]
    likely = pc.fill_null(pc.match_substring(rows["url"], host, ignore_case=True), False)
    close = pc.indices_nonzero(likely).to_pylist()
    return sorted({*same_id, *(row for row in close if url_key(rows["url"][row].as_py()) == key)})


def _excerpt(text: str | None) -> str | None:
    return text if text is None or len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + " …"


def _story(folder: Path, kept: bool, record: dict[str, Any], bounds: dict[str, str]) -> Story:
    duplicates: list[dict[str, Any]] = []
    count = 0
    for file in sorted((folder / "removed").glob("*.parquet")):
        columns = ["id", "url", "source_file", "reason", "value"]
        rows = pyarrow.parquet.read_table(file, columns=columns, filters=pc.field("duplicate_of") == record["id"])
        count += rows.num_rows
        duplicates += rows.slice(0, DUPLICATES_SHOWN - len(duplicates)).to_pylist()
    return Story(kept, record, tuple(duplicates), count, bounds)


def _failure_in_crawl(report: dict[str, Any], key: str | None) -> str | None:
    """The error that the log of a crawl among the inputs has for a URL."""
    if key is None:
        return None
    for place in report["inputs"]:
        log = Path(place) / LOG_NAME
        if log.is_file():
            with log.open(encoding="utf-8") as lines:
                for line in lines:
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        continue  # the last line of a crawl at work
                    if entry.get("error") and url_key(str(entry.get("url"))) == key:
                        return str(entry["error"])
    return None
