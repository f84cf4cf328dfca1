"""The comparison of two runs as a page."""

from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.report import Report
from gpt2lab.evaluate.comparison import (
    COLUMNS,
    SIGNIFICANT,
    Comparison,
    comparison_notes,
    comparison_outcome,
    comparison_rows,
    p_text,
)


def write_comparison_report(out: Path, comparison: Comparison, command: str) -> None:
    """Write `out/report.html`."""
    metrics = [metric for task in comparison.tasks for metric in task.metrics]
    report = Report("Two runs compared", comparison_outcome(comparison))
    report.figures(
        [
            ("better in A", str(sum(metric.better == "a" for metric in metrics))),
            ("better in B", str(sum(metric.better == "b" for metric in metrics))),
            ("no more than chance", str(sum(metric.better == "neither" for metric in metrics))),
            ("smallest p", p_text(min((metric.p for metric in metrics if metric.p is not None), default=None))),
        ]
    )
    for name, path, model in (("A", comparison.a, comparison.model_a), ("B", comparison.b, comparison.model_b)):
        report.paragraph(f"{name}: {path}, {model.source}, {model.parameters:,} parameters.")
    if metrics:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in comparison_rows(comparison)]
        names = [f"{row['set']}, {row['metric']}".replace(", %", ",\u00a0%") for row in rows]
        for columns, title in (
            (("A", "B", "B − A", "95 %", "p", "better"), "Item by item, with the 95 % interval of the difference"),
            (("items", "only A right", "only B right"), "What the tests are on"),
        ):
            cells = [(name, *(row[column] for column in columns)) for name, row in zip(names, rows, strict=True)]
            report.table(["figure", *columns], cells, title)
        report.paragraph(
            "Answers that are right or wrong: McNemar's exact test on the items that one run alone gets right."
            " Perplexities and bits: a bootstrap over blocks of neighbouring items, the same items for both runs."
            f" Of tests on equal models one in {1 / SIGNIFICANT:.0f} has p < {SIGNIFICANT}: among many figures a single"
            " one that is better says little."
        )
    for note in comparison_notes(comparison):
        report.paragraph(note)  # most begin with a label, which stays as it is
    report.foot(
        [
            ("command", command),
            ("weights of A", comparison.model_a.weights_sha256),
            ("weights of B", comparison.model_b.weights_sha256),
            *report_foot(),
        ]
    )
    report.write(out / "report.html")
