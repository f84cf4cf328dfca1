"""Tensors in safetensors files, with our errors."""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2lab.base.errors import BadInput

_OS_ERROR = re.compile(r"os error (\d+)")


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file; an error of the operating system (a full disk) is raised as the OSError it is."""
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors makes files that only their owner can read
    except SafetensorError as error:
        if found := _OS_ERROR.search(str(error)):
            number = int(found.group(1))
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises BadInput where it is absent, cut short or something else."""
    if not path.exists():
        raise BadInput(f"{path}: no such file.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error}).") from None
