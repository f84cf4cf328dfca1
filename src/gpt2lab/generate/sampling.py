"""Choosing the next token of one sequence from the model's logits, by SamplingOptions. No torch here.

Edge rules, and where the released code's (openai/gpt-2, src/sample.py) differ:

- Temperature 0 is greedy: the greatest logit, the lowest id among equals. The released code divides by it.
- top-k: logits equal to the k-th greatest all stay, so that more than k may be left: as in the released code. A k
  beyond the vocabulary keeps all; there it is an error.
- top-p keeps the fewest most probable tokens whose probability reaches p, never none; of equals at the border the
  lowest ids. The released code keeps those whose cumulative probability does not pass p, and the first in any case: one
  token fewer, except where a sum is p exactly; and all equals of the last one kept. At top-p 1 it may drop the least
  probable tokens, where rounding takes the sum past 1; ours keeps all.
- Each filter sees the probabilities that the filters before it left, as there: top-k 2 and then top-p 0.5 asks for half
  of what the two tokens hold.
- min-p, typical and penalties aren't in the released code. Repetition penalty, no-repeat n-grams, bans, biases, min-p
  and typical are those of transformers, but for equals at typical's border, of which again the lowest ids stay, and
  for n-grams where nothing else is left.
- A forced token is taken whatever else would forbid it.

Random numbers depend on the seed, the sequence's index and the step alone (see `sampling_kernels`).
"""

import math
from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate.options import SamplingOptions

Float32 = NDArray[np.float32]

_GREATEST = float(np.finfo(np.float32).max)


class Choice(NamedTuple):
    """A token chosen. `logprob` is the model's own, before all options; `alternatives` are the most probable tokens."""

    token: int
    logprob: float | None
    alternatives: tuple[tuple[int, float], ...]


class History:
    """What penalties have to know of the tokens so far."""

    def __init__(self, options: SamplingOptions, prompt_ids: Sequence[int]) -> None:
        self.times: dict[int, int] = dict.fromkeys(prompt_ids, 0) if options.repetition_penalty != 1 else {}
        """How often each token that occurred was generated; the prompt's tokens only where they are penalized."""
        self.generated = 0
        self._before = options.no_repeat_ngram - 1
        self._last: tuple[int, ...] = ()
        self._followers: dict[tuple[int, ...], tuple[int, ...]] = {}
        for token in prompt_ids if self._before > 0 else ():
            self._follow(token)

    def push(self, token: int) -> None:
        """A token was generated."""
        self.times[token] = self.times.get(token, 0) + 1
        self.generated += 1
        if self._before > 0:
            self._follow(token)

    def followed_by(self, token: int) -> "History":
        """A copy that knows of one token more."""
        history = copy(self)
        history.times, history._followers = self.times.copy(), self._followers.copy()
        history.push(token)
        return history

    @property
    def would_repeat(self) -> tuple[int, ...]:
        """The tokens that would make a run of tokens that was there already."""
        return self._followers.get(self._last, ())

    def _follow(self, token: int) -> None:
        if len(self._last) == self._before:
            self._followers[self._last] = (*self._followers.get(self._last, ()), token)
        self._last = (*self._last, token)[-self._before :]


class Adjustments:
    """What options do to the values of tokens before temperature: penalties, biases, bans.

    Raises BadOption for ids outside the vocabulary, and where no token is left to choose.
    """

    def __init__(self, options: SamplingOptions, vocab_size: int, end_of_text: int) -> None:
        _check_ids("--forced", options.forced, vocab_size)
        _check_ids("--banned", options.banned, vocab_size)
        _check_ids("--logit-bias", (token for token, _ in options.logit_bias), vocab_size)
        self._options, self._end_of_text = options, end_of_text
        biases: dict[int, float] = {}
        for token, bias in options.logit_bias:
            biases[token] = min(biases.get(token, 0.0) + bias, _GREATEST)
        banned = set(options.banned) | {token for token, bias in biases.items() if bias < -_GREATEST}
        if options.ignore_end_of_text:
            banned.add(end_of_text)
        if len(banned | ({end_of_text} if options.min_tokens else set())) >= vocab_size:
            raise BadOption(
                f"--banned, --logit-bias, --ignore-end-of-text and --min-tokens forbid all {vocab_size} tokens:"
                " leave at least one."
            )
        self._bias_ids, self._biases = np.array(list(biases), np.int64), np.array(list(biases.values()))
        self._banned = np.array(sorted(banned), np.int64)
        penalties = options.presence_penalty or options.frequency_penalty or options.repetition_penalty != 1
        self._penalties = bool(penalties)
        self.by_history = bool(penalties or options.no_repeat_ngram or options.min_tokens)
        """Whether it matters what was generated."""
        self.any = bool(self.by_history or biases or banned)
        """Whether anything is changed at all."""
        self._only_bans = frozenset(banned) if not (self.by_history or biases) else None

    def leave(self, greatest: int) -> bool:
        """Whether it is sure that the greatest value stays what it is, and the greatest."""
        return self._only_bans is not None and greatest not in self._only_bans

    def applied(self, values_V: Float32, history: History) -> Float32:
        """A changed copy of logits, or of log-probabilities, [V]; -inf where a token is forbidden."""
        options, changed_V = self._options, values_V.copy()
        with np.errstate(over="ignore"):
            if self._penalties and history.times:
                ids_N = np.fromiter(history.times.keys(), np.int64, len(history.times))
                times_N = np.fromiter(history.times.values(), np.float64, len(history.times))
                values_N = values_V[ids_N].astype(np.float64)
                penalty = options.repetition_penalty
                values_N = _finite(np.where(values_N < 0, values_N * penalty, values_N / penalty))
                values_N -= options.presence_penalty * (times_N > 0) + options.frequency_penalty * times_N
                changed_V[ids_N] = _finite(values_N)
            if len(self._bias_ids):
                changed_V[self._bias_ids] = _finite(changed_V[self._bias_ids].astype(np.float64) + self._biases)
        changed_V[self._banned] = -np.inf
        if history.generated < options.min_tokens:
            changed_V[self._end_of_text] = -np.inf
        if repeated := history.would_repeat:
            others_V = changed_V.copy()
            others_V[list(repeated)] = -np.inf
            if others_V.max() > -np.inf:
                return others_V
        return changed_V


