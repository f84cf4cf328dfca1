"""How fast and how large is opening a model, and exporting it to GGUF? Ours beside transformers and llama.cpp.

`LLAMA_CPP=PATH python -m benchmarks.weights [--json FILE] [--quick]`; PATH is a checkout of llama.cpp, whose
`convert_hf_to_gguf.py` runs in this environment (it needs transformers). Weights of the 124M and the 1542M shape are
made on the spot, seeded, in a temporary folder (7 GB; --quick leaves the larger out), so they are in the page cache.
Every run is a process of its own, interleaved with the others; figures are medians. Peak memory is the largest resident
set of the whole process, which counts the pages of mapped files.

Opening: from a model folder to its tokenizer and the logits of a prompt of 16 tokens, after the imports ("seconds") and
with them, from the process's start to its end ("process"). That prompt makes the network read every weight, as the tied
head reads the embeddings; all compute with one thread, as a second one on a busy machine makes the times those of
waiting for it. Without torch, numpy reads all tensors instead.

Export: a whole process from safetensors to a q8_0 file; ours waits for the disk, llama.cpp's does not. Both files must
hold the same bytes for each tensor.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import run_measured
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.model.config import gpt2_size, parameter_count

OPENERS = ("open_gpt2lab", "open_transformers", "open_gpt2lab_without_torch")
OPENERS_XL = ("open_gpt2lab", "open_gpt2lab_without_torch")
EXPORTERS = ("export_gpt2lab", "export_llama_cpp")
CONVERTER = "convert_hf_to_gguf.py"
PACKAGES = ("gpt2lab", "torch", "transformers", "numpy", "safetensors", "gguf")

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Run it, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one run each, without the 1542M shape")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    times = 1 if asked.quick else asked.runs
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        folder = Path(name)
        run_one("make", folder / "117M", "117M")
        opened = run_interleaved(OPENERS, folder / "117M", times)
        exported = run_interleaved(EXPORTERS, folder / "117M", times)
        differing = compare(folder) if "export_llama_cpp" in exported else None
        opened_xl: Runs = {}
        if not asked.quick:
            run_one("make", folder / "1542M", "1542M")
            opened_xl = run_interleaved(OPENERS_XL, folder / "1542M", min(times, 3))
    figures = summarize(opened, opened_xl, exported) | {"tensors_that_differ": differing}
    print_tables(figures, opened, opened_xl, exported)
    if asked.json:
        raw = {"open": opened, "open_xl": opened_xl, "export": exported, "load_average_before": load}
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": describe_versions(PACKAGES)}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def run_interleaved(names: tuple[str, ...], model: Path, times: int) -> Runs:
    """All contestants in turn, the order turned around every other time."""
    runs: Runs = {}
    for number in range(times):
        for name in names if number % 2 == 0 else names[::-1]:
            if (found := run_one(name, model)) is not None:
                runs.setdefault(name, []).append(found)
                print(f"{name} {model.name}: {found['process_seconds']:.2f} s", file=sys.stderr)
    return runs


def command_of(name: str, model: Path, *more: str) -> list[str] | None:
    """What runs a contestant; None where it is absent."""
    out = str(gguf_of(name, model))
    if name == "export_gpt2lab":
        return [sys.executable, "-m", "gpt2lab", "export", str(model), "--to", "gguf", "--dtype", "q8_0", "--out", out]
    if name in ("open_transformers", "export_llama_cpp") and importlib.util.find_spec("transformers") is None:
        return None
    if name == "export_llama_cpp":
        converter = Path(os.environ.get("LLAMA_CPP", "")) / CONVERTER
        if not converter.is_file():
            return None
        return [sys.executable, str(converter), "--outtype", "q8_0", "--outfile", out, str(model)]
    return [sys.executable, "-m", "benchmarks.weights_contestants", name, str(model), *more]


def gguf_of(exporter: str, model: Path) -> Path:
    """Where a contestant exports to."""
    return model.parent / f"{exporter}.gguf"


def run_one(name: str, model: Path, *more: str) -> dict[str, Any] | None:
    """One process: what it prints as JSON if it does, its time from start to end, its peak memory."""
    command = command_of(name, model, *more)
    if command is None:
        return None
    if name in EXPORTERS:
        gguf_of(name, model).unlink(missing_ok=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    if name not in EXPORTERS:
        environment["OMP_NUM_THREADS"] = "1"
    # This process is smaller than any of its children, as their peak memory asks for.
    ended = run_measured(command, environment)
    found = json.loads(ended.output.splitlines()[-1]) if name not in EXPORTERS else {}
    return found | {"process_seconds": ended.seconds, "peak_memory_bytes": ended.peak_memory_bytes}


def compare(folder: Path) -> int:
    """How many tensors of the two exports differ in type, shape or bytes, as the package gguf reads them."""
    found = run_one("compare", gguf_of(EXPORTERS[0], folder / "117M"), str(gguf_of(EXPORTERS[1], folder / "117M")))
    return int(found["differing"]) if found else -1


def summarize(opened: Runs, opened_xl: Runs, exported: Runs) -> dict[str, Any]:
    """The figures of the claims; a ratio against an absent peer is missing."""
    size = 4 * parameter_count(gpt2_size("117M"))
    ours = opened["open_gpt2lab"]
    figures: dict[str, Any] = {
        "load_seconds": median(ours, "seconds"),
        "load_process_seconds": median(ours, "process_seconds"),
        "load_memory_ratio": median(ours, "peak_memory_bytes") / size,
        "load_seconds_without_torch": median(opened["open_gpt2lab_without_torch"], "seconds"),
        "load_process_seconds_without_torch": median(opened["open_gpt2lab_without_torch"], "process_seconds"),
        "gguf_export_seconds": median(exported["export_gpt2lab"], "process_seconds"),
        "gguf_export_memory_ratio": median(exported["export_gpt2lab"], "peak_memory_bytes") / size,
    }
    if theirs := opened.get("open_transformers"):
        figures["load_vs_transformers"] = median(theirs, "seconds") / figures["load_seconds"]
        figures["load_vs_transformers_without_tokenizer"] = (
            median(theirs, "seconds") - median(theirs, "tokenizer_seconds")
        ) / figures["load_seconds"]
        figures["load_process_vs_transformers"] = median(theirs, "process_seconds") / figures["load_process_seconds"]
    if theirs := exported.get("export_llama_cpp"):
        figures["gguf_export_vs_llama_cpp"] = median(theirs, "process_seconds") / figures["gguf_export_seconds"]
        figures["llama_cpp_export_memory_ratio"] = median(theirs, "peak_memory_bytes") / size
    if opened_xl:
        size_xl = 4 * parameter_count(gpt2_size("1542M"))
        figures |= {
            "xl_open_seconds": median(opened_xl["open_gpt2lab"], "opened_seconds"),
            "xl_first_logits_seconds": median(opened_xl["open_gpt2lab"], "seconds"),
            "xl_memory_ratio": median(opened_xl["open_gpt2lab"], "peak_memory_bytes") / size_xl,
        }
    return figures


def median(runs: list[dict[str, Any]], key: str) -> float:
    """The median of one figure over the runs."""
    return float(statistics.median(run[key] for run in runs))


def print_tables(figures: dict[str, Any], opened: Runs, opened_xl: Runs, exported: Runs) -> None:
    """Ours and each peer, medians with the lowest and the highest, and the ratios."""
    columns = ("seconds", "lowest", "highest", "process", "peak MB", "of weights", "theirs/ours")
    for title, size, names, runs, key in (
        ("open, 124M", "117M", OPENERS, opened, "seconds"),
        ("open, 1542M", "1542M", OPENERS_XL, opened_xl, "seconds"),
        ("export, 124M", "117M", EXPORTERS, exported, "process_seconds"),
    ):
        if not runs:
            continue
        print(f"{title:28}" + "".join(f"{column:>12}" for column in columns))
        weights = 4 * parameter_count(gpt2_size(size))
        for name in names:
            if name not in runs:
                print(f"{name:28}{'absent':>12}")
                continue
            each = runs[name]
            found, peak = sorted(run[key] for run in each), median(each, "peak_memory_bytes")
            print(
                f"{name:28}{median(each, key):>12.2f}{found[0]:>12.2f}{found[-1]:>12.2f}"
                f"{median(each, 'process_seconds'):>12.2f}{peak / 1e6:>12,.0f}{peak / weights:>12.2f}"
                f"{median(each, key) / median(runs[names[0]], key):>12.2f}"
            )
    opened_seconds = ", ".join(f"{name} {median(each, 'opened_seconds'):.2f} s" for name, each in opened.items())
    print(f"124M without the first logits: {opened_seconds}")
    if "open_transformers" in opened:
        seconds = median(opened["open_transformers"], "tokenizer_seconds")
        print(f"of which transformers' tokenizer: {seconds:.2f} s")
    if opened_xl:
        print(f"1542M without the first logits: {figures['xl_open_seconds']:.2f} s")
    if figures["tensors_that_differ"] is not None:
        print(f"tensors that differ between the two q8_0 files: {figures['tensors_that_differ']}")


if __name__ == "__main__":
    main()
