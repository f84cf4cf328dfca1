"""The rate that plain matrix products reach here on a step's own shapes: what a run's speed is measured against."""

import time
from itertools import pairwise
from pathlib import Path

import torch

from gpt2lab.base.files import read_json, write_json
from gpt2lab.base.machine import describe_machine
from gpt2lab.model.config import GPT2Config
from gpt2lab.train.recipe import Recipe

MOST_SECONDS, MOST_ROUNDS = 1.0, 5
LONGEST_SIDE = 1024
"""Of a processor's products: longer ones are no faster there (one core, 768 wide: 96 GFLOP/s at best, whole 94)."""
AT_ONCE_ON_ACCELERATORS = 20
"""Products timed together, since one alone takes hardly longer than its launch."""


def gemm_peak_of_run(run: Path, recipe: Recipe, device: torch.device) -> float:
    """FLOP/s, measured when a run begins and kept in its `run.json`; anew only on another machine or precision."""
    described = read_json(run / "run.json")
    setting = {
        "precision": recipe.step.precision,
        "device": str(describe_machine()["processor"]) if device.type == "cpu" else device.type,
        "threads": torch.get_num_threads(),
    }
    before = described.get("gemm_peak", {})
    if {name: before.get(name) for name in setting} == setting:
        return float(before["flops_per_second"])
    rows = recipe.batch.sequences * recipe.model.context_length
    found = measure_gemm_peak(recipe.model, rows, getattr(torch, recipe.step.precision), device)
    write_json(run / "run.json", described | {"gemm_peak": setting | {"flops_per_second": found}})
    return found


@torch.no_grad()
def measure_gemm_peak(config: GPT2Config, rows: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the fastest plain torch.mm among a step's products of `rows` tokens: forward, and both backward.

    Takes at most about a second; on a processor no side is longer than LONGEST_SIDE. Leaves seeded generators alone.
    """
    on_processor = device.type == "cpu"
    longest, times = (LONGEST_SIDE, 1) if on_processor else (max(rows, config.vocab_size), AT_ONCE_ON_ACCELERATORS)
    generator = torch.Generator(device).manual_seed(0)  # numbers as in training: zeros would be faster on some devices
    best, end = 0.0, time.perf_counter() + MOST_SECONDS
    for _ in range(MOST_ROUNDS):
        for sides in _products(config, rows):
            m, k, n = (min(side, longest) for side in sides)
            left = torch.randn(m, k, dtype=dtype, device=device, generator=generator)
            right = torch.randn(n, k, dtype=dtype, device=device, generator=generator).t()
            out = torch.empty(m, n, dtype=dtype, device=device)
            _synchronize(device)
            start = time.perf_counter()
            for _ in range(times):
                torch.mm(left, right, out=out)
            _synchronize(device)
            now = time.perf_counter()
            best = max(best, 2 * m * k * n * times / (now - start))
            if now > end:
                return best
    return best


def _products(config: GPT2Config, rows: int) -> list[tuple[int, int, int]]:
    """The sides (m, k, n) of [m, k] x [k, n]: rows x matrix, the gradient of the rows, the gradient of the matrix."""
    width = config.n_embd
    matrices = [(width, 3 * width), (width, width), *pairwise((width, 4 * width, width)), (width, config.vocab_size)]
    return [
        sides
        for narrow, wide in matrices
        for sides in ((rows, narrow, wide), (rows, wide, narrow), (wide, rows, narrow))
    ]


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
