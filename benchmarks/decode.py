"""How fast does it generate? Ours beside transformers, CTranslate2, OpenVINO GenAI and llama.cpp, on the processor.

`python -m benchmarks.decode [--json FILE] [--quick]`. The 124M shape with random weights (no two tensors alike:
OpenVINO keeps equal ones once, which then stay in a processor's cache), greedy, end of text ignored so that all make
the same number of tokens: 128 after a prompt of 32, for one sequence and for eight different ones together; and the
first token after a prompt of 512. Every contestant is a process of its own, in its own environment,
that loads once; a round runs each once, all with the same prompts, which are new in every round; figures are medians.
Compared is decoding: the tokens that came after every sequence had its first one, by the time they took.

Then the 1542M shape at 8 bits, one sequence, with the process's largest resident set; and how long `gpt2lab generate`
takes from the process's start to its first token, its files in the page cache and its kernels compiled.

"Of bandwidth" is the bytes of weights and scales that a token reads, times tokens a second of one sequence, over the
rate at which all cores together sum a buffer of 1 GiB just before and just after: on a machine that is shared, the
memory's own rate changes from one tenth of a second to the next. Tokens a second are a mean over such changes, so what
they are compared with is the mean rate of all tries (of the faster of two ways to sum), and, beside it, the best try:
what the memory can do in its good moments. The same over the best rate of the whole sitting is a figure, too.

A peer counts as one of 8 bits where its matrices are held in 8 bits, as one of float32 where it also computes in
float32. The best peer is the fastest one that holds at least as many bits as ours: a peer of 4 bits is in the table,
and in figures of its own (`..._any_bits`).
"""

import argparse
import json
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.decode_models import LLAMA_CPP, OPENVINO, make_models
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.model.config import GPT2Config, gpt2_size

CONTESTANTS = Path(__file__).with_name("decode_contestants.py")

PROMPT_TOKENS, NEW_TOKENS, LONG_PROMPT_TOKENS, MANY = 32, 128, 512, 8
ORDINARY_TOKENS = 50_256
REST_SECONDS = 0.3
"""Between two turns: threads of the one before, which spin for a while after their work, have gone to sleep."""
FIRST_TOKEN_PROMPT = "In a shocking finding, scientists discovered a herd of unicorns"

Run = dict[str, Any]
Runs = dict[str, list[Run]]


@dataclass(frozen=True)
class MeanAndBest:
    """Rates at which all cores read memory, in bytes a second, of all tries and of the best.

    Or what share of them something is.
    """

    mean: float
    best: float


