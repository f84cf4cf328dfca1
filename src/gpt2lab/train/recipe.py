"""What a recipe is: everything that decides a training run, as frozen dataclasses all the way down. No torch here.

`recipes` has those with a name.
"""

import dataclasses
import json
import math
import re
import types
import typing
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from gpt2lab.base.errors import BadOption
from gpt2lab.model.config import GPT2Config

Config = TypeVar("Config")

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_PROJECT = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def _check(prefix: str, config: object, low: float, below: float, names: tuple[str, ...]) -> None:
    """Raise BadOption for a field that is not at least `low` and below `below`."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < below:
            raise BadOption(f"{prefix}.{name} = {value}: must be at least {low:g} and below {below:g}.")


def _check_above_0(prefix: str, config: object, names: tuple[str, ...]) -> None:
    """Raise BadOption for a field that is not above 0 and finite."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise BadOption(f"{prefix}.{name} = {getattr(config, name)}: must be above 0 and finite.")


def _check_share(prefix: str, config: object, names: tuple[str, ...]) -> None:
    """Raise BadOption for a field that is not at least 0 and at most 1."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise BadOption(f"{prefix}.{name} = {getattr(config, name)}: must be at least 0 and at most 1.")


@dataclass(frozen=True)
class AdafactorConfig:
    """What only Adafactor has (Shazeer & Stern 2018; tensor2tensor). Without state for momentum: optimizer.beta1 0."""

    decay_type: Literal["pow", "adam"] = "pow"
    """Decay rate of the second moments at step t: pow: 1 - t^-decay_exponent; adam: beta2 with Adam's correction."""
    decay_exponent: float = 0.8
    clipping_threshold: float = 1.0
    """Largest root mean square of a parameter's update, in step sizes; 0 does not clip."""
    relative_step: bool = False
    """Step size at most 1/sqrt(t): the paper's is learning_rate 0.01 with the schedule `constant`. Without
    parameter_scale, a twentieth of it."""
    parameter_scale: bool = True
    """Multiply each update by the root mean square of its parameter, which is taken for at least eps2."""
    eps1: float = 1e-30
    """Added to squared gradients."""
    eps2: float = 1e-3

    def __post_init__(self) -> None:
        _check("optimizer.adafactor", self, 0.0, math.inf, ("clipping_threshold",))
        _check_above_0("optimizer.adafactor", self, ("decay_exponent", "eps1", "eps2"))


