"""Readers: WARC, WET, HTML, text, JSON lines and Parquet files become a stream of pages, whatever state they are in.

Bad input never stops a run: what can't be read comes out as an `Unreadable` with its reason, in its place.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.crawl.crawl_folder import LOG_NAME
from gpt2lab.webtext.pages.compressed import COMPRESSED_SUFFIXES
from gpt2lab.webtext.pages.jsonl import read_jsonl
from gpt2lab.webtext.pages.page import (
    LARGEST_TEXT_BYTES,
    DamageError,
    FilePart,
    Format,
    InputFile,
    Page,
    Unreadable,
    is_panic,
    unicode_of,
)
from gpt2lab.webtext.pages.parquet import DAMAGED_PARQUET, first_line, read_parquet, row_group_sizes
from gpt2lab.webtext.pages.plain import PIECE_BYTES, read_html, read_text
from gpt2lab.webtext.pages.warc import read_warc, warc_boundaries

FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
}


OUTPUT_NAMES = frozenset({"documents", "removed", "stages", "report.json", "report.html"})
"""What a build writes into its folder."""


def input_files(inputs: Sequence[Path], except_under: Path | None = None) -> list[InputFile]:
    """All files under `inputs` (files or folders), each once, except those under one folder, sorted by `source_file`.

    Of an input that lies in that folder, only what a build writes there is left out. Names that start with a dot, and
    the logs that `fetch` leaves beside its pages, are passed over. Folders that can't be opened, and links to folders,
    which are not followed, stand in the list without a format. `source_file` is the path relative to the input it was
    found in; where that would give two files the same name, the path as it was given; else the whole path. Raises
    BadInput when an input is absent or no file is of a type we read.
    """
    found: dict[str, tuple[str, Path]] = {}
    out = os.path.realpath(except_under) if except_under else None
    excepted = False
    real_folder: Callable[[Path], str] = lru_cache(maxsize=1 << 10)(os.path.realpath)
    for given in inputs:
        try:
            is_folder = stat.S_ISDIR(given.stat().st_mode)
        except FileNotFoundError:
            raise BadInput(f"{given}: no such file or folder.") from None
        except (OSError, ValueError) as error:
            raise BadInput(f"{given}: can't be read ({getattr(error, 'strerror', None) or error}).") from None
        names = OUTPUT_NAMES if out and _inside(os.path.realpath(given), out) is not None else None
        for path in _walk(given) if is_folder else [given]:
            real_paths = _real_paths(path, real_folder)
            if out and any(_is_output(real, out, names) for real in real_paths):
                excepted = True
                continue
            name = printable_name(path.relative_to(given).as_posix() if is_folder else path.name)
            # Of two ways to a file one whose name tells its format, and always the same one
            known = found.setdefault(real_paths[-1], (name, path))
            if known != (name, path):
                ways = (known, (name, path))
                found[real_paths[-1]] = min(ways, key=lambda way: (format_of(way[1]) is None, *way))
    names_of_files = _unique_names(found)
    files = [_input_file(path, names_of_files[real]) for real, (_, path) in found.items()]
    if not any(file.format for file in files):
        where = ", ".join(map(str, inputs)) or "no input"
        if excepted:
            raise BadInput(
                f"{where}: nothing to read here but what is in {except_under}, the folder to write to; give others."
            )
        raise BadInput(f"{where}: nothing to read here; give files of type {' '.join(FORMATS)} (.gz and .zst too).")
    return sorted(files, key=lambda file: file.source_file)


def _real_paths(path: Path, real_folder: Callable[[Path], str]) -> tuple[str, ...]:
    """Where a file stands and, if it is a link, where the file that it leads to does; no links or `..` on the way."""
    place = os.path.join(real_folder(path.parent), path.name)
    return (place, os.path.realpath(path)) if os.path.islink(path) and path.is_file() else (place,)


def _inside(path: str, folder: str) -> str | None:
    """A path from a folder on, or None where it lies elsewhere."""
    if path == folder:
        return ""
    start = os.path.join(folder, "")
    return path.removeprefix(start) if path.startswith(start) else None


def _is_output(path: str, out: str, names: frozenset[str] | None) -> bool:
    inner = _inside(path, out)
    return inner is not None and (names is None or inner.partition("/")[0] in names)


def _unique_names(found: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """A name for each file, by its real path: names that clash give way to longer ones until none does."""
    names = {real: name for real, (name, _) in found.items()}
    longer: dict[str, list[str]] = {}
    while True:
        times = Counter(names.values())
        clashing = [real for real, name in names.items() if times[name] > 1]
        if not clashing:
            return names
        for real in clashing:
            if real not in longer:
                # With backslashes doubled no name spells out the bytes of another, so these can't clash
                last = os.fsencode(real).replace(b"\\", b"\\\\").decode(errors="backslashreplace")
                longer[real] = [last, printable_name(real), printable_name(found[real][1].as_posix())]
            if longer[real]:
                names[real] = longer[real].pop()


def _walk(folder: Path) -> Iterator[Path]:
    unreadable: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(error.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent) / name for name in folders if os.path.islink(os.path.join(parent, name)))
        yield from (Path(parent) / name for name in names if not name.startswith(".") and name != LOG_NAME)
    yield from map(Path, unreadable)


def printable_name(name: str) -> str:
    """A name in UTF-8, its other bytes spelled out."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _input_file(path: Path, source_file: str) -> InputFile:
    """A broken link, or a file that vanished, keeps its format: reading it says what is wrong."""
    try:
        status = path.stat()
    except OSError:
        return InputFile(path, source_file, 0, format_of(path))
    if not stat.S_ISREG(status.st_mode):
        return InputFile(path, source_file, 0, None)
    return InputFile(path, source_file, status.st_size, format_of(path))


