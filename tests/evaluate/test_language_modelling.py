"""Loss and bits per byte: each token once, units right, the unigram model as it is defined."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.language_modelling import score_documents, unigram_loss, windows


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_windows_score_each_token_once_within_the_context(length, context_length, data):
    stride = data.draw(st.integers(1, context_length))
    ids = list(range(length))
    pairs = windows(ids, context_length, stride)
    assert [token for pair in pairs for token in pair.continuation] == ids[1:]
    for pair in pairs:
        joined = [*pair.context, *pair.continuation]
        assert joined == list(range(joined[0], joined[-1] + 1))
        assert len(joined) <= context_length + 1
        assert pair.context


def test_loss_of_a_short_document_is_its_mean_cross_entropy(small_model):
    ids = small_model.tokenizer.encode("The cat in the garden")
    tokens = torch.tensor([[small_model.tokenizer.end_of_text, *ids]])
    with torch.inference_mode():
        wanted = float(small_model.network.loss(tokens[:, :-1], tokens[:, 1:]))
    found = score_documents(small_model, ["The cat in the garden"])
    assert found.loss == pytest.approx(wanted, abs=1e-4)
    assert found.bits_per_byte == pytest.approx(
        wanted * len(ids) / math.log(2) / len(b"The cat in the garden"), abs=1e-4
    )
    assert found.loss_standard_error is None


def test_the_standard_error_matches_a_bootstrap(small_model, sentences):
    found = score_documents(small_model, [text[: 40 + 13 * (n % 11)] for n, text in enumerate(sentences)])
    each = [score_documents(small_model, [text[: 40 + 13 * (n % 11)]]) for n, text in enumerate(sentences)]
    chooser = np.random.default_rng(0)
    losses = []
    for _ in range(400):
        drawn = [each[n] for n in chooser.integers(0, len(each), len(each))]
        losses.append(sum(one.loss * one.tokens for one in drawn) / sum(one.tokens for one in drawn))
    assert found.loss_standard_error == pytest.approx(np.std(losses), rel=0.25)


def test_no_text_is_refused(small_model):
    with pytest.raises(BadInput, match="no text"):
        score_documents(small_model, ["", ""])


def test_the_unigram_model_is_the_smoothed_frequencies():
    train, val = np.array([3, 0, 1]), np.array([1, 1, 0])
    assert unigram_loss(train, val) == pytest.approx(-(math.log(4 / 7) + math.log(1 / 7)) / 2)
