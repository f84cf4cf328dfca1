import random

import numpy as np
import pytest

from gpt2lab.webtext.word_hashes import LANE, fold, hash_runs, runs


def hashes_of(words):
    """Of words that stand between spaces."""
    data = np.frombuffer(b"".join(word + b" " for word in words) + b" " * LANE, np.uint8)
    starts, lengths = runs(data != ord(" "))
    assert lengths.tolist() == [len(word) for word in words]
    return hash_runs(data, starts, lengths).tolist()


def test_different_words_of_any_length_have_different_hashes_wherever_they_stand():
    words = [b"x" * length for length in range(1, 140)]
    words += [b"x" * length + b"\0" * zeros for length in (1, 7, 8, 60, 70) for zeros in range(1, 10)]
    words += [b"x" * (length - 1) + b"y" for length in range(2, 140)]
    hashes = hashes_of(words)
    assert len(set(hashes)) == len(words)
    assert hashes_of(words[::-1]) == hashes[::-1]
    assert [hashes_of([word])[0] for word in words] == hashes


@pytest.mark.parametrize("width", range(1, 10))
def test_grams_are_those_of_words_in_a_row_within_a_text(width):
    chooser = random.Random(width)
    for texts in (1, 2, 40):
        words_of = np.array([chooser.choice([0, 1, width - 1, width, 30]) for _ in range(texts)])
        words = np.array([chooser.randrange(9) for _ in range(words_of.sum())], np.uint64)
        ends = np.cumsum(words_of).tolist()
        grams = [
            tuple(words[place : place + width].tolist())
            for size, end in zip(words_of.tolist(), ends, strict=True)
            for place in range(end - size, end - width + 1)
        ]
        hashes = fold(words, words_of, width).tolist()
        assert len(hashes) == len(grams)
        assert len(set(zip(grams, hashes, strict=True))) == len(set(grams)) == len(set(hashes))
