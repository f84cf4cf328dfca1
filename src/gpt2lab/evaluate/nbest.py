"""Re-scoring of a speech recognizer's n-best lists with a language model.

A hypothesis' total is the recognizer's score + weight x its log-likelihood + bonus x its words; the best total wins.
Weight and bonus are those that make the fewest word errors on a part of the utterances; what is gained is measured on
the others.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import progress_bar
from gpt2lab.datasets.nbest_lists import Utterance
from gpt2lab.evaluate.line_scores import score_lines
from gpt2lab.evaluate.statistics import Metric, ratio
from gpt2lab.generate.language_model import LanguageModel

Numbers = npt.NDArray[np.float64]
WEIGHTS = (0.0, *np.geomspace(0.01, 100.0, 81).tolist())
"""From no influence to scores that are log costs of sounds, unscaled, where 10 to 20 are usual."""
BONUSES_A_WEIGHT = np.arange(-2.0, 8.5, 0.5).tolist()
"""Nats a word that the bonus gives back of what the model's log-likelihood takes, which is some five nats a word."""
SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class Best:
    """An utterance's best hypothesis; `rank` is its place by the recognizer's own score, from 1."""

    id: str
    text: str
    rank: int
    score: float
    log_likelihood: float
    total: float


@dataclass(frozen=True)
class WordErrors:
    """Word error rates over utterances that no weight was tuned on; errors by a bootstrap over utterances.

    `change` is after - before. `p_value`: how often as large a change arises by chance, if for each utterance it were a
    coin's throw which of the two transcripts is which.
    """

    before: Metric
    after: Metric
    oracle: Metric
    change: Metric
    p_value: float


@dataclass(frozen=True)
class Rescoring:
    """What re-scoring did; `tuned_on` is the number of utterances that weight and bonus were chosen on."""

    utterances: int
    hypotheses: int
    weight: float
    length_bonus: float
    tuned_on: int
    word_errors: WordErrors | None
    best: tuple[Best, ...]


@dataclass(frozen=True)
class _Table:
    """Lists side by side, float64 [utterances, hypotheses] each; where a list is shorter, scores are -inf."""

    scores: Numbers
    log_likelihoods: Numbers
    words: Numbers

    def totals(self, weight: float, bonus: float) -> Numbers:
        return self.scores + weight * self.log_likelihoods + bonus * self.words


def rescore(
    model: LanguageModel,
    utterances: Sequence[Utterance],
    weight: float | None = None,
    length_bonus: float | None = None,
    held_out_share: float = 0.3,
) -> Rescoring:
    """Choose each utterance's best hypothesis.

    `weight` and `length_bonus` (0 where only the weight is given) are tuned on a share of the utterances that have a
    reference unless given: always the same ones, by a hash of their ids. Raises BadOption where there is nothing to
    tune on.
    """
    if not 0 < held_out_share < 1:
        raise BadOption(f"--held-out-share {held_out_share}: give a share between 0 and 1.")
    if weight is None and length_bonus is not None:
        raise BadOption("--length-bonus goes with --weight; give both, or neither to have them tuned.")
    for name, value in (("--weight", weight), ("--length-bonus", length_bonus)):
        if value is not None and not math.isfinite(value):
            raise BadOption(f"{name} {value}: give a number.")
    known = [number for number, each in enumerate(utterances) if each.reference is not None]
    tuned: list[int] = []
    if weight is None:
        if len(known) < 2:
            raise BadOption("no references to tune a weight on: give at least two utterances theirs, or --weight.")
        known.sort(key=lambda number: hashlib.sha256(utterances[number].id.encode()).digest())
        tuned = known[: min(max(1, round(held_out_share * len(known))), len(known) - 1)]
        known = known[len(tuned) :]
    table = _table(model, utterances)
    errors, words = _word_errors(utterances, table.scores.shape)
    if weight is None:
        weight, length_bonus = _tuned(table, errors, tuned)
    bonus = length_bonus or 0.0
    totals = table.totals(weight, bonus)
    chosen, first = totals.argmax(axis=1), table.scores.argmax(axis=1)
    return Rescoring(
        len(utterances),
        sum(len(each.hypotheses) for each in utterances),
        weight,
        bonus,
        len(tuned),
        _measured(errors, words, first, chosen, sorted(known)) if known else None,
        tuple(_best(each, n, table, totals) for n, each in enumerate(utterances)),
    )


