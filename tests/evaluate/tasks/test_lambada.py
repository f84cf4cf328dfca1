"""LAMBADA's word and its borders, the filter, the figures."""

import json
import math
from collections import Counter

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.detokenizers.lambada import detokenize_lambada
from gpt2lab.evaluate.scoring import Scores, score
from gpt2lab.evaluate.stop_words import STOP_WORDS
from gpt2lab.evaluate.tasks.lambada import LM_EVAL, Lambada
from gpt2lab.tokens.bpe import gpt2_tokenizer


def set_of(*texts):
    return EvaluationSet(texts, ())


def as_is(**options):
    return Lambada(prefix="none", quotes="as is", **options)


def test_the_published_text_has_its_published_counts(shared_data):
    source = DataSource(shared_data("lambada/lambada_test.jsonl").parent)
    task = as_is(filter="nltk127")
    found = task.read(source)
    assert found.files[0].sha256 == "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226"
    facts = task.facts(found, gpt2_tokenizer())
    assert facts["passages"] == 5153
    assert facts["target_tokens"] == 6573
    tokens = Counter({int(count): n for count, n in facts["tokens_per_target"].items()})
    assert [tokens[1], tokens[2], tokens[3], tokens[4]] == [4010, 913, 205, 17]
    assert sum(n for count, n in tokens.items() if count > 4) == 8
    assert facts["answers_in_stop_list"] == 47
    assert facts["answers_unreachable"] == 66  # 19 more begin with a token that is a stop word


def test_lm_evals_borders_are_ours_on_the_published_text(shared_data):
    task = LM_EVAL["lambada_openai"]
    found = task.read(DataSource(shared_data("lambada/lambada_test.jsonl").parent))
    exact = as_is(filter="none").questions(found, gpt2_tokenizer(), 1024)
    assert [question.pairs for question in task.questions(found, gpt2_tokenizer(), 1024)] == [
        question.pairs for question in exact
    ]


def test_the_passage_is_made_as_openai_said():
    text = "He said “now” to the\nold heron"
    assert Lambada().passage(text) == ('\nHe said "now" to the\nold', " heron")
    assert as_is().passage(text) == ("He said “now” to the\nold", " heron")
    assert Lambada(text="zenodo+moses").passage("`` i do n't , '' said the heron") == (
        '\n"i don\'t," said the',
        " heron",
    )
    assert Lambada(text="zenodo").passage("`` no , '' said he")[0] == '\n" no , " said'


def test_the_end_of_text_can_come_first(small_tokenizer):
    (question,) = as_is().questions(set_of("a cat sleeps"), small_tokenizer, 32)
    (with_start,) = Lambada(prefix="eot", quotes="as is").questions(set_of("a cat sleeps"), small_tokenizer, 32)
    (pair,), (with_start_pair,) = question.pairs, with_start.pairs
    assert with_start_pair.context == (small_tokenizer.end_of_text, *pair.context)
    assert with_start_pair.continuation == pair.continuation == tuple(small_tokenizer.encode(" sleeps"))


@pytest.mark.parametrize("text", ["word", "", " ", "\n"])
def test_an_item_without_two_words_is_named(small_tokenizer, text):
    with pytest.raises(BadInput, match=r"item 2: .*last word"):
        Lambada().questions(set_of("a cat sleeps", text), small_tokenizer, 32)


def test_banned_tokens_are_stop_words_with_their_space():
    tokenizer = gpt2_tokenizer()
    banned = Lambada(filter="nltk127", filter_at="first token").banned(tokenizer)
    first = lambda text: bool(banned.first[tokenizer.encode(text)[0]])  # noqa: E731
    assert all(map(first, (" the", " I", " themselves", " was")))
    assert not any(map(first, (" river", "the", " The", ".", " themed")))
    assert first(" werewolf")  # " were" and "wolf": the cost of banning tokens
    assert not banned.later.any()
    every = Lambada(filter="nltk127+punct", filter_at="every token").banned(tokenizer)
    assert every.later.equal(every.first)
    assert all(bool(every.first[tokenizer.encode(text)[0]]) for text in (".", "\n", '"', " “", " the"))
    assert bool(every.first[tokenizer.end_of_text])
    assert Lambada(filter="none").banned(tokenizer) is None
    assert Lambada(filter_at="whole word beam").banned(tokenizer) is None


def test_the_lists_are_those_of_nltk():
    assert {name: len(words) for name, words in STOP_WORDS.items()} == {"nltk127": 127, "nltk179": 179}
    assert STOP_WORDS["nltk127"] < STOP_WORDS["nltk179"]


def test_rows_say_what_was_right(small_tokenizer):
    (question,) = as_is().questions(set_of("the cat sleeps"), small_tokenizer, 32)
    scores = Scores((-1.0, -2.0), (False, True), (-0.5, -1.0), (True, True))
    assert as_is().row(question, [scores]) == {"nats": 3, "units": 1, "accuracy": False, "accuracy_filtered": True}
    assert as_is(match="last_token").row(question, [scores])["accuracy"] is True
    assert as_is(ppl="renormalised").row(question, [scores])["nats"] == 1.5
    banned = Scores((-1.0, -2.0), (False, True), (-math.inf, -1.0), (False, True))
    assert as_is(ppl="renormalised").row(question, [banned])["nats"] == 3  # else the perplexity would be infinite


def test_figures_are_per_word():
    rows = [
        {"nats": 1.0, "units": 1, "accuracy": True, "accuracy_filtered": True},
        {"nats": 3.0, "units": 1, "accuracy": False, "accuracy_filtered": True},
    ]
    values = {metric.name: metric.value for metric in Lambada().metrics(rows)}
    assert values == pytest.approx({"perplexity": math.exp(2), "accuracy": 0.5, "accuracy_filtered": 1.0})


def test_the_filter_is_scored_in_the_same_pass(small_model, sentences):
    task = as_is(filter="nltk127")
    found = set_of(*(sentence.split(",")[0] for sentence in sentences[0].splitlines()[:3]))
    questions = task.questions(found, small_model.tokenizer, 32)
    banned = task.banned(small_model.tokenizer)
    for question in questions:
        (scores,) = score(small_model.network, question.pairs, banned=banned)
        row = task.row(question, [scores])
        assert row["accuracy_filtered"] in (True, False)
        assert json.dumps(row, allow_nan=False)


def test_whole_words_are_predicted_where_asked_for(small_model):
    task = as_is(filter_at="whole word beam")
    (question,) = task.questions(set_of("The cat in the garden sleeps"), small_model.tokenizer, 32)
    row = task.predict(small_model, question)
    assert row["accuracy_filtered"] == (row["predicted"] == "sleeps")
    assert row["predicted"].lower() not in STOP_WORDS["nltk127"]
    assert as_is().predict(small_model, question) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"ppl": "renormalised", "filter": "none"},
        {"ppl": "renormalised", "filter_at": "whole word beam"},
        {"match": "last_token", "filter_at": "whole word beam"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(BadOption):
        Lambada(**options)


def test_marks_go_to_their_words():
    text = "`` come here , '' she said -lrb- twice -rrb- ; he did n't . it 's $ 5 !"
    assert detokenize_lambada(text) == "``come here,'' she said (twice); he didn't. it's $5!"
