"""Where a run's first weights come from: drawn by the seed, or a model's."""

from pathlib import Path
from typing import Any, Protocol

import torch

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.initialization import initialize
from gpt2lab.train.recipe import Recipe


class Start(Protocol):
    """What a run begins with, and what becomes of it at the end."""

    def described(self) -> dict[str, Any]:
        """What tells it from another start, as JSON; nothing for fresh weights."""

    def network(self) -> GPT2:
        """A network on the processor, the same each time; those of its parameters are trained that need gradients."""

    def whole(self, trained: GPT2, out: Path) -> GPT2:
        """What the model folder gets of the trained network; leaves in the run folder `out` what else there is."""


class FreshWeights:
    """Weights drawn by the recipe's seed."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def described(self) -> dict[str, Any]:
        """Nothing: the recipe says it all."""
        return {}

    def network(self) -> GPT2:
        """A new network."""
        network = GPT2(self.recipe.model)
        initialize(network, self.recipe.initialization, torch.Generator().manual_seed(self.recipe.seed))
        return network

    def whole(self, trained: GPT2, out: Path) -> GPT2:  # noqa: ARG002
        """The network itself."""
        return trained