def _table(model: LanguageModel, utterances: Sequence[Utterance]) -> _Table:
    texts = list(dict.fromkeys(hypothesis.text for each in utterances for hypothesis in each.hypotheses))
    with progress_bar("re-score", len(texts), "hypotheses") as bar:
        scored = score_lines(model, texts, bar)
    log_likelihood = {text: found.log_likelihood or 0.0 for text, found in zip(texts, scored, strict=True)}
    shape = (len(utterances), max(len(each.hypotheses) for each in utterances))
    table = _Table(np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape))
    for row, each in enumerate(utterances):
        for column, hypothesis in enumerate(each.hypotheses):
            table.scores[row, column] = hypothesis.score
            table.log_likelihoods[row, column] = log_likelihood[hypothesis.text]
            table.words[row, column] = len(hypothesis.text.split())
    return table


def _word_errors(utterances: Sequence[Utterance], shape: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """Word errors of each hypothesis, and words of each reference; where there is none, inf and 0."""
    errors, words = np.full(shape, np.inf), np.zeros(shape[0])
    for row, each in enumerate(utterances):
        if each.reference is None:
            continue
        said = each.reference.split()
        words[row] = len(said)
        for column, hypothesis in enumerate(each.hypotheses):
            errors[row, column] = word_edits(said, hypothesis.text.split())
    return errors, words


def word_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Fewest words to substitute, insert and delete to turn one into the other (Levenshtein)."""
    start, ends = 0, (len(reference), len(hypothesis))
    while start < min(ends) and reference[start] == hypothesis[start]:
        start += 1
    while start < min(ends) and reference[ends[0] - 1] == hypothesis[ends[1] - 1]:
        ends = (ends[0] - 1, ends[1] - 1)
    row = list(range(ends[1] - start + 1))
    for number, word in enumerate(reference[start : ends[0]], 1):
        diagonal, row[0] = row[0], number
        for place, other in enumerate(hypothesis[start : ends[1]], 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other))
    return row[-1]


def _tuned(table: _Table, errors: Numbers, rows: Sequence[int]) -> tuple[float, float]:
    """The weight and bonus with the fewest word errors on `rows`.

    Of several weights the middle one, as those at the ends are nearest to where errors begin; of its bonuses the
    smallest.
    """
    part = _Table(table.scores[rows], table.log_likelihoods[rows], table.words[rows])
    fewest, best = np.inf, {0.0: 0.0}
    for weight in WEIGHTS:
        for bonus in sorted({weight * each for each in BONUSES_A_WEIGHT}, key=abs):
            made = float(errors[rows, part.totals(weight, bonus).argmax(axis=1)].sum())
            if made < fewest:
                fewest, best = made, {weight: bonus}
            elif made == fewest:
                best.setdefault(weight, bonus)
    weight = list(best)[len(best) // 2]
    return weight, best[weight]


def _measured(
    errors: Numbers, words: Numbers, first: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64], rows: Sequence[int]
) -> WordErrors:
    said = words[rows]
    if not said.sum():
        raise BadInput("the references hold no words: there is no word error rate.")
    before, after, oracle = errors[rows, first[rows]], errors[rows, chosen[rows]], errors[rows].min(axis=1)
    changes = after - before
    return WordErrors(
        ratio("word error rate before", before.tolist(), said.tolist()),
        ratio("word error rate after", after.tolist(), said.tolist()),
        ratio("word error rate, oracle", oracle.tolist(), said.tolist()),
        ratio("change of the word error rate", changes.tolist(), said.tolist()),
        _sign_flip_p_value(changes),
    )


def _sign_flip_p_value(changes: Numbers) -> float:
    """Two-sided p-value of a sum of paired differences, by turning the signs of those that are not zero at random."""
    changes = changes[changes != 0]
    generator = np.random.default_rng(0)
    as_large = 0
    for _ in range(SIGN_FLIPS):
        signs = generator.integers(0, 2, len(changes)) * 2 - 1
        as_large += abs(float(signs @ changes)) >= abs(float(changes.sum())) - 1e-9
    return (as_large + 1) / (SIGN_FLIPS + 1)


def _best(utterance: Utterance, row: int, table: _Table, totals: Numbers) -> Best:
    column = int(totals[row].argmax())
    scores = table.scores[row]
    before = (scores > scores[column]) | ((scores == scores[column]) & (np.arange(len(scores)) < column))
    return Best(
        utterance.id,
        utterance.hypotheses[column].text,
        int(before.sum()) + 1,
        float(scores[column]),
        float(table.log_likelihoods[row, column]),
        float(totals[row, column]),
    )
