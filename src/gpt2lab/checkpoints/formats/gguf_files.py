"""GGUF, the files of llama.cpp: a GPT-2 read and written without its library, one tensor at a time.

Names, metadata and types are those of llama.cpp's own `convert_hf_to_gguf.py`. Matrices are held as PyTorch's Linear
has them, [out, in].
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import whole_file
from gpt2lab.checkpoints.formats.gguf_layout import (
    Metadata,
    bytes_of,
    header_bytes,
    hold_the_same,
    padding,
    read_layout,
    stored_tensor,
)
from gpt2lab.checkpoints.formats.q8_0 import BLOCK, pack_q8_0
from gpt2lab.checkpoints.provenance import writable_json
from gpt2lab.checkpoints.weights import (
    FLOAT_TYPES,
    TRANSPOSED,
    Checkpoint,
    StoredTensor,
    check_tensors,
    published_shapes,
)
from gpt2lab.model.config import GPT2Config
from gpt2lab.tokens.bpe import END_OF_TEXT, SPLIT_PATTERN, ByteLevelBPE

_CHUNK_BYTES = 1 << 18  # of float32 numbers converted at a time

# `general.file_type` of a file whose matrices are of a type (llama.h).
_FILE_TYPES = {"float32": 0, "float16": 1, "q8_0": 7, "bfloat16": 32}

_PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "lm_head": "output",
}
_NORMAL_TOKEN, _CONTROL_TOKEN, _UNUSED_TOKEN = 1, 3, 5
_PRE_TOKENIZER = "gpt-2"
_PROVENANCE = "gpt2lab.provenance"
"""Metadata of our own: what the model folder's provenance.json said, as JSON."""


