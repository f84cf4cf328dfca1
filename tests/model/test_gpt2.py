"""The network is GPT-2 exactly: counts, logits, losses, gradients, cached decoding, recorded activations."""

import base64
import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config as ReferenceConfig
from transformers import GPT2LMHeadModel

from gpt2lab.base.errors import BadOption
from gpt2lab.checkpoints.config_file import config_to_json
from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.model.config import GPT2Config, gpt2_size, parameter_count, training_flops_per_token
from gpt2lab.model.gpt2 import GPT2, KVCache

PUBLISHED_COUNTS = {
    "117M": 124_439_808,
    "345M": 354_823_168,
    "762M": 774_030_080,
    "1542M": 1_557_611_200,
    "PrettyBig": 367_419_392,
}
SHAPES = {
    "small": GPT2Config(vocab_size=199, context_length=48, n_layer=2, n_head=4, n_embd=32),
    "odd": GPT2Config(vocab_size=77, context_length=17, n_layer=3, n_head=5, n_embd=35, layer_norm_epsilon=1e-6),
    "117M": gpt2_size("117M"),
}


@pytest.mark.parametrize("size", PUBLISHED_COUNTS)
def test_each_size_has_exactly_its_published_number_of_parameters(size):
    with torch.device("meta"):
        network = GPT2(gpt2_size(size))
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED_COUNTS[size]
    assert parameter_count(gpt2_size(size)) == PUBLISHED_COUNTS[size]


def test_an_untied_head_is_counted():
    config = GPT2Config(vocab_size=50, context_length=8, n_layer=1, n_head=2, n_embd=8, tie_word_embeddings=False)
    assert parameter_count(config) == sum(parameter.numel() for parameter in GPT2(config).parameters())


def test_training_flops_follow_the_stated_formula():
    assert training_flops_per_token(gpt2_size("117M")) == 6 * (124_439_808 - 1024 * 768) + 6 * 12 * 1024 * 768


def reference_pair(config: GPT2Config) -> tuple[GPT2, GPT2LMHeadModel]:
    """Our network and the reference with the same random weights, gains and biases included."""
    network = GPT2(config).eval()
    generator = torch.Generator().manual_seed(0)
    network.initialize(generator)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    reference = GPT2LMHeadModel(ReferenceConfig(**config_to_json(config, 0))).eval()
    weights = {name: torch.from_numpy(tensor.read()) for name, tensor in published_weights(network).items()}
    heads = {name: weights.pop(name) for name in [*weights] if name.startswith("lm_head.")}
    missing, unexpected = reference.load_state_dict(
        {f"transformer.{name}": tensor for name, tensor in weights.items()} | heads, strict=False
    )
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    return network, reference


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_loss_and_gradients_equal_the_reference(shape):
    config = SHAPES[shape]
    network, reference = reference_pair(config)
    length = min(config.context_length, 64)
    tokens = torch.randint(0, config.vocab_size, (2, length), generator=torch.Generator().manual_seed(1))
    theirs = reference(tokens, labels=tokens)
    loss = network.loss(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(network(tokens), theirs.logits, atol=1e-4, rtol=0)
    assert abs(float(loss.detach()) - float(theirs.loss.detach())) < 1e-5
    loss.backward()
    theirs.loss.backward()
    their_gradients = {
        name.removeprefix("transformer."): parameter.grad for name, parameter in reference.named_parameters()
    }
    for name, parameter in network.named_parameters():
        ours, wanted = parameter.grad, their_gradients[name]
        wanted = wanted.T if wanted.ndim == 2 and "wte" not in name and "wpe" not in name else wanted
        if name.endswith("c_attn.bias"):  # adding to all keys changes no softmax: their bias has gradient zero
            width = config.n_embd
            keys = slice(width, 2 * width)
            assert ours[keys].norm() < 1e-5
            assert wanted[keys].norm() < 1e-5
            ours, wanted = (torch.cat([g[:width], g[2 * width :]]) for g in (ours, wanted))
        assert (ours - wanted).norm() / wanted.norm() < 1e-4, name


@pytest.mark.parametrize("chunks", [(20,), (1,) * 20, (7, 1, 1, 8, 3)])
def test_decoding_with_the_cache_equals_the_full_pass(chunks):
    network, _ = reference_pair(SHAPES["small"])
    tokens = torch.randint(0, 199, (3, 20), generator=torch.Generator().manual_seed(2))
    cache = KVCache(network.config, 3, torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        pieces = [network(part, cache) for part in tokens.split(chunks, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), network(tokens), atol=1e-5, rtol=0)


def test_a_document_is_read_the_same_whatever_stands_before_it():
    """At the same positions; the documents before are of other texts and other lengths."""
    network, _ = reference_pair(SHAPES["small"])
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(0, 199, (3, 40), generator=generator)
    rows[:, 23:] = rows[0, 23:]
    documents = torch.tensor([[1] * 23 + [2] * 17, [0] * 9 + [1] * 14 + [2] * 17, list(range(23)) + [23] * 17])
    with torch.inference_mode():
        logits = network(rows, documents_BT=documents)[:, 23:]
        assert torch.equal(logits[0], logits[1])
        assert torch.equal(logits[0], logits[2])
        assert not torch.allclose(logits[0], network(rows)[0, 23:], atol=1e-3)


def test_a_mask_of_one_document_changes_neither_loss_nor_gradients():
    network, _ = reference_pair(SHAPES["small"])
    tokens = torch.randint(0, 199, (2, 33), generator=torch.Generator().manual_seed(5))
    losses, gradients = [], []
    for documents in (None, torch.ones(2, 32, dtype=torch.int64)):
        loss = network.loss(tokens[:, :-1], tokens[:, 1:], documents)
        losses.append(float(loss.detach()))
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for plain, masked in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, masked, atol=1e-6, rtol=1e-4)


def test_documents_and_a_cache_do_not_go_together():
    network, _ = reference_pair(SHAPES["small"])
    cache = KVCache(network.config, 1, torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="does not know the documents"):
        network(torch.zeros(1, 4, dtype=torch.int64), cache, torch.zeros(1, 4, dtype=torch.int64))


def test_negative_targets_do_not_count_and_none_at_all_is_a_loss_of_zero():
    network, _ = reference_pair(SHAPES["small"])
    tokens = torch.randint(0, 199, (2, 21), generator=torch.Generator().manual_seed(6))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[1, 5:] = -100
    with torch.no_grad():
        wanted = torch.cat([network(inputs[:1])[0], network(inputs[1:, :5])[0]]).log_softmax(-1)
        wanted = -wanted.gather(1, targets[targets >= 0][:, None]).mean()
    assert float(network.loss(inputs, targets).detach()) == pytest.approx(float(wanted), abs=1e-5)
    loss = network.loss(inputs, torch.full_like(targets, -100))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in network.parameters())


