"""Beam search as decisions only: from the logits after each beam, which beams go on with which token, and which end.

The rules are those of transformers' beam search (num_beams, early_stopping False, length_penalty, no sampling):

- A beam's score is the sum of its tokens' log-probabilities, on which penalties, biases and bans act (on logarithms of
  probabilities, not on logits: a repetition penalty multiplies them). Temperature and the filters have no part in it.
- Of all continuations of all beams the 2 * beams best are looked at. Those among the first `beams` that end (the
  end-of-text token, a stop string, the last token allowed) are hypotheses, compared by score / tokens**length_penalty,
  the end-of-text token counted; the best `beams` of them are remembered. The best `beams` that don't end go on.
- The search is over when there are `beams` hypotheses and the best beam, ending now, would beat none of them.

Only where the vocabulary is tiny or almost all banned is it another: a token of probability 0 never continues a beam,
and so there may be fewer beams, and fewer hypotheses in the end, than were asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import Adjustments, Choice, History, as_contiguous, checked_best, logprobs_of


@dataclass(frozen=True)
class Beam:
    """A continuation that goes on: its tokens, and the sum of their log-probabilities after penalties."""

    choices: tuple[Choice, ...]
    score: float
    history: History

    @property
    def last_token(self) -> int:
        """The token that has to be read next."""
        return self.choices[-1].token


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that ended, without its end-of-text token; `score` is what hypotheses are compared by."""

    choices: tuple[Choice, ...]
    score: float
    finish_reason: Literal["stop", "length", "end_of_text"]


class BeamSearch:
    """The search for the continuations of one prompt. Raises BadOption as `Adjustments` does.

    After the prompt is read: `advance` with its logits [1, V]. Then, until `done`: read each beam's `last_token` in the
    cache of the beam that `advance` named its parent, and `advance` with the logits [B, V] of the beams in their order.
    """

    def __init__(self, options: SamplingOptions, vocab_size: int, prompt_ids: Sequence[int], end_of_text: int) -> None:
        self._options, self._end_of_text = options, end_of_text
        self._adjustments = Adjustments(options, vocab_size, end_of_text)
        self._step = 0
        self.live = [Beam((), 0.0, History(options, prompt_ids))]
        self.hypotheses: list[Hypothesis] = []
        """Those remembered, best first: at most as many as beams."""
        if options.max_tokens == 0:
            self.live, self.hypotheses = [], [Hypothesis((), 0.0, "length")] * options.n

    @property
    def done(self) -> bool:
        """Whether no beam need be read any more."""
        if len(self.hypotheses) < self._options.beams or not self.live:
            return not self.live
        return self._normalized(self.live[0].score) <= self.hypotheses[-1].score

    def advance(
        self, logits_BV: NDArray[np.float32], ends_in_stop: Callable[[list[int]], bool] | None = None
    ) -> list[int]:
        """Go a token further, by the logits [B, V] after each live beam.

        `ends_in_stop` tells of the ids that a continuation generated so far whether a stop string is in their text;
        it is asked only where there are stop strings. Gives for each beam that is live now the place, among those live
        before, of the beam it continues. Raises BadInput for logits that are not finite.
        """
        before = self.live  # replaced at the end, so that an interrupt leaves either these or the next ones
        live: list[Beam] = []
        parents: list[int] = []
        hypotheses = [*self.hypotheses]
        continuations = [
            (-score, parent, token)
            for parent, beam in enumerate(before)
            for score, token in self._continuations(beam, logits_BV[parent])
        ]
        self._step += 1
        width, by_history = self._options.beams, self._adjustments.by_history
        for rank, (loss, parent, token) in enumerate(sorted(continuations)[: 2 * width]):
            choices = before[parent].choices
            ended = self._end(choices, token, ends_in_stop)
            if len(live) == width if not ended else rank >= width:
                continue
            if ended != "end_of_text":
                choices = (*choices, self._choice(logits_BV[parent], token))
            if ended:
                hypotheses.append(Hypothesis(choices, self._normalized(-loss), ended))
            else:
                history = before[parent].history
                live.append(Beam(choices, -loss, history.followed_by(token) if by_history else history))
                parents.append(parent)
        self.live, self.hypotheses = live, sorted(hypotheses, key=lambda found: -found.score)[:width]
        return parents

    def _normalized(self, score: float) -> float:
        """The score of a continuation that has as many tokens as the live beams."""
        return float(score / self._step**self._options.length_penalty)

    def _continuations(self, beam: Beam, logits_V: NDArray[np.float32]) -> list[tuple[float, int]]:
        """Scores and tokens of a beam's best continuations, as many as could be looked at."""
        from gpt2lab.generate.sampling_kernels import log_of_sum, most_probable

        best = checked_best(logits_V)
        logprobs_V = logits_V - np.float32(log_of_sum(as_contiguous(logits_V), best))
        if self._step < len(self._options.forced):
            token = self._options.forced[self._step]
            return [(beam.score + float(logprobs_V[token]), token)]
        if self._adjustments.any:
            logprobs_V = self._adjustments.applied(logprobs_V, beam.history)
        ids_K, values_K = most_probable(logprobs_V, min(2 * self._options.beams, len(logprobs_V)))
        return [
            (beam.score + value, token)
            for value, token in zip(values_K.tolist(), ids_K.tolist(), strict=True)
            if value > -np.inf
        ]

    def _end(
        self, choices: tuple[Choice, ...], token: int, ends_in_stop: Callable[[list[int]], bool] | None
    ) -> Literal["stop", "length", "end_of_text"] | None:
        """Why a continuation ends with a token, or None where it goes on."""
        if token == self._end_of_text:
            return "end_of_text"
        if self._options.stop and ends_in_stop and ends_in_stop([*(choice.token for choice in choices), token]):
            return "stop"
        return "length" if self._step == self._options.max_tokens else None

    def _choice(self, logits_V: NDArray[np.float32], token: int) -> Choice:
        return Choice(token, *logprobs_of(logits_V, logits_V.max(), token, self._options.logprobs or 0))
