"""The report of a run, while it goes on or afterwards, from the files in its folder alone."""

import importlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from gpt2lab.base.files import read_json
from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import lines
from gpt2lab.base.report import Picture, Report
from gpt2lab.model.config import parameter_count, training_flops_per_token
from gpt2lab.train.recipe import Recipe, recipe_from_json
from gpt2lab.train.watching.metrics import read_metrics, read_samples

RELOAD_SECONDS = 15
NEWEST_STEPS = 20
SKIPPED_STEPS_NAMED = 10

Metrics = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class UnderWay:
    """Of a run that is not finished: the seconds it still needs, if that is known, or why it was stopped."""

    seconds_left: float | None = None
    stopped: str | None = None


def loss_picture(run: Path) -> Picture:
    """Training and validation loss over training tokens; in a finished run the unigram model's loss lies across."""
    metrics = read_metrics(run)
    summary = read_json(run / "summary.json") if (run / "summary.json").exists() else {}
    trained = [(line["tokens"], line["loss"]) for line in metrics if "loss" in line]
    tokens_a_step = trained[0][0]
    checked = [(line["step"] * tokens_a_step, line["val_loss"]) for line in metrics if "val_loss" in line]
    return lines(
        _loss_title([loss for _, loss in checked], bool(summary)),
        [
            ("training", [x / 1e6 for x, _ in trained], [y for _, y in trained]),
            ("validation", [x / 1e6 for x, _ in checked], [y for _, y in checked]),
        ],
        "training tokens, millions",
        "loss, nats a token",
        [("unigram model", summary["unigram_val_loss"])] if summary else [],
    )


def _loss_title(losses: Sequence[float], finished: bool) -> str:
    if not losses:
        return "Training loss"
    if not finished:
        return f"Validation loss is at {losses[-1]:.2f}, from {losses[0]:.2f} at the start"
    falling = len(losses) > 2 and losses[-1] < losses[-2] - 0.01
    if losses[-1] >= losses[0]:
        return f"Validation loss ends at {losses[-1]:.2f}"
    title = f"Validation loss falls from {losses[0]:.2f} to {losses[-1]:.2f}"
    return f"{title}; still falling" if falling else title


def speed_picture(run: Path) -> Picture:
    """Tokens a second of each training step, and what the GEMM peak would give."""
    taken = [line for line in read_metrics(run) if "loss" in line]
    speeds = [(line["step"], line["tokens_per_second"]) for line in taken]
    middle = statistics.median(speed for _, speed in speeds)
    title = f"Training runs at {middle:,.0f} tokens a second (median step)"
    references = []
    if taken[-1].get("of_gemm_peak"):  # runs from before it was measured have none
        limit = taken[-1]["tokens_per_second"] / taken[-1]["of_gemm_peak"]
        title += f", {middle / limit:.0%} of the GEMM peak"
        references = [("GEMM peak", limit)]
    return lines(
        title,
        [("each step", [step for step, _ in speeds], [speed for _, speed in speeds])],
        "step",
        "tokens a second",
        references,
    )


def update_picture(metrics: Metrics, layers: int) -> Picture | None:
    """Norm of the update over that of the weights, over the steps; None where no norms were recorded."""
    noted = [line for line in metrics if "update_norm/wte" in line]
    if not noted:
        return None
    steps = [line["step"] for line in noted]

    # A ratio that is no finite number, to weights that were 0, was not recorded.
    def middle(part: str) -> list[float]:
        ratios = [[line.get(f"update_ratio/h.{layer}.{part}") for layer in range(layers)] for line in noted]
        return [statistics.median([ratio for ratio in each if ratio is not None] or [math.nan]) for each in ratios]

    def single(group: str) -> list[float]:
        return [line.get(f"update_ratio/{group}", math.nan) for line in noted]

    return lines(
        f"A step changes the MLPs by {middle('mlp')[-1]:.2%} of their norm, the token embeddings by"
        f" {single('wte')[-1]:.2%}",
        [
            ("attention", steps, middle("attn")),
            ("MLP", steps, middle("mlp")),
            ("embeddings", steps, single("wte")),
            ("positions", steps, single("wpe")),
            ("final norm", steps, single("ln_f")),
        ],
        "step",
        "norm of update / norm of weights; of layers the median",
        log_y=True,
    )


