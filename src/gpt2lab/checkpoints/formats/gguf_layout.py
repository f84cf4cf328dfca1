"""How a GGUF file is laid out, whatever model is in it: metadata, and tensors with their places.

Little-endian: "GGUF", version, number of tensors, number of metadata pairs; the pairs (key, type, value); for each
tensor its name, dimensions (innermost first), type and offset; padding; the tensors, each from a multiple of 32.

The package gguf is not used: it needs 2.5 s for the header of a file with GPT-2's tokenizer, which has 100,000 strings;
this takes 0.1 s, and believes no count before it has seen that the file is large enough for it.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.q8_0 import BLOCK, BLOCK_BYTES, unpack_q8_0
from gpt2lab.checkpoints.weights import FLOAT_TYPES, StoredTensor

_MAGIC = b"GGUF"
_VERSION = 3
_READ_VERSIONS = (2, 3)
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_COMPARED_BYTES = 1 << 20

# Types of metadata: number in the file, struct's letter.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

# Types of tensors (ggml.h): number in the file, name. Those of _TYPES are read here.
_TYPES = {0: "float32", 1: "float16", 8: "q8_0", 30: "bfloat16"}
_OTHER_TYPES = {2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K"}
_OTHER_TYPES |= {14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL"}
_OTHER_TYPES |= {21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64"}
_OTHER_TYPES |= {29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"}
_TYPE_NUMBERS = {name: number for number, name in _TYPES.items()}

Metadata = dict[str, Any]
# Shape as in numpy (outermost first), number of the type, where its bytes begin.
Place = tuple[tuple[int, ...], int, int]


@dataclass(frozen=True)
class GGUFFile:
    """A mapped file: its metadata, and where its tensors are. Lists of numbers are arrays."""

    path: Path
    data: mmap.mmap
    metadata: Metadata
    places: Mapping[str, Place]


def read_layout(path: Path) -> GGUFFile:
    """Map a file and read what it starts with. Raises BadInput where that is damaged, or no GGUF of version 2 or 3."""
    header = _Header(path)
    if header.data[:4] != _MAGIC:
        raise BadInput(f"{path}: not a GGUF file.")
    header.take(4)
    version = header.number("I")
    if version not in _READ_VERSIONS:
        if version and version & 0xFFFF == 0:
            raise BadInput(f"{path}: a big-endian GGUF file; convert the model for little-endian machines.")
        raise BadInput(f"{path}: GGUF version {version}; versions 2 and 3 are read. Convert the model anew.")
    tensor_count, pair_count = header.number("Q"), header.number("Q")
    metadata: Metadata = {}
    for _ in range(header.checked(pair_count, 8 + 4)):  # a key's length, a type
        key = header.name()
        if key in metadata:
            raise header.broken(f"{key} comes a second time")
        metadata[key] = header.value()
    offsets: dict[str, Place] = {}
    for _ in range(header.checked(tensor_count, 8 + 4 + 4 + 8)):  # a name's length, dimensions, type, offset
        name, dimensions = header.name(), header.number("I")
        if name in offsets:
            raise header.broken(f"{name} comes a second time")
        if dimensions > _MOST_DIMENSIONS:
            raise header.broken(f"{name} has {dimensions:,} dimensions")
        shape = tuple(header.number("Q") for _ in range(dimensions))[::-1]
        offsets[name] = (shape, header.number("I"), header.number("Q"))
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise header.broken(f"general.alignment is {alignment!r}")
    start = header.at + -header.at % alignment
    places = {name: (shape, kind, start + offset) for name, (shape, kind, offset) in offsets.items()}
    return GGUFFile(path, header.data, metadata, places)


class _Header:
    """What a file starts with, taken off piece by piece and never beyond its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as handle:
                self.data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise BadInput(f"{path}: can't be read ({error}).") from None
        self.at = 0

    def broken(self, what: str) -> BadInput:
        return BadInput(f"{self.path}: at byte {self.at:,}: {what}; not a whole GGUF file.")

    def checked(self, count: int, size: int) -> int:
        """`count`, where so many things of at least `size` bytes may follow."""
        if size * count > len(self.data) - self.at:
            raise self.broken(f"{size * count:,} bytes are promised where {len(self.data) - self.at:,} are left")
        return count

    def take(self, size: int) -> int:
        """Step over so many bytes; gives where they begin."""
        self.at += self.checked(size, 1)
        return self.at - size

    def number(self, letter: str) -> Any:
        form = struct.Struct("<" + letter)
        return form.unpack_from(self.data, self.take(form.size))[0]

    def text(self) -> str:
        length = self.number("Q")
        start = self.take(length)
        return self.data[start : start + length].decode("utf-8", "replace")

    def name(self) -> str:
        name = self.text()
        if not name.isprintable():
            raise self.broken(f"a name is {name[:40]!r}")
        return name

    def value(self) -> Any:
        kind = self.number("I")
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("I"), self.number("Q"))
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        raise self.broken(f"a value has the unknown type {kind}")

    def _array(self, kind: int, count: int) -> list[str] | NDArray[Any]:
        if kind in _NUMBERS:
            form = np.dtype(_NUMBERS[kind]).newbyteorder("<")
            return np.ndarray(count, form, self.data, self.take(form.itemsize * count))
        if kind != _STRING:
            raise self.broken(f"a list has elements of the type {kind}")
        return [self.text() for _ in range(self.checked(count, 8))]  # a length


def bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    """How many bytes a tensor takes."""
    return prod(shape) // BLOCK * BLOCK_BYTES if dtype == "q8_0" else prod(shape) * FLOAT_TYPES[dtype].itemsize


def stored_tensor(file: GGUFFile, name: str) -> StoredTensor:
    """A tensor in the file's own orientation, read when asked for. Raises BadInput where its type is not read here."""
    path, data = file.path, file.data
    shape, kind, start = file.places[name]
    if kind not in _TYPES:
        told = _OTHER_TYPES.get(kind, f"number {kind}")
        raise BadInput(
            f"{path}: {name} is of type {told}; F32, F16, BF16 and Q8_0 are read. Take a file of one of them."
        )
    dtype = _TYPES[kind]
    if dtype == "q8_0" and (not shape or shape[-1] % BLOCK):
        raise BadInput(f"{path}: {name} is of type Q8_0, but its rows are no multiple of {BLOCK} ({list(shape)}).")
    end = start + bytes_of(shape, dtype)
    if end > len(data):
        raise BadInput(f"{path}: cut short: {name} ends at byte {end:,}, the file at {len(data):,}. Fetch it again.")

    if dtype != "q8_0":
        return StoredTensor.at(data, dtype, shape, start)

    def read_q8_0() -> NDArray[Any]:
        packed = np.frombuffer(data, np.uint8, end - start, start)
        return unpack_q8_0(packed.reshape(-1, BLOCK_BYTES), shape)

    return StoredTensor(shape, dtype, read_q8_0)


def hold_the_same(file: GGUFFile, name: str, other: str) -> bool:
    """Whether two tensors are there and have the same type, shape and bytes; both have been through `stored_tensor`."""
    if name not in file.places or other not in file.places:
        return False
    (shape, kind, at), (other_shape, other_kind, other_at) = file.places[name], file.places[other]
    if (shape, kind) != (other_shape, other_kind):
        return False
    size = bytes_of(shape, _TYPES[kind])
    return all(
        file.data[at + n : at + min(n + _COMPARED_BYTES, size)]
        == file.data[other_at + n : other_at + min(n + _COMPARED_BYTES, size)]
        for n in range(0, size, _COMPARED_BYTES)
    )


def header_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> bytes:
    """What comes before the tensors, whose shapes (outermost first) and types are given; each is to be `padded`.

    Metadata become: str a string, bool a bool, int uint32, float float32, a list of str, an array of int32.
    """
    header = bytearray(_MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        header += _text_bytes(key) + _value_bytes(value)
    offset = 0
    for name, (shape, dtype) in tensors.items():
        header += _text_bytes(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        header += struct.pack("<IQ", _TYPE_NUMBERS[dtype], offset)
        offset += bytes_of(shape, dtype) + len(padding(bytes_of(shape, dtype)))
    return bytes(header + padding(len(header)))


def padding(size: int) -> bytes:
    """What follows `size` bytes, so that the next ones begin at a multiple of 32."""
    return bytes(-size % _ALIGNMENT)


def _value_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text_bytes(value)
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, np.ndarray):
        return struct.pack("<IIQ", _ARRAY, _INT32, len(value)) + value.astype("<i4").tobytes()
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text_bytes, value))


def _text_bytes(text: str) -> bytes:
    data = text.encode(errors="replace")  # names of files need not be UTF-8
    return struct.pack("<Q", len(data)) + data
