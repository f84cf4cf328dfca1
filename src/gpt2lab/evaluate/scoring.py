"""One function from (context, continuation) pairs to log-likelihoods, with exact token borders."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar
from gpt2lab.model.gpt2 import GPT2

TOKENS_A_BATCH = 8192


@dataclass(frozen=True)
class Pair:
    """What to score: the log-likelihood of `continuation` after `context` (token ids; the context is not empty)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@torch.inference_mode()
def log_likelihoods(network: GPT2, pairs: Sequence[Pair], name: str = "score") -> list[list[float]]:
    """Log-probability in nats of each continuation token of each pair.

    Pairs are sorted by length and batched; rows are padded at the end, where causal attention keeps the padding from
    being seen, and the head is applied only where a score is needed. A pair longer than the network's context loses the
    start of its context. Raises BadInput when the continuation alone does not fit, and for logits that are no numbers.
    """
    window = network.config.context_length
    device = network.wte.weight.device
    results: list[list[float]] = [[] for _ in pairs]
    order = sorted(range(len(pairs)), key=lambda n: -len(pairs[n].context) - len(pairs[n].continuation))
    with progress_bar(name, total=len(pairs)) as bar:
        for batch in _batches(order, pairs, window):
            rows = [_inputs(pairs[n], window) for n in batch]
            longest = max(map(len, rows))
            tokens_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
            hidden_BTD = network.hidden(tokens_BT)
            spans = [slice(len(row) - len(pairs[n].continuation), len(row)) for n, row in zip(batch, rows, strict=True)]
            wanted_ND = torch.cat([hidden_BTD[row, span] for row, span in enumerate(spans)])
            targets_N = torch.tensor([token for n in batch for token in pairs[n].continuation], device=device)
            scores_N = -F.cross_entropy(network.head(wanted_ND).float(), targets_N, reduction="none").cpu()
            if not scores_N.isfinite().all():
                raise BadInput("the model gives logits that are not numbers: its weights are broken.")
            lengths = [len(pairs[n].continuation) for n in batch]
            for n, scores in zip(batch, scores_N.split(lengths), strict=True):
                results[n] = scores.tolist()
            bar.advance(len(batch))
    return results


def _inputs(pair: Pair, window: int) -> list[int]:
    """The tokens the network reads: all but the last, at most `window` of them."""
    if len(pair.continuation) > window or not pair.context:
        raise BadInput(
            f"a continuation of {len(pair.continuation):,} tokens after a context of {len(pair.context):,} can't be scored"
            f" by a network with a context of {window:,} tokens."
        )
    return [*pair.context, *pair.continuation][:-1][-window:]


def _batches(order: list[int], pairs: Sequence[Pair], window: int) -> list[list[int]]:
    """Cut an order by falling length into batches of at most TOKENS_A_BATCH tokens, padding counted."""
    batches: list[list[int]] = []
    for n in order:
        length = min(len(pairs[n].context) + len(pairs[n].continuation), window)
        if batches and (len(batches[-1]) + 1) * longest <= TOKENS_A_BATCH:
            batches[-1].append(n)
        else:
            batches.append([n])
            longest = max(1, length)
    return batches
