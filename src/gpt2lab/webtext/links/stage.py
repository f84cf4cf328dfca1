"""The first stage of `links`: every input file becomes one file of the links it gives, and one of counts, for good."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pyarrow.parquet
import xxhash

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, whole_file, write_json
from gpt2lab.webtext.links.partitions import PartitionWriter
from gpt2lab.webtext.links.reddit import Mention, read_submission
from gpt2lab.webtext.links.url_rules import read_link
from gpt2lab.webtext.pages.compressed import COMPRESSED_SUFFIXES, LONGEST_LINE_BYTES, LineReader
from gpt2lab.webtext.pages.page import MIB, DamageError
from gpt2lab.webtext.pages.parquet import DAMAGED_PARQUET, first_line

STAGE_VERSION = 1  # a number to raise when the same input and options would give other links
EXAMPLES_PER_REASON = 3
EXAMPLE_CHARACTERS = 200

Format = Literal["submissions", "list", "links"]
FORMATS: dict[str, Format] = {
    "": "submissions",
    ".json": "submissions",
    ".jsonl": "submissions",
    ".ndjson": "submissions",
    ".txt": "list",
    ".parquet": "links",
}
KNOWN_TYPES = "RS_* dumps or .jsonl, .txt (all of them .zst, .xz, .bz2 or .gz too), .parquet with a column url"

MENTIONS = pyarrow.schema(
    [
        ("hash", pyarrow.uint64()),
        ("check", pyarrow.uint64()),  # with `hash` 128 bits: two links in a world of links don't share them
        ("url", pyarrow.string()),
        ("domain", pyarrow.string()),
        ("score", pyarrow.int64()),
        ("submissions", pyarrow.int64()),
        ("first_seen", pyarrow.int64()),
        ("source", pyarrow.string()),
    ]
)


@dataclass(frozen=True)
class LinksOptions:
    """Which links are taken. All but `workers` decide what comes out."""

    minimum_score: int = 3
    """karma that a link needs; plain lists have none and are taken as they are"""
    combine: Literal["after", "before"] = "after"
    """scores of repeated submissions are summed after each had to reach the minimum (as WebText says), or before"""
    over_18: bool = False
    """take links that are marked as for adults only too"""
    drop_domains: Path | None = None
    """a .txt of further domains to drop, one a line"""
    workers: int = 0
    """processes that read, one input file each at a time; 0: one a core"""

    def __post_init__(self) -> None:
        if self.combine not in ("after", "before"):
            raise BadOption(f"combine: {self.combine!r} is unknown; choose after or before.")
        if self.workers < 0:
            raise BadOption(f"workers: {self.workers} is too few; give 1 or more, or 0 for one a core.")


@dataclass(frozen=True)
class LinkFile:
    """One input: where it is, the name that links give as their source, bytes, time of its last change, format."""

    path: Path
    source: str
    size: int
    changed: int
    format: Format


@dataclass
class FileCounts:
    """What became of the lines of one input. lines = taken + the sum of `dropped`."""

    source: str
    bytes: int
    lines: int = 0
    taken: int = 0
    malformed: int = 0
    """of those dropped, the ones that could not be understood"""
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    damage: str | None = None
    """why the file could not be read to its end"""
    rows: list[int] = field(default_factory=list)
    """lines taken, in each partition"""


def link_files(inputs: Sequence[Path], except_under: Path) -> list[LinkFile]:
    """The files to read, in the order of their names whatever the order they are given in.

    In a folder, files of other types are passed over. Raises BadInput for inputs that are absent or of other types.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        if not given.exists():
            raise BadInput(f"{given}: no such file or folder.")
        if given.is_dir():
            paths = [path for path in sorted(given.rglob("*")) if path.is_file() and _is_ours(path, given)]
            paths = [path for path in paths if not path.resolve().is_relative_to(except_under.resolve())]
            if not paths:
                raise BadInput(f"{given}: no links here; give {KNOWN_TYPES}.")
        elif _format_of(given.name) is None or not given.is_file():
            raise BadInput(f"{given}: can't tell what it holds; give {KNOWN_TYPES}.")
        else:
            paths = [given]
        for path in paths:
            found.setdefault(path.resolve(), path)
    if not found:
        raise BadInput(f"no input; give {KNOWN_TYPES}.")
    times = Counter(path.name for path in found.values())
    files = []
    for path in found.values():
        state = path.stat()
        name = path.name if times[path.name] == 1 else path.as_posix()
        files.append(LinkFile(path, name, state.st_size, state.st_mtime_ns, _format_of(path.name) or "list"))
    return sorted(files, key=lambda file: file.source)


