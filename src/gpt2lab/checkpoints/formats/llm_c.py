"""llm.c's weights (`gpt2_124M.bin`): a header of 256 int32, then every tensor in a fixed order, layers together.

header   magic, version, n_ctx, vocab_size, n_layer, n_head, n_embd, rows of wte, zeros
tensors  wte and wpe, then those of _STACKS over all layers, then ln_f; matrices as PyTorch's Linear has them, [out, in]

llm.c's `train_gpt2.py` (`write_model`, `write_tokenizer`) and `train_gpt2.c` are the source.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import whole_folder, write_json
from gpt2lab.checkpoints.provenance import PROVENANCE
from gpt2lab.checkpoints.weights import (
    FLOAT_TYPES,
    TRANSPOSED,
    Checkpoint,
    StoredTensor,
    check_tensors,
    only_finite,
    published_shapes,
    raw_bytes,
)
from gpt2lab.model.config import GPT2Config, parameter_count
from gpt2lab.tokens.bpe import END_OF_TEXT, ByteLevelBPE

LLM_C_MAGIC = 20240326
LLM_C_TOKENIZER_MAGIC = 20240328
WEIGHTS, TOKENIZER = "model.bin", "gpt2_tokenizer.bin"
"""What `write_llm_c` calls its files; the second is the name that llm.c's programs look for."""

_HEADER = struct.Struct("<256i")
_VERSIONS = {1: "float32", 3: "float32", 5: "bfloat16"}  # 2 and 4 were llm.c's own for a few days of April 2024
_UNPADDED = 1
_VERSION_TO_WRITE = {"float32": 3, "bfloat16": 5}
_ROWS = 128  # llm.c pads the vocabulary to a multiple
_LONGEST_TOKEN = 255
_LARGEST = 2**31 - 1
_STACKS = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)


def _order(n_layer: int) -> Iterator[str]:
    yield "wte.weight"
    yield "wpe.weight"
    for name in _STACKS:
        yield from (f"h.{layer}.{name}" for layer in range(n_layer))
    yield "ln_f.weight"
    yield "ln_f.bias"


def read_llm_c(path: Path) -> Checkpoint:
    """Open a file of llm.c, mapped; the rows of `wte` that pad the vocabulary are left out.

    Raises BadInput for another version, a header of no GPT-2, and a file that is not as long as its header says.
    """
    with path.open("rb") as handle:
        start = handle.read(_HEADER.size)
        if len(start) < _HEADER.size:
            raise BadInput(f"{path}: cut short ({len(start)} bytes; llm.c's header alone has {_HEADER.size:,}).")
        config, dtype, rows = _read_header(path, _HEADER.unpack(start))
        itemsize = FLOAT_TYPES[dtype].itemsize
        wanted = _HEADER.size + itemsize * (parameter_count(config) + (rows - config.vocab_size) * config.n_embd)
        if (size := path.stat().st_size) != wanted:
            raise BadInput(
                f"{path}: has {size:,} bytes where its header ({config.n_layer:,} layers, {config.n_embd:,} wide,"
                f" {rows:,} rows) means {wanted:,}; cut short, or another format."
            )
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    shapes = published_shapes(config)
    tensors = {}
    offset = _HEADER.size
    for name in _order(config.n_layer):
        shape = shapes[name][::-1] if name.endswith(TRANSPOSED) else shapes[name]
        tensor = StoredTensor.at(mapped, dtype, shape, offset)
        tensors[name] = tensor.transposed() if name.endswith(TRANSPOSED) else tensor
        offset += tensor.size * itemsize
        if name == "wte.weight":
            offset += (rows - config.vocab_size) * config.n_embd * itemsize
    note = f"The {rows - config.vocab_size:,} rows with which llm.c pads its vocabulary were left out."
    return Checkpoint(
        path,
        "llm_c",
        config,
        check_tensors(path, config, tensors),
        notes=(note,) if rows > config.vocab_size else (),
        files=(path,),
    )


