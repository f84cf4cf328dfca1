"""`quantize`: a model folder with smaller weights, made one tensor at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import progress_bar
from gpt2lab.checkpoints.exporting import own_type
from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face
from gpt2lab.checkpoints.formats.quantized_folder import write_quantized
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.provenance import check_replaceable, describe_making
from gpt2lab.checkpoints.quantization import slabs
from gpt2lab.checkpoints.weights import FLOAT_TYPES, QUANTIZED, Checkpoint, StoredTensor, only_finite, release_pages

WeightType = Literal["int8", "int4", "bfloat16"]
MADE_BY = "gpt2lab quantize"


@dataclass(frozen=True)
class TensorError:
    """How far a tensor is from what it was: the largest difference, and the RMS difference over the RMS."""

    name: str
    dtype: str
    largest: float
    relative: float


@dataclass(frozen=True)
class Quantized:
    """What `quantize` made: where, of which type, how many numbers; bytes of the weights, as float32 and as made."""

    model: str
    weights: WeightType
    parameters: int
    float32_bytes: int
    bytes: int
    notes: tuple[str, ...]
    errors: tuple[TensorError, ...]


def quantize_model(source: str | Path, out: Path, weights: WeightType, *, revision: str | None = None) -> Quantized:
    """Make a model folder with weights of another type of a model that `open_model` opens, whole or not at all.

    There is never more than one tensor in memory. Raises BadOption where `out` is the model itself or holds something
    else, BadInput for what `open_model` does, for weights that are not finite, and for a width that int4 can't have.
    """
    check_replaceable(out, MADE_BY)
    if out.exists() and out.resolve() == Path(source).resolve():
        raise BadOption(f"--out {out}: is the model itself; name another place.")
    found = open_model(source, revision)
    if (own := own_type(found)) in QUANTIZED:
        found = found.noted(f"Its weights are {own} already; what that lost stays lost.")
    provenance = describe_making(MADE_BY, source, found) | {"weights": weights}
    if weights == "bfloat16":
        converted = replace(found, tensors={name: _as_bfloat16(tensor) for name, tensor in found.tensors.items()})
        write_hugging_face(out, only_finite(converted), provenance=provenance)
    else:
        write_quantized(out, found, weights, provenance)
    made = open_model(out)
    return Quantized(
        str(out),
        weights,
        found.parameters,
        4 * found.parameters,
        sum(file.stat().st_size for file in made.files if file.suffix == ".safetensors"),
        found.notes,
        tuple(tensor_errors(found, made)),
    )


def tensor_errors(before: Checkpoint, after: Checkpoint) -> Iterator[TensorError]:
    """The error of each tensor of a checkpoint against the same of another one, with one of each in memory."""
    with progress_bar("compare", total=before.parameters, unit="numbers") as bar:
        for name, tensor in before.tensors.items():
            later = after.tensors[name]
            was, is_now = tensor.read(), later.read()
            largest = squares = differences = 0.0
            for rows in slabs(np.atleast_2d(was)):
                old = np.atleast_2d(was)[rows].astype(np.float32, copy=False)
                difference = np.atleast_2d(is_now)[rows].astype(np.float32, copy=False) - old
                largest = max(largest, float(np.abs(difference).max()))
                differences += float(np.vdot(difference, difference))
                squares += float(np.vdot(old, old))
            release_pages(was)
            release_pages(is_now if later.quantized is None else later.quantized().values)
            yield TensorError(name, later.dtype, largest, (differences / squares) ** 0.5 if squares else 0.0)
            bar.advance(tensor.size)


def _as_bfloat16(tensor: StoredTensor) -> StoredTensor:
    """The tensor in bfloat16; nothing of the file stays in memory once it has been read."""

    def read() -> NDArray[Any]:
        array = tensor.read()
        with np.errstate(over="ignore"):  # what is too large becomes infinite; `only_finite` tells
            converted = array.astype(FLOAT_TYPES["bfloat16"])
        release_pages(array)
        return converted

    return StoredTensor(tensor.shape, "bfloat16", read)
