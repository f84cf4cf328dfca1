"""The cloze test: fair questions, the stated scoring."""

import random

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.cloze import CANDIDATES, ClozeItem, count_words, make_cloze, score_cloze
from gpt2lab.evaluate.language_modelling import score_documents


@pytest.fixture(scope="module")
def wordy():
    """Texts with many different words in sentences."""
    chooser = random.Random(0)
    words = ["".join(chooser.choice("abcdefghijklmnop") for _ in range(6)) for _ in range(500)]
    return [" ".join(chooser.choice(words) for _ in range(12)) + ". And so it goes on here." for _ in range(300)]


def test_questions_have_one_answer_among_ten_of_similar_frequency(wordy):
    counts = count_words(wordy)
    items = make_cloze(wordy, counts, 50)
    ranking = sorted(counts, key=lambda word: (-counts[word], word))
    assert len(items) == 50
    for item in items:
        assert len(set(item.candidates)) == CANDIDATES
        ranks = [ranking.index(word) for word in item.candidates]
        assert max(ranks) - min(ranks) <= 2 * CANDIDATES
        answer = item.candidates[item.answer]
        assert any(item.before + answer + item.after in text for text in wordy)
        assert item.before.endswith(" ")
        assert item.after.endswith(".")


def test_answers_stand_at_every_place(wordy):
    places = {item.answer for item in make_cloze(wordy, count_words(wordy), 200)}
    assert places == set(range(CANDIDATES))


def test_questions_are_the_same_for_the_same_seed(wordy):
    counts = count_words(wordy)
    assert make_cloze(wordy, counts, 20, seed=1) == make_cloze(wordy, counts, 20, seed=1)
    assert make_cloze(wordy, counts, 20, seed=1) != make_cloze(wordy, counts, 20, seed=2)


def test_the_choice_is_the_most_probable_whole_sentence(small_model):
    candidates = ("cat", "dog", "tree", "house", "river", "stone", "cloud", "light", "water", "bread")
    items = [ClozeItem("The ", candidates, " sleeps.", 3)]
    found = score_cloze(small_model, items)
    totals = []
    for word in candidates:
        whole = score_documents(small_model, [f"The {word} sleeps."])
        totals.append(-whole.loss * whole.tokens)
    assert found.choices == (totals.index(max(totals)),)
    assert found.correct == int(found.choices[0] == 3)


def test_too_few_words_are_said(small_model):
    with pytest.raises(BadInput, match="too few"):
        make_cloze(["a few words"], count_words(["a few words"]), 10)
