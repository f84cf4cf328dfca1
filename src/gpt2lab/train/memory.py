"""How much memory a run takes, how much there is, and what would fit: asked before anything is built.

The estimate follows the step as it is written: what autograd keeps of each layer, the loss a chunk at a time, the
optimizer's state. docs/hardware.md has it beside measured peaks. torch.compile keeps no more than it.
"""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from gpt2lab.base.control_groups import CGROUPS, PROC, control_groups
from gpt2lab.base.errors import BadOption, UserError
from gpt2lab.base.progress import say
from gpt2lab.model.config import SIZES, GPT2Config, parameter_count
from gpt2lab.model.loss import CHUNK_LOGITS
from gpt2lab.train.checkpointing import checkpoints
from gpt2lab.train.recipe import OptimizerConfig, Recipe

RUNTIME_BYTES = 350 * 2**20
"""Python, torch and its libraries with nothing to do: 340 MiB on x86 Linux. What an accelerator's takes is unknown."""
GAPS = 0.4
"""Of activations, what lies in gaps between them: the heap keeps freed memory, and not all of it fits again."""
GAPS_AMONG_GRADIENTS = 0.9
"""The same where gradients of earlier micro-batches lie there, which were made among activations of their own."""
STATE_OF_A_STEP_COUNT = 4
FLOAT = 4


class NoMemory(UserError):
    """The memory ran out in the middle of a run; its checkpoints are whole."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a run's parts, each at its largest; they are not all there at once, so `total` is less than the sum."""

    weights: int
    optimizer: int
    """State of the optimizer."""
    average: int
    """The averaged copy of the weights."""
    earlier_gradients: int
    """Gradients of earlier micro-batches of the step."""
    activations: int
    """What the forward pass of one micro-batch keeps for the backward pass, and layers computed again."""
    gaps: int
    """What the C library's heap keeps between them; nothing where its threshold for mmap is fixed."""
    loss: int
    """The loss's chunk and its gradients for the hidden states and the head; or the start of the backward pass."""
    layer_gradients: int
    embedding_gradients: int
    """Those of embedding and head at the end of the backward pass, where a tied matrix has its two and their sum."""
    update: int
    """What the optimizer holds while it updates a parameter, the gradients of embedding and head included."""
    runtime: int

    @property
    def total(self) -> int:
        """The peak: the fullest of the moments of a step."""
        backward = self.earlier_gradients + self.activations + self.gaps
        layers = max(backward, self.layer_gradients)  # made where activations were
        moments = (backward + self.loss, layers + self.embedding_gradients, layers + self.update)
        return self.runtime + self.weights + self.optimizer + self.average + max(moments)


