"""Which documents hold evaluation sets: what `build --decontaminate` asks of every document.

Two directions. A document most of whose 8-grams are in a set is a copy of a piece of it (an article of WikiText). A
long document may hold a whole test item and still have a small share of its own: so the share of each item that a
document covers counts as much. Long items are taken in passages of PASSAGE_GRAMS, so that a copied part of one is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2lab.datasets.evaluation_texts import read_evaluation_texts
from gpt2lab.webtext.overlap.gram_table import GramTable
from gpt2lab.webtext.overlap.grams import batches, hash_grams
from gpt2lab.webtext.word_hashes import Hashes, Numbers

PASSAGE_GRAMS = 200
FEWEST_GRAMS = 8
"""So many different grams make a hit: 15 words in a row. Less is a quotation or a phrase that everybody uses."""
MOST_ITEMS_OF_A_GRAM = 10
"""A gram of more passages than this is a set's template ("Question: Which of the following ..."), and no evidence."""


@dataclass(frozen=True)
class Contamination:
    """What a document has in common with evaluation sets; shares are 0 to 1.

    `share`: of the document's own 8-grams, those in any set; `set`: the one with most of them, None where none is.
    `item_share`: of all passages the largest part that the document covers; `item_set`, `item`: whose, counted from 0.
    Passages of which the document has fewer than FEWEST_GRAMS different grams are left out.
    """

    share: float = 0.0
    grams: int = 0
    set: str | None = None
    item_share: float = 0.0
    item_set: str | None = None
    item: int | None = None

    def verdict(self, share: float) -> tuple[str, float] | None:
        """The set a document has to go for and the larger of its shares; None where it may stay."""
        if self.set is not None and self.grams >= FEWEST_GRAMS and self.share >= max(share, self.item_share):
            return self.set, self.share
        if self.item_set is not None and self.item_share >= share:
            return self.item_set, self.item_share
        return None


@dataclass(frozen=True)
class EvaluationGrams:
    """The 8-grams of evaluation sets, and for each the passages that have it; small enough for every worker."""

    names: tuple[str, ...]
    table: GramTable
    first_passage: Numbers
    """for each gram of the table where its passages begin in `passages`, and one number more: the end"""
    passages: Numbers
    passage_grams: Numbers
    """different grams of each passage, without those of templates"""
    passage_set: Numbers
    passage_item: Numbers

    def share(self, text: str) -> Contamination:
        """What a document has in common with the sets."""
        grams, _ = hash_grams([text])
        at, places = self.table.find(grams)
        if not at.size:
            return Contamination()
        different = np.unique(places)
        starts, ends = self.first_passage[different], self.first_passage[different + 1]
        lengths = ends - starts
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        passages, hits = np.unique(self.passages[np.repeat(starts, lengths) + within], return_counts=True)
        sets = np.bincount(self.passage_set[passages], weights=hits, minlength=len(self.names))
        found = Contamination(at.size / grams.size, different.size, self.names[int(sets.argmax())])
        enough = hits >= FEWEST_GRAMS
        if not enough.any():
            return found
        passages, shares = passages[enough], hits[enough] / self.passage_grams[passages[enough]]
        best = int(shares.argmax())
        return Contamination(
            found.share,
            found.grams,
            found.set,
            float(shares[best]),
            self.names[self.passage_set[passages[best]]],
            int(self.passage_item[passages[best]]),
        )


def read_evaluation_grams(sets: Mapping[str, Path]) -> EvaluationGrams:
    """The grams of the evaluation sets in some files, by the names that reasons of removal will give.

    Raises BadInput for a file that can't be read.
    """
    grams: list[Hashes] = []
    passage_of: list[Numbers] = []
    passage_set: list[int] = []
    passage_item: list[int] = []
    for number, path in enumerate(sets.values()):
        item = 0
        for batch in batches(read_evaluation_texts(path)):
            hashed, counts = hash_grams(batch)
            grams.append(hashed)
            for count in counts.tolist():
                passages = -(-count // PASSAGE_GRAMS)
                # Evenly long ones: a short rest would be covered by a phrase.
                passage_of.append(len(passage_set) + np.arange(count) * passages // max(count, 1))
                passage_set += [number] * passages
                passage_item += [item] * passages
                item += 1
    all_grams = np.concatenate([*grams, np.empty(0, np.uint64)])
    pairs = np.unique(np.rec.fromarrays([all_grams, np.concatenate([*passage_of, np.empty(0, np.int64)])]))
    hashes, passages_of_grams = pairs["f0"], pairs["f1"]
    _, times = np.unique(hashes, return_counts=True)
    kept = np.repeat(times <= MOST_ITEMS_OF_A_GRAM, times)
    hashes, passages_of_grams, times = hashes[kept], passages_of_grams[kept], times[times <= MOST_ITEMS_OF_A_GRAM]
    return EvaluationGrams(
        tuple(sets),
        GramTable.of(hashes),
        np.concatenate([[0], np.cumsum(times)]),
        passages_of_grams,
        np.bincount(passages_of_grams, minlength=len(passage_set)),
        np.array(passage_set, np.int64),
        np.array(passage_item, np.int64),
    )