def gguf_name(name: str) -> str:
    """What GGUF calls a tensor of the published name."""
    if not name.startswith("h."):
        part, _, kind = name.rpartition(".")
        return f"{_PARTS[part]}.{kind}"
    layer, _, rest = name.removeprefix("h.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_PARTS[part]}.{kind}"


# Reading


def read_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file of a GPT-2 with tensors of f32, f16, bf16 or q8_0; nothing of them is read yet.

    Raises BadInput that names another architecture or type, a tokenizer that is not of GPT-2's layout, a file that is
    cut short or promises more than it holds, and what disagrees.
    """
    file = read_layout(path)
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if architecture != "gpt2":
        raise BadInput(f"{path}: a model of the architecture {architecture!r}; only gpt2 is read.")
    if (parts := metadata.get("split.count", 1)) != 1:
        raise BadInput(f"{path}: one of the {parts} files of a split model; join them with llama-gguf-split --merge.")
    tensors = {name: stored_tensor(file, name) for name in file.places}
    notes = []
    if hold_the_same(file, "output.weight", "token_embd.weight"):
        del tensors["output.weight"]
        notes.append("It holds token_embd.weight a second time as output.weight; the head was taken as tied.")
    config = _config(path, metadata, tensors)
    tokenizer = _tokenizer(path, metadata, config.vocab_size)
    if tokenizer is not None and "tokenizer.ggml.pre" not in metadata:
        notes.append("It does not say how its tokenizer splits a text into words; GPT-2's way was taken.")
    return Checkpoint(
        path,
        "gguf",
        config,
        check_tensors(path, config, _published(config, tensors)),
        tokenizer,
        notes=tuple(notes),
        provenance=_provenance_of(metadata),
        files=(path,),
    )


def _published(config: GPT2Config, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors by their published names and in that orientation; those that have none stay as they are."""
    names = {gguf_name(name): name for name in published_shapes(config)}
    published = {}
    for found, tensor in tensors.items():
        name = names.get(found, found)
        turned = name.endswith(TRANSPOSED) and len(tensor.shape) == 2
        published[name] = tensor.transposed() if turned else tensor
    return published


def _config(path: Path, metadata: Metadata, tensors: Mapping[str, StoredTensor]) -> GPT2Config:
    def whole(key: str) -> int:
        value = metadata.get(f"gpt2.{key}")
        if not isinstance(value, int):
            raise BadInput(f"{path}: gpt2.{key} is {value!r}, not a whole number.")
        return value

    embeddings = tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise BadInput(f"{path}: has no matrix token_embd.weight.")
    n_layer = whole("block_count")
    if n_layer > len(tensors):  # before anything is done for each layer
        raise BadInput(f"{path}: gpt2.block_count is {n_layer:,}, but there are only {len(tensors)} tensors.")
    epsilon = metadata.get("gpt2.attention.layer_norm_epsilon")
    if not isinstance(epsilon, float):
        raise BadInput(f"{path}: gpt2.attention.layer_norm_epsilon is {epsilon!r}, not a number.")
    try:
        return GPT2Config(
            vocab_size=embeddings.shape[0],
            context_length=whole("context_length"),
            n_layer=n_layer,
            n_head=whole("attention.head_count"),
            n_embd=whole("embedding_length"),
            layer_norm_epsilon=float(str(np.float32(epsilon))),  # 1e-05, which float32 does not hold exactly
            tie_word_embeddings="output.weight" not in tensors,
        )
    except BadOption as error:
        raise BadInput(f"{path}: {error}") from None


def _tokenizer(path: Path, metadata: Metadata, vocab_size: int) -> ByteLevelBPE | None:
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None or kind in ("none", "no_vocab"):
        return None
    if kind != "gpt2":
        raise BadInput(f"{path}: its tokenizer is of the kind {kind!r}; GPT-2's byte-level BPE is read.")
    if (splitter := metadata.get("tokenizer.ggml.pre", _PRE_TOKENIZER)) != _PRE_TOKENIZER:
        raise BadInput(f"{path}: its tokenizer splits texts as {splitter!r} does; only {_PRE_TOKENIZER!r} is read.")
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    if not isinstance(tokens, list) or not isinstance(merges, list):
        raise BadInput(f"{path}: has no lists of strings tokenizer.ggml.tokens and tokenizer.ggml.merges.")
    try:
        tokenizer = ByteLevelBPE(merges)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    symbols = [*tokenizer.symbols, END_OF_TEXT]
    if tokens[: len(symbols)] != symbols or len(tokens) != vocab_size:
        raise BadInput(
            f"{path}: its {len(tokens):,} tokens are not GPT-2's: 256 bytes, one for each of {len(merges):,} merges,"
            f" {END_OF_TEXT}, and fillers up to the {vocab_size:,} rows of token_embd.weight."
        )
    kinds = metadata.get("tokenizer.ggml.token_type")
    if isinstance(kinds, np.ndarray) and (others := np.flatnonzero(kinds[len(symbols) :] != _UNUSED_TOKEN)).size:
        other = tokens[len(symbols) :][others[0]]
        raise BadInput(f"{path}: has tokens beside GPT-2's ({other!r}); there is no place for them here.")
    return tokenizer


def _provenance_of(metadata: Metadata) -> dict[str, Any]:
    layout = ("architecture", "type", "alignment", "file_type", "quantization_version")
    said: dict[str, Any] = {
        key.removeprefix("general."): value
        for key, value in metadata.items()
        if key.startswith("general.") and key.removeprefix("general.") not in layout and isinstance(value, str | int)
    }
    if isinstance(metadata.get(_PROVENANCE), str):
        try:
            said["source_provenance"] = writable_json(json.loads(metadata[_PROVENANCE]))
        except (ValueError, RecursionError):
            said["source_provenance"] = metadata[_PROVENANCE]
    return said


# Writing


def write_gguf(path: Path, checkpoint: Checkpoint, dtype: str) -> None:
    """Write a file that llama.cpp loads, whole or not at all, holding a quarter of a megabyte of it at a time.

    `dtype` is one of FLOAT_TYPES or q8_0. As llama.cpp's converter does: matrices and token embeddings are of that
    type, all else is float32; where rows are no multiple of 32, q8_0 becomes float16. Raises BadInput for what GGUF or
    llama.cpp has no place for (a tokenizer with a split pattern of its own, the exact GELU) and for numbers that are
    not finite in `dtype`; NoSpace when the disk is full.
    """
    tokenizer = checkpoint.required_tokenizer()
    if tokenizer.split_pattern != SPLIT_PATTERN:
        raise BadInput(
            f"{checkpoint.where}: its tokenizer splits texts by a pattern of its own; llama.cpp knows patterns only by"
            " name, and would give other ids. There is no GGUF of this model."
        )
    if checkpoint.config.activation_function != "gelu_new":
        raise BadInput(
            f"{checkpoint.where}: its activation is the exact GELU; llama.cpp's gpt2 computes the tanh approximation"
            " (gelu_new) only, and would give other logits. There is no GGUF of this model."
        )
    stored_types = {name: _type_of(name, tensor, dtype) for name, tensor in checkpoint.tensors.items()}
    places = {
        gguf_name(name): (_shape_in_file(name, tensor), stored_types[name])
        for name, tensor in checkpoint.tensors.items()
    }
    with whole_file(path) as handle:
        handle.write(header_bytes(_metadata(checkpoint, tokenizer, dtype), places))
        for name, tensor in checkpoint.tensors.items():
            for chunk in _encoded(checkpoint.where, name, tensor, stored_types[name]):
                handle.write(chunk.data)
            handle.write(padding(bytes_of(tensor.shape, stored_types[name])))


def _shape_in_file(name: str, tensor: StoredTensor) -> tuple[int, ...]:
    return tensor.shape[::-1] if name.endswith(TRANSPOSED) else tensor.shape


def _type_of(name: str, tensor: StoredTensor, dtype: str) -> str:
    if len(tensor.shape) < 2 or name == "wpe.weight":
        return "float32"
    return "float16" if dtype == "q8_0" and _shape_in_file(name, tensor)[-1] % BLOCK else dtype


def _encoded(where: Path, name: str, tensor: StoredTensor, stored_type: str) -> Iterator[NDArray[Any]]:
    """The bytes of a tensor, some rows at a time."""
    array = np.atleast_2d(tensor.read())
    if name.endswith(TRANSPOSED):
        array = array.T
    step = max(1, _CHUNK_BYTES // (4 * array.shape[1]))
    for start in range(0, len(array), step):
        rows = np.ascontiguousarray(array[start : start + step], np.float32)
        try:
            yield _ENCODERS[stored_type](rows).reshape(-1).view(np.uint8)
        except OverflowError:
            raise BadInput(
                f"{where}: {name} holds numbers that are not finite, or too large for {stored_type}; `gpt2lab inspect`"
                " shows where."
            ) from None


def _float_encoder(float_type: str) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    def encode(rows: NDArray[np.float32]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            numbers = rows.astype(FLOAT_TYPES[float_type], copy=False)
        if not np.isfinite(numbers).all():
            raise OverflowError
        return numbers

    return encode


_ENCODERS = {name: _float_encoder(name) for name in FLOAT_TYPES} | {"q8_0": pack_q8_0}


def _metadata(checkpoint: Checkpoint, tokenizer: ByteLevelBPE, dtype: str) -> Metadata:
    """What the converter says, in its order, and where the model comes from."""
    config = checkpoint.config
    fillers = range(tokenizer.vocab_size, config.vocab_size)
    kinds = np.full(config.vocab_size, _NORMAL_TOKEN, np.int32)
    kinds[tokenizer.end_of_text] = _CONTROL_TOKEN
    kinds[tokenizer.vocab_size :] = _UNUSED_TOKEN
    source = checkpoint.provenance.get("source_provenance", {})  # of an imported model
    hub = checkpoint.provenance.get("hub") or (isinstance(source, dict) and source.get("hub"))
    metadata: Metadata = {
        "general.architecture": "gpt2",
        "general.type": "model",
        "general.name": str(hub or checkpoint.where.resolve().name.removesuffix(".gguf")),
        "general.size_label": _size_label(checkpoint.parameters),
        "gpt2.block_count": config.n_layer,
        "gpt2.context_length": config.context_length,
        "gpt2.embedding_length": config.n_embd,
        "gpt2.feed_forward_length": 4 * config.n_embd,
        "gpt2.attention.head_count": config.n_head,
        "gpt2.attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
        "general.file_type": _FILE_TYPES[dtype],
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _PRE_TOKENIZER,
        "tokenizer.ggml.tokens": [*tokenizer.symbols, END_OF_TEXT, *(f"[PAD{n}]" for n in fillers)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": tokenizer.merges,
    }
    metadata |= {f"tokenizer.ggml.{role}_token_id": tokenizer.end_of_text for role in ("bos", "eos", "unknown")}
    metadata |= {f"tokenizer.ggml.add_{role}_token": False for role in ("bos", "eos")}
    if hub:
        metadata["general.source.repo_url"] = f"https://huggingface.co/{hub}"
    if checkpoint.provenance:
        metadata[_PROVENANCE] = json.dumps(checkpoint.provenance, ensure_ascii=False)
    return metadata


def _size_label(parameters: int) -> str:
    """124M, as llama.cpp writes it: at least two digits."""
    scale, letter = next(((s, letter) for s, letter in ((1e9, "B"), (1e6, "M")) if parameters > s), (1e3, "K"))
    scaled = parameters / scale
    return f"{scaled:.{1 if round(scaled) < 10 else 0}f}{letter}"
