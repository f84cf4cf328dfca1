"""Our folders of quantized weights: config.json with `"quantization": {"weights": "int8"}`, and quantized.safetensors.

A matrix X.weight is held as whole numbers (I8, or U8 for int4) and X.weight_scale (F32, or F16 for int4), as
`quantization.py` has them; embedding and head are int8 in either type; positions, biases and norms are F32. Other tools
look for model.safetensors, and would take the whole numbers in it for the weights themselves: transformers even where
config.json has a `quantization_config` (it warns and goes on). So the file has a name that none of them looks for.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, whole_folder, write_json
from gpt2lab.checkpoints.config_file import config_to_json
from gpt2lab.checkpoints.provenance import PROVENANCE
from gpt2lab.checkpoints.quantization import (
    GROUP,
    QuantizedMatrix,
    QuantizedType,
    dequantize,
    quantize_columns,
    quantize_groups,
    quantize_rows,
)
from gpt2lab.checkpoints.safetensors_files import WHOLE_NUMBERS, map_safetensors, write_safetensors
from gpt2lab.checkpoints.weights import TRANSPOSED, Checkpoint, StoredTensor, release_pages

QUANTIZED_WEIGHTS = "quantized.safetensors"
_SCALE = "_scale"
_BY_ROW = ("wte.weight", "lm_head.weight")


def quantized_type(config_file: Path) -> QuantizedType | None:
    """The type that a config.json gives to the matrices beside it, None where they are not quantized by us.

    Raises BadInput for a type that is not known here.
    """
    found = read_json(config_file)
    told = found.get("quantization") if isinstance(found, dict) else None
    if told is None:
        return None
    weights = told.get("weights") if isinstance(told, dict) else None
    for known in get_args(QuantizedType):
        if weights == known:
            return known  # type: ignore[no-any-return]
    raise BadInput(
        f"{config_file}: its quantization is {told!r}; known are weights of {' and '.join(get_args(QuantizedType))}."
    )


def quantized_tensors(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, read as float32; of the matrices, `quantized` gives what is stored.

    Raises BadInput where values and scales do not belong together.
    """
    if not file.is_file():
        raise BadInput(f"{file}: no such file, though config.json beside it says that the weights are quantized.")
    found = map_safetensors(file)
    tensors = dict(found)
    for name, values in found.items():
        if values.dtype in WHOLE_NUMBERS:
            tensors[name] = _expanded(file, name, values, tensors.pop(name + _SCALE, None))
    return tensors


def _expanded(file: Path, name: str, values: StoredTensor, scales: StoredTensor | None) -> StoredTensor:
    kind: QuantizedType = "int8" if values.dtype == "I8" else "int4"
    by_row = name.endswith(_BY_ROW)
    if scales is None:
        raise BadInput(f"{file}: {name} is quantized, and its scales {name}{_SCALE} are missing.")
    if len(values.shape) != 2:
        raise BadInput(f"{file}: {name} is quantized and of shape {list(values.shape)}; only matrices are quantized.")
    rows, columns = values.shape
    shape = (2 * rows if kind == "int4" else rows, columns)
    wanted = (
        ((rows if by_row else columns,), "float32") if kind == "int8" else ((shape[0] // GROUP, columns), "float16")
    )
    if (scales.shape, scales.dtype) != wanted or (kind == "int4" and (by_row or shape[0] % GROUP)):
        raise BadInput(
            f"{file}: {name} ({kind}, {list(shape)}) and {name}{_SCALE} ({scales.dtype}, {list(scales.shape)}) do not"
            " belong together."
        )

    def quantized() -> QuantizedMatrix:
        return QuantizedMatrix(kind, values.read(), scales.read(), by_row)

    return StoredTensor(shape, kind, lambda: dequantize(quantized()), quantized)


def write_quantized(
    path: Path, checkpoint: Checkpoint, weights: QuantizedType, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a folder of quantized weights, whole or not at all: no more than one tensor is in memory.

    Raises BadInput for int4 where the width is no multiple of GROUP, and for numbers that are not finite or too large.
    """
    tokenizer = checkpoint.required_tokenizer()
    width = checkpoint.config.n_embd
    if weights == "int4" and width % GROUP:
        raise BadInput(
            f"{checkpoint.where}: its width of {width:,} is no multiple of {GROUP}, the numbers that share a scale of"
            " int4; take int8."
        )
    stored: dict[str, StoredTensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith((*TRANSPOSED, *_BY_ROW)):
            stored |= _quantized(checkpoint.where, name, tensor, weights)
        else:
            stored[name] = tensor.of_type("float32")
    with whole_folder(path) as folder:
        write_safetensors(folder / QUANTIZED_WEIGHTS, stored)
        config = config_to_json(checkpoint.config, tokenizer.end_of_text)
        write_json(folder / "config.json", config | {"quantization": {"weights": weights}})
        tokenizer.save(folder)
        if provenance is not None:
            write_json(folder / PROVENANCE, provenance)


def _quantized(where: Path, name: str, tensor: StoredTensor, weights: QuantizedType) -> dict[str, StoredTensor]:
    """A matrix's values and scales. They are computed when the values are read, and let go when the scales are."""
    quantize: Callable[[NDArray[Any]], QuantizedMatrix] = quantize_columns
    if name.endswith(_BY_ROW):
        quantize = quantize_rows
    elif weights == "int4":
        quantize = quantize_groups
    scales: list[NDArray[Any]] = []

    def read_values() -> NDArray[Any]:
        array = tensor.read()
        try:
            matrix = quantize(array)
        except OverflowError:
            raise BadInput(
                f"{where}: {name} holds numbers that are not finite, or too large for {weights}; `gpt2lab inspect`"
                " shows where."
            ) from None
        release_pages(array)
        scales.append(matrix.scales)
        return matrix.values

    rows, columns = tensor.shape
    if quantize is quantize_groups:
        return {
            name: StoredTensor((rows // 2, columns), "U8", read_values),
            name + _SCALE: StoredTensor((rows // GROUP, columns), "float16", scales.pop),
        }
    outputs = rows if quantize is quantize_rows else columns
    return {
        name: StoredTensor((rows, columns), "I8", read_values),
        name + _SCALE: StoredTensor((outputs,), "float32", scales.pop),
    }
