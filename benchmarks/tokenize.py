"""How fast are texts encoded to shards, a BPE trained, batches loaded? Ours beside tiktoken, gigatoken and others.

`python -m benchmarks.tokenize --corpus FOLDER [--json FILE] [--quick] [--rustbpe PYTHON]` (`make bench-tokenize` sets
up rustbpe's environment first). FOLDER holds .jsonl.gz files with a column "text"; they are written as four Parquet
files, as `build` would. Each run is a process of its own, all of them interleaved; the figures are medians, with the
lowest and the highest beside them.

Encoding, of the documents and of ten copies of them (engines that remember words then know them all): ours goes from
Parquet to shards on disk (held-out documents chosen, SHA-256, flushed); tiktoken from texts in memory to ids in memory;
gigatoken from Parquet or one text file to ids in memory. Training: from Parquet to merges in memory, 50,257 ids; memory
is the largest sum of the proportional set sizes of a process and its children, seen every 20 ms. Our kernel is compiled
once an installation; that time is measured apart.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pyarrow.parquet

from benchmarks.dedup_corpus import read_corpus
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.tokens.bpe import gpt2_tokenizer
from gpt2lab.tokens.write_shards import write_shards

CORPUS = Path("../shared/data/corpora")
RUSTBPE_PYTHON = Path(".venv-rustbpe/bin/python")
FILES = 4
COPIES = 10
VOCAB_SIZE = 50_257
LOOKS_EVERY_SECONDS = 0.02
ENCODERS = ("encode_gpt2lab", "encode_tiktoken", "encode_gigatoken_parquet", "encode_gigatoken_text")
TRAINERS = ("train_gpt2lab", "train_rustbpe", "train_gigatoken", "train_tokenizers")
PACKAGES = ("gpt2lab", "gigatoken", "tiktoken", "tokenizers", "numba", "numpy", "pyarrow")

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the documents, one run each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--rustbpe", type=Path, default=RUSTBPE_PYTHON, help="a Python that has rustbpe and pyarrow")
    asked = parser.parse_args()
    if not asked.corpus.is_dir():
        sys.exit(f"error: {asked.corpus}: no such folder; pass --corpus FOLDER with .jsonl.gz files of texts.")
    texts = read_corpus(asked.corpus)[:: 10 if asked.quick else 1]
    text_bytes = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        folder = Path(name)
        write_corpus(folder, texts)
        cold = run_one("train_gpt2lab", folder, asked.rustbpe, {"NUMBA_CACHE_DIR": str(folder / "numba")})
        runs = run_interleaved(folder, 1 if asked.quick else asked.runs, asked.rustbpe)
        larger = run_larger(folder, asked.rustbpe)
        write_shards(folder, folder / "shards", gpt2_tokenizer(), 0.05)
        loading = subprocess.run(
            [sys.executable, "-m", "benchmarks.loader_speed", str(folder / "shards")], check=True, capture_output=True
        )
    loader = json.loads(loading.stdout)
    figures = summarize(text_bytes, runs, larger) | {
        "first_training_seconds": cold["seconds"] if cold else None,
        "loader_tokens_per_second": loader["loader_tokens_per_second"]["each_once 8 x 1024"],
        "loader_share_of_nano_step": loader["share_of_nano_step"],
    }
    print_table(figures, len(texts), text_bytes, runs, larger, loader)
    if asked.json:
        raw = {"runs": runs, "ten_copies": larger, "loader": loader}
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": describe_versions(PACKAGES)}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def write_corpus(folder: Path, texts: list[str]) -> None:
    """The documents as Parquet and as one text, and GPT-2's ranks."""
    for number in range(FILES):
        part = texts[number::FILES]
        table = pyarrow.table({"id": [f"{number}-{row}" for row in range(len(part))], "text": part})
        pyarrow.parquet.write_table(table, folder / f"part-{number}.parquet", compression="zstd")
    (folder / "all.txt").write_text("<|endoftext|>".join(texts), encoding="utf-8")
    (folder / "tokenizer").mkdir()
    gpt2_tokenizer().save(folder / "tokenizer")


def run_interleaved(folder: Path, times: int, rustbpe: Path) -> Runs:
    """All contestants in turn, the order turned around every other time."""
    runs: Runs = {}
    for number in range(times):
        for names in (ENCODERS, TRAINERS):
            for name in names if number % 2 == 0 else names[::-1]:
                if (found := run_one(name, folder, rustbpe)) is not None:
                    runs.setdefault(name, []).append(found)
                    print(f"{name}: {found['seconds']:.2f} s", file=sys.stderr)
    return runs


def run_larger(folder: Path, rustbpe: Path) -> Runs:
    """The encoders that read Parquet, and tiktoken, on ten copies, twice each."""
    ten = folder / "ten"
    (ten / "tokenizer").mkdir(parents=True)
    shutil.copy(folder / "tokenizer" / "tokenizer.tiktoken", ten / "tokenizer")
    for file in folder.glob("*.parquet"):
        for copy in range(COPIES):
            (ten / f"{file.stem}-{copy}.parquet").symlink_to(file)
    runs: Runs = {}
    for names in (ENCODERS[:3], ENCODERS[2::-1]):
        for name in names:
            if (found := run_one(name, ten, rustbpe)) is not None:
                runs.setdefault(name, []).append(found)
                print(f"{name}, {COPIES} copies: {found['seconds']:.2f} s", file=sys.stderr)
    return runs


