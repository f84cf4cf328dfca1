"""GGUF, the files of llama.cpp: read and written without its library, one tensor at a time.

Names, metadata and types are those of llama.cpp's own `convert_hf_to_gguf.py`. (The package gguf needs 2.5 s to read
the header of a file with GPT-2's tokenizer, which has 100,000 strings; here it takes 0.1 s.)

Layout, little-endian: "GGUF", version, number of tensors, number of metadata pairs; the pairs (key, type, value); for
each tensor its name, dimensions (innermost first), type and offset; padding; the tensors, each from a multiple of 32.
Matrices are held as PyTorch's Linear has them, [out, in].
"""

import json
import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import whole_file
from gpt2lab.checkpoints.formats.q8_0 import BLOCK, BLOCK_BYTES, pack_q8_0, unpack_q8_0
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

_MAGIC = b"GGUF"
_VERSION = 3
_READ_VERSIONS = (2, 3)
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_CHUNK_BYTES = 1 << 18  # of float32 numbers converted at a time

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

Metadata = dict[str, Any]


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
    header = _Header(path)
    metadata, found = _read_header(header)
    architecture = metadata.get("general.architecture")
    if architecture != "gpt2":
        raise BadInput(f"{path}: a model of the architecture {architecture!r}; only gpt2 is read.")
    if (parts := metadata.get("split.count", 1)) != 1:
        raise BadInput(f"{path}: one of the {parts} files of a split model; join them with llama-gguf-split --merge.")
    tensors = {name: _stored(header, name, *place) for name, place in found.items()}
    notes = []
    if "output.weight" in tensors and _same_bytes(header, found["output.weight"], found.get("token_embd.weight")):
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
        return BadInput(f"{self.path}: at byte {self.at:,} {what}; not a whole GGUF file.")

    def take(self, size: int, count: int = 1) -> int:
        """Step over `count` things of at least `size` bytes; gives where they begin."""
        if size * count > len(self.data) - self.at:
            raise self.broken(f"{size * count:,} bytes are promised where {len(self.data) - self.at:,} are left")
        self.at += size * count
        return self.at - size * count

    def number(self, letter: str) -> Any:
        form = struct.Struct("<" + letter)
        return form.unpack_from(self.data, self.take(form.size))[0]

    def text(self) -> str:
        length = self.number("Q")
        start = self.take(length)
        return self.data[start : start + length].decode("utf-8", "replace")

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
            return np.ndarray(count, form, self.data, self.take(form.itemsize, count))
        if kind != _STRING:
            raise self.broken(f"a list has elements of the type {kind}")
        start = self.take(8, count)  # each string has a length at least
        self.at = start
        return [self.text() for _ in range(count)]


# shape as in numpy (outermost first), number of the type, where its bytes begin
Place = tuple[tuple[int, ...], int, int]


def _read_header(header: _Header) -> tuple[Metadata, dict[str, Place]]:
    if header.data[:4] != _MAGIC:
        raise BadInput(f"{header.path}: not a GGUF file.")
    header.take(4)
    version = header.number("I")
    if version not in _READ_VERSIONS:
        if version and version & 0xFFFF == 0:
            raise BadInput(f"{header.path}: a big-endian GGUF file; convert the model for little-endian machines.")
        raise BadInput(f"{header.path}: GGUF version {version}; versions 2 and 3 are read. Convert the model anew.")
    tensor_count, pair_count = header.number("Q"), header.number("Q")
    start = header.take(12, pair_count)  # a key's length and a type at least; so a false count is told at once
    header.at = start
    metadata: Metadata = {}
    for _ in range(pair_count):
        key = header.text()
        if key in metadata:
            raise header.broken(f"{key} comes a second time")
        metadata[key] = header.value()
    start = header.take(24, tensor_count)
    header.at = start
    places: dict[str, Place] = {}
    for _ in range(tensor_count):
        name, dimensions = header.text(), header.number("I")
        if name in places or dimensions > _MOST_DIMENSIONS:
            raise header.broken(f"{name} has {dimensions} dimensions" if name not in places else f"{name} comes again")
        shape = tuple(header.number("Q") for _ in range(dimensions))[::-1]
        places[name] = (shape, header.number("I"), header.number("Q"))
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise header.broken(f"general.alignment is {alignment!r}")
    start = header.at + -header.at % alignment
    return metadata, {name: (shape, kind, start + offset) for name, (shape, kind, offset) in places.items()}