@dataclass(frozen=True)
class MuonConfig:
    """What only Muon has (Jordan 2024), which updates the layers' matrices; AdamW updates all other parameters."""

    learning_rate: float = 5e-3
    """Of the layers' matrices; optimizer.learning_rate is that of AdamW's part."""
    token_learning_rate: float = 0.0
    """Of AdamW's for the token embedding; 0: optimizer.learning_rate, as for the rest of it."""
    momentum: float = 0.95
    nesterov: bool = True
    adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Update times 0.2 sqrt(max(rows, columns)), so that rates are of AdamW's size (Liu et al. 2025), or times
    sqrt(max(1, rows/columns)) (Jordan 2024)."""
    split_qkv: bool = True
    """Take queries, keys and values for the three matrices they are."""

    def __post_init__(self) -> None:
        _check_above_0("optimizer.muon", self, ("learning_rate",))
        _check("optimizer.muon", self, 0.0, 1.0, ("momentum",))
        _check("optimizer.muon", self, 0.0, math.inf, ("token_learning_rate",))


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), Adafactor, or Muon with AdamW for embeddings, head, biases and norms."""

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    learning_rate: float = 2.5e-4
    """Peak of the schedule; with Muon, that of AdamW's part."""
    beta1: float = 0.9
    """Momentum of AdamW and Adafactor; the latter keeps no state for it at 0."""
    beta2: float = 0.95
    """Decay rate of AdamW's second moments, and of Adafactor's where its decay_type is adam."""
    eps: float = 1e-8
    """AdamW's."""
    weight_decay: float = 0.1
    """Share of a parameter lost in a step, in units of its learning rate."""
    decayed: Literal["matrices", "all"] = "matrices"
    """Which parameters decay: matrices: not biases and norms; all: as in the replication."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; 0 does not clip."""
    adafactor: AdafactorConfig = field(default_factory=AdafactorConfig)
    muon: MuonConfig = field(default_factory=MuonConfig)

    def __post_init__(self) -> None:
        _check("optimizer", self, 0.0, math.inf, ("weight_decay", "clip_norm", "eps"))
        _check("optimizer", self, 0.0, 1.0, ("beta1", "beta2"))
        _check_above_0("optimizer", self, ("learning_rate",))


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate by step, as a share of its peak: linear warm-up, then by `name`."""

    name: Literal["cosine", "warmup_stable_decay", "inverse_sqrt", "constant"] = "cosine"
    """cosine: down to final_share at the last step. warmup_stable_decay: at the peak, then linearly down to final_share
    over the last decay_share of the steps. inverse_sqrt: as 1/sqrt(step). constant: at the peak."""
    warmup_steps: int = 2000
    warmup_from_zero: bool = False
    """Warm up as step / warmup_steps, the first step at 0 and without effect, as the replication; not as (step + 1) /
    (warmup_steps + 1)."""
    final_share: float = 0.1
    decay_share: float = 0.2

    def __post_init__(self) -> None:
        _check("schedule", self, 0.0, math.inf, ("warmup_steps",))
        _check_share("schedule", self, ("final_share", "decay_share"))


@dataclass(frozen=True)
class DataConfig:
    """Which tokens come in which order, and what a token may see of those before it."""

    sampling: Literal["each_once", "connor", "connor_long", "connor_longbiased"] = "each_once"
    """each_once: each token is predicted once an epoch. connor: as the replication did, one random window in 42
    documents joined; connor_long: in two documents of at least 512 tokens; connor_longbiased: 70 % of those."""
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
    """How often to look, in steps, and at what; nothing of it changes the weights."""

    validate_every: int = 250
    validation_sequences: int = 128
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    sample_every: int = 0
    """Continue the prompts and write the texts to samples.jsonl; 0: never."""
    prompts: tuple[str, ...] = ("",)
    """What to continue, each three times; an empty one starts a document."""
    norms_every: int = 0
    """Record norms of gradient, update and weights by group of parameters; holds a copy of the weights for that step;
    0: never."""
    tracker: Literal["none", "trackio", "wandb"] = "none"
    """Send the lines of metrics.jsonl there, too."""
    project: str = "gpt2lab"
    """The tracker's name for runs that belong together."""
    patience: int = 0
    """Stop after this many validations without a new best one, and keep the best one's weights; 0: go to the end."""

    def __post_init__(self) -> None:
        _check("watch", self, 0, math.inf, ("sample_every", "norms_every"))
        if self.sample_every and not self.prompts:
            raise BadOption("watch.prompts: none given; an empty prompt starts a document.")
        if self.tracker != "none" and not _PROJECT.fullmatch(self.project):
            raise BadOption(
                f"watch.project = {self.project!r}: a project's name is letters, digits, '-', '_' and '.', at most 100."
            )


@dataclass(frozen=True)
class StepConfig:
    """What happens within a step beside forward and backward pass; all of it is off unless asked for."""

    precision: Precision = "auto"
    """Type of the matrix products (autocast); weights, gradients and sums stay float32. float16 scales the loss. auto:
    bfloat16 on an accelerator that has it, float32 elsewhere; settled when a run begins."""
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
    table_dropout: bool = False
    """Let model.embd_pdrop drop numbers of the embedding tables, once a forward pass and so in the head too, not of
    their sum: as the replication."""

    def __post_init__(self) -> None:
        _check("step", self, 0.0, math.inf, ("z_loss",))
        _check("step", self, 0.0, 1.0, ("weight_averaging",))
        if self.skip_outliers and not 1 < self.skip_outliers < math.inf:
            raise BadOption(
                f"step.skip_outliers = {self.skip_outliers}: must be above 1 and finite, or 0 to skip none."
            )


