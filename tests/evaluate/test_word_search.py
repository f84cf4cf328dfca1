"""The word found is the most probable one that is allowed, and no beginning of a longer one."""

import math

import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.word_search import continues_word, is_punctuation, most_probable_word, starts_word


def best_word_by_exhaustion(model, context, allowed):
    """All words of which no beginning is less probable than the best word found; no cache, no heap, no batch."""
    tokens = model.tokenizer.token_bytes
    best = ("", -math.inf)

    def log_probs(ids):
        with torch.inference_mode():
            return model.network(torch.tensor([ids]))[0, -1].double().log_softmax(-1).tolist()

    def visit(word, log_prob):
        nonlocal best
        after = log_probs([*context, *word])
        text = model.tokenizer.decode(word).strip()
        if word and text and allowed(text):
            ended = log_prob + math.log(sum(math.exp(p) for p, t in zip(after, tokens, strict=True) if not follows(t)))
            best = max(best, (text, ended), key=lambda each: each[1])
        fits = continues_word if word else starts_word
        for token in sorted(range(len(tokens)), key=lambda each: -after[each]):
            if fits(tokens[token]) and log_prob + after[token] > best[1]:
                visit([*word, token], log_prob + after[token])

    follows = continues_word
    visit([], 0.0)
    return best


@pytest.mark.parametrize("refused", [0, 2])
def test_the_best_word_equals_that_of_an_exhaustive_search(small_model, sentences, refused):
    for text in sentences[:2]:
        context = small_model.tokenizer.encode(text)[:12]
        banned: set[str] = set()
        allowed = lambda word, banned=banned: word not in banned  # noqa: E731
        for _ in range(refused):
            banned.add(best_word_by_exhaustion(small_model, context, allowed)[0])
        found = most_probable_word(small_model.network, small_model.tokenizer, context, allowed)
        word, log_prob = best_word_by_exhaustion(small_model, context, allowed)
        assert found is not None
        assert found.exact
        assert found.word == word
        assert found.log_prob == pytest.approx(log_prob, abs=1e-3)


def test_a_context_longer_than_the_networks_loses_its_start(small_model, sentences):
    ids = small_model.tokenizer.encode(sentences[0])
    assert len(ids) > 60
    everything = lambda word: bool(word)  # noqa: E731
    assert most_probable_word(small_model.network, small_model.tokenizer, ids, everything) is not None


def test_a_network_to_which_all_words_are_alike_ends_the_search(small_model):
    flat = type(small_model.network)(small_model.network.config)  # its weights are zeros: all tokens are as probable
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
    asked = []
    found = most_probable_word(flat.eval(), small_model.tokenizer, [1, 2], lambda word: asked.append(word) or True)
    assert found is not None
    assert len(asked) < 1100


def test_tokens_are_told_apart():
    assert all(starts_word(token) for token in (b" the", b" 12", " é".encode(), b" I"))
    assert not any(starts_word(token) for token in (b"the", b" ", b' "', b"\n", b"", " “".encode(), b" --"))
    assert all(continues_word(token) for token in (b"ness", b"'s", b"-", b"7", "é".encode()))
    assert not any(continues_word(token) for token in (b" ness", b".", b"'", b"\n\n", b"", "”".encode(), b"--"))
    assert all(is_punctuation(token) for token in (b"", b" ", b"\n", b'."', "…".encode(), b"\xe2\x80"))
    assert not any(is_punctuation(token) for token in (b"a", b" b", b"\xa9", b"'t"))


def test_broken_weights_are_said(small_model):
    broken = type(small_model.network)(small_model.network.config)
    broken.load_state_dict(small_model.network.state_dict())
    with torch.no_grad():
        broken.ln_f.weight.fill_(math.nan)
    with pytest.raises(BadInput, match="not numbers"):
        most_probable_word(broken.eval(), small_model.tokenizer, [1, 2, 3], bool)
