"""The report of a fine-tuning: how much better the text is predicted, what is said instead, what is only copied."""

from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.report import Report
from gpt2lab.pipelines.finetune import FEWEST_GRAMS, MEMORIZED_MARGIN, Finetuned, warning_of
from gpt2lab.train.watching.report import loss_picture


def write_finetune_report(run: Path, found: Finetuned, model: str, command: str) -> None:
    """Write `run/report.html`."""
    before, after = found.perplexity_before, found.perplexity_after
    better = "falls" if after < before else "does not fall"
    report = Report(
        "Fine-tuning",
        f"Perplexity on held-out text {better}: {before:,.1f} before, {after:,.1f} after {found.epochs:,.2g} times"
        f" through {found.train_tokens:,} tokens.",
    )
    report.figures(
        [
            ("perplexity before", f"{before:,.1f}"),
            ("perplexity after", f"{after:,.1f}"),
            ("step kept", f"{found.model_step:,} of {found.steps:,}"),
            ("copied 8-grams", f"{found.copied.after:.0%}"),
            ("minutes", f"{found.training_seconds / 60:,.1f}"),
        ]
    )
    if warning := warning_of(found.copied):
        report.paragraph(warning.capitalize())
    report.picture(
        loss_picture(run),
        f"The model folder has the weights of step {found.model_step:,}, where held-out text was predicted best."
        if found.model_step != found.steps
        else "",
    )
    report.heading("What it says, before and after")
    for sample in found.samples:
        prompt = f"prompt “{sample.prompt}”" if sample.prompt else "no prompt"
        report.passage(sample.prompt + sample.before, f"before training, {prompt}")
        report.passage(sample.prompt + sample.after, f"after training, {prompt}")
    report.heading("Is it copied?")
    copied = found.copied
    report.table(
        ["8-grams of words that stand in the training text", "share"],
        [
            ["of the samples before", f"{copied.before:.1%}"],
            ["of the samples after", f"{copied.after:.1%}"],
            ["of the held-out text", f"{copied.held_out:.1%}"],
        ],
    )
    report.paragraph(
        f"The samples after have {copied.sampled_grams:,} 8-grams. A warning is given when their share is more than"
        f" {MEMORIZED_MARGIN:.0%} above that of the held-out text, which is by the same hands; fewer than"
        f" {FEWEST_GRAMS} 8-grams say nothing."
    )
    report.details("The resolved recipe", (run / "recipe.json").read_text(encoding="utf-8"))
    report.foot([("command", command), ("model", model), *report_foot()])
    report.write(run / "report.html")
