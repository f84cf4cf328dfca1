"""`export` writes whole files and folders, replaces only its own work, and no number goes bad on the way."""

import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.exporting import export_model
from gpt2lab.checkpoints.importing import import_model
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2


@pytest.fixture
def folder(tmp_path, small_model):
    path = tmp_path / "model"
    save_model_folder(path, small_model.network, small_model.tokenizer, {"made_by": "a test"})
    return path


def change(folder, change_weights):
    weights = load_file(folder / "model.safetensors")
    change_weights(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["thesis.txt", "model.safetensors", "pipe"])
def test_a_gguf_replaces_nothing_but_a_gguf(folder, name):
    out = folder / name
    if name == "thesis.txt":
        out.write_text("years of work")
    if name == "pipe":
        os.mkfifo(out)
    before = out.read_bytes() if out.is_file() else b""
    with pytest.raises(BadOption, match="would be replaced"):
        export_model(folder, out, "gguf")
    assert out.read_bytes() == before if out.is_file() else stat.S_ISFIFO(out.stat().st_mode)
    export_model(folder, folder / "model.gguf", "gguf")
    export_model(folder, folder / "model.gguf", "gguf", "float16")


def test_a_file_that_was_put_into_a_folder_of_ours_is_not_deleted_with_it(folder, tmp_path):
    for make in (lambda out: import_model(folder, out), lambda out: export_model(folder, out, "hf")):
        make(tmp_path / "made")
        export_model(folder, tmp_path / "made" / "mine.gguf", "gguf")
        with pytest.raises(BadOption, match=r"mine\.gguf in it is not from"):
            make(tmp_path / "made")
        (tmp_path / "made" / "mine.gguf").rename(tmp_path / "mine.gguf")
        make(tmp_path / "made")
        (tmp_path / "made").rename(tmp_path / f"made {len(list(tmp_path.iterdir()))}")


@pytest.mark.parametrize("out", ["", ".", ".."])
def test_a_folder_without_a_name_is_refused(folder, tmp_path, monkeypatch, out):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for make in (
        lambda: import_model(folder, type(folder)(out)),
        lambda: export_model(folder, type(folder)(out), "hf"),
    ):
        with pytest.raises(BadOption, match="name the folder that is to be made"):
            make()


@pytest.mark.parametrize("to", ["hf", "llm.c"])
def test_an_export_never_stands_there_without_its_provenance(folder, tmp_path, monkeypatch, to):
    """Killed between the two, its folder could not be replaced by running the same command again."""
    seen = []
    rename = type(folder).rename

    def recording(path, target):
        if str(target) == str(tmp_path / "out"):
            seen.append(read_provenance(path).get("made_by"))
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", recording)
    export_model(folder, tmp_path / "out", to)
    assert seen == ["gpt2lab export"]


@pytest.mark.parametrize(
    ("to", "dtype", "number"), [("hf", "float16", 7e4), ("hf", None, float("nan")), ("llm.c", None, float("inf"))]
)
def test_numbers_that_are_or_become_infinite_are_named(folder, tmp_path, to, dtype, number):
    change(folder, lambda weights: weights["transformer.h.1.mlp.c_fc.weight"].view(-1)[5:6].fill_(number))
    with pytest.raises(BadInput, match=r"h\.1\.mlp\.c_fc\.weight holds numbers that are not finite, or too large"):
        export_model(folder, tmp_path / "out", to, dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_of_several_types_keep_them(folder, tmp_path):
    """As in a GGUF of float16, whose norms and biases are float32."""

    def halve(weights):
        for name, tensor in weights.items():
            weights[name] = tensor.half() if tensor.ndim == 2 else tensor + 1e-6

    change(folder, halve)
    export_model(folder, tmp_path / "out", "hf")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in before.values()} == {"torch.float16", "torch.float32"}
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"
    assert open_model(tmp_path / "out").notes == ()


def test_matrices_that_q8_0_cannot_hold_are_told(tmp_path, small_tokenizer):
    config = GPT2Config(vocab_size=small_tokenizer.vocab_size, context_length=8, n_layer=1, n_head=1, n_embd=48)
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(0))
    save_model_folder(tmp_path / "model", network, small_tokenizer, {})
    made = export_model(tmp_path / "model", tmp_path / "out.gguf", "gguf", "q8_0")
    assert any("rows of 48 are float16" in note for note in made.notes)
    assert export_model(tmp_path / "model", tmp_path / "out.gguf", "gguf").notes == ()
