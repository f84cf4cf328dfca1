"""The report of `links`: what was taken, why the rest was not, and whose pages they are."""

from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars
from gpt2lab.base.report import Cell, Report
from gpt2lab.webtext.links.domain_comparison import DomainComparison
from gpt2lab.webtext.links.links import LinksReport

SHOWN_DOMAINS = 30
SHOWN_REASONS = 20


def write_links_report(found: LinksReport, out: Path, command: str) -> None:
    """Write `out/report.html`."""
    share = found.taken / found.lines if found.lines else 0.0
    report = Report(
        "Links gathered",
        f"{found.links:,} links of {found.domains:,} domains were gathered from {found.lines:,} submissions and lines"
        f" in {len(found.files):,} files.",
    )
    report.figures(
        [
            ("links", f"{found.links:,}"),
            ("submissions and lines", f"{found.lines:,}"),
            ("taken of them", f"{share:.1%}"),
            ("domains", f"{found.domains:,}"),
            ("malformed lines", f"{found.malformed:,}"),
        ]
    )
    damaged = [file for file in found.files if file["damage"]]
    if damaged:
        report.heading("Files that could not be read to their end")
        report.paragraph("Whatever came before the damage was used. Fetch these files again to have the rest.")
        rows = [[file["source"], file["damage"], file["lines"]] for file in damaged]
        report.table(["file", "damage", "lines before it"], rows)
    report.picture(
        bars(
            f"{found.taken:,} of {found.lines:,} submissions and lines were taken ({share:.0%})",
            [("taken", found.taken), *list(found.dropped.items())[:SHOWN_REASONS]],
            "submissions and lines",
        )
    )
    if found.shortened:
        report.paragraph(
            f"{found.shortened:,} links are by a URL shortener. They are kept; which page they stand for, and whether"
            " it is among the others, shows only when they are fetched."
        )
    _add_domains(report, found)
    if found.examples:
        report.heading("Why links were not taken")
        for reason, count in found.dropped.items():
            report.details(f"{reason}: {count:,}, for example", "\n".join(found.examples[reason]))
    report.foot([("command", command), *report_foot()])
    report.write(out / "report.html")


def _add_domains(report: Report, found: LinksReport) -> None:
    report.heading("Whose pages they are")
    rows: list[list[Cell]] = [
        [name, links, f"{links / found.links:.2%}", score] for name, links, score in found.top_domains
    ]
    report.table(
        ["domain", "links", "share", "karma"],
        rows[:SHOWN_DOMAINS],
        f"The {len(rows[:SHOWN_DOMAINS]):,} domains with most links",
    )
    if found.comparison:
        _add_comparison(report, found.comparison)


def _add_comparison(report: Report, compared: DomainComparison) -> None:
    report.heading("Beside WebText")
    correlation = (
        "too few to correlate"
        if compared.rank_correlation is None
        else f"Spearman's rank correlation of the two counts over these is {compared.rank_correlation:.2f}"
    )
    inside = compared.our_links_in_list / compared.our_links if compared.our_links else 0.0
    report.paragraph(
        f"The published list has the {len(compared.domains):,} domains that WebText holds most pages of. We have links"
        f" in {compared.in_both:,} of them; {correlation}. {inside:.0%} of our links are in the list's domains; the"
        " shares below are of those, ours and theirs. WebText's counts are of pages after fetching and cleaning, ours"
        " of links."
    )
    rows = [
        [
            row.domain,
            row.their_rank,
            row.our_rank,
            f"{row.their_share:.2%}",
            f"{row.our_share:.2%}",
            f"{100 * (row.our_share - row.their_share):+.2f} %".replace("-", "−"),
        ]
        for row in compared.domains[:SHOWN_DOMAINS]
    ]
    report.table(
        ["domain", "their rank", "our rank", "their share", "our share", "difference"],
        rows,
        f"WebText's first {len(rows):,} domains",
    )
    if compared.only_ours:
        report.table(["domain", "links"], compared.only_ours, "Our largest domains that the published list lacks")
