"""Checkpoints of a run: whole folders, from which training goes on with the same bits."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, whole_folder, write_json
from gpt2lab.checkpoints.tensor_files import load_tensors, save_tensors
from gpt2lab.model.gpt2 import GPT2


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done, and the seconds spent in training steps and in all."""

    step: int
    training_seconds: float
    seconds: float


def save_checkpoint(
    folder: Path, network: GPT2, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> Path:
    """Write `folder/step-N`, whole or not at all, then delete all but the newest `keep`.

    Raises NoSpace when the disk is full; the checkpoints before are then untouched.
    """
    path = folder / f"step-{progress.step:08d}"
    with whole_folder(path) as partial:
        save_tensors(partial / "weights.safetensors", dict(network.named_parameters()))
        save_tensors(partial / "optimizer.safetensors", _optimizer_tensors(network, optimizer))
        write_json(
            partial / "state.json",
            {"step": progress.step, "training_seconds": progress.training_seconds, "seconds": progress.seconds},
        )
    for old in checkpoints(folder)[:-keep]:
        for file in sorted(old.iterdir()):
            file.unlink()
        old.rmdir()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def restore_checkpoint(path: Path, network: GPT2, optimizer: torch.optim.Optimizer) -> Progress:
    """Load weights and optimizer state in place; raises BadInput where they do not fit the recipe's network."""
    weights = load_tensors(path / "weights.safetensors")
    states = load_tensors(path / "optimizer.safetensors")
    try:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(weights[name])
                optimizer.state[parameter] = {
                    key.rpartition(":")[2]: tensor for key, tensor in states.items() if key.startswith(f"{name}:")
                }
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"{path}: this checkpoint is of another network ({error}).") from None
    state = read_json(path / "state.json")
    return Progress(state["step"], state["training_seconds"], state["seconds"])


def _optimizer_tensors(network: GPT2, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}:{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
