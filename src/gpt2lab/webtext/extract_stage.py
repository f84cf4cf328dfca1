"""The first stage of `build`: every input file becomes tables of extracted and judged pages, whole or absent.

A file is named for what it was made of: names, sizes and times of the input, and the options. So a build that was
killed, or whose input grew, does only what is missing.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import xxhash

from gpt2lab.base.files import remove_partial_files, sha256_of, whole_file
from gpt2lab.base.progress import progress_bar
from gpt2lab.base.workers import Advance, survives
from gpt2lab.datasets.evaluation_texts import named_set
from gpt2lab.webtext.build_options import BuildOptions
from gpt2lab.webtext.duplicates.sketch import sketch
from gpt2lab.webtext.page_stage import Settings, row_of
from gpt2lab.webtext.pages.page import MIB, FilePart, InputFile, Unreadable
from gpt2lab.webtext.pages.read import parts_of, read_pages
from gpt2lab.webtext.tables import Row, TableWriter, batch_of_rows, extracted_schema, read_batches
from gpt2lab.webtext.workers import run_tasks

STAGE_VERSION = 5  # a number to raise when the same input and options would give other rows
TASKS = 64  # about so many for each build, so that workers end together ...
SMALLEST_TASK, LARGEST_TASK = MIB // 16, 64 * MIB  # ... but none outside these bytes of input
FILES_PER_TASK = 1000
ROWS_AT_ONCE = 256
CHARACTERS_AT_ONCE = 8 << 20
DECIDING_PACKAGES = (
    "fastwarc",
    "ftfy",
    "gpt2lab",
    "lxml",
    "newspaper4k",
    "py3langid",
    "rensa",
    "resiliparse",
    "trafilatura",
)
"""Other versions of them may make other rows"""
NOT_DECIDING = frozenset(("workers", "ray"))
"""Options that change nothing in what comes out"""


@dataclass(frozen=True)
class Task:
    """Some files, or parts of one, that become one stage file."""

    parts: tuple[FilePart, ...]
    stage_file: Path

    @property
    def size(self) -> int:
        """Input bytes."""
        return sum(part.size for part in self.parts)


def options_key(options: BuildOptions) -> str:
    """Changes whenever a deciding option does; of a file that is named, when its contents do."""
    deciding = {name: value for name, value in asdict(options).items() if name not in NOT_DECIDING}
    deciding["takedown"] = sha256_of(options.takedown) if options.takedown else None
    deciding["decontaminate"] = [(name, sha256_of(path)) for name, path in map(named_set, options.decontaminate)]
    versions = [version(name) for name in DECIDING_PACKAGES]
    return hashlib.sha256(repr((STAGE_VERSION, versions, sorted(deciding.items()))).encode()).hexdigest()


def identity(file: InputFile) -> tuple[str, int, int]:
    """What tells a file from a changed one: name, size, time."""
    return file.source_file, file.size, file.path.stat().st_mtime_ns if file.size else 0


def extract_all(files: Sequence[InputFile], folder: Path, options: BuildOptions) -> list[Path]:
    """The stage files of all input files, in their order; those that are there already stay."""
    tasks = _tasks(files, folder, options)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    missing = [task for task in tasks if not task.stage_file.exists()]
    size = sum(task.size for task in tasks)
    with progress_bar("extract", size / 1e6, "MB") as bar:
        bar.skip((size - sum(task.size for task in missing)) / 1e6)
        missing.sort(key=lambda task: -task.size)  # the largest first: workers end together
        run_tasks(
            _extract,
            [(task, options) for task in missing],
            options.workers,
            lambda amount: bar.advance(amount / 1e6),
            options.ray,
            _extract_without_killers,
        )
    return [task.stage_file for task in tasks]


def keep_only(stage_files: Sequence[Path]) -> None:
    """Delete what earlier builds of other input or options left beside the stage files of a finished one."""
    wanted = set(stage_files)
    for folder in {path.parent for path in stage_files}:
        for path in folder.glob("*.parquet"):
            if path not in wanted:
                path.unlink()


def _tasks(files: Sequence[InputFile], folder: Path, options: BuildOptions) -> list[Task]:
    size = sum(file.size for file in files) // TASKS
    largest = min(max(1 << size.bit_length(), SMALLEST_TASK), LARGEST_TASK)  # a power of two: it seldom changes
    key = options_key(options)
    return [Task(group, folder / f"{_group_key(group, key)}.parquet") for group in _groups(files, largest)]


def _groups(files: Sequence[InputFile], largest: int) -> Iterator[tuple[FilePart, ...]]:
    """Parts of large files, and small files together.

    Where a group ends is said by its last file's name, so a file more or less changes one group or two, not all after.
    """
    group: list[FilePart] = []
    size = 0
    for file in files:
        for part in parts_of(file, largest):
            if group and (len(group) >= FILES_PER_TASK or size + part.size > largest):
                yield tuple(group)
                group, size = [], 0
            group.append(part)
            size += part.size
            if xxhash.xxh3_64_intdigest(file.source_file.encode(errors="replace")) * largest < (part.size << 65):
                yield tuple(group)
                group, size = [], 0
    if group:
        yield tuple(group)


def _group_key(group: tuple[FilePart, ...], key: str) -> str:
    seen = [(*identity(part.file), part.begin, part.end) for part in group]
    return hashlib.sha256(repr((key, seen)).encode(errors="replace")).hexdigest()[:32]


def _extract(task: Task, options: BuildOptions, advance: Advance) -> None:
    settings = Settings.of(options)
    schema = extracted_schema([rule.name for rule in settings.rules])
    with whole_file(task.stage_file) as handle, TableWriter(handle, schema) as writer:
        for part in task.parts:
            for rows in _in_batches(row_of(item, settings) for item in read_pages(part, options.text_column)):
                with settings.clock("sketch"):
                    _add_sketches(rows, options.near_duplicates)
                with settings.clock("store"):
                    writer.add(batch_of_rows(rows, schema))
            advance(part.size)
        writer.note({"seconds": json.dumps(settings.seconds)})


def _extract_without_killers(task: Task, options: BuildOptions, advance: Advance) -> None:
    """The stage file of a task that killed its process: of each part that does so alone, all that is said is that."""
    settings = Settings.of(options)
    schema = extracted_schema([rule.name for rule in settings.rules])
    with whole_file(task.stage_file) as handle, TableWriter(handle, schema) as writer:
        for part in task.parts:
            alone = Task((part,), task.stage_file.with_suffix(".alone"))
            if survives(_extract, (alone, options)):
                for batch in read_batches(alone.stage_file):
                    writer.add(batch)
                alone.stage_file.unlink()
            else:
                killer = Unreadable(part.file.source_file, part.begin, None, "file: reading it killed the reader")
                writer.add(batch_of_rows([row_of(killer, settings)], schema))
        writer.note({"seconds": "{}"})
    advance(task.size)


def _in_batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += row.get("characters") or 0
        if len(batch) >= ROWS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _add_sketches(rows: list[Row], threshold: float | None) -> None:
    """What finds the duplicates of the rows that passed."""
    passed = [row for row in rows if row.get("reason") is None]
    sketches = sketch([row["text"] for row in passed], threshold)
    for number, row in enumerate(passed):
        row["text_hash"] = sketches.text_hashes[number]
        row["bands"] = sketches.bands[number] if sketches.bands else None
