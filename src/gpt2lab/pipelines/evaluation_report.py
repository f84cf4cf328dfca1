"""What an evaluation is shown as: a page with the paper's figures beside ours, and a table for the terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import Panel, panels
from gpt2lab.base.report import Report
from gpt2lab.base.text_table import text_table
from gpt2lab.evaluate.metric_text import (
    difference_text,
    interval_text,
    is_share,
    lower_is_better,
    metric_text,
    metric_words,
    range_text,
    scaled,
    value_text,
)
from gpt2lab.evaluate.published import (
    SIZES,
    ModelSize,
    PaperFigure,
    has_options,
    is_same_size,
    measurements,
    nearest_size,
    paper_column,
    paper_figure,
    paper_options,
)
from gpt2lab.evaluate.results import ItemOverlap, ModelIdentity, SuiteResult, TaskResult
from gpt2lab.evaluate.statistics import Metric
from gpt2lab.webtext.overlap.overlap import PAPER as PAPER_OVERLAP
from gpt2lab.webtext.overlap.overlap import paper_key

HEADLINES = (
    ("lambada", "accuracy_filtered"),
    ("wikitext103", "perplexity"),
    ("wikitext2", "perplexity"),
    ("cbt-cn", "accuracy"),
    ("enwik8", "bits_per_byte"),
    ("winograd", "accuracy"),
    ("hellaswag", "accuracy_norm"),
)
"""The figures that are shown large, the first three that a run has."""
OVERLAP_HEADS = ("8-grams", "in training, %", "paper: in WebText, %", "items with any", "of items")
WITHOUT_HEADS = ("all items", "without overlap", "difference", "items left")
PAPER_CONTEXT = 1024
MOST_RUNS = 6


@dataclass(frozen=True)
class _Figure:
    """One metric of a task beside the paper's, None where the paper has none for the size."""

    task: TaskResult
    metric: Metric
    paper: PaperFigure | None

    @property
    def name(self) -> str:
        return _figure_name(self.task.label, self.metric.name)

    @property
    def verdict(self) -> str:
        """`as the paper` where its figure, as printed, is within our 95 % interval; else better, worse, or unknown."""
        if self.paper is None:
            return "unknown"
        ours, theirs = self.metric, self.paper.value
        low, high = (ours.value if end is None else end for end in (ours.low, ours.high))
        if low - _rounding(ours.name) <= theirs <= high + _rounding(ours.name):
            return "as the paper"
        return "better" if (ours.value < theirs) == lower_is_better(ours.name) else "worse"


def write_evaluation_report(out: Path, result: SuiteResult, others: Sequence[SuiteResult] = ()) -> None:
    """Write `out/report.html`; `others` are runs that are drawn in the same pictures."""
    size = nearest_size(result.model.parameters)
    figures = list(_figures(result, size))
    report = Report(f"Evaluation of {result.model.source}", _outcome(result, size, figures))
    report.figures(_headlines(result, figures))
    _paper_table(report, result, size, figures)
    if result.absent:
        report.heading("Sets that were left out")
        for labels, why in left_out(result.absent):
            report.paragraph(f"{labels}: {why}")
    _measurement_table(report, result, size, figures)
    _pictures(report, result, others)
    if others:
        _runs_table(report, result, others)
    _overlap_tables(report, result)
    report.heading("How each figure was made")
    for task in result.tasks:
        report.details(f"{task.label}: {task.title}", _task_text(task))
    report.foot(_foot(result))
    report.write(out / "report.html")


def evaluation_text(result: SuiteResult) -> str:
    """The table for the terminal."""
    size = nearest_size(result.model.parameters)
    figures = list(_figures(result, size))
    heads, cells = _columns(figures, size)
    head = ("set", "metric", *heads, "items", "not as in the paper" if _has_paper(figures) else "remarks")
    rows = [
        (
            figure.task.label,
            metric_words(figure.metric.name),
            *of_figure,
            f"{figure.metric.items:,}",
            "; ".join(_differences(figure.task)) or "–",
        )
        for figure, of_figure in zip(figures, cells, strict=True)
    ]
    lines = [text_table([head, *rows], left=(0, 1, len(head) - 1)), ""]
    if overlaps := [(task, task.overlap) for task in result.tasks if task.overlap is not None]:
        table = [("set", *OVERLAP_HEADS), *(_overlap_row(task, overlap) for task, overlap in overlaps)]
        lines += [text_table([[cell or "–" for cell in row] for row in table]), ""]
        if changed := [
            row for task, overlap in overlaps if overlap.overlapping_items for row in _without_rows(task, overlap)
        ]:
            table = [("figure", *WITHOUT_HEADS), *changed]
            lines += [text_table([[cell or "–" for cell in row] for row in table]), ""]
    return "\n".join([*lines, _outcome(result, size, figures)])


