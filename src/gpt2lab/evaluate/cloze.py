"""A ten-way cloze in the manner of the Children's Book Test (Hill et al. 2016; GPT-2 paper, section 3.2).

A word is taken out of a document and nine others of similar frequency stand beside it; the model chooses the one under
which the word and the rest of its sentence are most probable, given what comes before.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.scoring import Pair, log_likelihoods
from gpt2lab.generate.language_model import LanguageModel

CANDIDATES = 10
CONTEXT_WORDS = 100
_WORD = re.compile(r"(?<=[a-z,] )[a-z]{4,}(?=[ .,;:?!])")  # inside a sentence, four or more small letters
_SENTENCE_END = re.compile(r"[.?!](?:\s|$)|\n")


@dataclass(frozen=True)
class ClozeItem:
    """One question. `before` ends in a space that belongs to the candidate; `candidates[answer]` is the right one."""

    before: str
    candidates: tuple[str, ...]
    after: str
    answer: int


@dataclass(frozen=True)
class ClozeResult:
    """Share of right answers with its binomial standard error; `choices` holds the candidate taken in each item."""

    items: int
    correct: int
    accuracy: float
    standard_error: float
    chance: float
    choices: tuple[int, ...]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word that can become a question occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text))
    return counts


def make_cloze(texts: Sequence[str], word_counts: Counter[str], most: int, seed: int = 0) -> list[ClozeItem]:
    """Up to `most` questions, one a document per round, from texts the model has not seen.

    `word_counts` (of the training texts) say which words are similar in frequency: the nine nearest ranks on either
    side are drawn from at random. The words asked for lie outside the hundred most frequent ones.
    Raises BadInput when the texts or the counts give too few words.
    """
    chooser = random.Random(seed)
    ranking = [word for word, count in sorted(word_counts.items(), key=lambda pair: (-pair[1], pair[0])) if count >= 2]
    rank_of = {word: rank for rank, word in enumerate(ranking)}
    if len(ranking) < 200:
        raise BadInput(f"only {len(ranking)} different words in the training texts: too few for a cloze test.")
    places = [[match for match in _WORD.finditer(text) if rank_of.get(match.group(), -1) >= 100] for text in texts]
    for matches in places:
        chooser.shuffle(matches)
    items: list[ClozeItem] = []
    while len(items) < most and any(places):
        for text, matches in zip(texts, places, strict=True):
            if matches and len(items) < most:
                items.append(_make_item(text, matches.pop(), ranking, rank_of, chooser))
    if not items:
        raise BadInput("the held-out texts have no word to ask for in a cloze test.")
    return items


def _make_item(
    text: str, match: re.Match[str], ranking: list[str], rank_of: dict[str, int], chooser: random.Random
) -> ClozeItem:
    word = match.group()
    rank = rank_of[word]
    start = min(max(100, rank - CANDIDATES), len(ranking) - 2 * CANDIDATES - 1)
    neighbours = [other for other in ranking[start : start + 2 * CANDIDATES + 1] if other != word]
    candidates = [word, *chooser.sample(neighbours, CANDIDATES - 1)]
    chooser.shuffle(candidates)
    words_before = list(re.finditer(r"\S+", text[: match.start()]))
    begin = words_before[-CONTEXT_WORDS].start() if len(words_before) > CONTEXT_WORDS else 0
    end = _SENTENCE_END.search(text, match.end())
    after = text[match.end() : end.start() + 1 if end else len(text)]
    return ClozeItem(text[begin : match.start()], tuple(candidates), after.rstrip("\n"), candidates.index(word))


def score_cloze(model: LanguageModel, items: Sequence[ClozeItem]) -> ClozeResult:
    """Answer every question by the total log-probability of the candidate and the rest of its sentence."""
    window = model.network.config.context_length
    encode, end_of_text = model.tokenizer.encode, model.tokenizer.end_of_text
    pairs = []
    for item in items:
        # The space before the word belongs to the word's token.
        context = (end_of_text, *encode(item.before.removesuffix(" ")))
        pairs += [Pair(context, tuple(encode(f" {candidate}{item.after}")[:window])) for candidate in item.candidates]
    totals = [math.fsum(scores) for scores in log_likelihoods(model.network, pairs, "cloze")]
    choices = []
    for number in range(len(items)):
        scores = totals[number * CANDIDATES : (number + 1) * CANDIDATES]
        choices.append(scores.index(max(scores)))
    correct = sum(choice == item.answer for choice, item in zip(choices, items, strict=True))
    accuracy = correct / len(items)
    error = math.sqrt(accuracy * (1 - accuracy) / len(items))
    return ClozeResult(len(items), correct, accuracy, error, 1 / CANDIDATES, tuple(choices))


def cloze_rows(items: Sequence[ClozeItem], result: ClozeResult) -> list[dict[str, object]]:
    """Items with the model's choice, as JSON rows."""
    return [asdict(item) | {"choice": choice} for item, choice in zip(items, result.choices, strict=True)]
