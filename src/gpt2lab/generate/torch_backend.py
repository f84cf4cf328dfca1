"""The backend for any device that PyTorch knows: a KV cache of blocks behind the network's own attention.

On an accelerator all shapes are static: numbers of sequences, of new tokens and of blocks are padded to one of a few
sizes, eight shapes in all, which is as many as torch.compile makes of one function. On the processor nothing is padded
and nothing compiled.

Names of tensors end in their shape:
    B sequences   T new tokens of each   N blocks of a table   S places of a table (N * block_tokens)
    L layers   H heads   K width of a head   D model width   V vocabulary
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2lab.generate.backend import Float32, Int32, LogitsOf, NextTokens
from gpt2lab.model.gpt2 import GPT2

BLOCK_TOKENS = 16
MAX_BATCH = 32


class PagedCache:
    """What attention appends to: new keys and values go to `slots_BT`, and all of the tables' blocks come back."""

    def __init__(self, k_LSHK: Tensor, v_LSHK: Tensor, slots_BT: Tensor, places_BS: Tensor) -> None:
        self.k_LSHK, self.v_LSHK = k_LSHK, v_LSHK
        self.slots_BT, self.places_BS = slots_BT, places_BS

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values, and give all [B, H, S, K] of the tables, whatever they hold."""
        found = []
        for pool_SHK, new_BHTK in ((self.k_LSHK[layer], k_BHTK), (self.v_LSHK[layer], v_BHTK)):
            pool_SHK[self.slots_BT] = new_BHTK.transpose(1, 2)
            found.append(pool_SHK[self.places_BS].transpose(1, 2))
        return found[0], found[1]


class TorchBackend:
    """A network on the device and in the precision that it has; see `Backend`.

    `compiled` puts torch.compile around it, for accelerators: some seconds at the first use of each shape.
    """

    block_tokens = BLOCK_TOKENS
    max_batch = MAX_BATCH

    def __init__(self, network: GPT2, *, compiled: bool = False) -> None:
        self.network, self.config = network, network.config
        self.device, self.dtype = network.wte.weight.device, network.wte.weight.dtype
        self.name = f"torch {str(self.dtype).removeprefix('torch.')}, {self.device}"
        self.block_bytes = 2 * self.config.n_layer * BLOCK_TOKENS * self.config.n_embd * self.dtype.itemsize
        self._static = self.device.type != "cpu"
        self._run: Callable[..., Tensor] = torch.compile(_run, dynamic=False) if compiled else _run
        self.reserve(0)

    def reserve(self, blocks: int) -> None:
        """Room for `blocks` blocks, and one for what padding writes."""
        config = self.config
        self._padding_slot = blocks * BLOCK_TOKENS
        shape = (config.n_layer, (blocks + 1) * BLOCK_TOKENS, config.n_head, config.n_embd // config.n_head)
        self._k_LSHK = self._v_LSHK = torch.empty(0)  # lets go of the old ones before there are new ones
        self._k_LSHK, self._v_LSHK = (_zeros(shape, self.dtype, self.device) for _ in "kv")

    def prefill(self, tokens_T: Int32, start: int, table_N: Int32, logits: LogitsOf = "last") -> Float32 | None:
        """See `Backend.prefill`."""
        positions_T = np.arange(start, start + len(tokens_T))
        table_1N = table_N[None, : -(-(start + len(tokens_T)) // BLOCK_TOKENS)]
        with torch.inference_mode():
            hidden_TD = self._hidden(tokens_T[None], positions_T[None], table_1N)[0]
            if logits == "none":
                return None
            return self._logits(hidden_TD[-1] if logits == "last" else hidden_TD)

    def decode(self, tokens_B: Int32, positions_B: Int32, tables_BN: Int32) -> NextTokens:
        """See `Backend.decode`."""
        with torch.inference_mode():
            hidden_BD = self._hidden(tokens_B[:, None], positions_B[:, None], tables_BN)[:, 0]
            return NextTokens(self._logits(hidden_BD), [None] * len(tokens_B))

    def copy_block(self, source: int, target: int) -> None:
        """See `Backend.copy_block`."""
        with torch.inference_mode():
            for pool_LSHK in (self._k_LSHK, self._v_LSHK):
                taken, given = (slice(n * BLOCK_TOKENS, (n + 1) * BLOCK_TOKENS) for n in (source, target))
                pool_LSHK[:, given] = pool_LSHK[:, taken]

    def _hidden(self, tokens_BT: Int32, positions_BT: NDArray[np.integer[Any]], tables_BN: Int32) -> Tensor:
        """The residual stream [B, T, D] of new tokens, whose keys and values go where the tables say."""
        (rows, length), blocks = tokens_BT.shape, tables_BN.shape[1]
        padded_rows, padded_length, padded_blocks = rows, length, blocks
        if self._static:
            most = -(-self.config.context_length // BLOCK_TOKENS)
            padded_rows = _first_that_holds(rows, 1, 8, MAX_BATCH)
            padded_length = _first_that_holds(length, 1, 128, self.config.context_length)
            padded_blocks = _first_that_holds(blocks, most // 4, most) if length == 1 else most
        tokens, positions = np.zeros((2, padded_rows, padded_length), np.int64)
        slots = np.full((padded_rows, padded_length), self._padding_slot)
        tables = np.zeros((padded_rows, padded_blocks), np.int64)
        tokens[:rows, :length], positions[:rows, :length], tables[:rows, :blocks] = tokens_BT, positions_BT, tables_BN
        block_BT = np.take_along_axis(tables_BN, positions_BT // BLOCK_TOKENS, axis=1)
        slots[:rows, :length] = block_BT * BLOCK_TOKENS + positions_BT % BLOCK_TOKENS
        on_device = (torch.from_numpy(array).to(self.device) for array in (tokens, positions, slots, tables))
        is_training = self.network.training  # whoever trains a network and generates in between wants no dropout here
        if is_training:
            self.network.eval()
        try:
            return self._run(self.network, self._k_LSHK, self._v_LSHK, *on_device)[:rows, :length]
        finally:
            if is_training:
                self.network.train()

    def _logits(self, hidden_D: Tensor) -> Float32:
        logits: Float32 = self.network.head(hidden_D).float().cpu().numpy()
        return logits


def _run(
    network: GPT2,
    k_LSHK: Tensor,
    v_LSHK: Tensor,
    tokens_BT: Tensor,
    positions_BT: Tensor,
    slots_BT: Tensor,
    tables_BN: Tensor,
) -> Tensor:
    """The residual stream [B, T, D] of new tokens; each sees those of its own table up to itself."""
    within = torch.arange(BLOCK_TOKENS, device=tables_BN.device)
    places_BS = (tables_BN[:, :, None] * BLOCK_TOKENS + within).flatten(1)
    mask_B1TS = (torch.arange(places_BS.shape[1], device=tables_BN.device) <= positions_BT[:, :, None])[:, None]
    return network.hidden_at(tokens_BT, positions_BT, PagedCache(k_LSHK, v_LSHK, slots_BT, places_BS), mask_B1TS)


def _first_that_holds(count: int, *sizes: int) -> int:
    return next(size for size in sizes if size >= count)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy's zeros are pages that the system only gives once they are written to.
    return torch.from_numpy(np.zeros(shape, f"i{dtype.itemsize}")).view(dtype)