def left_out(absent: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was left out and why; labels with the same reason together."""
    labels_of: dict[str, list[str]] = {}
    for label, why in absent.items():
        labels_of.setdefault(why, []).append(label)
    return [(", ".join(labels), why) for why, labels in labels_of.items()]


def _has_paper(figures: Sequence[_Figure]) -> bool:
    return any(figure.paper is not None for figure in figures)


def _columns(figures: Sequence[_Figure], size: ModelSize) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and cells: ours beside the paper's; where it has none of the figures, ours with their own interval."""
    if not _has_paper(figures):
        ours = [figure.metric for figure in figures]
        return ("ours", "95 %"), [
            (metric_text(one), range_text(one.name, one.low, one.high, one.value)) for one in ours
        ]
    return (f"paper {size.name}", "ours", "difference", "its 95 %"), [
        (
            "–" if figure.paper is None else value_text(figure.metric.name, figure.paper.value),
            metric_text(figure.metric),
            *_difference(figure),
        )
        for figure in figures
    ]


def _figures(result: SuiteResult, size: ModelSize) -> Iterator[_Figure]:
    for task in result.tasks:
        for metric in _main_metrics(task):
            yield _Figure(task, metric, paper_figure(task.label, metric.name, size))


def _main_metrics(task: TaskResult) -> list[Metric]:
    """All but bits per byte where the same losses are there as a perplexity: that stands with the task's facts."""
    has_perplexity = any(metric.name == "perplexity" for metric in task.metrics)
    return [metric for metric in task.metrics if metric.name != "bits_per_byte" or not has_perplexity]


def _figure_name(label: str, metric: str) -> str:
    """No line ends before the unit."""
    return f"{label}, {metric_words(metric)}".replace(", %", ",\u00a0%")


def _rounding(name: str) -> float:
    """Half of the last digit that the paper prints."""
    return 0.00005 if is_share(name) else 0.005


def _outcome(result: SuiteResult, size: ModelSize, figures: Sequence[_Figure]) -> str:
    model = result.model
    who = f"{model.source} ({model.parameters:,} parameters)"
    compared = [figure.verdict for figure in figures if figure.paper is not None]
    if not compared:
        sets, items = _counted(len(result.tasks), "set"), sum(task.items for task in result.tasks)
        return f"{who} was measured on {sets} with {_counted(items, 'item')}; the paper has no figures for these."
    of = f"the paper's {size.name}"
    if not is_same_size(model.parameters, size):
        of += f", the nearest size and {_times(model, size)}"
    counts = {verdict: compared.count(verdict) for verdict in _VERDICTS if verdict in compared}
    if len(counts) == 1:
        (verdict,) = counts
        many = len(compared) > 1
        which = "its 1 figure" if not many else "both figures" if len(compared) == 2 else f"all {len(compared)} figures"
        return f"{who}: beside {of}, {which} {_VERDICTS[verdict][many]}."
    found = _listed([f"{count} {_VERDICTS[verdict][count != 1]}" for verdict, count in counts.items()])
    return f"{who}: beside {of}, of {_counted(len(compared), 'figure')} {found}."


_VERDICTS = {
    "as the paper": ("differs by no more than its error", "differ by no more than their errors"),
    "better": ("is better", "are better"),
    "worse": ("is worse", "are worse"),
}


def _times(model: ModelIdentity, size: ModelSize) -> str:
    ratio = size.parameters / model.parameters
    return f"{_ratio(ratio)} times larger" if ratio > 1 else f"{_ratio(1 / ratio)} times smaller"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.1f}" if ratio < 10 else f"{ratio:,.0f}"


def _headlines(result: SuiteResult, figures: Sequence[_Figure]) -> list[tuple[str, str]]:
    by_name = {(figure.task.label, figure.metric.name): figure for figure in figures}
    chosen = [by_name[key] for key in HEADLINES if key in by_name] or list(figures)
    return [
        ("parameters", _count_text(result.model.parameters)),
        *((figure.name, value_text(figure.metric.name, figure.metric.value)) for figure in chosen[:3]),
        ("items scored", f"{sum(task.items for task in result.tasks):,}"),
    ]


def _count_text(count: int) -> str:
    return f"{count / 1e6:,.1f}\u00a0M" if count < 1e9 else f"{count / 1e9:,.2f}\u00a0B"


