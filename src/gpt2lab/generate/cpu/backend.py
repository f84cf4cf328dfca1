"""The cpu backend: the network in packed weights, its KV cache, and the team of threads that steps it."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.control_groups import usable_processors
from gpt2lab.base.errors import BadOption
from gpt2lab.checkpoints.weights import Checkpoint, without_padding
from gpt2lab.generate.backend import Float32, Int32, LogitsOf, NextTokens
from gpt2lab.generate.cpu.attention import BLOCK_TOKENS, ROWS_TOGETHER, SCALES
from gpt2lab.generate.cpu.kernels import ACTIVATION_BLOCKS
from gpt2lab.generate.cpu.memory import zeros
from gpt2lab.generate.cpu.packing import WEIGHT_TYPES, PackedWeights, WeightType, pack, padded
from gpt2lab.generate.cpu.step import GELU_BY_ERF, GELU_BY_TANH, SHAPE, forward
from gpt2lab.generate.cpu.team import Team
from gpt2lab.generate.cpu.vectors import LANES
from gpt2lab.model.config import GPT2Config

ROWS = 256
"""Tokens of one sequence that are read in one step, at most: their activations stay in a processor's cache."""
WORTH_A_TEAM = 8_000_000
"""Bytes of weights below which one thread makes a token sooner than several that have to be woken."""


def cpu_backend(
    checkpoint: Checkpoint, weights: str | None = None, threads: int | None = None, activation_bits: int = 16
) -> "CpuBackend":
    """Pack a checkpoint's weights (None: as they are stored) for `threads` threads.

    None is one a processor that this process may keep busy, or a single one for a model so small that threads would
    mostly wait for each other.

    int8 and int4 are multiplied by inputs rounded to 16 bits, which loses next to nothing, or to 8 (int8 only), which
    is up to twice as fast where many tokens are read at once. The KV cache is of as many bits; float32 weights have one
    of float32, bfloat16 ones one of 16 bits. Raises BadOption for a type or a number of threads that
    can't be, BadInput for weights that are not finite.
    """
    checkpoint = without_padding(checkpoint)
    chosen = weights or stored_type(checkpoint)
    if chosen not in WEIGHT_TYPES:
        raise BadOption(f"--weights {chosen}: the types are {', '.join(WEIGHT_TYPES)}.")
    if threads is not None and threads < 1:
        raise BadOption(f"--threads {threads}: must be at least 1.")
    if activation_bits not in ACTIVATION_BLOCKS or (activation_bits == 8 and chosen != "int8"):
        raise BadOption(f"--activation-bits {activation_bits}: must be 16, or 8 with --weights int8.")
    packed = pack(checkpoint, chosen)
    return CpuBackend(checkpoint.config, packed, chosen, threads or _threads_for(packed), activation_bits)


def _threads_for(weights: PackedWeights) -> int:
    if weights.bytes_a_token < WORTH_A_TEAM:
        return 1
    return usable_processors()


def stored_type(checkpoint: Checkpoint) -> WeightType:
    """The type that keeps a checkpoint's matrices as they are stored; float16 and others become float32."""
    tensor = checkpoint.tensors["h.0.attn.c_attn.weight"]
    if tensor.quantized is not None:
        return tensor.quantized().type
    return "bfloat16" if tensor.dtype == "bfloat16" else "float32"