def _bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    return prod(shape) // BLOCK * BLOCK_BYTES if dtype == "q8_0" else prod(shape) * FLOAT_TYPES[dtype].itemsize


def _stored(header: _Header, name: str, shape: tuple[int, ...], kind: int, start: int) -> StoredTensor:
    path, data = header.path, header.data
    if kind not in _TYPES:
        told = _OTHER_TYPES.get(kind, f"number {kind}")
        raise BadInput(
            f"{path}: {name} is of type {told}; F32, F16, BF16 and Q8_0 are read. Take a file of one of them."
        )
    dtype = _TYPES[kind]
    if dtype == "q8_0" and (not shape or shape[-1] % BLOCK):
        raise BadInput(f"{path}: {name} is of type Q8_0, but its rows are no multiple of {BLOCK} ({list(shape)}).")
    end = start + _bytes_of(shape, dtype)
    if end > len(data):
        raise BadInput(f"{path}: cut short: {name} ends at byte {end:,}, the file at {len(data):,}. Fetch it again.")

    def read_floats() -> NDArray[Any]:
        array = np.frombuffer(data, FLOAT_TYPES[dtype], prod(shape), start).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def read_q8_0() -> NDArray[Any]:
        packed = np.frombuffer(data, np.uint8, end - start, start)
        return unpack_q8_0(packed.reshape(-1, BLOCK_BYTES), shape)

    return StoredTensor(shape, dtype, read_q8_0 if dtype == "q8_0" else read_floats)


