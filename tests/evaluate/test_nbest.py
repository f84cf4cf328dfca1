import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.datasets.nbest_lists import Hypothesis, Utterance
from gpt2lab.evaluate.line_scores import score_lines
from gpt2lab.evaluate.nbest import rescore, word_edits


def plain_edits(one, other):
    """Levenshtein by its definition."""
    if not one or not other:
        return len(one) + len(other)
    same = one[0] == other[0]
    return min(
        plain_edits(one[1:], other) + 1,
        plain_edits(one, other[1:]) + 1,
        plain_edits(one[1:], other[1:]) + (not same),
    )


@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_word_errors_are_the_fewest_edits(one, other):
    assert word_edits(one, other) == plain_edits(one, other)


@pytest.fixture(scope="module")
def lists(small_model):
    """A recognizer that guesses between words: what is said is what the model finds likelier, most of the time."""
    chooser = random.Random(5)
    animals, places = "cat dog horse heron otter".split(), "garden river forest market".split()
    texts = [f"the {animal} in the {place} {end}" for animal, place, end in itertools.product(animals, places, "ab")]
    likely = {text: found.log_likelihood for text, found in zip(texts, score_lines(small_model, texts), strict=True)}
    utterances = []
    for number in range(60):
        heard = chooser.sample(texts, 6)
        said = max(heard, key=likely.__getitem__) if chooser.random() < 0.9 else heard[0]
        hypotheses = tuple(Hypothesis(text, chooser.gauss(0, 1)) for text in heard)
        utterances.append(Utterance(f"u{number}", hypotheses, said))
    return utterances


def test_a_model_that_knows_better_lowers_the_word_error_rate(small_model, lists):
    found = rescore(small_model, lists)
    errors = found.word_errors
    assert (found.utterances, found.hypotheses, found.tuned_on, errors.before.items) == (60, 360, 18, 42)
    assert found.weight > 0
    assert errors.oracle.value <= errors.after.value < errors.before.value
    assert errors.change.value == pytest.approx(errors.after.value - errors.before.value)
    assert errors.change.low < errors.change.value < errors.change.high < 0
    assert errors.p_value < 0.01
    assert rescore(small_model, lists) == found


def test_the_best_hypothesis_has_the_highest_total(small_model, lists):
    found = rescore(small_model, lists, weight=0.5, length_bonus=0.25)
    assert found.tuned_on == 0
    for utterance, best in zip(lists, found.best, strict=True):
        scored = score_lines(small_model, [each.text for each in utterance.hypotheses])
        totals = [
            each.score + 0.5 * line.log_likelihood + 0.25 * len(each.text.split())
            for each, line in zip(utterance.hypotheses, scored, strict=True)
        ]
        assert best.id == utterance.id
        assert best.total == pytest.approx(max(totals), abs=1e-3)
        ranked = sorted(utterance.hypotheses, key=lambda each: -each.score)
        assert ranked[best.rank - 1].text == best.text


def test_without_weight_the_recognizers_own_choice_stays(small_model, lists):
    found = rescore(small_model, lists, weight=0.0)
    assert {best.rank for best in found.best} == {1}
    assert found.word_errors.change.value == 0
    assert found.word_errors.p_value == 1


def test_lists_of_different_lengths_and_empty_hypotheses(small_model):
    lists = [
        Utterance("a", (Hypothesis("", -1.0),), "the cat"),
        Utterance("b", (Hypothesis("the dog", -2.0), Hypothesis("the cat", -2.0)), None),
    ]
    found = rescore(small_model, lists, weight=0.0)
    assert [(best.text, best.log_likelihood == 0, best.rank) for best in found.best] == [
        ("", True, 1),
        ("the dog", False, 1),
    ]
    assert (found.word_errors.before.value, found.word_errors.before.standard_error) == (1.0, None)


def test_what_cannot_be_tuned_is_said(small_model, lists):
    unknown = [Utterance(each.id, each.hypotheses) for each in lists[:3]]
    with pytest.raises(BadOption, match=r"no references to tune a weight on: .* or --weight"):
        rescore(small_model, unknown)
    assert rescore(small_model, unknown, weight=1.0).word_errors is None
    with pytest.raises(BadOption, match="--length-bonus goes with --weight"):
        rescore(small_model, lists, length_bonus=1.0)
    with pytest.raises(BadOption, match=r"--held-out-share 1\.0: give a share between 0 and 1"):
        rescore(small_model, lists, held_out_share=1.0)
