"""Tasks of choices: what is given and what is scored, in which words, and what is made of the scores."""

import math
from dataclasses import replace

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.arc import ArcItem
from gpt2lab.datasets.boolq import BoolqItem
from gpt2lab.datasets.cbt import CbtItem
from gpt2lab.datasets.evaluation_sets import EvaluationSet
from gpt2lab.datasets.hellaswag import HellaSwagItem
from gpt2lab.datasets.piqa import PiqaItem
from gpt2lab.datasets.winograd import WinogradItem
from gpt2lab.datasets.winogrande import WinograndeItem
from gpt2lab.evaluate.scoring import Scores, score
from gpt2lab.evaluate.tasks.arc import Arc
from gpt2lab.evaluate.tasks.boolq import Boolq
from gpt2lab.evaluate.tasks.cbt import CBT
from gpt2lab.evaluate.tasks.hellaswag import HellaSwag
from gpt2lab.evaluate.tasks.piqa import Piqa
from gpt2lab.evaluate.tasks.winograd import Winograd
from gpt2lab.evaluate.tasks.winogrande import Winogrande
from gpt2lab.tokens.bpe import gpt2_tokenizer

TOKENIZER = gpt2_tokenizer()
BOOK = CbtItem(
    context=tuple(f"The otter sat by river {number} ." for number in range(20)),
    query="`` I ca n't see the XXXXX , '' said the heron .",
    candidates=("otter", "moon", *(f"tree{number}" for number in range(8))),
    answer="moon",
)
SCHEMA = WinogradItem(
    "The otter can't cross the river because", "it", "is too wide.", ("The otter", "The river"), answer=1
)


def question_of(task, item, context_length=1024):
    (question,) = task.questions(EvaluationSet((item,), ()), TOKENIZER, context_length)
    return question


def texts_of(task, item):
    pairs = question_of(task, item).pairs
    return [(TOKENIZER.decode(pair.context), TOKENIZER.decode(pair.continuation)) for pair in pairs]


def scores_of(*totals):
    return [Scores((total,), (False,)) for total in totals]


def test_cbt_scores_the_candidate_and_the_rest_of_its_sentence():
    given, scored = texts_of(CBT(), BOOK)[1]
    assert scored == ' moon," said the heron.'
    assert given.endswith("The otter sat by river 19.\n\"I can't see the")
    assert question_of(CBT(), BOOK).facts["answer"] == 1
    assert {given for given, _ in texts_of(CBT(), BOOK)} == {given}  # so that it is computed once


def test_cbts_options_change_what_they_say():
    assert texts_of(CBT(score="word only"), BOOK)[1][1] == " moon"
    assert texts_of(CBT(detok="none"), BOOK)[1][1] == " moon , '' said the heron ."
    assert texts_of(CBT(join="space"), BOOK)[1][0].endswith("river 19. \"I can't see the")
    given = texts_of(CBT(prompt="Passage/Question"), BOOK)[1][0]
    assert given.startswith("Passage: The otter")
    assert given.endswith("river 19.\nQuestion: \"I can't see the")
    start, whole = texts_of(CBT(score="whole"), BOOK)[1]
    assert start == "<|endoftext|>"
    assert whole.startswith("The otter sat by river 0.\n")
    assert whole.endswith(' the moon," said the heron.')


def test_a_candidate_at_the_start_of_a_sentence_begins_like_one():
    item = replace(BOOK, query="`` XXXXX is far , '' said the heron .")
    assert texts_of(CBT(), item)[1] == (texts_of(CBT(), item)[0][0], 'Moon is far," said the heron.')
    assert texts_of(CBT(case="as is"), item)[1][1] == 'moon is far," said the heron.'


def test_whole_texts_longer_than_the_context_lose_the_same_start():
    question = question_of(CBT(score="whole"), BOOK, 100)
    assert max(len(pair.continuation) for pair in question.pairs) == 100
    assert len({tuple(pair.continuation[:50]) for pair in question.pairs}) == 1
    assert {len(pair.context) for pair in question.pairs} == {1}


def test_a_question_without_a_gap_is_named():
    with pytest.raises(BadInput, match="item 1: the question has no gap"):
        question_of(CBT(), replace(BOOK, query="No gap here ."))


def test_winograd_scores_what_follows_the_candidate_or_all():
    assert texts_of(Winograd(), SCHEMA) == [
        ("<|endoftext|>The otter can't cross the river because the otter", " is too wide."),
        ("<|endoftext|>The otter can't cross the river because the river", " is too wide."),
    ]
    full = texts_of(Winograd(score="full"), SCHEMA)[1]
    assert full == ("<|endoftext|>", "The otter can't cross the river because the river is too wide.")
    assert texts_of(Winograd(bos="none"), SCHEMA)[0][0].startswith("The otter")
    assert texts_of(Winograd(score="full", bos="none"), SCHEMA)[0][0] == "The"
    # lm-eval 0.4.13 joins with two spaces
    assert texts_of(Winograd(bos="none", rules="lm-eval"), SCHEMA)[0][1] == "  is too wide."


