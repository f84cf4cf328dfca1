import random
import time

import numpy as np
import pytest
from tests.webtext.duplicates.stage_files import components, similar_pairs

from gpt2lab.webtext.duplicates.gram_file import GramFile, gram_sets
from gpt2lab.webtext.duplicates.groups import Groups
from gpt2lab.webtext.duplicates.near import candidate_pairs, cluster

VOCABULARY = [f"word{n}" for n in range(2000)]


def one_group(size: int) -> Groups:
    return Groups(np.arange(size), np.array([0, size]))


def roots_of(texts: list[str], tmp_path, bands: int = 1) -> list[int]:
    with GramFile(tmp_path / "grams", gram_sets(texts)) as grams:
        return cluster([one_group(len(texts))] * bands, grams, 0.8).roots().tolist()


@pytest.mark.parametrize("documents", [10, 150])
def test_a_group_of_any_size_falls_into_the_components_of_brute_force(tmp_path, documents):
    """Pages of a few templates, with chains of small edits: an edit, an edit of the edit, and so on."""
    chooser = random.Random(documents)
    templates = [" ".join(chooser.choices(VOCABULARY, k=60)) for _ in range(3)]
    texts = [f"{templates[n % 3]} {' '.join(chooser.choices(VOCABULARY, k=60))}" for n in range(documents // 5)]
    while len(texts) < documents:
        words = chooser.choice(texts).split()
        for place in chooser.sample(range(len(words)), chooser.choice([0, 1, 1, 2, 2, 30])):
            words[place] = chooser.choice(VOCABULARY)
        texts.append(" ".join(words))
    truth = similar_pairs({str(n): text for n, text in enumerate(texts)}, 0.8)
    ids = [str(n) for n in range(documents)]
    found = components(ids, [(str(n), str(root)) for n, root in enumerate(roots_of(texts, tmp_path))])
    assert found == components(ids, list(truth))


def test_twenty_thousand_nearly_equal_documents_take_seconds(tmp_path):
    template = " ".join(random.Random(1).choices(VOCABULARY, k=150))
    texts = [f"{template} as of day {n}" for n in range(20_000)]
    start = time.monotonic()
    assert len(set(roots_of(texts, tmp_path, bands=18))) == 1
    assert time.monotonic() - start < 30


def test_twenty_thousand_dissimilar_documents_of_common_bands_take_seconds(tmp_path):
    chooser = random.Random(1)
    template = " ".join(chooser.choices(VOCABULARY, k=100))
    texts = [f"{template} {' '.join(chooser.choices(VOCABULARY, k=50))}" for _ in range(20_000)]
    start = time.monotonic()
    assert len(set(roots_of(texts, tmp_path, bands=3))) == len(texts)
    assert time.monotonic() - start < 30


def test_comparisons_are_bounded_whatever_the_texts(tmp_path):
    """Pages put together of a few paragraphs: every gram of every page is in hundreds of others."""
    chooser = random.Random(1)
    paragraphs = [" ".join(chooser.choices(VOCABULARY, k=30)) for _ in range(40)]
    texts = [" ".join(chooser.sample(paragraphs, 6)) for _ in range(3000)]
    with GramFile(tmp_path / "grams", gram_sets(texts)) as grams:
        pairs = sum(len(some) for some in candidate_pairs(one_group(len(texts)), grams, 0.8))
    assert pairs <= 64 * len(texts)
