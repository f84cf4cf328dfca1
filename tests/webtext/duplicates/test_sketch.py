import random
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash
from tests.webtext.duplicates.stage_files import grams, jaccard

from gpt2lab.webtext.duplicates.shingles import shingles
from gpt2lab.webtext.duplicates.sketch import PERMUTATIONS, RECALL, band_recall, band_shape, min_hashes, sketch

VOCABULARY = [f"word{n}" for n in range(2000)]


def edited(text: str, words: int, chooser: random.Random) -> str:
    out = text.split()
    for place in chooser.sample(range(len(out)), words):
        out[place] = chooser.choice(VOCABULARY)
    return " ".join(out)


@pytest.mark.parametrize("words", [12, 200, 2000])
def test_min_hashes_estimate_similarity_as_well_as_datasketch(words):
    chooser = random.Random(words)
    original = " ".join(chooser.choices(VOCABULARY, k=words))
    edits = [edited(original, max(1, words * n // 300), chooser) for n in range(1, 13)]
    (some,) = shingles([original, *edits])
    ours = min_hashes(some.grams, some.offsets, PERMUTATIONS)

    def theirs(text: str) -> MinHash:
        digest = MinHash(num_perm=PERMUTATIONS)
        for gram in grams(text):
            digest.update(" ".join(gram).encode())
        return digest

    first = theirs(original)
    truth = np.array([jaccard(original, text) for text in edits])
    our_errors = np.abs((ours[1:] == ours[0]).mean(axis=1) - truth)
    their_errors = np.abs(np.array([first.jaccard(theirs(text)) for text in edits]) - truth)
    assert our_errors.mean() < max(0.05, 1.5 * their_errors.mean())


def test_bands_find_the_pairs_at_the_threshold_as_often_as_promised():
    chooser = random.Random(3)
    pairs = []
    while len(pairs) < 400:  # 100 words, of which k changed: about (96 - 5k) / (96 + 5k) similar
        text = " ".join(chooser.choices(VOCABULARY, k=100))
        pairs.append((text, edited(text, 2, chooser)))
    for threshold in (0.3, 0.5, 0.8, 0.9):
        rows, bands = band_shape(threshold)
        assert rows * bands <= PERMUTATIONS
        assert band_recall(threshold, rows, bands) >= RECALL
    rows, bands = band_shape(0.8)
    sketches = sketch([text for pair in pairs for text in pair], 0.8)
    hashes = np.frombuffer(b"".join(sketches.bands), "<u8").reshape(len(pairs), 2, bands)
    found = (hashes[:, 0] == hashes[:, 1]).any(axis=1)
    expected = np.array([band_recall(jaccard(*pair), rows, bands) for pair in pairs])
    assert abs(found.mean() - expected.mean()) < 0.02


def test_sketches_are_the_same_whatever_texts_come_together_and_in_any_process():
    texts = ["", "a", "a b c", " ".join(VOCABULARY[:50]), "x " * 100, " ".join(VOCABULARY) * 20]
    together = sketch(texts, 0.8)
    for n, text in enumerate(texts):
        alone = sketch([text], 0.8)
        assert (alone.text_hashes[0], alone.bands[0]) == (together.text_hashes[n], together.bands[n])
    # A value that another build of NumPy or rensa, or another processor, must not change: stage files outlive them.
    assert sketch(["the quick brown fox jumps over the lazy dog"], 0.8).bands[0].hex()[:32] == BAND_OF_THE_FOX


BAND_OF_THE_FOX = "4ad5da211c7ca3d0c756ee6d5b1546d9"


def test_no_bands_without_near_duplicates():
    assert sketch(["a b"], None).bands is None
    assert sketch([], None).text_hashes == []
    assert sketch([], 0.8).bands == []


def test_texts_that_differ_in_white_space_have_the_same_hash():
    same = sketch(["one two three", " one\u00a0two\n\n three\t", "onetwo three"], None).text_hashes
    assert same[0] == same[1] != same[2]
    assert all(len(one) == 16 for one in same)


def test_real_texts_whole(shared_data):
    folder: Path = shared_data("corpora/tinyshakespeare")
    text = (folder / "input.txt").read_text()
    (some,) = shingles([text])
    assert len(set(some.grams.tolist())) == len(grams(text))
