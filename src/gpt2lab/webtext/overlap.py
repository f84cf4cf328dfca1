"""How much of a test set is in the training set: the 8-gram overlap of the paper's section 4 and table 6."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gpt2lab.webtext.ngrams import Hashes, hash_ngrams

WORDS_PER_GRAM = 8
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class DocumentOverlap:
    """8-grams of one test document, and how many of them are in the training set."""

    grams: int
    overlapping: int

    @property
    def share(self) -> float:
        """Overlapping over all 8-grams, 0 to 1; 0 for a text of fewer than eight words."""
        return self.overlapping / self.grams if self.grams else 0.0


@dataclass(frozen=True)
class Overlap(DocumentOverlap):
    """The same over all test documents, and each one's figures in their order."""

    per_document: tuple[DocumentOverlap, ...] = ()


def normalise(text: str) -> str:
    """Lower-cased alphanumeric words with a single space between them (Radford et al. 2019, section 4)."""
    return _NOT_ALPHANUMERIC.sub(" ", text.lower()).strip()


def overlap(test_texts: Iterable[str], train_texts: Iterable[str]) -> Overlap:
    """Of all 8-grams of the test texts, every occurrence counted, those that are somewhere in the training texts.

    The test side is held in memory (8 bytes an 8-gram), the training side is streamed. The paper asks Bloom
    filters with one false positive in 10^8; 64-bit hashes are wrong once in 2^64 for each gram of the test set.
    """
    tests = [_grams(text) for text in test_texts]
    wanted = np.unique(np.concatenate([*tests, np.empty(0, np.uint64)]))
    found = np.zeros(wanted.size, bool)
    for text in train_texts:
        grams = _grams(text)
        if wanted.size and grams.size:
            places = np.minimum(np.searchsorted(wanted, grams), wanted.size - 1)
            found[places[wanted[places] == grams]] = True
    seen = wanted[found]
    per_document = tuple(DocumentOverlap(grams.size, int(np.isin(grams, seen).sum())) for grams in tests)
    return Overlap(
        sum(document.grams for document in per_document),
        sum(document.overlapping for document in per_document),
        per_document,
    )


def _grams(text: str) -> Hashes:
    return hash_ngrams(normalise(text).encode().split(), WORDS_PER_GRAM)
