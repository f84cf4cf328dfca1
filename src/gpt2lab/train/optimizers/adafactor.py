"""Adafactor (Shazeer & Stern 2018, arXiv:1804.04235), with what tensor2tensor's form of it adds.

Section numbers are the paper's. What only tensor2tensor has: momentum over whole updates, the decay rate `adam`, and a
twentieth of the relative step where it is not multiplied by the parameter's scale.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gpt2lab.train.recipe import AdafactorConfig

UNSCALED_STEP = 0.05


def pow_decay(step: int, exponent: float = 0.8) -> float:
    """Second-moment decay rate 1 - step**-exponent at a step counted from 1 (section 7.2)."""
    return 1.0 - math.pow(step, -exponent)


def adam_decay(step: int, beta2: float) -> float:
    """Second-moment decay rate that corrects Adam's bias, at a step counted from 1 (section 7.1)."""
    return beta2 * (1.0 - beta2 ** (step - 1)) / (1.0 - beta2**step)


def rms(tensor: Tensor) -> Tensor:
    """Root mean square of all numbers, a scalar."""
    return tensor.square().mean().sqrt()


class Adafactor(torch.optim.Optimizer):
    """A matrix [rows, columns] keeps rows + columns second moments, not rows x columns; a vector keeps all of its own.

    With beta1 0 there is no momentum and no state for it. Weight decay is decoupled: before each update, the parameter
    loses its step size (not times its scale) x `weight_decay` of itself, as in the independent replication of GPT-2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
        config: AdafactorConfig,
    ) -> None:
        self.config = config
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.float(), group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(_fresh_state(parameter, group["beta1"] > 0))
        state["step"] = state["step"].cpu() + 1  # a checkpoint's may have been put on the parameter's device
        step = int(state["step"])
        step_size = self._step_size(step, group["lr"])
        decay = (
            pow_decay(step, self.config.decay_exponent)
            if self.config.decay_type == "pow"
            else adam_decay(step, group["beta2"])
        )

        squared = gradient.square().add_(self.config.eps1)
        if "row_var" in state:
            row_var, col_var = state["row_var"], state["col_var"]
            row_var.lerp_(squared.mean(-1, keepdim=True), 1 - decay)
            col_var.lerp_(squared.mean(-2, keepdim=True), 1 - decay)
            del squared
            # Two thin factors, not their product: sqrt(rows x columns / mean) is never held.
            update = gradient * (row_var / row_var.mean(-2, keepdim=True)).rsqrt_()
            update.mul_(col_var.rsqrt())
        else:
            state["variance"].lerp_(squared, 1 - decay)
            update = gradient * state["variance"].rsqrt()
        if self.config.clipping_threshold:
            update.div_((rms(update) / self.config.clipping_threshold).clamp_(min=1.0))

        parameter.mul_(1 - step_size * group["weight_decay"])
        if self.config.parameter_scale:
            update.mul_(rms(parameter).clamp_(min=self.config.eps2))
        update.mul_(step_size)
        if "exp_avg" in state:
            update = state["exp_avg"].lerp_(update, 1 - group["beta1"])
        parameter.sub_(update)

    def _step_size(self, step: int, lr: float) -> float:
        if not self.config.relative_step:
            return lr
        relative = min(lr, 1 / math.sqrt(step))
        return relative if self.config.parameter_scale else UNSCALED_STEP * relative


def _fresh_state(parameter: Tensor, momentum: bool) -> dict[str, Tensor]:
    """Zeros, all of them tensors so that a checkpoint can hold them; the count stays where reading it is free."""
    state = {"step": torch.zeros((), device="cpu")}
    if parameter.ndim >= 2:
        state["row_var"] = parameter.new_zeros(*parameter.shape[:-1], 1, dtype=torch.float32)
        state["col_var"] = parameter.new_zeros(*parameter.shape[:-2], 1, parameter.shape[-1], dtype=torch.float32)
    else:
        state["variance"] = torch.zeros_like(parameter, dtype=torch.float32)
    if momentum:
        state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.float32)
    return state
