"""What an overlap is shown as: a table for the terminal, and a page with the paper's figures and examples."""

from dataclasses import asdict
from pathlib import Path

from gpt2lab.base.files import write_json
from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars
from gpt2lab.base.report import Report
from gpt2lab.base.text_table import text_table
from gpt2lab.webtext.overlap.overlap import PAPER_MEAN, OverlapReport, SetOverlap, paper_key

_HEAD = ("set", "items", "8-grams", "overlap", "mean of items", "own train", "paper: WebText", "paper: own train")


def overlap_table(overlap: OverlapReport) -> str:
    """The table for the terminal, numbers to the right."""
    return text_table([_HEAD, *map(_row, overlap.sets)])


def write_overlap_report(overlap: OverlapReport, out: Path, command: str) -> None:
    """Write `out/overlap.json` and `out/report.html`."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "overlap.json", asdict(overlap))
    most = max(overlap.sets, key=lambda one: one.share)
    report = Report(
        "Overlap with evaluation sets",
        f"{most.name} overlaps most: {_percent(most.share)} of its 8-grams are in the training documents."
        if most.overlapping
        else "No 8-gram of the evaluation sets is in the training documents.",
    )
    grams = sum(one.grams for one in overlap.sets)
    report.figures(
        [
            ("evaluation sets", f"{len(overlap.sets):,}"),
            ("test 8-grams", f"{grams:,}"),
            ("of them in training", _percent(sum(one.overlapping for one in overlap.sets) / max(grams, 1))),
            ("megabytes of training text", f"{overlap.training_bytes / 1e6:,.1f}"),
            ("seconds", f"{overlap.seconds:,.1f}"),
        ]
    )
    report.picture(
        bars(
            "Share of each set's 8-grams that occur in the training documents",
            [(one.name, 100 * one.share) for one in overlap.sets],
            "% of all 8-grams",
            [("WebText, mean (paper)", 100 * PAPER_MEAN.webtext)],
        )
    )
    report.table(
        ["set", "ours", "WebText (paper)", "difference", "own train", "own train (paper)"],
        [_paper_row(one) for one in overlap.sets],
        "Shares beside the paper's table 6, in % and points of %",
    )
    report.paragraph(
        "Every occurrence of a test 8-gram counts; the paper does not say whether it counts repeated ones once. For"
        " LAMBADA it gives an average, so its row compares the mean over passages. The paper's mean over the first six"
        f" sets is {_percent(PAPER_MEAN.webtext)} for WebText and {_percent(PAPER_MEAN.own_train or 0)} for their own"
        " training sets."
    )
    for one in overlap.sets:
        if one.paper_words:
            report.paragraph(f"{one.name}: in the paper, {one.paper_words}.")
    report.table(
        ["set", "items", "with any overlap", "more than half", "mean of items, %", "different 8-grams, %"],
        [
            (one.name, one.items, one.items_overlapping, one.items_mostly_overlapping, *_item_shares(one))
            for one in overlap.sets
        ],
        "Items (passages, articles, stories, questions) of each set",
    )
    if any(one.examples for one in overlap.sets):
        report.heading("The longest overlapping passages")
    for one in overlap.sets:
        for example in one.examples:
            where = "" if example.training_file is None else f"; {example.training_file}, row {example.training_row:,}"
            words = f"{one.name}, item {example.item:,}: {example.words_in_run:,} words{where}"
            report.passage(example.words, words)
    if overlap.method == "bloom":
        report.paragraph(
            f"A Bloom filter of {(overlap.filter_bytes or 0) / 1e6:,.1f} MB was asked, with at most"
            f" {overlap.filter_false_positives:.0e} false positives; of 1,000,000 random strings of eight words it took"
            f" {overlap.random_hits:,} for its own (the paper: 0)."
        )
    report.foot([("command", command), ("training", "\n".join(overlap.training)), *report_foot()])
    report.write(out / "report.html")


def _item_shares(one: SetOverlap) -> tuple[str, str]:
    return f"{100 * one.mean_item_share:.2f}", f"{100 * one.distinct_share:.2f}"


def _compared(one: SetOverlap) -> float:
    """What the paper's figure is to be compared with."""
    return one.mean_item_share if paper_key(one.name) == "lambada" else one.share


def _row(one: SetOverlap) -> tuple[str, ...]:
    shares = (one.share, one.mean_item_share, one.own_train_share, *_of_paper(one))
    return (one.name, f"{one.items:,}", f"{one.grams:,}", *map(_percent, shares))


def _paper_row(one: SetOverlap) -> list[str | None]:
    webtext, own_train = _of_paper(one)
    difference = None if webtext is None else _compared(one) - webtext
    return [
        one.name,
        *(None if share is None else f"{100 * share:.2f}" for share in (_compared(one), webtext)),
        None if difference is None else f"{100 * difference:+.2f}".replace("-", "−"),
        *(None if share is None else f"{100 * share:.2f}" for share in (one.own_train_share, own_train)),
    ]


def _of_paper(one: SetOverlap) -> tuple[float | None, float | None]:
    return (one.paper.webtext, one.paper.own_train) if one.paper else (None, None)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"