def _paper_table(report: Report, result: SuiteResult, size: ModelSize, figures: Sequence[_Figure]) -> None:
    heads, cells = _columns(figures, size)
    known = _has_paper(figures)
    report.table(
        ["figure", *heads],
        [(figure.name, *of_figure) for figure, of_figure in zip(figures, cells, strict=True)],
        ("The paper's figures and ours" if known else "The figures") + ", with the standard error",
    )
    model = result.model
    if known and not is_same_size(model.parameters, size):
        report.paragraph(
            f"Nearest size in the paper: {size.name} ({size.parameters:,} parameters), {_times(model, size)} than this"
            " model."
        )
    if model.context_length != PAPER_CONTEXT:
        report.paragraph(
            f"The model sees {model.context_length:,} tokens, GPT-2 {PAPER_CONTEXT:,}: windows and contexts are cut to"
            " that."
        )
    read_off = [figure.task.label for figure in figures if figure.paper and figure.paper.certainty != "read"]
    if read_off:
        report.paragraph(f"Read off a picture of the paper, not printed there: {', '.join(dict.fromkeys(read_off))}.")
    report.table(
        ["set", "items", "not as in the paper, as far as its protocol is known" if known else "remarks"],
        [(task.label, f"{task.items:,}", "; ".join(_differences(task)) or None) for task in result.tasks],
    )


def _difference(figure: _Figure) -> tuple[str, str]:
    """The difference from the paper and its interval, which is that of our figure: the paper gives no errors."""
    if figure.paper is None:
        return "–", "–"
    metric, theirs = figure.metric, figure.paper.value
    low, high = (None if end is None else end - theirs for end in (metric.low, metric.high))
    return (
        difference_text(metric.name, metric.value - theirs, metric.value),
        interval_text(metric.name, low, high, metric.value),
    )


def _differences(task: TaskResult) -> list[str]:
    """What was not as in the paper: the data, options of the protocol, cut items."""
    found = [f"{file.name} is not the published file" for file in task.identity.files if file.official is False]
    found += [
        f"{name}: {_option_text(task.identity.options[name])} (paper: {_UNPUBLISHED.get(name) or _option_text(value)})"
        for name, value in paper_options(task.label).items()
        if name in task.identity.options and task.identity.options[name] != value
    ]
    if (limit := task.identity.options.get("limit")) and task.items >= limit:
        found.append(f"the first {_counted(limit, 'item')} only")
    if task.truncated:
        found.append(f"{_counted(task.truncated, 'item')} cut to the model's context")
    return found


_UNPUBLISHED = {"detokenizer": "an invertible one, not published"}
"""What the paper did, where our option is a stand-in."""


def _option_text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _measurement_table(report: Report, result: SuiteResult, size: ModelSize, figures: Sequence[_Figure]) -> None:
    """Re-measurements by the same protocol; of the same size alone, for others would say nothing."""
    if not is_same_size(result.model.parameters, size):
        return
    rows = []
    for figure in figures:
        for one in measurements(figure.task.label, figure.metric.name, size):
            if has_options(figure.task.identity.options, one.options):
                theirs = one.values[size.name]
                rows.append(
                    (
                        figure.name,
                        value_text(figure.metric.name, theirs),
                        metric_text(figure.metric),
                        difference_text(figure.metric.name, figure.metric.value - theirs, figure.metric.value),
                        f"{one.source}" + ("" if one.certainty == "read" else f" ({one.certainty})"),
                    )
                )
    if rows:
        report.table(
            ["figure", "published", "ours", "difference", "source"],
            rows,
            "What others measured by the same protocol with the released weights",
        )


def _pictures(report: Report, result: SuiteResult, others: Sequence[SuiteResult]) -> None:
    """Figures 1 and 4 of the paper: scores and perplexities over the size of the model."""
    runs = [result, *others]
    panels_of = [_panel(task, metric, runs) for task in result.tasks for metric in _main_metrics(task)]
    parts = [(name, part) for name, part in panels_of if part.curve or len({x for x, _ in part.dots}) > 1]
    ours = "ours and the runs beside it" if others else "ours"
    words = (
        f"Small dots: the sizes of the paper; dashed: the best result before it; large dots: {ours}."
        if any(part.curve for _, part in parts)
        else f"{ours[0].upper()}{ours[1:]}; the paper has no figure for these."
    )
    if scores := [part for name, part in parts if is_share(name)]:
        report.picture(panels("Scores over the size of the model (higher is better)", scores, _X_LABEL), words)
    if rates := [part for name, part in parts if not is_share(name)]:
        report.picture(
            panels("Perplexity and bits over the size of the model (lower is better)", rates, _X_LABEL), words
        )


_X_LABEL = "parameters, millions"


def _panel(task: TaskResult, metric: Metric, runs: Sequence[SuiteResult]) -> tuple[str, Panel]:
    name, label = metric.name, task.label
    column = paper_column(label, name)
    values = {} if column is None else column.values
    curve = [(size.parameters / 1e6, scaled(name, values[size.name])) for size in SIZES if size.name in values]
    dots = [
        (run.model.parameters / 1e6, scaled(name, found.value))
        for run in runs
        if (found := _metric_of(run, label, name)) is not None
    ]
    prior = None if column is None or column.prior is None else scaled(name, column.prior)
    return name, Panel(_figure_name(label, name), curve, dots, prior, log_y=name.endswith("perplexity"))


