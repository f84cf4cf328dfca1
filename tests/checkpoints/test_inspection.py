"""Inspection: figures are numpy's own, what is broken is named, and what is sound is left in peace."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from gpt2lab.checkpoints.inspection import inspect_model, inspection_text
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor, published_shapes
from gpt2lab.model.config import GPT2Config, gpt2_size
from gpt2lab.model.gpt2 import GPT2


def trained_looking(config, seed=0):
    """Weights that no one would suspect: every tensor random, positions smooth."""
    chooser = np.random.default_rng(seed)
    arrays = {}
    for name, shape in published_shapes(config).items():
        middle = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
        arrays[name] = chooser.normal(middle, 0.14, shape).astype(np.float32)
    arrays["wpe.weight"] = np.cumsum(arrays["wpe.weight"], axis=0) * np.float32(0.1)
    return arrays


@pytest.fixture
def config(small_tokenizer):
    return GPT2Config(vocab_size=small_tokenizer.vocab_size, context_length=32, n_layer=5, n_head=4, n_embd=64)


def checkpoint_of(config, arrays, tokenizer=None, **fields):
    tensors = {name: StoredTensor.of(array) for name, array in arrays.items()}
    return Checkpoint(Path("some/model"), "made", config, tensors, tokenizer, **fields)


def suspected(config, tokenizer, change, **fields):
    """(flag, tensors) of what is suspected after a change of sound weights."""
    arrays = trained_looking(config)
    change(arrays)
    found = inspect_model(checkpoint_of(config, arrays, tokenizer, **fields))
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    for suspicion in found.suspicions:
        for name in suspicion.tensors:
            assert suspicion.flag in next(fact for fact in found.tensors if fact.name == name).flags
    return [(suspicion.flag, suspicion.tensors) for suspicion in found.suspicions]


def test_figures_are_those_of_the_weights(config, small_tokenizer):
    arrays = trained_looking(config)
    arrays["wte.weight"] = arrays["wte.weight"].astype(np.float16)
    arrays["wpe.weight"] = arrays["wpe.weight"].astype(ml_dtypes.bfloat16)
    found = inspect_model(checkpoint_of(config, arrays, small_tokenizer, notes=("A note.",)))
    assert [fact.name for fact in found.tensors] == list(arrays)
    for fact in found.tensors:
        wide = arrays[fact.name].astype(np.float64)
        assert fact.rms == pytest.approx(np.sqrt(np.mean(wide**2)), rel=1e-5)
        assert (fact.smallest, fact.largest) == (wide.min(), wide.max())
        assert (fact.shape, fact.dtype) == (wide.shape, arrays[fact.name].dtype.name)
        assert (fact.nan, fact.infinite, fact.flags) == (0, 0, ())
    assert found.suspicions == ()
    assert found.parameters == sum(array.size for array in arrays.values())
    assert found.parameters - found.parameters_without_positions == 32 * 64
    assert found.bytes_by_dtype["float16"] == arrays["wte.weight"].nbytes
    assert sum(found.bytes_by_dtype.values()) == sum(array.nbytes for array in arrays.values())
    assert (found.tokenizer.ids, found.tokenizer.is_gpt2, found.tokenizer.padding) == (320, False, 0)
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_every_tensor_is_read_once(config):
    reads = Counter()

    def counting(name, array):
        def read():
            reads[name] += 1
            return array

        return StoredTensor(array.shape, "float32", read)

    tensors = {name: counting(name, array) for name, array in trained_looking(config).items()}
    inspect_model(Checkpoint(Path("some/model"), "made", config, tensors))
    assert reads == Counter(tensors.keys())


def test_the_table_has_a_row_for_each_kind_or_each_tensor(config, small_tokenizer):
    found = inspect_model(
        checkpoint_of(
            config,
            trained_looking(config),
            small_tokenizer,
            notes=("Long notes are wrapped. " * 9,),
            provenance={"made_by": "me"},
        )
    )
    text = inspection_text(found)
    assert "Nothing suspicious in 64 tensors." in text
    assert "provenance: made by me" in text
    table = text.partition("\ntensor ")[2].splitlines()[1:]
    assert len(table) == 2 + 12 + 2
    assert ["h.0-4.attn.c_attn.weight", "[64,", "192]", "float32"] in [line.split()[:4] for line in table]
    every = inspection_text(found, every_tensor=True).partition("\ntensor ")[2].splitlines()[1:]
    assert [line.split()[0] for line in every] == list(published_shapes(config))
    assert max(map(len, [*text.splitlines(), *every])) <= 100


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (gpt2_size("nano", 320), "the shape of nano, with another vocabulary"),
        (
            GPT2Config(vocab_size=320, context_length=32, n_layer=6, n_head=12, n_embd=768),
            "the shape of distilgpt2, with",
        ),
        (GPT2Config(vocab_size=320, context_length=32, n_layer=2, n_head=2, n_embd=8), "a GPT-2 of no published size"),
    ],
)
def test_known_shapes_are_named(size, told):
    arrays = {name: np.broadcast_to(np.float32(0.1), shape) for name, shape in published_shapes(size).items()}
    assert told in inspection_text(inspect_model(checkpoint_of(size, arrays)))


def test_fresh_weights_are_recognised_and_nothing_else_is_said(config, small_tokenizer):
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(0))
    found = inspect_model(Checkpoint(Path("fresh"), "network", config, published_weights(network), small_tokenizer))
    assert [suspicion.flag for suspicion in found.suspicions] == ["fresh"]
    assert "the whole model: norms 1, biases 0" in inspection_text(found)


def exchange_in(name, other):
    def change(arrays):
        arrays[name], arrays[other] = arrays[other], arrays[name]

    return change


def put(name, place, value):
    return lambda arrays: arrays[name].__setitem__(place, value)


def scale(name, factor):
    return lambda arrays: arrays[name].__imul__(factor)


def copy_row(arrays):
    arrays["wte.weight"][9] = arrays["wte.weight"][2]


def copy_matrix(arrays):
    arrays["h.3.attn.c_proj.weight"] = arrays["h.0.attn.c_proj.weight"].copy()


def copy_layer(arrays):
    for name in list(arrays):
        if name.startswith("h.1."):
            arrays[name.replace("h.1.", "h.4.")] = arrays[name].copy()


def without_biases(arrays):
    for name in arrays:
        if name.endswith("bias"):
            arrays[name][...] = 0


def as_new(arrays):
    arrays["ln_f.weight"][...] = 1
    arrays["ln_f.bias"][...] = 0


@pytest.mark.parametrize(
    ("change", "flags", "tensors"),
    [
        (put("h.3.mlp.c_fc.weight", (5, 7), np.nan), ["not finite"], ["h.3.mlp.c_fc.weight"]),
        (put("wte.weight", (5, 7), np.inf), ["not finite"], ["wte.weight"]),
        (put("h.2.attn.c_attn.weight", ..., np.nan), ["not finite"], ["h.2.attn.c_attn.weight"]),
        (put("h.2.attn.c_attn.weight", ..., 0), ["zero"], ["h.2.attn.c_attn.weight"]),
        (put("h.2.attn.c_attn.bias", ..., 0), ["zero"], ["h.2.attn.c_attn.bias"]),
        (put("wte.weight", ..., 0), ["zero"], ["wte.weight"]),
        (put("h.2.attn.c_attn.bias", ..., 0.5), ["constant"], ["h.2.attn.c_attn.bias"]),
        (as_new, ["as new"], ["ln_f.weight", "ln_f.bias"]),
        (put("wte.weight", slice(3, 9), 0), ["zero rows"], ["wte.weight"]),
        (put("wpe.weight", slice(16, 32), 0), ["zero rows"], ["wpe.weight"]),
        (copy_row, ["equal rows"], ["wte.weight"]),
        (copy_matrix, ["equal layers"], ["h.0.attn.c_proj.weight", "h.3.attn.c_proj.weight"]),
        (scale("h.3.ln_2.bias", 1000), ["size"], ["h.3.ln_2.bias"]),
        (scale("h.3.mlp.c_proj.weight", 1e-3), ["size"], ["h.3.mlp.c_proj.weight"]),
        (put("h.0.ln_1.weight", 3, -40_000), ["size", "large"], ["h.0.ln_1.weight"]),
        (put("wte.weight", 3, 3e38), ["large"], ["wte.weight"]),
    ],
)
def test_what_is_broken_is_named_and_nothing_else(config, small_tokenizer, change, flags, tensors):
    assert suspected(config, small_tokenizer, change) == [(flag, tuple(tensors)) for flag in flags]


def test_half_precision_near_its_end_is_named(config, small_tokenizer):
    def change(arrays):
        arrays["h.1.mlp.c_fc.weight"] = arrays["h.1.mlp.c_fc.weight"].astype(np.float16)
        arrays["h.1.mlp.c_fc.weight"][0, 0] = 60_000

    assert ("large", ("h.1.mlp.c_fc.weight",)) in suspected(config, small_tokenizer, change)


def test_quantized_weights_count_the_bytes_they_are_stored_in(config):
    arrays = trained_looking(config)
    tensors = {
        name: StoredTensor(array.shape, "q8_0" if array.ndim == 2 else "float32", lambda array=array: array)
        for name, array in arrays.items()
    }
    found = inspect_model(Checkpoint(Path("some/model"), "made", config, tensors))
    assert found.bytes_by_dtype["q8_0"] == sum(array.size for array in arrays.values() if array.ndim == 2) // 32 * 34


def test_a_copied_layer_and_absent_biases_are_told_in_one_line_each(config, small_tokenizer):
    ((flag, tensors),) = suspected(config, small_tokenizer, copy_layer)
    assert flag == "equal layers"
    assert {name.split(".")[1] for name in tensors} == {"1", "4"}
    ((flag, tensors),) = suspected(config, small_tokenizer, without_biases)
    assert flag == "zero"
    assert len(tensors) == 5 * 6 + 1


def test_the_rows_of_padding_are_no_suspicion(config, small_tokenizer):
    padded = dataclasses.replace(config, vocab_size=384)
    arrays = trained_looking(padded)
    arrays["wte.weight"][320:] = 0
    found = inspect_model(checkpoint_of(padded, arrays, small_tokenizer))
    assert found.suspicions == ()
    assert "320 ids, 64 rows of padding in wte" in inspection_text(found)
    (without_tokenizer,) = inspect_model(checkpoint_of(padded, arrays)).suspicions
    assert without_tokenizer.what == "64 of 384 rows are all zero (320, 321, 322, 323, 324, ...)"


def test_embeddings_in_each_others_place_are_named_where_their_shapes_allow_it(small_tokenizer):
    square = GPT2Config(vocab_size=320, context_length=320, n_layer=1, n_head=4, n_embd=64)
    assert suspected(square, small_tokenizer, lambda arrays: None) == []
    assert suspected(square, small_tokenizer, exchange_in("wte.weight", "wpe.weight")) == [
        ("exchanged", ("wte.weight", "wpe.weight"))
    ]


def test_a_folder_is_inspected_without_torch(tmp_path, small_model):
    save_model_folder(
        tmp_path / "model", small_model.network, small_model.tokenizer, {"made_by": "a test", "result": {"steps": 7}}
    )
    program = (
        "import sys; from pathlib import Path\n"
        "from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face\n"
        "from gpt2lab.checkpoints.inspection import inspect_model, inspection_text\n"
        "print(inspection_text(inspect_model(read_hugging_face(Path(sys.argv[1])))))\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "model")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "provenance: made by a test, steps 7" in ran.stdout
