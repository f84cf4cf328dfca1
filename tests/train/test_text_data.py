"""A text of one's own as rows of tokens: what is held out, what is predicted, and that it fits any length."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.own_texts import Example, OwnTexts
from gpt2lab.model.config import GPT2Config
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.train.recipe import BatchConfig
from gpt2lab.train.recipes import finetune
from gpt2lab.train.text_data import TextData, prepare_texts


def own(*examples):
    made = tuple(example if isinstance(example, Example) else Example(example) for example in examples)
    return OwnTexts(made, (Path("mine.txt"),), 0)


def test_documents_are_held_out_whole_and_every_other_token_is_predicted_once(sentences, small_tokenizer):
    texts = prepare_texts(own(*sentences), small_tokenizer, 32, 0.1)
    assert sorted([*texts.train.texts, *texts.held_out.texts]) == sorted(sentences)
    train, held_out = (
        sum(len(small_tokenizer.encode(text)) for text in side.texts) for side in (texts.train, texts.held_out)
    )
    assert 0.05 <= held_out / (train + held_out) <= 0.1
    for side in (texts.train, texts.held_out):
        stream = [
            token for text in side.texts for token in (small_tokenizer.end_of_text, *small_tokenizer.encode(text))
        ]
        assert Counter(side.targets.tolist()) == Counter(stream[1:])
    again = prepare_texts(own(*sentences), small_tokenizer, 32, 0.1)
    assert again.held_out.texts == texts.held_out.texts


def test_each_epoch_predicts_every_token_once_but_cuts_at_other_places(sentences, small_tokenizer):
    texts = prepare_texts(own(*sentences[:20]), small_tokenizer, 32, 0.1)
    model = GPT2Config(vocab_size=small_tokenizer.vocab_size, context_length=32)
    recipe = replace(finetune(model), batch=BatchConfig(sequences=texts.train.sequences))
    data = TextData(recipe, own(*sentences[:20]), texts, small_tokenizer)
    epochs = [data.batch(step) for step in range(3)]
    for _, targets in epochs:
        assert Counter(targets[targets != IGNORED].tolist()) == Counter(texts.train.stream.tolist())
    assert len({tuple(sorted(map(tuple, inputs.tolist()))) for inputs, _ in epochs}) == 3
    assert (data.batch(1) == epochs[1]).all()


def test_copies_of_a_document_are_on_one_side(sentences, small_tokenizer):
    texts = prepare_texts(own(*sentences[:30], *sentences[:30]), small_tokenizer, 32, 0.1)
    assert not set(texts.train.texts) & set(texts.held_out.texts)


def test_of_a_single_text_the_last_part_is_held_out(sentences, small_tokenizer):
    whole = "\n".join(sentences[:20])
    texts = prepare_texts(own(whole), small_tokenizer, 32, 0.1)
    assert whole == texts.train.texts[0] + texts.held_out.texts[0]
    assert len(texts.held_out.targets) + 1 == round(0.1 * (len(small_tokenizer.encode(whole)) + 1))
    assert "tokens are held out" in texts.notes[0]


def test_a_text_shorter_than_the_context_is_cut_into_shorter_sequences(sentences, small_tokenizer):
    ids = small_tokenizer.encode("\n".join(sentences))[:2000]
    texts = prepare_texts(own(small_tokenizer.decode(ids)), small_tokenizer, 1024, 0.1)
    assert texts.sequence_length == 192
    assert texts.train.rows.shape[1] >= 8
    assert "sequences of 192 tokens, for the text is short (the context is 1,024)" in texts.notes[1]


def test_what_is_too_short_and_lengths_that_can_not_be_are_refused(sentences, small_tokenizer):
    with pytest.raises(BadInput, match=r"mine\.txt: too short to train on \(\d+ tokens, \d of them held out"):
        prepare_texts(own("The cat sleeps."), small_tokenizer, 32, 0.1)
    with pytest.raises(
        BadOption, match="--sequence-length 64: must be at least 16 and at most the model's context of 32"
    ):
        prepare_texts(own(*sentences), small_tokenizer, 32, 0.1, 64)
    with pytest.raises(BadOption, match="--held-out-share 1: must be above 0 and below 1"):
        prepare_texts(own(*sentences), small_tokenizer, 32, 1)
    with pytest.raises(BadInput, match=r"too few examples that fit \d tokens \(1\)"):
        prepare_texts(own(Example("c d", "a b")), small_tokenizer, 32, 0.1)


def completions(small_tokenizer, count=40):
    return [Example(f" word {n}", f"Say {n}:") for n in range(count)]


def test_only_completions_and_their_ends_are_predicted(small_tokenizer):
    examples = completions(small_tokenizer)
    texts = prepare_texts(own(*examples), small_tokenizer, 64, 0.1)
    assert len(texts.held_out.texts) == 4
    wanted = [
        token for text in texts.train.texts for token in (*small_tokenizer.encode(text), small_tokenizer.end_of_text)
    ]
    assert Counter(texts.train.targets.tolist()) == Counter(wanted)


def test_examples_that_share_a_row_are_read_as_each_alone(small_model, monkeypatch):
    texts = prepare_texts(own(*completions(small_model.tokenizer)), small_model.tokenizer, 32, 0.1)
    inputs, _, documents = (torch.from_numpy(each.astype(np.int64))[:1] for each in texts.train.rows)
    monkeypatch.setattr(small_model.network, "restart_positions", True)
    with torch.inference_mode():
        together = small_model.network(inputs, documents_BT=documents)
        assert len(documents.unique()) >= 3
        for start in documents.unique():
            alone = small_model.network(inputs[documents == start][None])
            torch.testing.assert_close(together[documents == start][None], alone, atol=1e-4, rtol=0)


def test_what_is_too_long_loses_the_prompts_beginning_or_is_left_out_and_counted(small_tokenizer):
    long_prompt = Example(" end", "the cat " * 40 + "last words:")
    long_completion = Example(" the horse" * 80, "x")
    texts = prepare_texts(own(*completions(small_tokenizer), long_prompt, long_completion), small_tokenizer, 32, 0.1)
    assert texts.notes == (
        "left out: completions of more than 32 tokens (1).",
        "cut at the beginning: prompts of more than 33 tokens with their completion (1).",
    )
    assert long_completion.text not in (*texts.train.texts, *texts.held_out.texts)
    rows = [small_tokenizer.decode(row) for side in (texts.train, texts.held_out) for row in side.rows[0]]
    assert any("last words: end" in row for row in rows)
