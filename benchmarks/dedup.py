"""How complete, how exact, how fast and how large is de-duplication? Ours beside datatrove's MinHash blocks.

`python -m benchmarks.dedup --corpus FOLDER [--json FILE] [--quick] [--datatrove PYTHON]` (`make bench-dedup` sets up
datatrove's environment first). FOLDER holds .jsonl.gz files with a column "text". Edited copies of a fifth of the
documents are planted among them, and the truth is the exact Jaccard similarity of the word 5-grams of all pairs.

Pairs are judged before clustering: of the pairs at least 0.8 similar, how many does each find; of those below 0.5, how
many does it merge. Ours takes a pair when it shares a band and its exact similarity is at least 0.8; datatrove's takes
every pair that shares a bucket, so its buckets are as many and as long as our bands: it finds the same share of pairs
at 0.8. Timed is a process from JSON lines on disk to decisions, 2 workers each, the two interleaved; datatrove's last
block, which writes the documents that stay, is left out. Memory is that of the whole process tree, for the documents
and for 10 times as many, in other words.
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.dedup_corpus import Planted, plant_edits, read_corpus, true_similarities, write_documents
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.webtext.duplicates.sketch import band_recall, band_shape

THRESHOLD = 0.8
DISSIMILAR = 0.5
WORKERS = 2
FILES = 8
CORPUS = Path("../shared/data/corpora")
DATATROVE_PYTHON = Path(".venv-datatrove/bin/python")
PACKAGES = ("gpt2lab", "daft", "rensa", "numpy", "pyarrow", "xxhash")

Pairs = set[tuple[int, int]]


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the documents, one run each")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--datatrove", type=Path, default=DATATROVE_PYTHON, help="a Python that has datatrove")
    asked = parser.parse_args()
    if not asked.corpus.is_dir():
        sys.exit(f"error: {asked.corpus}: no such folder; pass --corpus FOLDER with .jsonl.gz files of texts.")
    texts = read_corpus(asked.corpus)[:: 10 if asked.quick else 1]
    documents, planted = plant_edits(texts, seed=1)
    say(f"{len(documents):,} documents, {len(planted):,} of them edited copies; counting the 5-grams of all pairs")
    truth = true_similarities(documents, 1e-9)
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        folder = Path(name)
        once = write(folder / "once", documents, 1)
        runs, pairs = run_interleaved(once, folder, 1 if asked.quick else asked.runs, asked.datatrove)
        watched = run_ours(once, folder / "scratch", "--memory", "--pairs", str(folder / "pairs.json"))
        pairs["gpt2lab"] = {(a, b) for a, b in json.loads((folder / "pairs.json").read_text())}
        ten = write(folder / "ten", documents, 10)
        shutil.rmtree(once)
        larger = {"gpt2lab": run_ours(ten, folder / "scratch", "--memory")}
        if "datatrove" in runs:
            larger["datatrove"] = run_datatrove(ten, folder / "scratch", asked.datatrove, {})
        for who, one in larger.items():
            say(f"{who}, 10 times the documents: {one['wall_seconds']:.1f} s")
    size = sum(len(text.encode()) for text in documents)
    figures = summarize(documents, planted, truth, runs, pairs, watched, larger) | {
        "documents": len(documents),
        "bytes": size,
    }
    print_table(figures, planted, truth, pairs["gpt2lab"])
    if asked.json:
        versions = describe_versions(PACKAGES)
        if "datatrove" in runs:
            code = "import importlib.metadata as m; print(m.version('datatrove'))"
            found = subprocess.run([asked.datatrove, "-c", code], check=True, capture_output=True, text=True)
            versions["datatrove"] = found.stdout.strip()
        raw = {"runs": runs, "watched": watched, "larger": larger}
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": versions}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr)


def write(folder: Path, documents: Sequence[str], copies: int) -> Path:
    """The documents as files of JSON lines."""
    folder.mkdir()
    write_documents([folder / f"{n:02d}.jsonl" for n in range(FILES)], documents, copies)
    return folder


def run_interleaved(
    source: Path, folder: Path, times: int, datatrove: Path
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Pairs]]:
    """The runs of each, and the pairs that each would merge."""
    runs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    pairs: dict[str, Pairs] = {}
    both = ["gpt2lab", *(["datatrove"] if datatrove.exists() else [])]
    for number in range(times):
        for who in both if number % 2 == 0 else both[::-1]:
            if who == "gpt2lab":
                runs[who].append(run_ours(source, folder / "scratch"))
            else:
                runs[who].append(run_datatrove(source, folder / "scratch", datatrove, pairs))
            say(f"{who}: {runs[who][-1]['wall_seconds']:.1f} s")
    return dict(runs), pairs


def run_ours(source: Path, scratch: Path, *options: str) -> dict[str, Any]:
    """One run of ours, a process of its own."""
    command = [sys.executable, "-m", "benchmarks.dedup_ours", str(source), str(scratch), str(THRESHOLD), str(WORKERS)]
    result = run([*command, *options])
    shutil.rmtree(scratch)
    return result


def run_datatrove(source: Path, scratch: Path, python: Path, pairs: dict[str, Pairs]) -> dict[str, Any]:
    """One run of datatrove's; the time of its last block is left out."""
    rows, bands = band_shape(THRESHOLD)
    script = Path(__file__).with_name("dedup_datatrove.py")
    result = run([str(python), "-P", str(script), str(source), str(scratch), str(bands), str(rows), str(WORKERS)])
    result["wall_seconds"] -= result["seconds"]["filter"]
    result["removed"] = sum(file.stat().st_size // 4 for file in (scratch / "removed").glob("*.remove"))
    pairs["datatrove"] = pairs_of_buckets(scratch / "pairs")
    shutil.rmtree(scratch)
    return result


def run(command: list[str]) -> dict[str, Any]:
    """What a process prints as JSON, and its wall-clock time."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"wall_seconds": seconds}


def pairs_of_buckets(folder: Path) -> Pairs:
    """All pairs that share a bucket: datatrove writes each document of a bucket with the one before it."""
    pairs: Pairs = set()
    for file in folder.glob("*.dups"):
        chains: dict[int, list[int]] = {}
        for file_a, a, file_b, b in struct.iter_unpack("<4I", file.read_bytes()):
            before, after = a * FILES + file_a, b * FILES + file_b
            chain = chains.pop(before, [before])
            chains[after] = [*chain, after]
        for chain in chains.values():
            pairs |= {(min(pair), max(pair)) for pair in combinations(chain, 2)}
    return pairs


def summarize(
    documents: Sequence[str],
    planted: Sequence[Planted],
    truth: dict[tuple[int, int], float],
    runs: dict[str, list[dict[str, Any]]],
    pairs: dict[str, Pairs],
    watched: dict[str, Any],
    larger: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The figures of the claim; a ratio against an absent peer is missing."""
    similar = {pair for pair, similarity in truth.items() if similarity >= THRESHOLD}
    copies = {(one.original, one.edited) for one in planted}
    below = {pair for pair in copies if truth.get(pair, 0.0) < DISSIMILAR}
    figures: dict[str, Any] = {
        "similar_pairs": len(similar),
        "planted_pairs_below_0.5": len(below),
        "pairs_with_a_common_gram_below_0.5": sum(similarity < DISSIMILAR for similarity in truth.values()),
    }
    for who, found in pairs.items():
        name = "" if who == "gpt2lab" else f"{who}_"
        false = sum(truth.get(pair, 0.0) < DISSIMILAR for pair in found)
        figures |= {
            f"{name}recall_at_0.8": len(similar & found) / len(similar),
            # Every merged pair below 0.5 counts, though only planted pairs below 0.5 are what it is a share of.
            f"{name}false_merges_below_0.5": false / len(below),
            f"{name}pairs_merged": len(found),
            f"{name}docs_per_second": len(documents) / statistics.median(run["wall_seconds"] for run in runs[who]),
        }
    if "datatrove" in runs:
        figures["docs_per_second_vs_datatrove"] = figures["docs_per_second"] / figures["datatrove_docs_per_second"]
        figures["docs_per_second_vs_datatrove_10x"] = (
            larger["datatrove"]["wall_seconds"] / larger["gpt2lab"]["wall_seconds"]
        )
    peak, peak_10x = watched["peak_memory_bytes"], larger["gpt2lab"]["peak_memory_bytes"]
    return figures | {
        "peak_memory_mb": peak / 1e6,
        "peak_memory_mb_10x": peak_10x / 1e6,
        "memory_growth_10x": peak_10x / peak,
        "docs_per_second_10x": 10 * len(documents) / larger["gpt2lab"]["wall_seconds"],
    }


def print_table(
    figures: dict[str, Any], planted: Sequence[Planted], truth: dict[tuple[int, int], float], found: Pairs
) -> None:
    """Ours, the peer, the ratio; and what was found of each kind of edit."""
    rows, bands = band_shape(THRESHOLD)
    print(f"{figures['documents']:,} documents, {figures['bytes'] / 1e6:,.1f} MB, threshold {THRESHOLD}, 2 workers")
    print(f"{figures['similar_pairs']:,} pairs at 0.8 or more; {bands} bands of {rows}: ", end="")
    print(f"{band_recall(THRESHOLD, rows, bands):.2%} of pairs at just 0.8 are to be found")
    print(f"{'':12}{'documents/s':>13}{'recall at 0.8':>15}{'false below 0.5':>17}{'pairs merged':>14}")
    for who in ("gpt2lab", "datatrove"):
        name = "" if who == "gpt2lab" else f"{who}_"
        if f"{name}docs_per_second" not in figures:
            print(f"{who:12}{'absent':>13}")
            continue
        print(
            f"{who:12}{figures[f'{name}docs_per_second']:>13,.0f}{figures[f'{name}recall_at_0.8']:>15.2%}"
            f"{figures[f'{name}false_merges_below_0.5']:>17.2%}{figures[f'{name}pairs_merged']:>14,}"
        )
    ratio = figures.get("docs_per_second_vs_datatrove")
    print(f"{'ratio':12}{f'{ratio:.1f}' if ratio else 'unknown: datatrove is absent':>13}")
    if ratio:
        print(f"{'10 times':12}{figures['docs_per_second_vs_datatrove_10x']:>13.1f}   (one run each)")
    print(
        f"memory: {figures['peak_memory_mb']:,.0f} MB; 10 times the documents: {figures['peak_memory_mb_10x']:,.0f} MB"
        f" (times {figures['memory_growth_10x']:.2f}), {figures['docs_per_second_10x']:,.0f} documents/s"
    )
    print(
        f"{'planted edit':14}{'pairs at 0.8':>13}{'found':>8}{'0.5 to 0.8':>12}{'merged':>8}{'below':>8}{'merged':>8}"
    )
    for edit in sorted({one.edit for one in planted}):
        line = f"{edit:14}"
        for (low, high), widths in zip(((0.8, 2.0), (0.5, 0.8), (-1.0, 0.5)), ((13, 8), (12, 8), (8, 8)), strict=True):
            some = [(one.original, one.edited) for one in planted if one.edit == edit]
            some = [pair for pair in some if low <= truth.get(pair, 0.0) < high]
            line += f"{len(some):>{widths[0]},}{len(found.intersection(some)):>{widths[1]},}"
        print(line)


if __name__ == "__main__":
    main()
