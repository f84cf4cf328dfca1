"""The cpu backend: the numbers of the network with its weights as stored, and the same bits whatever is beside them."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.quantization import dequantize, quantize_columns, quantize_groups, quantize_rows
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor
from gpt2lab.generate.cpu.backend import cpu_backend
from gpt2lab.generate.cpu.packing import WEIGHT_TYPES
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2

SMALL = GPT2Config(vocab_size=300, context_length=96, n_layer=2, n_head=2, n_embd=64)
TABLE = np.array([3, 0, 5, 1, 2, 4], np.int32)  # blocks lie anywhere


def checkpoint_of(config, tokenizer, tmp_path, seed=0):
    """A random GPT-2 of some shape, with weights large enough to matter."""
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.mul_(4.0 if parameter.ndim == 2 else 1.0)
            if name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    tensors = {}
    for name, parameter in network.state_dict().items():
        array = parameter.numpy()
        turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        tensors[name] = StoredTensor.of(np.ascontiguousarray(array.T) if turned else array)
    return Checkpoint(tmp_path, "made", config, tensors, tokenizer)


@pytest.fixture
def checkpoint(small_tokenizer, tmp_path):
    return checkpoint_of(replace(SMALL, vocab_size=small_tokenizer.vocab_size), small_tokenizer, tmp_path)


@pytest.fixture
def ids(small_tokenizer):
    return np.random.default_rng(5).integers(0, small_tokenizer.vocab_size, 90).astype(np.int32)


def stored_as(checkpoint, weights):
    """The same checkpoint with the numbers that `weights` can hold, as float32."""

    def rounded(name, array):
        if name in ("wte.weight", "lm_head.weight") and weights in ("int8", "int4"):
            return dequantize(quantize_rows(array))
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) and weights in ("int8", "int4"):
            return dequantize((quantize_columns if weights == "int8" else quantize_groups)(array))
        if weights == "bfloat16" and array.ndim == 2 and name != "wpe.weight":
            return torch.tensor(array).bfloat16().float().numpy()
        return array

    tensors = {name: StoredTensor.of(rounded(name, tensor.read())) for name, tensor in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)


def torch_logits(checkpoint, ids):
    with torch.inference_mode():
        return network_of(checkpoint)(torch.tensor(ids[None]).long())[0].numpy()


def logits_of(backend, ids):
    backend.reserve(6)
    return backend.prefill(ids, 0, TABLE, "all").copy()


@pytest.mark.parametrize("weights", WEIGHT_TYPES)
def test_logits_equal_the_networks_with_the_stored_weights(checkpoint, ids, weights):
    wanted = torch_logits(stored_as(checkpoint, weights), ids)
    found = logits_of(cpu_backend(checkpoint, weights), ids)
    tolerance = {"float32": 2e-5, "bfloat16": 1e-4}.get(weights, 2e-3)  # keys and values, then inputs of 16 bits
    np.testing.assert_allclose(found, wanted, atol=tolerance * wanted.std())


def test_eight_bits_of_activations_cost_more_but_little(checkpoint, ids):
    wanted = torch_logits(stored_as(checkpoint, "int8"), ids)
    errors = [
        np.abs(logits_of(cpu_backend(checkpoint, "int8", activation_bits=bits), ids) - wanted).mean() / wanted.std()
        for bits in (16, 8)
    ]
    assert errors[0] < 3e-4 < errors[1] < 0.03


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_layer=1, n_head=3, n_embd=48, context_length=96),  # heads of 16, widths that fill no panel
        GPT2Config(n_layer=1, n_head=4, n_embd=96, context_length=96),  # heads of 24
        GPT2Config(n_layer=2, n_head=1, n_embd=80, context_length=90, tie_word_embeddings=False),
        GPT2Config(n_layer=1, n_head=8, n_embd=32, context_length=91, activation_function="gelu"),  # heads of 4
    ],
)
def test_any_shape_of_gpt2_decodes(config, small_tokenizer, tmp_path, ids):
    made = checkpoint_of(replace(config, vocab_size=small_tokenizer.vocab_size), small_tokenizer, tmp_path)
    for weights, tolerance in (("float32", 3e-5), ("int8", 3e-3)):
        wanted = torch_logits(stored_as(made, weights), ids)
        found = logits_of(cpu_backend(made, weights, 2), ids)
        np.testing.assert_allclose(found, wanted, atol=tolerance * wanted.std())


@pytest.mark.parametrize(("weights", "bits"), [("float32", 16), ("int8", 16), ("int8", 8), ("int4", 16)])
def test_a_sequence_has_the_same_bits_alone_in_pieces_and_among_others(checkpoint, ids, weights, bits):
    alone = logits_of(cpu_backend(checkpoint, weights, 1, bits), ids)
    backend = cpu_backend(checkpoint, weights, 3, bits)  # of two heads: one thread has none
    for batch in (1, 2, 3, 5, 8, 11):
        backend.reserve(6 * batch)
        tables = np.stack([TABLE + 6 * n for n in range(batch)])
        for number, table in enumerate(tables):
            other = np.roll(ids, number)
            for start, end in ((0, 7), (7, 60)):
                backend.prefill(other[start:end], start, table, "none")
        for place in range(60, 66):
            tokens = np.array([np.roll(ids, number)[place] for number in range(batch)], np.int32)
            logits_BV, greatest_B = backend.decode(tokens, np.full(batch, place, np.int32), tables)
            assert np.array_equal(logits_BV[0], alone[place])
            assert greatest_B == logits_BV.argmax(axis=1).tolist()


@pytest.mark.parametrize("threads", [1, 2, 3, 9])  # of five panels of logits: some have none
def test_the_greatest_logit_is_the_first_of_equals_and_none_where_one_is_not_finite(checkpoint, ids, threads):
    """Each thread looks at its own part of the vocabulary."""
    bias_of_nothing = {"wte.weight": np.zeros((checkpoint.config.vocab_size, checkpoint.config.n_embd), np.float32)}
    position, table = np.zeros(1, np.int32), np.zeros((1, 1), np.int32)

    def greatest_with(rows):
        array = bias_of_nothing["wte.weight"].copy()
        for row, value in rows.items():
            array[row] = value
        tensors = {**checkpoint.tensors, "wte.weight": StoredTensor.of(array)}
        tensors["ln_f.weight"] = StoredTensor.of(np.zeros(checkpoint.config.n_embd, np.float32))
        tensors["ln_f.bias"] = StoredTensor.of(np.ones(checkpoint.config.n_embd, np.float32))
        backend = cpu_backend(replace(checkpoint, tensors=tensors), threads=threads)
        backend.reserve(1)
        return backend.decode(ids[:1], position, table).greatest

    last = checkpoint.config.vocab_size - 1
    assert greatest_with({}) == [0]
    assert greatest_with({last: 2.0}) == [last]
    assert greatest_with({5: 2.0, 70: 2.0, last: 2.0}) == [5]
    assert greatest_with(dict.fromkeys(range(last), -1.0)) == [last]
    assert greatest_with({5: 2.0, last: 3e38}) == [-1]
    assert greatest_with({5: -3e38, last: 2.0}) == [-1]


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_copied_block_holds_the_same(checkpoint, ids, weights):
    backend = cpu_backend(checkpoint, weights)
    backend.reserve(7)
    wanted = backend.prefill(ids[:20], 0, TABLE).copy()
    backend.copy_block(3, 6)
    again = np.array([6, 0], np.int32)
    found = backend.decode(ids[19:20], np.array([19], np.int32), again[None])
    assert np.array_equal(found.logits[0], wanted)


def test_more_rows_than_one_step_takes_are_read_in_several(small_tokenizer, tmp_path):
    config = replace(SMALL, vocab_size=small_tokenizer.vocab_size, context_length=700)
    made = checkpoint_of(config, small_tokenizer, tmp_path)
    ids = np.random.default_rng(1).integers(0, small_tokenizer.vocab_size, 600).astype(np.int32)
    backend = cpu_backend(made)
    backend.reserve(44)
    table = np.arange(44, dtype=np.int32)
    every = backend.prefill(ids, 0, table, "all")
    assert np.array_equal(backend.prefill(ids, 0, table), every[-1])
    np.testing.assert_allclose(every, torch_logits(made, ids), atol=2e-5 * every.std())


@pytest.mark.parametrize("weights", WEIGHT_TYPES)
def test_weights_that_are_not_numbers_are_refused_by_name(checkpoint, weights):
    for name in ("h.1.mlp.c_fc.weight", "wte.weight", "h.0.ln_1.bias"):
        array = checkpoint.tensors[name].read().copy()
        array.reshape(-1)[7] = np.nan
        broken = replace(checkpoint, tensors={**checkpoint.tensors, name: StoredTensor.of(array)})
        with pytest.raises(BadInput, match=name):
            cpu_backend(broken, weights)


@pytest.mark.parametrize(("weights", "bits"), [("float32", 16), ("int8", 16), ("int8", 8), ("int4", 16)])
def test_sums_beyond_float32_never_become_ordinary_numbers(checkpoint, ids, weights, bits):
    for name, factor in (("wte.weight", 1e24), ("wte.weight", 1e37), ("h.0.ln_2.weight", 3e38)):
        large = checkpoint.tensors[name].read() * np.float32(factor)
        assert np.isfinite(large).all()
        made = replace(checkpoint, tensors={**checkpoint.tensors, name: StoredTensor.of(large)})
        assert not np.isfinite(logits_of(cpu_backend(made, weights, 1, bits), ids)).any()


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_activations_far_from_zero_are_cut_off_by_gelu(checkpoint, ids, weights):
    """Where x is below -10, GELU is 0 in float32, however large x."""
    bias = checkpoint.tensors["h.0.mlp.c_fc.bias"].read().copy()
    wanted = []
    for value in (-1e3, -1e36):
        bias[:100] = value
        tensors = {**checkpoint.tensors, "h.0.mlp.c_fc.bias": StoredTensor.of(bias.copy())}
        wanted.append(logits_of(cpu_backend(replace(checkpoint, tensors=tensors), weights, 1), ids))
    assert np.array_equal(*wanted)


def test_scales_that_are_not_numbers_are_refused_by_name(checkpoint):
    name = "h.1.mlp.c_fc.weight"
    matrix = quantize_columns(checkpoint.tensors[name].read())
    matrix.scales[5] = np.inf
    stored = StoredTensor(matrix.shape, "int8", lambda: dequantize(matrix), lambda: matrix)
    broken = replace(checkpoint, tensors={**checkpoint.tensors, name: stored})
    with pytest.raises(BadInput, match=name):
        cpu_backend(broken, "int8")


PRINT_LOGITS = """
import sys
from pathlib import Path
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.generate.cpu.backend import cpu_backend
from gpt2lab.generate.cpu.kernels import DOTS_OF_BYTES, WIDE_REGISTERS
import numpy as np
made = open_model(sys.argv[1])
for weights, bits in (("int8", 8), ("int4", 16)):
    backend = cpu_backend(made, weights, 1, bits)
    backend.reserve(2)
    print(backend.prefill(np.arange(30, dtype=np.int32), 0, np.array([1, 0], np.int32)).tobytes().hex())
