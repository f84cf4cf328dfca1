"""Training: a recipe in, a run folder out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.callable_package import callable_package

if TYPE_CHECKING:
    from gpt2lab.train.loop import RunSummary
    from gpt2lab.train.recipe import Recipe


def _train(
    recipe: "Recipe | str", tokens: str | Path | Sequence[str | Path], out: str | Path, *, allow_change: bool = False
) -> "RunSummary":
    """Train by a recipe (or its name) on one folder of token shards or several; see `gpt2lab.train.loop.train`."""
    from gpt2lab.tokens.shards import read_tokens_info
    from gpt2lab.train.loop import train
    from gpt2lab.train.recipes import find_recipe

    folders = [Path(tokens)] if isinstance(tokens, str | Path) else [Path(folder) for folder in tokens]
    if isinstance(recipe, str):
        recipe = find_recipe(recipe, read_tokens_info(folders[0]).vocab_size)
    return train(recipe, folders, Path(out), allow_change=allow_change)


callable_package(__name__, _train)
