"""A checkpoint as nanoGPT's train.py writes it gives the same logits here, and what it does not say is told."""

import json
import math

import pytest
import torch
from torch import nn

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.nanogpt import read_nanogpt
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import without_padding

ARGS = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 16, "bias": True, "vocab_size": 384, "dropout": 0.1}


class Layer(nn.Module):
    """One layer under nanoGPT's names, written out plainly."""

    def __init__(self, width, n_head, bias):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width, bias), "c_proj": nn.Linear(width, width, bias)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width, bias), "c_proj": nn.Linear(4 * width, width, bias)}
        )
        self.n_head = n_head

    def forward(self, x):
        time, width = x.shape
        heads = (part.view(time, self.n_head, -1) for part in self.attn["c_attn"](self.ln_1(x)).split(width, dim=1))
        q, k, v = (head.transpose(0, 1) for head in heads)
        scores = q @ k.transpose(1, 2) / math.sqrt(width // self.n_head)
        scores = scores.masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf)
        x = x + self.attn["c_proj"]((scores.softmax(-1) @ v).transpose(0, 1).reshape(time, width))
        inner = self.mlp["c_fc"](self.ln_2(x))
        exact = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        return x + self.mlp["c_proj"](exact)


class Network(nn.Module):
    """A GPT-2 under nanoGPT's names."""

    def __init__(self, args):
        super().__init__()
        width, bias = args["n_embd"], args["bias"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(args["vocab_size"], width),
                "wpe": nn.Embedding(args["block_size"], width),
                "h": nn.ModuleList(Layer(width, args["n_head"], bias) for _ in range(args["n_layer"])),
                "ln_f": nn.LayerNorm(width, bias=bias),
            }
        )
        self.lm_head = nn.Linear(width, args["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, tokens):
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(len(tokens)))
        for layer in self.transformer["h"]:
            x = layer(x)
        return self.lm_head(self.transformer["ln_f"](x))


def trained(**changes):
    """A network, and the contents of its checkpoint."""
    torch.manual_seed(5)
    args = ARGS | changes
    network = Network(args)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.arange(16)).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    checkpoint = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 2000,
        "best_val_loss": torch.tensor(3.25),
        "config": {"init_from": "scratch", "learning_rate": 6e-4, "compile": True},
    }
    return network, checkpoint


def opened(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "ckpt.pt")
    return read_nanogpt(tmp_path / "ckpt.pt")


