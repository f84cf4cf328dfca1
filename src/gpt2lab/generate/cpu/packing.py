"""A checkpoint's weights as the kernels read them: panels of 64 output columns, one after the other in memory.

A thread that multiplies a row by a panel reads it from its first byte to its last, which is how memory is fastest.
In a panel the 64 columns of one input lie side by side; of 8-bit and 4-bit numbers four inputs of a column lie
together, as processors multiply and add two or four at once. What is no multiple of 64 is filled up with zeros.
"""

import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.quantization import (
    QuantizedMatrix,
    quantize_columns,
    quantize_groups,
    quantize_rows,
)
from gpt2lab.checkpoints.weights import Checkpoint, only_finite
from gpt2lab.generate.cpu.compiled import compiled
from gpt2lab.generate.cpu.kernels import BIAS, GROUP, PANEL
from gpt2lab.generate.cpu.memory import zeros
from gpt2lab.generate.cpu.step import (
    FC_B,
    FC_S,
    FC_W,
    LAYER,
    LN_1_BIAS,
    LN_1_GAIN,
    LN_2_BIAS,
    LN_2_GAIN,
    OUT_B,
    OUT_S,
    OUT_W,
    PROJ_B,
    PROJ_S,
    PROJ_W,
    QKV_B,
    QKV_S,
    QKV_W,
)

WeightType = Literal["float32", "bfloat16", "int8", "int4"]
WEIGHT_TYPES: tuple[WeightType, ...] = ("float32", "bfloat16", "int8", "int4")
PACKING_THREADS = 2  # more would wait for the memory
FOUR_BIASES = np.uint32(BIAS * 0x01010101)
_ELEMENTS = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8, "int4": np.uint8}


