"""A short training run as a process of its own, for tests that kill it: python small_run.py TOKENS OUT STEPS."""

import sys

import gpt2lab
from gpt2lab.model.config import GPT2Config
from gpt2lab.train.recipe import BatchConfig, OptimizerConfig, Recipe, ScheduleConfig, WatchConfig


def small_recipe(vocab_size: int, steps: int) -> Recipe:
    """Two narrow layers with dropout and accumulation, so that all that has to resume is there."""
    return Recipe(
        name="small",
        model=GPT2Config(
            vocab_size=vocab_size,
            context_length=32,
            n_layer=2,
            n_head=2,
            n_embd=32,
            embd_pdrop=0.1,
            attn_pdrop=0.1,
            resid_pdrop=0.1,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(warmup_steps=5),
        batch=BatchConfig(sequences=4, accumulation=2),
        watch=WatchConfig(validate_every=10, validation_sequences=8, checkpoint_every=7),
        steps=steps,
    )


if __name__ == "__main__":
    from pathlib import Path

    from gpt2lab.tokens.shards import read_tokens_info

    tokens, out, steps = sys.argv[1:]
    gpt2lab.train(small_recipe(read_tokens_info(Path(tokens)).vocab_size, int(steps)), tokens, out)
