"""Muon (Keller Jordan 2024, kellerjordan.github.io/posts/muon): momentum whose matrix is orthogonalized.

Not `torch.optim.Muon`, which orthogonalizes in bfloat16 even where the processor has no instructions for it, has no
AdamW for the other parameters, and takes queries, keys and values for one matrix.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gpt2lab.train.precision import native_bfloat16
from gpt2lab.train.recipe import MuonConfig

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""They make small singular values grow fastest, at the price of ending within about 0.7 to 1.2 and not at 1."""


def newton_schulz_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies matrices in it natively, float32 elsewhere."""
    return torch.bfloat16 if native_bfloat16(device) else torch.float32


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Each of the matrices [N, rows, columns] with its singular values brought near 1, in `dtype`.

    Five steps of a Newton-Schulz iteration of degree 5. Values below 0.0015 of the matrix's norm stay below 0.7; a
    matrix of zeros stays one.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the parameters of groups with `use_muon`, which must be matrices; fused AdamW for the other groups.

    A Muon group's `blocks` says of how many matrices, one below the other, each of its parameters consists, and `dtype`
    in which type these are orthogonalized. Weight decay is decoupled: learning rate x `weight_decay` of the parameter,
    before each update.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        config: MuonConfig,
    ) -> None:
        self.config = config
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, defaults | {"use_muon": False, "blocks": 1, "dtype": torch.float32})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            given = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not group["use_muon"]:
                self._adamw(given, group)
                continue
            for parameter in given:
                self._muon(parameter, group)

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient, momentum = self.state[parameter], parameter.grad, self.config.momentum
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(buffer, momentum) if self.config.nesterov else buffer
        matrices = direction.unflatten(0, (group["blocks"], -1))
        update = orthogonalize(matrices, group["dtype"]).flatten(0, 1)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * self._scale(*matrices.shape[1:]))

    def _scale(self, rows: int, columns: int) -> float:
        """What makes one learning rate fit matrices of all shapes."""
        if self.config.adjust == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
