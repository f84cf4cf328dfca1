"""Adafactor: equal to plain formulas and to others' programs, and small."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers.optimization import Adafactor as TheirAdafactor

from gpt2lab.model.config import gpt2_size
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.optimizers.adafactor import Adafactor
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import AdafactorConfig, OptimizerConfig

STEPS, MIB = 10, 2**20


def plain_adafactor(weights, gradients, rates, beta1, beta2, weight_decay, config):
    """The formulas of the paper and of tensor2tensor in float64, the whole matrix of second moments made each time."""
    w = weights.astype(np.float64)
    rows, columns, whole, momentum = 0.0, 0.0, 0.0, np.zeros_like(w)
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = gradient.astype(np.float64)
        beta2_t = 1 - t**-config.decay_exponent
        if config.decay_type == "adam":
            beta2_t = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
        rho = rate
        if config.relative_step:
            rho = min(rate, 1 / math.sqrt(t)) * (1 if config.parameter_scale else 0.05)
        if g.ndim == 2:
            rows = beta2_t * rows + (1 - beta2_t) * (g**2 + config.eps1).sum(axis=1)
            columns = beta2_t * columns + (1 - beta2_t) * (g**2 + config.eps1).sum(axis=0)
            v = np.outer(rows, columns) / rows.sum()
        else:
            whole = beta2_t * whole + (1 - beta2_t) * (g**2 + config.eps1)
            v = whole
        u = g / np.sqrt(v)
        if config.clipping_threshold:
            u = u / max(1.0, math.sqrt((u**2).mean()) / config.clipping_threshold)
        w = w - rho * weight_decay * w
        alpha = rho * max(config.eps2, math.sqrt((w**2).mean())) if config.parameter_scale else rho
        momentum = beta1 * momentum + (1 - beta1) * alpha * u
        w = w - (momentum if beta1 else alpha * u)
    return w


def ours(weights, gradients, rates, beta1, beta2, weight_decay, config):
    parameter = torch.nn.Parameter(torch.from_numpy(weights).clone())
    optimizer = Adafactor([parameter], rates[0], beta1, beta2, weight_decay, config)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach().numpy(), optimizer.state[parameter]


def drawn(shape):
    """Weights, and gradients whose rows and columns differ in size and which grow at the end, so that clipping acts."""
    generator = np.random.default_rng(0)
    gradients = generator.normal(size=(STEPS, *shape)) * generator.lognormal(size=shape[-1])
    gradients[-2:] *= 30
    return generator.normal(0, 0.02, shape).astype(np.float32), gradients.astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 10), (9, 4), (7,)])
@pytest.mark.parametrize("decay_type", ["pow", "adam"])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_ten_steps_equal_plain_formulas(shape, decay_type, beta1):
    weights, gradients = drawn(shape)
    rates = [0.02 * (step + 1) / STEPS for step in range(STEPS)]
    for relative, scaled, threshold, decay in itertools.product((True, False), (True, False), (1.0, 0.0), (0.0, 0.5)):
        config = AdafactorConfig(
            decay_type=decay_type, relative_step=relative, parameter_scale=scaled, clipping_threshold=threshold
        )
        settings = (rates, beta1, 0.98, decay, config)
        reached, _ = ours(weights, gradients, *settings)
        expected = plain_adafactor(weights, gradients, *settings)
        moved = np.abs(expected - weights).max()
        assert np.abs(reached - expected).max() < 1e-5 * moved + 1e-8, config


def test_ten_steps_by_the_paper_equal_those_of_transformers():
    weights, gradients = drawn((6, 10))
    theirs = torch.nn.Parameter(torch.from_numpy(weights).clone())
    optimizer = TheirAdafactor([theirs], lr=None, scale_parameter=True, relative_step=True)
    for gradient in gradients:
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
    reached, _ = ours(weights, gradients, [0.01] * STEPS, 0.0, 0.0, 0.0, AdafactorConfig(relative_step=True))
    np.testing.assert_allclose(reached, theirs.detach().numpy(), rtol=1e-5, atol=1e-8)


def test_a_parameter_whose_gradient_is_zero_stays():
    weights, _ = drawn((6, 10))
    zeros = np.zeros((STEPS, 6, 10), np.float32)
    reached, _ = ours(weights, zeros, [0.01] * STEPS, 0.9, 0.0, 0.0, AdafactorConfig())
    assert np.array_equal(reached, weights)


def test_without_momentum_the_state_of_a_matrix_is_a_row_and_a_column():
    weights, gradients = drawn((6, 10))
    for beta1, size in ((0.0, 6 + 10 + 1), (0.9, 6 + 10 + 1 + 60)):
        _, state = ours(weights, gradients, [0.01] * STEPS, beta1, 0.0, 0.0, AdafactorConfig())
        assert sum(tensor.numel() for tensor in state.values()) == size
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def state_bytes(optimizer):
    return sum(tensor.nbytes for state in optimizer.state.values() for tensor in state.values())


def test_the_state_for_1542m_takes_under_10_mib_where_adams_takes_11_6_gib():
    """Counted after a real step, on a device whose tensors have shapes but no memory."""
    with torch.device("meta"):
        network = GPT2(gpt2_size("1542M"))
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    adafactor = make_optimizer(network, OptimizerConfig(name="adafactor", beta1=0.0))
    adafactor.step()
    assert len(adafactor.state) == len(list(network.parameters()))
    assert 8.7 * MIB < state_bytes(adafactor) < 8.8 * MIB
    adam = torch.optim.AdamW(network.parameters(), foreach=False)
    adam.step()
    assert state_bytes(adam) / 2**30 == pytest.approx(11.6, abs=0.02)