class Sampler:
    """Chooses the tokens of one sequence, and remembers them for penalties. Raises what `Adjustments` raises."""

    def __init__(
        self, options: SamplingOptions, vocab_size: int, prompt_ids: Sequence[int], end_of_text: int, index: int = 0
    ) -> None:
        self._options, self._vocab_size, self._index = options, vocab_size, index
        self._adjustments = Adjustments(options, vocab_size, end_of_text)
        self._history = History(options, prompt_ids)
        self._step = 0
        # Within what float32 holds, and above 0: a banned token's -inf must stay one.
        self._sharpness = np.float32(np.clip(1 / options.temperature, 1e-30, _GREATEST) if options.temperature else 1)
        # Numbers of other types would be compiled for anew.
        self._filters = (options.top_k, float(options.top_p), float(options.min_p), float(options.typical_p))
        self._with_logprob = options.logprobs is not None or options.best_of > 0

    def choose(self, logits_V: Float32, greatest: int | None = None) -> Choice:
        """The next token by the logits [V] after the last one. Raises BadInput for logits that are not finite.

        `greatest` is the id of the greatest logit where that is known (the lowest of equals), or -1 where one is not
        finite.
        """
        if logits_V.shape != (self._vocab_size,):
            raise ValueError(f"logits of shape {logits_V.shape} for a vocabulary of {self._vocab_size}")
        if greatest is not None and greatest < 0:
            greatest = None  # of more logits than these, perhaps
        best = checked_best(logits_V) if greatest is None else logits_V[greatest]
        token = self._next_token(logits_V, best, greatest)
        logprob: float | None = None
        alternatives: tuple[tuple[int, float], ...] = ()
        if self._with_logprob:
            logprob, alternatives = logprobs_of(logits_V, best, token, self._options.logprobs or 0)
        if self._adjustments.by_history:
            self._history.push(token)
        self._step += 1
        return Choice(token, logprob, alternatives)

    def _next_token(self, logits_V: Float32, best: np.float32, greatest: int | None) -> int:
        options = self._options
        if self._step < len(options.forced):
            return options.forced[self._step]
        if greatest is not None and options.temperature == 0 and self._adjustments.leave(greatest):
            return greatest
        if self._adjustments.any:
            logits_V = self._adjustments.applied(logits_V, self._history)
            best = logits_V.max()
        if options.temperature == 0:
            return int(logits_V.argmax())
        # numba takes a while to import, and greedy decoding needs none of it.
        from gpt2lab.generate.sampling_kernels import draw_token

        logits_V = as_contiguous(logits_V)
        randomness = (options.seed, self._index, self._step)
        return int(draw_token(logits_V, best, self._sharpness, *self._filters, *randomness))


def checked_best(logits_V: Float32) -> np.float32:
    """The greatest logit. Raises BadInput where one is not finite."""
    best: np.float32 = logits_V.max()  # both are NaN where one logit is
    if not (math.isfinite(best) and math.isfinite(logits_V.min())):
        raise BadInput(
            "the model gives logits that are not numbers: its weights are broken; `gpt2lab inspect` shows where."
        )
    return best


def as_contiguous(values_V: Float32) -> Float32:
    """The same values as the kernels are compiled for (each other kind of array would be compiled for anew)."""
    return np.require(values_V, np.float32, ["C", "A", "W"])


def logprobs_of(
    logits_V: Float32, best: np.float32, token: int, alternatives: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """A token's log-probability, and the ids and log-probabilities of the most probable ones, the first one best."""
    from gpt2lab.generate.sampling_kernels import log_of_sum, most_probable

    values_V = as_contiguous(logits_V)
    log_sum = log_of_sum(values_V, best)
    logprob = float(values_V[token]) - log_sum
    if not alternatives:
        return logprob, ()
    ids_K, values_K = most_probable(values_V, min(alternatives, len(values_V)))
    order = np.argsort(-values_K, kind="stable")[:alternatives]
    return logprob, tuple((int(ids_K[n]), float(values_K[n]) - log_sum) for n in order)


def _finite(values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """As near as float32 comes."""
    return np.clip(values_N, -_GREATEST, _GREATEST)


def _check_ids(flag: str, ids: Iterable[int], vocab_size: int) -> None:
    """Raise BadOption for an id that is no token's."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise BadOption(
                f"{flag} {token}: no such token; the vocabulary has {vocab_size}, ids 0 to {vocab_size - 1}."
            )
