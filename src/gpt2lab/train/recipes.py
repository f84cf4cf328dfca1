"""The recipes that have a name, and finding one by what the user writes. No torch here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json
from gpt2lab.model.config import gpt2_size
from gpt2lab.train.connor import connor, read_connor_file
from gpt2lab.train.recipe import (
    BatchConfig,
    MuonConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    WatchConfig,
    recipe_from_json,
)


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
        optimizer=OptimizerConfig(learning_rate=2e-3, beta2=0.99),
        schedule=ScheduleConfig(warmup_steps=50),
        batch=BatchConfig(sequences=8),
        watch=WatchConfig(validate_every=50, validation_sequences=64, checkpoint_every=100, sample_every=100),
        steps=1000,
    )


def modern(size: str = "nano", vocab_size: int = 50_257) -> Recipe:
    """The same network with the best training known here: Muon for the layers' matrices, warm-up-stable-decay.

    Measured is one untuned run of such a recipe, before this code was written: 4 layers, 256 wide, context 256, 4,096
    tokens a step, these learning rates, warm-up and decay. Its validation loss was 4.851 after 300 steps; nanoGPT's
    AdamW, with the best of three rates, was at 4.938 after 600. Nothing else has been measured: batch and length are
    those of `laptop` for nano and micro, of `paper` for the published sizes, whose rates are nanoGPT's 6e-4 for AdamW
    and, by the same ratio, 1e-3 for Muon.
    """
    optimizer = OptimizerConfig(name="muon", learning_rate=3e-3, muon=MuonConfig(learning_rate=5e-3))
    schedule = ScheduleConfig(name="warmup_stable_decay", warmup_steps=40, final_share=0.0, decay_share=0.5)
    if size in ("nano", "micro"):
        like = laptop(size, vocab_size)
    else:
        like = paper(size, vocab_size)
        optimizer = replace(optimizer, learning_rate=6e-4, muon=MuonConfig(learning_rate=1e-3))
        schedule = replace(schedule, warmup_steps=like.schedule.warmup_steps)
    return replace(like, name=f"modern:{size}", optimizer=optimizer, schedule=schedule)


RECIPES: dict[str, Callable[..., Recipe]] = {"paper": paper, "laptop": laptop, "modern": modern, "connor": connor}


def find_recipe(text: str, vocab_size: int | None = None) -> Recipe:
    """The recipe that `NAME`, `NAME:SIZE`, `FILE.json` (of ours) or `connor:FILE.json` (of the replication) stands for.

    `vocab_size` is that of the tokens to train on: it is a named recipe's, and goes before a replication's file's; a
    file of ours has its own. None: GPT-2's, or the file's. Raises BadOption or BadInput for what stands for none.
    """
    name, _, size = text.partition(":")
    if name == "connor" and size.endswith(".json"):
        return read_connor_file(Path(size), vocab_size)
    if text.endswith(".json"):
        return recipe_from_json(read_json(Path(text)), text)
    if name not in RECIPES:
        raise BadOption(
            f"no recipe {name!r}; there are {', '.join(RECIPES)} (as NAME:SIZE), and files NAME.json and"
            " connor:NAME.json."
        )
    given = {"size": size} if size else {}
    return RECIPES[name](**given, **({} if vocab_size is None else {"vocab_size": vocab_size}))