def run_one(name: str, folder: Path, rustbpe: Path, environment: dict[str, str] | None = None) -> dict[str, Any] | None:
    """One contestant in a process of its own, its memory watched; None where the peer is absent."""
    python = rustbpe if name == "train_rustbpe" else Path(sys.executable)
    if not python.exists():
        return None
    out, ranks = folder / "out", folder / "tokenizer" / "tokenizer.tiktoken"
    command = [str(python), "-m", "benchmarks.tokenize_contestants", name, str(folder), str(ranks), str(out)]
    command += [str(VOCAB_SIZE)] if name.startswith("train") else []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | (environment or {}), text=True
    ) as process:
        # Looking costs time: only trainers are watched, all alike.
        peak = watch(process) if name.startswith("train") else 0
        output, _ = process.communicate()
    shutil.rmtree(out, ignore_errors=True)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {process.returncode}.")
    return json.loads(output.splitlines()[-1]) | {"peak_memory_bytes": peak}


def watch(process: "subprocess.Popen[str]") -> int:
    """The largest sum of the memory of a process and its children, in bytes, until it ends."""
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        total = 0
        try:
            for one in (watched, *watched.children(recursive=True)):
                total += memory_of(one.pid)
        except psutil.Error:
            pass
        peak = max(peak, total)
        time.sleep(LOOKS_EVERY_SECONDS)
    return peak


def memory_of(pid: int) -> int:
    """The proportional set size, in which shared pages are divided among their users; the resident one off Linux."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss) if not Path("/proc").exists() else 0
    except psutil.Error:
        return 0


def summarize(text_bytes: int, runs: Runs, larger: Runs) -> dict[str, Any]:
    """The figures of the claims; a ratio against an absent peer is missing."""
    seconds = {name: statistics.median(run["seconds"] for run in each) for name, each in runs.items()}
    memory = {name: statistics.median(run["peak_memory_bytes"] for run in each) for name, each in runs.items()}
    ours = seconds["encode_gpt2lab"]
    figures: dict[str, Any] = {
        "text_bytes": text_bytes,
        "encode_mb_per_second": text_bytes / 1e6 / ours,
        "encode_vs_tiktoken": seconds["encode_tiktoken"] / ours,
        "encode_vs_gigatoken_parquet": seconds["encode_gigatoken_parquet"] / ours,
        "encode_vs_gigatoken_text": seconds["encode_gigatoken_text"] / ours,
        "bpe_train_seconds": seconds["train_gpt2lab"],
        "bpe_train_peak_memory_mb": memory["train_gpt2lab"] / 1e6,
    }
    ten = {name: statistics.median(run["seconds"] for run in each) for name, each in larger.items()}
    figures |= {
        "encode_mb_per_second_10x": COPIES * text_bytes / 1e6 / ten["encode_gpt2lab"],
        "encode_vs_tiktoken_10x": ten["encode_tiktoken"] / ten["encode_gpt2lab"],
        "encode_vs_gigatoken_parquet_10x": ten["encode_gigatoken_parquet"] / ten["encode_gpt2lab"],
    }
    peers = [name for name in TRAINERS[1:] if name in seconds]
    if len(peers) == len(TRAINERS) - 1:
        figures["bpe_train_vs_fastest_peer"] = min(seconds[name] for name in peers) / seconds["train_gpt2lab"]
        lowest = min(memory[name] for name in peers)
        figures["bpe_train_memory_vs_lowest_peer"] = memory["train_gpt2lab"] / lowest
    return figures


def print_table(
    figures: dict[str, Any], documents: int, text_bytes: int, runs: Runs, larger: Runs, loader: dict[str, Any]
) -> None:
    """Ours and each peer, medians with the lowest and the highest, and the ratios."""
    print(f"{documents:,} documents, {text_bytes / 1e6:,.1f} MB, {describe_machine()['cores']} cores")
    print(f"{'':30}{'MB/s':>8}{'lowest':>9}{'highest':>9}{'ours/theirs':>13}")
    for copies, each in ((1, runs), (COPIES, larger)):
        ours = statistics.median(run["seconds"] for run in each["encode_gpt2lab"])
        for name in ENCODERS:
            if name not in each:
                continue
            rates = sorted(copies * text_bytes / 1e6 / run["seconds"] for run in each[name])
            ratio = statistics.median(run["seconds"] for run in each[name]) / ours
            label = name if copies == 1 else f"{copies} x {name}"
            print(f"{label:30}{statistics.median(rates):>8.1f}{rates[0]:>9.1f}{rates[-1]:>9.1f}{ratio:>13.2f}")
    print(f"{'':30}{'s':>8}{'lowest':>9}{'highest':>9}{'theirs/ours':>13}{'MB':>8}{'merges':>9}")
    for name in TRAINERS:
        if name not in runs:
            print(f"{name:30}{'absent':>8}")
            continue
        times = sorted(run["seconds"] for run in runs[name])
        ratio = statistics.median(times) / figures["bpe_train_seconds"]
        memory = statistics.median(run["peak_memory_bytes"] for run in runs[name]) / 1e6
        print(
            f"{name:30}{statistics.median(times):>8.2f}{times[0]:>9.2f}{times[-1]:>9.2f}{ratio:>13.2f}{memory:>8,.0f}"
            f"{runs[name][0]['made']:>9,}"
        )
    if figures["first_training_seconds"] is not None:
        print(f"the first training of an installation, kernel compiled: {figures['first_training_seconds']:.1f} s")
    for shape, rate in loader["loader_tokens_per_second"].items():
        print(f"loader, {shape:24}{rate / 1e6:>8.0f} million tokens/s on one core")
    print(f"loader's share of a nano training step: {loader['share_of_nano_step']:.3%}")


if __name__ == "__main__":
    main()
