"""Checkpoints of a run: whole folders, from which training goes on with the same bits."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, whole_folder, write_json
from gpt2lab.checkpoints.tensor_files import load_tensors, save_tensors
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.step import StepMemory


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
) -> Path:
    """Write `folder/step-N`, whole or not at all, then delete all but the newest `keep`.

    Raises NoSpace when the disk is full; the checkpoints before are then untouched.
    """
    path = folder / f"step-{progress.step:08d}"
    with whole_folder(path) as partial:
        save_tensors(partial / "weights.safetensors", dict(network.named_parameters()))
        save_tensors(partial / "optimizer.safetensors", _optimizer_tensors(network, optimizer))
        if averaged is not None:
            save_tensors(partial / "averaged.safetensors", dict(averaged.named_parameters()))
        write_json(partial / "state.json", asdict(progress))
    for old in checkpoints(folder)[:-keep]:
        for file in sorted(old.iterdir()):
            file.unlink()
        old.rmdir()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def restore_checkpoint(
    path: Path, network: GPT2, optimizer: torch.optim.Optimizer, averaged: GPT2 | None = None
) -> Progress:
    """Load weights and optimizer state in place; raises BadInput where they do not fit the recipe's network."""
    states = load_tensors(path / "optimizer.safetensors")
    try:
        _restore_weights(path / "weights.safetensors", network)
        if averaged is not None:
            _restore_weights(path / "averaged.safetensors", averaged)
        for name, parameter in network.named_parameters():
            optimizer.state[parameter] = {
                key.rpartition(":")[2]: tensor.to(parameter.device)
                for key, tensor in states.items()
                if key.startswith(f"{name}:")
            }
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"{path}: this checkpoint is of another network ({error}).") from None
    state = read_json(path / "state.json")
    memory = state.pop("memory", {})
    return Progress(**state, memory=StepMemory(**memory | {"norms": tuple(memory.get("norms", ()))}))


@torch.no_grad()
def _restore_weights(path: Path, network: GPT2) -> None:
    weights = load_tensors(path)
    for name, parameter in network.named_parameters():
        parameter.copy_(weights[name])


def _optimizer_tensors(network: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}:{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
