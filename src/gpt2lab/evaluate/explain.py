"""Which protocol gives a published figure: a set is scored under many options, and each figure finds its nearest.

The options are those worth telling apart, not their product. A protocol that is known not to be the paper's (another
unit, another split) is never matched with the paper's figure: "29.94 on WikiText-2" is per GPT-2 token, and close to
the paper's 29.41 by coincidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import say
from gpt2lab.base.text_table import text_table
from gpt2lab.datasets.evaluation_sets import AbsentSet, DataSource
from gpt2lab.evaluate.metric_text import difference_text, is_share, metric_text, metric_words, value_text
from gpt2lab.evaluate.published import (
    ModelSize,
    has_options,
    is_same_size,
    measurements,
    nearest_size,
    paper_figure,
    set_of,
)
from gpt2lab.evaluate.results import ModelIdentity, TaskResult
from gpt2lab.evaluate.run import run_task
from gpt2lab.evaluate.statistics import Metric
from gpt2lab.evaluate.tasks.task import Task, UnfitModel
from gpt2lab.generate.language_model import LanguageModel


@dataclass(frozen=True)
class Variant:
    """Options in the place of a task's own; `not_the_papers`: why the paper did not do so, where that is known."""

    options: Mapping[str, Any] = field(default_factory=dict)
    not_the_papers: str = ""


def _variants(*options: Mapping[str, Any], not_the_papers: str = "") -> tuple[Variant, ...]:
    return tuple(Variant(each, not_the_papers) for each in options)


_HARNESS_WIKITEXT = {
    "text": "raw",
    "detokenizer": "megatron",
    "stride": 1024,
    "unit": "lm-eval-words",
    "bos": "eot",
    "scope": "article",
}
_PER_TOKEN = "per GPT-2 token"  # noqa: S105
_WIKITEXT = (
    *_variants(
        {"detokenizer": "none"},
        {"detokenizer": "roundtrip"},
        {"detokenizer": "megatron"},
        {"detokenizer": "none", "stride": 1024},
        {"detokenizer": "roundtrip", "stride": 1024},
        {"detokenizer": "none", "bos": "eot"},
        {"detokenizer": "roundtrip", "scope": "article"},
    ),
    *_variants(
        {"detokenizer": "none", "unit": "words"}, {"detokenizer": "roundtrip", "unit": "words"}, not_the_papers="unit"
    ),
    *_variants(
        {"text": "raw", "detokenizer": "none"},
        {"text": "raw", "detokenizer": "roundtrip"},
        not_the_papers="text without <unk>: both sets would have one figure",
    ),
    *_variants(
        {"text": "raw", "detokenizer": "none", "unit": "bpe", "stride": 1024},
        {"text": "raw", "detokenizer": "none", "unit": "bpe", "stride": 512},
        not_the_papers=_PER_TOKEN,
    ),
    Variant(_HARNESS_WIKITEXT, "unit"),
)
_CBT = (
    *_variants(
        {},
        {"join": "space"},
        {"score": "whole"},
        {"score": "word only"},
        {"case": "as is"},
        {"detok": "none"},
        {"detok": "lm-eval"},
        {"prompt": "Passage/Question"},
    ),
    *_variants(
        {"split": "test"},
        {"split": "test", "join": "space", "detok": "lm-eval", "prompt": "Passage/Question"},
        not_the_papers="split",
    ),
)
_WINOGRAD = _variants(
    {},
    {"bos": "none"},
    {"norm": "per token"},
    {"norm": "per token", "bos": "none"},
    {"bos": "none", "rules": "lm-eval"},
)

