"""The recipes that have a name, and finding one by what the user writes. No torch here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json
from gpt2lab.model.config import GPT2Config, gpt2_size
from gpt2lab.train.connor import connor, read_connor_file
from gpt2lab.train.recipe import (
    BatchConfig,
    InitializationConfig,
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
    """The same network with the best training known here; `make bench-speedrun` measures what it gives.

    Muon for the layers' matrices, a rate of its own for the token embedding, a learning rate that falls from its peak
    to 0 in a straight line, and weights that begin as the unigram model: layers that say nothing, small embeddings.
    Tuned on nano with steps of 4,096 tokens, 200 of them (docs/log.md). The published sizes have nanoGPT's 6e-4 for
    AdamW and all other rates in the same ratios; that was not measured.
    """
    small = size in ("nano", "micro")
    share = 1.0 if small else 0.2
    like = laptop(size, vocab_size) if small else paper(size, vocab_size)
    muon = MuonConfig(learning_rate=5e-3 * share, momentum=0.9, token_learning_rate=1e-2 * share)
    return replace(
        like,
        name=f"modern:{size}",
        optimizer=OptimizerConfig("muon", 3e-3 * share, beta1=0.8, weight_decay=0.01, muon=muon),
        schedule=ScheduleConfig(
            "warmup_stable_decay",
            warmup_steps=10 if small else like.schedule.warmup_steps,
            final_share=0.0,
            decay_share=1.0,
        ),
        initialization=InitializationConfig(
            token_deviation=0.003, position_deviation=0.003, zero_branches=True, unigram=True
        ),
        batch=BatchConfig(sequences=4096 // like.model.context_length) if small else like.batch,
    )


def finetune(model: GPT2Config, lora: bool = False) -> Recipe:
    """On from a trained model of shape `model`, on a small text: a short warm-up, low rates, stops when it overfits.

    Full: 5e-5, the customary rate for a small batch. LoRA: ten times as much, for its matrices begin at 0; they do not
    decay, for decay would only pull back to the model it began with, which is what their smallness does already.
    """
    return Recipe(
        name="finetune:lora" if lora else "finetune:full",
        model=model,
        optimizer=OptimizerConfig(learning_rate=5e-4 if lora else 5e-5, beta2=0.99, weight_decay=0.0 if lora else 0.01),
        schedule=ScheduleConfig(warmup_steps=20),
        batch=BatchConfig(sequences=4),
        watch=WatchConfig(
            validate_every=20, validation_sequences=32, checkpoint_every=50, keep_checkpoints=1, patience=3
        ),
        steps=200,
    )


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
