"""Norms of gradient, update and weights, group by group, of one optimizer step."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gpt2lab.model.gpt2 import GPT2

_LAYER = re.compile(r"h\.(\d+)\.(?:ln_1|attn|ln_2|mlp)\.")


def group_of(parameter: str) -> str:
    """The group of a parameter: `h.N.attn` and `h.N.mlp`, each with the norm before it; else its module (`wte`...)."""
    if found := _LAYER.match(parameter):
        return f"h.{found[1]}.{'attn' if '.ln_1.' in parameter or '.attn.' in parameter else 'mlp'}"
    return parameter.partition(".")[0]


@contextmanager
def noted_norms(network: GPT2, optimizer: torch.optim.Optimizer) -> Iterator[dict[str, float]]:
    """A dict that holds, once `optimizer` has taken a step within the block, its norms by `NAME/GROUP`.

    NAME is gradient_norm (after clipping), update_norm (weights after minus before), weight_norm (before), or
    update_ratio, update over weights. Holds a copy of the weights meanwhile. A skipped step leaves the dict empty.
    """
    groups: dict[str, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault(group_of(name), []).append(parameter)
    norms: dict[str, float] = {}
    before: dict[str, list[Tensor]] = {}

    def note_before(*_: object) -> None:
        for group, parameters in groups.items():
            before[group] = [parameter.detach().clone() for parameter in parameters]
            norms[f"weight_norm/{group}"] = _norm(before[group])
            norms[f"gradient_norm/{group}"] = _norm([each.grad for each in parameters if each.grad is not None])

    def note_after(*_: object) -> None:
        for group, parameters in groups.items():
            copies = before.pop(group)
            norms[f"update_norm/{group}"] = update = _norm(
                [parameter.detach() - copy for parameter, copy in zip(parameters, copies, strict=True)]
            )
            weights = norms[f"weight_norm/{group}"]
            norms[f"update_ratio/{group}"] = update / weights if weights else math.inf

    hooks = optimizer.register_step_pre_hook(note_before), optimizer.register_step_post_hook(note_after)
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()


def _norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(tensor)) ** 2 for tensor in tensors))
