"""Learning rate by step."""

import math

from gpt2lab.train.recipe import ScheduleConfig


def learning_rate_share(config: ScheduleConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step counted from 0, of `steps` in all."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
