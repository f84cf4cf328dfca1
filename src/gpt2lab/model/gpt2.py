"""GPT-2's network, whole, to be read in one sitting (Radford et al. 2019; openai/gpt-2 `src/model.py`).

Names of tensors end in their shape:
    B batch   T new tokens   S tokens seen (cached + new)   D model width (n_embd)
    M width inside the MLP   H heads   K width of a head   L layers   V vocabulary

Names of parameters are those of the published weights, in PyTorch's orientation of matrices ([out, in]; the published
files have [in, out], which `checkpoints` turns around). Precision, compilation and parallelism come from outside.
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gpt2lab.model.config import GPT2Config
from gpt2lab.model.loss import summed_cross_entropy


class Cache(Protocol):
    """Where attention keeps the keys and values of tokens that are read, and finds those of the tokens before."""

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of new tokens, and give all [B, H, S, K] that the mask speaks of."""


class KVCache:
    """The keys and values of the tokens a batch of sequences has already passed: 2 tensors [L, B, H, S, K].

    `length` tokens of at most `capacity` (the whole context, unless given) are valid. All sequences of the batch
    advance together.
    """

    def __init__(
        self, config: GPT2Config, batch: int, dtype: torch.dtype, device: torch.device, capacity: int | None = None
    ) -> None:
        capacity = capacity or config.context_length
        shape = (config.n_layer, batch, config.n_head, capacity, config.n_embd // config.n_head)
        self.k_LBHSK = torch.zeros(shape, dtype=dtype, device=device)
        self.v_LBHSK = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def expanded(self, batch: int) -> "KVCache":
        """A cache for `batch` sequences that all begin with the one sequence held here."""
        copy = object.__new__(KVCache)
        copy.k_LBHSK = self.k_LBHSK.repeat(1, batch, 1, 1, 1)
        copy.v_LBHSK = self.v_LBHSK.repeat(1, batch, 1, 1, 1)
        copy.length = self.length
        return copy

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values and return all valid ones [B, H, S, K]; `length` moves at step's end."""
        end = self.length + k_BHTK.shape[2]
        self.k_LBHSK[layer, :, :, self.length : end] = k_BHTK
        self.v_LBHSK[layer, :, :, self.length : end] = v_BHTK
        return self.k_LBHSK[layer, :, :, :end], self.v_LBHSK[layer, :, :, :end]


class Attention(nn.Module):
    """Causal self-attention with one matrix for queries, keys and values."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head
        self.attn_pdrop = config.attn_pdrop
        self.layer = layer

    def forward(self, x_BTD: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:
        """Mix each token with those before it that `mask` lets it see (None: all of them), [B, T, D] to [B, T, D]."""
        q_BHTK, k_BHSK, v_BHSK = self.c_attn(x_BTD).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k_BHSK, v_BHSK = cache.append(self.layer, k_BHSK, v_BHSK)
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BHSK,
            v_BHSK,
            attn_mask=mask,
            dropout_p=self.attn_pdrop if self.training else 0.0,
            is_causal=mask is None and x_BTD.shape[1] > 1,
        )
        projected: Tensor = self.c_proj(y_BHTK.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two layers, four times as wide inside, with the tanh approximation of GELU (nanoGPT's models: exact GELU)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.approximate = "tanh" if config.activation_function == "gelu_new" else "none"

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform each token by itself, [B, T, D] to [B, T, D]."""
        return self.activate_and_project(self.c_fc(x_BTD))

    def activate_and_project(self, wide_BTM: Tensor) -> Tensor:
        """The second half, [B, T, M] to [B, T, D]; by itself, so that training need not keep GELU's result."""
        projected: Tensor = self.c_proj(F.gelu(wide_BTM, approximate=self.approximate))
        return projected


class Block(nn.Module):
    """One layer: attention and MLP, each behind a layer norm, each added to the residual stream."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x_BTD: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:
        """Add what attention and MLP say to the residual stream [B, T, D]."""
        x_BTD = x_BTD + self.dropout(self.attn(self.ln_1(x_BTD), cache, mask))
        mlp_BTD: Tensor = self.dropout(self.mlp(self.ln_2(x_BTD)))
        return x_BTD + mlp_BTD


def attention_mask(new: int, seen: int, documents_BT: Tensor | None, device: torch.device) -> Tensor | None:
    """Which tokens each of `new` ones after `seen` cached ones may see: bool [T, S] or [B, 1, T, S].

    None where that is all up to itself and nothing is cached, or a single new token: no mask is needed then.
    `documents_BT` numbers the document of each token: a token sees no other document than its own.
    """
    if documents_BT is None and (seen == 0 or new == 1):
        return None
    mask_TS = torch.ones(new, seen + new, dtype=torch.bool, device=device).tril(seen)
    if documents_BT is None:
        return mask_TS
    return (documents_BT[:, None, :, None] == documents_BT[:, None, None, :]) & mask_TS


def _embedding(rows: int, width: int) -> nn.Embedding:
    # Not nn.Embedding(rows, width): drawing its numbers on the meta device imports the whole compiler, for 2 seconds.
    embedding: nn.Embedding = nn.Embedding.from_pretrained(torch.zeros(rows, width), freeze=False)  # type: ignore[no-untyped-call]
    return embedding


class GPT2(nn.Module):
    """GPT-2. Call it for logits, or `loss` for the mean cross-entropy in nats a token.

    Its weights mean nothing before `initialize` draws them or a checkpoint is loaded.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.restart_positions = False
        """Whether each document of `documents_BT`, which then holds the place where it begins, has positions from 0."""
        self.wte = _embedding(config.vocab_size, config.n_embd)
        self.wpe = _embedding(config.context_length, config.n_embd)
        self.dropout = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.n_embd, config.vocab_size, bias=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights: N(0, 0.02), positions N(0, 0.01), biases 0 (openai/gpt-2 `src/model.py`).

        The last matrix of each residual branch is scaled by 1/sqrt(number of residual branches) (paper, section 2.3).
        """
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                deviation = 0.01 if name == "wpe.weight" else 0.02
                if name.endswith("c_proj.weight"):
                    deviation /= math.sqrt(2 * self.config.n_layer)
                parameter.normal_(0.0, deviation, generator=generator)

    def hidden(self, tokens_BT: Tensor, cache: KVCache | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """The residual stream after the last layer norm, [B, T, D]; with a cache, of the tokens after those it holds.

        `documents_BT` (int64) numbers each token's document, and stops attention at the borders; positions run on,
        unless they are to restart.
        Raises ValueError when the positions run past `context_length`, or for documents together with a cache.
        """
        if cache is not None and documents_BT is not None:
            raise ValueError("a cache does not know the documents of the tokens it holds")
        start = cache.length if cache is not None else 0
        end = start + tokens_BT.shape[1]
        if end > self.config.context_length:
            raise ValueError(f"{end} tokens are more than the context of {self.config.context_length}")
        positions_1T = torch.arange(start, end, device=tokens_BT.device)[None]
        if documents_BT is not None and self.restart_positions:
            positions_1T = positions_1T - documents_BT
        mask = attention_mask(end - start, start, documents_BT, tokens_BT.device)
        normed_BTD = self.hidden_at(tokens_BT, positions_1T, cache, mask)
        if cache is not None:
            cache.length = end
        return normed_BTD

    def hidden_at(self, tokens_BT: Tensor, positions_BT: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:
        """The same of tokens at any positions, which see what `mask` lets them (None: all up to themselves)."""
        x_BTD = self.dropout(self.wte(tokens_BT) + self.wpe(positions_BT))
        for block in self.h:
            x_BTD = block(x_BTD, cache, mask)
        normed: Tensor = self.ln_f(x_BTD)
        return normed

    @property
    def head_weight(self) -> Tensor:
        """The matrix [V, D] that makes logits of hidden states: that of the token embedding where the head is tied."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def head(self, x_BTD: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        return F.linear(x_BTD, self.head_weight)

    def forward(self, tokens_BT: Tensor, cache: KVCache | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of the token after each of `tokens_BT` (int64)."""
        return self.head(self.hidden(tokens_BT, cache, documents_BT))

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats a token of those `targets_BT` that are not negative; 0 where there are none."""
        total, _ = summed_cross_entropy(self.hidden(tokens_BT, None, documents_BT), self.head_weight, targets_BT)
        return total / (targets_BT >= 0).sum().clamp(min=1)
