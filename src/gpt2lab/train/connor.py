"""The independent replication of 2019 (ConnorJL/GPT2): its JSON files as they are, and its settings for every size.

His is what his last commit, 936fe2a, does, read in `main.py`, `model_fns.py`, `optimizers.py`, `inputs.py` and
`models/gpt2/gpt2.py`; the settings are those of `117M.json`, `345M.json`, `PrettyBig.json` and `1.5B.json`. Ours are:

- what he has no file for: `762M` is trained as his 345M; `nano` and `micro` as his 117M, but 1,000 steps of 8
  sequences, 50 of warm-up, a validation each 50;
- how many sequences of a batch are computed at a time, how often a checkpoint is written (he: every half an hour), and
  that validation reads plain held-out sequences, not random windows;
- bfloat16, which he also stored weights in; here it is the type of the products alone.

docs/connor.md goes through the keys one by one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json
from gpt2lab.base.progress import say
from gpt2lab.model.config import GPT2Config, gpt2_size
from gpt2lab.train.recipe import (
    AdafactorConfig,
    BatchConfig,
    DataConfig,
    InitializationConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    StepConfig,
    WatchConfig,
    config_from_json,
)

MOST_SEQUENCES_AT_ONCE = 8
OF_SOME_OPTIMIZERS = ("beta2", "epsilon", "decay_type", "decay_exponent")
WITHOUT_MEANING = (
    *("model_path", "data_path", "encoder_path", "predict_path"),
    *("predict_batch_size", "top_k", "text_len"),
    *("use_tpu", "iterations", "batch_size"),
)
"""Keys about his folders, about prediction, and about TPUs and what main.py sets for them."""


@dataclass(frozen=True)
class ConnorFile:
    """The keys of his JSON files. None: one that his code can do without, or needs with some optimizer only."""

    model: Literal["GPT2"]
    n_layer: int
    n_head: int
    n_embd: int
    n_ctx: int
    n_vocab: int
    embed_dropout: float
    attn_dropout: float
    res_dropout: float
    input: Literal["openwebtext", "openwebtext_long", "openwebtext_longbiased"]
    train_batch_size: int
    max_steps: int
    train_steps: int
    """Steps between validations, of eval_steps batches of eval_batch_size sequences each."""
    eval_steps: int
    eval_batch_size: int
    opt_name: Literal["adam", "adafactor"]
    lr: float
    beta1: float
    beta2: float | None = None
    epsilon: float | None = None
    decay_type: Literal["pow", "adam"] | None = None
    decay_exponent: float | None = None
    weight_decay: float | None = None
    """None: no decay, and plain Adam."""
    warmup_steps: int | None = None
    """None: the rate is constant."""
    precision: Literal["float32", "bfloat16"] = "float32"
    scale_by_depth: bool | None = None
    scale_by_in: bool | None = None
    scale: float | None = None
    """Until July 2019, in place of the two before: factor of the last matrices of both residual branches."""
    model_path: str = ""
    data_path: str = ""
    encoder_path: str = ""
    predict_path: str = ""
    predict_batch_size: int = 1
    top_k: int = 0
    text_len: int = 0
    use_tpu: bool = False
    iterations: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        steps = ("max_steps", "train_steps", "eval_steps")
        shape = ("n_layer", "n_head", "n_embd", "n_ctx", "n_vocab")
        _check(self, (*shape, *steps, "train_batch_size", "eval_batch_size"), lambda x: x >= 1, "at least 1")
        _check(self, ("warmup_steps", "weight_decay", "epsilon"), lambda x: 0 <= x < math.inf, "at least 0 and finite")
        _check(self, ("lr", "decay_exponent"), lambda x: 0 < x < math.inf, "above 0 and finite")
        dropouts = ("embed_dropout", "attn_dropout", "res_dropout")
        _check(self, (*dropouts, "beta1", "beta2"), lambda x: 0 <= x < 1, "at least 0 and below 1")
        if self.n_embd % self.n_head:
            raise BadOption(f"n_embd = {self.n_embd} can't be divided among n_head = {self.n_head} heads.")
        if (self.warmup_steps or 0) > self.max_steps:
            raise BadOption(f"warmup_steps = {self.warmup_steps}: must be at most max_steps = {self.max_steps}.")
        for key in self.needed():
            if getattr(self, key) is None:
                kind = f" and decay_type {self.decay_type}" if self.decay_type and key != "decay_type" else ""
                raise BadOption(f"the key {key} is missing, which opt_name {self.opt_name}{kind} needs.")
        if self.scale is None and (self.scale_by_depth is None or self.scale_by_in is None):
            missing = "scale_by_depth" if self.scale_by_depth is None else "scale_by_in"
            raise BadOption(f"the key {missing} is missing.")
        if self.scale is not None:
            if self.scale_by_depth is not None or self.scale_by_in is not None:
                raise BadOption("scale is of older files than scale_by_depth and scale_by_in: leave it or them out.")
            if not 0 < self.scale <= 1 or not math.isclose(self.scale**-2, round(self.scale**-2), rel_tol=1e-6):
                raise BadOption(f"scale = {self.scale}: must be 1/sqrt(a number of layers).")

    def needed(self) -> tuple[str, ...]:
        """Those of the keys of some optimizers that his code reads for this one."""
        if self.opt_name == "adam":
            return "beta2", "epsilon"
        return "decay_type", "beta2" if self.decay_type == "adam" else "decay_exponent"

    def initialization(self) -> InitializationConfig:
        """How fresh weights are drawn (`conv1d`; its `scale` argument is given by the MLP's last matrix alone)."""
        if self.scale is not None:
            return InitializationConfig("both", "layers", round(self.scale**-2))
        return InitializationConfig("mlp" if self.scale_by_depth else "none", "layers", 0, bool(self.scale_by_in))

    def optimizer(self) -> OptimizerConfig:
        """`create_train_op`: decay of every variable, by the rate times weight_decay, and no clipping."""
        default = OptimizerConfig()
        return OptimizerConfig(
            name="adamw" if self.opt_name == "adam" else "adafactor",
            learning_rate=self.lr,
            beta1=self.beta1,
            beta2=default.beta2 if self.beta2 is None else self.beta2,
            eps=default.eps if self.epsilon is None else self.epsilon,
            weight_decay=self.weight_decay or 0.0,
            decayed="all",
            clip_norm=0.0,
            adafactor=AdafactorConfig(
                decay_type=self.decay_type or default.adafactor.decay_type,
                decay_exponent=self.decay_exponent or default.adafactor.decay_exponent,
            ),
        )

    def schedule(self) -> ScheduleConfig:
        """`cosine_decay_with_warmup`, down to 0 at max_steps, or no schedule."""
        if self.warmup_steps is None:
            return ScheduleConfig("constant", warmup_steps=0)
        return ScheduleConfig("cosine", self.warmup_steps, warmup_from_zero=True, final_share=0.0)

    def recipe(self, name: str) -> Recipe:
        """The recipe that these settings are."""
        samplings: dict[str, Literal["connor", "connor_long", "connor_longbiased"]] = {
            "openwebtext": "connor",
            "openwebtext_long": "connor_long",
            "openwebtext_longbiased": "connor_longbiased",
        }
        at_once = max(each for each in range(1, MOST_SEQUENCES_AT_ONCE + 1) if self.train_batch_size % each == 0)
        return Recipe(
            name=name,
            model=GPT2Config(
                vocab_size=self.n_vocab,
                context_length=self.n_ctx,
                n_layer=self.n_layer,
                n_head=self.n_head,
                n_embd=self.n_embd,
                embd_pdrop=self.embed_dropout,
                attn_pdrop=self.attn_dropout,
                resid_pdrop=self.res_dropout,
            ),
            optimizer=self.optimizer(),
            schedule=self.schedule(),
            data=DataConfig(sampling=samplings[self.input]),
            batch=BatchConfig(sequences=at_once, accumulation=self.train_batch_size // at_once),
            watch=WatchConfig(
                validate_every=self.train_steps, validation_sequences=self.eval_steps * self.eval_batch_size
            ),
            steps=self.max_steps,
            step=StepConfig(precision=self.precision, table_dropout=True),
            initialization=self.initialization(),
        )


def _check(file: ConnorFile, names: tuple[str, ...], is_good: Callable[[float], bool], words: str) -> None:
    for name in names:
        value = getattr(file, name)
        if value is not None and not is_good(value):
            raise BadOption(f"{name} = {value}: must be {words}.")


_117M = ConnorFile(
    model="GPT2",
    n_layer=12,
    n_head=12,
    n_embd=768,
    n_ctx=1024,
    n_vocab=50_257,
    embed_dropout=0.1,
    attn_dropout=0.1,
    res_dropout=0.1,
    input="openwebtext",
    train_batch_size=32,
    max_steps=500_000,
    train_steps=10_000,
    eval_steps=10,
    eval_batch_size=32,
    opt_name="adam",
    lr=2.5e-4,
    beta1=0.9,
    beta2=0.98,
    epsilon=1e-9,
    weight_decay=0.01,
    warmup_steps=2000,
    scale_by_depth=True,
    scale_by_in=True,
)
_345M = replace(_117M, train_batch_size=8, eval_batch_size=8)
_PRETTY_BIG = replace(
    _117M,
    embed_dropout=0.0,
    attn_dropout=0.0,
    input="openwebtext_longbiased",
    train_batch_size=256,
    max_steps=604_800,
    eval_batch_size=256,
)
_1542M = replace(
    _117M,
    input="openwebtext_longbiased",
    train_batch_size=512,
    max_steps=300_000,
    train_steps=100_000,
    eval_batch_size=8,
    opt_name="adafactor",
    beta1=0.0,
    beta2=None,
    epsilon=None,
    decay_type="pow",
    decay_exponent=0.8,
)
_SMALL = replace(_117M, train_batch_size=8, max_steps=1000, warmup_steps=50, train_steps=50, eval_batch_size=8)


def connor(size: str = "117M", vocab_size: int = 50_257) -> Recipe:
    """As the independent replication trained GPT-2, faults included; each is a setting that can be switched off.

    What is his, for 117M, 345M, PrettyBig and 1542M, is at the top of this file; the other sizes are ours.
    """
    settings = {
        "345M": _345M,
        "762M": _345M,
        "1542M": _1542M,
        "PrettyBig": _PRETTY_BIG,
        "nano": _SMALL,
        "micro": _SMALL,
    }
    shape = gpt2_size(size, vocab_size)
    file = replace(
        settings.get(size, _117M),
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        n_ctx=shape.context_length,
        n_vocab=vocab_size,
    )
    return file.recipe(f"connor:{size}")


def read_connor_file(path: Path, vocab_size: int | None = None) -> Recipe:
    """The recipe of a JSON file of his; what it has that means nothing here is said, once, and left aside.

    A `vocab_size`, that of the tokens, goes before the file's n_vocab; where they differ, that is said. Raises BadInput
    for a file that can't be read, BadOption that names the key for all else that is wrong.
    """
    values = read_json(path)
    file = config_from_json(ConnorFile, values, str(path))
    recipe = file.recipe(f"connor:{path.name}")
    unread = {*WITHOUT_MEANING, *OF_SOME_OPTIMIZERS} - {*file.needed()}
    if aside := [key for key in values if key in unread]:
        say(f"{path}: without meaning here, and left aside: {', '.join(aside)}.")
    if vocab_size is None or vocab_size == file.n_vocab:
        return recipe
    say(f"{path}: the vocabulary is the tokens', of {vocab_size:,} ids, not n_vocab = {file.n_vocab:,}.")
    return replace(recipe, model=replace(recipe.model, vocab_size=vocab_size))
