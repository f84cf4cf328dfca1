"""How fast the loader makes batches, and what share of a training step that is. For `benchmarks.tokenize`.

`python -m benchmarks.loader_speed TOKENS` prints one JSON object. TOKENS is a folder of shards; they are read once
first, so that they come from the page cache. The loader works in one thread.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpt2lab.base.machine import describe_machine
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.connor_windows import ConnorWindows
from gpt2lab.tokens.loader import Loader, Source
from gpt2lab.tokens.sequences import Sequences
from gpt2lab.tokens.shard_checks import check_shards
from gpt2lab.tokens.shards import read_tokens_info
from gpt2lab.tokens.stream import TokenStream
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipes import find_recipe

RUNS = 5
SHAPES = ((1024, 8), (1024, 32), (256, 8), (256, 64))


def loader_tokens_per_second(
    source: Source, context_length: int, batch_size: int, seconds: float = 0.5, first_step: int = 0
) -> float:
    """Tokens a second of consecutive steps in int64 batches, what finding their places costs included."""
    loader = Loader([source], batch_size, seed=0)
    steps = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        loader.batch(first_step + steps)
        steps += 1
    return steps * batch_size * context_length / (time.perf_counter() - start)


def loader_rates(folder: Path) -> dict[str, list[float]]:
    """Tokens a second of each shape of batch, `RUNS` times, the shapes interleaved."""
    stream = TokenStream(folder, "train")
    stream.counts()
    kinds: dict[str, Callable[[int], Source]] = {
        "each_once": lambda context_length: Sequences(stream, context_length),
        "connor": lambda context_length: ConnorWindows(stream, context_length),
    }
    rates: dict[str, list[float]] = {}
    for run in range(RUNS):
        for kind, source in kinds.items():
            for context_length, batch_size in SHAPES:
                rate = loader_tokens_per_second(source(context_length), context_length, batch_size, 0.5, 10_000 * run)
                rates.setdefault(f"{kind} {batch_size} x {context_length}", []).append(rate)
    return rates


def share_of_nano_step(folder: Path, steps: int = 12) -> float:
    """Seconds of the loader over seconds of the whole step, of the recipe `laptop:nano`: a median over steps."""
    info = read_tokens_info(folder)
    recipe = find_recipe("laptop:nano", info.vocab_size)
    network = GPT2(recipe.model)
    network.initialize(torch.Generator().manual_seed(0))
    optimizer = make_optimizer(network, recipe.optimizer)
    source = Sequences(TokenStream(folder, "train", info), recipe.model.context_length)
    loader = Loader([source], recipe.batch.sequences, seed=0)
    shares = []
    for step in range(steps):
        start = time.perf_counter()
        inputs, targets = torch.from_numpy(loader.batch(step))
        loaded = time.perf_counter()
        network.loss(inputs, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        shares.append((loaded - start) / (time.perf_counter() - start))
    return statistics.median(shares[2:])


def shard_check_bytes_per_second(folder: Path) -> float:
    """Bytes a second that the check of all SHA-256 reads from the page cache, a thread a core."""
    info = read_tokens_info(folder)
    start = time.perf_counter()
    check_shards(folder, info)
    return sum((folder / shard.file).stat().st_size for shard in info.shards) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1])
    rates = loader_rates(folder)
    result: dict[str, Any] = {
        "loader_tokens_per_second": {shape: statistics.median(each) for shape, each in rates.items()},
        "share_of_nano_step": share_of_nano_step(folder),
        "shard_check_bytes_per_second": statistics.median(shard_check_bytes_per_second(folder) for _ in range(RUNS)),
        "raw": rates,
        "machine": describe_machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