def gradient_picture(metrics: Metrics, layers: int) -> Picture | None:
    """Gradient norm from the first layer to the last, as recorded last; None with one layer, or no norms."""
    noted = [line for line in metrics if "gradient_norm/wte" in line]
    if not noted or layers < 2:
        return None
    last, numbers = noted[-1], range(1, layers + 1)
    series = [
        (name, numbers, [last.get(f"gradient_norm/h.{number - 1}.{part}", math.nan) for number in numbers])
        for name, part in (("attention", "attn"), ("MLP", "mlp"))
    ]
    return lines(f"Gradient norms by layer at step {last['step']:,}", series, "layer", "norm of the gradient")


def write_run_report(run: Path, command: str, under_way: UnderWay | None = None) -> None:
    """Write `run/report.html`; `under_way` for a run without its summary, whose page reads itself again meanwhile."""
    recipe, metrics = _read_recipe(run), read_metrics(run)
    taken = [line for line in metrics if "loss" in line]
    checked = [line for line in metrics if "val_loss" in line]
    report = Report("Training run", _outcome(recipe, taken, checked, under_way) + _best_words(run, taken))
    if under_way is not None and under_way.stopped is None:
        report.reload_seconds = RELOAD_SECONDS
    report.figures(_figures(recipe, taken, checked, under_way))
    if taken:
        report.picture(loss_picture(run))
        peak = read_json(run / "run.json").get("gemm_peak")
        report.picture(speed_picture(run), "" if peak is None else _peak_words(peak))
        report.paragraph(_skipped_words(taken))
    for picture in (update_picture(metrics, recipe.model.n_layer), gradient_picture(metrics, recipe.model.n_layer)):
        if picture is not None:
            report.picture(picture)
    _add_samples(report, run)
    report.details("The resolved recipe", (run / "recipe.json").read_text(encoding="utf-8"))
    report.foot([("command", command), ("recipe", recipe.name), *report_foot()])
    report.write(run / "report.html")


def _read_recipe(run: Path) -> Recipe:
    return recipe_from_json(read_json(run / "recipe.json"), str(run / "recipe.json"))


def _outcome(recipe: Recipe, taken: Metrics, checked: Metrics, under_way: UnderWay | None) -> str:
    """What to say first."""
    parameters = parameter_count(recipe.model)
    losses = ""
    if checked:
        losses = f"from {checked[0]['val_loss']:.3f} to {checked[-1]['val_loss']:.3f} nats a token"
    if under_way is None:
        return (
            f"A GPT-2 of {parameters:,} parameters saw {taken[-1]['tokens']:,} tokens; its validation loss went"
            f" {losses}."
        )
    step = taken[-1]["step"] if taken else 0
    so_far = f" Validation loss went {losses} so far." if len(checked) > 1 else ""
    now = datetime.now().astimezone()
    if under_way.stopped is not None:
        return f"Stopped at step {step:,} of {recipe.steps:,}, at {now:%H:%M}: {under_way.stopped}{so_far}"
    finish = ""
    if under_way.seconds_left is not None:
        end = now + timedelta(seconds=under_way.seconds_left)
        finish = f", finish about {_clock(now, end)}"
    running = f"Running: step {step:,} of {recipe.steps:,} at {now:%H:%M}{finish}."
    return f"{running} A GPT-2 of {parameters:,} parameters.{so_far}"


def _best_words(run: Path, taken: Metrics) -> str:
    """Of which step the model is, where that is not the last."""
    summary = read_json(run / "summary.json") if (run / "summary.json").exists() else {}
    best = summary.get("model_step")
    if best is None or not taken or best == taken[-1]["step"]:
        return ""
    return f" The model has the weights of step {best:,}, the best: {summary['model_val_loss']:.3f}."


def _clock(now: datetime, end: datetime) -> str:
    """A time of day, with the date where that is another one."""
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%H:%M on} {end.day} {end:%B}"


