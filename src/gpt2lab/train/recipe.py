"""Recipes: everything that decides a training run, as frozen dataclasses all the way down. No torch here."""

import dataclasses
import math
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json
from gpt2lab.model.config import GPT2Config, gpt2_size


def _check(prefix: str, config: object, low: float, below: float, names: tuple[str, ...]) -> None:
    """Raise BadOption for a field that is not at least `low` and below `below`."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < below:
            raise BadOption(f"{prefix}.{name} = {value}: must be at least {low:g} and below {below:g}.")


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW (Loshchilov & Hutter 2019). Weight decay acts on matrices and embeddings, not on biases and norms."""

    learning_rate: float = 2.5e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    """Largest global norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        _check("optimizer", self, 0.0, math.inf, ("weight_decay", "clip_norm", "eps"))
        _check("optimizer", self, 0.0, 1.0, ("beta1", "beta2"))
        if not 0 < self.learning_rate < math.inf:
            raise BadOption(f"optimizer.learning_rate = {self.learning_rate}: must be above 0 and finite.")


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then a cosine down to `final_share` of the peak learning rate at the last step."""

    warmup_steps: int = 2000
    final_share: float = 0.1

    def __post_init__(self) -> None:
        _check("schedule", self, 0.0, math.inf, ("warmup_steps",))
        if not 0 <= self.final_share <= 1:
            raise BadOption(f"schedule.final_share = {self.final_share}: must be at least 0 and at most 1.")


@dataclass(frozen=True)
class DataConfig:
    """Which tokens come in which order, and what a token may see of those before it."""

    sampling: Literal["each_once", "connor", "connor_longbiased"] = "each_once"
    """each_once: each token is predicted once an epoch. connor: as the replication did, one random window in 42
    documents joined; connor_longbiased: 70 % of the windows in two documents of at least 512 tokens."""
    weights: tuple[float, ...] = ()
    """Share of the sequences, held-out ones too, from each folder of tokens in their order; none: by their sizes."""
    document_mask: bool = False
    """Stop attention at the borders of documents, in training and in its validation."""

    def __post_init__(self) -> None:
        for weight in self.weights:
            if not 0 < weight < math.inf:
                raise BadOption(f"data.weights = {self.weights}: each must be above 0 and finite.")


@dataclass(frozen=True)
class BatchConfig:
    """Sequences in one step: `sequences` at a time, `accumulation` times."""

    sequences: int = 8
    accumulation: int = 1


@dataclass(frozen=True)
class WatchConfig:
    """How often to look: steps between validations and between checkpoints, and how much to validate on."""

    validate_every: int = 250
    validation_sequences: int = 128
    checkpoint_every: int = 250
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class StepConfig:
    """What happens within a step beside forward and backward pass; all of it is off unless asked for."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the matrix products (autocast); weights, gradients and sums stay float32. float16 scales the loss."""
    activation_checkpointing: bool = False
    """Keep only what goes into each layer and compute the rest again for the gradient: less memory, a third slower."""
    z_loss: float = 0.0
    """Weight of the mean square of logsumexp(logits) in what is minimized (PaLM: 1e-4); not in the losses reported."""
    skip_nonfinite: bool = False
    """Skip and report a step whose loss or gradient is not finite, up to 19 in a row, instead of stopping at it."""
    skip_outliers: float = 0.0
    """Skip and report a step whose gradient's norm is above this times the median of the last 50; 0: none."""
    weight_averaging: float = 0.0
    """Decay of the running average of the weights, which validation and the model folder then use; 0: no average."""

    def __post_init__(self) -> None:
        _check("step", self, 0.0, math.inf, ("z_loss",))
        _check("step", self, 0.0, 1.0, ("weight_averaging",))
        if self.skip_outliers and not 1 < self.skip_outliers < math.inf:
            raise BadOption(
                f"step.skip_outliers = {self.skip_outliers}: must be above 1 and finite, or 0 to skip none."
            )


