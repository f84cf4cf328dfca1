"""Training: a recipe in, a run folder out."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.callable_package import callable_package

if TYPE_CHECKING:
    from gpt2lab.train.loop import RunSummary
    from gpt2lab.train.recipe import Recipe


def _train(recipe: "Recipe | str", tokens: str | Path, out: str | Path) -> "RunSummary":
    """Train by a recipe (or its name) on token shards, into a run folder; see `gpt2lab.train.loop.train`."""
    from gpt2lab.tokens.shards import read_tokens_info
    from gpt2lab.train.loop import train
    from gpt2lab.train.recipe import find_recipe

    if isinstance(recipe, str):
        recipe = find_recipe(recipe, read_tokens_info(Path(tokens)).vocab_size)
    return train(recipe, Path(tokens), Path(out))


callable_package(__name__, _train)