@dataclass(frozen=True)
class Contestant:
    """A library with its settings.

    `bits` a weight takes, its share of a block's scale included; `head_bits` those of the head, where they are others.
    """

    name: str
    library: str
    python: Path
    model: str
    """File or folder among what `make_models` makes."""
    bits: float
    options: Mapping[str, Any] = field(default_factory=dict)
    head_bits: float | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is gpt2lab."""
        return self.library == "gpt2lab"

    def bytes_per_token(self, config: GPT2Config) -> float:
        """Bytes of weights and scales that a token of one sequence reads; biases, norms and scales are float32."""
        d, layers = config.n_embd, config.n_layer
        head = config.vocab_size * d * (self.head_bits or self.bits) / 8
        vectors = layers * 13 * d + 2 * d
        # One scale an output; a type of blocks has its scales in `bits`.
        scales = (self.bits == 8) * layers * 9 * d + ((self.head_bits or self.bits) == 8) * config.vocab_size
        return layers * 12 * d * d * self.bits / 8 + head + 4 * (vectors + scales)


HERE = Path(sys.executable)
LLAMA_PYTHON, OPENVINO_PYTHON = LLAMA_CPP / "python", OPENVINO / "python"
OURS_AS_PEERS = "gpt2lab int8, activations of 8 bits"
"""Every peer with 8-bit weights rounds what they are multiplied by to 8 bits; we do so only if asked to."""
OURS = (
    Contestant("gpt2lab float32", "gpt2lab", HERE, "float32", 32, {"weights": "float32"}),
    Contestant("gpt2lab bfloat16", "gpt2lab", HERE, "float32", 16, {"weights": "bfloat16"}),
    Contestant("gpt2lab int8", "gpt2lab", HERE, "int8", 8, {"weights": "int8"}),
    Contestant(OURS_AS_PEERS, "gpt2lab", HERE, "int8", 8, {"weights": "int8", "activation_bits": 8}),
    Contestant("gpt2lab int4", "gpt2lab", HERE, "int4", 4.5, {"weights": "int4"}, head_bits=8),
)
PEERS = (
    Contestant("transformers float32", "transformers", HERE, "float32", 32),
    Contestant("transformers float32, static cache", "transformers", HERE, "float32", 32, {"cache": "static"}),
    Contestant("transformers int8 (PyTorch dynamic)", "transformers", HERE, "float32", 8, {"int8": True}),
    Contestant("CTranslate2 float32", "ctranslate2", HERE, "ct2-float32", 32, {"compute_type": "float32"}),
    Contestant("CTranslate2 int8", "ctranslate2", HERE, "ct2-int8", 8, {"compute_type": "int8"}),
    Contestant(
        "OpenVINO float32",
        "openvino",
        OPENVINO_PYTHON,
        "openvino-fp32",
        32,
        {"INFERENCE_PRECISION_HINT": "f32"},
    ),
    Contestant("OpenVINO bfloat16", "openvino", OPENVINO_PYTHON, "openvino-fp32", 16),
    Contestant("OpenVINO int8", "openvino", OPENVINO_PYTHON, "openvino-int8", 8),
    Contestant(
        "OpenVINO int8, activations by 128",
        "openvino",
        OPENVINO_PYTHON,
        "openvino-int8",
        8,
        {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"},
    ),
    Contestant("OpenVINO int4", "openvino", OPENVINO_PYTHON, "openvino-int4", 4.125, head_bits=8),
    Contestant("llama.cpp f32", "llama.cpp", LLAMA_PYTHON, "float32.gguf", 32),
    Contestant("llama.cpp f16", "llama.cpp", LLAMA_PYTHON, "float16.gguf", 16),
    Contestant("llama.cpp bf16", "llama.cpp", LLAMA_PYTHON, "bfloat16.gguf", 16),
    Contestant("llama.cpp Q8_0", "llama.cpp", LLAMA_PYTHON, "q8_0.gguf", 8.5),
    Contestant(
        "llama.cpp Q8_0, no flash attention",
        "llama.cpp",
        LLAMA_PYTHON,
        "q8_0.gguf",
        8.5,
        {"flash_attention": False},
    ),
    Contestant("llama.cpp Q4_0", "llama.cpp", LLAMA_PYTHON, "q4_0.gguf", 4.5, head_bits=6.5625),
)
LIBRARIES = tuple(dict.fromkeys(one.library for one in (*OURS, *PEERS)))
XL = ("gpt2lab int8", "llama.cpp Q8_0")
TASKS = ("one", "many", "prefill")
START = "start"
"""The task of the command line alone: how long it takes to its first token."""

COMPARED = {
    "int8_b1_vs_best_8bit_peer": ("gpt2lab int8", "one", 8, 15),
    "fp32_b1_vs_best_peer": ("gpt2lab float32", "one", 32, 32),
    "int8_b8_vs_best_peer": (OURS_AS_PEERS, "many", 8, 32),
    "int8_b8_vs_best_peer_any_bits": (OURS_AS_PEERS, "many", 0, 32),
    "int8_b8_16_bit_activations_vs_best_peer": ("gpt2lab int8", "many", 8, 32),
    "prefill_vs_best_peer": (OURS_AS_PEERS, "prefill", 8, 32),
    "prefill_vs_best_peer_any_bits": (OURS_AS_PEERS, "prefill", 0, 32),
    "prefill_16_bit_activations_vs_best_peer": ("gpt2lab int8", "prefill", 8, 32),
    "fp32_prefill_vs_best_peer": ("gpt2lab float32", "prefill", 32, 32),
}
"""Figures that are ratios: which of ours, at what, against the fastest peer of at least and at most so many bits."""


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round of 32 tokens, without the 1542M shape")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tasks", nargs="+", choices=(*TASKS, START), help="these of 124M and no more: shorter turns, finer pairs"
    )
    parser.add_argument("--only", nargs="+", metavar="LIBRARY", help=f"of {', '.join(LIBRARIES)}")
    parser.add_argument("--folder", type=Path, help="where models are made, and found again the next time")
    asked = parser.parse_args()
    if unknown := set(asked.only or ()) - set(LIBRARIES):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(LIBRARIES)}.")
    rounds, new_tokens = (1, 32) if asked.quick else (asked.rounds, NEW_TOKENS)
    there = [one for one in (*OURS, *PEERS) if one.library in (asked.only or LIBRARIES) and is_there(one)]
    tasks = asked.tasks or (*TASKS, START)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpt2lab-bench-")))
        make_models(folder / "117M", "117M", {one.model for one in there})
        decoded = tuple(task for task in TASKS if task in tasks)
        sitting = sit(there if decoded else [], folder / "117M", rounds, new_tokens, decoded)
        xl: Sitting | None = None
        if not asked.quick and not asked.tasks:
            large = [one for one in there if one.name in XL]
            make_models(folder / "1542M", "1542M", {one.model for one in large})
            xl = sit(large, folder / "1542M", min(rounds, 3), new_tokens, tasks=("one",))
        first_token: list[float] = []
        if any(one.model == "int8" for one in there) and START in tasks:
            first_token = [first_token_seconds(folder / "117M" / "int8") for _ in range(rounds + 1)][1:]
    figures = summarize(sitting, xl, first_token)
    print_table(sitting, xl, first_token, figures)
    if asked.json:
        raw = {
            "decode": sitting.runs,
            "bandwidth": {name: list(map(asdict, rates)) for name, rates in sitting.bandwidth.items()},
            "xl": xl.runs if xl else {},
            "first_token_seconds": first_token,
            "idle_cpu": sitting.idle_cpu,
            "load_average_before": load,
        }
        versions = describe_versions(("gpt2lab",)) | sitting.versions
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": versions}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def is_there(contestant: Contestant) -> bool:
    """Whether its environment is set up and has the library."""
    if not contestant.python.exists():
        return False
    module = contestant.library.replace(".", "_")
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([contestant.python, "-c", look], check=False).returncode == 0


class Worker:
    """A process that answers a line of JSON with one."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._watched = psutil.Process(self._process.pid)
        self.versions: dict[str, str] = self._read()["versions"]

    def ask(self, **request: Any) -> Run:
        """Its answer; the benchmark ends with the worker's errors where it gives none."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Run:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-3000:]
            self.close()
            sys.exit(f"error: {' '.join(map(str, self._command))}:\n{said}")
        answer: Run = json.loads(line)
        return answer

    @property
    def cpu_seconds(self) -> float:
        """Processor time it has taken so far."""
        times = self._watched.cpu_times()
        return times.user + times.system

    def close(self) -> None:
        """End it."""
        with self._process:  # closes both pipes, which ends it
            self._errors.close()


@contextmanager
def worker(command: list[str]) -> Iterator[Worker]:
    """A worker that ends with the block."""
    started = Worker(command)
    try:
        yield started
    finally:
        started.close()


@dataclass(frozen=True)
class Sitting:
    """What all contestants did in the same rounds."""

    size: str
    contestants: list[Contestant]
    runs: dict[str, Runs]
    """Of each contestant, of each task."""
    bandwidth: dict[str, list[MeanAndBest]]
    """Of each contestant and round, how fast the memory was read just before and just after."""
    idle_cpu: dict[str, float]
    """Processor time that a contestant took while others had their turn, per second of that."""
    versions: dict[str, str]

    def values(self, name: str, task: str) -> list[float]:
        """Sorted: tokens a second after the first one, or for the long prompt seconds to the first one."""
        return sorted(
            run["first_seconds"] if task == "prefill" else run["decode_tokens"] / run["decode_seconds"]
            for run in self.runs[name][task]
        )

    def median(self, name: str, task: str) -> float:
        """The median of `values`."""
        return statistics.median(self.values(name, task))


def sit(
    contestants: list[Contestant], folder: Path, rounds: int, new_tokens: int, tasks: tuple[str, ...] = TASKS
) -> Sitting:
    """Every contestant loads; then each has its turn in each round, the order turned by one."""
    runs: dict[str, Runs] = {one.name: {task: [] for task in tasks} for one in contestants}
    memory_rates: dict[str, list[MeanAndBest]] = {one.name: [] for one in contestants}
    idle = dict.fromkeys(runs, (0.0, 0.0))
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        meter = stack.enter_context(worker([sys.executable, "-P", str(CONTESTANTS), "bandwidth"]))
        workers: dict[str, Worker] = {}
        for one in contestants:
            place, options = str(folder / one.model), json.dumps(one.options)
            command = [str(one.python), "-P", str(CONTESTANTS), one.library, place, options]
            workers[one.name] = stack.enter_context(worker(command))
            versions |= workers[one.name].versions
            for task in tasks:
                workers[one.name].ask(**request(task, seed=-1, new_tokens=2))
            print(f"{one.name} is ready", file=sys.stderr)
        left: dict[str, tuple[float, float]] = {}

        def watch(name: str) -> None:
            """Add what it took since its last turn."""
            if name in left:
                (spent, passed), (cpu, clock) = idle[name], left[name]
                idle[name] = spent + workers[name].cpu_seconds - cpu, passed + time.monotonic() - clock

        for number in range(rounds if contestants else 0):
            turn = number % len(contestants)
            for one in [*contestants[turn:], *contestants[:turn]]:
                time.sleep(REST_SECONDS)
                before = meter.ask()
                watch(one.name)
                for task in tasks:
                    time.sleep(REST_SECONDS)
                    runs[one.name][task].append(
                        workers[one.name].ask(**request(task, seed=number, new_tokens=new_tokens))
                    )
                    if task == "one":
                        time.sleep(REST_SECONDS)
                        memory_rates[one.name].append(read_rates(before, meter.ask()))
                time.sleep(REST_SECONDS)
                left[one.name] = (workers[one.name].cpu_seconds, time.monotonic())
                print(f"{one.name}: { {task: runs[one.name][task][-1] for task in tasks} }", file=sys.stderr)
        for name in workers:
            watch(name)
    shares = {name: spent / passed if passed else 0.0 for name, (spent, passed) in idle.items()}
    return Sitting(folder.name, contestants, runs, memory_rates, shares, versions)


def request(task: str, seed: int, new_tokens: int) -> dict[str, Any]:
    """The same prompts for everyone, and other ones for each seed, as some keep what they have read before."""
    numbers = random.Random(f"{task} {seed}")
    count, length = {"one": (1, PROMPT_TOKENS), "many": (MANY, PROMPT_TOKENS), "prefill": (1, LONG_PROMPT_TOKENS)}[task]
    prompts = [[numbers.randrange(ORDINARY_TOKENS) for _ in range(length)] for _ in range(count)]
    return {"prompts": prompts, "new_tokens": 1 if task == "prefill" else new_tokens}


def first_token_seconds(model: Path) -> float:
    """From the start of `gpt2lab generate` to the first byte of text that it prints."""
    options = ["--max-tokens", "16", "--temperature", "0", "--ignore-end-of-text", "--no-include-prompt"]
    command = [sys.executable, "-m", "gpt2lab", "generate", str(model), FIRST_TOKEN_PROMPT, *options]
    with tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=errors) as process:
            assert process.stdout is not None
            select.select([process.stdout], [], [])
            seconds = time.monotonic() - start
            process.stdout.read()
        if process.returncode:
            errors.seek(0)
            sys.exit(f"error: {' '.join(command)}:\n{errors.read()[-3000:]}")
    return seconds


def best_peer(sitting: Sitting, task: str, least_bits: float, most_bits: float) -> Contestant | None:
    """The fastest of the peers whose weights take so many bits."""
    peers = [one for one in sitting.contestants if not one.is_ours and least_bits <= one.bits <= most_bits]
    sign = -1 if task == "prefill" else 1
    return max(peers, key=lambda one: sign * sitting.median(one.name, task), default=None)


def summarize(sitting: Sitting, xl: Sitting | None, first_token: list[float]) -> dict[str, Any]:
    """The figures of the claims; a ratio against an absent peer is missing."""
    figures: dict[str, Any] = {}
    for key, (ours, task, *bits) in COMPARED.items():
        if ours not in sitting.runs or task not in sitting.runs[ours]:
            continue
        if (peer := best_peer(sitting, task, *bits)) is None:
            continue
        ratio = sitting.median(ours, task) / sitting.median(peer.name, task)
        figures[key] = 1 / ratio if task == "prefill" else ratio
        figures[f"{key}_is"] = peer.name
    for one in sitting.contestants:
        if one.name == "gpt2lab int8" and "one" in sitting.runs[one.name]:
            share = of_bandwidth(sitting, one)
            figures["int8_b1_of_mean_bandwidth"], figures["int8_b1_of_bandwidth"] = share.mean, share.best
            figures["int8_b1_of_best_bandwidth"] = of_best_bandwidth(sitting, one)
    if xl and "gpt2lab int8" in xl.runs:
        figures["xl_int8_tokens_per_second"] = xl.median("gpt2lab int8", "one")
        figures["xl_int8_peak_gb"] = peak_memory(xl, "gpt2lab int8") / 1e9
        (ours_xl,) = (one for one in xl.contestants if one.name == "gpt2lab int8")
        share = of_bandwidth(xl, ours_xl)
        figures["xl_int8_of_mean_bandwidth"], figures["xl_int8_of_bandwidth"] = share.mean, share.best
    if first_token:
        figures["first_token_seconds"] = statistics.median(first_token)
    return figures


def read_rates(before: Run, after: Run) -> MeanAndBest:
    """What two measurements come to: of the ways to read, the one that was faster on the whole."""
    ways = [before[way] + after[way] for way in before]
    return MeanAndBest(max(map(statistics.harmonic_mean, ways)), max(map(max, ways)))


def weight_rates(sitting: Sitting, contestant: Contestant) -> list[float]:
    """Bytes of weights a second that one sequence's decoding read, of each round."""
    size = contestant.bytes_per_token(gpt2_size(sitting.size))
    return [size * run["decode_tokens"] / run["decode_seconds"] for run in sitting.runs[contestant.name]["one"]]