VARIANTS: Mapping[str, Sequence[Variant]] = {
    "lambada": (
        *_variants(
            {},
            {"prefix": "none"},
            {"prefix": "eot"},
            {"quotes": "as is"},
            {"prefix": "none", "quotes": "as is"},
            {"prefix": "none", "quotes": "as is", "rules": "lm-eval"},
            {"filter": "nltk127", "filter_at": "first token"},
            {"filter": "nltk127", "filter_at": "every token"},
            {"filter": "nltk127+punct", "filter_at": "first token"},
            {"filter": "nltk127+punct", "filter_at": "every token"},
            {"filter": "nltk179", "filter_at": "every token"},
            {"filter": "nltk127+punct", "filter_at": "every token", "ppl": "renormalised"},
        ),
        *_variants(
            {"match": "last_token"},
            {"match": "last_token", "prefix": "none", "quotes": "as is"},
            not_the_papers="whole words are asked for",
        ),
        *_variants(
            {"text": "zenodo"},
            {"text": "zenodo+moses", "quotes": "as is"},
            {"text": "zenodo+moses"},
            not_the_papers="text",
        ),
    ),
    "cbt-cn": _CBT,
    "cbt-ne": _CBT,
    "wikitext2": _WIKITEXT,
    "wikitext103": _WIKITEXT,
    "ptb": (
        *_variants(
            {"detokenizer": "none"},
            {"detokenizer": "roundtrip"},
            {"detokenizer": "megatron"},
            {"detokenizer": "sedd"},
            {"detokenizer": "roundtrip", "n_map": "1"},
            {"detokenizer": "roundtrip", "unk": "?"},
            {"detokenizer": "roundtrip", "unk": "rare"},
            {"detokenizer": "roundtrip", "capitalise_sentence": True},
            {"detokenizer": "roundtrip", "add_period": True},
            {"detokenizer": "roundtrip", "capitalise_sentence": True, "add_period": True},
            {"detokenizer": "roundtrip", "capitalise_sentence": True, "add_period": True, "n_map": "1", "unk": "?"},
            {"detokenizer": "roundtrip", "join": "space"},
            {"detokenizer": "roundtrip", "stride": 1024},
        ),
        *_variants({"detokenizer": "sedd", "unit": "bpe", "stride": 1024}, not_the_papers=_PER_TOKEN),
    ),
    "1bw": (
        *_variants(
            {"detokenizer": "none"},
            {"detokenizer": "roundtrip"},
            {"detokenizer": "sedd"},
            {"detokenizer": "roundtrip", "stride": 1024},
            {"detokenizer": "none", "scope": "sentence+eot"},
            {"detokenizer": "roundtrip", "scope": "sentence+eot"},
            {"detokenizer": "none", "scope": "sentence+newline"},
            {"detokenizer": "roundtrip", "scope": "sentence+newline"},
        ),
        *_variants({"detokenizer": "none", "unit": "bpe", "stride": 1024}, not_the_papers=_PER_TOKEN),
    ),
    "enwik8": _variants({}, {"stride": 512}, {"stride": 1024}, {"unescape_xml": True}),
    "text8": _variants({}, {"stride": 512}, {"stride": 1024}, {"digits": "joined"}),
    "winograd": _WINOGRAD,
    "winograd-full": _WINOGRAD,
    "hellaswag": _variants({}, {"prompt": "context", "norm": "characters"}, {"prompt": "context", "norm": "tokens"}),
}
"""By set, the options worth telling apart (what they are is told by each task); `{}` is the task as it is.

LAMBADA's search for whole words is not among them: it takes as long as all others together, and many times that with a
model whose guesses are spread widely.
"""


@dataclass(frozen=True)
class Trial:
    """A task under other options: its result, or why there is none."""

    options: dict[str, Any]
    not_the_papers: str
    result: TaskResult | None
    failed: str = ""


@dataclass(frozen=True)
class Target:
    """A published figure to be found; `options` are those of its protocol, None where our tasks can't say it."""

    metric: str
    value: float
    who: str
    protocol: str
    is_the_papers: bool
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Nearest:
    """The trial that comes closest to a figure, and the one by the figure's own protocol (places in the list)."""

    target: Target
    closest: int | None
    own: int | None


