"""nanoGPT's checkpoints (`ckpt.pt`): weights, shape and the state of training in one file of `torch.save`."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.formats.pickled_tensors import read_pickle, stored_tensors
from gpt2lab.checkpoints.weights import FLOAT_TYPES, TRANSPOSED, Checkpoint, StoredTensor, check_tensors, head_is_tied
from gpt2lab.model.config import GPT2Config

_COMPILED = "_orig_mod."  # what torch.compile puts before every name
_MASK = ".attn.bias"  # a buffer where PyTorch was older than 2.0
_COUNTS = {  # ours, by nanoGPT's name
    "vocab_size": "vocab_size",
    "block_size": "context_length",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}
_OTHER_ARGS = ("dropout", "bias")
_EMBEDDINGS = ("wte.weight", "wpe.weight", "lm_head.weight")


def read_nanogpt(path: Path) -> Checkpoint:
    """Open a checkpoint as nanoGPT's train.py writes it; tensors are mapped, the optimizer's are not read.

    The file does not tell which GELU the network had: exact since nanoGPT's commit 594068e (17 May 2023), the tanh
    approximation before. It is taken as exact unless `model_args` is older than that (it then has no `bias`). Raises
    BadInput for weights alone, and for a file that is damaged, holds code or disagrees with itself.
    """
    found = read_pickle(path)
    if not isinstance(found, dict) or not isinstance(found.get("model_args"), dict) or "model" not in found:
        raise BadInput(f"{path}: {_what_is_missing(found)}")
    args = found["model_args"]
    config, notes = _config(path, args)
    tensors = {
        _published(name): tensor.transposed() if name.endswith(TRANSPOSED) else tensor
        for name, tensor in stored_tensors(path, found["model"]).items()
        if not name.endswith(_MASK)
    }
    if head_is_tied(tensors):
        tensors.pop("lm_head.weight", None)
    else:  # as in nanoGPT before 14 January 2023
        config = replace(config, tie_word_embeddings=False)
        notes.append("Its head is a matrix of its own, not wte.weight.")
    if args.get("bias") is False:
        tensors = _zero_biases(tensors) | tensors
        notes.append("It has no biases (bias=False); they are zeros here.")
    told = found.get("config")
    origin = told.get("init_from") if isinstance(told, dict) else None
    if isinstance(origin, str) and origin.startswith("gpt2") and config.activation_function == "gelu":
        notes.append(f"It began as OpenAI's {origin[:20]!r}, which was trained with the tanh approximation of GELU.")
    return Checkpoint(
        path,
        "nanogpt",
        config,
        check_tensors(path, config, tensors),
        notes=tuple(notes),
        provenance=_provenance(found),
        files=(path,),
    )


def _published(name: str) -> str:
    return name.removeprefix(_COMPILED).removeprefix("transformer.")


def _what_is_missing(found: Any) -> str:
    """What a file without model_args lacks, by what it seems to hold."""
    held = found.get("model", found) if isinstance(found, dict) else None
    if isinstance(held, dict):
        shapes = {_published(str(name)): tuple(getattr(value, "shape", ())) for name, value in held.items()}
        match shapes.get("h.0.attn.c_attn.weight"):
            case (rows, columns) if rows < columns:
                return (
                    "a Hugging Face GPT-2's weights without its config; put them into a folder as pytorch_model.bin,"
                    " with its config.json beside them, and name the folder."
                )
            case (_, _):
                return (
                    "nanoGPT's weights without its model_args, and the number of heads can't be seen in weights; save"
                    " {'model': ..., 'model_args': ...} as nanoGPT's train.py does."
                )
    return "no checkpoint of nanoGPT (no model and model_args in it)."


def _config(path: Path, args: Mapping[str, Any]) -> tuple[GPT2Config, list[str]]:
    for name in _COUNTS:
        if type(args.get(name)) is not int:
            raise BadInput(f"{path}: {name} in model_args is {args.get(name)!r}, not a whole number.")
    dropout = args.get("dropout", 0.0)
    if not isinstance(dropout, int | float):
        raise BadInput(f"{path}: dropout in model_args is {dropout!r}, not a number.")
    if unknown := sorted(str(name) for name in args.keys() - {*_COUNTS, *_OTHER_ARGS}):
        raise BadInput(
            f"{path}: {unknown[0][:60]!r} in model_args is unknown to nanoGPT and may mean another network than"
            " GPT-2's; take it out if it does not."
        )
    activation: Literal["gelu", "gelu_new"]
    if "bias" in args:
        activation = "gelu"
        note = (
            "Its GELU was taken as exact, nanoGPT's since 17 May 2023; for one trained before, set activation_function"
            " to gelu_new in config.json."
        )
    else:
        activation = "gelu_new"
        note = "It is of before February 2023 (no bias in model_args), when nanoGPT's GELU was the tanh approximation."
    try:
        config = GPT2Config(
            **{ours: args[name] for name, ours in _COUNTS.items()},
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            resid_pdrop=dropout,
            activation_function=activation,
        )
    except BadOption as error:
        raise BadInput(f"{path}: {error}") from None
    return config, [note]


def _zero_biases(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    return {
        f"{name.removesuffix('weight')}bias": _zeros(tensor.shape[-1:], tensor.dtype)
        for name, tensor in tensors.items()
        if name.endswith(".weight") and name not in _EMBEDDINGS
    }


def _zeros(shape: tuple[int, ...], dtype: str) -> StoredTensor:
    return StoredTensor(shape, dtype, lambda: np.zeros(shape, FLOAT_TYPES[dtype]))


def _provenance(found: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if type(found.get("iter_num")) is int:
        told["iter_num"] = found["iter_num"]
    try:
        loss = float(found["best_val_loss"])  # a number, or a tensor of one
    except (KeyError, TypeError, ValueError, RuntimeError):
        return told
    if math.isfinite(loss):
        told["best_val_loss"] = loss
    return told
