"""The report of a run: how the loss fell, how fast it went."""

from pathlib import Path

from gpt2lab.base.files import read_json
from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import lines
from gpt2lab.base.report import Picture, Report
from gpt2lab.train.loop import RunSummary
from gpt2lab.train.metrics import read_metrics
from gpt2lab.train.recipe import recipe_from_json


def loss_picture(run: Path) -> Picture:
    """Training and validation loss over training tokens, with the unigram model's loss across."""
    metrics, summary = read_metrics(run), RunSummary(**read_json(run / "summary.json"))
    trained = [(line["tokens"], line["loss"]) for line in metrics if "loss" in line]
    tokens_a_step = trained[0][0]
    checked = [(line["step"] * tokens_a_step, line["val_loss"]) for line in metrics if "val_loss" in line]
    first, last = checked[0][1], checked[-1][1]
    falling = len(checked) > 2 and checked[-1][1] < checked[-2][1] - 0.01
    title = (
        f"Validation loss falls from {first:.2f} to {last:.2f}"
        if last < first
        else f"Validation loss ends at {last:.2f}"
    )
    return lines(
        f"{title}; still falling" if falling else title,
        [
            ("training", [x / 1e6 for x, _ in trained], [y for _, y in trained]),
            ("validation", [x / 1e6 for x, _ in checked], [y for _, y in checked]),
        ],
        "training tokens, millions",
        "loss, nats a token",
        [("unigram model", summary.unigram_val_loss)],
    )


def speed_picture(run: Path) -> Picture:
    """Tokens a second of each training step."""
    speeds = [(line["step"], line["tokens_per_second"]) for line in read_metrics(run) if "loss" in line]
    ordered = sorted(speed for _, speed in speeds)
    return lines(
        f"Training runs at {ordered[len(ordered) // 2]:,.0f} tokens a second (median step)",
        [("each step", [step for step, _ in speeds], [speed for _, speed in speeds])],
        "step",
        "tokens a second",
    )


def write_run_report(run: Path, command: str) -> None:
    """Write `run/report.html`."""
    summary = RunSummary(**read_json(run / "summary.json"))
    recipe = recipe_from_json(read_json(run / "recipe.json"), str(run / "recipe.json"))
    report = Report(
        "Training run",
        f"A GPT-2 of {summary.parameters:,} parameters saw {summary.tokens:,} tokens; its validation loss went from"
        f" {summary.val_loss_first:.3f} to {summary.val_loss_last:.3f} nats a token.",
    )
    report.figures(
        [
            ("validation loss", f"{summary.val_loss_last:.3f}"),
            ("bits per byte", f"{summary.val_bits_per_byte_last:.3f}"),
            ("steps", f"{summary.steps:,}"),
            ("tokens a second", f"{summary.tokens_per_second:,.0f}"),
            ("GFLOP/s", f"{summary.flops_per_second / 1e9:,.0f}"),
        ]
    )
    report.picture(loss_picture(run))
    report.picture(speed_picture(run))
    report.details("The resolved recipe", (run / "recipe.json").read_text(encoding="utf-8"))
    report.foot([("command", command), ("recipe", recipe.name), *report_foot()])
    report.write(run / "report.html")
