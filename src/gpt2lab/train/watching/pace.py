"""How fast a run goes now, and when it will end."""

import time
from collections import deque

STEPS_OF_SPEED = 20


class Pace:
    """The pace of the newest steps; `step_ended` tells it of each."""

    def __init__(self, tokens_a_step: int, validate_every: int) -> None:
        self._tokens_a_step = tokens_a_step
        self._step_seconds: deque[float] = deque(maxlen=STEPS_OF_SPEED)
        # As many as hold two validations: those take their time, too.
        self._ends: deque[float] = deque(maxlen=max(STEPS_OF_SPEED, 2 * validate_every) + 1)

    def step_ended(self, seconds: float) -> None:
        """A step is over, its validation too; it took `seconds` itself."""
        self._step_seconds.append(seconds)
        self._ends.append(time.monotonic())

    @property
    def tokens_per_second(self) -> float:
        """Of the newest steps alone, without what lies between them."""
        seconds = sum(self._step_seconds)
        return self._tokens_a_step * len(self._step_seconds) / seconds if seconds else 0.0

    def seconds_left(self, steps: int) -> float | None:
        """Until `steps` more are done, validations and checkpoints counted; None before a second step has ended."""
        # From the end of the first step on: it may have compiled the network.
        if len(self._ends) < 2:
            return None
        return steps * (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