def _is_ours(path: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    return _format_of(path.name) is not None and (path.name.startswith("RS_") or "." in path.name)


def _format_of(name: str) -> Format | None:
    path = Path(name)
    if path.suffix.lower() in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
        if path.suffix.lower() == ".parquet":
            return None
    return FORMATS.get(path.suffix.lower())


def read_dropped_domains(path: Path | None) -> frozenset[str]:
    """The domains of a list, one a line; # begins a comment. Raises BadInput when it can't be read."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read as a list of domains ({error}).") from None
    return frozenset(word.lower().removeprefix("www.") for line in lines if (word := line.partition("#")[0].strip()))


def stage_key(file: LinkFile, options: LinksOptions, dropped_domains: frozenset[str]) -> str:
    """Changes whenever the links of a file would."""
    minimum = options.minimum_score if options.combine == "after" else None
    deciding = (STAGE_VERSION, minimum, options.over_18, sorted(dropped_domains), file.format)
    identity = (file.source, file.size, file.changed)
    return hashlib.sha256(repr((deciding, identity)).encode(errors="surrogateescape")).hexdigest()[:24]


def counts_file(stage_file: Path) -> Path:
    """Where the counts of a stage file are; it is written last, and says that both are whole."""
    return stage_file.with_suffix(".json")


def read_counts(stage_file: Path) -> FileCounts:
    """The counts of a finished stage file."""
    return FileCounts(**read_json(counts_file(stage_file)))


def stage_links(
    file: LinkFile,
    stage_file: Path,
    options: LinksOptions,
    dropped_domains: frozenset[str],
    advance: Callable[[int], None],
) -> None:
    """Read one input into its stage file. Nothing that the input holds stops it."""
    counts = FileCounts(file.source, file.size)
    dropped: Counter[str] = Counter()
    minimum = options.minimum_score if options.combine == "after" else None

    def drop(reason: str, example: str) -> None:
        dropped[reason] += 1
        counts.malformed += reason.startswith("line: ")
        some = counts.examples.setdefault(reason, [])
        if len(some) < EXAMPLES_PER_REASON:
            some.append(example[:EXAMPLE_CHARACTERS].encode(errors="replace").decode())

    with whole_file(stage_file) as handle, PartitionWriter(handle, MENTIONS) as writer:
        try:
            for mention, example in _mentions(file, options, advance):
                counts.lines += 1
                if isinstance(mention, str):
                    drop(mention, example)
                    continue
                if minimum is not None and mention.score is not None and mention.score < minimum:
                    drop(score_reason(minimum), mention.url)
                    continue
                link = read_link(mention.url, dropped_domains)
                if isinstance(link, str):
                    drop(link, mention.url)
                    continue
                digest = xxhash.xxh3_128_intdigest(link.key.encode())
                writer.add(
                    (
                        digest >> 64,
                        digest & ((1 << 64) - 1),
                        link.url,
                        link.domain.label,
                        mention.score,
                        mention.submissions,
                        mention.first_seen,
                        mention.source or file.source.encode(errors="replace").decode(),
                    )
                )
                counts.taken += 1
        except DamageError as damage:
            counts.damage = str(damage)
    counts.rows = writer.rows
    counts.dropped = dict(sorted(dropped.items()))
    counts.source = counts.source.encode(errors="replace").decode()
    write_json(counts_file(stage_file), asdict(counts))


def score_reason(minimum: int) -> str:
    """How a link with too little karma is counted."""
    return f"score below {minimum:,}"


Found = tuple[Mention | str, str]
"""A link or the reason why there is none, and an excerpt of the place."""


def _mentions(file: LinkFile, options: LinksOptions, advance: Callable[[int], None]) -> Iterator[Found]:
    """Everything in one file; raises DamageError where it can't be read on."""
    if file.size == 0:
        raise DamageError("empty")
    try:
        match file.format:
            case "submissions":
                yield from _mentions_of_submissions(LineReader(file.path, advance), options.over_18)
            case "list":
                yield from _mentions_of_list(LineReader(file.path, advance))
            case "links":
                yield from _mentions_of_table(file.path)
                advance(file.size)
    except DAMAGED_PARQUET as error:
        raise DamageError(f"can't be read ({getattr(error, 'strerror', None) or first_line(error)})") from None


def _too_long(line: bytes) -> Found | None:
    if len(line) <= LONGEST_LINE_BYTES:
        return None
    return f"line: longer than {LONGEST_LINE_BYTES // MIB} MiB", line[:EXAMPLE_CHARACTERS].decode(errors="replace")


def _mentions_of_submissions(lines: LineReader, over_18: bool) -> Iterator[Found]:
    found: Mention | str | None = None
    for line in lines:
        if too_long := _too_long(line):
            yield too_long
        elif line and not line.isspace():
            found = read_submission(line, over_18)
            if isinstance(found, Mention):
                yield found, ""
            else:
                yield found, line[:EXAMPLE_CHARACTERS].decode(errors="replace")
    if lines.ends_within_line and isinstance(found, str) and found == "line: not valid JSON":
        raise DamageError("cut short within its last line")


def _mentions_of_list(lines: LineReader) -> Iterator[Found]:
    for number, line in enumerate(lines):
        text = (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).strip()
        if too_long := _too_long(line):
            yield too_long
        elif text and not text.startswith(b"#"):
            try:
                yield Mention(text.decode(), None), ""
            except UnicodeDecodeError:
                yield "line: not UTF-8", text.decode(errors="replace")


def _mentions_of_table(path: Path) -> Iterator[Found]:
    """A table of links such as ours; all columns but `url` may be absent."""
    with pyarrow.parquet.ParquetFile(path) as table:
        names = table.schema_arrow.names
        if "url" not in names:
            raise DamageError(f"no column url (it has {', '.join(names)})")
        columns = [name for name in ("url", "score", "submissions", "first_seen", "source") if name in names]
        for batch in table.iter_batches(4096, columns=columns):
            for row in batch.to_pylist():
                yield _mention_of_row(row), repr(row)


def _mention_of_row(row: dict[str, Any]) -> Mention | str:
    score, submissions, seen, source = (row.get(name) for name in ("score", "submissions", "first_seen", "source"))
    if not isinstance(row["url"], str):
        return "line: url is no text"
    if not (isinstance(score, int | None) and isinstance(submissions, int | None)):
        return "line: score is no whole number"
    seconds = int(seen.timestamp()) if isinstance(seen, datetime) else None
    if submissions is None:
        submissions = 0 if score is None else 1
    return Mention(row["url"], score, seconds, submissions, source if isinstance(source, str) else None)
