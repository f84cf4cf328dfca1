"""One optimizer step: accumulation, precision, clipping, what is skipped, and the average of the weights.

The network knows of none of it: autocast, activation checkpointing and torch.compile are put around it here.
"""

import copy
import functools
import math
import shutil
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gpt2lab.base.progress import say
from gpt2lab.model.gpt2 import GPT2, MLP
from gpt2lab.model.loss import summed_cross_entropy
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.train.precision import DTYPES, check_precision, with_precision
from gpt2lab.train.recipe import Recipe, StepConfig
from gpt2lab.train.table_dropout import dropped_tables

FIRST_LOSS_SCALE, STEPS_TO_DOUBLE = 2.0**16, 2000
NORMS_REMEMBERED, NORMS_TO_JUDGE = 50, 20
MOST_NOT_FINITE_IN_A_ROW = 20

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Inputs, targets and, where the recipe masks, the documents' numbers, each int64 [rows, context_length]."""


@dataclass(frozen=True)
class StepMemory:
    """What a step has to know of those before it, beside weights and optimizer; a checkpoint keeps it."""

    loss_scale: float = FIRST_LOSS_SCALE
    """Of float16: the loss is multiplied by it, so that small gradients aren't lost; always a power of two."""
    steps_at_scale: int = 0
    not_finite_in_a_row: int = 0
    norms: tuple[float, ...] = ()
    """The newest gradient norms, those of skipped steps too: where norms stay high, the median follows."""


@dataclass(frozen=True)
class StepResult:
    """Mean cross-entropy in nats a token, the gradient's norm before clipping, and whether weights were changed."""

    loss: float
    gradient_norm: float
    verdict: Literal["taken", "not finite", "outlier", "diverged"]
    median_norm: float = math.nan
    """of the steps before, where outliers are looked for"""

    @property
    def reason(self) -> str:
        """Why the step was not taken."""
        if self.verdict == "outlier":
            times = self.gradient_norm / self.median_norm
            return f"the gradient's norm {self.gradient_norm:.4g} is {times:.3g} times the median of the steps before"
        return f"the loss is {self.loss:.4g} and the gradient's norm {self.gradient_norm:.4g}"


