"""How to continue a prompt: every option of decoding, with its meaning and its limits. No torch, no numba here.

Order of what acts on the logits: forced tokens; repetition, presence and frequency penalties; logit bias; banned
tokens, with those that `min_tokens` and `no_repeat_ngram` forbid; temperature; top-k; top-p; min-p; typical.
Log-probabilities that are reported are the model's own, before all of these.
"""

import math
from dataclasses import dataclass

from gpt2lab.base.errors import BadOption


@dataclass(frozen=True)
class SamplingOptions:
    """How to continue a prompt. Raises BadOption for values that mean nothing."""

    max_tokens: int = 128
    """Most tokens to add."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable token always."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest tokens that hold this much probability; 1 keeps all."""
    seed: int = 0
    """Decides all random choices: the same seed gives the same text."""
    n: int = 1
    """How many continuations; the i-th one's random numbers depend on the seed and i alone."""
    stop: tuple[str, ...] = ()
    """End before the first of these strings appears."""
    min_p: float = 0.0
    """Keep tokens at least this many times as probable as the most probable one; 0 keeps all."""
    typical_p: float = 1.0
    """Keep the tokens whose surprise is nearest the expected one, till they hold this much probability; 1 keeps all."""
    repetition_penalty: float = 1.0
    """Divide positive logits (multiply negative ones) of tokens that occurred, prompt included; 1 changes nothing."""
    presence_penalty: float = 0.0
    """Take this from the logit of every token that was generated already."""
    frequency_penalty: float = 0.0
    """Take this from the logit of a token once for every time it was generated."""
    no_repeat_ngram: int = 0
    """Never repeat a run of this many tokens, prompt included, but where no other token is left; 0 allows all."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""
    banned: tuple[int, ...] = ()
    """Ids of tokens that are never chosen."""
    forced: tuple[int, ...] = ()
    """Ids of tokens that the continuation has to begin with."""
    min_tokens: int = 0
    """Add at least this many tokens: the end-of-text token is not chosen before. (A stop string ends all the same.)"""
    ignore_end_of_text: bool = False
    """Go on to --max-tokens: the end-of-text token is never chosen."""
    best_of: int = 0
    """Make this many continuations, return the n of highest mean log-probability a token; 0 makes n."""
    beams: int = 0
    """Search with this many beams instead of sampling, and return the n best; 0 samples."""
    length_penalty: float = 1.0
    """Beams are compared by the sum of log-probabilities divided by (number of tokens) to this power."""
    logprobs: int | None = None
    """Report log-probabilities: of each token chosen, and of this many most probable alternatives beside it."""

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise BadOption(f"--max-tokens {self.max_tokens}: must be at least 0.")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise BadOption(
                f"--min-tokens {self.min_tokens}: must be from 0 to --max-tokens, which is {self.max_tokens}."
            )
        if self.no_repeat_ngram < 0 or self.no_repeat_ngram == 1:
            raise BadOption(f"--no-repeat-ngram {self.no_repeat_ngram}: must be at least 2 tokens, or 0 (off).")
        if not 0 <= self.temperature < math.inf:
            raise BadOption(f"--temperature {self.temperature}: must be a number of at least 0 (0 is greedy).")
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"--seed {self.seed}: must be at least 0 and below 2**63.")
        if self.top_k < 0:
            raise BadOption(f"--top-k {self.top_k}: must be at least 0 (0 keeps all tokens).")
        for name in ("top_p", "typical_p"):
            if not 0 < getattr(self, name) <= 1:
                raise BadOption(f"{_flag(name)} {getattr(self, name)}: must be above 0 and at most 1.")
        if not 0 <= self.min_p <= 1:
            raise BadOption(f"--min-p {self.min_p}: must be at least 0 and at most 1.")
        if not 0 < self.repetition_penalty < math.inf:
            raise BadOption(f"--repetition-penalty {self.repetition_penalty}: must be a number above 0 (1 is none).")
        for name in ("presence_penalty", "frequency_penalty", "length_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise BadOption(f"{_flag(name)} {getattr(self, name)}: must be a number.")
        for token, bias in self.logit_bias:
            if math.isnan(bias) or bias == math.inf:
                raise BadOption(f"--logit-bias {token} {bias}: must be a number, or -inf.")
        if len(self.forced) > self.max_tokens:
            raise BadOption(f"--forced: {len(self.forced)} tokens; --max-tokens {self.max_tokens} leaves no room.")
        if any(not stop for stop in self.stop):
            raise BadOption("--stop: an empty stop string would stop at once.")
        if self.n < 1:
            raise BadOption(f"--n {self.n}: must be at least 1.")
        if self.best_of and self.best_of < self.n:
            raise BadOption(f"--best-of {self.best_of}: must be at least --n, which is {self.n}.")
        if self.beams < 0 or 0 < self.beams < self.n:
            raise BadOption(f"--beams {self.beams}: must be 0 (none) or at least --n, which is {self.n}.")
        if self.beams and self.best_of:
            raise BadOption("--best-of and --beams are two ways to choose; take one of them.")
        if self.logprobs is not None and self.logprobs < 0:
            raise BadOption(f"--logprobs {self.logprobs}: must be at least 0 alternatives.")

    @property
    def sequences(self) -> int:
        """How many sequences run side by side for one prompt."""
        return max(self.n, self.best_of, self.beams)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
