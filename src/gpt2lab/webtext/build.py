"""`build`: from files of any kind to clean documents, with everything that was left out kept beside its reason.

Stages are files on disk. Each input file becomes one Parquet file of extracted and judged pages, whole or absent, in
whatever order the workers finish; then duplicates are looked for over all of them, and the documents are written in
the order of the input. Killed anywhere and run again, a build goes on and makes the same bytes. `report.json` is
written last and says that a build is finished.
"""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, sha256_of, whole_file, write_json
from gpt2lab.base.progress import progress_bar
from gpt2lab.webtext.build_options import BuildOptions as BuildOptions
from gpt2lab.webtext.duplicates.dedup import Duplicate, find_duplicates
from gpt2lab.webtext.extract_stage import extract_all, open_stage
from gpt2lab.webtext.pages.page import InputFile
from gpt2lab.webtext.pages.read import input_files
from gpt2lab.webtext.tables import DOCUMENTS, REMOVED, TableWriter, read_rows, remove_partial_files
from gpt2lab.webtext.takedown import read_takedown_list

STAGE_VERSION = 1  # a number to raise when the same input and options would give other documents
EXAMPLES_PER_REASON = 3
EXCERPT_CHARACTERS = 300


@dataclass(frozen=True)
class RemovedExample:
    """One removed record for a report: where it is from and how it begins."""

    id: str
    url: str | None
    source_file: str
    value: float | None
    excerpt: str


@dataclass(frozen=True)
class BuildReport:
    """What a build made. `pages` is every record read or tried; pages = kept + the sum of `removed`."""

    pages: int
    kept: int
    removed: dict[str, int]
    """how many for each reason, most first"""
    funnel: dict[str, int]
    """records left after each step: found, read, extracted and filtered, without duplicates"""
    characters: int
    """of the documents kept"""
    bytes: int
    """UTF-8 bytes of the documents kept"""
    input_files: int
    input_bytes: int
    seconds: dict[str, float]
    """per stage, of the run that finished the build"""
    options: dict[str, Any]
    examples: dict[str, tuple[RemovedExample, ...]]
    """a few for each reason"""
    already_finished: bool = False
    """the build was found finished, nothing was done"""


