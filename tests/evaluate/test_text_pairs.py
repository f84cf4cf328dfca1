"""Exactly the continuation is scored, cut where a document's tokens allow it."""

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.text_pairs import text_pair
from gpt2lab.tokens.bpe import gpt2_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return gpt2_tokenizer()


def test_the_tokens_are_those_of_the_whole_text_where_the_border_allows_it(tokenizer):
    for context, continuation in (
        ("The heron waited", " patiently."),
        ("A question?\nAnswer:", " yes"),
        ("one line\n", "the next"),
        ("ends in a space ", "word"),
    ):
        pair = text_pair(tokenizer, context, continuation)
        whole = tokenizer.encode(context + continuation)
        apart = (*tokenizer.encode(context), *tokenizer.encode(continuation))
        assert pair.context + pair.continuation in (tuple(whole), apart)
        assert tokenizer.decode(pair.continuation) == continuation
        if len(tokenizer.encode(context)) and tokenizer.decode(whole[: len(pair.context)]) == context:
            assert pair.context + pair.continuation == tuple(whole)


def test_a_border_inside_a_token_is_kept_by_encoding_apart(tokenizer):
    pair = text_pair(tokenizer, "The wonder", "ful day")
    assert tokenizer.encode("The wonderful")[1:] == tokenizer.encode(" wonderful")  # one token across the border
    assert tokenizer.decode(pair.context) == "The wonder"
    assert tokenizer.decode(pair.continuation) == "ful day"


def test_one_byte_of_a_character_can_be_scored(tokenizer):
    whole = "a café".encode()
    pair = text_pair(tokenizer, whole[:-1], whole[-1:])
    assert tokenizer.decode_bytes(pair.context) == whole[:-1]
    assert pair.continuation == tuple(tokenizer.encode_bytes(whole[-1:]))
    assert len(pair.continuation) == 1


def test_an_empty_context_is_the_start_of_a_document(tokenizer):
    for rule in ("exact", "lm-eval"):
        pair = text_pair(tokenizer, "", "Once", rule)
        assert pair.context == (tokenizer.end_of_text,)
        assert pair.continuation == tuple(tokenizer.encode("Once"))


def test_lm_evals_rule_moves_spaces_and_cuts_by_count(tokenizer):
    pair = text_pair(tokenizer, "The heron ", "waits", "lm-eval")
    assert tokenizer.decode(pair.continuation) == " waits"
    # Its cut by count falls where the context by itself has as many tokens as this, be it inside another one.
    pair = text_pair(tokenizer, "The wonder", "ful day", "lm-eval")
    given = len(tokenizer.encode("The wonder"))
    assert pair.context == tuple(tokenizer.encode("The wonder"))
    assert pair.continuation == tuple(tokenizer.encode("The wonderful day")[given:])


@pytest.mark.parametrize("rule", ["exact", "lm-eval"])
def test_nothing_to_score_is_said(tokenizer, rule):
    with pytest.raises(BadInput, match="nothing to score"):
        text_pair(tokenizer, "a context", "", rule)


def test_half_a_surrogate_pair_is_said(tokenizer):
    with pytest.raises(BadInput, match="surrogate"):
        text_pair(tokenizer, "a", " \ud800")
