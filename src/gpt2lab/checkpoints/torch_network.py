"""Weights into PyTorch's network and out of it."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2lab.checkpoints.weights import TRANSPOSED, Checkpoint, StoredTensor
from gpt2lab.model.gpt2 import GPT2


def network_of(checkpoint: Checkpoint) -> GPT2:
    """The network in evaluation mode, float32, on the processor.

    Where the file holds float32, nothing is copied or read yet: the parameters are views of the mapped file (matrices
    turned around), and writing to them copies the page, never changes the file.
    """
    with torch.device("meta"):
        network = GPT2(checkpoint.config)
    weights = {}
    for name, tensor in checkpoint.tensors.items():
        weight = _to_torch(tensor.read()).float()
        weights[name] = weight.T if name.endswith(TRANSPOSED) else weight
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(True).eval()


def _to_torch(array: NDArray[Any]) -> Tensor:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("uint16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def published_weights(network: GPT2) -> dict[str, StoredTensor]:
    """The network's weights under the published names and in the published orientation."""
    return {name: _published(name, parameter.detach()) for name, parameter in network.state_dict().items()}


def _published(name: str, parameter: Tensor) -> StoredTensor:
    tensor = parameter.T if name.endswith(TRANSPOSED) else parameter
    return StoredTensor(tuple(tensor.shape), "float32", lambda: tensor.float().cpu().numpy())