def padded(size: int) -> int:
    """The next multiple of a panel's width."""
    return -(-size // PANEL) * PANEL


@dataclass(frozen=True)
class PackedMatrix:
    """Flat panels and their scales: float32, one a column; of int4 float16 (as uint16), [panel, in / 32, 64]."""

    panels: NDArray[Any]
    scales: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Bytes read to multiply by it."""
        return self.panels.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class PackedWeights:
    """All weights: the layers' matrices in one array, their places in `layer_at` [L, LAYER], all else in `parameters`.

    `head` is the matrix of the logits, `embedding` that of the tokens, the same where they are tied. The final norm,
    the positions and a stretch of zeros as long as the vocabulary begin at `final_norm_at`, `positions_at`, `zeros_at`.
    """

    layers: PackedMatrix
    head: PackedMatrix
    embedding: PackedMatrix
    parameters: NDArray[np.float32]
    layer_at: NDArray[np.int64]
    final_norm_at: int
    positions_at: int
    zeros_at: int

    @property
    def bytes_a_token(self) -> int:
        """Bytes of weights and scales that are read to make one token."""
        return self.layers.nbytes + self.head.nbytes


_MATRICES = (
    ("attn.c_attn", QKV_W, QKV_S, QKV_B),
    ("attn.c_proj", PROJ_W, PROJ_S, PROJ_B),
    ("mlp.c_fc", FC_W, FC_S, FC_B),
    ("mlp.c_proj", OUT_W, OUT_S, OUT_B),
)
_NORMS = (("ln_1", LN_1_GAIN, LN_1_BIAS), ("ln_2", LN_2_GAIN, LN_2_BIAS))


def pack(checkpoint: Checkpoint, weights: WeightType) -> PackedWeights:
    """The checkpoint's weights in panels, of type `weights`; those that are stored so already keep their numbers.

    Raises BadInput for numbers that are not finite, BadOption for 4 bits where a width is no multiple of 32.
    """
    config, where = checkpoint.config, checkpoint.where
    d, vocabulary = config.n_embd, config.vocab_size
    if weights == "int4" and d % GROUP:
        raise BadOption(f"--weights int4: {where} is {d} wide; 4 bits go in groups of {GROUP}. Take int8.")
    shapes = {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d)}
    panels = zeros(config.n_layer * sum(_elements(weights, *shape) for shape in shapes.values()), _ELEMENTS[weights])
    if weights == "int4":
        panels[:] = 0x88  # two zeros
    scale_type = np.uint16 if weights == "int4" else np.float32
    scales = zeros(config.n_layer * sum(_scales(weights, *shape) for shape in shapes.values()), scale_type)
    small = [np.zeros(0, np.float32)]
    places = np.zeros((config.n_layer, LAYER), np.int64)
    tensors = only_finite(checkpoint).tensors

    def parameter(name: str) -> int:
        at = sum(map(len, small))
        vector = tensors[name].read().astype(np.float32).reshape(-1)
        small.append(np.concatenate([vector, np.zeros(padded(len(vector)) - len(vector), np.float32)]))
        return at

    matrices: list[tuple[str, NDArray[Any], NDArray[Any]]] = []
    weights_at = scales_at = 0
    for layer in range(config.n_layer):
        for name, gain, bias in _NORMS:
            places[layer, gain] = parameter(f"h.{layer}.{name}.weight")
            places[layer, bias] = parameter(f"h.{layer}.{name}.bias")
        for name, w, s, b in _MATRICES:
            shape = shapes[name]
            places[layer, [w, s]] = weights_at, scales_at
            places[layer, b] = parameter(f"h.{layer}.{name}.bias")
            size, scale_size = _elements(weights, *shape), _scales(weights, *shape)
            parts = panels[weights_at : weights_at + size], scales[scales_at : scales_at + scale_size]
            matrices.append((f"h.{layer}.{name}.weight", *parts))
            weights_at, scales_at = weights_at + size, scales_at + scale_size
    final_norm_at = parameter("ln_f.weight")
    parameter("ln_f.bias")
    positions_at = parameter("wpe.weight")
    zeros_at = sum(map(len, small))
    small.append(np.zeros(padded(vocabulary), np.float32))
    of_rows: WeightType = "int8" if weights == "int4" else weights
    embedding = _room(of_rows, d, vocabulary)
    head = embedding if config.tie_word_embeddings else _room(of_rows, d, vocabulary)
    tasks = [(checkpoint, "wte.weight", of_rows, embedding)]  # the largest first: it may take one thread all the time
    if head is not embedding:
        tasks.append((checkpoint, "lm_head.weight", of_rows, head))
    tasks += [(checkpoint, name, weights, PackedMatrix(*room)) for name, *room in matrices]
    with ThreadPoolExecutor(PACKING_THREADS) as pool:
        for packed in [pool.submit(_pack_matrix, *task) for task in tasks]:
            packed.result()
    return PackedWeights(
        PackedMatrix(panels, scales), head, embedding, np.concatenate(small), places, final_norm_at, positions_at,
        zeros_at,
    )  # fmt: skip


def _elements(weights: WeightType, inputs: int, outputs: int) -> int:
    return padded(inputs) * padded(outputs) // (2 if weights == "int4" else 1)


def _scales(weights: WeightType, inputs: int, outputs: int) -> int:
    if weights == "int4":
        return padded(inputs) // GROUP * padded(outputs)
    return padded(outputs)


def _room(weights: WeightType, inputs: int, outputs: int) -> PackedMatrix:
    panels = zeros(_elements(weights, inputs, outputs), _ELEMENTS[weights])
    return PackedMatrix(panels, zeros(_scales(weights, inputs, outputs), np.float32))


def _pack_matrix(checkpoint: Checkpoint, name: str, weights: WeightType, room: PackedMatrix) -> None:
    tensor = checkpoint.tensors[name]
    by_row = name in ("wte.weight", "lm_head.weight")
    if weights in ("int8", "int4"):
        quantized = tensor.quantized() if tensor.quantized is not None else None
        if quantized is None or quantized.type != weights:
            quantized = _quantized(checkpoint, name, weights, by_row)
        elif not np.isfinite(quantized.scales).all():
            raise BadInput(f"{checkpoint.where}: {name} has scales that are not finite; make the folder again.")
        _pack_quantized(quantized, by_row, room)
        _forget_pages(quantized.values)
        return
    array = tensor.read()
    if not np.isfinite(array).all():
        only_finite(checkpoint).tensors[name].read()  # raises, and says which
    if weights == "float32":
        numbers = array.astype(np.float32, copy=False)
    else:
        numbers = array.astype(ml_dtypes.bfloat16, copy=False).view(np.uint16)
    (_pack_rows if by_row else _pack_columns)(np.ascontiguousarray(numbers), room.panels)
    _forget_pages(array)


def _quantized(checkpoint: Checkpoint, name: str, weights: WeightType, by_row: bool) -> QuantizedMatrix:
    array = checkpoint.tensors[name].read()
    try:
        if by_row:
            return quantize_rows(array)
        return quantize_columns(array) if weights == "int8" else quantize_groups(array)
    except OverflowError:
        raise BadInput(
            f"{checkpoint.where}: {name} holds numbers that are not finite, or too large for {weights};"
            " `gpt2lab inspect` shows where."
        ) from None
    finally:
        _forget_pages(array)


def _pack_quantized(matrix: QuantizedMatrix, by_row: bool, room: PackedMatrix) -> None:
    panels, scales = room.panels, room.scales
    if matrix.type == "int4":
        _pack_nibbles(matrix.values, panels)
        _pack_columns(matrix.scales.view(np.uint16), scales)
        return
    scales[: len(matrix.scales)] = matrix.scales
    values, missing = matrix.values, -matrix.values.shape[1 if by_row else 0] % 4
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)) if by_row else ((0, missing), (0, 0)))
    fours = panels.view(np.uint32)
    if by_row:
        _pack_fours_of_rows(np.ascontiguousarray(values).view(np.uint32), fours)
    else:
        _pack_fours_of_columns(np.ascontiguousarray(values).view(np.uint8), fours)


@compiled
def _pack_columns(matrix, panels):  # type: ignore[no-untyped-def]
    """A matrix [inputs, outputs] to panels [outputs / 64, padded inputs, 64]."""
    inputs, outputs = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        width = min(PANEL, outputs - panel * PANEL)
        for k in range(inputs):
            at = panel * size + k * PANEL
            for column in range(width):
                panels[at + column] = matrix[k, panel * PANEL + column]


@compiled
def _pack_rows(matrix, panels):  # type: ignore[no-untyped-def]
    """The same for a matrix [outputs, inputs]."""
    outputs, inputs = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        width = min(PANEL, outputs - panel * PANEL)
        for k in range(inputs):
            at = panel * size + k * PANEL
            for column in range(width):
                panels[at + column] = matrix[panel * PANEL + column, k]


@compiled
def _pack_fours_of_columns(matrix, panels):  # type: ignore[no-untyped-def]
    """Bytes [inputs, outputs] to panels [outputs / 64, padded inputs / 4, 64] of four bytes each, BIAS added to all."""
    inputs, outputs = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        first = panel * PANEL
        width = min(PANEL, outputs - first)
        for four in range(inputs // 4):
            at, k = panel * size + four * PANEL, 4 * four
            for column in range(width):
                number = np.uint32(matrix[k, first + column]) | np.uint32(matrix[k + 1, first + column]) << np.uint32(8)
                number |= np.uint32(matrix[k + 2, first + column]) << np.uint32(16)
                number |= np.uint32(matrix[k + 3, first + column]) << np.uint32(24)
                panels[at + column] = number ^ FOUR_BIASES


@compiled
def _pack_fours_of_rows(matrix, panels):  # type: ignore[no-untyped-def]
    """The same for bytes [outputs, inputs], given as fours [outputs, inputs / 4]."""
    outputs, fours = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        width = min(PANEL, outputs - panel * PANEL)
        for four in range(fours):
            at = panel * size + four * PANEL
            for column in range(width):
                panels[at + column] = matrix[panel * PANEL + column, four] ^ FOUR_BIASES


@compiled
def _pack_nibbles(matrix, panels):  # type: ignore[no-untyped-def]
    """uint8 [inputs / 2, outputs] to panels [outputs / 64, padded inputs / 4, 64, 2]: inputs 0 and 2, then 1 and 3."""
    pairs, outputs = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        width = min(PANEL, outputs - panel * PANEL)
        for four in range(pairs // 2):
            at = panel * size + four * 2 * PANEL
            for column in range(width):
                first = matrix[2 * four, panel * PANEL + column]
                second = matrix[2 * four + 1, panel * PANEL + column]
                panels[at + 2 * column] = first & 0xF | (second & 0xF) << 4
                panels[at + 2 * column + 1] = first >> 4 | second & 0xF0


def _forget_pages(array: NDArray[Any]) -> None:
    """Let go of the pages of a mapped file that an array was read from: they would count as this process's memory."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is None or not hasattr(base, "madvise"):
        return
    start = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    if start + array.nbytes > first:
        base.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)