def format_of(path: Path) -> Format | None:
    """The format a file's name promises; None for other types."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES else None
    found = FORMATS.get(suffixes[-1]) if suffixes else None
    if compression and (found == "parquet" or (found == "warc" and compression != ".gz")):
        return None
    return found


def _why_not_ours(path: Path) -> str:
    if path.is_dir():
        if path.is_symlink():
            return "a link to a folder is not followed"
        try:
            os.scandir(path).close()
        except OSError as error:
            return f"can't be read ({error.strerror})"
    if path.exists() and not path.is_file():
        return "what is no regular file is not read"
    compressed = path.suffix.lower() in COMPRESSED_SUFFIXES
    suffix = "".join(path.suffixes[-2:] if compressed else path.suffixes[-1:])
    if suffix.lower().removesuffix(".gz") == ".arc":
        return f"type {suffix} is not read; make a WARC of it with `warcio recompress`"
    return (f"type {suffix}" if suffix else "a name without a type") + " is not read"


def read_pages(source: InputFile | FilePart, text_column: str = "text") -> Iterator[Page | Unreadable]:
    """Everything in one file or part of one, in its order; never raises for what the file holds."""
    part = source if isinstance(source, FilePart) else FilePart(source, 0, None, source.size)
    file = part.file
    index = part.begin - 1 if file.format != "parquet" else -1
    try:
        if file.format is None:
            raise DamageError(_why_not_ours(file.path))
        if file.size == 0 and file.path.exists():
            raise DamageError("empty")
        for item in _items(part, file.format, text_column):
            index = max(index, item.index)
            yield item
    except DamageError as damage:
        yield Unreadable(file.source_file, index + 1, None, f"file: {damage.reason}", damage.where)
    except DAMAGED_PARQUET as error:
        of_system = getattr(error, "strerror", None)
        reason, excerpt = (f"can't be read ({of_system})", "") if of_system else ("can't be read", first_line(error))
        yield Unreadable(file.source_file, index + 1, None, f"file: {reason}", excerpt)
    except BaseException as error:
        if not is_panic(error):
            raise
        yield Unreadable(file.source_file, index + 1, None, "file: the reader panicked", first_line(error))


def _items(part: FilePart, kind: Format, text_column: str) -> Iterator[Page | Unreadable]:
    match kind:
        case "warc":
            return read_warc(part)
        case "jsonl":
            return read_jsonl(part, text_column)
        case "parquet":
            return read_parquet(part, text_column)
        case "html":
            return read_html(part)
        case "text":
            return read_text(part)


def parts_of(file: InputFile, size: int) -> list[FilePart]:
    """Parts of about `size` bytes of a file that read_pages gives the same pages for as for the file, in this order.

    A file of another state or kind is one part: a compressed one other than a WARC with many gzip members, a small one,
    a damaged one.
    """
    whole = FilePart(file, 0, None, file.size)
    if file.size <= size or file.format in (None, "html"):
        return [whole]
    try:
        return _parts(whole, max(size, 1)) or [whole]
    except DAMAGED_PARQUET:
        return [whole]  # reading it will tell


def _parts(whole: FilePart, size: int) -> list[FilePart]:
    file = whole.file
    if file.format == "parquet":
        return _row_group_parts(whole, size)
    if file.format != "warc" and file.path.suffix.lower() in COMPRESSED_SUFFIXES:
        return [whole]
    with file.path.open("rb") as handle:
        if file.format == "warc":
            starts = list(warc_boundaries(handle, file.size, size))
        elif file.format == "jsonl":
            starts = list(range(size, file.size, size))
        else:
            if file.size <= LARGEST_TEXT_BYTES or unicode_of(handle.read(4096)) not in (None, "utf-8-sig"):
                return [whole]
            starts = list(range(0, file.size, -(-size // PIECE_BYTES) * PIECE_BYTES))[1:]
    return [
        FilePart(file, begin, None if end == file.size else end, end - begin)
        for begin, end in pairwise([0, *starts, file.size])
    ]


def _row_group_parts(whole: FilePart, size: int) -> list[FilePart]:
    sizes = row_group_sizes(whole)
    parts, begin, held = [], 0, 0
    for group, bytes_of_it in enumerate(sizes):
        held += bytes_of_it
        if held >= size or group == len(sizes) - 1:
            parts.append(FilePart(whole.file, begin, group + 1, held))
            begin, held = group + 1, 0
    return parts