@dataclass(frozen=True)
class InitializationConfig:
    """Fresh weights: normal, biases 0, norms 1; the layers' matrices have the deviation 0.02, scaled as said here."""

    scale_by_depth: Literal["both", "mlp", "none"] = "both"
    """In which residual branches the last matrix is divided by sqrt(depth): both attention's and the MLP's (paper,
    section 2.3), the MLP's alone (the replication's code at its end), none."""
    depth: Literal["branches", "layers"] = "branches"
    """branches: two a layer, N of the paper; layers: as the replication."""
    layers: int = 0
    """To count as the depth's layers; 0: those of the model. The replication first drew PrettyBig, of 25, for 48."""
    scale_by_in: bool = False
    """Divide every matrix of the layers by sqrt(its inputs) on top of all that: as the replication."""
    token_deviation: float = 0.02
    """Of the token embedding's numbers."""
    position_deviation: float = 0.01
    zero_branches: bool = False
    """Zeros for the last matrix of each residual branch: the layers say nothing at first (modded-nanogpt)."""
    unigram: bool = False
    """Begin as the unigram model of the tokens of the run's first 100 steps: see `train.initialization`."""

    def __post_init__(self) -> None:
        _check("initialization", self, 0.0, math.inf, ("layers", "token_deviation", "position_deviation"))


@dataclass(frozen=True)
class Recipe:
    """One training run. `minutes` above 0 asks for as many steps as fit; they are worked out once and saved."""

    name: str
    model: GPT2Config
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
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
    initialization: InitializationConfig = field(default_factory=InitializationConfig)

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
        _check("watch", self.watch, 0, math.inf, ("patience",))
        if not 0 <= self.minutes < math.inf:
            raise BadOption(f"minutes = {self.minutes}: must be at least 0 and finite (0 trains for `steps`).")
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"seed = {self.seed}: must be at least 0 and below 2**63.")


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """A recipe of minutes as one of steps; few steps have a shorter warm-up."""
    schedule = replace(recipe.schedule, warmup_steps=min(recipe.schedule.warmup_steps, steps // 5))
    return replace(recipe, steps=steps, minutes=0.0, schedule=schedule)


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return values


def recipe_from_json(values: Any, where: str) -> Recipe:
    """A recipe from plain JSON values; raises BadOption that names a key unknown or missing, or its bad value."""
    return config_from_json(Recipe, values, where)


def config_from_json(kind: type[Config], values: Any, where: str, prefix: str = "") -> Config:
    """A frozen dataclass from plain JSON values; raises BadOption as `recipe_from_json` does."""
    if not isinstance(values, dict):
        raise BadOption(f"{where}: {prefix.rstrip('.') or 'a recipe'} must be an object with keys.")
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - fields.keys()):
        raise BadOption(f"{where}: unknown key {prefix}{unknown[0]}; the keys here are {', '.join(fields)}.")
    for name, each in fields.items():
        needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise BadOption(f"{where}: the key {prefix}{name} is missing.")
    given: dict[str, Any] = {}
    for name, value in values.items():
        wanted = hints[name]
        if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
            given[name] = config_from_json(wanted, value, where, f"{prefix}{name}.")
        else:
            given[name] = _value_from_json(wanted, value, f"{where}: {prefix}{name} = {value!r}")
    try:
        return kind(**given)
    except BadOption as error:
        raise BadOption(f"{where}: {error}") from None


def _value_from_json(wanted: Any, value: Any, what: str) -> Any:
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):  # X | None: the key may be absent, but not null
        wanted = next(each for each in typing.get_args(wanted) if each is not type(None))
    if typing.get_origin(wanted) is Literal:
        if value not in typing.get_args(wanted):
            raise BadOption(f"{what} must be one of {', '.join(typing.get_args(wanted))}.")
        return value
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise BadOption(f"{what} must be a list.")
        return tuple(_value_from_json(typing.get_args(wanted)[0], each, what) for each in value)
    if wanted is float and type(value) is int:
        return float(value) if abs(value) < 2**1023 else math.inf
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
