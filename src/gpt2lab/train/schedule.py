"""Learning rate by step."""

import math

from gpt2lab.train.recipe import ScheduleConfig


def learning_rate_share(config: ScheduleConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step counted from 0, of `steps` in all."""
    if step < config.warmup_steps and config.warmup_from_zero:
        return step / config.warmup_steps
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.name == "constant":
        return 1.0
    if config.name == "inverse_sqrt":
        return math.sqrt((config.warmup_steps + 1) / (step + 1))
    start = config.warmup_steps
    if config.name == "warmup_stable_decay":
        start = max(start, steps - round(config.decay_share * steps))
    progress = min(1.0, max(0.0, (step - start) / max(1, steps - start)))
    height = 1 - progress if config.name == "warmup_stable_decay" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_share + (1 - config.final_share) * height
