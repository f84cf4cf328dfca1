"""How much compute to the same loss? Our recipe `modern` against nanoGPT's AdamW, on one network, GPT-2's to the bit.

`python -m benchmarks.speedrun [--json FILE] [--quick] [--corpora FOLDER]`; NANOGPT=PATH: its checkout, to time it too.
4 layers, 256 wide, context 256, a BPE of 4,096 ids of our own, steps of 4,096 tokens, the texts of FOLDER with 2 % of
the documents held out; the validation loss is that of all held-out tokens after the last step.

The yardstick is nanoGPT's recipe after 600 steps, with the best of three learning rates. It was run once; its log, each
step's loss, is in benchmarks/results (`--yardstick` runs it again: half an hour). Ours is `gpt2lab train` with
`modern:nano` for a third of the steps, three seeds. Seconds are those of a step, measured in turns with nanoGPT's in
this sitting, times the number of steps: the loss does not depend on how busy the machine was, seconds do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpt2lab.base.machine import describe_machine, describe_versions

CORPORA = Path("../shared/data/corpora")
YARDSTICK = Path(__file__).with_name("results") / "speedrun-nanogpt.json"
VOCAB_SIZE, HELD_OUT_SHARE = 4096, 0.02
NANOGPT_STEPS, NANOGPT_RATES, STEPS, SEEDS = 600, (1e-3, 2e-3, 4e-3), 200, (0, 1, 2)
WARM_UP_STEPS, TIMED_STEPS = 3, 12
WHOLE_HELD_OUT = 100_000
"""Sequences to validate on: more than there are."""


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, one round of timing")
    parser.add_argument("--corpora", type=Path, default=CORPORA)
    parser.add_argument("--steps", type=int, default=STEPS, help="of ours")
    parser.add_argument("--rounds", type=int, default=3, help="of timing")
    parser.add_argument("--yardstick", action="store_true", help="run nanoGPT's 3 x 600 steps, too, and keep the log")
    asked = parser.parse_args()
    nanogpt = Path(os.environ.get("NANOGPT", "")) / "model.py"
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        tokens = prepare(asked.corpora, work)
        if asked.yardstick:
            write_yardstick(nanogpt, tokens)
        yardstick = json.loads(YARDSTICK.read_text())
        if yardstick["tokenizer_sha256"] != json.loads((tokens / "tokens.json").read_text())["tokenizer_sha256"]:
            sys.exit(f"error: {YARDSTICK} is of other texts or another BPE; pass --yardstick to run it again.")
        seeds = SEEDS[:1] if asked.quick else SEEDS
        runs = [run_modern(tokens, work / f"seed-{seed}", asked.steps, seed) for seed in seeds]
        times: dict[str, list[float]] = {"gpt2lab": [], "nanogpt": []}
        for number in range(1 if asked.quick else asked.rounds):
            times["gpt2lab"] += modern_step_seconds(tokens, work / f"timing-{number}")
            if nanogpt.is_file():
                times["nanogpt"] += nanogpt_step_seconds(nanogpt, tokens)
    figures = summarize(yardstick, runs, times, asked.steps)
    print_table(yardstick, runs, times, figures)
    if asked.json:
        raw = {"runs": runs, "step_seconds": times, "yardstick": yardstick["runs"]}
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": describe_versions()}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def gpt2lab(*arguments: object) -> None:
    """A command of ours, as a user would type it."""
    command = [sys.executable, "-P", "-m", "gpt2lab", *map(str, arguments)]
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {finished.returncode}:\n{finished.stderr[-3000:]}")


def prepare(corpora: Path, work: Path) -> Path:
    """The texts as tokens, in `work`."""
    if not corpora.is_dir():
        sys.exit(f"error: {corpora}: no such folder; pass --corpora FOLDER with .jsonl.gz files of texts.")
    gpt2lab("build", corpora, "--out", work / "documents", "--filters", "none")
    gpt2lab("tokens", "train", work / "documents", "--vocab-size", VOCAB_SIZE, "--out", work / "own")
    held_out = ("--held-out-share", HELD_OUT_SHARE)
    gpt2lab("tokenize", work / "documents", "--tokenizer", work / "own", "--out", work / "tokens", *held_out)
    return work / "tokens"


def run_modern(tokens: Path, out: Path, steps: int, seed: int) -> dict[str, Any]:
    """One run of ours: its seed, its losses step by step, and the validation loss at its end."""
    gpt2lab("train", tokens, "--out", out, *modern_options(steps), "--seed", seed)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    losses = [line["loss"] for line in lines if "loss" in line]
    found = {"seed": seed, "val_loss": summary["val_loss_last"], "losses": losses}
    print(f"modern, seed {seed}: {found['val_loss']:.4f}", file=sys.stderr)
    return found


def modern_options(steps: int) -> list[object]:
    """`modern` as it is, but for its length, and validated at the end only, on everything held out."""
    often = ["--watch.validate-every", steps, "--watch.validation-sequences", WHOLE_HELD_OUT]
    return ["--recipe", "modern:nano", "--steps", steps, *often, "--watch.checkpoint-every", steps]


def modern_step_seconds(tokens: Path, out: Path) -> list[float]:
    """Seconds of some steps of ours."""
    few = ["--watch.validation-sequences", 1]
    gpt2lab("train", tokens, "--out", out, *modern_options(WARM_UP_STEPS + TIMED_STEPS), *few)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    tokens_a_step = steps[0]["tokens"]
    return [tokens_a_step / line["tokens_per_second"] for line in steps[WARM_UP_STEPS:]]


def run_nanogpt(model_file: Path, tokens: Path, rate: float, steps: int) -> list[dict[str, Any]]:
    """The lines that one run of nanoGPT's recipe prints."""
    if not model_file.is_file():
        sys.exit("error: set NANOGPT to a checkout of nanoGPT (the folder with model.py).")
    module = [sys.executable, "-m", "benchmarks.speedrun_nanogpt"]
    command = [*module, str(model_file), str(tokens), str(rate), str(steps), "0"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]  # its model prints words, too


