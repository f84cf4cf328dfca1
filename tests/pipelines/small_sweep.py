"""A sweep of two short trials as a process of its own, for a test that kills it: small_sweep.py TOKENS OUT."""

import sys
from dataclasses import replace
from pathlib import Path

from tests.train.small_run import small_recipe

from gpt2lab.pipelines.sweep import RATE, sweep
from gpt2lab.pipelines.sweep_results import Sweep
from gpt2lab.tokens.shards import read_tokens_info
from gpt2lab.train.recipe import Recipe


def swept_recipe(tokens: Path) -> Recipe:
    recipe = small_recipe(read_tokens_info(tokens).vocab_size, steps=40)
    return replace(recipe, watch=replace(recipe.watch, checkpoint_every=2))


def small_sweep(tokens: Path, out: Path) -> Sweep:
    return sweep(swept_recipe(tokens), [tokens], out, [f"{RATE}=1e-3,1e-2"])


if __name__ == "__main__":
    small_sweep(Path(sys.argv[1]), Path(sys.argv[2]))
