"""Fresh weights as a recipe says."""

import math

import torch

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.recipe import InitializationConfig


@torch.no_grad()
def initialize(network: GPT2, config: InitializationConfig, generator: torch.Generator) -> None:
    """Draw fresh weights: the network's own, the paper's, with the matrices of the layers scaled to the recipe's.

    So two settings of one seed differ by scales alone.
    """
    network.initialize(generator)
    paper = 1 / math.sqrt(2 * network.config.n_layer)
    layers = config.layers or network.config.n_layer
    depth = 1 / math.sqrt(2 * layers if config.depth == "branches" else layers)
    ours = {"attn.c_proj.weight": config.scale_by_depth == "both", "mlp.c_proj.weight": config.scale_by_depth != "none"}
    for block in network.h:
        for name, matrix in block.named_parameters():
            if matrix.ndim < 2:
                continue
            factor = (depth if ours[name] else 1.0) / paper if name in ours else 1.0
            if config.scale_by_in:
                factor /= math.sqrt(matrix.shape[1])
            matrix.mul_(factor)