def _metric_of(run: SuiteResult, label: str, name: str) -> Metric | None:
    return next(
        (metric for task in run.tasks if task.label == label for metric in task.metrics if metric.name == name), None
    )


def _runs_table(report: Report, result: SuiteResult, others: Sequence[SuiteResult]) -> None:
    runs = sorted([result, *others], key=lambda run: run.model.parameters)
    keys = [(task.label, metric.name) for task in result.tasks for metric in _main_metrics(task)]
    rows = []
    for label, name in keys:
        found = [_metric_of(run, label, name) for run in runs]
        rows.append((_figure_name(label, name), *(None if one is None else metric_text(one) for one in found)))
    heads = [f"{run.model.source} ({_count_text(run.model.parameters)})" for run in runs]
    for first in range(0, len(runs), MOST_RUNS):
        shown = slice(first, first + MOST_RUNS)
        report.table(["figure", *heads[shown]], [(row[0], *row[1:][shown]) for row in rows], "All runs of the pictures")


def _overlap_tables(report: Report, result: SuiteResult) -> None:
    found = [(task, task.overlap) for task in result.tasks if task.overlap is not None]
    if not found:
        return
    report.heading("Items that are in the training documents")
    report.table(
        ["set", *OVERLAP_HEADS],
        [_overlap_row(task, overlap) for task, overlap in found],
        "Overlap of the sets with the model's training documents",
    )
    report.paragraph(
        "Every occurrence of an 8-gram within an item counts; one across the border of two windows of a text counts for"
        " the second, across that of other items for none. The paper's"
        " figure for LAMBADA is an average over passages. Training documents: "
        f"{', '.join(dict.fromkeys(place for _, overlap in found for place in overlap.training))}."
    )
    report.table(
        ["figure", *WITHOUT_HEADS],
        [row for task, overlap in found for row in _without_rows(task, overlap)],
        "The figures without every item that has an 8-gram in common with training documents",
    )


def _overlap_row(task: TaskResult, overlap: ItemOverlap) -> tuple[str | None, ...]:
    paper = PAPER_OVERLAP.get(paper_key(task.label) or "")
    return (
        task.label,
        f"{overlap.grams:,}",
        f"{100 * overlap.overlapping_grams / max(overlap.grams, 1):.2f}",
        None if paper is None else f"{100 * paper.webtext:.2f}",
        f"{overlap.overlapping_items:,}",
        f"{overlap.items:,}",
    )


def _without_rows(task: TaskResult, overlap: ItemOverlap) -> Iterator[tuple[str | None, ...]]:
    without = {metric.name: metric for metric in overlap.metrics_without}
    for metric in _main_metrics(task):
        left = without.get(metric.name)
        yield (
            _figure_name(task.label, metric.name),
            metric_text(metric),
            None if left is None else metric_text(left),
            None if left is None else difference_text(metric.name, left.value - metric.value, metric.value),
            "0" if left is None else f"{left.items:,}",
        )


def _task_text(task: TaskResult) -> str:
    """Protocol, options, what the set is, where it is from."""
    identity = task.identity
    lines = [task.protocol, "", f"task {identity.task}, version {identity.version}"]
    lines += [f"{name} = {_option_text(value)}" for name, value in identity.options.items()]
    lines += ["", *(f"{metric_words(metric.name)}: {metric_text(metric)}" for metric in task.metrics)]
    lines += [f"{name.replace('_', ' ')}: {_fact_text(value)}" for name, value in task.facts.items()]
    lines += [f"items: {task.items:,}", f"scored tokens: {task.scored_tokens:,}", f"seconds: {task.seconds:,.1f}"]
    for file in identity.files:
        official = {True: "the published file", False: "not the published file", None: "no published hash is known"}
        lines += ["", f"{file.name}: {file.path}", f"sha256 {file.sha256} ({official[file.official]})"]
    return "\n".join(lines)


def _fact_text(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:,.6g}"
    return _option_text(value)


def _foot(result: SuiteResult) -> list[tuple[str, str]]:
    model = result.model
    code = dict.fromkeys(task.identity.code_sha256 for task in result.tasks)
    data = dict.fromkeys(f"{file.sha256}  {file.name}" for task in result.tasks for file in task.identity.files)
    pairs = [
        ("command", result.command),
        ("suite", f"{result.suite}, protocol {result.protocol}"),
        ("weights", f"sha256 {model.weights_sha256}"),
        ("tokenizer", f"sha256 {model.tokenizer_sha256}"),
        ("code", "\n".join(f"sha256 {one}" for one in code)),
        ("data", "\n".join(data)),
        *report_foot(result.machine, result.versions),
    ]
    return [(name, value) for name, value in pairs if value]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
