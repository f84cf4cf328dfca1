"""PyTorch's own files (.pt, .bin) as data: the names and numbers in them, never the code."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.weights import StoredTensor

_CODE = re.compile(r"GLOBAL ([\w.]+)")  # how PyTorch names what a pickle wanted to call


def read_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds, its tensors mapped (files of before 2020, which are no archive, are read).

    Raises BadInput where it holds more than tensors and plain values, and where it is damaged or something else.
    """
    import torch

    if not path.is_file():
        raise BadInput(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: an empty file.")
    try:
        archive = _is_archive(path)
        if archive:
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a foreign pickle may not be readable; it is, or raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except BadInput:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise whatever they like
        if found := _CODE.search(str(error)):
            raise BadInput(
                f"{path}: holds more than tensors and plain values ({found[1]}), which may be code; nothing in it was"
                " run. Save the weights alone, as safetensors best."
            ) from None
        raise BadInput(f"{path}: not a file of PyTorch's torch.save, or a damaged one ({_reason(error)}).") from None


def _is_archive(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        raise BadInput(f"{path}: cut short or damaged (an archive without its end).") from None
    for entry in entries:
        # torch.save never compresses, and what is compressed could expand to any size.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BadInput(f"{path}: its entry {entry.filename!r} is compressed, which torch.save never does.")
        if entry.filename.endswith("constants.pkl"):
            raise BadInput(f"{path}: a TorchScript program, not weights; save the module's state_dict().")


def _reason(error: Exception) -> str:
    told = str(error)
    if not told or "weights_only" in told:  # of PyTorch's advice how to run it after all
        return type(error).__name__
    return told.splitlines()[0][:100]


def read_pickled_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a state dict; raises BadInput where the file holds something else."""
    return stored_tensors(path, read_pickle(path))


def stored_tensors(path: Path, found: Any) -> dict[str, StoredTensor]:
    """A state dict of torch tensors as tensors to be read. Raises BadInput where it is none."""
    import torch

    if not isinstance(found, dict):
        raise BadInput(f"{path}: holds a {type(found).__name__}, not tensors by name.")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BadInput(
                f"{path}: {repr(name)[:60]} in it is a {type(value).__name__}; wanted are tensors by name alone."
            )
    return {name: _stored(path, name, tensor) for name, tensor in found.items()}


def _stored(path: Path, name: str, tensor: Any) -> StoredTensor:
    import ml_dtypes
    import torch

    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise BadInput(f"{path}: {name} is a tensor without plain numbers ({tensor.layout}, {tensor.device}).")
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():  # one number repeated, to any size
        raise BadInput(f"{path}: {name} claims {tensor.numel():,} numbers, more than the file holds of it.")

    def read() -> Any:
        if tensor.dtype == torch.bfloat16:
            return tensor.detach().contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()

    return StoredTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read)
