"""Optimizers and their parameter groups."""

import torch

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.recipe import AdamWConfig


def make_adamw(network: GPT2, config: AdamWConfig) -> torch.optim.AdamW:
    """AdamW over two groups: matrices and embeddings decay, vectors (biases, norms) do not."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )
