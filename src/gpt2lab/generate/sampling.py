"""Stand-in until the sampler is merged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2lab.base.errors import BadInput
from gpt2lab.generate.backend import Float32
from gpt2lab.generate.options import SamplingOptions


@dataclass(frozen=True)
class Choice:
    """A chosen token."""

    token: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses tokens."""

    def __init__(
        self, options: SamplingOptions, vocab_size: int, prompt_ids: Sequence[int], end_of_text: int, index: int = 0
    ) -> None:
        self.options, self.end_of_text, self.index, self.step = options, end_of_text, index, 0

    def choose(self, logits_V: Float32) -> Choice:
        """The next token."""
        options = self.options
        if not np.isfinite(logits_V).all():
            raise BadInput("the model gives logits that are not numbers: its weights are broken.")
        logits = logits_V.astype(np.float64)
        log_probs = logits - logits.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        if options.ignore_end_of_text:
            logits[self.end_of_text] = -np.inf
        if options.temperature == 0:
            token = int(logits.argmax())
        else:
            logits = (logits - logits.max()) / options.temperature
            if 0 < options.top_k < len(logits):
                logits[logits < np.sort(logits)[-options.top_k]] = -np.inf
            p = np.exp(logits)
            p /= p.sum()
            seeds = np.random.SeedSequence([options.seed, self.index, self.step])
            token = int(np.random.default_rng(seeds).choice(len(p), p=p))
        self.step += 1
        if options.logprobs is None and not options.best_of:
            return Choice(token)
        best = np.argsort(-log_probs)[: options.logprobs or 0]
        return Choice(token, float(log_probs[token]), tuple((int(i), float(log_probs[i])) for i in best))