def build(inputs: Sequence[Path], out: Path, options: BuildOptions | None = None) -> BuildReport:
    """Make `out/documents/*.parquet` and `out/removed/*.parquet` of all `inputs` (files or folders).

    Run again it goes on where it was; with other options or other input files (names, sizes, times) it starts over.
    Raises BadInput when an input is absent, or nothing in any of the files could be read.
    """
    options = options or BuildOptions()
    if options.takedown:
        read_takedown_list(options.takedown)  # a list that can't be read must stop the build before it begins
    files = input_files(inputs, except_under=out)
    key = _key(files, options)
    finished = _finished_report(out, key)
    if finished is not None:
        return finished
    (out / "report.json").unlink(missing_ok=True)
    started = time.monotonic()
    stage_files = extract_all(files, open_stage(out / "stages" / "extracted", key), options)
    _demand_something_readable(stage_files, inputs)
    extracted = time.monotonic()
    duplicates = _find_duplicates(stage_files, options)
    deduplicated = time.monotonic()
    counts = _write(stage_files, duplicates, out)
    seconds = {
        "extract": extracted - started,
        "duplicates": deduplicated - extracted,
        "write": time.monotonic() - deduplicated,
    }
    report = BuildReport(
        **counts,
        input_files=len(files),
        input_bytes=sum(file.size for file in files),
        seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
        options={name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
    )
    write_json(out / "report.json", {"key": key, **asdict(report)})
    return report


def _key(files: list[InputFile], options: BuildOptions) -> str:
    """Changes whenever the documents would."""
    deciding = {name: value for name, value in asdict(options).items() if name != "workers"}
    deciding["takedown"] = sha256_of(options.takedown) if options.takedown else None
    seen = [(file.source_file, file.size, file.path.stat().st_mtime_ns if file.size else 0) for file in files]
    return hashlib.sha256(repr((STAGE_VERSION, sorted(deciding.items()), seen)).encode(errors="replace")).hexdigest()


def _finished_report(out: Path, key: str) -> BuildReport | None:
    if not (out / "report.json").exists():
        return None
    saved = read_json(out / "report.json")
    if not isinstance(saved, dict) or saved.pop("key", None) != key:
        return None
    if not (_documents_file(out).exists() and _removed_file(out).exists()):
        return None
    examples = {reason: tuple(RemovedExample(**one) for one in some) for reason, some in saved["examples"].items()}
    lists = ("skip_elements", "filters", "without_rules")
    options = {**saved["options"], **{name: tuple(saved["options"][name]) for name in lists}}
    return BuildReport(**{**saved, "examples": examples, "options": options, "already_finished": True})


def _documents_file(out: Path) -> Path:
    return out / "documents" / "documents-00000.parquet"


def _removed_file(out: Path) -> Path:
    return out / "removed" / "removed-00000.parquet"


def _demand_something_readable(stage_files: list[Path], inputs: Sequence[Path]) -> None:
    first = None
    for row in read_rows(stage_files, ["reason", "source_file"]):
        if not (row["reason"] or "").startswith("file: "):
            return
        first = first or f"{row['source_file']}: {row['reason'].removeprefix('file: ')}"
    where = ", ".join(map(str, inputs))
    raise BadInput(f"{where}: nothing could be read ({first or 'there are no pages in it'}); give other files.")


def _find_duplicates(stage_files: list[Path], options: BuildOptions) -> dict[str, Duplicate]:
    if options.filters == ("none",):
        return {}
    with progress_bar("duplicates", unit="documents") as bar:

        def survivors() -> Iterator[tuple[str, str]]:
            for row in read_rows(stage_files, ["id", "text", "reason"]):
                if row["reason"] is None:
                    bar.advance()
                    yield row["id"], row["text"]

        return find_duplicates(survivors(), options.near_duplicates)


def _write(stage_files: list[Path], duplicates: dict[str, Duplicate], out: Path) -> dict[str, Any]:
    """Write documents and removed records; returns the counts of the report."""
    removed: Counter[str] = Counter()
    examples: defaultdict[str, list[RemovedExample]] = defaultdict(list)
    kept = characters = size = unread = repeated = 0
    for folder in (_documents_file(out).parent, _removed_file(out).parent):
        remove_partial_files(folder)
    with (
        whole_file(_documents_file(out)) as documents_handle,
        whole_file(_removed_file(out)) as removed_handle,
        TableWriter(documents_handle, DOCUMENTS) as documents,
        TableWriter(removed_handle, REMOVED) as removals,
    ):
        for row in read_rows(stage_files):
            duplicate = duplicates.get(row["id"]) if row["reason"] is None else None
            if duplicate:
                row["reason"] = "exact duplicate" if duplicate.exact else "near duplicate"
                row |= {"value": duplicate.similarity, "duplicate_of": duplicate.duplicate_of}
                repeated += 1
            if row["reason"] is None:
                documents.add(row)
                kept += 1
                characters += len(row["text"])
                size += len(row["text"].encode())
                continue
            removals.add(row)
            reason = row["reason"]
            removed[reason] += 1
            unread += row["extractor"] is None
            if len(examples[reason]) < EXAMPLES_PER_REASON:
                excerpt = (row["text"] or "")[:EXCERPT_CHARACTERS]
                examples[reason].append(
                    RemovedExample(row["id"], row["url"], row["source_file"], row["value"], excerpt)
                )
    pages = kept + removed.total()
    return {
        "pages": pages,
        "kept": kept,
        "removed": dict(sorted(removed.items(), key=lambda item: (-item[1], item[0]))),
        "funnel": {
            "found": pages,
            "read": pages - unread,
            "extracted and filtered": kept + repeated,
            "without duplicates": kept,
        },
        "characters": characters,
        "bytes": size,
        "examples": {reason: tuple(some) for reason, some in examples.items()},
    }
