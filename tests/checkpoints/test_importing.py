"""`import` makes a model folder of what comes from elsewhere: nothing is lost, and what was done is said."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.importing import import_model
from gpt2lab.checkpoints.model_folder import load_model_folder, save_model_folder
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.generate.language_model import LanguageModel


@pytest.fixture
def folder(tmp_path, small_model):
    path = tmp_path / "from_elsewhere"
    save_model_folder(path, small_model.network, small_model.tokenizer, {"made_by": "a test"})
    return path


def padded(folder, rows):
    """Rows beyond the tokenizer's ids, as vocabularies padded for speed have."""
    weights = load_file(folder / "model.safetensors")
    wte = weights["transformer.wte.weight"]
    weights["transformer.wte.weight"] = torch.cat([wte, torch.randn(rows, wte.shape[1])])
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": len(wte) + rows}))


def same_weights(first, second):
    return all(np.array_equal(first.tensors[name].read(), second.tensors[name].read()) for name in first.tensors)


def test_an_imported_model_is_the_same_and_says_where_it_came_from(folder, tmp_path):
    made = import_model(folder, tmp_path / "mine")
    assert same_weights(open_model(folder), open_model(tmp_path / "mine"))
    story = read_provenance(tmp_path / "mine")
    assert story["made_by"] == "gpt2lab import"
    assert story["source_provenance"] == {"made_by": "a test"}
    assert set(story["files"]) == {"model.safetensors", "config.json"}
    assert made.parameters == sum(p.numel() for p in GPT2LMHeadModel.from_pretrained(tmp_path / "mine").parameters())


def test_rows_without_a_token_are_left_out_unless_they_are_to_be_kept(folder, tmp_path, small_model):
    padded(folder, 64)
    made = import_model(folder, tmp_path / "cut")
    assert any("64 rows without a token" in note for note in made.notes)
    network, _ = load_model_folder(tmp_path / "cut")
    assert torch.equal(network.wte.weight, small_model.network.wte.weight)
    import_model(folder, tmp_path / "kept", keep_padding=True)
    assert open_model(tmp_path / "kept").config.vocab_size == small_model.tokenizer.vocab_size + 64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_keep_their_type_and_load_as_float32(folder, tmp_path, dtype):
    import_model(folder, tmp_path / "half", dtype=dtype)
    import_model(tmp_path / "half", tmp_path / "again")
    again = open_model(tmp_path / "again")
    assert {tensor.dtype for tensor in again.tensors.values()} == {dtype}
    assert same_weights(open_model(tmp_path / "half"), again)
    network, _ = load_model_folder(tmp_path / "again")
    reference = GPT2LMHeadModel.from_pretrained(tmp_path / "again", dtype=torch.float32)
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


def test_weights_that_are_not_finite_are_named_and_nothing_is_left(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.ln_2.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"h\.1\.ln_2\.bias holds numbers that are not finite"):
        import_model(folder, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["from_elsewhere"]


def test_a_folder_with_something_else_in_it_is_not_replaced(folder, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadOption, match="holds something that"):
        import_model(folder, tmp_path / "notes")
    with pytest.raises(BadOption, match="holds something that"):
        import_model(folder, folder)
    import_model(folder, tmp_path / "mine")
    import_model(folder, tmp_path / "mine")  # its own work may be done again


def test_a_model_without_a_tokenizer_needs_one(folder, tmp_path, small_model):
    for name in ("merges.txt", "vocab.json", "tokenizer.json", "tokenizer.tiktoken"):
        (folder / name).rename(tmp_path / name)
    with pytest.raises(BadInput, match="has no tokenizer; import it with --tokenizer"):
        import_model(folder, tmp_path / "mine")
    with pytest.raises(BadOption, match="has 50,257 ids, the model's vocabulary only 320"):
        import_model(folder, tmp_path / "mine", tokenizer="gpt2")
    import_model(folder, tmp_path / "mine", tokenizer=str(tmp_path / "tokenizer.json"))
    assert open_model(tmp_path / "mine").required_tokenizer().sha256 == small_model.tokenizer.sha256


def test_writing_to_an_opened_model_never_changes_its_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    network, _ = load_model_folder(folder)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_model_that_was_opened_trains_as_one_that_was_made(folder, small_model):
    opened, _ = load_model_folder(folder)
    made, _ = load_model_folder(folder)
    made.load_state_dict(
        {name: tensor.clone().contiguous() for name, tensor in opened.state_dict().items()}, assign=True
    )
    tokens = torch.randint(0, 320, (2, 17), generator=torch.Generator().manual_seed(0))
    for network in (opened, made):
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        for _ in range(3):
            network.loss(tokens[:, :-1], tokens[:, 1:]).backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, first), second in zip(opened.named_parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0, msg=name)


def test_exact_gelu_is_kept(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"activation_function": "gelu"}))
    import_model(folder, tmp_path / "mine")
    network, _ = load_model_folder(tmp_path / "mine")
    reference = GPT2LMHeadModel.from_pretrained(tmp_path / "mine")
    assert network.config.activation_function == "gelu"
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nothing/here/at/all", "no such file or folder"), ("notes.txt", "no model in a format known here")],
)
def test_what_is_no_model_is_refused(tmp_path, name, words):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadInput, match=words):
        open_model(tmp_path / name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_taken_for_the_folder_here(name):
    with pytest.raises(BadInput, match="the model's name is empty; give a model folder"):
        open_model(name)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(BadInput, match="no model in this folder"):
        open_model(tmp_path)


def test_a_tokenizer_far_too_small_is_refused(folder, tmp_path):
    padded(folder, 1024)
    with pytest.raises(BadInput, match="1,344 rows, its tokenizer 320 ids; that is no padding"):
        import_model(folder, tmp_path / "mine")
    import_model(folder, tmp_path / "mine", keep_padding=True)


def test_padding_takes_no_share_of_a_probability(folder, small_model):
    padded(folder, 64)
    assert LanguageModel.load(folder).network.config.vocab_size == small_model.tokenizer.vocab_size