def nanogpt_step_seconds(model_file: Path, tokens: Path) -> list[float]:
    """Seconds of some steps of nanoGPT's."""
    lines = run_nanogpt(model_file, tokens, NANOGPT_RATES[0], WARM_UP_STEPS + TIMED_STEPS)
    return [line["seconds"] for line in lines[WARM_UP_STEPS:-1]]


def write_yardstick(model_file: Path, tokens: Path) -> None:
    """Run nanoGPT's recipe with each of the learning rates and keep what it prints."""
    info = json.loads((tokens / "tokens.json").read_text())
    runs = [run_nanogpt(model_file, tokens, rate, NANOGPT_STEPS) for rate in NANOGPT_RATES]
    YARDSTICK.parent.mkdir(exist_ok=True)
    YARDSTICK.write_text(json.dumps(yardstick_log(info, runs)) + "\n")


def yardstick_log(info: dict[str, Any], runs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """What is kept of the yardstick: its texts' tokenizer, and each run's losses."""
    return {
        "tokenizer_sha256": info["tokenizer_sha256"],
        "runs": [
            {
                "rate": lines[-1]["rate"],
                "val_loss": lines[-1]["val_loss"],
                "losses": [round(line["loss"], 5) for line in lines[:-1]],
            }
            for lines in runs
        ],
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def summarize(
    yardstick: dict[str, Any], runs: list[dict[str, Any]], times: dict[str, list[float]], steps: int
) -> dict[str, Any]:
    """The figures of the claims; the ratios are there only where ours came to the yardstick's loss or below."""
    target = min(run["val_loss"] for run in yardstick["runs"])
    losses = [run["val_loss"] for run in runs]
    figures: dict[str, Any] = {
        "val_loss_nanogpt": target,
        "val_loss_modern": statistics.mean(losses),
        "val_loss_modern_spread": max(losses) - min(losses),
        "steps_modern": steps,
    }
    if figures["val_loss_modern"] > target:
        return figures
    figures["tokens_to_loss_vs_nanogpt"] = steps / NANOGPT_STEPS
    if times["nanogpt"]:
        ours, theirs = (statistics.median(times[name]) for name in ("gpt2lab", "nanogpt"))
        figures["seconds_to_loss_vs_nanogpt"] = steps * ours / (NANOGPT_STEPS * theirs)
    return figures


def print_table(
    yardstick: dict[str, Any], runs: list[dict[str, Any]], times: dict[str, list[float]], figures: dict[str, Any]
) -> None:
    """Both recipes, run by run, and what the ratios are."""
    print(f"{'4 layers, 256 wide, 4,096 tokens a step':42}{'steps':>8}{'val loss':>10}")
    for run in yardstick["runs"]:
        print(f"{'nanoGPT, learning rate ' + format(run['rate'], 'g'):42}{NANOGPT_STEPS:>8}{run['val_loss']:>10.4f}")
    for run in runs:
        print(f"{'modern, seed ' + str(run['seed']):42}{figures['steps_modern']:>8}{run['val_loss']:>10.4f}")
    for name, seconds in times.items():
        if seconds:
            low, high = min(seconds), max(seconds)
            print(f"a step of {name}: {statistics.median(seconds):.3f} s ({low:.3f} to {high:.3f})")
        else:
            print(f"a step of {name}: absent")
    if "tokens_to_loss_vs_nanogpt" in figures:
        print(f"tokens to nanoGPT's loss: {figures['tokens_to_loss_vs_nanogpt']:.3f} of nanoGPT's")
    else:
        print(f"modern did not reach nanoGPT's loss: {figures['val_loss_modern']:.4f}")
    if "seconds_to_loss_vs_nanogpt" in figures:
        print(f"seconds to it: {figures['seconds_to_loss_vs_nanogpt']:.3f} of nanoGPT's")


if __name__ == "__main__":
    main()
