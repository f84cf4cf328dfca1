"""PyTorch's own files (.pt, .bin) as data: the names and numbers in them, never the code."""

import pickle
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.weights import StoredTensor


def read_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds, its tensors mapped. Raises BadInput where it holds more than plain data."""
    import torch

    if not path.is_file():
        raise BadInput(f"{path}: no such file.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path}: holds more than tensors and plain values, and nothing in it was run"
            f" ({str(error).splitlines()[0][:100]}...)."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise BadInput(f"{path}: not a whole file of PyTorch ({str(error).splitlines()[0][:100]}).") from None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def read_pickled_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a state dict; raises BadInput where the file holds something else."""
    found = read_pickle(path)
    return stored_tensors(path, found)


def stored_tensors(path: Path, found: Any) -> dict[str, StoredTensor]:
    """A state dict of torch tensors as tensors to be read. Raises BadInput where it is none."""
    import torch

    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BadInput(f"{path}: not a dictionary of tensors by name.")
    return {str(name): _stored(tensor) for name, tensor in found.items()}


def _stored(tensor: Any) -> StoredTensor:
    import ml_dtypes
    import torch

    def read() -> Any:
        if tensor.dtype == torch.bfloat16:
            return tensor.detach().contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()

    return StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read)
