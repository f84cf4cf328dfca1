"""Matrices as small whole numbers and scales: int8 with a scale an output, int4 with a scale for 32 inputs an output.

Both are symmetric: a number is its whole number times its scale, with no offset. Matrices are as in the published
files: those of attention and MLP [in, out], an embedding (and the head) [rows, width], whose outputs are its rows.
Scales come from the largest number alone. For int8 no clipping made the squared error smaller by more than a
thousandth; for int4 a search over scales made it a tenth smaller, and the models no better.

Everything goes some rows at a time, so that beside the result there is never more than a few megabytes in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

QuantizedType = Literal["int8", "int4"]
GROUP = 32
"""Inputs that share a scale of int4."""

_SLAB = 1 << 18  # numbers at a time: a megabyte of float32 stays in a processor's cache
_LARGEST = np.float32(127)  # -128 is not used, so that the sign of all numbers can be turned
_INT4_OFFSET = 8  # 4 bits without a sign stand for -8 to 7


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix [in, out], or an embedding [rows, width], in whole numbers and scales.

    int8: `values` int8 of the matrix's shape, `scales` float32, one a column ([out]), or one a row where `by_row`.
    int4: `values` uint8 [in / 2, out], row 2i of the matrix in the low four bits of row i and row 2i + 1 in the high
    ones, 8 standing for 0; `scales` float16 [in / 32, out].
    """

    type: QuantizedType
    values: NDArray[Any]
    scales: NDArray[Any]
    by_row: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """That of the matrix."""
        rows, columns = self.values.shape
        return (2 * rows if self.type == "int4" else rows), columns

    @property
    def nbytes(self) -> int:
        """Bytes of values and scales."""
        return self.values.nbytes + self.scales.nbytes


def quantize_rows(matrix: NDArray[Any]) -> QuantizedMatrix:
    """An embedding or head [rows, width] (any float type) in int8, each row with its own scale: largest / 127.

    Raises OverflowError where a number is not finite.
    """
    values = np.empty(matrix.shape, np.int8)
    scales = np.empty(len(matrix), np.float32)
    for rows in slabs(matrix):
        numbers = matrix[rows].astype(np.float32, copy=False)
        scales[rows] = _scales(np.abs(numbers).max(axis=1))
        np.rint(numbers * _inverse(scales[rows])[:, None], out=values[rows], casting="unsafe")
    return QuantizedMatrix("int8", values, scales, by_row=True)


def quantize_columns(matrix: NDArray[Any]) -> QuantizedMatrix:
    """A matrix [in, out] (any float type) in int8, each output with its own scale: largest / 127.

    Raises OverflowError where a number is not finite.
    """
    largest = np.zeros(matrix.shape[1], np.float32)
    for rows in slabs(matrix):
        np.maximum(largest, np.abs(matrix[rows].astype(np.float32, copy=False)).max(axis=0), out=largest)
    scales = _scales(largest)
    inverse = _inverse(scales)
    values = np.empty(matrix.shape, np.int8)
    for rows in slabs(matrix):
        np.rint(matrix[rows].astype(np.float32, copy=False) * inverse, out=values[rows], casting="unsafe")
    return QuantizedMatrix("int8", values, scales)


def quantize_groups(matrix: NDArray[Any]) -> QuantizedMatrix:
    """A matrix [in, out] (any float type) in int4, each GROUP of an output's inputs with its own scale.

    The scale is such that the group's number of largest size, whatever its sign, becomes -8; so it may be negative. A
    number as large on the other side becomes 7. Raises ValueError where `in` is no multiple of GROUP, OverflowError
    where a number is not finite or a scale too large for float16.
    """
    inputs, outputs = matrix.shape
    if inputs % GROUP:
        raise ValueError(f"{inputs} inputs are no multiple of {GROUP}")
    values = np.empty((inputs // 2, outputs), np.uint8)
    scales = np.empty((inputs // GROUP, outputs), np.float16)
    for rows in slabs(matrix, GROUP):
        groups = matrix[rows].astype(np.float32, copy=False).reshape(-1, GROUP, outputs)
        largest, smallest = groups.max(axis=1), groups.min(axis=1)
        with np.errstate(over="ignore"):
            stored = (np.where(largest > -smallest, largest, smallest) / -_INT4_OFFSET).astype(np.float16)
        if not np.isfinite(stored).all():
            raise OverflowError
        # With the scale as it is stored, so that its own rounding is made good where it can be.
        numbers = groups * _inverse(stored.astype(np.float32))[:, None]
        np.rint(numbers, out=numbers)
        np.clip(numbers, -_INT4_OFFSET, _INT4_OFFSET - 1, out=numbers)
        numbers += _INT4_OFFSET
        nibbles = numbers.astype(np.uint8).reshape(-1, outputs)
        values[rows.start // 2 : rows.stop // 2] = nibbles[::2] | nibbles[1::2] << 4
        scales[rows.start // GROUP : rows.stop // GROUP] = stored
    return QuantizedMatrix("int4", values, scales)


def dequantize(matrix: QuantizedMatrix) -> NDArray[np.float32]:
    """The numbers that a quantized matrix stands for, in its shape."""
    numbers = np.empty(matrix.shape, np.float32)
    if matrix.type == "int8":
        scales = matrix.scales[:, None] if matrix.by_row else matrix.scales
        np.multiply(matrix.values, scales, out=numbers)
        return numbers
    outputs = numbers.shape[1]
    for rows in slabs(numbers, GROUP):
        values = matrix.values[rows.start // 2 : rows.stop // 2]
        part = numbers[rows]
        part[::2] = values & 15
        part[1::2] = values >> 4
        part -= _INT4_OFFSET
        groups = part.reshape(-1, GROUP, outputs)
        groups *= matrix.scales[rows.start // GROUP : rows.stop // GROUP, None].astype(np.float32)
    return numbers


def slabs(matrix: NDArray[Any], multiple: int = 1) -> Iterator[slice]:
    """Some rows after the other, a multiple of so many each time where the matrix has such a multiple."""
    step = max(1, _SLAB // (matrix.shape[1] * multiple)) * multiple
    for start in range(0, len(matrix), step):
        yield slice(start, min(start + step, len(matrix)))


def _scales(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(largest).all():
        raise OverflowError
    return largest / _LARGEST


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / scale; 0 for scales that are zero, or nearly (their numbers all become 0)."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse: NDArray[np.float32] = np.float32(1) / scales
    inverse[np.isinf(inverse)] = 0
    return inverse
