"""How fast is scoring by the 124M? Ours beside lm-evaluation-harness's Hugging Face backend, on both cores.

`DATA=PATH python -m benchmarks.evaluate [--json FILE] [--quick]`; PATH is a folder with the evaluation sets. 500
passages of LAMBADA, 200 questions of HellaSwag, and articles of WikiText-2's test set (every eighth; all of them with
--articles 1), by the harness's own protocol: the same texts for both, the same weights, float32. The harness gets the
batch size that is fastest for it on a tenth of each set. A run is a process of its own, interleaved; figures are
medians. Peak memory is the largest resident set of the process. Both have to give the same sum of log-likelihoods.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import run_measured
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.datasets.lambada import read_lambada
from gpt2lab.datasets.wikitext import read_wikitext
from gpt2lab.evaluate.detokenizers.wikitext import megatron
from gpt2lab.evaluate.tasks.hellaswag import HellaSwag
from gpt2lab.evaluate.tasks.lambada import LM_EVAL
from gpt2lab.evaluate.tasks.wikitext import articles
from gpt2lab.model.config import gpt2_size
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import gpt2_tokenizer

ROOT = Path(__file__).parents[1]
CONTESTANTS = Path(__file__).with_name("evaluate_contestants.py")
PYTHON = {"gpt2lab": sys.executable, "lm-eval": str(ROOT / ".venv-lm-eval" / "bin" / "python")}
BATCHES = (1, 4, 8, 16)
SETS = ("lambada", "hellaswag", "wikitext2")

Runs = dict[str, dict[str, list[dict[str, Any]]]]


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the items")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--articles", type=int, default=8, help="WikiText-2: every so many-th article")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    asked = parser.parse_args()
    if not os.environ.get("DATA"):
        sys.exit("error: DATA is not set: name the folder with the evaluation sets, as in DATA=../shared/data.")
    with tempfile.TemporaryDirectory() as place:
        model = Path(place, "model")
        save_model(model)
        files = {name: Path(place, f"{name}.json") for name in asked.sets}
        counts = {}
        for name, file in files.items():
            requests = requests_of(name, DataSource(Path(os.environ["DATA"])), asked.articles)
            counts[name] = max(1, len(requests) // 10) if asked.quick else len(requests)
            file.write_text(json.dumps(requests))
        batches = {name: best_batch(model, file, max(1, counts[name] // 10)) for name, file in files.items()}
        runs: Runs = {name: {} for name in asked.sets}
        for number in range(1 if asked.quick else asked.rounds):
            for name, file in files.items():
                for who in list(PYTHON)[:: 1 if number % 2 == 0 else -1]:
                    if Path(PYTHON[who]).exists():
                        run = run_one(who, model, file, batches[name] or 1, counts[name])
                        runs[name].setdefault(who, []).append(run)
                        print(f"{name} {who}: {run}", file=sys.stderr)
    figures = summarize(runs)
    print_table(runs, batches, figures)
    if asked.json:
        whole = figures | {"raw": runs, "batches": batches, "machine": describe_machine()}
        asked.json.write_text(
            json.dumps(whole | {"versions": describe_versions(("gpt2lab", "torch"))}, indent=2) + "\n"
        )


def save_model(place: Path) -> None:
    """A 124M with fresh weights: what it says means nothing, how long it takes does not depend on it."""
    network = GPT2(gpt2_size("117M"))
    network.initialize(torch.Generator().manual_seed(0))
    save_model_folder(place, network, gpt2_tokenizer(), {})


def requests_of(name: str, source: DataSource, every: int) -> list[Any]:
    """What is asked of both: (context, continuation) texts, or whole texts."""
    if name == "lambada":
        (task,) = LM_EVAL.values()
        return [task.passage(text) for text in read_lambada(source).items[:500]]
    if name == "hellaswag":
        task = HellaSwag()
        return [choice for item in task.read(source).items[:200] for choice in task.choices(item)]
    (text,) = read_wikitext(source, "2", "raw").items
    return [megatron(article) for article in articles(text)[::every]]


def best_batch(model: Path, file: Path, items: int) -> int | None:
    """The batch size with which the harness is fastest; None where it is absent."""
    if not Path(PYTHON["lm-eval"]).exists():
        return None
    return min(BATCHES, key=lambda batch: run_one("lm-eval", model, file, batch, items)["seconds"])


def run_one(who: str, model: Path, file: Path, batch: int, items: int) -> dict[str, Any]:
    """One process: what it prints as JSON, and its peak memory in bytes."""
    command = [PYTHON[who], "-P", str(CONTESTANTS), who, str(model), str(file), str(batch), str(items)]
    ended = run_measured(command)
    found: dict[str, Any] = json.loads(ended.output.splitlines()[-1])
    return found | {"peak_memory_bytes": ended.peak_memory_bytes}


def median(runs: list[dict[str, Any]], key: str) -> float:
    """The median over runs."""
    return statistics.median(run[key] for run in runs)


def summarize(runs: Runs) -> dict[str, Any]:
    """The figures of the claims; a ratio against an absent peer is missing."""
    figures: dict[str, Any] = {}
    for name, found in runs.items():
        ours = found["gpt2lab"]
        figures[f"{name}_predicted_to_actual"] = statistics.median(run["predicted"] / run["scored"] for run in ours)
        if "lm-eval" not in found:
            continue
        peer = found["lm-eval"]
        figures[f"{name}_vs_lm_eval"] = median(peer, "seconds") / median(ours, "seconds")
        figures[f"{name}_memory_vs_lm_eval"] = median(ours, "peak_memory_bytes") / median(peer, "peak_memory_bytes")
        figures[f"{name}_difference"] = abs(ours[0]["total"] / peer[0]["total"] - 1)
    return figures


def print_table(runs: Runs, batches: dict[str, int | None], figures: dict[str, Any]) -> None:
    """Ours and the peer, medians with the lowest and the highest."""
    print(f"{'124M, float32':24}{'seconds':>10}{'lowest':>10}{'highest':>10}{'peak MB':>10}{'theirs/ours':>13}")
    for name, found in runs.items():
        for who, each in found.items():
            seconds = sorted(run["seconds"] for run in each)
            ratio = figures.get(f"{name}_vs_lm_eval") if who == "gpt2lab" else None
            print(
                f"{name + ' ' + who:24}{statistics.median(seconds):>10.1f}{seconds[0]:>10.1f}{seconds[-1]:>10.1f}"
                f"{median(each, 'peak_memory_bytes') / 1e6:>10,.0f}{f'{ratio:.2f}' if ratio else '':>13}"
            )
        if "lm-eval" in found:
            print(
                f"  batch size {batches[name]}; sums of log-likelihoods differ by"
                f" {figures[f'{name}_difference']:.1e}; predicted time / actual"
                f" {figures[f'{name}_predicted_to_actual']:.2f}"
            )
        else:
            print("  lm-eval absent")


if __name__ == "__main__":
    main()
