"""Verbs from links to documents."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def links_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.links.links import LinksOptions, links
    from gpt2lab.webtext.links.report import write_links_report

    def command(
        inputs: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        options: Annotated[LinksOptions, tyro.conf.arg(name="")] = LinksOptions(),  # noqa: B008 - frozen
        compare: Path | None = None,
        json: bool = False,
    ) -> None:
        """Gather the links of Reddit dumps and lists: each once, with its karma, what holds no text left out.

        Args:
            inputs: files or folders of RS_* dumps (.zst .xz .bz2 .gz .jsonl), URL lists (.txt), links.parquet
            out: folder for links.parquet, domains.parquet and the report
            compare: OpenAI's published domains.txt, to put its 1,000 domains beside ours
            json: print the report as JSON
        """
        report = links(inputs, out, options, compare)
        write_links_report(report, out, command_line())
        if json:
            return print_json(report)
        found = " (found finished)" if report.already_finished else ""
        say(f"{out}: {report.links:,} links of {report.lines:,} lines{found}; why the rest went: {out}/report.html")
        say(next_command(f"gpt2lab fetch {out}/links.parquet --out pages/"))
        return None

    return command


def fetch_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch

    def command(
        links: tyro.conf.Positional[Path],
        out: Path,
        options: Annotated[FetchOptions, tyro.conf.arg(name="")] = FetchOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Fetch the pages of a list of links into WARC files, politely; goes on where it stopped.

        Args:
            links: a .txt (one URL a line), .jsonl or .parquet (a column url)
            out: folder for pages-*.warc.gz and fetch.jsonl
            json: print the summary as JSON
        """
        summary = fetch(links, out, options)
        if json:
            return print_json(summary)
        failed = f", {sum(summary.errors.values()):,} failed ({summary.errors})" if summary.errors else ""
        say(f"{out}: {summary.pages:,} pages, {summary.bytes / 1e6:,.1f} MB in {summary.seconds:,.1f} s{failed}.")
        say(next_command(f"gpt2lab build {out} --out data/"))
        return None

    return command


def build_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.build import BuildOptions, build
    from gpt2lab.webtext.build_report import write_build_report

    def command(
        inputs: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        options: Annotated[BuildOptions, tyro.conf.arg(name="")] = BuildOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Make clean documents of pages and texts: extract, filter, remove duplicates, keep the reasons.

        Args:
            inputs: files or folders of .txt .md .html .htm .jsonl (.gz .zst .xz .bz2 too), .parquet, .warc .wet (.gz)
            out: folder for documents/, removed/ and the report
            json: print the report as JSON
        """
        report = build(inputs, out, options)
        write_build_report(report, out, command_line())
        if json:
            return print_json(report)
        found = " (found finished)" if report.already_finished else ""
        say(f"{out}: {report.kept:,} documents of {report.pages:,} pages{found}; why the rest went: {out}/report.html")
        say(next_command(f"gpt2lab tokenize {out} --out tokens/"))
        return None

    return command


def why_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.why import told, why

    def command(data: tyro.conf.Positional[Path], page: tyro.conf.Positional[str], json: bool = False) -> None:
        """Tell why a page is in or out: where it was read, what the rules measured, whose duplicate it is.

        Args:
            data: a folder that `build` made
            page: the id of a record, or a URL
            json: print the story as JSON
        """
        stories = why(data, page)
        if json:
            return print_json([asdict(story) for story in stories])
        print("\n\n".join(told(story) for story in stories))
        return None

    return command


def overlap_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.overlap.overlap import OverlapOptions, measure_overlap
    from gpt2lab.webtext.overlap.report import overlap_table, write_overlap_report

    def command(
        documents: tyro.conf.Positional[tuple[Path, ...]],
        sets: tuple[str, ...],
        out: Path | None = None,
        options: Annotated[OverlapOptions, tyro.conf.arg(name="")] = OverlapOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Measure what share of evaluation sets' 8-grams the documents hold, beside the paper's figures.

        Args:
            documents: folders that `build` made, or files and folders of .parquet .jsonl .txt (.gz .zst .bz2 too)
            sets: evaluation sets, NAME=PATH or PATH each; a name such as ptb or lambada finds the paper's figures
            out: folder for overlap.json and a report with the overlapping passages
            json: print the figures as JSON
        """
        report = measure_overlap(documents, sets, options)
        if out is not None:
            write_overlap_report(report, out, command_line())
        if json:
            return print_json(report)
        print(overlap_table(report))
        if out is not None:
            say(f"{out}: the passages that overlap and every item's figures: {out}/report.html, {out}/overlap.json")
        return None

    return command
