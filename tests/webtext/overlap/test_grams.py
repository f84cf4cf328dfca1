import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.webtext.overlap.gram_table import GramTable
from gpt2lab.webtext.overlap.grams import batches, hash_grams, normalise

PIECES = [
    "a",
    "b",
    "A",
    "_",
    " ",
    "\0",
    "\n",
    "é",
    "É",
    "İ",
    "Σ",
    "ς",
    "ß",
    "ẞ",
    "中",
    "文",
    "。",
    "“",
    "𝔘",
    "𐐀",
    "😀",
    "\ud800",
]
PIECES += ["e\u0301", "क्ष", "eightbts", "ninebytes", "w" * 33, "w" * 32, "é" * 40, "\u00a0", "٣", "²"]
texts = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def grams_of(text):
    words = normalise(text).split(" ") if normalise(text) else []
    return [" ".join(words[n : n + 8]) for n in range(len(words) - 7)]


@settings(deadline=None)  # the first call makes a table of all code points
@given(st.lists(texts, max_size=5))
def test_hashes_are_equal_exactly_where_the_papers_grams_are(given_texts):
    grams = [gram for text in given_texts for gram in grams_of(text)]
    hashes, counts = hash_grams(given_texts)
    assert counts.tolist() == [len(grams_of(text)) for text in given_texts]
    assert len(hashes) == len(grams)
    assert len(set(zip(grams, hashes.tolist(), strict=True))) == len(set(grams)) == len(set(hashes.tolist()))


@settings(deadline=None)  # the first call makes a table of all code points
@given(st.text(max_size=200), st.text(max_size=200))
def test_a_gram_has_one_hash_whatever_stands_beside_it(first, second):
    words = "one two three four five six seven éight"
    alone = hash_grams([words])[0]
    hashes, counts = hash_grams([first, words, second, f"{first} {words.upper()}_{second}"])
    assert hashes[counts[0]] == alone[0]
    assert alone[0] in hashes[counts[:3].sum() :]


def test_words_longer_than_any_block_are_words():
    long, other = "x" * 3_000_000, "x" * 2_999_999 + "y"
    hashes, counts = hash_grams([f"{long} b c d e f g h", f"{other} b c d e f g h", "中" * 1_000_000])
    assert counts.tolist() == [1, 1, 0]
    assert hashes[0] != hashes[1]


def test_batches_keep_every_text_in_its_order():
    chooser = random.Random(1)
    lengths = [chooser.choice([0, 10, 900_000, 3_000_000]) for _ in range(20)]
    batched = list(batches("x" * length for length in lengths))
    assert [len(text) for batch in batched for text in batch] == lengths
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 1 << 20 for batch in batched)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_table_finds_what_it_holds_and_nothing_else(size):
    drawn = np.random.default_rng(2).integers(0, 1 << 64, 2 * size + 5, np.uint64)
    held, others = drawn[:size], drawn[size:]
    table = GramTable.of(np.concatenate([held, held]))
    asked = np.concatenate([others[: size // 2], held, others[size // 2 :]])
    at, places = table.find(asked)
    assert at.tolist() == list(range(size // 2, size // 2 + size))
    assert (table.hashes[places] == held).all()