print(WIDE_REGISTERS or DOTS_OF_BYTES, file=sys.stderr)
"""


@pytest.mark.slow
def test_the_oldest_processor_computes_the_same_bits(small_model, tmp_path):
    """numba compiles for what it is told to; instructions that this leaves out must not be asked for."""
    save_model_folder(tmp_path / "model", small_model.network, small_model.tokenizer, {})
    command = [sys.executable, "-c", PRINT_LOGITS, str(tmp_path / "model")]
    found = [
        subprocess.run(command, env=os.environ | given, check=True, capture_output=True, text=True)
        for given in ({}, {"NUMBA_CPU_NAME": "generic"})
    ]
    assert found[1].stderr == "False\n"
    assert len(found[0].stdout) > 1000
    assert found[0].stdout == found[1].stdout


def test_what_can_not_be_is_said(checkpoint, small_tokenizer, tmp_path):
    for options, message in (
        ({"weights": "int3"}, "int3"),
        ({"threads": 0}, "--threads 0"),
        ({"activation_bits": 4}, "--activation-bits 4"),
        ({"weights": "int4", "activation_bits": 8}, "--activation-bits 8"),
    ):
        with pytest.raises(BadOption, match=message):
            cpu_backend(checkpoint, **options)
    config = GPT2Config(small_tokenizer.vocab_size, n_layer=1, n_head=1, n_embd=40, context_length=96)
    with pytest.raises(BadOption, match="groups of 32"):
        cpu_backend(checkpoint_of(config, small_tokenizer, tmp_path), "int4")


def test_torch_is_not_imported():
    code = "import sys, gpt2lab.generate.cpu.backend, gpt2lab.generate.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