def _read_header(path: Path, header: tuple[int, ...]) -> tuple[GPT2Config, str, int]:
    """The shape, the type of numbers and the rows of `wte`."""
    magic, version, context_length, vocab_size, n_layer, n_head, n_embd, rows = header[:8]
    if magic != LLM_C_MAGIC:
        raise BadInput(f"{path}: no weights of llm.c (its first number is {magic}, not {LLM_C_MAGIC}).")
    if version not in _VERSIONS:
        raise BadInput(f"{path}: version {version} of llm.c's format; 3 (float32), 5 (bfloat16) and 1 can be read.")
    try:
        config = GPT2Config(vocab_size, context_length, n_layer, n_head, n_embd)
    except BadOption as error:
        raise BadInput(f"{path}: its header is no GPT-2's: {error}") from None
    if version == _UNPADDED:
        rows = vocab_size
    if rows < vocab_size:
        raise BadInput(f"{path}: its header has {rows:,} rows for a vocabulary of {vocab_size:,}.")
    return config, _VERSIONS[version], rows


def write_llm_c(
    path: Path, checkpoint: Checkpoint, dtype: str = "float32", provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a folder with `model.bin` and, for decoding in llm.c, `gpt2_tokenizer.bin`; whole or not at all.

    `dtype` is float32 or bfloat16; one tensor is in memory at a time. llm.c has no dropout, so the config's is not
    kept. Raises BadInput for what llm.c's network can't be: another GELU than gelu_new, a head of its own, another
    epsilon, a token of more than 255 bytes; and for weights that are not finite in `dtype`.
    """
    config, tokenizer = checkpoint.config, checkpoint.required_tokenizer()
    _check_expressible(checkpoint)
    rows = -(-config.vocab_size // _ROWS) * _ROWS
    version = _VERSION_TO_WRITE[dtype]
    counts = (config.context_length, config.vocab_size, config.n_layer, config.n_head, config.n_embd, rows)
    if max(counts) > _LARGEST:
        raise BadInput(f"{path}: {max(counts):,} is more than llm.c's header can hold.")
    tensors = only_finite(checkpoint.of_type(dtype)).tensors
    with whole_folder(path) as folder:
        with (folder / WEIGHTS).open("wb") as handle:
            handle.write(_HEADER.pack(LLM_C_MAGIC, version, *counts, *[0] * (256 - 8)))
            for name in _order(config.n_layer):
                array = tensors[name].read()
                handle.write(raw_bytes(array.T if name.endswith(TRANSPOSED) else array))
                if name == "wte.weight":
                    handle.write(bytes((rows - config.vocab_size) * config.n_embd * FLOAT_TYPES[dtype].itemsize))
        with (folder / TOKENIZER).open("wb") as handle:
            _write_tokenizer(handle, tokenizer)
        if provenance is not None:
            write_json(folder / PROVENANCE, provenance)


def _check_expressible(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    for name, value, only in (
        ("activation_function", config.activation_function, "gelu_new"),
        ("tie_word_embeddings", config.tie_word_embeddings, True),
        ("layer_norm_epsilon", config.layer_norm_epsilon, 1e-5),
    ):
        if value != only:
            raise BadInput(
                f"{checkpoint.where}: {name} is {value}; llm.c's network has {only}, so it can't hold this one."
            )
    longest = max(map(len, checkpoint.required_tokenizer().token_bytes))
    if longest > _LONGEST_TOKEN:
        raise BadInput(
            f"{checkpoint.where}: has a token of {longest} bytes; llm.c's tokenizer file holds up to {_LONGEST_TOKEN}."
        )


def _write_tokenizer(handle: IO[bytes], tokenizer: ByteLevelBPE) -> None:
    """The bytes of every id, each behind its length in one byte."""
    counts = (LLM_C_TOKENIZER_MAGIC, 2, tokenizer.vocab_size, tokenizer.end_of_text)
    handle.write(_HEADER.pack(*counts, *[0] * (256 - len(counts))))
    for token in (*tokenizer.token_bytes[:-1], END_OF_TEXT.encode()):
        handle.write(bytes([len(token)]) + token)
