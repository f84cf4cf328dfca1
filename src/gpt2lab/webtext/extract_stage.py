"""The first stage of `build`: every input file becomes one table of extracted and judged pages, whole or absent."""

import hashlib
import shutil
from pathlib import Path

from gpt2lab.base.files import read_json, whole_file, write_json
from gpt2lab.base.progress import progress_bar
from gpt2lab.webtext.build_options import BuildOptions
from gpt2lab.webtext.extraction.extract import clean_text, extract
from gpt2lab.webtext.pages.page import InputFile, Page, Unreadable
from gpt2lab.webtext.pages.read import read_pages
from gpt2lab.webtext.quality.filters import judge, rules_of
from gpt2lab.webtext.tables import EXTRACTED, Row, TableWriter, remove_partial_files
from gpt2lab.webtext.takedown import TakedownList, read_takedown_list
from gpt2lab.webtext.workers import Advance, run_tasks


def document_id(source_file: str, index: int) -> str:
    """The id of a record: the same in every build of the same files."""
    return hashlib.sha256(f"{source_file}\0{index}".encode(errors="surrogateescape")).hexdigest()[:24]


def open_stage(folder: Path, key: str) -> Path:
    """The folder of a stage, emptied first if what is in it was made of something else."""
    marker = folder / "stage.json"
    if not marker.exists() or read_json(marker) != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(marker, key)
    remove_partial_files(folder)
    return folder


def extract_all(files: list[InputFile], folder: Path, options: BuildOptions) -> list[Path]:
    """One stage file for each input file; the ones that are there already stay."""
    stage_files = [folder / f"{n:05d}-{Path(file.source_file).name[:80]}.parquet" for n, file in enumerate(files)]
    tasks = [(file, path) for file, path in zip(files, stage_files, strict=True) if not path.exists()]
    with progress_bar("extract", sum(file.size for file in files) / 1e6, "MB") as bar:
        bar.skip(sum(file.size for file in files) / 1e6 - sum(file.size for file, _ in tasks) / 1e6)
        tasks.sort(key=lambda task: -task[0].size)  # the largest first: workers end together
        run_tasks(
            _extract_file,
            [(file, path, options) for file, path in tasks],
            options.workers,
            lambda amount: bar.advance(amount / 1e6),
        )
    return stage_files


def _extract_file(file: InputFile, stage_file: Path, options: BuildOptions, advance: Advance) -> None:
    rules = rules_of(options.filters, options.without_rules, options.minimum_characters)
    takedown = read_takedown_list(options.takedown) if options.takedown else TakedownList()
    with whole_file(stage_file) as handle, TableWriter(handle, EXTRACTED) as writer:
        for item in read_pages(file, options.text_column):
            row: Row = {
                "id": document_id(item.source_file, item.index),
                "url": item.url,
                "source_file": item.source_file,
                "index": item.index,
            }
            if takedown.covers(item.url):
                row |= {"reason": "takedown"}
            elif isinstance(item, Unreadable):
                row |= {"reason": item.reason, "text": clean_text(item.excerpt)}
            else:
                title, text, row["extractor"], failure = _extract_page(item, options)
                removal = judge(text, title, rules).removal
                row |= {"title": title, "text": text}
                if removal:
                    row |= {"reason": failure or removal.rule, "value": removal.value}
            writer.add(row)
    advance(file.size)


def _extract_page(page: Page, options: BuildOptions) -> tuple[str, str, str, str | None]:
    """Title, text, the name of the extractor, and what made it fail if it did."""
    if page.kind == "text":
        return "", clean_text(page.content), "plain text", None
    try:
        found = extract(page.content, options.extractor, options.skip_elements, page.url)
    except Exception as error:  # other people's parsers on other people's pages: one page must not end the run
        return "", "", options.extractor, f"extractor failed: {type(error).__name__}"
    return found.title, found.text, options.extractor, None
