"""Model folders load in transformers as they are, and broken ones are refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.exporting import export_model
from gpt2lab.checkpoints.importing import import_model
from gpt2lab.checkpoints.inspection import inspect_model, inspection_text
from gpt2lab.checkpoints.model_folder import load_model_folder, save_model_folder
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import read_provenance


@pytest.fixture
def folder(tmp_path, small_model):
    path = tmp_path / "model"
    save_model_folder(path, small_model.network, small_model.tokenizer, {"made_by": "a test"})
    return path


def test_transformers_loads_a_model_folder_as_it_is(folder, small_model, sentences):
    reference = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokens = torch.tensor([small_model.tokenizer.encode(sentences[0])[:32]])
    with torch.inference_mode():
        torch.testing.assert_close(reference(tokens).logits, small_model.network(tokens), atol=1e-4, rtol=0)
    assert AutoTokenizer.from_pretrained(folder)(sentences[0])["input_ids"] == small_model.tokenizer.encode(
        sentences[0]
    )


def test_a_model_folder_comes_back_bit_for_bit(folder, small_model):
    network, tokenizer = load_model_folder(folder)
    assert network.config == small_model.network.config
    assert tokenizer.sha256 == small_model.tokenizer.sha256
    assert read_provenance(folder) == {"made_by": "a test"}
    for name, parameter in small_model.network.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name


def test_weights_without_the_prefix_and_with_mask_buffers_load(folder, small_model):
    weights = load_file(folder / "model.safetensors")
    older = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    older["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(older, folder / "model.safetensors")
    network, _ = load_model_folder(folder)
    assert torch.equal(network.wte.weight, small_model.network.wte.weight)


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("transformer.h.1.mlp.c_fc.weight"), r"missing, first of them h\.1\.mlp\.c_fc\.weight"),
        (lambda w: w.update({"transformer.h.9.ln_1.bias": torch.zeros(1)}), r"first of them h\.9\.ln_1\.bias"),
        (lambda w: w.update({"transformer.ln_f.bias": torch.zeros(3)}), r"ln_f\.bias has shape \[3\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, words):
    change_weights(folder, change)
    with pytest.raises(BadInput, match=words):
        load_model_folder(folder)


def test_a_file_cut_short_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        load_model_folder(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(BadInput, match="320 ids, the model's vocabulary only 300"):
        load_model_folder(folder)


def test_another_architecture_is_refused(folder, tmp_path):
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadInput, match="not the config of a GPT-2"):
        load_model_folder(folder)
    with pytest.raises(BadInput, match="no model folder"):
        load_model_folder(tmp_path)


def test_a_head_of_its_own_is_taken_as_transformers_takes_it_whatever_the_config_says(folder):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model_folder(folder)[0].config.tie_word_embeddings
    weights["lm_head.weight"] += 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    network, _ = load_model_folder(folder)
    reference = GPT2LMHeadModel.from_pretrained(folder)
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), reference(tokens).logits, atol=1e-4, rtol=0)
    assert any("another lm_head.weight" in note for note in open_model(folder).notes)


def test_a_tensor_under_two_names_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"wte.weight": weights["transformer.wte.weight"] + 1}, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"wte\.weight twice"):
        load_model_folder(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": ["gelu"]}, r"activation_function \['gelu'\] is neither"),
        ({"n_inner": 3, "n_embd": None}, "n_embd is None, not a whole number"),
        ({"n_layer": True}, "n_layer is True, not a whole number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', neither true nor false"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
    ],
)
def test_a_config_with_strange_values_is_refused_by_name(folder, change, words):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(BadInput, match=words):
        load_model_folder(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"n_layer": ' + "1" * 5000 + "}"])
def test_json_that_python_cannot_hold_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json: not valid JSON"):
        load_model_folder(folder)


@pytest.mark.parametrize(
    "text",
    [
        '{"result": {"steps": []}}',
        '{"source_provenance": ' * 900 + "1" + "}" * 900,
        '{"val_loss": NaN, "made_by": "\\ud800"}',
        '{"made_by": "\\u001b[31mred\\u0007"}',
    ],
)
def test_a_strangers_provenance_does_no_harm(folder, tmp_path, text):
    (folder / "provenance.json").write_text(text)
    import_model(folder, tmp_path / "\udcff")
    export_model(tmp_path / "\udcff", tmp_path / "\udcff.gguf", "gguf")
    told = inspection_text(inspect_model(open_model(tmp_path / "\udcff.gguf")))
    assert told.replace("\n", "").isprintable()
    json.dumps(read_provenance(tmp_path / "\udcff"), allow_nan=False)
