"""TensorFlow checkpoints of GPT-2: OpenAI's own, and the independent replication's (ConnorJL/GPT2), of the same names.

model.ckpt.index, .data-*   the variables; those of optimizers are left out
checkpoint                  which of several checkpoints is the newest
hparams.json                the shape; the replication's stands in a JSON file of any name (PrettyBig.json)
encoder.json, vocab.bpe     the tokenizer, where the folder has one
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json
from gpt2lab.checkpoints.weights import FLOAT_TYPES, Checkpoint, StoredTensor, check_tensors
from gpt2lab.model.config import GPT2Config
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.tokenizer_files import MERGES_FILES, load_tokenizer

_NEWEST = "checkpoint"
_SHAPE = "hparams.json"
_LARGEST_SHAPE_FILE = 1 << 16  # bytes; other JSON files in the folder (encoder.json) are larger
_ENDINGS = re.compile(r"\.(index|meta|data-[0-9]{5}-of-[0-9]{5})$")
_SHARD = r"\.data-[0-9]{5}-of-([0-9]{5})"
_NAMED_NEWEST = re.compile(r'^\s*model_checkpoint_path:\s*"(.*)"\s*$', re.MULTILINE)
_WEIGHT = re.compile(
    r"model/(?:(?P<embedding>wte|wpe)"
    r"|(?:h(?P<layer>0|[1-9][0-9]*)/)?(?P<module>(?:ln_[12f](?=/[gb]\b)|(?:attn|mlp)/c_(?:attn|proj|fc)(?=/[wb]\b)))"
    r"/(?P<kind>[gwb]))"
    r"(?P<slot>/.+)?"
)
"""A variable of the network, and the slots that optimizers (Adam, Adafactor) put below its name."""
_COUNTS = {  # ours, by the files' name
    "n_vocab": "vocab_size",
    "n_ctx": "context_length",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
_DROPOUTS = {"embed_dropout": "embd_pdrop", "attn_dropout": "attn_pdrop", "res_dropout": "resid_pdrop"}


@dataclass(frozen=True)
class _Variable:
    """A variable as the index has it."""

    shape: tuple[int, ...]
    dtype: str
    itemsize: int


def read_tensorflow(path: Path) -> Checkpoint:
    """Open a checkpoint: a folder (its newest one), or one named `FOLDER/model.ckpt-1000` with or without an ending.

    The shape comes from hparams.json beside it, or from the one other JSON file there that has n_embd and n_layer.
    Needs TensorFlow (`gpt2lab[tf]`); a variable is read when it is asked for. Raises BadInput where a file is absent,
    damaged or disagrees with another, and for a variable that is neither GPT-2's nor its optimizer's.
    """
    prefix = _prefix(path)
    shape_file, hyperparameters = _hyperparameters(prefix.parent)
    config = _config(shape_file, hyperparameters)
    tokenizer = _tokenizer(prefix.parent, config.vocab_size)
    shards = _shards(prefix)
    reader, variables = _open(prefix)
    _check_whole(prefix, shards, variables)
    weights, left_out = _divided(prefix, variables)
    _check_shape(prefix, shape_file, config, weights, variables)
    tensors = {name: _stored(prefix, reader, variable, variables[variable]) for name, variable in weights.items()}
    return Checkpoint(
        prefix,
        "tensorflow",
        config,
        check_tensors(prefix, config, tensors),
        tokenizer,
        notes=tuple(_notes(shape_file, config, left_out)),
        provenance={"checkpoint": prefix.name} | _step(reader, variables),
        files=(_with_ending(prefix, ".index"), *shards, shape_file),
    )


def _with_ending(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _prefix(path: Path) -> Path:
    """The name that a checkpoint's files have in common."""
    prefix = _newest(path) if path.is_dir() else path.with_name(_ENDINGS.sub("", path.name))
    index = _with_ending(prefix, ".index")
    if not index.is_file():
        told = f", which its file {_NEWEST!r} names" if path.is_dir() else ""
        raise BadInput(f"{index}: no such file{told}; a checkpoint is its .index and its .data files.")
    return prefix


