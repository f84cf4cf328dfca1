"""The corpus of the de-duplication benchmark: real documents with planted, labelled edits, and the truth about them."""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EDITED_SHARE = 0.2
WORDS_PER_GRAM = 5
BOILERPLATE = (
    "You are reading a page of our archive. Sign up for the newsletter, follow us, and share this page with friends.",
    "All rights reserved. Terms of use, privacy policy, accessibility and contact are at the foot of the page.",
    "Related articles: what others read this week, the best of the year, and all that the editors think you may like.",
)


@dataclass(frozen=True)
class Planted:
    """An edited copy of a document: their numbers, what was done, and how much of the words it touched."""

    original: int
    edited: int
    edit: str
    strength: float


def read_corpus(folder: Path) -> list[str]:
    """The texts of all .jsonl.gz files under a folder."""
    texts = []
    for file in sorted(folder.rglob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    return texts


def plant_edits(texts: Sequence[str], seed: int) -> tuple[list[str], list[Planted]]:
    """The texts and, at random places after them, edited copies of some."""
    chooser = random.Random(seed)
    chosen = [n for n in range(len(texts)) if chooser.random() < EDITED_SHARE]
    copies = []
    for number in chosen:
        edit = chooser.choice(sorted(EDITS))
        strength = chooser.choice((0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4))
        copies.append((number, EDITS[edit](texts[number], strength, chooser), edit, strength))
    chooser.shuffle(copies)
    planted = [Planted(copy[0], len(texts) + n, copy[2], copy[3]) for n, copy in enumerate(copies)]
    return [*texts, *(copy[1] for copy in copies)], planted


def swap_words(text: str, strength: float, chooser: random.Random) -> str:
    """Put another word of the text for a share of the words."""
    words = text.split(" ")
    for place in chooser.sample(range(len(words)), min(len(words), max(1, round(strength * len(words))))):
        words[place] = chooser.choice(words) + "s"
    return " ".join(words)


def truncate(text: str, strength: float, _: random.Random) -> str:
    """Cut off a share at the end."""
    return text[: max(1, round(len(text) * (1 - strength)))]


def add_boilerplate(text: str, strength: float, chooser: random.Random) -> str:
    """Put sentences that many pages have before and after, until they are a share of the text."""
    lines = [chooser.choice(BOILERPLATE)]
    while sum(map(len, lines)) < strength * len(text):
        lines.append(f"{len(lines)}. {chooser.choice(BOILERPLATE)}")
    middle = len(lines) // 2
    return "\n".join([*lines[:middle], text, *lines[middle:]])


def reorder_paragraphs(text: str, strength: float, chooser: random.Random) -> str:
    """Move a share of the paragraphs (of sentences, where there is only one) elsewhere."""
    separator = "\n" if text.count("\n") > 3 else ". "
    parts = text.split(separator)
    for _ in range(max(1, round(strength * len(parts)))):
        parts.insert(chooser.randrange(len(parts)), parts.pop(chooser.randrange(len(parts))))
    return separator.join(parts)


EDITS = {
    "word swaps": swap_words,
    "truncation": truncate,
    "boilerplate": add_boilerplate,
    "reordering": reorder_paragraphs,
}


def varied(texts: Sequence[str], copy: int) -> Iterator[str]:
    """The texts in other words, a fourth of them changed, so that no 5-gram is the same (copy 0: as they are)."""
    for text in texts:
        words = text.split()
        if copy:
            words[::4] = [f"{word}{copy}" for word in words[::4]]
        yield " ".join(words) if copy else text


def write_documents(files: Sequence[Path], texts: Sequence[str], copies: int = 1) -> None:
    """Write JSON lines of id and text, dealt out to the files; `copies` times the documents, each time varied."""
    handles = [file.open("w", encoding="utf-8") for file in files]
    for copy in range(copies):
        for n, text in enumerate(varied(texts, copy)):
            line = json.dumps({"id": f"{copy * len(texts) + n:024x}", "text": text}, ensure_ascii=False)
            handles[n % len(handles)].write(line + "\n")
    for handle in handles:
        handle.close()


def true_similarities(texts: Sequence[str], least: float) -> dict[tuple[int, int], float]:
    """All pairs of texts whose sets of word 5-grams have a Jaccard similarity of `least` or more, by counting them.

    Shares no code with what is judged: grams are strings, hashed by Python.
    """
    sets = []
    for text in texts:
        words = text.split()
        n = min(WORDS_PER_GRAM, len(words))
        sets.append({hash(" ".join(words[k : k + n])) for k in range(len(words) - n + 1)} if words else set())
    sizes = np.array([len(grams) for grams in sets])
    owners = np.repeat(np.arange(len(sets), dtype=np.int32), sizes)
    grams = np.fromiter((gram for some in sets for gram in some), np.int64, int(sizes.sum()))
    del sets
    order = np.argsort(grams, kind="stable")
    grams, owners = grams[order], owners[order]
    begins = np.searchsorted(grams, grams, side="left")
    ends = np.searchsorted(grams, grams, side="right")
    by_owner = np.argsort(owners, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    found = {}
    for a in range(len(sizes)):
        places = by_owner[starts[a] : starts[a + 1]]
        places = places[ends[places] - begins[places] > 1]
        if not len(places):
            continue
        with_it = np.concatenate([owners[begins[place] : ends[place]] for place in places.tolist()])
        others, shared = np.unique(with_it[with_it > a], return_counts=True)
        similarity = shared / (sizes[a] + sizes[others] - shared)
        for b, value in zip(others.tolist(), similarity.tolist(), strict=True):
            if value >= least:
                found[a, b] = value
    return found
