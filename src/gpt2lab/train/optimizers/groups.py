"""The optimizer a recipe asks for, over the parameter groups it states.

A group's `peak_lr` is its learning rate where the schedule is at 1; the training loop sets `lr` from it at every step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.optimizers.adafactor import Adafactor
from gpt2lab.train.optimizers.muon import Muon, newton_schulz_dtype
from gpt2lab.train.recipe import OptimizerConfig


def make_optimizer(network: GPT2, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW, Adafactor, or Muon with AdamW for what is no hidden matrix, over the parameters that need gradients.

    A checkpoint holds each one's whole state.
    """
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    betas = (config.beta1, config.beta2)
    lr, eps, decay = config.learning_rate, config.eps, config.weight_decay
    if config.name == "adafactor":
        return Adafactor(_groups(trained.values(), config), lr, config.beta1, config.beta2, decay, config.adafactor)
    if config.name == "muon":
        hidden = {name: each for name, each in trained.items() if name.startswith("h.") and each.ndim == 2}
        tokens = [each for name, each in trained.items() if name == "wte.weight"]
        others = [each for name, each in trained.items() if name not in hidden and name != "wte.weight"]
        token_config = replace(config, learning_rate=config.muon.token_learning_rate or config.learning_rate)
        groups = _muon_groups(hidden, config) + _groups(others, config) + _groups(tokens, token_config)
        return Muon(groups, lr, betas, eps, decay, config.muon)
    return torch.optim.AdamW(
        _groups(trained.values(), config), lr=lr, betas=betas, eps=eps, weight_decay=decay, fused=True
    )


def _groups(parameters: Iterable[Tensor], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Matrices and embeddings, which decay, and vectors (biases, norms), which decay where the recipe says `all`."""
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for parameter in parameters:
        (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    vector_decay = config.weight_decay if config.decayed == "all" else 0.0
    return [
        {"params": matrices, "weight_decay": config.weight_decay, "peak_lr": config.learning_rate},
        {"params": vectors, "weight_decay": vector_decay, "peak_lr": config.learning_rate},
    ]


def _muon_groups(hidden: Mapping[str, Tensor], config: OptimizerConfig) -> list[dict[str, Any]]:
    """The matrices for queries, keys and values in one, and all other hidden matrices."""
    common = {
        "use_muon": True,
        "weight_decay": config.weight_decay,
        "peak_lr": config.muon.learning_rate,
        "dtype": newton_schulz_dtype(next(iter(hidden.values())).device),
    }
    qkv = [matrix for name, matrix in hidden.items() if name.endswith("attn.c_attn.weight")]
    others = [matrix for name, matrix in hidden.items() if not name.endswith("attn.c_attn.weight")]
    return [
        {"params": qkv, "blocks": 3 if config.muon.split_qkv else 1, **common},
        {"params": others, "blocks": 1, **common},
    ]
