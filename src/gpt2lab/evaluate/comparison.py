"""Two runs on the same questions, item by item: which model is better, and whether it could be chance.

Answers that are right or wrong: McNemar's exact test on the items that one model alone gets right. Log-likelihoods: the
difference per unit, its interval from samples of blocks of neighbouring items (the same for both models), its p-value
by turning the signs of the blocks' differences at random, which holds for few blocks, too. Metrics whose parts are not
in the rows are compared by their standard errors, as if the items were different ones: a much weaker test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpt2lab.base.errors import BadInput
from gpt2lab.base.text_table import text_table
from gpt2lab.evaluate.metric_text import difference_text, interval_text, lower_is_better, metric_words, value_text
from gpt2lab.evaluate.results import ModelIdentity, Row, SuiteResult, TaskResult, read_results, read_rows
from gpt2lab.evaluate.statistics import BLOCKS, Metric, Numbers, exp_nats, widened

RESAMPLES = 10_000
SIGNIFICANT = 0.05

Test = Literal["McNemar", "paired blocks", "not paired"]


@dataclass(frozen=True)
class Interval:
    """A difference (b less a) with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricComparison:
    """One metric of both runs over the items that both have.

    `difference` is b less a in the metric's units (None where errors are unknown), `p` the probability of one as large
    by chance, were the models alike. `only_a`, `only_b`: items that one alone gets right. `log_likelihood`: the
    difference in nats per unit, positive where b's is higher. `why_not_paired` is empty for a paired test.
    """

    metric: str
    a: float
    b: float
    difference: Interval | None
    p: float | None
    test: Test
    items: int
    only_a: int | None = None
    only_b: int | None = None
    log_likelihood: Interval | None = None
    why_not_paired: str = ""

    @property
    def better(self) -> Literal["a", "b", "neither"]:
        """Which run is better, if the difference is not likely chance."""
        if self.p is None or self.p >= SIGNIFICANT or self.a == self.b:
            return "neither"
        return "b" if (self.b < self.a) == lower_is_better(self.metric) else "a"


@dataclass(frozen=True)
class TaskComparison:
    """A task of both runs. `differs` says why it can't be compared (no metrics then), `notes` what to mind."""

    label: str
    title: str
    metrics: tuple[MetricComparison, ...]
    differs: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two runs, task by task; `only_a` and `only_b` are labels of tasks that one of them alone has."""

    a: str
    b: str
    model_a: ModelIdentity
    model_b: ModelIdentity
    tasks: tuple[TaskComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compare two folders of results. Raises BadInput where one is none, or where they have no task in common."""
    first, second = read_results(a), read_results(b)
    tasks_a, tasks_b = _by_label(first), _by_label(second)
    common = [label for label in tasks_a if label in tasks_b]
    if not common:
        raise BadInput(
            f"{a} and {b} have no task in common ({', '.join(tasks_a) or 'none'} and {', '.join(tasks_b) or 'none'});"
            " evaluate both on the same suite or sets."
        )
    return Comparison(
        str(a),
        str(b),
        first.model,
        second.model,
        tuple(_compare_task(a, b, tasks_a[label], tasks_b[label]) for label in common),
        tuple(label for label in tasks_a if label not in tasks_b),
        tuple(label for label in tasks_b if label not in tasks_a),
    )


def compare_metric(a: Metric, b: Metric, rows_a: Sequence[Row], rows_b: Sequence[Row]) -> MetricComparison:
    """One metric of two runs; the rows are those of the same items in the same order."""
    name = a.name
    if not rows_a:
        return _unpaired(a, b, "the runs have no item in common")
    if all(isinstance(row.get(name), bool) for row in (*rows_a, *rows_b)):
        return _paired_shares(name, [row[name] for row in rows_a], [row[name] for row in rows_b])
    unit = _UNITS.get(name, "units")
    with_rates = [pair for pair in zip(rows_a, rows_b, strict=True) if all(_has_rate(row, unit) for row in pair)]
    if not lower_is_better(name) or not with_rates:
        return _unpaired(a, b, f"the rows say nothing of each item's {name}")
    rows_a, rows_b = zip(*with_rates, strict=True)
    units_a, units_b = (np.array([_units(row, unit) for row in rows], np.float64) for rows in (rows_a, rows_b))
    if not np.array_equal(units_a, units_b):
        return _unpaired(a, b, "the items have other units, as with another tokenizer or context length")
    nats_a, nats_b = (np.array([row["nats"] for row in rows], np.float64) for rows in (rows_a, rows_b))
    compared = _paired_rates(name, nats_a, nats_b, units_a)
    if len(rows_a) == a.items and not math.isclose(compared.a, a.value, rel_tol=1e-6):
        return _unpaired(a, b, f"it is not that of the rows' nats and {unit}")
    return compared


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value: were both models alike, each of these items would be a fair coin's toss."""
    tosses, fewer = only_a + only_b, min(only_a, only_b)
    term = tail = 1
    for k in range(fewer):
        term = term * (tosses - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << tosses))


def _by_label(result: SuiteResult) -> dict[str, TaskResult]:
    return {task.label: task for task in result.tasks}


def _compare_task(folder_a: Path, folder_b: Path, a: TaskResult, b: TaskResult) -> TaskComparison:
    if differs := _differs(a, b):
        return TaskComparison(a.label, a.title, (), differs)
    rows_a, rows_b = read_rows(_folder(folder_a), a.label), read_rows(_folder(folder_b), b.label)
    notes = [] if a.identity.code_sha256 == b.identity.code_sha256 else ["evaluated with different code"]
    rows_a, rows_b, left_out = _common(rows_a, rows_b)
    if left_out:
        notes.append(f"{left_out:,} items that one run alone has are left out")
    metrics_b = {metric.name: metric for metric in b.metrics}
    if a.identity.model.tokenizer_sha256 != b.identity.model.tokenizer_sha256:
        of_tokens = [metric.name for metric in a.metrics if _is_per_token(a, metric.name)]
        notes += [f"{metric_words(name)} is not compared: the models have other tokens" for name in of_tokens]
        metrics_b = {name: metric for name, metric in metrics_b.items() if name not in of_tokens}
    return TaskComparison(
        a.label,
        a.title,
        tuple(
            compare_metric(metric, metrics_b[metric.name], rows_a, rows_b)
            for metric in a.metrics
            if metric.name in metrics_b
        ),
        notes=tuple(notes),
    )


def _is_per_token(task: TaskResult, metric: str) -> bool:
    return metric == "token_perplexity" or (metric == "perplexity" and task.identity.options.get("unit") == "bpe")


def _folder(out: Path) -> Path:
    return out if out.is_dir() else out.parent


_OF_DATA = ("file", "limit")
"""Options that say which items there are: these are compared themselves."""


def _differs(a: TaskResult, b: TaskResult) -> str:
    """What keeps two results of one label from being of the same questions, in words."""
    first, second = a.identity, b.identity
    if (first.task, first.version) != (second.task, second.version):
        return f"task {first.task} version {first.version} and {second.task} version {second.version}"
    names = [name for name in first.options | second.options if name not in _OF_DATA]
    options = {name: (first.options.get(name), second.options.get(name)) for name in names}
    if different := [f"{name} {x} and {y}" for name, (x, y) in options.items() if x != y]:
        return f"options: {', '.join(different)}"
    hashes_a, hashes_b = ({file.name: file.sha256 for file in one.files} for one in (first, second))
    if different := [name for name in hashes_a | hashes_b if hashes_a.get(name) != hashes_b.get(name)]:
        return f"data: not the same {', '.join(different)}"
    return ""


