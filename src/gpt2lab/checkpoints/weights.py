"""A GPT-2's weights as some file holds them: named, measured, and read only when asked for. No torch here.

Every format is brought to one layout, that of the published files: names without the prefix `transformer.`, the
matrices of attention and MLP as [in, out], the head left out where it is tied to `wte.weight`.
"""

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.quantization import QuantizedMatrix
from gpt2lab.model.config import GPT2Config
from gpt2lab.tokens.bpe import SMALLEST_VOCABULARY, ByteLevelBPE

FloatType = Literal["float32", "float16", "bfloat16"]
FLOAT_TYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

QUANTIZED = ("q8_0", "int8", "int4")
"""Types in files that `read` expands to float32."""

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
"""Endings of the matrices that published files hold as [in, out], and PyTorch's Linear as [out, in]."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. `read` gives an array of one of FLOAT_TYPES, a view of the mapped file where it can.

    `dtype` is the type in the file, which may be one that `read` has to expand (QUANTIZED to float32). Of our own
    quantized folders, `quantized` gives the whole numbers and scales as they are stored.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[Any]]
    quantized: Callable[[], QuantizedMatrix] | None = None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def float_type(self) -> str:
        """The type that `read` gives."""
        return "float32" if self.dtype in QUANTIZED else self.dtype

    def of_type(self, float_type: str) -> "StoredTensor":
        """The tensor converted to another of FLOAT_TYPES when it is read."""
        return StoredTensor(self.shape, float_type, lambda: _converted(self.read(), float_type))

    @classmethod
    def of(cls, array: NDArray[Any]) -> "StoredTensor":
        """An array that is in memory already."""
        return cls(array.shape, array.dtype.name, lambda: array)

    @classmethod
    def at(cls, mapped: mmap.mmap, dtype: str, shape: tuple[int, ...], offset: int) -> "StoredTensor":
        """A tensor of one of FLOAT_TYPES in a mapped file, from byte `offset`: a view, or a copy where it is askew."""

        def read() -> NDArray[Any]:
            array = np.frombuffer(mapped, FLOAT_TYPES[dtype], prod(shape), offset).reshape(shape)
            return array if array.flags.aligned else array.copy()

        return cls(shape, dtype, read)

    def mapped(self, change: Callable[[NDArray[Any]], NDArray[Any]], shape: tuple[int, ...]) -> "StoredTensor":
        """The tensor that `change` will make of this one, of shape `shape`, when it is read."""
        return StoredTensor(shape, self.dtype, lambda: change(self.read()))

    def transposed(self) -> "StoredTensor":
        """A matrix turned around; a view, no copy."""
        return self.mapped(lambda array: array.T, self.shape[::-1])


def _converted(array: NDArray[Any], float_type: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite; `only_finite` tells
        return array.astype(FLOAT_TYPES[float_type], copy=False)


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 in a file or folder: what it is (`config`), its tensors by published name, its tokenizer if it has one.

    `format` names what it was read from. `notes` say, one sentence each, what had to be done or assumed to bring it
    here. `provenance` is what the source says of itself, `files` are those that hold its weights and config.
    """

    where: Path
    format: str
    config: GPT2Config
    tensors: Mapping[str, StoredTensor]
    tokenizer: ByteLevelBPE | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def noted(self, *notes: str, **changes: Any) -> "Checkpoint":
        """A copy with other fields, and notes that say why."""
        return replace(self, notes=(*self.notes, *notes), **changes)

    def of_type(self, float_type: str) -> "Checkpoint":
        """A copy with all tensors converted to one of FLOAT_TYPES when they are read."""
        return replace(self, tensors={name: tensor.of_type(float_type) for name, tensor in self.tensors.items()})

    @property
    def parameters(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(tensor.size for tensor in self.tensors.values())

    def required_tokenizer(self) -> ByteLevelBPE:
        """The tokenizer; raises BadInput where the source has none."""
        if self.tokenizer is None and self.config.vocab_size < SMALLEST_VOCABULARY:
            raise BadInput(
                f"{self.where}: its vocabulary of {self.config.vocab_size} ids is too small for a byte-level BPE (it"
                f" has {SMALLEST_VOCABULARY} at least); a model of characters can be inspected, no more."
            )
        if self.tokenizer is None:
            raise BadInput(f"{self.where}: has no tokenizer; import it with --tokenizer (gpt2, or a folder with one).")
        return self.tokenizer


def raw_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of an array, row by row, for a file to write; a copy only where it is not laid out so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def release_pages(array: NDArray[Any]) -> None:
    """Let the pages of the mapped file go that an array is a view of; nothing happens to other arrays.

    They are read again when they are needed, so this is only for arrays that nobody has written to.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)


def only_finite(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint; reading a tensor raises BadInput where one of its numbers is not finite."""

    def checked(name: str, tensor: StoredTensor) -> StoredTensor:
        def read() -> NDArray[Any]:
            array = tensor.read()
            if not np.isfinite(array).all():
                raise BadInput(
                    f"{checkpoint.where}: {name} holds numbers that are not finite, or too large for"
                    f" {tensor.float_type}; `gpt2lab inspect` shows where."
                )
            return array

        return StoredTensor(tensor.shape, tensor.float_type, read)

    return replace(checkpoint, tensors={name: checked(name, tensor) for name, tensor in checkpoint.tensors.items()})


def without_padding(checkpoint: Checkpoint) -> Checkpoint:
    """The same model without the rows of `wte` (and of an untied head) that stand for no token of its tokenizer."""
    ids = checkpoint.required_tokenizer().vocab_size
    padded = checkpoint.config.vocab_size
    if padded == ids:
        return checkpoint
    tensors = {
        name: _first_rows(tensor, ids) if name in ("wte.weight", "lm_head.weight") else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    return checkpoint.noted(
        f"Its vocabulary had {padded:,} rows for {ids:,} ids; the {padded - ids:,} rows without a token were left out.",
        config=replace(checkpoint.config, vocab_size=ids),
        tensors=tensors,
    )


def _first_rows(tensor: StoredTensor, count: int) -> StoredTensor:
    return tensor.mapped(lambda array: array[:count], (count, *tensor.shape[1:]))


def published_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The tensors of a GPT-2 in the published names, orientation and order."""
    d, v = config.n_embd, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (v, d), "wpe.weight": (config.context_length, d)}
    for layer in range(config.n_layer):
        for name, shape in (
            ("ln_1.weight", (d,)),
            ("ln_1.bias", (d,)),
            ("attn.c_attn.weight", (d, 3 * d)),
            ("attn.c_attn.bias", (3 * d,)),
            ("attn.c_proj.weight", (d, d)),
            ("attn.c_proj.bias", (d,)),
            ("ln_2.weight", (d,)),
            ("ln_2.bias", (d,)),
            ("mlp.c_fc.weight", (d, 4 * d)),
            ("mlp.c_fc.bias", (4 * d,)),
            ("mlp.c_proj.weight", (4 * d, d)),
            ("mlp.c_proj.bias", (d,)),
        ):
            shapes[f"h.{layer}.{name}"] = shape
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def check_tensors(where: Path, config: GPT2Config, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors in published order; raises BadInput that names what is missing, unknown, misshapen or no float."""
    if config.n_layer > len(tensors):  # before a name is made for each of a billion layers
        raise BadInput(
            f"{where}: the config has {config.n_layer:,} layers, the weights {len(tensors):,} tensors in all."
        )
    wanted = published_shapes(config)
    if missing := [name for name in wanted if name not in tensors]:
        raise BadInput(f"{where}: {_counted(missing)} missing, first of them {missing[0]}.")
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise BadInput(
            f"{where}: {_counted(unknown)} of no GPT-2 of this config ({config.n_layer} layers), first of them"
            f" {unknown[0]}."
        )
    for name, shape in wanted.items():
        found = tensors[name]
        if tuple(found.shape) != shape:
            raise BadInput(
                f"{where}: {name} has shape {list(found.shape)}, which disagrees with the config (wanted"
                f" {list(shape)})."
            )
        if found.dtype not in FLOAT_TYPES and found.dtype not in QUANTIZED:
            raise BadInput(f"{where}: {name} is of type {found.dtype}; weights are of {', '.join(FLOAT_TYPES)}.")
    return {name: tensors[name] for name in wanted}


def head_is_tied(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether the head is absent or `wte.weight`; the numbers are only read where both stand in the file."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("wte.weight")
    if head is None or embedding is None:
        return True
    if (head.shape, head.dtype) != (embedding.shape, embedding.dtype) or head.dtype not in FLOAT_TYPES:
        return False
    first, second = head.read(), embedding.read()
    same_place = (first.ctypes.data, first.strides) == (second.ctypes.data, second.strides)
    return same_place or np.array_equal(first, second)


def _counted(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
