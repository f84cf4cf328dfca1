"""Hidden states of many sequences laid end to end: no padding, what they have in common once, the last layer in part.

A pack is a list of segments: sequences, and ends of sequences whose beginning is another segment of the pack. All but
attention is done for all tokens of a pack at once; attention, segment by segment. Of the last layer only keys and
values are needed everywhere; queries, and all that follows them, only where a score is to be read.

Names of tensors end in their shape:
    N tokens of the pack   R rows that are needed   T tokens of a segment   S tokens it sees   B like segments in a row
    D model width   H heads   K width of a head
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gpt2lab.model.gpt2 import GPT2, Block

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Tokens int64 [T] from `position` on, or (with a `prefix`, an earlier segment's number) ends of sequences.

    Ends of several sequences with one prefix stand side by side: `lengths` of them, each of which begins at `position`
    and sees the prefix and itself. Hidden states are needed at `rows`, int64 [R], rising places within the segment.
    """

    tokens: Ids
    rows: Ids
    lengths: tuple[int, ...]
    position: int = 0
    prefix: int | None = None


@dataclass(frozen=True)
class _Call:
    """One call of the attention kernel: queries [B * T], what they see [B * S], and a mask [T, S] (None: causal)."""

    queries: slice
    seen: tuple[slice, ...]
    mask: Tensor | None
    batch: int = 1


@torch.inference_mode()
def needed_hidden(network: GPT2, segments: Sequence[Segment]) -> Tensor:
    """The residual stream after the last layer norm at the needed rows of all segments, in their order: [R, D]."""
    weight = network.wte.weight
    tokens_N = _on(weight, np.concatenate([segment.tokens for segment in segments]))
    positions = [segment.position + np.arange(length) for segment in segments for length in segment.lengths]
    starts = np.cumsum([0, *(len(segment.tokens) for segment in segments)])
    rows_R = _on(weight, np.concatenate([start + each.rows for start, each in zip(starts, segments, strict=False)]))
    *layers, last = cast("list[Block]", list(network.h))
    everywhere = _calls(segments, starts.tolist(), weight, every_row=True)
    x_ND = network.wte(tokens_N) + network.wpe(_on(weight, np.concatenate(positions)))
    for block in layers:
        q_ND, k_ND, v_ND = block.attn.c_attn(block.ln_1(x_ND)).chunk(3, -1)
        x_ND = _rest_of_block(block, x_ND, _attention(q_ND, k_ND, v_ND, block.attn.n_head, everywhere))
    normed_ND, width, attn = last.ln_1(x_ND), x_ND.shape[1], last.attn
    if len(rows_R) == len(tokens_N):
        q_RD, k_ND, v_ND = attn.c_attn(normed_ND).chunk(3, -1)
        where = everywhere
    else:
        q_RD = F.linear(normed_ND[rows_R], attn.c_attn.weight[:width], attn.c_attn.bias[:width])
        k_ND, v_ND = F.linear(normed_ND, attn.c_attn.weight[width:], attn.c_attn.bias[width:]).chunk(2, -1)
        where = _calls(segments, starts.tolist(), weight, every_row=False)
        x_ND = x_ND[rows_R]
    hidden_RD: Tensor = network.ln_f(_rest_of_block(last, x_ND, _attention(q_RD, k_ND, v_ND, attn.n_head, where)))
    return hidden_RD


def _rest_of_block(block: Block, x_RD: Tensor, attended_RD: Tensor) -> Tensor:
    x_RD = x_RD + block.attn.c_proj(attended_RD)
    mlp_RD: Tensor = block.mlp(block.ln_2(x_RD))
    return x_RD + mlp_RD


def _attention(q_RD: Tensor, k_ND: Tensor, v_ND: Tensor, heads: int, calls: Sequence[_Call]) -> Tensor:
    """What attention mixes for each query, [R, D]."""
    mixed = [_mixed(q_RD, k_ND, v_ND, heads, call) for call in calls]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _mixed(q_RD: Tensor, k_ND: Tensor, v_ND: Tensor, heads: int, call: _Call) -> Tensor:
    q_BHTK, k_BHSK, v_BHSK = (
        _joined(x_ND, places).view(call.batch, -1, heads, x_ND.shape[1] // heads).transpose(1, 2)
        for x_ND, places in ((q_RD, (call.queries,)), (k_ND, call.seen), (v_ND, call.seen))
    )
    y_BHTK = F.scaled_dot_product_attention(
        q_BHTK, k_BHSK, v_BHSK, attn_mask=call.mask, is_causal=call.mask is None and q_BHTK.shape[2] > 1
    )
    return y_BHTK.transpose(1, 2).reshape(-1, q_RD.shape[1])


def _joined(x_ND: Tensor, places: tuple[slice, ...]) -> Tensor:
    return x_ND[places[0]] if len(places) == 1 else torch.cat([x_ND[place] for place in places])


def _calls(segments: Sequence[Segment], starts: Sequence[int], like: Tensor, *, every_row: bool) -> list[_Call]:
    """The calls of the attention kernel for all segments; those of like segments in a row are made one."""
    calls: list[_Call] = []
    alike: list[tuple[int, bytes] | None] = []
    done = 0
    for number, segment in enumerate(segments):
        length = len(segment.tokens)
        rows = np.arange(length) if every_row else segment.rows
        if not len(rows):
            continue
        queries, own = slice(done, done + len(rows)), slice(starts[number], starts[number] + length)
        done += len(rows)
        if segment.prefix is not None:
            seen = (slice(starts[segment.prefix], starts[segment.prefix + 1]), own)
            calls.append(_Call(queries, seen, _mask(segment, rows, seen[0].stop - seen[0].start, like)))
            alike.append(None)
            continue
        kind = (length, rows.tobytes())
        if calls and alike[-1] == kind and calls[-1].seen[0].stop == own.start:
            before = calls[-1]
            calls[-1] = replace(
                before,
                queries=slice(before.queries.start, queries.stop),
                seen=(slice(before.seen[0].start, own.stop),),
                batch=before.batch + 1,
            )
            continue
        calls.append(_Call(queries, (own,), None if len(rows) == length else _mask(segment, rows, 0, like)))
        alike.append(kind)
    return calls


def _mask(segment: Segment, rows: Ids, before: int, like: Tensor) -> Tensor:
    """What each row of a segment sees of `before` tokens of its prefix (all) and of its own: 0, or minus infinity."""
    end_of = np.repeat(np.arange(len(segment.lengths)), segment.lengths)
    own = np.arange(len(end_of))
    sees = (end_of[rows, None] == end_of[None]) & (own[None] <= rows[:, None])
    hidden = np.concatenate([np.zeros((len(rows), before), bool), ~sees], axis=1)
    return (
        torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(torch.from_numpy(hidden), -torch.inf).to(like.device)
    )


def _on(like: Tensor, numbers: Ids) -> Tensor:
    return torch.from_numpy(numbers).to(like.device)