def _common(rows_a: list[Row], rows_b: list[Row]) -> tuple[list[Row], list[Row], int]:
    """The rows of items that both have, in a's order, and how many there are beside them."""
    by_name = {row["item"]: row for row in rows_b}
    pairs = [(row, by_name[row["item"]]) for row in rows_a if row["item"] in by_name]
    left_out = len(rows_a) + len(rows_b) - 2 * len(pairs)
    return [row for row, _ in pairs], [row for _, row in pairs], left_out


_UNITS = {"bits_per_byte": "bytes", "byte_perplexity": "bytes", "token_perplexity": "tokens"}
"""What a rate is divided by, where rows don't call it `units`."""


def _has_rate(row: Row, unit: str) -> bool:
    """Whether an item's part of a rate is known."""
    return all(isinstance(part, int | float) for part in (row.get("nats"), _units(row, unit)))


def _units(row: Row, unit: str) -> Any:
    """What an item stands for; one that speaks of no units is one."""
    return row.get(unit, 1 if unit == "units" else None)


def _paired_shares(name: str, right_a: Sequence[bool], right_b: Sequence[bool]) -> MetricComparison:
    items = len(right_a)
    only_a = sum(x and not y for x, y in zip(right_a, right_b, strict=True))
    only_b = sum(y and not x for x, y in zip(right_a, right_b, strict=True))
    shares = np.array([only_a, only_b, items - only_a - only_b]) / items
    counts = np.random.default_rng(0).multinomial(items, shares, size=RESAMPLES)
    low, high = np.quantile((counts[:, 1] - counts[:, 0]) / items, [0.025, 0.975])
    return MetricComparison(
        name,
        sum(right_a) / items,
        sum(right_b) / items,
        Interval((only_b - only_a) / items, float(low), float(high)),
        mcnemar(only_a, only_b),
        "McNemar",
        items,
        only_a,
        only_b,
    )


def _paired_rates(name: str, nats_a: Numbers, nats_b: Numbers, units: Numbers) -> MetricComparison:
    items = len(units)
    starts = np.linspace(0, items, min(BLOCKS, items) + 1).astype(np.int64)[:-1]
    blocks_a, blocks_b, blocks = (np.add.reduceat(values, starts) for values in (nats_a, nats_b, units))
    times = _draws(len(starts))
    below = np.maximum(times @ blocks, np.finfo(np.float64).eps)
    rates_a, rates_b = times @ blocks_a / below, times @ blocks_b / below
    rate_a, rate_b = (float(nats.sum() / max(units.sum(), np.finfo(np.float64).eps)) for nats in (nats_a, nats_b))
    a, b = _from_nats(name, np.array([rate_a, rate_b])).tolist()
    if items < 2:
        return MetricComparison(name, a, b, None, None, "paired blocks", items)
    # Widened before they are exponentiated: perplexities are skewed.
    rates_a, rates_b = widened(rate_a, rates_a, len(starts)), widened(rate_b, rates_b, len(starts))
    differences = blocks_a - blocks_b
    as_large = np.abs(_signs(len(starts)) @ differences) >= abs(differences.sum()) * (1 - 1e-9)
    return MetricComparison(
        name,
        a,
        b,
        _interval(b - a, _from_nats(name, rates_b) - _from_nats(name, rates_a)),
        (int(np.count_nonzero(as_large)) + 1) / (RESAMPLES + 1),
        "paired blocks",
        items,
        log_likelihood=_interval(rate_a - rate_b, rates_a - rates_b),
    )


@cache
def _draws(blocks: int) -> Numbers:
    """How often each block is in each sample: [RESAMPLES, blocks], always the same."""
    return np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES).astype(np.float64)


@cache
def _signs(blocks: int) -> Numbers:
    """1 or -1 for each block in each sample: [RESAMPLES, blocks], always the same."""
    return np.where(np.random.default_rng(0).random((RESAMPLES, blocks)) < 0.5, 1.0, -1.0)


