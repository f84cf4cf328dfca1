"""Which type the matrix products of a step have: what the recipe asks for, and what `auto` means on a device."""

import warnings
from dataclasses import replace
from pathlib import Path

import torch

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json
from gpt2lab.train.recipe import Precision, Recipe, recipe_from_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 natively, as far as it tells."""
    if device.type == "cpu":
        # PyTorch 2.13 tells; where an older one does not, float32 is right everywhere.
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    if device.type == "cuda":  # whose list of types has those that it emulates, and which says which these are
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # The types it can hold, which is all an accelerator tells; those that hold bfloat16 and emulate it are few.
    return bool(torch.bfloat16 in torch.accelerator.get_device_capability(device)["supported_dtypes"])


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise BadOption for a precision that autocast does not have on the device."""
    if precision in ("float32", "auto"):
        return
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "In .* autocast")  # some devices only warn, and go on in float32
            torch.autocast(device.type, dtype=DTYPES[precision])
    except (RuntimeError, AssertionError, UserWarning):  # assertions are of backends outside of torch
        raise BadOption(f"step.precision = {precision}: {device.type} can't; use float32.") from None


def best_precision(device: torch.device) -> Precision:
    """What `auto` means: bfloat16 on an accelerator that has it natively, else float32.

    On a processor float32 always, so that a recipe gives there what it always gave.
    """
    if device.type == "cpu" or not native_bfloat16(device):
        return "float32"
    try:
        check_precision("bfloat16", device)
    except BadOption:
        return "float32"
    return "bfloat16"


def with_precision(recipe: Recipe, device: torch.device, out: Path | None = None) -> Recipe:
    """The recipe with `auto` settled: as in the run folder `out` where there is a run, else as the device does best."""
    if recipe.step.precision != "auto":
        return recipe
    precision = best_precision(device)
    if out is not None and (out / "recipe.json").exists():
        precision = recipe_from_json(read_json(out / "recipe.json"), str(out / "recipe.json")).step.precision
    return replace(recipe, step=replace(recipe.step, precision=precision))
