"""A checkpoint's weights as the kernels read them: panels of 64 output columns, one after the other in memory.

A thread that multiplies a row by a panel reads it from its first byte to its last, which is how memory is fastest.
In a panel the 64 columns of one input lie side by side; of 8-bit and 4-bit numbers four inputs of a column lie
together, as processors multiply and add two or four at once. What is no multiple of 64 is filled up with zeros.
"""

import mmap
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
    panels = np.zeros(config.n_layer * sum(_elements(weights, *shape) for shape in shapes.values()), _ELEMENTS[weights])
    if weights == "int4":
        panels[:] = 0x88  # two zeros
    scale_type = np.uint16 if weights == "int4" else np.float32
    scales = np.zeros(config.n_layer * sum(_scales(weights, *shape) for shape in shapes.values()), scale_type)
    small = [np.zeros(0, np.float32)]
    places = np.zeros((config.n_layer, LAYER), np.int64)
    tensors = only_finite(checkpoint).tensors

    def parameter(name: str) -> int:
        at = sum(map(len, small))
        vector = tensors[name].read().astype(np.float32).reshape(-1)
        small.append(np.concatenate([vector, np.zeros(padded(len(vector)) - len(vector), np.float32)]))
        return at

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
            _pack_matrix(
                checkpoint,
                f"h.{layer}.{name}.weight",
                weights,
                panels[weights_at : weights_at + size],
                scales[scales_at : scales_at + scale_size],
            )
            weights_at, scales_at = weights_at + size, scales_at + scale_size
    final_norm_at = parameter("ln_f.weight")
    parameter("ln_f.bias")
    positions_at = parameter("wpe.weight")
    zeros_at = sum(map(len, small))
    small.append(np.zeros(padded(vocabulary), np.float32))
    embedding = _packed_rows(checkpoint, "wte.weight", weights)
    head = embedding if config.tie_word_embeddings else _packed_rows(checkpoint, "lm_head.weight", weights)
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


def _packed_rows(checkpoint: Checkpoint, name: str, weights: WeightType) -> PackedMatrix:
    """An embedding or a head [rows, width]; of int4 folders its rows are int8."""
    rows, width = checkpoint.tensors[name].shape
    stored: WeightType = "int8" if weights == "int4" else weights
    panels = np.zeros(_elements(stored, width, rows), _ELEMENTS[stored])
    scales = np.zeros(_scales(stored, width, rows), np.float32)
    _pack_matrix(checkpoint, name, stored, panels, scales)
    return PackedMatrix(panels, scales)


def _pack_matrix(
    checkpoint: Checkpoint, name: str, weights: WeightType, panels: NDArray[Any], scales: NDArray[Any]
) -> None:
    tensor = checkpoint.tensors[name]
    by_row = name in ("wte.weight", "lm_head.weight")
    if weights in ("int8", "int4"):
        quantized = tensor.quantized() if tensor.quantized is not None else None
        if quantized is None or quantized.type != weights:
            quantized = _quantized(checkpoint, name, weights, by_row)
        _pack_quantized(quantized, by_row, panels, scales)
        _forget_pages(quantized.values)
        return
    array = tensor.read()
    if not np.isfinite(array).all():
        only_finite(checkpoint).tensors[name].read()  # raises, and says which
    if weights == "float32":
        numbers = array.astype(np.float32, copy=False)
    else:
        numbers = array.astype(ml_dtypes.bfloat16, copy=False).view(np.uint16)
    (_pack_rows if by_row else _pack_columns)(np.ascontiguousarray(numbers), panels)
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


def _pack_quantized(matrix: QuantizedMatrix, by_row: bool, panels: NDArray[Any], scales: NDArray[Any]) -> None:
    if matrix.type == "int8":
        scales[: len(matrix.scales)] = matrix.scales
        _pack_bytes(matrix.values if by_row else matrix.values.T, panels)
    else:
        _pack_nibbles(matrix.values, panels)
        _pack_columns(matrix.scales.view(np.uint16), scales)


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
    for output in range(outputs):
        at = output // PANEL * size + output % PANEL
        for k in range(inputs):
            panels[at + k * PANEL] = matrix[output, k]


@compiled
def _pack_bytes(matrix, panels):  # type: ignore[no-untyped-def]
    """int8 [outputs, inputs] to panels [outputs / 64, padded inputs / 4, 64, 4], BIAS added."""
    outputs, inputs = matrix.shape
    count = -(-outputs // PANEL)
    size = len(panels) // count
    for panel in range(count):
        width = min(PANEL, outputs - panel * PANEL)
        for k in range(inputs):
            at = panel * size + (k >> 2) * 4 * PANEL + (k & 3)
            for column in range(width):
                panels[at + 4 * column] = matrix[panel * PANEL + column, k] ^ np.int8(-BIAS)


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
    """Let go of the pages of a mapped file that were read for an array: they would count as this process's memory."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is not None and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
