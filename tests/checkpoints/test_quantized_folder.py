"""Folders of quantized weights open like any model, no other tool takes them for one, and damaged ones are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.checkpoints.exported import random_model

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.exporting import export_model
from gpt2lab.checkpoints.importing import import_model
from gpt2lab.checkpoints.inspection import inspect_model, inspection_text
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.checkpoints.quantization import dequantize
from gpt2lab.checkpoints.quantizing import quantize_model
from gpt2lab.checkpoints.safetensors_files import write_safetensors
from gpt2lab.checkpoints.weights import TRANSPOSED, StoredTensor, published_shapes
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2

WEIGHTS = "quantized.safetensors"


@pytest.fixture(scope="module")
def folder(small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    save_model_folder(path, small_model.network, small_model.tokenizer, {"made_by": "a test"})
    return path


@pytest.fixture(scope="module")
def quantized(folder, tmp_path_factory):
    made = {kind: tmp_path_factory.mktemp(kind) / "model" for kind in ("int8", "int4", "bfloat16")}
    for kind, path in made.items():
        quantize_model(folder, path, kind)
    return made


@pytest.fixture
def copy(quantized, tmp_path):
    """A copy of the int4 folder, to be damaged."""
    path = tmp_path / "copy"
    path.mkdir()
    for file in quantized["int4"].iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


def test_the_layout_is_the_documented_one(folder, quantized):
    before = open_model(folder).tensors
    for kind, path in quantized.items():
        if kind == "bfloat16":
            assert "quantization" not in json.loads((path / "config.json").read_text())
            continue
        assert json.loads((path / "config.json").read_text())["quantization"] == {"weights": kind}
        stored = load_file(path / WEIGHTS)
        shapes = {name: (str(array.dtype), array.shape) for name, array in stored.items()}
        assert shapes["wte.weight"] == ("int8", (320, 64))
        assert shapes["wte.weight_scale"] == ("float32", (320,))
        assert shapes["wpe.weight"] == ("float32", (32, 64))
        if kind == "int8":
            assert shapes["h.1.attn.c_attn.weight"] == ("int8", (64, 192))
            assert shapes["h.1.attn.c_attn.weight_scale"] == ("float32", (192,))
            expanded = stored["h.0.mlp.c_proj.weight"] * stored["h.0.mlp.c_proj.weight_scale"]
        else:
            assert shapes["h.1.attn.c_attn.weight"] == ("uint8", (32, 192))
            assert shapes["h.1.attn.c_attn.weight_scale"] == ("float16", (2, 192))
            nibbles, scale = stored["h.0.mlp.c_proj.weight"], stored["h.0.mlp.c_proj.weight_scale"]
            whole = np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(256, 64).astype(np.float32) - 8
            expanded = whole * np.repeat(scale.astype(np.float32), 32, axis=0)
        found = open_model(path)
        assert np.array_equal(found.tensors["h.0.mlp.c_proj.weight"].read(), expanded)
        matrices = {name for name, tensor in found.tensors.items() if tensor.quantized is not None}
        assert matrices == {name for name in before if name.endswith((*TRANSPOSED, "wte.weight"))}
        for name, tensor in found.tensors.items():
            assert (tensor.shape, tensor.float_type) == (before[name].shape, "float32")
            if tensor.quantized is None:
                assert np.array_equal(tensor.read(), before[name].read())
            else:
                assert np.array_equal(tensor.read(), dequantize(tensor.quantized()))
                assert tensor.quantized().shape == tensor.shape


@pytest.mark.parametrize("variant", ["untied", "padded", "padded and untied", "exact gelu, other epsilon"])
def test_models_of_every_kind_stay_what_they_are(variant, small_tokenizer, tmp_path):
    model = random_model(small_tokenizer, variant)
    save_model_folder(tmp_path / "model", model.network, model.tokenizer, {})
    quantize_model(tmp_path / "model", tmp_path / "made", "int8")
    before, after = open_model(tmp_path / "model"), open_model(tmp_path / "made")
    assert after.config == before.config
    assert after.tokenizer.sha256 == before.tokenizer.sha256
    if not before.config.tie_word_embeddings:
        assert after.tensors["lm_head.weight"].quantized().by_row
    tokens = torch.tensor([small_tokenizer.encode("The cat in the garden sees the dog.")])
    with torch.inference_mode():
        ours, theirs = (LanguageModel.load(tmp_path / name).network(tokens) for name in ("made", "model"))
    assert float((ours - theirs).std() / theirs.std()) < 0.05


def test_every_verb_takes_a_quantized_folder_as_the_float32_model_it_stands_for(quantized, tmp_path):
    for kind in ("int8", "int4"):
        source = quantized[kind]
        numbers = {name: tensor.read() for name, tensor in open_model(source).tensors.items()}
        import_model(source, tmp_path / kind / "imported")
        export_model(source, tmp_path / kind / "hf", "hf")
        export_model(source, tmp_path / kind / "model.gguf", "gguf")
        for made in ("imported", "hf", "model.gguf"):
            found = open_model(tmp_path / kind / made).tensors
            assert all(np.array_equal(found[name].read(), array) for name, array in numbers.items())
        text = inspection_text(inspect_model(open_model(source)))
        assert f"attn.c_attn.weight   [64, 192]      {kind} " in text
        assert "made by gpt2lab quantize" in text
        assert "before that: made by a test" in text
        assert inspect_model(open_model(source)).bytes_by_dtype.keys() == {"int8", "float32", kind}
        assert LanguageModel.load(source).generate("The cat", max_tokens=3).tokens <= 3


def test_another_tool_says_that_there_are_no_weights(quantized):
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel

    for load in (AutoModelForCausalLM.from_pretrained, GPT2LMHeadModel.from_pretrained):
        with pytest.raises(OSError, match=r"no file named model\.safetensors"):
            load(quantized["int8"])
        load(quantized["bfloat16"])


def test_a_model_quantized_twice_is_said_and_the_same_type_changes_nothing(quantized, tmp_path):
    made = quantize_model(quantized["int8"], tmp_path / "again", "int8")
    assert made.notes == ("Its weights are int8 already; what that lost stays lost.",)
    assert all(error.largest == 0 for error in made.errors)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (quantized["int8"] / WEIGHTS).read_bytes()


def test_what_was_made_is_told_in_figures(folder, tmp_path):
    made = quantize_model(folder, tmp_path / "made", "int4")
    before, after = open_model(folder).tensors, open_model(tmp_path / "made").tensors
    assert made.bytes == (tmp_path / "made" / WEIGHTS).stat().st_size
    assert made.float32_bytes == 4 * sum(tensor.size for tensor in before.values())
    for error in made.errors:
        difference = after[error.name].read() - before[error.name].read()
        assert error.largest == np.abs(difference).max()
        norm = np.linalg.norm(before[error.name].read())
        assert error.relative == pytest.approx(np.linalg.norm(difference) / norm if norm else 0, rel=1e-5)
    provenance = read_provenance(tmp_path / "made")
    assert provenance["made_by"] == "gpt2lab quantize"
    assert provenance["weights"] == "int4"
    assert provenance["source_provenance"] == {"made_by": "a test"}
    assert set(provenance["files"]) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("kind", ["int8", "int4", "bfloat16"])
@pytest.mark.parametrize("name", ["h.1.mlp.c_fc.weight", "wte.weight"])
def test_weights_that_are_not_finite_are_refused_by_name_and_nothing_is_left(kind, name, folder, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for file in folder.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    weights = dict(load_file(source / "model.safetensors"))
    weights[f"transformer.{name}"][7, 3] = np.nan
    save_file(weights, source / "model.safetensors")
    with pytest.raises(BadInput, match=f"{name} holds numbers that are not finite"):
        quantize_model(source, out, kind)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_width_that_is_no_multiple_of_32_has_int8_only(small_tokenizer, tmp_path):
    network = GPT2(GPT2Config(vocab_size=320, context_length=8, n_layer=1, n_head=3, n_embd=48))
    network.initialize(torch.Generator().manual_seed(1))
    save_model_folder(tmp_path / "model", network, small_tokenizer, {})
    with pytest.raises(BadInput, match=r"width of 48 is no multiple of 32.*take int8"):
        quantize_model(tmp_path / "model", tmp_path / "made", "int4")
    quantize_model(tmp_path / "model", tmp_path / "made", "int8")
    assert open_model(tmp_path / "made").tensors["h.0.attn.c_attn.weight"].shape == (48, 144)


def test_nothing_but_its_own_work_is_replaced(folder, quantized, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadOption, match="holds something that `gpt2lab quantize` did not make"):
        quantize_model(folder, tmp_path / "notes", "int8")
    with pytest.raises(BadOption, match="holds something that"):
        quantize_model(folder, folder, "int8")
    with pytest.raises(BadOption, match="is the model itself"):
        quantize_model(quantized["int8"], quantized["int8"], "int8")
    quantize_model(folder, tmp_path / "made", "int8")
    (tmp_path / "made" / "quality.json").write_text("{}")
    quantize_model(folder, tmp_path / "made", "bfloat16")
    assert not (tmp_path / "made" / WEIGHTS).exists()


def spoil(change):
    def spoil_weights(folder):
        weights = dict(load_file(folder / WEIGHTS))
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return spoil_weights


def set_config(value):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization": value}))

    return change


def cut_short(folder):
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 1)


MATRIX = "h.0.mlp.c_fc.weight"
DAMAGES = {
    "no scales": (spoil(lambda w: w.pop(f"{MATRIX}_scale")), f"{MATRIX} is quantized, and its scales"),
    "no values": (spoil(lambda w: w.pop(MATRIX)), f"1 tensor is missing, first of them {MATRIX}"),
    "scales of another shape": (
        spoil(lambda w: w.update({f"{MATRIX}_scale": w[f"{MATRIX}_scale"][:1].copy()})),
        "do not belong together",
    ),
    "scales of another type": (
        spoil(lambda w: w.update({"wte.weight_scale": w["wte.weight_scale"].astype(np.float16)})),
        "do not belong together",
    ),
    "an embedding in four bits": (spoil(lambda w: w.update({"wte.weight": w["wte.weight"].view(np.uint8)})), "do not"),
    "quantized norms": (
        spoil(lambda w: w.update({"ln_f.weight": np.ones(64, np.int8), "ln_f.weight_scale": np.ones(64, np.float32)})),
        "only matrices are quantized",
    ),
    "scales of what is not quantized": (
        spoil(lambda w: w.update({"wpe.weight_scale": np.ones(32, np.float32)})),
        "of no GPT-2 of this config .*, first of them wpe.weight_scale",
    ),
    "another width": (
        spoil(lambda w: w.update({MATRIX: w[MATRIX][:16].copy(), f"{MATRIX}_scale": w[f"{MATRIX}_scale"][:1].copy()})),
        "disagrees with the config",
    ),
    "a tensor missing": (spoil(lambda w: w.pop("ln_f.bias")), "1 tensor is missing, first of them ln_f.bias"),
    "whole numbers of another kind": (
        spoil(lambda w: w.update({"wte.weight": w["wte.weight"].astype(np.int16)})),
        "wte.weight_scale",
    ),
    "another type in the config": (set_config({"weights": "int3"}), "known are weights of int8 and int4"),
    "another tool's config": (set_config({"group_size": 64, "bits": 4}), "known are weights of int8 and int4"),
    "no word of it in the config": (set_config(None), r"no weights here \(no model.safetensors"),
    "cut short": (cut_short, "not a whole safetensors file"),
    "no file": (lambda folder: (folder / WEIGHTS).unlink(), "no such file, though config.json beside it says"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_by_what_is_wrong(damage, copy):
    change, message = DAMAGES[damage]
    change(copy)
    with pytest.raises(BadInput, match=message) as refused:
        open_model(copy)
    assert "\n" not in str(refused.value)
    assert str(copy) in str(refused.value)


def test_whole_numbers_are_no_weights_where_the_config_does_not_say_so(copy):
    set_config(None)(copy)
    (copy / WEIGHTS).rename(copy / "model.safetensors")
    with pytest.raises(BadInput, match="scale"):
        open_model(copy)


@pytest.mark.parametrize("kind", ["int8", "int4", "bfloat16"])
def test_a_model_is_quantized_in_much_less_memory_than_it_takes(kind, small_tokenizer, tmp_path):
    config = GPT2Config(vocab_size=small_tokenizer.vocab_size, context_length=32, n_layer=24, n_head=8, n_embd=512)
    numbers = np.random.default_rng(0).standard_normal(1 << 20, np.float32)

    def drawn(shape: tuple[int, ...]) -> StoredTensor:
        return StoredTensor(shape, "float32", lambda: np.resize(numbers, shape))

    source = tmp_path / "model"
    network = GPT2(GPT2Config(vocab_size=small_tokenizer.vocab_size, n_layer=1, n_head=8, n_embd=512))
    save_model_folder(source, network, small_tokenizer, {})
    tensors = {f"transformer.{name}": drawn(shape) for name, shape in published_shapes(config).items()}
    write_safetensors(source / "model.safetensors", tensors)
    of_file = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(of_file | {"n_layer": 24, "n_positions": 32}))
    size = (source / "model.safetensors").stat().st_size
    assert size > 300_000_000
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.peak_memory import peak_memory_bytes\n"
        "from gpt2lab.checkpoints.opening import open_model\n"
        "from gpt2lab.checkpoints.quantizing import quantize_model\n"
        "open_model(sys.argv[1])\n"
        "before = peak_memory_bytes()\n"
        "quantize_model(sys.argv[1], Path(sys.argv[2]), sys.argv[3])\n"
        "print(before, peak_memory_bytes(), 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "made"), kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    before, peak, torch_imported = done.stdout.split()
    assert torch_imported == "False"
    assert int(peak) - int(before) < size / 3
