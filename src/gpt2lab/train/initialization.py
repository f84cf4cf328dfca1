"""Fresh weights as a recipe says."""

import math

import numpy as np
import numpy.typing as npt
import torch

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.recipe import InitializationConfig

UNSEEN = 0.5
"""How often a token that does not occur is taken to occur."""


@torch.no_grad()
def initialize(
    network: GPT2,
    config: InitializationConfig,
    generator: torch.Generator,
    counts_V: npt.NDArray[np.int64] | None = None,
) -> None:
    """Draw fresh weights: the network's own, the paper's, with embeddings and matrices scaled to the recipe's.

    So two settings of one seed differ by scales alone; but with `counts_V`, how often each token occurs, the network
    then begins as the unigram model of these.
    """
    network.initialize(generator)
    network.wte.weight.mul_(config.token_deviation / 0.02)
    network.wpe.weight.mul_(config.position_deviation / 0.01)
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
            matrix.mul_(0.0 if config.zero_branches and name in ours else factor)
    if counts_V is not None:
        _begin_as_unigram(network, torch.from_numpy(counts_V))


def _begin_as_unigram(network: GPT2, counts_V: torch.Tensor) -> None:
    """Add to the logits of each token the logarithm of its share, by the one direction that no layer can see.

    Every layer norm takes away the mean of what comes in, so the direction (1, ..., 1) of the embeddings is free: the
    logarithms lie along it, and the bias of the last norm, which comes after, points along it.
    """
    logarithms_V = (counts_V.double() + UNSEEN).log().float()
    head_VD = network.head_weight
    width = head_VD.shape[1]
    head_VD -= head_VD.mean(1, keepdim=True)
    head_VD += (logarithms_V - logarithms_V.mean())[:, None] / math.sqrt(width)
    network.ln_f.bias.fill_(1 / math.sqrt(width))
