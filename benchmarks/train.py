"""How fast is a training step of the 124M, and how much memory does it take? Ours beside nanoGPT and transformers.

`NANOGPT=PATH python -m benchmarks.train [--json FILE] [--quick]`; PATH is a checkout of nanoGPT. One configuration for
all figures: 4 sequences of 1,024 tokens, float32, forward and backward pass, clipping and AdamW, all cores. A run is
a process of its own, interleaved with the others; figures are medians over all timed steps. Peak memory is the largest
resident set of the process. --quick leaves out the compiled ones, which need minutes to warm up.

"Of GEMM peak" is tokens a second times FLOPs a token (6 N without positions + 6 layers context width) over the fastest
plain float32 torch.mm on the step's own shapes in the same sitting.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import run_measured
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.model.config import gpt2_size, training_flops_per_token

BATCH = 4
EAGER = ("gpt2lab", "nanogpt", "transformers")
COMPILED = ("gpt2lab_compiled", "nanogpt_compiled", "transformers_compiled")
CONTESTANTS = Path(__file__).with_name("train_contestants.py")

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="two rounds of one step, without the compiled ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a process")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    names = EAGER if asked.quick else EAGER + COMPILED
    rounds, steps = (2, 1) if asked.quick else (asked.rounds, asked.steps)
    runs: Runs = {}
    for number in range(rounds):
        runs.setdefault("gemm", []).append(run_one("gemm", steps))
        for name in names if number % 2 == 0 else names[::-1]:
            if is_there(name):
                runs.setdefault(name, []).append(run_one(name, steps))
                print(f"{name}: {runs[name][-1]}", file=sys.stderr)
    figures = summarize(runs)
    print_table(names, runs, figures)
    if asked.json:
        whole = figures | {"raw": runs | {"load_average_before": load}, "machine": describe_machine()}
        versions = describe_versions(("gpt2lab", "torch", "transformers"))
        asked.json.write_text(json.dumps(whole | {"versions": versions}, indent=2) + "\n")


def is_there(name: str) -> bool:
    """Whether a contestant can be run here."""
    if name.startswith("nanogpt"):
        return Path(os.environ.get("NANOGPT", ""), "model.py").is_file()
    return not name.startswith("transformers") or importlib.util.find_spec("transformers") is not None


def run_one(name: str, steps: int) -> dict[str, Any]:
    """One process: what it prints as JSON, and its peak memory in bytes."""
    command = [sys.executable, "-P", str(CONTESTANTS), name, str(BATCH), str(steps), os.environ.get("NANOGPT", "")]
    ended = run_measured(command)
    found: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    return found | {"peak_memory_bytes": ended.peak_memory_bytes}


def step_seconds(runs: list[dict[str, Any]]) -> list[float]:
    """All timed steps of a contestant, sorted."""
    return sorted(seconds for run in runs for seconds in run["seconds"])


def summarize(runs: Runs) -> dict[str, Any]:
    """The figures of the claims; a ratio against an absent peer is missing."""
    seconds = {name: statistics.median(step_seconds(each)) for name, each in runs.items() if name != "gemm"}
    memory = {name: statistics.median(run["peak_memory_bytes"] for run in each) for name, each in runs.items()}
    ours = min((name for name in seconds if name.startswith("gpt2lab")), key=seconds.__getitem__)
    peers = [name for name in seconds if not name.startswith("gpt2lab")]
    tokens = BATCH * gpt2_size("117M").context_length
    peak = max(run["flops_per_second"] for run in runs["gemm"])
    rate = tokens / seconds[ours]
    figures: dict[str, Any] = {
        "tokens_per_second": rate,
        "ours": ours,
        "gemm_flops_per_second": peak,
        "of_gemm_peak": rate * training_flops_per_token(gpt2_size("117M")) / peak,
        "peak_memory_bytes": memory[ours],
    }
    if "nanogpt" in seconds:
        figures["vs_nanogpt_eager"] = seconds["nanogpt"] / seconds[ours]
        figures["memory_vs_nanogpt"] = memory[ours] / memory["nanogpt"]
    if peers:
        fastest = min(peers, key=seconds.__getitem__)
        figures |= {"fastest_peer": fastest, "vs_fastest_peer": seconds[fastest] / seconds[ours]}
    return figures


def print_table(names: tuple[str, ...], runs: Runs, figures: dict[str, Any]) -> None:
    """Ours and each peer, medians with the lowest and the highest, and the limit."""
    columns = ("tokens/s", "seconds", "lowest", "highest", "warm-up", "peak MB", "theirs/ours")
    print(f"{'124M, 4 x 1024, float32':28}" + "".join(f"{column:>12}" for column in columns))
    tokens = BATCH * gpt2_size("117M").context_length
    ours = statistics.median(step_seconds(runs[figures["ours"]]))
    for name in names:
        if name not in runs:
            print(f"{name:28}{'absent':>12}")
            continue
        found = step_seconds(runs[name])
        middle = statistics.median(found)
        warm_up = statistics.median(run["warm_up_seconds"] for run in runs[name])
        memory = statistics.median(run["peak_memory_bytes"] for run in runs[name])
        print(
            f"{name:28}{tokens / middle:>12.1f}{middle:>12.2f}{found[0]:>12.2f}{found[-1]:>12.2f}{warm_up:>12.2f}"
            f"{memory / 1e6:>12,.0f}{middle / ours:>12.2f}"
        )
    print(f"plain torch.mm at best: {figures['gemm_flops_per_second'] / 1e9:.1f} GFLOP/s; {figures['ours']} is at")
    print(f"{figures['of_gemm_peak']:.1%} of that, by 6 N + 6 layers context width FLOPs a token")


if __name__ == "__main__":
    main()