def estimate_memory(recipe: Recipe, device_type: str = "cpu") -> MemoryEstimate:
    """The peak memory of a run on one device, in bytes, worked out from its recipe alone.

    Compared with measured peaks on a processor (docs/hardware.md); on accelerators it never was.
    """
    model = recipe.model
    tokens = recipe.batch.sequences * model.context_length
    product = 2 if recipe.step.precision in ("bfloat16", "float16") else FLOAT
    weights = parameter_count(model) * FLOAT
    head = model.vocab_size * model.n_embd
    heads = head if model.tie_word_embeddings else 2 * head
    stream = tokens * model.n_embd * FLOAT

    layer = tokens * kept_of_a_layer(recipe, device_type)
    if product != FLOAT:
        # Autocast's copies of the weights; that of the MLP's last is made again with GELU.
        layer += (12 if recipe.step.activation_checkpointing else 8) * model.n_embd**2 * product
    kept = stream + tokens * 16
    tables = 0
    if model.embd_pdrop and recipe.step.table_dropout:  # the dropped tables, and gradients of their own
        tables = 2 * (model.vocab_size + model.context_length) * model.n_embd * FLOAT
    elif model.embd_pdrop:
        kept += stream
    if recipe.data.document_mask:
        kept += tokens * model.context_length
    # Of layers that are computed again about four lie there at a time, as measured, with their gradients.
    kept += model.n_layer * stream + 4 * layer if recipe.step.activation_checkpointing else model.n_layer * layer

    chunk = min(tokens, max(1, CHUNK_LOGITS // model.vocab_size)) * model.vocab_size
    loss = chunk * FLOAT
    if product != FLOAT:
        loss += chunk * product + 2 * head * product + head * FLOAT  # a cast, a product and what adding it makes
    # The MLP is widest: GELU's result again, and gradients of its inside before and after it.
    loss = head * FLOAT + 2 * stream + max(loss, tokens * 12 * model.n_embd * product)

    gaps = GAPS_AMONG_GRADIENTS if recipe.batch.accumulation > 1 and device_type == "cpu" else GAPS
    return MemoryEstimate(
        weights=weights,
        optimizer=optimizer_state(model, recipe.optimizer),
        average=weights if recipe.step.weight_averaging else 0,
        earlier_gradients=weights if recipe.batch.accumulation > 1 else 0,
        activations=kept,
        gaps=int(gaps * kept),
        loss=loss + tables,
        layer_gradients=weights - heads * FLOAT,
        embedding_gradients=head * FLOAT * (3 if model.tie_word_embeddings else 2),
        update=heads * FLOAT + _update(model, recipe.optimizer) + (weights if recipe.watch.norms_every else 0),
        runtime=RUNTIME_BYTES,
    )


def kept_of_a_layer(recipe: Recipe, device_type: str = "cpu") -> int:
    """Bytes a token that autograd keeps of one layer, without the copies of weights that autocast makes."""
    model, d = recipe.model, recipe.model.n_embd
    product = 2 if recipe.step.precision in ("bfloat16", "float16") else FLOAT
    norms = 2 * (d * FLOAT + 2 * FLOAT + d * product)  # input, mean and deviation, output
    # Before GELU and, where the layer is computed again as a whole, after it: see `train.step._forget_gelu`.
    mlp = (8 if recipe.step.activation_checkpointing else 4) * d * product
    if model.attn_pdrop and device_type == "cpu":
        # No fused kernel has dropout there: queries, keys, values, probabilities, dropout's noise and their product.
        attention = (3 * d + 3 * model.n_head * model.context_length) * FLOAT + d * product
    else:
        attention = 4 * d * product + model.n_head * FLOAT
    if recipe.data.document_mask:
        attention += model.context_length * product
    dropout = 2 * d * product if model.resid_pdrop else 0
    return norms + mlp + attention + dropout


def optimizer_state(model: GPT2Config, config: OptimizerConfig) -> int:
    """Bytes of the optimizer's state; that of Adafactor is factored."""
    state = 0
    for name, shape in parameter_shapes(model):
        numbers = math.prod(shape)
        if config.name == "adafactor":
            moments = sum(shape) if len(shape) == 2 else numbers
            state += (moments + (numbers if config.beta1 else 0)) * FLOAT + STATE_OF_A_STEP_COUNT
        elif config.name == "muon" and name.startswith("h.") and len(shape) == 2:
            state += numbers * FLOAT
        else:
            state += 2 * numbers * FLOAT + STATE_OF_A_STEP_COUNT
    return state


def _update(model: GPT2Config, config: OptimizerConfig) -> int:
    if config.name == "adafactor":  # one parameter's squared gradient, update and its square
        return 2 * model.vocab_size * model.n_embd * FLOAT
    return 5 * 4 * model.n_embd**2 * FLOAT if config.name == "muon" else 0


def parameter_shapes(model: GPT2Config) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a network's parameters, in its order."""
    d = model.n_embd
    parts = {
        "ln_1": (d,),
        "attn.c_attn": (3 * d, d),
        "attn.c_proj": (d, d),
        "ln_2": (d,),
        "mlp.c_fc": (4 * d, d),
        "mlp.c_proj": (d, 4 * d),
    }
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("wte.weight", (model.vocab_size, d)),
        ("wpe.weight", (model.context_length, d)),
    ]
    for layer in range(model.n_layer):
        for name, shape in parts.items():
            shapes += [(f"h.{layer}.{name}.weight", shape), (f"h.{layer}.{name}.bias", shape[:1])]
    shapes += [("ln_f.weight", (d,)), ("ln_f.bias", (d,))]
    return shapes if model.tie_word_embeddings else [*shapes, ("lm_head.weight", (model.vocab_size, d))]


def free_memory(device: torch.device, cgroups: Path = CGROUPS, proc: Path = PROC) -> int | None:
    """Bytes that this process can still take on the device; None where the device does not tell.

    On a processor (and on mps, which shares its memory) the least of what the machine has left and what each control
    group of this process has left, as in a container.
    """
    if device.type not in ("cpu", "mps"):
        try:
            return int(torch.accelerator.get_memory_info(device)[0])
        except (RuntimeError, AttributeError):  # a device without it, a torch without it
            return None
    return min([psutil.virtual_memory().available, *_left_in_control_groups(cgroups, proc)])


def _left_in_control_groups(cgroups: Path, proc: Path) -> Iterator[int]:
    """What each memory limit around this process leaves, version 1 and 2; page cache that can be dropped is free."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    for group, version in control_groups("memory", cgroups, proc):
        limit, usage, cache = names[version]
        if (most := _number(group / limit)) is not None and (used := _number(group / usage)) is not None:
            yield max(0, most - used + _statistic(group / "memory.stat", cache))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is no limit


def _statistic(path: Path, name: str) -> int:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(words[1]) for words in lines if words[0] == name), 0)


def check_memory(recipe: Recipe, device: torch.device, out: Path, free: int | None) -> None:
    """Raise BadOption where a run that begins does not fit `free` bytes, with what would; warn where one goes on.

    A run that goes on once fitted, and its batch can't change: there the estimate is no reason to refuse.
    """
    if free is None:
        return
    needed = _still_needed(recipe, device)
    if needed <= free:
        return
    what = f"this run needs about {_gib(needed)} more memory, and {_gib(free)} is free on {device}"
    if (out / "recipe.json").exists():
        say(f"warning: {out}: {what}. {remedy_within_a_run(recipe)}")
        return
    raise BadOption(f"batch.sequences = {recipe.batch.sequences}: {what}. {_what_fits(recipe, device, free)}")


def _still_needed(recipe: Recipe, device: torch.device) -> int:
    """The estimate without what this process holds already: its libraries, most of the runtime's share."""
    held = psutil.Process().memory_info().rss if device.type == "cpu" else 0
    return estimate_memory(recipe, device.type).total - min(held, RUNTIME_BYTES)


def what_would_fit(recipe: Recipe, device: torch.device, free: int) -> Recipe | None:
    """The recipe with the least change that fits `free` bytes, None where none does.

    First fewer sequences at a time, as many in a step; then activation checkpointing with the most sequences; then
    Adafactor without momentum; then the largest smaller size. The first two change nothing of the result but rounding.
    """
    adafactor = replace(recipe.optimizer, name="adafactor", beta1=0.0)
    saving = replace(recipe, step=replace(recipe.step, activation_checkpointing=True))
    smaller = [
        replace(saving, optimizer=adafactor, model=_of_size(recipe.model, shape))
        for shape in sorted(SIZES.values(), key=parameter_count, reverse=True)
        if parameter_count(shape) < parameter_count(recipe.model)
    ]
    for candidate in (recipe, saving, replace(saving, optimizer=adafactor), *smaller):
        for parted in _parted(candidate):
            if _still_needed(parted, device) <= free:
                return parted
    return None


def _parted(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with its step in ever more parts of ever fewer sequences."""
    in_a_step = recipe.batch.sequences * recipe.batch.accumulation
    small = [number for number in range(1, math.isqrt(in_a_step) + 1) if in_a_step % number == 0]
    for sequences in sorted({*small, *(in_a_step // number for number in small)}, reverse=True):
        if sequences <= recipe.batch.sequences:
            yield replace(recipe, batch=replace(recipe.batch, sequences=sequences, accumulation=in_a_step // sequences))


def _of_size(model: GPT2Config, shape: GPT2Config) -> GPT2Config:
    return replace(
        model,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        context_length=min(model.context_length, shape.context_length),
    )


def _what_fits(recipe: Recipe, device: torch.device, free: int) -> str:
    found = what_would_fit(recipe, device, free)
    if found is None:
        return "Not even the smallest size fits: free some memory or take another machine."
    options = []
    if found.model != recipe.model:
        size = next(name for name, shape in SIZES.items() if _of_size(recipe.model, shape) == found.model)
        options.append(f"a model of the size {size},")
    if found.batch != recipe.batch:
        options.append(f"--batch.sequences {found.batch.sequences} --batch.accumulation {found.batch.accumulation}")
    if found.step != recipe.step:
        options.append("--step.activation-checkpointing")
    if found.optimizer != recipe.optimizer:
        options.append("--optimizer.name adafactor --optimizer.beta1 0 (and another learning rate)")
    return f"What fits, with about {_gib(_still_needed(found, device))}: {' '.join(options)}."


def remedy_within_a_run(recipe: Recipe) -> str:
    """What a run can still change to need less: activation checkpointing computes the same bits."""
    if recipe.step.activation_checkpointing:
        return "Free some memory, then the same command goes on."
    return (
        "Free some memory, then the same command goes on; or go on with less, and the same results, by"
        " --step.activation-checkpointing --allow-change."
    )


@contextmanager
def explain_no_memory(recipe: Recipe, device: torch.device, out: Path) -> Iterator[None]:
    """Turn the many errors that mean "out of memory" into a NoMemory with what to do."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        good = checkpoints(out / "checkpoints")
        needed = _gib(estimate_memory(recipe, device.type).total)
        raise NoMemory(
            f"{out}: the memory of {device} ran out (the run was expected to need about {needed} in all). The last good"
            f" state is {good[-1] if good else 'the start'}. {remedy_within_a_run(recipe)}"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: torch has a class for it on some devices only."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch: its allocator on processors, and that of mps
    words = ("DefaultCPUAllocator", "out of memory", "not enough memory", "annot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(each in str(error) for each in words)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