def test_winograds_candidates_fit_their_place():
    possessive = replace(SCHEMA, pronoun="his", candidates=("Otto", "The otter"), after="tail.")
    assert [given for given, _ in Winograd().sentences(possessive)] == [
        "The otter can't cross the river because Otto's",
        "The otter can't cross the river because the otter's",
    ]
    after_stop = replace(SCHEMA, before="It rained.", pronoun="It", candidates=("the otter", "The river"))
    assert [given for given, _ in Winograd().sentences(after_stop)] == ["It rained. The otter", "It rained. The river"]
    at_end = replace(SCHEMA, before="The heron saw the otter and fed", after=".")
    assert Winograd().sentences(at_end)[0][1] == "."
    assert Winograd(rules="lm-eval").sentences(at_end)[0][1] == "  ."


def test_winograd_by_the_mean_of_the_tokens():
    longer = replace(SCHEMA, candidates=("otter of the northern marshes", "river"))
    task = Winograd(score="full", norm="per token")
    question = question_of(task, longer)
    lengths = [len(pair.continuation) for pair in question.pairs]
    assert lengths[0] > lengths[1]
    row = task.row(question, scores_of(-10.0, -9.9))
    assert row["chosen"] == 0
    assert Winograd(score="full").row(question_of(Winograd(score="full"), longer), scores_of(-10.0, -9.9))["chosen"]


def test_prompts_are_those_of_the_harness():
    story = HellaSwagItem(
        "Feeding otters",
        "[header] A woman walks to the river. [title] She waits.",
        "the otters",
        "A woman walks to the river. the otters",
        ("come.", "fly  away.", "read [step] books.", "sleep."),
        0,
    )
    assert texts_of(HellaSwag(), story)[2] == (
        "Feeding otters: A woman walks to the river.. She waits. The otters",
        " read books.",
    )
    assert texts_of(HellaSwag(prompt="context"), story)[0] == ("A woman walks to the river. the otters", " come.")
    assert question_of(HellaSwag(norm="tokens"), story).facts["lengths"] == [2, 3, 3, 2]
    assert texts_of(Piqa(), PiqaItem("dry a coat", ("hang it", "fold it"), 0))[1] == (
        "Question: dry a coat\nAnswer:",
        " fold it",
    )
    assert texts_of(Arc(), ArcItem("What melts?", ("ice", "sand", "rock"), 0))[0] == (
        "Question: What melts?\nAnswer:",
        " ice",
    )
    assert texts_of(Winogrande(), WinograndeItem("Ann waved to Eve and ", " waved back.", ("Ann", "Eve"), 1))[1] == (
        "Ann waved to Eve and Eve",
        " waved back.",
    )
    assert texts_of(Boolq(), BoolqItem("Otters swim.", "can otters swim", True)) == [
        ("Otters swim.\nQuestion: can otters swim?\nAnswer:", " no"),
        ("Otters swim.\nQuestion: can otters swim?\nAnswer:", " yes"),
    ]
    assert question_of(Boolq(), BoolqItem("Otters swim.", "can otters swim", True)).facts["answer"] == 1


def test_accuracy_is_by_sum_and_by_sum_over_characters():
    task, item = Piqa(), PiqaItem("dry a coat", ("hang it in the wind for a day", "burn it"), 0)
    question = question_of(task, item)
    row = task.row(question, scores_of(-20.0, -15.0))
    assert (row["accuracy"], row["accuracy_norm"]) == (False, True)
    assert row["log_likelihoods"] == [-20.0, -15.0]
    assert [metric.value for metric in task.metrics([row, row])] == [0.0, 1.0]
    assert task.row(question, scores_of(-1.0, -1.0))["chosen"] == 0  # of equals the first


def test_facts_say_what_guessing_gives():
    items = (ArcItem("a?", ("b", "c", "d", "e"), 0), ArcItem("a?", ("b", "c", "d"), 0))
    facts = Arc().facts(EvaluationSet(items, ()), TOKENIZER)
    assert facts == {"choices": 4, "chance": pytest.approx((1 / 4 + 1 / 3) / 2)}


def test_an_empty_choice_is_named():
    with pytest.raises(BadInput, match="item 1: choice 2 of 2 is empty"):
        question_of(Piqa(), PiqaItem("dry a coat", ("hang it", " "), 0))


def test_the_answer_is_the_more_probable_sentence(small_model):
    """From item to row on a network: the sums are those of the whole sentences but for their common beginning."""
    item = replace(SCHEMA, before="The cat", after="sleeps.")
    task = Winograd(score="full")
    (question,) = task.questions(EvaluationSet((item,), ()), small_model.tokenizer, 32)
    row = task.row(question, score(small_model.network, question.pairs))
    sums = [math.fsum(scores.log_probs) for scores in score(small_model.network, question.pairs)]
    assert row["chosen"] == sums.index(max(sums))
    assert row["accuracy"] == (row["chosen"] == 1)