def assert_same_logits(network, read):
    tokens = torch.arange(100, 116)
    with torch.inference_mode():
        torch.testing.assert_close(network_of(read)(tokens[None])[0], network(tokens), atol=2e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_it_gives_the_logits_of_the_network_that_was_saved(tmp_path, bias):
    network, checkpoint = trained(bias=bias)
    read = opened(tmp_path, checkpoint)
    assert_same_logits(network, read)
    assert (read.config.activation_function, read.config.resid_pdrop) == ("gelu", 0.1)
    assert "lm_head.weight" not in read.tensors
    assert any("exact" in note and "17 May 2023" in note for note in read.notes)
    assert any("no biases" in note for note in read.notes) is not bias


def test_names_of_a_compiled_model_and_old_mask_buffers_are_understood(tmp_path):
    network, checkpoint = trained()
    model = {f"_orig_mod.{name}": tensor for name, tensor in checkpoint["model"].items()}
    model["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
    assert_same_logits(network, opened(tmp_path, checkpoint | {"model": model}))


def test_a_head_that_is_a_copy_is_tied_and_one_of_its_own_is_kept(tmp_path):
    network, checkpoint = trained()
    copy = checkpoint["model"]["lm_head.weight"].clone()
    read = opened(tmp_path, checkpoint | {"model": checkpoint["model"] | {"lm_head.weight": copy}})
    assert read.config.tie_word_embeddings
    assert_same_logits(network, read)
    network.lm_head.weight = nn.Parameter(copy + 1)
    read = opened(tmp_path, checkpoint | {"model": network.state_dict()})
    assert not read.config.tie_word_embeddings
    assert_same_logits(network, read)
    assert any("a matrix of its own" in note for note in read.notes)


def test_the_padded_vocabulary_is_left_as_it_is_and_can_be_cut(tmp_path, small_tokenizer):
    _, checkpoint = trained()
    read = opened(tmp_path, checkpoint)
    assert read.config.vocab_size == 384
    cut = without_padding(read.noted(tokenizer=small_tokenizer))
    assert network_of(cut)(torch.arange(16)[None]).shape == (1, 16, 320)


def test_a_checkpoint_of_before_february_2023_has_the_older_gelu(tmp_path):
    _, checkpoint = trained()
    args = {name: value for name, value in ARGS.items() if name not in ("bias", "dropout")}
    read = opened(tmp_path, checkpoint | {"model_args": args})
    assert read.config.activation_function == "gelu_new"
    assert any("before February 2023" in note for note in read.notes)


def test_weights_that_began_as_openais_are_noted(tmp_path):
    _, checkpoint = trained()
    read = opened(tmp_path, checkpoint | {"config": {"init_from": "gpt2-xl"}})
    assert read.config.activation_function == "gelu"  # what nanoGPT computes with them
    assert any("'gpt2-xl'" in note for note in read.notes)


def test_its_state_of_training_is_kept_as_plain_numbers(tmp_path):
    _, checkpoint = trained()
    told = opened(tmp_path, checkpoint).provenance
    assert json.loads(json.dumps(told)) == {"iter_num": 2000, "best_val_loss": 3.25}
    told = opened(tmp_path, checkpoint | {"best_val_loss": torch.tensor(math.nan), "iter_num": "many"}).provenance
    assert told == {}


def without(name):
    return lambda checkpoint: checkpoint["model_args"].pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("n_head"), "n_head in model_args is None, not a whole number"),
        (lambda c: c["model_args"].update(n_embd="32"), "n_embd in model_args is '32'"),
        (lambda c: c["model_args"].update(n_head=5), "can't be divided"),
        (lambda c: c["model_args"].update(dropout=None), "dropout in model_args is None"),
        (lambda c: c["model_args"].update(rope_theta=1e4), "'rope_theta' in model_args is unknown to nanoGPT"),
        (lambda c: c["model_args"].update(n_layer=3), r"12 tensors are missing, first of them h\.2\.ln_1\.weight"),
        (lambda c: c["model_args"].update(n_layer=1), r"of no GPT-2 of this config \(1 layers\).*h\.1\.attn"),
        (lambda c: c["model_args"].update(n_layer=10**9), "the config has 1,000,000,000 layers"),
        (lambda c: c["model_args"].update(block_size=32), r"wpe\.weight has shape \[16, 32\].*wanted \[32, 32\]"),
        (lambda c: c["model"].update({"transformer.adapter": torch.ones(1)}), "first of them adapter"),
        (lambda c: c["model"].update({"transformer.ln_f.bias": torch.ones(32).int()}), r"ln_f\.bias is of type int32"),
        (lambda c: c.pop("model"), "no checkpoint of nanoGPT"),
        (lambda c: c.pop("model_args"), "nanoGPT's weights without its model_args.*number of heads"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, words):
    _, checkpoint = trained()
    checkpoint["model_args"] = dict(checkpoint["model_args"])
    change(checkpoint)
    with pytest.raises(BadInput, match=words):
        opened(tmp_path, checkpoint)


def test_weights_alone_are_told_what_they_lack(tmp_path):
    _, checkpoint = trained()
    with pytest.raises(BadInput, match="nanoGPT's weights without its model_args"):
        opened(tmp_path, checkpoint["model"])
    turned = {name: w.T if "c_" in name and w.dim() == 2 else w for name, w in checkpoint["model"].items()}
    with pytest.raises(BadInput, match=r"Hugging Face GPT-2's weights without its config.*pytorch_model\.bin"):
        opened(tmp_path, turned)
    with pytest.raises(BadInput, match="no checkpoint of nanoGPT"):
        opened(tmp_path, [1, 2])


def test_a_model_of_characters_is_said_to_have_no_byte_level_bpe(tmp_path):
    _, checkpoint = trained(vocab_size=65)
    read = opened(tmp_path, checkpoint)
    with pytest.raises(BadInput, match="vocabulary of 65 ids is too small for a byte-level BPE"):
        read.required_tokenizer()
