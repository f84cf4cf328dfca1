"""Generation: any prompt works, nothing is cut without being said, the same seed gives the same text."""

from dataclasses import replace

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.model.gpt2 import GPT2


@pytest.mark.parametrize("prompt", ["", "T", "The cat in the garden", "The cat in the garden sleeps. " * 40])
def test_any_prompt_can_be_continued(small_model, prompt):
    found = small_model.generate(prompt, max_tokens=80, seed=1)
    assert found.prompt == prompt
    assert found.tokens <= 80
    prompt_tokens = max(1, len(small_model.tokenizer.encode(prompt)))
    assert found.dropped_prompt_tokens == max(0, prompt_tokens - 32)
    if found.finish_reason == "length":
        assert found.tokens == 80
        assert found.window_slides >= 2


def test_greedy_text_equals_transformers(small_model, tmp_path):
    save_model_folder(tmp_path / "m", small_model.network, small_model.tokenizer, {})
    reference = GPT2LMHeadModel.from_pretrained(tmp_path / "m").eval()
    prompt = small_model.tokenizer.encode("The cat in")
    theirs = reference.generate(torch.tensor([prompt]), max_length=32, do_sample=False, pad_token_id=0)
    ours = small_model.generate("The cat in", max_tokens=32 - len(prompt), temperature=0)
    assert ours.text == small_model.tokenizer.decode(
        [token for token in theirs[0, len(prompt) :].tolist() if token != small_model.tokenizer.end_of_text]
    )


def test_the_slid_window_sees_the_newer_half(small_model):
    """After a slide the next token is the one a fresh prompt of the last half context would get."""
    ids = small_model.tokenizer.encode("The horse in the river hunts, and nobody sees it. " * 4)[:32]
    text = small_model.generate(small_model.tokenizer.decode(ids), max_tokens=2, temperature=0)
    first = small_model.generate(small_model.tokenizer.decode(ids), max_tokens=1, temperature=0)
    new_ids = [*ids, *small_model.tokenizer.encode(first.text)][-16:]
    logits = small_model.network(torch.tensor([new_ids]))[0, -1]
    assert text.window_slides == 1
    assert text.text == first.text + small_model.tokenizer.decode([int(logits.argmax())])


def test_the_same_seed_gives_the_same_text(small_model):
    texts = [small_model.generate("The", max_tokens=40, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_network_in_training_generates_without_dropout(small_model):
    network = GPT2(replace(small_model.network.config, resid_pdrop=0.5, embd_pdrop=0.5))
    network.load_state_dict(small_model.network.state_dict())
    model = LanguageModel(network, small_model.tokenizer)
    network.train()
    assert model.generate("The", max_tokens=20, seed=1).text == small_model.generate("The", max_tokens=20, seed=1).text
    assert all(module.training for module in network.modules())


def test_text_ends_before_a_stop_string_wherever_token_borders_fall(small_model):
    whole = small_model.generate("The", max_tokens=60, seed=4).text
    for start, length in ((5, 1), (9, 4), (20, 7)):
        stop = whole[start : start + length]
        found = small_model.generate("The", max_tokens=60, seed=4, stop=stop)
        assert found.finish_reason == "stop"
        assert found.text == whole[: whole.index(stop)]


def test_pieces_never_end_inside_a_character_or_a_stop_string(small_model):
    options = SamplingOptions(max_tokens=200, temperature=3.0, seed=2, stop=("\x00\x01never",))
    pieces = list(small_model.stream("", options))
    assert "".join(pieces) == small_model.generate("", options).text
    assert not any(piece.endswith("\x00") for piece in pieces[:-1])


def test_no_tokens_asked_for_gives_no_text(small_model):
    assert small_model.generate("The", max_tokens=0).text == ""


def test_weights_that_are_not_numbers_are_said(small_model, tmp_path):
    save_model_folder(tmp_path / "m", small_model.network, small_model.tokenizer, {})
    broken = LanguageModel.load(tmp_path / "m")
    with torch.no_grad():
        broken.network.ln_f.weight[0] = float("nan")
    with pytest.raises(BadInput, match="not numbers"):
        broken.generate("The")