def _figures(recipe: Recipe, taken: Metrics, checked: Metrics, under_way: UnderWay | None) -> list[tuple[str, str]]:
    newest = taken if under_way is None else taken[-NEWEST_STEPS:]
    speeds = [line["tokens_per_second"] for line in newest]
    # Tokens by seconds: a mean of speeds would count fast steps for more than they are.
    speed = statistics.harmonic_mean(speeds) if speeds else 0.0
    steps = f"{taken[-1]['step'] if taken else 0:,}"
    pairs = [
        ("validation loss", f"{checked[-1]['val_loss']:.3f}" if checked else "–"),
        ("bits per byte", f"{checked[-1]['val_bits_per_byte']:.3f}" if checked else "–"),
        ("steps", steps if under_way is None else f"{steps} of {recipe.steps:,}"),
        ("tokens a second", f"{speed:,.0f}"),
    ]
    shares = [line["of_gemm_peak"] for line in newest if "of_gemm_peak" in line]
    if shares:
        return [*pairs, ("of the GEMM peak", f"{statistics.harmonic_mean(shares):.0%}")]
    return [*pairs, ("GFLOP/s", f"{speed * training_flops_per_token(recipe.model) / 1e9:,.0f}")]


def _peak_words(peak: dict[str, Any]) -> str:
    threads = f"{peak['threads']} thread{'' if peak['threads'] == 1 else 's'}"
    return (
        f"The GEMM peak is the best rate of plain {peak['precision']} matrix products on this network's shapes,"
        f" measured as the run began: {peak['flops_per_second'] / 1e9:,.0f} GFLOP/s, {threads}. A token is counted as 6"
        " operations a parameter, and attention."
    )


def _skipped_words(taken: Metrics) -> str:
    """Which steps were skipped and why."""
    skipped = [line for line in taken if "skipped" in line]
    if not skipped:
        return "No step was skipped."
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(line["skipped"] for line in skipped).items())
    named = ", ".join(f"{line['step']:,}" for line in skipped[-SKIPPED_STEPS_NAMED:])
    newest = "the newest are" if len(skipped) > SKIPPED_STEPS_NAMED else "these are"
    return f"Skipped for their gradient: {len(skipped):,} of {len(taken):,} steps ({kinds}); {newest} {named}."


def _add_samples(report: Report, run: Path) -> None:
    """The newest samples."""
    samples = read_samples(run)
    if not samples:
        return
    step = samples[-1].step
    report.heading(f"What it writes after step {step:,}")
    for sample in reversed(list(takewhile(lambda sample: sample.step == step, reversed(samples)))):
        label = f"after “{sample.prompt}”" if sample.prompt else "unprompted"
        report.passage(sample.prompt + sample.text, label)


class LiveReport:
    """Writes the report of a run anew, but so seldom that it takes next to nothing of the run's time."""

    AT_LEAST_SECONDS, BETWEEN_SECONDS = 10.0, 60.0
    SHARE_OF_TIME = 0.02

    def __init__(self, run: Path, command: str) -> None:
        self._run, self._command = run, command
        self._last, self._cost = time.monotonic(), 0.0
        self.written = (run / "report.html").exists()  # by a call that was killed: it would say "running" for ever

    def refresh(self, seconds_left: float | None, news: bool) -> None:
        """Write it if it is due: with `news` (a validation, samples) after 10 seconds, without after a minute."""
        since = time.monotonic() - self._last
        wait = self.AT_LEAST_SECONDS if news else self.BETWEEN_SECONDS
        if since >= max(wait, self._cost / self.SHARE_OF_TIME):
            self._write(UnderWay(seconds_left=seconds_left))

    def close(self, stopped: str | None) -> None:
        """Say that the run was `stopped` and why, or, in a report that was written, that it is finished."""
        if stopped is not None:
            # Memory or disk may have run out, which is then the reason: a page that fails must not hide it.
            with suppress(ImportError, MemoryError, OSError):
                self._write(UnderWay(stopped=stopped))
        elif self.written:
            self._write(None)

    def _write(self, under_way: UnderWay | None) -> None:
        for module in ("matplotlib.style", "matplotlib.backends.backend_svg"):
            importlib.import_module(module)  # takes seconds, but only once: it does not tell what the next page costs
        start = time.monotonic()
        write_run_report(self._run, self._command, under_way)
        self._last = time.monotonic()
        self._cost = self._last - start
        self.written = True
