"""Safetensors files without torch: opened by mapping them into memory, written one tensor at a time."""

import json
import mmap
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import whole_file
from gpt2lab.checkpoints.weights import FLOAT_TYPES, StoredTensor, raw_bytes

_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FLOATS = {short: name for name, short in _NAMES.items()}
WHOLE_NUMBERS: dict[str, np.dtype[Any]] = {"I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
"""Types of whole numbers, as safetensors calls them, in which quantized weights are kept."""


def map_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name; their arrays are views of the file that may be written to (copy on write).

    The library checks header and size first. Raises BadInput where the file is absent, cut short or something else,
    and, when it is read, for a tensor that is neither of floats nor of WHOLE_NUMBERS.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file.")
    try:
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(length))
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error}).") from None
    header.pop("__metadata__", None)
    start = 8 + length
    return {name: _stored(path, mapped, start, name, entry) for name, entry in header.items()}


def _stored(path: Path, mapped: mmap.mmap, start: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    shape, dtype = tuple(entry["shape"]), _FLOATS.get(entry["dtype"], entry["dtype"])
    begin = start + entry["data_offsets"][0]

    if dtype in FLOAT_TYPES:
        return StoredTensor.at(mapped, dtype, shape, begin)

    if dtype in WHOLE_NUMBERS:
        return StoredTensor(
            shape, dtype, lambda: np.frombuffer(mapped, WHOLE_NUMBERS[dtype], prod(shape), begin).reshape(shape)
        )

    def refuse() -> NDArray[Any]:
        raise BadInput(f"{path}: {name} is of {dtype}, which is no type of weights.")

    return StoredTensor(shape, dtype, refuse)


def write_safetensors(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write tensors in their own float types, or WHOLE_NUMBERS, one at a time: no more than one is in memory."""
    tensors = {
        name: tensor if tensor.dtype in WHOLE_NUMBERS else tensor.of_type(tensor.float_type)
        for name, tensor in tensors.items()
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        size = tensor.size * (WHOLE_NUMBERS | FLOAT_TYPES)[tensor.dtype].itemsize
        header[name] = {
            "dtype": _NAMES.get(tensor.dtype, tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            handle.write(raw_bytes(tensor.read()))
