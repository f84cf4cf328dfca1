"""One function from (context, continuation) pairs to log-likelihoods, with exact token borders."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar
from gpt2lab.model.gpt2 import GPT2, KVCache

TOKENS_A_BATCH = 8192


@dataclass(frozen=True)
class Pair:
    """What to score: the log-likelihood of `continuation` after `context` (token ids; the context is not empty)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class BannedTokens:
    """Tokens a model may not choose: bool [V] each, for the first token of a continuation and for those after it."""

    first: Tensor
    later: Tensor


@dataclass(frozen=True)
class Scores:
    """What a network says of one pair, token by token of its continuation.

    `log_probs` in nats; `best`: whether the token is the most probable one. The same among the tokens that are not
    banned, where any are (probabilities then renormalised). `truncated`: tokens cut off the start of the context.
    """

    log_probs: tuple[float, ...]
    best: tuple[bool, ...]
    allowed_log_probs: tuple[float, ...] | None = None
    allowed_best: tuple[bool, ...] | None = None
    truncated: int = 0

    @property
    def total(self) -> float:
        """Log-likelihood of the whole continuation in nats."""
        return math.fsum(self.log_probs)


def score(
    network: GPT2, pairs: Sequence[Pair], name: str = "score", banned: BannedTokens | None = None
) -> list[Scores]:
    """The scores of each pair, in their order; see `score_as_done`."""
    results: list[Scores | None] = [None] * len(pairs)
    with progress_bar(name, total=len(pairs)) as bar:
        for number, scores in score_as_done(network, pairs, banned):
            results[number] = scores
            bar.advance()
    return [scores for scores in results if scores is not None]


def score_as_done(
    network: GPT2, pairs: Sequence[Pair], banned: BannedTokens | None = None
) -> Iterator[tuple[int, Scores]]:
    """Number and scores of each pair, in the order in which they are computed."""
    raise NotImplementedError


@torch.inference_mode()
def log_likelihoods(network: GPT2, pairs: Sequence[Pair], name: str = "score") -> list[list[float]]:
    """Log-probability in nats of each continuation token of each pair.

    A context that several pairs share is computed once. The others are sorted by length and batched; rows are padded at
    the end, where causal attention keeps the padding from being seen, and the head is applied only where a score is
    needed. A pair longer than the network's context loses the start of its context. Raises BadInput when the
    continuation alone does not fit, and for logits that are no numbers.
    """
    window = network.config.context_length
    for pair in pairs:
        if len(pair.continuation) > window or not pair.context:
            raise BadInput(
                f"a continuation of {len(pair.continuation):,} tokens after a context of {len(pair.context):,} can't be"
                f" scored by a network with a context of {window:,} tokens."
            )
    sharing: dict[tuple[int, ...], list[int]] = {}
    for n, pair in enumerate(pairs):
        sharing.setdefault(pair.context, []).append(n)
    alone: list[int] = []
    results: list[list[float]] = [[] for _ in pairs]
    with progress_bar(name, total=len(pairs)) as bar:
        for context, members in sharing.items():
            longest = max(len(pairs[n].continuation) for n in members)
            if len(members) == 1 or len(context) + longest - 1 > window:
                alone += members
                continue
            _score_after(network, context, members, pairs, results)
            bar.advance(len(members))
        alone.sort(key=lambda n: -len(pairs[n].context) - len(pairs[n].continuation))
        for batch in _batches(alone, pairs, window):
            _score_batch(network, batch, pairs, results)
            bar.advance(len(batch))
    return results


def _score_after(
    network: GPT2, context: tuple[int, ...], members: list[int], pairs: Sequence[Pair], results: list[list[float]]
) -> None:
    """Score continuations of one context: its keys and values are computed once and given to all of them."""
    weight = network.wte.weight
    capacity = len(context) - 1 + max(len(pairs[n].continuation) for n in members)
    cache = KVCache(network.config, 1, weight.dtype, weight.device, capacity)
    if len(context) > 1:
        network.hidden(torch.tensor([context[:-1]], device=weight.device), cache)
    rows = [[context[-1], *pairs[n].continuation[:-1]] for n in members]
    hidden_BTD = network.hidden(_padded(rows, weight.device), cache.expanded(len(members)))
    _collect(network, [hidden_BTD[row, : len(rows[row])] for row in range(len(rows))], members, pairs, results)


def _score_batch(network: GPT2, batch: list[int], pairs: Sequence[Pair], results: list[list[float]]) -> None:
    """Score pairs side by side, each with its context."""
    window = network.config.context_length
    rows = [[*pairs[n].context, *pairs[n].continuation][:-1][-window:] for n in batch]
    hidden_BTD = network.hidden(_padded(rows, network.wte.weight.device))
    parts = [
        hidden_BTD[row, len(rows[row]) - len(pairs[n].continuation) : len(rows[row])] for row, n in enumerate(batch)
    ]
    _collect(network, parts, batch, pairs, results)


def _padded(rows: list[list[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)


def _collect(
    network: GPT2, parts: list[Tensor], members: list[int], pairs: Sequence[Pair], results: list[list[float]]
) -> None:
    """Apply the head to the hidden states before each continuation token and put the scores where they belong."""
    targets_N = torch.tensor([token for n in members for token in pairs[n].continuation], device=parts[0].device)
    scores_N = -F.cross_entropy(network.head(torch.cat(parts)).float(), targets_N, reduction="none").cpu()
    if not scores_N.isfinite().all():
        raise BadInput("the model gives logits that are not numbers: its weights are broken.")
    scores = iter(scores_N.tolist())
    for n in members:
        results[n] = list(itertools.islice(scores, len(pairs[n].continuation)))


def _batches(order: list[int], pairs: Sequence[Pair], window: int) -> list[list[int]]:
    """Cut an order by falling length into batches of at most TOKENS_A_BATCH tokens, padding counted."""
    batches: list[list[int]] = []
    longest = 0
    for n in order:
        if batches and (len(batches[-1]) + 1) * longest <= TOKENS_A_BATCH:
            batches[-1].append(n)
        else:
            batches.append([n])
            longest = min(len(pairs[n].context) + len(pairs[n].continuation), window)
    return batches
