"""From a model's place to an engine that runs it: the cpu backend without torch, or torch where an accelerator is."""

import importlib.util
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.weights import Checkpoint, without_padding
from gpt2lab.generate.backend import Backend
from gpt2lab.generate.engine import LARGEST_SHARE_OF_MEMORY, QUEUE_LIMIT, Engine

BackendName = Literal["auto", "cpu", "torch"]
WeightsName = Literal["float32", "bfloat16", "int8", "int4"]

_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/dri", "/dev/accel", "/dev/vfio", "/dev/davinci_manager")
"""What Linux has where some accelerator may be; more than there are, as torch is asked then."""


def open_engine(
    source: str | Path,
    backend: BackendName = "auto",
    weights: WeightsName | None = None,
    *,
    threads: int | None = None,
    activation_bits: int = 16,
    max_batch: int | None = None,
    cache_bytes: int | None = None,
    queue_limit: int = QUEUE_LIMIT,
) -> Engine:
    """Open a model folder, another tool's file or a name on the hub (see `open_model`), to generate with it.

    `backend` auto is torch where there is an accelerator, and cpu elsewhere. `weights` is the precision in memory; None
    takes what the model is stored in. `threads` and `activation_bits` are those of `cpu_backend`; the other options
    are those of `Engine`. Raises BadInput for a model that can't be used, BadOption for options that do not go
    together.
    """
    if weights is not None and weights not in ("float32", "bfloat16", "int8", "int4"):
        raise BadOption(f"--weights {weights}: is one of float32, bfloat16, int8, int4.")
    if backend not in ("auto", "cpu", "torch"):
        raise BadOption(f"--backend {backend}: is one of auto, cpu, torch.")
    # Rows that stand for no token would take their share of every probability.
    checkpoint = without_padding(open_model(source))
    tokenizer = checkpoint.required_tokenizer()
    if backend == "auto":
        only_cpu = weights in ("int8", "int4") or threads is not None or activation_bits != 16
        backend = "torch" if not only_cpu and _may_have_accelerator() and _has_accelerator() else "cpu"
    opened: Backend
    if backend == "torch":
        if threads is not None:
            raise BadOption("--threads: those of the cpu backend; torch takes OMP_NUM_THREADS.")
        if activation_bits != 16:
            raise BadOption(f"--activation-bits {activation_bits}: of the cpu backend; torch does not round them.")
        opened, room = _torch_backend(checkpoint, weights)
        cache_bytes = cache_bytes or room
    else:
        from gpt2lab.generate.cpu.backend import cpu_backend

        opened = cpu_backend(checkpoint, weights, threads, activation_bits)
    return Engine(opened, tokenizer, max_batch=max_batch, cache_bytes=cache_bytes, queue_limit=queue_limit)


def _torch_backend(checkpoint: Checkpoint, weights: WeightsName | None) -> tuple[Backend, int | None]:
    """The network on the accelerator, or on the processor where there is none; and the bytes its cache may take."""
    import torch

    from gpt2lab.checkpoints.torch_network import network_of
    from gpt2lab.generate.torch_backend import TorchBackend

    if weights in ("int8", "int4"):
        raise BadOption(f"--weights {weights}: torch computes in float32 or bfloat16; --backend cpu has {weights}.")
    stored = {tensor.float_type for name, tensor in checkpoint.tensors.items() if name.endswith("c_fc.weight")}
    precision = weights or ("bfloat16" if stored == {"bfloat16"} else "float32")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return TorchBackend(network_of(checkpoint).to(getattr(torch, precision))), None
    network = network_of(checkpoint).to(device, getattr(torch, precision))
    opened = TorchBackend(network, compiled=shutil.which("c++") is not None)
    return opened, torch.accelerator.get_memory_info(device)[0] // LARGEST_SHARE_OF_MEMORY


def _may_have_accelerator() -> bool:
    """False where torch, which takes seconds to import, would find none: it is built without, or there is no device."""
    if importlib.util.find_spec("torch_tpu") is not None:
        return True
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if version("torch").endswith("+cpu"):
        return False
    return platform.system() != "Linux" or any(Path(device).exists() for device in _DEVICES)


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
