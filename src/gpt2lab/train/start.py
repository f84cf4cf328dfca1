"""Where a run's first weights come from: drawn by the seed, or a model's."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from gpt2lab.base.files import sha256_of
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import Checkpoint, only_finite
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.train.data import RunData
from gpt2lab.train.initialization import initialize
from gpt2lab.train.recipe import Recipe

UNIGRAM_STEPS = 100


class Start(Protocol):
    """What a run begins with, and what becomes of it at the end."""

    def described(self) -> dict[str, Any]:
        """What tells it from another start, as JSON; nothing for fresh weights."""

    def network(self) -> GPT2:
        """A network on the processor, the same each time; those of its parameters are trained that need gradients."""

    def whole(self, trained: GPT2, out: Path) -> GPT2:
        """What the model folder gets of the trained network; leaves in the run folder `out` what else there is."""


class FreshWeights:
    """Weights drawn by the recipe's seed, some of which may depend on the first tokens of `data`."""

    def __init__(self, recipe: Recipe, data: RunData) -> None:
        self.recipe, self.data = recipe, data

    def described(self) -> dict[str, Any]:
        """Nothing: the recipe says it all."""
        return {}

    def network(self) -> GPT2:
        """A new network."""
        network = GPT2(self.recipe.model)
        config = self.recipe.initialization
        counts_V = self._first_counts() if config.unigram else None
        initialize(network, config, torch.Generator().manual_seed(self.recipe.seed), counts_V)
        return network

    def _first_counts(self) -> npt.NDArray[np.int64]:
        """How often each token is to be predicted in the first steps: nothing that the run does not train on."""
        counts_V = np.zeros(self.recipe.model.vocab_size, dtype=np.int64)
        for step in range(min(UNIGRAM_STEPS, self.recipe.steps)):
            targets = self.data.batch(step)[1]
            counts_V += np.bincount(targets[targets != IGNORED], minlength=len(counts_V))
        return counts_V

    def whole(self, trained: GPT2, out: Path) -> GPT2:  # noqa: ARG002
        """The network itself."""
        return trained


class ModelWeights:
    """The weights of a model, `name` being what it was asked for by; all of them are trained.

    Raises BadInput for a model without a tokenizer, and when they are read for weights that are not finite.
    """

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        self.name, self.checkpoint = name, only_finite(checkpoint)

    def described(self) -> dict[str, Any]:
        """The model's name and the SHA-256 of its files."""
        return {"model": self.name, "files": {file.name: sha256_of(file) for file in self.checkpoint.files}}

    def network(self) -> GPT2:
        """A copy that lies in memory as fresh weights do, so that a run taken up again has the same bits."""
        network = GPT2(self.checkpoint.config)
        network.load_state_dict(network_of(self.checkpoint).state_dict())
        return network

    def whole(self, trained: GPT2, out: Path) -> GPT2:  # noqa: ARG002
        """The network itself."""
        return trained
