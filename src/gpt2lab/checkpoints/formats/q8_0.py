"""q8_0, ggml's 8-bit type: 32 numbers of a row as one float16 scale and 32 signed bytes, 34 bytes in all.

The bytes are those of ggml's reference (`quantize_row_q8_0_ref`), for every input that has finite scales. Numpy alone
does 1.3 GB/s here, three times what the package gguf does; numba would take longer to import than this takes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
BLOCK_BYTES = 2 + BLOCK
_LARGEST = np.float32(127)
# Added before the fraction is cut off, it rounds halves away from zero. One half itself would also round up the float
# just below one half, whose sum with it is no float32.
_ALMOST_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def pack_q8_0(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The blocks of C-ordered rows whose width is a multiple of BLOCK, as [blocks, BLOCK_BYTES].

    Best called with some hundred kB at a time, which stay in the processor's cache. Raises OverflowError where a number
    is not finite or too large for a float16 scale.
    """
    blocks = rows.reshape(-1, BLOCK)
    sizes = np.abs(blocks)
    largest = sizes.reshape(-1)
    while largest.size > len(blocks):
        largest = np.maximum(largest[::2], largest[1::2])  # far faster than a maximum over so short an axis
    scales = largest / _LARGEST
    with np.errstate(over="ignore", divide="ignore"):
        stored_scales = scales.astype("<f2")
        inverse = 1 / scales
    if not np.isfinite(stored_scales).all():
        raise OverflowError
    inverse[np.isinf(inverse)] = 0  # of scales that are zero, or nearly
    sizes *= inverse[:, None]
    sizes += _ALMOST_HALF
    counts = sizes.astype(np.int8)
    negative = (blocks < 0).view(np.int8)
    counts ^= -negative  # with the addition below: two's complement
    packed = np.empty((len(blocks), BLOCK_BYTES), np.uint8)
    packed[:, :2] = stored_scales[:, None].view(np.uint8)
    np.add(counts, negative, out=packed[:, 2:].view(np.int8))
    return packed


def unpack_q8_0(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[Any]:
    """The float32 numbers of [blocks, BLOCK_BYTES], as an array of `shape`."""
    numbers = packed[:, 2:].view(np.int8).astype(np.float32)
    numbers *= packed[:, :2].copy().view("<f2").astype(np.float32)
    return numbers.reshape(shape)
