"""A sweep's report: the ranking, the loss over each swept field, the curves of all trials."""

import math

import numpy as np

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import lines, points
from gpt2lab.base.report import Picture, Report
from gpt2lab.pipelines.sweep_results import Sweep, Trial, loss_of, ranked_rows, settings_text, shown
from gpt2lab.pipelines.sweep_trials import DECADE, short_names
from gpt2lab.train.watching.metrics import read_metrics

NAMED_CURVES = 5
MOST_POINTS, FEWEST_POINTS, STEPS_OF_A_POINT = 40, 8, 5
"""Of a curve; each is a mean over some steps, for the loss of single batches jumps more than trials differ."""


def write_sweep_report(sweep: Sweep, command: str) -> None:
    """Write `report.html` into the sweep's folder."""
    ranking = sweep.ranking
    report = Report(f"Sweep over {', '.join(short_names(sweep.fields).values())}", _outcome(sweep))
    if ranking:
        best = ranking[0]
        report.figures(
            [
                ("best trial", f"{best.number:03d}"),
                ("validation loss", f"{best.val_loss:.4f}"),
                ("perplexity", f"{math.exp(loss_of(best)):,.1f}"),
                ("finished", f"{len(ranking)} of {len(sweep.trials)}"),
                ("minutes in all", f"{sum(trial.seconds or 0 for trial in sweep.trials) / 60:,.1f}"),
            ]
        )
    for note in sweep.edges():
        report.paragraph(note[0].upper() + note[1:])
    columns, rows = ranked_rows(sweep)
    report.table(columns, rows, "All trials, lowest validation loss first (nats a token)")
    if ranking:
        report.paragraph(
            "One run a trial: smaller differences than those between seeds mean nothing. --over seed=0,1,2 shows them."
            if "seed" not in sweep.fields
            else "Trials that differ in their seed alone show how much a difference must be to mean something."
        )
        for field in sweep.fields:
            crosses = any(trial.status == "diverged" for trial in sweep.trials)
            report.picture(_loss_over(sweep, field), "A cross is a trial that diverged." if crosses else "")
        report.picture(_curves(sweep))
        report.heading("Train with the best settings")
        report.passage(sweep.next_command())
    if troubled := [trial for trial in sweep.others if trial.reason]:
        report.heading("What went wrong")
        for trial in troubled:
            report.paragraph(f"Trial {trial.number:03d} {trial.status}: {trial.reason}")
    report.foot([("command", command), ("recipe", str(sweep.recipe["name"])), *report_foot()])
    report.write(sweep.folder / "report.html")


def _outcome(sweep: Sweep) -> str:
    ranking = sweep.ranking
    if not ranking:
        return f"None of the {len(sweep.trials)} trials came to a result."
    best = ranking[0]
    words = (
        f"Of {len(sweep.trials)} trials, {settings_text(best.settings)} was best: validation loss {best.val_loss:.4f}"
    )
    if len(ranking) == 1:
        return f"{words}, the only one that finished."
    below_next, below_last = (loss_of(ranking[place]) - loss_of(best) for place in (1, -1))
    return f"{words}, {below_next:.4f} below the next and {below_last:.4f} below the last."


def _loss_over(sweep: Sweep, field: str) -> Picture:
    """The validation loss of each trial over one field's values."""
    tried = [trial for trial in sweep.trials if trial.over]
    values = [trial.settings[field] for trial in tried]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    is_number = len(numbers) == len(values)
    best = sweep.ranking[0]
    return points(
        f"{field}: {shown(best.settings[field])} is best",
        [(value if is_number else shown(value), loss_of(trial)) for value, trial in zip(values, tried, strict=True)],
        field,
        "validation loss, nats a token",
        marked=(tried.index(best), f"best: {best.val_loss:.4f}"),
        log_x=is_number and min(numbers) > 0 and max(numbers) / min(numbers) >= DECADE,
        joined=len(sweep.fields) == 1,
    )


def _curves(sweep: Sweep) -> Picture:
    """Training loss over steps, the best trials named, the others faint."""
    started = [trial for trial in sweep.trials if (sweep.folder / trial.folder / "metrics.jsonl").exists()]
    ordered = sorted(started, key=loss_of)
    curves = {trial.number: _curve(sweep, trial) for trial in ordered}
    # What blows up would leave the others no room.
    ceiling = 1.5 * max(curves[trial.number][1][0] for trial in sweep.ranking)
    named = sweep.ranking[:NAMED_CURVES]
    shown_as = [(f"trial {trial.number}:", *_below(curves[trial.number], ceiling)) for trial in named]
    faint = [_below(curves[trial.number], ceiling) for trial in ordered if trial not in named]
    title = "Training loss of all trials"
    return lines(
        f"{title}; the best {len(named)} are named" if faint else title,
        shown_as,
        "step",
        "loss, nats a token",
        faint=faint,
    )


def _curve(sweep: Sweep, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Steps and training losses, means of stretches of steps."""
    found = [(line["step"], line["loss"]) for line in read_metrics(sweep.folder / trial.folder) if "loss" in line]
    count = min(MOST_POINTS, max(FEWEST_POINTS, len(found) // STEPS_OF_A_POINT))
    stretches = np.array_split(np.array(found, dtype=float).reshape(-1, 2), count)
    means = np.array([stretch.mean(axis=0) for stretch in stretches if len(stretch)]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def _below(curve: tuple[np.ndarray, np.ndarray], ceiling: float) -> tuple[np.ndarray, np.ndarray]:
    steps, losses = curve
    return steps, np.where(losses <= ceiling, losses, np.nan)