def _published(config: GPT2Config, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors by their published names and in that orientation; those that have none stay as they are."""
    names = {gguf_name(name): name for name in published_shapes(config)}
    published = {}
    for found, tensor in tensors.items():
        name = names.get(found, found)
        turned = name.endswith(TRANSPOSED) and len(tensor.shape) == 2
        published[name] = tensor.transposed() if turned else tensor
    return published


def _same_bytes(header: _Header, one: Place, other: Place | None) -> bool:
    if other is None or one[:2] != other[:2]:
        return False
    size = _bytes_of(one[0], _TYPES[one[1]])
    for at in range(0, size, _CHUNK_BYTES):
        step = min(_CHUNK_BYTES, size - at)
        if header.data[one[2] + at : one[2] + at + step] != header.data[other[2] + at : other[2] + at + step]:
            return False
    return True


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
            said["source_provenance"] = json.loads(metadata[_PROVENANCE])
        except ValueError:
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
    tensors = [(name, tensor, _type_of(name, tensor, dtype)) for name, tensor in checkpoint.tensors.items()]
    with whole_file(path) as handle:
        handle.write(_header_bytes(_metadata(checkpoint, tokenizer, dtype), tensors))
        for name, tensor, stored_type in tensors:
            for chunk in _encoded(checkpoint.where, name, tensor, stored_type):
                handle.write(chunk.data)
            handle.write(bytes(-_bytes_of(tensor.shape, stored_type) % _ALIGNMENT))


def _type_of(name: str, tensor: StoredTensor, dtype: str) -> str:
    if len(tensor.shape) < 2 or name == "wpe.weight":
        return "float32"
    rows = tensor.shape[::-1] if name.endswith(TRANSPOSED) else tensor.shape
    return "float16" if dtype == "q8_0" and rows[-1] % BLOCK else dtype


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


def _metadata(checkpoint: Checkpoint, tokenizer: ByteLevelBPE, dtype: str) -> list[tuple[str, int, Any]]:
    """Key, type and value, in the converter's order."""
    config = checkpoint.config
    fillers = range(tokenizer.vocab_size, config.vocab_size)
    tokens = [*tokenizer.symbols, END_OF_TEXT, *(f"[PAD{n}]" for n in fillers)]
    kinds = [_NORMAL_TOKEN] * tokenizer.end_of_text + [_CONTROL_TOKEN] + [_UNUSED_TOKEN] * len(fillers)
    source = checkpoint.provenance.get("source_provenance", {})  # of an imported model
    hub = checkpoint.provenance.get("hub") or (isinstance(source, dict) and source.get("hub"))
    pairs: list[tuple[str, int, Any]] = [
        ("general.architecture", _STRING, "gpt2"),
        ("general.type", _STRING, "model"),
        ("general.name", _STRING, str(hub or checkpoint.where.resolve().name.removesuffix(".gguf"))),
        ("general.size_label", _STRING, _size_label(checkpoint.parameters)),
        ("gpt2.block_count", _UINT32, config.n_layer),
        ("gpt2.context_length", _UINT32, config.context_length),
        ("gpt2.embedding_length", _UINT32, config.n_embd),
        ("gpt2.feed_forward_length", _UINT32, 4 * config.n_embd),
        ("gpt2.attention.head_count", _UINT32, config.n_head),
        ("gpt2.attention.layer_norm_epsilon", _FLOAT32, config.layer_norm_epsilon),
        ("general.file_type", _UINT32, _FILE_TYPES[dtype]),
        ("general.quantization_version", _UINT32, 2),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, _PRE_TOKENIZER),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, kinds)),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, tokenizer.merges)),
    ]
    pairs += [(f"tokenizer.ggml.{role}_token_id", _UINT32, tokenizer.end_of_text) for role in ("bos", "eos", "unknown")]
    pairs += [(f"tokenizer.ggml.add_{role}_token", _BOOL, False) for role in ("bos", "eos")]
    if hub:
        pairs.append(("general.source.repo_url", _STRING, f"https://huggingface.co/{hub}"))
    if checkpoint.provenance:
        pairs.append((_PROVENANCE, _STRING, json.dumps(checkpoint.provenance, ensure_ascii=False)))
    return pairs


def _size_label(parameters: int) -> str:
    """124M, as llama.cpp writes it: at least two digits."""
    scale, letter = next(((s, letter) for s, letter in ((1e9, "B"), (1e6, "M")) if parameters > s), (1e3, "K"))
    scaled = parameters / scale
    return f"{scaled:.{1 if round(scaled) < 10 else 0}f}{letter}"


def _header_bytes(metadata: list[tuple[str, int, Any]], tensors: list[tuple[str, StoredTensor, str]]) -> bytearray:
    header = bytearray(_MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)))
    for key, kind, value in metadata:
        header += _text_bytes(key) + struct.pack("<I", kind)
        if kind == _ARRAY:
            element, values = value
            header += struct.pack("<IQ", element, len(values))
            header += b"".join(map(_text_bytes, values)) if element == _STRING else np.array(values, "<i4").tobytes()
        else:
            header += _text_bytes(value) if kind == _STRING else struct.pack("<" + _NUMBERS[kind], value)
    offset = 0
    for name, tensor, stored_type in tensors:
        # dimensions innermost first: reversed as numpy has them, which is what [in, out] matrices are already
        dimensions = tensor.shape if name.endswith(TRANSPOSED) else tensor.shape[::-1]
        header += _text_bytes(gguf_name(name)) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        header += struct.pack("<IQ", _TYPE_NUMBERS[stored_type], offset)
        size = _bytes_of(tensor.shape, stored_type)
        offset += size + -size % _ALIGNMENT
    return header + bytes(-len(header) % _ALIGNMENT)


def _text_bytes(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