def _from_nats(name: str, rates: Numbers) -> Numbers:
    """Nats per unit in a metric's own units."""
    converted: Numbers = exp_nats(rates) if name.endswith("perplexity") else rates / math.log(2)
    return converted


def _interval(value: float, resampled: Numbers) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _unpaired(a: Metric, b: Metric, why: str) -> MetricComparison:
    if a.standard_error is None or b.standard_error is None:
        return MetricComparison(
            a.name, a.value, b.value, None, None, "not paired", min(a.items, b.items), why_not_paired=why
        )
    difference, error = b.value - a.value, math.hypot(a.standard_error, b.standard_error)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    reach = 1.96 * error
    return MetricComparison(
        a.name,
        a.value,
        b.value,
        Interval(difference, difference - reach, difference + reach),
        p,
        "not paired",
        min(a.items, b.items),
        why_not_paired=why,
    )


COLUMNS = ("set", "metric", "A", "B", "B − A", "95 %", "p", "items", "only A right", "only B right", "better")


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of the table under `COLUMNS`."""
    return [_row(task.label, metric) for task in comparison.tasks for metric in task.metrics]


def comparison_outcome(comparison: Comparison) -> str:
    """The outcome in a sentence."""
    metrics = [metric for task in comparison.tasks for metric in task.metrics]
    better = [metric.better for metric in metrics]
    if not metrics:
        return "No task can be compared: the runs are not of the same questions."
    a, b, neither = (better.count(which) for which in ("a", "b", "neither"))
    return (
        f"Of {_counted(len(metrics), 'figure')}, {a} {_is(a)} better in A, {b} in B, and {neither}"
        f" {'differs' if neither == 1 else 'differ'} by no more than chance may (p < {SIGNIFICANT} counts)."
    )


def comparison_notes(comparison: Comparison) -> list[str]:
    """What could not be compared, or not as it should be, a line each."""
    labels_of: dict[str, list[str]] = {}
    for task in comparison.tasks:
        if task.differs:
            labels_of.setdefault(f"not compared: {task.differs}", []).append(task.label)
        for note in task.notes:
            labels_of.setdefault(note, []).append(task.label)
        for metric in task.metrics:
            if metric.why_not_paired:
                words = f"{metric_words(metric.metric)}: not paired: {metric.why_not_paired}"
                labels_of.setdefault(words, []).append(task.label)
    notes = [f"{', '.join(labels)}: {note}." for note, labels in labels_of.items()]
    for name, labels in (("A", comparison.only_a), ("B", comparison.only_b)):
        if labels:
            notes.append(f"only {name} has {', '.join(labels)}.")
    return notes


def comparison_text(comparison: Comparison) -> str:
    """The comparison for the terminal."""
    lines = [f"A  {comparison.a}  ({_model(comparison.model_a)})", f"B  {comparison.b}  ({_model(comparison.model_b)})"]
    if rows := comparison_rows(comparison):
        lines += ["", text_table([COLUMNS, *rows], left=(0, 1))]
    return "\n".join([*lines, "", comparison_outcome(comparison), *comparison_notes(comparison)])


def p_text(p: float | None) -> str:
    """A p-value as it is said."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(label: str, metric: MetricComparison) -> tuple[str, ...]:
    name, difference = metric.metric, metric.difference
    return (
        label,
        metric_words(name),
        value_text(name, metric.a),
        value_text(name, metric.b),
        difference_text(name, metric.b - metric.a, metric.a),
        "–" if difference is None else interval_text(name, difference.low, difference.high, metric.a),
        p_text(metric.p),
        f"{metric.items:,}",
        "–" if metric.only_a is None else f"{metric.only_a:,}",
        "–" if metric.only_b is None else f"{metric.only_b:,}",
        {"a": "A", "b": "B", "neither": "–"}[metric.better],
    )


def _model(model: ModelIdentity) -> str:
    return f"{model.source}, {model.parameters:,} parameters"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