def test_more_tokens_than_the_context_are_refused():
    network, _ = reference_pair(SHAPES["odd"])
    with pytest.raises(ValueError, match="18 tokens are more than the context of 17"):
        network(torch.zeros(1, 18, dtype=torch.int64))


def test_fresh_weights_have_the_published_deviations():
    network = GPT2(GPT2Config(vocab_size=1000, context_length=500, n_layer=8, n_head=2, n_embd=128))
    network.initialize(torch.Generator().manual_seed(0))
    assert float(network.wte.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(network.wpe.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert float(network.h[0].mlp.c_proj.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
    assert float(network.h[3].attn.c_attn.bias.detach().abs().sum()) == 0


@pytest.mark.parametrize("wrong", [{"n_head": 5, "n_embd": 64}, {"n_layer": 0}, {"resid_pdrop": 1.0}])
def test_a_shape_that_is_no_gpt2_is_refused(wrong):
    with pytest.raises(BadOption):
        GPT2Config(**wrong)


def test_a_trained_model_reproduces_its_recorded_activations(shared_data):
    folder = shared_data("weights/gpt-nano-sort")

    def tensors(name: str) -> dict[str, torch.Tensor]:
        found = {}
        for key, value in json.loads((folder / name).read_text()).items():
            if key != "config":
                numbers = np.frombuffer(base64.b64decode(value["data"]), "<f4")
                found[key] = torch.from_numpy(numbers.reshape(value["shape"]).copy())
        return found

    weights, recorded = tensors("gpt-nano-sort-model.json"), tensors("gpt-nano-sort-t0-partials.json")
    config = GPT2Config(vocab_size=3, context_length=11, n_layer=3, n_head=3, n_embd=48, tie_word_embeddings=False)
    network = GPT2(config).eval()
    network.load_state_dict(
        {
            name.removeprefix("transformer."): tensor
            for name, tensor in weights.items()
            if not name.endswith(".attn.bias")
        }
    )
    seen: dict[str, torch.Tensor] = {}
    first = network.h[0]
    watched = {"ln1": first.ln_1, "qkv": first.attn.c_attn, "yProj": first.attn, "ln2": first.ln_2}
    watched |= {"fc": first.mlp.c_fc, "mlp": first.mlp, "ln_f": network.ln_f}
    watched |= {f"block{n}": network.h[n] for n in range(3)}
    for name, module in watched.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    with torch.inference_mode():
        seen["lm_head"] = network(recorded["idx"].long())
    for name, tensor in seen.items():
        torch.testing.assert_close(
            tensor, recorded[name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )
