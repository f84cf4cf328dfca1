"""The report of a build: what was kept, why the rest was not, and where the time went."""

from pathlib import Path

import numpy as np

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars, histogram
from gpt2lab.base.report import Picture, Report
from gpt2lab.webtext.build import BuildReport
from gpt2lab.webtext.write_stage import LENGTH_BINS_PER_DECADE

ROWS_SHOWN = 15


def kept_picture(build: BuildReport) -> Picture:
    """Documents kept, and pages removed for each reason."""
    share = build.kept / build.pages if build.pages else 0.0
    return bars(
        f"{build.kept:,} of {build.pages:,} pages were kept ({share:.0%})",
        [("kept", build.kept), *_first(build.removed, "other reasons")],
        "pages",
    )


def add_removed_examples(report: Report, build: BuildReport) -> None:
    """A folded block with examples of each reason of removal, the most frequent reason first."""
    parts = []
    for reason, count in build.removed.items():
        parts.append(f"—— {reason}: {count:,} removed, for example")
        for example in build.examples[reason]:
            value = "" if example.value is None else f"  (value {example.value:.3g})"
            parts.append(f"{example.id}  {example.url or example.source_file}{value}\n{example.excerpt.strip()}")
    if parts:
        report.details("Examples of what was removed", "\n\n".join(parts))


def write_build_report(build: BuildReport, out: Path, command: str) -> None:
    """Write `out/report.html`."""
    report = Report(
        "Documents built",
        f"{build.kept:,} documents with {build.characters:,} characters were made from {build.pages:,} pages in"
        f" {build.input_files:,} files.",
    )
    seconds = sum(build.seconds.values())
    report.figures(
        [
            ("documents", f"{build.kept:,}"),
            ("removed", f"{sum(build.removed.values()):,}"),
            ("megabytes of text", f"{build.bytes / 1e6:,.1f}"),
            ("input files", f"{build.input_files:,}"),
            ("pages a second", f"{build.pages / seconds:,.0f}" if seconds else "–"),
        ]
    )
    report.picture(_funnel_picture(build))
    report.picture(kept_picture(build))
    add_removed_examples(report, build)
    report.paragraph(f"The story of one page, by its id or URL: gpt2lab why {out} ID")
    _add_documents(report, build)
    _add_duplicates(report, build)
    _add_seconds(report, build)
    report.foot([("command", command), *report_foot()])
    report.write(out / "report.html")


def _funnel_picture(build: BuildReport) -> Picture:
    steps = [(step.capitalize(), count) for step, count in build.funnel.items()]
    losses = [(steps[n][1] - steps[n + 1][1], steps[n + 1][0]) for n in range(len(steps) - 1)]
    most, step = max(losses, default=(0, ""))
    title = f"Most pages were lost on the way to “{step.lower()}”: {most:,}" if most else "No page was lost on the way"
    return bars(title, steps, "records left after each step")


def _add_documents(report: Report, build: BuildReport) -> None:
    """Lengths, sites, languages of what was kept."""
    if not build.kept:
        return
    report.heading("What was kept")
    bins = range(min(build.lengths), max(build.lengths) + 1)
    middles = 10 ** ((np.array(bins) + 0.5) / LENGTH_BINS_PER_DECADE)
    counts = np.array([build.lengths.get(one, 0) for one in bins])
    median = float(middles[np.searchsorted(np.cumsum(counts), build.kept / 2)])
    report.picture(
        histogram(
            f"Half of the documents have more than about {median:,.0f} characters",
            middles,
            "characters",
            "documents",
            log_x=True,
            weights=counts,
            edges=10 ** (np.arange(bins.start, bins.stop + 1) / LENGTH_BINS_PER_DECADE),
        )
    )
    if build.sites:
        site, most = next(iter(build.sites.items()))
        title = f"{site} gave most documents: {most:,} ({most / build.kept:.0%})"
        report.picture(bars(title, _first(build.sites, "other sites"), "documents"))
    languages = {language or "unknown": count for language, count in build.languages.items()}
    language, most = next(iter(languages.items()))
    report.picture(
        bars(
            f"{most / build.kept:.0%} of the documents are in one language ({language})",
            _first(languages, "other languages"),
            "documents",
        )
    )
    report.table(["text found by", "documents"], [[extractor, count] for extractor, count in build.extractors.items()])


def _add_duplicates(report: Report, build: BuildReport) -> None:
    if not build.clusters:
        return
    report.heading("Duplicates")
    groups = sum(build.clusters.values())
    largest = max(build.clusters)
    report.table(
        ["documents in a group", "groups"],
        [[f"{low}" if low == high else f"{low:,} to {high:,}", count] for low, high, count in _ranges(build.clusters)],
        f"{groups:,} groups of documents that say the same; the largest has {largest:,}. One of each was kept.",
    )


def _ranges(counts: dict[int, int]) -> list[tuple[int, int, int]]:
    """Counts by number, gathered in ranges 2, 3 to 4, 5 to 8, 9 to 16, ..."""
    found: dict[int, int] = {}
    for number, count in counts.items():
        power = (number - 1).bit_length()
        found[power] = found.get(power, 0) + count
    return [((1 << power - 1) + 1, 1 << power, count) for power, count in sorted(found.items())]


def _add_seconds(report: Report, build: BuildReport) -> None:
    report.heading("Where the time went")
    stage, most = max(build.seconds.items(), key=lambda item: item[1])
    report.picture(
        bars(f"The stage “{stage}” took longest: {most:,.1f} s", list(build.seconds.items()), "seconds by the clock")
    )
    if build.worker_seconds:
        step, most = max(build.worker_seconds.items(), key=lambda item: item[1])
        share = most / max(sum(build.worker_seconds.values()), 1e-9)
        report.picture(
            bars(
                f"Of the workers' time, “{step}” took {share:.0%}",
                sorted(build.worker_seconds.items(), key=lambda item: -item[1]),
                "seconds, all workers and runs together",
            )
        )


def _first(counts: dict[str, int], others: str) -> list[tuple[str, int]]:
    """The first rows of some counts, and what is left in one."""
    pairs = list(counts.items())
    left = sum(count for _, count in pairs[ROWS_SHOWN:])
    return pairs[:ROWS_SHOWN] + ([(others, left)] if left else [])