def of_bandwidth(sitting: Sitting, contestant: Contestant) -> MeanAndBest:
    """The medians of each round's rate over the memory's own just before and after, the mean one and the best."""
    pairs = list(zip(weight_rates(sitting, contestant), sitting.bandwidth[contestant.name], strict=True))
    return MeanAndBest(
        statistics.median(rate / memory.mean for rate, memory in pairs),
        statistics.median(rate / memory.best for rate, memory in pairs),
    )


def of_best_bandwidth(sitting: Sitting, contestant: Contestant) -> float:
    """The median rate over the memory's best in the whole sitting."""
    best = max(memory.best for of_one in sitting.bandwidth.values() for memory in of_one)
    return statistics.median(weight_rates(sitting, contestant)) / best


def peak_memory(sitting: Sitting, name: str) -> int:
    """The largest resident set of a contestant, in bytes."""
    return max(run["peak_memory_bytes"] for runs in sitting.runs[name].values() for run in runs)


def print_table(sitting: Sitting, xl: Sitting | None, first_token: list[float], figures: dict[str, Any]) -> None:
    """Ours and each peer, medians with the lowest and the highest, and the limit."""
    print(
        f"{'124M, decoding':38}{'bits':>6}{'one: tokens/s':>25}{'eight: tokens/s':>25}{'prefill 512: s':>24}"
        f"{'of bandwidth':>16}{'peak MB':>9}"
    )
    for one in (*OURS, *PEERS):
        if one.name not in sitting.runs:
            print(f"{one.name:38}{'absent':>28}")
            continue
        found = sitting.runs[one.name]
        cells = [
            spread(sitting.values(one.name, task), 3 if task == "prefill" else 1) if task in found else ""
            for task in TASKS
        ]
        share = shown(of_bandwidth(sitting, one)) if "one" in found else ""
        print(
            f"{one.name:38}{one.bits:>6.3g}{cells[0]:>25}{cells[1]:>25}{cells[2]:>24}"
            f"{share:>16}{peak_memory(sitting, one.name) / 1e6:>9,.0f}"
        )
    if memory := [rates for of_one in sitting.bandwidth.values() for rates in of_one]:
        mean, best = (sorted(rate / 1e9 for rate in each) for each in zip(*map(astuple, memory), strict=True))
        print(f"memory reads {spread(mean, 1)} GB/s, in the best of the tries around a run {spread(best, 1)}")
    print(f"a contestant that waited took {max(sitting.idle_cpu.values(), default=0):.1%} of a core at most")
    for one in xl.contestants if xl else ():
        print(
            f"1542M {one.name}: {spread(xl.values(one.name, 'one'), 1)} tokens/s, {shown(of_bandwidth(xl, one))}"
            f" of bandwidth, largest resident set {peak_memory(xl, one.name) / 1e9:.2f} GB"
        )
    if first_token:
        print(f"gpt2lab generate, from its start to the first token: {spread(sorted(first_token), 2)} s")
    for key, value in figures.items():
        if isinstance(value, float):
            against = f" ({figures[f'{key}_is']})" if f"{key}_is" in figures else ""
            print(f"{key:34}{value:>16,.2f}{against}")


def shown(share: MeanAndBest) -> str:
    """Of the mean rate and, in brackets, of the best try."""
    return f"{share.mean:.0%} ({share.best:.0%})"


def spread(values: list[float], digits: int) -> str:
    """The median with the lowest and the highest."""
    low, high = f"{values[0]:.{digits}f}", f"{values[-1]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({low} to {high})"


if __name__ == "__main__":
    main()