class CpuBackend:
    """See `generate.backend.Backend`. Its numbers for a sequence never depend on what is computed beside it."""

    block_tokens = BLOCK_TOKENS
    max_batch = 32

    def __init__(
        self, config: GPT2Config, weights: PackedWeights, weight_type: WeightType, threads: int, activation_bits: int
    ) -> None:
        self.config, self.weights = config, weights
        bits = ", 8-bit activations" if activation_bits == 8 else ""
        self.name = f"cpu {weight_type}{bits}, {threads} thread" + ("s" if threads > 1 else "")
        self._activation_bits = activation_bits
        self._team = Team(threads)
        self._head_width = config.n_embd // config.n_head
        self._head_width_p = -(-self._head_width // LANES) * LANES
        self._cache_type = np.dtype("f4" if weight_type == "float32" else f"i{activation_bits // 8}")
        self._has_scales = weight_type != "float32"
        a_head = 2 * BLOCK_TOKENS * self._head_width_p * self._cache_type.itemsize + 4 * SCALES * self._has_scales
        self.block_bytes = config.n_layer * config.n_head * a_head
        self._shape = np.zeros(SHAPE, np.int64)
        self._lay_out()
        self.reserve(0)
        nothing = np.zeros(0, np.int32)
        team, self._team = self._team, Team(1)  # compiles, or loads what was compiled, before threads meet
        self._run(nothing, nothing, nothing, np.zeros((1, 1), np.int32), nothing)
        self._team = team

    def _lay_out(self) -> None:
        """Where everything lies in the working memory."""
        config, weights, threads = self.config, self.weights, self._team.threads
        d, inner, qkv = padded(config.n_embd), padded(4 * config.n_embd), padded(3 * config.n_embd)
        factors_stride = -(-inner // ACTIVATION_BLOCKS[self._activation_bits])
        scores_stride = -(-config.context_length // LANES) * LANES + LANES
        scratch_stride = config.n_head * ROWS_TOGETHER * (2 * self._head_width_p + scores_stride)
        rows = max(ROWS, threads)  # a lone row is normed and rounded by each thread for itself
        sizes = (rows * d, rows * d, rows * qkv, rows * d, rows * inner, threads * scratch_stride)
        ends = np.cumsum(sizes)
        x_at, y_at, qkv_at, attended_at, inner_at, scratch_at = (ends - sizes).tolist()
        self._work = zeros(int(ends[-1]), np.float32)
        self._rounded = zeros(rows * inner, np.int16 if self._activation_bits == 16 else np.int8)
        self._sums = zeros(rows * factors_stride, np.int32)
        self._factors = zeros(rows * factors_stride, np.float32)
        self._logits = zeros((ROWS, padded(config.vocab_size)), np.float32)
        self._best = np.zeros((threads, ROWS), np.int64)
        gelu = GELU_BY_ERF if config.activation_function == "gelu" else GELU_BY_TANH
        self._shape[:] = (
            config.n_layer, config.n_head, config.n_embd, d, inner, qkv, config.vocab_size, padded(config.vocab_size),
            self._head_width, self._head_width_p, gelu, x_at, y_at, qkv_at, attended_at,
            inner_at, factors_stride, scratch_at, scratch_stride, scores_stride, weights.final_norm_at,
            weights.positions_at, weights.zeros_at,
        )  # fmt: skip

    def reserve(self, blocks: int) -> None:
        """See Backend. The memory of a block, all layers of which lie together, is taken when it is first written."""
        shape = (blocks, self.config.n_layer, self.config.n_head)
        numbers = (*shape, self._head_width_p * BLOCK_TOKENS)
        self._keys, self._values = zeros(numbers, self._cache_type), zeros(numbers, self._cache_type)
        self._scales = zeros((*shape, SCALES * self._has_scales), np.float32)

    def prefill(self, tokens_T: Int32, start: int, table_N: Int32, logits: LogitsOf = "last") -> Float32 | None:
        """See Backend."""
        total = len(tokens_T)
        table = np.ascontiguousarray(table_N, np.int32)[None]
        every: list[NDArray[np.float32]] = []
        for first in range(0, total, ROWS):
            tokens = np.ascontiguousarray(tokens_T[first : first + ROWS], np.int32)
            rows = len(tokens)
            positions = np.arange(start + first, start + first + rows, dtype=np.int32)
            if logits == "all":
                wanted = np.arange(rows, dtype=np.int32)
            else:
                last = logits == "last" and first + rows == total
                wanted = np.arange(rows - 1, rows if last else rows - 1, dtype=np.int32)
            self._run(tokens, positions, np.zeros(rows, np.int32), table, wanted)
            if logits == "all":
                every.append(self._logits[:rows, : self.config.vocab_size].copy())
        if logits == "all":
            return np.concatenate(every)
        return self._logits[0, : self.config.vocab_size] if logits == "last" else None

    def decode(self, tokens_B: Int32, positions_B: Int32, tables_BN: Int32) -> NextTokens:
        """See Backend."""
        rows = np.arange(len(tokens_B), dtype=np.int32)
        self._run(tokens_B, positions_B, rows, tables_BN, rows)
        logits_BV = self._logits[: len(rows), : self.config.vocab_size]
        return NextTokens(logits_BV, self._best[0, : len(rows)].tolist())

    def copy_block(self, source: int, target: int) -> None:
        """See Backend."""
        for cache in (self._keys, self._values, self._scales):
            cache[target] = cache[source]

    def _run(self, tokens: Int32, positions: Int32, table_of: Int32, tables: Int32, wanted: Int32) -> None:
        weights = self.weights
        self._team.run(
            cast(Any, forward),
            self._shape,
            np.float32(self.config.layer_norm_epsilon),
            weights.layer_at,
            weights.layers.panels,
            weights.layers.scales,
            weights.head.panels,
            weights.head.scales,
            weights.embedding.panels,
            weights.embedding.scales,
            weights.parameters,
            self._keys.reshape(-1),
            self._values.reshape(-1),
            self._scales.reshape(-1),
            tokens,
            positions,
            table_of,
            tables,
            wanted,
            self._work,
            self._rounded,
            self._sums,
            self._factors,
            self._logits.reshape(-1),
            self._best,
        )