def _newest(folder: Path) -> Path:
    state = folder / _NEWEST
    if state.is_file():
        found = _NAMED_NEWEST.search(state.read_text(encoding="utf-8", errors="replace"))
        # Often the path on the machine that trained it; the files stand beside the state wherever they are now.
        name = re.split(r"[/\\]", found[1])[-1] if found else ""
        if not name:
            raise BadInput(f"{state}: names no checkpoint (no line model_checkpoint_path).")
        return folder / name
    names = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    if len(names) != 1:
        raise BadInput(
            f"{folder}: {len(names)} TensorFlow checkpoints here and no file {_NEWEST!r} that says which;"
            + (
                f" name one, such as {folder / names[-1]}."
                if names
                else " model.ckpt.index and .data files are wanted."
            )
        )
    return folder / names[0]


def _hyperparameters(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The JSON file that tells the shape."""
    if (folder / _SHAPE).exists():
        files = [folder / _SHAPE]
    else:
        files = [file for file in sorted(folder.glob("*.json")) if file.is_file()]
        files = [file for file in files if file.stat().st_size <= _LARGEST_SHAPE_FILE]
    found = {file: value for file in files if _tells_shape(value := read_json(file))}
    if not found:
        raise BadInput(
            f"{folder}: no {_SHAPE} with n_layer, n_head, n_embd, n_ctx and n_vocab here. Put the JSON file that the"
            " model was trained with beside its checkpoint; the number of heads can't be seen in weights."
        )
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise BadInput(f"{folder}: {names} both tell a shape; leave the one that the model was trained with.")
    return next(iter(found.items()))


def _tells_shape(value: Any) -> bool:
    return isinstance(value, dict) and "n_embd" in value and "n_layer" in value


def _config(file: Path, hyperparameters: Mapping[str, Any]) -> GPT2Config:
    for name in _COUNTS:
        if type(hyperparameters.get(name)) is not int:
            raise BadInput(f"{file}: {name} is {hyperparameters.get(name)!r}, not a whole number.")
    for name in _DROPOUTS:
        if not isinstance(hyperparameters.get(name, 0.0), int | float):
            raise BadInput(f"{file}: {name} is {hyperparameters[name]!r}, not a number.")
    try:
        return GPT2Config(
            **{ours: hyperparameters[name] for name, ours in _COUNTS.items()},
            **{ours: hyperparameters.get(name, 0.0) for name, ours in _DROPOUTS.items()},
        )
    except BadOption as error:
        raise BadInput(f"{file}: {error}") from None


def _tokenizer(folder: Path, vocab_size: int) -> ByteLevelBPE | None:
    if not any((folder / name).exists() for name in MERGES_FILES):
        return None
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > vocab_size:
        raise BadInput(
            f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, the model's vocabulary only {vocab_size:,}."
        )
    return tokenizer


def _shards(prefix: Path) -> list[Path]:
    """The data files, all of them."""
    pattern = re.compile(re.escape(prefix.name) + _SHARD)
    counts = [int(found[1]) for file in prefix.parent.iterdir() if (found := pattern.fullmatch(file.name))]
    count = max(counts, default=1)
    wanted = [_with_ending(prefix, f".data-{number:05}-of-{count:05}") for number in range(count)]
    for file in wanted:
        if not file.is_file():
            raise BadInput(f"{file}: no such file; the checkpoint {prefix.name} is not whole without it.")
    return wanted


@contextmanager
def _quietly() -> Iterator[None]:
    """TensorFlow's notes on its own build are not about the user's files. What the user set stays as it is."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _open(prefix: Path) -> tuple[Any, dict[str, _Variable]]:
    """TensorFlow's reader, and what its index lists."""
    try:
        with _quietly():
            import tensorflow
    except ImportError as error:
        raise BadInput(
            f"{prefix}: a TensorFlow checkpoint, which TensorFlow has to read ({error}): pip install 'gpt2lab[tf]'."
        ) from None
    try:
        with _quietly():
            reader = tensorflow.train.load_checkpoint(str(prefix))
            shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tensorflow.errors.OpError, ValueError, RuntimeError) as error:
        raise BadInput(f"{prefix}.index: not the whole index of a checkpoint ({_reason(error)}).") from None
    return reader, {name: _variable(shapes[name], dtypes[name]) for name in shapes}


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _variable(shape: list[int], dtype: Any) -> _Variable:
    name = {"half": "float16"}.get(dtype.name, dtype.name)
    return _Variable(tuple(shape), name, 0 if name == "string" else dtype.size)


