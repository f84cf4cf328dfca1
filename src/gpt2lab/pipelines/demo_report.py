"""The demo's report: one page that shows the whole way."""

from pathlib import Path
from typing import Any

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars
from gpt2lab.base.report import Report
from gpt2lab.train.watching.report import loss_picture, speed_picture
from gpt2lab.webtext.build import BuildReport
from gpt2lab.webtext.build_report import add_removed_examples, kept_picture


def write_demo_report(out: Path, values: dict[str, Any], built: BuildReport) -> None:
    """Write `out/report.html` from what `report.json` says."""
    gain = values["unigram_val_loss"] - values["val_loss_last"]
    pages, seconds = values["held_out_pages"], values["seconds"]
    report = Report(
        "gpt2lab demo",
        f"In {sum(seconds.values()) / 60:.1f} minutes, {values['pages_fetched']:,} web pages became a GPT-2 of"
        f" {values['parameters'] / 1e6:.1f} million parameters that predicts unseen pages {gain:.2f} nats a token"
        " better than token frequencies do.",
    )
    report.figures(
        [
            ("pages fetched", f"{values['pages_fetched']:,}"),
            ("training tokens", f"{values['tokens_train'] / 1e6:.2f} M"),
            ("validation loss", f"{values['val_loss_last']:.2f}"),
            ("bits per byte", f"{values['val_bits_per_byte_last']:.2f}"),
            ("cloze of ten", _share(values["cloze_accuracy"])),
        ]
    )
    report.heading("From pages to documents")
    report.paragraph(
        "Python's own documentation server (pydoc) served the pages on this machine; the crawler fetched them as it"
        " would fetch any site. Removed pages are kept beside the documents, each with its reason."
    )
    report.picture(kept_picture(built))
    add_removed_examples(report, built)
    report.heading("Training")
    report.picture(loss_picture(out / "train"))
    report.paragraph(
        f"{values['steps']:,} steps over {values['tokens_trained']:,} tokens, of {values['tokens_train']:,} there are:"
        f" {values['tokens_trained'] / values['tokens_train']:.2f} times through the data."
    )
    report.picture(speed_picture(out / "train"))
    report.heading("Evaluation on held-out pages")
    cloze_rows = []
    if values["cloze_accuracy"] is not None:
        points = 100 * (values["cloze_accuracy"] - values["cloze_chance"])
        cloze_rows = [
            [
                f"cloze, {values['cloze_items']} questions of ten words",
                f"{values['cloze_accuracy']:.1%}\u00a0±\u00a0{values['cloze_standard_error']:.1%}",
                f"{values['cloze_chance']:.0%} (chance)",
                f"{points:+.1f} points",
            ]
        ]
    report.table(
        ["measure", "this model", "reference", "difference"],
        [
            [
                "validation loss, nats a token",
                f"{values['val_loss_last']:.3f}",
                f"{values['unigram_val_loss']:.3f} (unigram)",
                f"{-gain:+.3f}",
            ],
            [
                "loss on whole pages, nats a token",
                _with_error(pages["loss"], pages["loss_standard_error"]),
                "",
                "",
            ],
            [
                "bits per byte on whole pages",
                _with_error(pages["bits_per_byte"], pages["bits_per_byte_standard_error"]),
                "8.000 (a raw byte)",
                f"{pages['bits_per_byte'] - 8:+.3f}",
            ],
            *cloze_rows,
        ],
        "Held-out pages; ± is one standard error",
    )
    report.paragraph(
        f"{values['overlap_8grams']:.0%} of the held-out pages' 8-grams also occur in the training pages (pydoc repeats"
        " inherited methods on many pages), which flatters every figure here."
    )
    report.heading("What it writes")
    for sample in values["samples"]:
        report.passage(
            sample["prompt"] + sample["text"], f"after “{sample['prompt']}”" if sample["prompt"] else "unprompted"
        )
    report.heading("Time and memory")
    report.picture(
        bars(
            f"{sum(seconds.values()):,.0f} seconds in all, {values['peak_memory_bytes'] / 2**30:.1f} GiB at the peak",
            list(seconds.items()),
            "seconds",
            value_text=lambda value: f"{value:,.1f}",
        )
    )
    report.foot([("command", values["command"]), ("recipe", "modern:nano"), *report_foot()])
    report.write(out / "report.html")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.3f}" if error is None else f"{value:.3f}\u00a0±\u00a0{error:.3f}"
