"""Checkpoints of a run: whole folders, from which training goes on with the same bits."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, sha256_of, whole_folder, write_json
from gpt2lab.checkpoints.tensor_files import load_tensors, save_tensors
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.step import StepMemory


class DamagedCheckpoint(BadInput):
    """A checkpoint whose files are not those that were written."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done, seconds spent in training steps and in all, what the next step has to know."""

    step: int
    training_seconds: float
    seconds: float
    memory: StepMemory = field(default_factory=StepMemory)


def save_checkpoint(
    folder: Path,
    network: GPT2,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    keep: int,
    averaged: GPT2 | None = None,
    best_step: int | None = None,
) -> Path:
    """Write `folder/step-N`, whole or not at all, then delete all but the newest `keep` and that of `best_step`.

    Of the weights those are held that are trained.

    Raises NoSpace when the disk is full; the checkpoints before are then untouched.
    """
    path = checkpoint_path(folder, progress.step)
    with whole_folder(path) as partial:
        save_tensors(partial / "weights.safetensors", _trained(network))
        save_tensors(partial / "optimizer.safetensors", _optimizer_tensors(network, optimizer))
        if averaged is not None:
            save_tensors(partial / "averaged.safetensors", dict(averaged.named_parameters()))
        hashes = {file.name: sha256_of(file) for file in sorted(partial.glob("*.safetensors"))}
        write_json(partial / "state.json", asdict(progress) | {"sha256": hashes})
    for old in checkpoints(folder)[:-keep]:
        if best_step is not None and old == checkpoint_path(folder, best_step):
            continue
        for file in sorted(old.iterdir()):
            file.unlink()
        old.rmdir()
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def restore_checkpoint(
    path: Path, network: GPT2, optimizer: torch.optim.Optimizer, averaged: GPT2 | None = None
) -> Progress:
    """Load weights and optimizer state in place.

    Raises DamagedCheckpoint where a file was changed or cut, BadInput where it does not fit the recipe's network.
    """
    try:
        state = _read_state(path)
        states = load_tensors(path / "optimizer.safetensors")
    except BadInput as error:
        raise DamagedCheckpoint(str(error)) from None
    try:
        _restore_weights(path / "weights.safetensors", _trained(network))
        if averaged is not None:
            _restore_weights(path / "averaged.safetensors", dict(averaged.named_parameters()))
        for name, parameter in _trained(network).items():
            optimizer.state[parameter] = {
                key.rpartition(":")[2]: tensor.to(parameter.device)
                for key, tensor in states.items()
                if key.startswith(f"{name}:")
            }
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"{path}: this checkpoint is of another network ({error}).") from None
    memory = state.pop("memory", {})
    return Progress(**state, memory=StepMemory(**memory | {"norms": tuple(memory.get("norms", ()))}))


def _read_state(path: Path) -> dict[str, Any]:
    """What `state.json` says beside the hashes of the other files, which are compared; older ones have none."""
    state = read_json(path / "state.json")
    if not isinstance(state, dict):
        raise BadInput(f"{path / 'state.json'}: not an object of JSON.")
    for name, expected in state.pop("sha256", {}).items():
        if not (path / name).exists() or sha256_of(path / name) != expected:
            raise BadInput(f"{path / name}: was changed or cut since it was written (its SHA-256 differs).")
    return state


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither taken nor counted any more; returns its new place."""
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return path.rename(aside)


@torch.no_grad()
def _restore_weights(path: Path, parameters: Mapping[str, torch.Tensor]) -> None:
    weights = load_tensors(path)
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def _trained(network: GPT2) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _optimizer_tensors(network: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}:{key}": value
        for name, parameter in _trained(network).items()
        for key, value in optimizer.state[parameter].items()
    }
