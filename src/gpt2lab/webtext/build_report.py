"""The report of a build: what was kept, and why the rest was not."""

from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars
from gpt2lab.base.report import Picture, Report
from gpt2lab.webtext.build import BuildReport


def kept_picture(build: BuildReport) -> Picture:
    """Documents kept, and pages removed for each reason."""
    share = build.kept / build.pages if build.pages else 0.0
    return bars(
        f"{build.kept:,} of {build.pages:,} pages were kept ({share:.0%})",
        [("kept", build.kept), *build.removed.items()],
        "pages",
    )


def add_removed_examples(report: Report, build: BuildReport) -> None:
    """A folded block with examples of each reason of removal, the most frequent reason first."""
    parts = []
    for reason, count in build.removed.items():
        parts.append(f"—— {reason}: {count:,} removed, for example")
        for example in build.examples[reason]:
            value = "" if example.value is None else f"  (value {example.value:.3g})"
            parts.append(f"{example.url or example.source_file}{value}\n{example.excerpt.strip()}")
    if parts:
        report.details("Examples of what was removed", "\n\n".join(parts))


def write_build_report(build: BuildReport, out: Path, command: str) -> None:
    """Write `out/report.html`."""
    report = Report(
        "Documents built",
        f"{build.kept:,} documents with {build.characters:,} characters were made from {build.pages:,} pages in"
        f" {build.input_files:,} files.",
    )
    report.figures(
        [
            ("documents", f"{build.kept:,}"),
            ("removed", f"{sum(build.removed.values()):,}"),
            ("megabytes of text", f"{build.bytes / 1e6:,.1f}"),
            ("input files", f"{build.input_files:,}"),
            ("seconds", f"{sum(build.seconds.values()):,.1f}"),
        ]
    )
    report.picture(kept_picture(build))
    report.table(["step", "records left"], [[step.capitalize(), count] for step, count in build.funnel.items()])
    add_removed_examples(report, build)
    report.foot([("command", command), *report_foot()])
    report.write(out / "report.html")
