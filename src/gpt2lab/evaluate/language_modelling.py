"""Loss and bits per byte of a model on documents, and of the simplest model of all beside it.

Each document is scored on its own: it begins with `<|endoftext|>`, as in training, and its text is scored in windows of
the network's context, each token once. `stride` tokens are new in each window after the first; the rest is context.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.scoring import Pair, log_likelihoods
from gpt2lab.generate.language_model import LanguageModel


@dataclass(frozen=True)
class LanguageModellingResult:
    """Loss in nats a token and bits per byte of text, with standard errors over documents (None for a single one)."""

    documents: int
    tokens: int
    text_bytes: int
    loss: float
    loss_standard_error: float | None
    bits_per_byte: float
    bits_per_byte_standard_error: float | None

    @property
    def perplexity(self) -> float:
        """exp(loss), a token."""
        return math.exp(self.loss)


def score_documents(model: LanguageModel, texts: Sequence[str], stride: int | None = None) -> LanguageModellingResult:
    """Score documents; `stride` defaults to half the network's context. Raises BadInput where there is no text."""
    context_length = model.network.config.context_length
    stride = stride or context_length // 2
    pairs, owner = [], []
    ids_of = model.tokenizer.encode_batch(texts)
    for number, ids in enumerate(ids_of):
        for pair in windows([model.tokenizer.end_of_text, *ids], context_length, stride):
            pairs.append(pair)
            owner.append(number)
    if not pairs:
        raise BadInput("no text to evaluate on.")
    nats = np.zeros(len(texts))
    for number, scores in zip(owner, log_likelihoods(model.network, pairs, "evaluate"), strict=True):
        nats[number] -= sum(scores)
    tokens = np.array([len(ids) for ids in ids_of], dtype=np.float64)
    text_bytes = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.float64)
    loss, loss_error = _ratio(nats, tokens)
    bits, bits_error = _ratio(nats / math.log(2), text_bytes)
    return LanguageModellingResult(
        len(texts), int(tokens.sum()), int(text_bytes.sum()), loss, loss_error, bits, bits_error
    )


def windows(ids: Sequence[int], context_length: int, stride: int) -> list[Pair]:
    """Cut one document (its first token is given, not scored) into pairs that score each later token once."""
    pairs, scored = [], 1
    while scored < len(ids):
        end = min(len(ids), scored + (context_length if scored == 1 else stride))
        start = max(0, end - context_length - 1)
        pairs.append(Pair(tuple(ids[start:scored]), tuple(ids[scored:end])))
        scored = end
    return pairs


def _ratio(numerators: npt.NDArray[np.float64], denominators: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """A ratio of sums over documents and its standard error (delta method for a ratio estimator)."""
    ratio = numerators.sum() / denominators.sum()
    n = len(numerators)
    if n < 2:
        return float(ratio), None
    residuals = numerators - ratio * denominators
    return float(ratio), float(math.sqrt(n / (n - 1) * (residuals**2).sum()) / denominators.sum())


def unigram_loss(train_counts: npt.NDArray[np.int64], val_counts: npt.NDArray[np.int64]) -> float:
    """Loss in nats a token of the model that knows only how often each token occurs in training (add-one smoothed).

    Both counts are int64 [vocab_size]; the loss is over the tokens that `val_counts` counts.
    """
    probabilities = (train_counts + 1) / (train_counts.sum() + len(train_counts))
    return float(-(val_counts * np.log(probabilities)).sum() / val_counts.sum())
