"""`build`: from files of any kind to clean documents, with everything that was left out kept beside its reason.

Stages are files on disk. Parts of the input become Parquet files of extracted and judged pages, whole or absent, in
whatever order the workers finish; then duplicates are looked for over all of them, and the documents are written in
the order of the input's names. Killed anywhere and run again, a build goes on and makes the same bytes. `report.json`
is written last and says that a build is finished.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import locked_folder, read_json, write_json
from gpt2lab.webtext.build_options import BuildOptions as BuildOptions
from gpt2lab.webtext.build_options import with_absolute_paths
from gpt2lab.webtext.duplicates.find import KINDS, Decisions, find_duplicates
from gpt2lab.webtext.engine import ray_cluster
from gpt2lab.webtext.extract_stage import extract_all, identity, keep_only, options_key
from gpt2lab.webtext.page_stage import Settings
from gpt2lab.webtext.pages.page import InputFile
from gpt2lab.webtext.pages.read import input_files, printable_name
from gpt2lab.webtext.quality.filters import rules_of
from gpt2lab.webtext.tables import read_batches, read_notes
from gpt2lab.webtext.write_stage import RemovedExample, Tally, write_documents

SITES_IN_REPORT = 1000


@dataclass(frozen=True)
class BuildReport:
    """What a build made. `pages` is every record read or tried; pages = kept + the sum of `removed`."""

    pages: int
    kept: int
    removed: dict[str, int]
    """how many for each reason, most first"""
    funnel: dict[str, int]
    """records left after each step"""
    characters: int
    """of the documents kept"""
    bytes: int
    """UTF-8 bytes of the documents kept"""
    input_files: int
    input_bytes: int
    inputs: tuple[str, ...]
    seconds: dict[str, float]
    """per stage, of the run that finished the build"""
    worker_seconds: dict[str, float]
    """per step of the extracting workers, summed over all of them, earlier runs included"""
    options: dict[str, Any]
    examples: dict[str, tuple[RemovedExample, ...]]
    """a few for each reason"""
    sites: dict[str, int]
    """documents kept of each registered domain, most first, the first thousand"""
    languages: dict[str, int]
    extractors: dict[str, int]
    lengths: dict[int, int]
    """documents by floor(8 log10(characters))"""
    clusters: dict[int, int]
    """groups of duplicates by how many documents they had"""
    already_finished: bool = False
    """the build was found finished, nothing was done"""


def build(inputs: Sequence[Path], out: Path, options: BuildOptions | None = None) -> BuildReport:
    """Make `out/documents/*.parquet` and `out/removed/*.parquet` of all `inputs` (files or folders).

    Run again it goes on where it was; with other options or other input files (names, sizes, times) it does what is
    missing. Raises BadInput when an input is absent, or nothing in any of the files could be read, and BadOption while
    another build works in the same folder.
    """
    options = options or BuildOptions()
    Settings.of(options)  # a list or set that can't be read must stop the build before it begins
    files = input_files(inputs, except_under=out)
    if options.ray:  # the machines of a cluster work in folders of their own; what records call a file stays
        files = [replace(file, path=file.path.absolute()) for file in files]
        out, options = out.absolute(), with_absolute_paths(options)
    key = _key(files, options)
    with locked_folder(out, "build"):
        return _finished_report(out, key) or _build(inputs, files, out, options, key)


def _build(inputs: Sequence[Path], files: list[InputFile], out: Path, options: BuildOptions, key: str) -> BuildReport:
    (out / "report.json").unlink(missing_ok=True)
    seconds: dict[str, float] = {}
    with _clock(seconds, "extract"):
        stage_files = extract_all(files, out / "stages" / "extracted", options)
    _demand_something_readable(stage_files, inputs)
    with _clock(seconds, "duplicates"):
        decisions = _decide(stage_files, out / "stages" / "duplicates", options)
    with _clock(seconds, "write"):
        scores = [rule.name for rule in rules_of(options.filters, options.without_rules, options.minimum_characters)]
        tally = write_documents(stage_files, scores, decisions, out)
    report = BuildReport(
        pages=tally.kept + tally.removed.total(),
        kept=tally.kept,
        removed=_most_first(tally.removed),
        funnel=_funnel(tally),
        characters=tally.characters,
        bytes=tally.bytes,
        input_files=len(files),
        input_bytes=sum(file.size for file in files),
        inputs=tuple(_plain(path.absolute()) for path in inputs),
        seconds=seconds,
        worker_seconds=_worker_seconds(stage_files),
        options={name: _plain(value) for name, value in asdict(options).items()},
        examples={reason: tuple(some) for reason, some in tally.examples.items()},
        sites=dict(list(_most_first(tally.sites).items())[:SITES_IN_REPORT]),
        languages=_most_first(tally.languages),
        extractors=_most_first(tally.extractors),
        lengths=dict(sorted(tally.lengths.items())),
        clusters=decisions.cluster_sizes() if decisions else {},
    )
    write_json(out / "report.json", {"key": key, **asdict(report)})
    keep_only(stage_files)
    return report


@contextmanager
def _clock(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - start, 3)


def _key(files: list[InputFile], options: BuildOptions) -> str:
    """Changes whenever the documents would."""
    seen = [identity(file) for file in files]
    return hashlib.sha256(repr((options_key(options), seen)).encode(errors="replace")).hexdigest()


def _finished_report(out: Path, key: str) -> BuildReport | None:
    if not (out / "report.json").exists():
        return None
    saved = read_json(out / "report.json")
    if not isinstance(saved, dict) or saved.pop("key", None) != key:
        return None
    if not all(any((out / name).glob("*.parquet")) for name in ("documents", "removed")):
        return None
    examples = {reason: tuple(RemovedExample(**one) for one in some) for reason, some in saved["examples"].items()}
    for name in ("lengths", "clusters"):
        saved[name] = {int(number): count for number, count in saved[name].items()}
    changed = {"examples": examples, "inputs": tuple(saved["inputs"]), "already_finished": True}
    return BuildReport(**{**saved, **changed})


def _plain(value: Any) -> Any:
    """An option as JSON has it."""
    if isinstance(value, Path):
        return printable_name(str(value))
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _demand_something_readable(stage_files: list[Path], inputs: Sequence[Path]) -> None:
    first = None
    for stage_file in stage_files:
        for batch in read_batches(stage_file, ["reason", "source_file", "text"]):
            for row in batch.to_pylist():
                if not (row["reason"] or "").startswith("file: "):
                    return
                words = (row["source_file"], row["reason"].removeprefix("file: "), row["text"])
                first = first or ": ".join(filter(None, words))
    where = ", ".join(map(str, inputs))
    raise BadInput(f"{where}: nothing could be read ({first or 'there are no pages in it'}); give other files.")


def _decide(stage_files: list[Path], scratch: Path, options: BuildOptions) -> Decisions | None:
    """Which documents are duplicates of others; None where everything is to be kept."""
    if options.filters == ("none",):
        return None
    if options.ray:
        ray_cluster(options.ray)
    return find_duplicates(stage_files, scratch, options.near_duplicates)


def _worker_seconds(stage_files: list[Path]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for stage_file in stage_files:
        total.update(json.loads(read_notes(stage_file)["seconds"]))
    return {step: round(spent, 3) for step, spent in total.items()}


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _funnel(tally: Tally) -> dict[str, int]:
    pages = tally.kept + tally.removed.total()
    duplicates = {reason: tally.removed[reason] for reason in KINDS if reason}
    contaminated = sum(count for reason, count in tally.removed.items() if reason.startswith("contaminated"))
    passed = tally.kept + contaminated + sum(duplicates.values())
    funnel = {
        "found": pages,
        "read": pages - tally.unread,
        "wanted": pages - tally.unread - tally.unwanted,
        "worth extracting": pages - tally.unread - tally.unwanted - tally.given_up,
        "passed the filters": passed,
    }
    for reason, count in duplicates.items():
        passed -= count
        funnel[f"without {reason}s"] = passed
    if contaminated:
        funnel["not contaminated"] = passed - contaminated
    return funnel