def _check_whole(prefix: Path, shards: list[Path], variables: Mapping[str, _Variable]) -> None:
    wanted = sum(int(np.prod(variable.shape, dtype=object)) * variable.itemsize for variable in variables.values())
    held = sum(file.stat().st_size for file in shards)
    if held < wanted:
        raise BadInput(f"{shards[0]}: cut short; {held:,} bytes of data, where {prefix.name}.index lists {wanted:,}.")


def _divided(prefix: Path, variables: Mapping[str, _Variable]) -> tuple[dict[str, str], list[str]]:
    """The variables of the network by published name, and those of its training: slots, and scalars such as the step.

    Raises BadInput for one that is neither.
    """
    weights, left_out = {}, []
    for name, variable in sorted(variables.items()):
        found = _WEIGHT.fullmatch(name)
        if found is not None and not found["slot"]:
            weights[_published(found)] = name
        elif found is not None or (not name.startswith("model/") and not variable.shape):
            left_out.append(name)
        else:
            raise BadInput(f"{prefix}: holds {name} {list(variable.shape)}, which is no variable of GPT-2's.")
    if "wte.weight" not in weights or "wpe.weight" not in weights:
        raise BadInput(f"{prefix}: no GPT-2 (no variables model/wte and model/wpe among its {len(variables):,}).")
    return weights, left_out


def _published(found: re.Match[str]) -> str:
    if found["embedding"]:
        return f"{found['embedding']}.weight"
    layer = "" if found["layer"] is None else f"h.{found['layer']}."
    return f"{layer}{found['module'].replace('/', '.')}.{'bias' if found['kind'] == 'b' else 'weight'}"


def _check_shape(
    prefix: Path, file: Path, config: GPT2Config, weights: Mapping[str, str], variables: Mapping[str, _Variable]
) -> None:
    """Compare what can be seen in the weights with what the JSON file says, in that file's words."""
    wte, wpe = (variables[weights[name]].shape for name in ("wte.weight", "wpe.weight"))
    layers = {name.split(".")[1] for name in weights if name.startswith("h.")}
    for name, told, seen in (
        ("n_vocab", config.vocab_size, wte[:1]),
        ("n_ctx", config.context_length, wpe[:1]),
        ("n_embd", config.n_embd, wte[1:]),
        ("n_layer", config.n_layer, (len(layers),)),
    ):
        if seen != (told,):
            raise BadInput(
                f"{file}: {name} is {told:,}, but the weights of {prefix.name} have {seen[0] if seen else 0:,}."
            )


def _stored(prefix: Path, reader: Any, name: str, variable: _Variable) -> StoredTensor:
    def read() -> NDArray[Any]:
        import tensorflow

        try:
            array = np.asarray(reader.get_tensor(name))
        except (tensorflow.errors.OpError, ValueError, RuntimeError) as error:
            raise BadInput(f"{prefix}: {name} can't be read; the data file is damaged ({_reason(error)}).") from None
        return array.astype(FLOAT_TYPES[variable.dtype], copy=False)

    stored = StoredTensor(variable.shape, variable.dtype, read)
    if len(variable.shape) == 3 and variable.shape[0] == 1:  # matrices are convolutions of width 1
        return stored.mapped(lambda array: array[0], variable.shape[1:])
    return stored


def _notes(file: Path, config: GPT2Config, left_out: list[str]) -> list[str]:
    notes = []
    if file.name != _SHAPE:
        notes.append(f"Its shape was taken from {file.name}.")
    if config.embd_pdrop:
        notes.append("It was trained with dropout on the embedding tables; embd_pdrop here acts on their sum.")
    if left_out:
        notes.append(f"{len(left_out):,} variables of its training were left out, such as {left_out[0]}.")
    return notes


def _step(reader: Any, variables: Mapping[str, _Variable]) -> dict[str, int]:
    step = variables.get("global_step")
    return {"global_step": int(reader.get_tensor("global_step"))} if step == _Variable((), "int64", 8) else {}