@dataclass(frozen=True)
class Recipe:
    """One training run. `minutes` above 0 asks for as many steps as fit; they are worked out once and saved."""

    name: str
    model: GPT2Config
    optimizer: AdamWConfig = field(default_factory=AdamWConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    steps: int = 100_000
    """Optimizer steps."""
    minutes: float = 0.0
    """Train for as many steps as fit into this time instead; 0: for `steps`."""
    seed: int = 0
    """Decides the weights, the order of the data, and dropout."""
    compile: bool = False
    """Compile the network with torch.compile; eager where there is no C++ compiler."""
    step: StepConfig = field(default_factory=StepConfig)

    def __post_init__(self) -> None:
        positive = {
            "steps": self.steps,
            "batch.sequences": self.batch.sequences,
            "batch.accumulation": self.batch.accumulation,
            "watch.validate_every": self.watch.validate_every,
            "watch.validation_sequences": self.watch.validation_sequences,
            "watch.checkpoint_every": self.watch.checkpoint_every,
            "watch.keep_checkpoints": self.watch.keep_checkpoints,
        }
        for name, value in positive.items():
            if value < 1:
                raise BadOption(f"{name} = {value}: must be at least 1.")
        if not 0 <= self.minutes < math.inf:
            raise BadOption(f"minutes = {self.minutes}: must be at least 0 and finite (0 trains for `steps`).")
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"seed = {self.seed}: must be at least 0 and below 2**63.")


def paper(size: str = "117M", vocab_size: int = 50_257) -> Recipe:
    """GPT-2 as the paper tells it: 512 sequences of 1,024 tokens a step (section 2.3), four at a time.

    The paper does not give the optimizer, learning rates or length; these are GPT-1's Adam with the decay and clipping
    that public replications of GPT-2 settled on.
    """
    return Recipe(
        name=f"paper:{size}",
        model=gpt2_size(size, vocab_size),
        batch=BatchConfig(sequences=4, accumulation=128),
    )


def laptop(size: str = "nano", vocab_size: int = 50_257) -> Recipe:
    """A small model on a processor in minutes: small batches, a high learning rate, a short warm-up."""
    return Recipe(
        name=f"laptop:{size}",
        model=gpt2_size(size, vocab_size),
        optimizer=AdamWConfig(learning_rate=2e-3, beta2=0.99),
        schedule=ScheduleConfig(warmup_steps=50),
        batch=BatchConfig(sequences=8),
        watch=WatchConfig(validate_every=50, validation_sequences=64, checkpoint_every=100),
        steps=1000,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {"paper": paper, "laptop": laptop}


def find_recipe(text: str, vocab_size: int = 50_257) -> Recipe:
    """The recipe that `NAME`, `NAME:SIZE` or `FILE.json` stands for; raises BadOption or BadInput otherwise."""
    if text.endswith(".json"):
        return recipe_from_json(read_json(Path(text)), text)
    name, _, size = text.partition(":")
    if name not in RECIPES:
        raise BadOption(f"no recipe {name!r}; there are {', '.join(RECIPES)} (as NAME:SIZE), and files NAME.json.")
    return RECIPES[name](size, vocab_size=vocab_size) if size else RECIPES[name](vocab_size=vocab_size)


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    values = asdict(recipe)
    return values | {"data": values["data"] | {"weights": list(recipe.data.weights)}}


def recipe_from_json(values: Any, where: str) -> Recipe:
    """A recipe from plain JSON values; raises BadOption that names an unknown key or a value of the wrong type."""
    recipe = _from_json(Recipe, values, where, "")
    assert isinstance(recipe, Recipe)
    return recipe


def _from_json(kind: type, values: Any, where: str, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise BadOption(f"{where}: {prefix.rstrip('.') or 'a recipe'} must be an object with keys.")
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - fields.keys()):
        raise BadOption(f"{where}: unknown key {prefix}{unknown[0]}; the keys here are {', '.join(fields)}.")
    given: dict[str, Any] = {}
    for name, value in values.items():
        wanted = hints[name]
        if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
            given[name] = _from_json(wanted, value, where, f"{prefix}{name}.")
        else:
            given[name] = _value_from_json(wanted, value, f"{where}: {prefix}{name} = {value!r}")
    try:
        return kind(**given)
    except TypeError as error:
        raise BadOption(f"{where}: {error}.") from None


def _value_from_json(wanted: Any, value: Any, what: str) -> Any:
    if typing.get_origin(wanted) is Literal:
        if value not in typing.get_args(wanted):
            raise BadOption(f"{what} must be one of {', '.join(typing.get_args(wanted))}.")
        return value
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise BadOption(f"{what} must be a list.")
        return tuple(_value_from_json(typing.get_args(wanted)[0], each, what) for each in value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise BadOption(f"{what} must be of type {wanted.__name__}.")
    return value


def changed_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The dotted keys in which two recipes (as JSON) differ, each with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in changed_keys(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if old == new else [f"{prefix} ({old} -> {new})"]