@dataclass(frozen=True)
class Explanation:
    """A set under its options, beside the published figures for a size."""

    label: str
    title: str
    size: str
    is_that_size: bool
    trials: tuple[Trial, ...]
    nearest: tuple[Nearest, ...]


def explain(
    model: LanguageModel,
    identity: ModelIdentity,
    tasks: Mapping[str, Task],
    source: DataSource,
    out: Path | None = None,
    limit: int | None = None,
) -> list[Explanation]:
    """Run the variants of each set among `tasks` (by label; the first of several that are of one set).

    A variant whose data are absent, or that the model's context is too short for, is left out with the reason. With
    `out`, what was scored before is not scored again.
    """
    size = nearest_size(identity.parameters)
    found, seen = [], set()
    for label, task in tasks.items():
        name = set_of(label)
        if name in seen:
            continue
        seen.add(name)
        if name not in VARIANTS:
            say(f"{label}: no published figure and no options to tell apart; left out.")
            continue
        trials = []
        for number, (variant, changed) in enumerate(variant_tasks(name, task), 1):
            result, failed = None, ""
            try:
                result = run_task(model, identity, f"{label}.{number:02d}", changed, source, out, limit)
            except (AbsentSet, UnfitModel) as error:
                failed = str(error)
                say(f"{label}, {_options_text(variant.options)}: left out: {failed}")
            trials.append(Trial(dict(variant.options), variant.not_the_papers, result, failed))
        nearest = tuple(_nearest(target, trials) for target in _targets(label, trials, size))
        same = is_same_size(identity.parameters, size)
        found.append(Explanation(label, task.title, size.name, same, tuple(trials), nearest))
    if not found:
        raise BadOption(f"--explain: none of {', '.join(tasks) or 'no tasks'} has options to tell apart.")
    return found


def variant_tasks(name: str, task: Task) -> list[tuple[Variant, Task]]:
    """A set's variants as tasks, each once: two that come to the same under the task's own options are one.

    Those that can't be had with these options are left out, and said.
    """
    changed: list[tuple[Variant, Task]] = []
    for variant in VARIANTS[name]:
        try:
            other: Task = replace(task, **variant.options)  # type: ignore[type-var]
        except BadOption as error:
            say(f"{name}, {_options_text(variant.options)}: left out: {error}")
            continue
        if all(other != one for _, one in changed):
            changed.append((variant, other))
    return changed


def _targets(label: str, trials: Sequence[Trial], size: ModelSize) -> list[Target]:
    """All published figures of the metrics that some trial has."""
    results = [trial.result for trial in trials if trial.result is not None]
    names = dict.fromkeys(metric.name for result in results for metric in result.metrics)
    targets = []
    for name in names:
        if (figure := paper_figure(label, name, size)) is not None:
            targets.append(Target(name, figure.value, f"the paper, {figure.where}", "", is_the_papers=True))
        for one in measurements(label, name, size):
            who = one.source if one.certainty == "read" else f"{one.source} ({one.certainty})"
            targets.append(Target(name, one.values[size.name], who, one.protocol, False, one.options))
    return targets


def _nearest(target: Target, trials: Sequence[Trial]) -> Nearest:
    distances = {
        number: _distance(metric, target.value)
        for number, trial in enumerate(trials)
        if not (target.is_the_papers and trial.not_the_papers)
        and not _of_another_unit(target, trial)
        and (metric := _metric(trial, target.metric)) is not None
    }
    own = [
        number
        for number in distances
        if (result := trials[number].result) is not None and has_options(result.identity.options, target.options)
    ]
    closest = min(distances, key=lambda number: (distances[number], number not in own, number), default=None)
    return Nearest(target, closest, own[0] if own else None)


def _of_another_unit(target: Target, trial: Trial) -> bool:
    """Whether a figure is known to be per another unit than a trial's: then their nearness is a coincidence."""
    unit = (target.options or {}).get("unit")
    return unit is not None and trial.result is not None and trial.result.identity.options.get("unit") != unit


