"""Muon: equal to plain formulas and to PyTorch's optimizers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.optimizers.muon import Muon, newton_schulz_dtype, orthogonalize
from gpt2lab.train.recipe import MuonConfig, OptimizerConfig

STEPS = 10


def plain_newton_schulz(matrix):
    """The polynomial on each singular value, in float64."""
    u, s, vh = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    s = s / math.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vh


def plain_muon(weights, gradients, rate, weight_decay, blocks, config):
    w, momentum = weights.astype(np.float64), np.zeros(weights.shape)
    for gradient in gradients.astype(np.float64):
        momentum = config.momentum * momentum + (1 - config.momentum) * gradient
        direction = config.momentum * momentum + (1 - config.momentum) * gradient if config.nesterov else momentum
        parts = np.split(direction, blocks)
        rows, columns = parts[0].shape
        scale = 0.2 * math.sqrt(max(rows, columns))
        if config.adjust == "original":
            scale = math.sqrt(max(1, rows / columns))
        update = np.concatenate([plain_newton_schulz(part) for part in parts]) * scale
        w = w - rate * weight_decay * w - rate * update
    return w


def drawn(shape):
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 0.02, shape).astype(np.float32)
    return weights, generator.normal(size=(STEPS, *shape)).astype(np.float32)


def muon_for(parameter, config, blocks=1, weight_decay=0.3):
    group = {"params": [parameter], "use_muon": True, "blocks": blocks}
    return Muon([group], 0.01, (0.9, 0.95), 1e-8, weight_decay, config)


def stepped(weights, gradients, optimizer_for):
    parameter = torch.nn.Parameter(torch.from_numpy(weights).clone())
    optimizer = optimizer_for(parameter)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("shape", [(8, 20), (24, 8), (12, 12)])
@pytest.mark.parametrize(
    ("blocks", "config"),
    [
        (1, MuonConfig()),
        (1, MuonConfig(adjust="original", momentum=0.8)),
        (1, MuonConfig(nesterov=False)),
        (4, MuonConfig()),
    ],
)
def test_ten_steps_equal_plain_formulas(shape, blocks, config):
    weights, gradients = drawn(shape)
    reached = stepped(weights, gradients, lambda parameter: muon_for(parameter, config, blocks))
    np.testing.assert_allclose(reached, plain_muon(weights, gradients, 0.01, 0.3, blocks, config), rtol=0, atol=1e-5)


def test_ten_steps_equal_those_of_pytorchs_muon_within_its_bfloat16():
    weights, gradients = drawn((24, 8))
    settings = {"lr": 0.01, "weight_decay": 0.3, "adjust_lr_fn": "match_rms_adamw"}
    reached = stepped(weights, gradients, lambda parameter: muon_for(parameter, MuonConfig()))
    theirs = stepped(weights, gradients, lambda parameter: torch.optim.Muon([parameter], **settings))
    assert np.abs(reached - theirs).max() < 0.02 * np.abs(theirs - weights).max()


def test_the_other_groups_get_pytorchs_adamw_bit_for_bit():
    weights, gradients = drawn((8, 20))
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-9, "weight_decay": 0.1}
    reached = stepped(
        weights, gradients, lambda parameter: Muon([{"params": [parameter]}], config=MuonConfig(), **settings)
    )
    theirs = stepped(weights, gradients, lambda parameter: torch.optim.AdamW([parameter], fused=True, **settings))
    assert np.array_equal(reached, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 64, 16), (1, 16, 64), (2, 48, 64)])
def test_newton_schulz_brings_singular_values_near_1(shape, dtype):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    result = orthogonalize(matrices, dtype)
    assert result.dtype == dtype
    values = torch.linalg.svdvals(result.float())
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert torch.equal(orthogonalize(torch.zeros(shape), dtype), torch.zeros(shape, dtype=dtype))


def test_an_update_has_the_size_that_the_rate_says():
    """0.2 x the learning rate, root mean square, whatever the shape: about AdamW's."""
    for shape in ((64, 64), (16, 256), (192, 32)):
        weights, gradients = drawn(shape)
        moved = stepped(weights, gradients[:1], lambda parameter: muon_for(parameter, MuonConfig(), weight_decay=0.0))
        assert np.sqrt(((moved - weights) ** 2).mean()) == pytest.approx(0.2 * 0.01, rel=0.25), shape


def test_newton_schulz_is_in_bfloat16_only_where_the_processor_has_it():
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        pytest.skip("no /proc/cpuinfo here to ask")
    native = {"avx512_bf16", "amx_bf16", "bf16"} & set(facts.read_text().split())
    assert newton_schulz_dtype(torch.device("cpu")) == (torch.bfloat16 if native else torch.float32)


def test_muon_has_the_layers_matrices_and_adamw_all_else():
    network = GPT2(
        GPT2Config(vocab_size=50, context_length=8, n_layer=2, n_head=2, n_embd=8, tie_word_embeddings=False)
    )
    config = OptimizerConfig(name="muon", learning_rate=3e-3, weight_decay=0.2, muon=MuonConfig(learning_rate=7e-3))
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = make_optimizer(network, config).param_groups
    found = [{names[parameter] for parameter in group["params"]} for group in groups]
    assert found[0] == {"h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight"}
    assert found[1] == {f"h.{n}.{rest}.weight" for n in (0, 1) for rest in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")}
    assert found[2] == {"wpe.weight", "lm_head.weight"}
    assert found[4] == {"wte.weight"}
    assert set.union(*found) == set(names.values())
    assert [group["peak_lr"] for group in groups] == [7e-3, 7e-3, 3e-3, 3e-3, 3e-3]
    assert [group["weight_decay"] for group in groups] == [0.2, 0.2, 0.2, 0.0, 0.2]
    assert [group["blocks"] for group in groups] == [3, 1, 1, 1, 1]
