"""Cross-entropy from hidden states, a chunk of tokens at a time: the logits are never whole, forward or backward.

The logits of GPT-2 are its largest tensor by far (4 x 1,024 tokens: 0.8 GB, and as much again for their gradient).
Their gradient needs nothing but themselves, so it is taken while they are there, and only the gradients of the hidden
states and of the head's weight are kept for the backward pass. No product is computed twice.

Names of tensors end in their shape: N tokens   C tokens of a chunk   D model width   V vocabulary
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_LOGITS = 26_000_000
"""Logits in a chunk: 104 MB in float32, 517 tokens with the vocabulary of GPT-2. Fewer were slower on 2 cores."""


def summed_cross_entropy(
    x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, z_loss: float = 0.0, chunk_logits: int = CHUNK_LOGITS
) -> tuple[Tensor, Tensor]:
    """The sum to be minimized, and the cross-entropy in it in nats, both over the targets that are not negative.

    The two differ by the z-loss, `z_loss` times the sum of logsumexp(logits)**2 (PaLM, Chowdhery et al. 2022, section
    5), and in that only the first can be differentiated, once. Under autocast the products are of its type; softmax,
    logsumexp and sums are at least float32. Chunks hold at most `chunk_logits` logits (at least one token's).
    """
    objective, nats = _SummedCrossEntropy.apply(
        x_BTD.flatten(0, -2), weight_VD, targets_BT.flatten(), z_loss, chunk_logits, torch.is_grad_enabled()
    )  # type: ignore[no-untyped-call]
    return objective, nats


@torch.no_grad()
def cross_entropy_of_each(x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, [B, T] of at least float32, 0 where it is negative; no gradients."""
    x_ND, targets_N = x_BTD.flatten(0, -2), targets_BT.flatten()
    chunks = _chunks(x_ND, weight_VD, targets_N, CHUNK_LOGITS)
    return torch.cat([nats_C for _, _, nats_C, _ in chunks]).view(targets_BT.shape)


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, z_loss: float, chunk_logits: int, grad: bool
    ) -> tuple[Tensor, Tensor]:
        x_gradient_ND = torch.empty_like(x_ND) if grad and ctx.needs_input_grad[0] else None
        weight_gradient_VD = torch.zeros_like(weight_VD) if grad and ctx.needs_input_grad[1] else None
        nats, penalty = [], []
        for rows, probabilities_CV, nats_C, logsumexp_C in _chunks(x_ND, weight_VD, targets_N, chunk_logits):
            counted_C = targets_N[rows] >= 0
            nats.append(nats_C.sum())
            penalty.append(z_loss * (logsumexp_C.square() * counted_C).sum())
            if x_gradient_ND is None and weight_gradient_VD is None:
                continue
            if z_loss:
                probabilities_CV.mul_((1 + 2 * z_loss * logsumexp_C)[:, None])
            gradient_CV = probabilities_CV.scatter_add_(
                1, targets_N[rows, None].clamp(min=0), -torch.ones_like(nats_C)[:, None]
            )
            # Targets that don't count are struck out of the narrow factors: it spares a pass over the wide one.
            product_type = _product_type(x_ND)
            gradient_CV = gradient_CV.to(product_type)
            if x_gradient_ND is not None:
                x_gradient_ND[rows] = (gradient_CV @ weight_VD.to(product_type)) * counted_C[:, None]
            if weight_gradient_VD is not None:
                _add_product(weight_gradient_VD, gradient_CV.t(), (x_ND[rows] * counted_C[:, None]).to(product_type))
        ctx.gradients = x_gradient_ND, weight_gradient_VD
        nats_sum = torch.stack(nats).sum()
        ctx.mark_non_differentiable(nats_sum)
        return nats_sum + torch.stack(penalty).sum(), nats_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss were handed out by an earlier backward pass")
        gradients, ctx.gradients = ctx.gradients, None
        x_gradient_ND, weight_gradient_VD = (None if each is None else each.mul_(gradient) for each in gradients)
        return x_gradient_ND, weight_gradient_VD, None, None, None, None


def _chunks(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk_logits: int
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Of each chunk: rows, probabilities [C, V] (overwritten by the next), nats [C] (0 if ignored), logsumexp [C]."""
    for rows, logits_CV in _logit_chunks(x_ND, weight_VD, chunk_logits):
        target_C = logits_CV.gather(1, targets_N[rows, None].clamp(min=0))[:, 0]
        logsumexp_C = softmax_in_place(logits_CV, logits_CV.amax(-1))
        nats_C = (logsumexp_C - target_C).masked_fill(targets_N[rows] < 0, 0.0)
        yield rows, logits_CV[:, : len(weight_VD)], nats_C, logsumexp_C


def _logit_chunks(x_ND: Tensor, weight_VD: Tensor, chunk_logits: int = CHUNK_LOGITS) -> Iterator[tuple[slice, Tensor]]:
    """Of each chunk of hidden states: its rows, and their logits of at least float32, overwritten by the next chunk.

    The logits are [C, V rounded up to a multiple of 16], minus infinity beyond V. The chunks are of nearly one size: a
    short last one would be the slowest.
    """
    tokens, vocabulary = len(x_ND), len(weight_VD)
    most = max(1, chunk_logits // vocabulary)
    size = -(-tokens // -(-tokens // most)) if tokens else 0
    product_type = _product_type(x_ND)
    weight_VD = weight_VD.to(product_type)
    sum_type = torch.promote_types(x_ND.dtype, torch.float32)
    # Rows begin at multiples of 64 bytes: with the 50,257 of GPT-2 the product is faster by about a fourth for it.
    padded_CV = torch.empty(size, -(-vocabulary // 16) * 16, dtype=sum_type, device=x_ND.device)
    for start in range(0, tokens, max(size, 1)):
        rows = slice(start, min(start + size, tokens))
        chunk_CV = padded_CV[: rows.stop - start]
        logits_CV = chunk_CV[:, :vocabulary]
        x_CD = x_ND[rows].to(product_type)
        if product_type == sum_type:
            torch.mm(x_CD, weight_VD.t(), out=logits_CV)
        else:
            logits_CV.copy_(x_CD @ weight_VD.t())
        chunk_CV[:, vocabulary:] = -torch.inf
        yield rows, chunk_CV


def softmax_in_place(logits_CV: Tensor, largest_C: Tensor) -> Tensor:
    """Make probabilities of logits, of which the largest of each row are known; returns their logsumexp [C]."""
    torch.softmax(logits_CV, -1, out=logits_CV)
    # The largest probability is 1 / sum(exp(logits - largest)): two short passes instead of a second exp of all.
    return largest_C - logits_CV.amax(-1).log()


def _product_type(x_ND: Tensor) -> torch.dtype:
    device = x_ND.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_ND.dtype


def _add_product(total_VD: Tensor, left_VC: Tensor, right_CD: Tensor) -> None:
    if left_VC.dtype == total_VD.dtype:
        total_VD.addmm_(left_VC, right_CD)
    else:
        total_VD.add_(left_VC @ right_CD)
