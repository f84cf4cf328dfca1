"""Choosing the next token from logits: temperature, top-k, top-p, in this order.

Edge rules: temperature 0 is greedy. top-k 0 and top-p 1 switch the filters off. Equal logits at the k-th place all stay
(as in the released code). top-p keeps the smallest set of most probable tokens whose probability reaches p, never none;
the released code keeps one token fewer where the sum lands between two tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
    stop: tuple[str, ...] = ()
    """End before the first of these strings appears."""

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise BadOption(f"--max-tokens {self.max_tokens}: must be at least 0.")
        if not self.temperature >= 0 or self.temperature == float("inf"):
            raise BadOption(f"--temperature {self.temperature}: must be a number of at least 0 (0 is greedy).")
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"--seed {self.seed}: must be at least 0 and below 2**63.")
        if self.top_k < 0:
            raise BadOption(f"--top-k {self.top_k}: must be at least 0 (0 keeps all tokens).")
        if not 0 < self.top_p <= 1:
            raise BadOption(f"--top-p {self.top_p}: must be above 0 and at most 1.")
        if any(not stop for stop in self.stop):
            raise BadOption("--stop: an empty stop string would stop at once.")


def filtered_probabilities(logits_V: Tensor, options: SamplingOptions) -> Tensor:
    """Probabilities [V] of the next token after temperature (above 0), top-k and top-p."""
    logits_V = (logits_V.double() - logits_V.max()) / options.temperature
    if 0 < options.top_k < len(logits_V):
        kth_best = logits_V.topk(options.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < kth_best, -torch.inf)
    probabilities_V = logits_V.softmax(-1)
    if options.top_p < 1:
        sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
        before_V = sorted_V.cumsum(-1) - sorted_V
        probabilities_V = probabilities_V.index_fill(0, order_V[before_V >= options.top_p], 0.0)
        probabilities_V = probabilities_V / probabilities_V.sum()
    return probabilities_V


def choose_token(logits_V: Tensor, options: SamplingOptions, generator: torch.Generator) -> int:
    """The next token's id."""
    if options.temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial(filtered_probabilities(logits_V, options), 1, generator=generator))