def _metric(trial: Trial, name: str) -> Metric | None:
    metrics = () if trial.result is None else trial.result.metrics
    return next((metric for metric in metrics if metric.name == name), None)


def _distance(metric: Metric, value: float) -> float:
    """How far a figure is from another: shares by their difference, perplexities and bits by their ratio."""
    if is_share(metric.name) or min(metric.value, value) <= 0:
        return abs(metric.value - value)
    return abs(math.log(metric.value / value))


def explanation_text(explanations: Sequence[Explanation]) -> str:
    """For the terminal: a table of each set's metrics, the nearest marked, and where each published figure is met."""
    return "\n\n".join(_one_text(one) for one in explanations)


def _one_text(one: Explanation) -> str:
    heading = f"{one.label}: {one.title}, beside the figures for {one.size}"
    if not one.is_that_size:
        heading += " (the nearest size; this model is of another, so the nearest protocol says little)"
    lines = [heading]
    names = dict.fromkeys(nearest.target.metric for nearest in one.nearest)
    for name in names:
        lines += ["", _metric_table(one, name)]
    if missing := [trial for trial in one.trials if trial.failed]:
        lines += ["", *(f"left out: {_options_text(trial.options)}: {trial.failed}" for trial in missing)]
    lines += ["", *(f"[{place}] {_nearest_text(one, nearest)}" for place, nearest in enumerate(one.nearest, 1))]
    return "\n".join(lines)


def _metric_table(one: Explanation, name: str) -> str:
    """One metric under all options, and how far it is from the paper's figure."""
    paper = next(
        (near.target for near in one.nearest if near.target.metric == name and near.target.is_the_papers), None
    )
    head = (
        metric_words(name),
        "value",
        "from the paper" if paper is None else f"paper {value_text(name, paper.value)}",
        "",
    )
    rows = [head]
    seen: list[Metric] = []
    for number, trial in enumerate(one.trials):
        metric = _metric(trial, name)
        if metric is None:
            continue
        places = [place for place, near in enumerate(one.nearest, 1) if near.target.metric == name]
        found = [f"[{place}]" for place in places if one.nearest[place - 1].closest == number]
        marks = [f"closest to {' '.join(found)}"] if found else []
        if metric in seen and not marks:
            continue
        seen.append(metric)
        if trial.not_the_papers:
            marks.append(f"not the paper's: {trial.not_the_papers}")
        difference = "–" if paper is None else difference_text(name, metric.value - paper.value, metric.value)
        rows.append((_options_text(trial.options), metric_text(metric), difference, "; ".join(marks)))
    same = sum(_metric(trial, name) is not None for trial in one.trials) - len(seen)
    table = text_table(rows, left=(0, 3))
    return f"{table}\n(and {same} more that give the same as one above)" if same else table


def _nearest_text(one: Explanation, near: Nearest) -> str:
    target = near.target
    words = f"{target.who}: {metric_words(target.metric)} {value_text(target.metric, target.value)}"
    if target.protocol:
        words += f" ({target.protocol})"
    if near.closest is None:
        return f"{words}: no options to compare."
    if near.own is not None:
        words += f": by its own protocol {_trial_text(one.trials[near.own], target)}"
    if near.closest == near.own:
        return f"{words}; none is closer."
    return f"{words}; closest: {_trial_text(one.trials[near.closest], target)}."


def _trial_text(trial: Trial, target: Target) -> str:
    metric = _metric(trial, target.metric)
    assert metric is not None
    difference = difference_text(target.metric, metric.value - target.value, metric.value)
    low, high = (metric.value if end is None else end for end in (metric.low, metric.high))
    within = ", within our error" if low <= target.value <= high else ""
    return f"({_options_text(trial.options)}) {metric_text(metric)}, {difference}{within}"


def _options_text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "as the task is"
