"""Validation on held-out sequences while a network is trained."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.model.loss import cross_entropy_of_each
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.train.step import Batch


@dataclass(frozen=True)
class Validation:
    """Loss in nats a token, and bits per byte of the text predicted."""

    loss: float
    bits_per_byte: float


@torch.inference_mode()
def validate(
    network: GPT2, batches: Sequence[Batch], tokenizer: ByteLevelBPE, precision: AbstractContextManager[object]
) -> Validation:
    """Loss and bits per byte on held-out sequences; `<|endoftext|>` costs loss but stands for no byte."""
    network.eval()
    device = network.wte.weight.device
    bytes_of_token = torch.tensor([len(token) for token in tokenizer.token_bytes])
    nats, text_nats, tokens, text_bytes = 0.0, 0.0, 0, 0
    with precision:
        for batch in batches:
            inputs, targets, documents = (None if each is None else each.to(device) for each in batch)
            assert inputs is not None
            assert targets is not None
            hidden = network.hidden(inputs, documents_BT=documents)
            nats_BT = cross_entropy_of_each(hidden, network.head_weight, targets).cpu().double()
            counted_BT = batch[1] != IGNORED
            nats_N, targets_N = nats_BT[counted_BT], batch[1][counted_BT]
            is_text_N = targets_N != tokenizer.end_of_text
            nats += float(nats_N.sum())
            text_nats += float(nats_N[is_text_N].sum())
            tokens += len(targets_N)
            text_bytes += int(bytes_of_token[targets_N].sum())
    return Validation(nats / tokens, text_nats / math.log(2) / text_bytes)