def training_device() -> torch.device:
    """The accelerator of this machine, or its processor where there is none."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


class TrainingStep:
    """The optimizer step of a recipe. `memory` and `averaged` are the state beside the network's and the optimizer's.

    Raises BadOption for a precision that the device can't do.
    """

    def __init__(self, recipe: Recipe, network: GPT2, optimizer: torch.optim.Optimizer) -> None:
        self.device = next(network.parameters()).device
        self.recipe = recipe = with_precision(recipe, self.device)
        self.network, self.optimizer = network, optimizer
        self.memory = StepMemory()
        config = recipe.step
        check_precision(config.precision, self.device)
        self.averaged = copy.deepcopy(network).requires_grad_(False) if config.weight_averaging else None
        compiles = recipe.compile and shutil.which("c++") is not None
        if config.activation_checkpointing:
            for block in network.h:
                setattr(block, "forward", functools.partial(checkpoint, block.forward, use_reentrant=False))  # noqa: B010
        elif not compiles:  # a compiler finds this by itself
            _forget_gelu(network)
        # The loss is left out: its loop over chunks is nothing that a compiler could fuse.
        self._hidden: Callable[..., Tensor] = network.hidden
        if compiles:
            self._hidden = torch.compile(network.hidden)
        elif recipe.compile:
            say("no C++ compiler here: training without torch.compile.")

    @property
    def result_network(self) -> GPT2:
        """The network that validation and the model folder show: the average of the weights, where there is one."""
        return self.averaged or self.network

    def take(self, step: int, batch: Batch) -> StepResult:
        """Take step number `step`, counted from 0, at the optimizer's rates, unless its gradient is to be skipped."""
        self._seed_dropout(step)
        self.network.train()
        loss = self._accumulate(batch)
        norm = self._unscale_and_clip()
        result = self._judge(loss, norm)
        if result.verdict == "taken":
            self.optimizer.step()
            self._average(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.memory = _remember(self.memory, result, self.recipe.step)
        return result

    def _seed_dropout(self, step: int) -> None:
        model = self.recipe.model
        if model.embd_pdrop or model.attn_pdrop or model.resid_pdrop:
            torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, step]).generate_state(1)[0]))

    def _accumulate(self, batch: Batch) -> float:
        """Add up the gradients of the batch's parts; the mean cross-entropy over its targets that count."""
        rows_at_once = self.recipe.batch.sequences
        counted = int((batch[1] != IGNORED).sum())
        scale = self._loss_scale / counted
        nats = torch.zeros((), device=self.device)
        for start in range(0, len(batch[0]), rows_at_once):
            rows = slice(start, start + rows_at_once)
            inputs, targets, documents = (None if each is None else each[rows].to(self.device) for each in batch)
            assert targets is not None
            with autocast(self.recipe.step, self.device), self._tables():
                hidden = self._hidden(inputs, documents_BT=documents)
                objective, part_nats = summed_cross_entropy(
                    hidden, self.network.head_weight, targets, self.recipe.step.z_loss
                )
            (objective * scale).backward()  # type: ignore[no-untyped-call]
            nats += part_nats
        return float(nats) / counted

    def _tables(self) -> AbstractContextManager[None]:
        return dropped_tables(self.network) if self.recipe.step.table_dropout else nullcontext()

    @property
    def _loss_scale(self) -> float:
        return self.memory.loss_scale if self.recipe.step.precision == "float16" else 1.0

    def _unscale_and_clip(self) -> float:
        """The norm of the gradient before it is clipped."""
        if self._loss_scale != 1.0:
            gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
            torch._foreach_mul_(gradients, 1 / self._loss_scale)
        limit = self.recipe.optimizer.clip_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))

    def _judge(self, loss: float, norm: float) -> StepResult:
        config, memory = self.recipe.step, self.memory
        if not (math.isfinite(loss) and math.isfinite(norm)):
            # In float16 a gradient that overflows is how the loss scale is found; a loss that does is another matter.
            may_skip = config.skip_nonfinite or (config.precision == "float16" and math.isfinite(loss))
            skip = may_skip and memory.not_finite_in_a_row + 1 < MOST_NOT_FINITE_IN_A_ROW
            return StepResult(loss, norm, "not finite" if skip else "diverged")
        if config.skip_outliers and len(memory.norms) >= NORMS_TO_JUDGE:
            median = statistics.median(memory.norms)
            outlier = norm > config.skip_outliers * median
            return StepResult(loss, norm, "outlier" if outlier else "taken", median)
        return StepResult(loss, norm, "taken")

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Move the averaged weights; early on they forget faster, or the random weights of the start would stay."""
        if self.averaged is None:
            return
        decay = min(self.recipe.step.weight_averaging, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)


def autocast(config: StepConfig, device: torch.device) -> AbstractContextManager[object]:
    """The context in which products are of the recipe's precision; weights and gradients are float32 in any case."""
    if config.precision not in ("bfloat16", "float16"):
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[config.precision])


def _forget_gelu(network: GPT2) -> None:
    """Let the backward pass compute GELU again, which is short: its result and its input are the largest tensors kept.

    The product after it is not repeated: checkpointing stops at the last tensor that the backward pass asks for.
    """
    for layer in network.h:
        mlp = layer.get_submodule("mlp")
        assert isinstance(mlp, MLP)
        half = functools.partial(checkpoint, mlp.activate_and_project, use_reentrant=False, preserve_rng_state=False)
        setattr(mlp, "activate_and_project", half)  # noqa: B010


def _remember(memory: StepMemory, result: StepResult, config: StepConfig) -> StepMemory:
    if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
        scale = memory.loss_scale / 2 if config.precision == "float16" else memory.loss_scale
        return replace(memory, loss_scale=scale, steps_at_scale=0, not_finite_in_a_row=memory.not_finite_in_a_row + 1)
    if config.skip_outliers:
        memory = replace(memory, norms=(*memory.norms, result.gradient_norm)[-NORMS_REMEMBERED:])
    if config.precision == "float16":
        double = memory.steps_at_scale + 1 == STEPS_TO_DOUBLE
        memory = replace(
            memory,
            loss_scale=memory.loss_scale * (2 if double else 1),
            steps_at_scale=0 if double else memory.steps_at_scale + 1,
        )
    return replace(memory, not_finite_in_a_row=0)
