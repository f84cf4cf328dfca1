"""What a sweep came to: its trials, the best of them, and whether it lies at the edge of what was tried."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json
from gpt2lab.pipelines.sweep_trials import Settings, Value, short_names

VALUES_THAT_HAVE_AN_EDGE = 3
"""Of two values one is always the smaller: that the best is there says nothing."""


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep; losses in nats a token on the held-out sequences after the last step."""

    number: int
    folder: str
    """within the sweep's"""
    settings: Settings
    status: Literal["waiting", "finished", "diverged", "failed"] = "waiting"
    reason: str = ""
    """why it diverged or failed"""
    steps: int | None = None
    val_loss: float | None = None
    val_bits_per_byte: float | None = None
    seconds: float | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do: a trial that failed is tried again, one that diverged would again."""
        return self.status in ("finished", "diverged")


@dataclass(frozen=True)
class Sweep:
    """A sweep, finished or under way."""

    folder: Path
    recipe: dict[str, Any]
    """what all trials share, as JSON"""
    tokens: tuple[str, ...]
    shards: list[list[str]]
    """SHA-256 of the shards of each folder of tokens"""
    trials: tuple[Trial, ...]

    @property
    def fields(self) -> list[str]:
        """The swept fields."""
        return list(self.trials[0].settings)

    @property
    def ranking(self) -> list[Trial]:
        """The finished trials, lowest validation loss first."""
        return sorted((trial for trial in self.trials if trial.status == "finished"), key=loss_of)

    @property
    def others(self) -> list[Trial]:
        """The trials that came to no result."""
        return [trial for trial in self.trials if trial.status != "finished"]

    def edges(self) -> list[str]:
        """A sentence for each number whose best value is the smallest or the largest tried."""
        return [note for field in self.fields if (note := self._edge(field))]

    def _edge(self, field: str) -> str:
        values = {trial.settings[field] for trial in self.trials if trial.over}
        numbers = sorted(value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
        if field == "seed" or len(numbers) < VALUES_THAT_HAVE_AN_EDGE or not self.ranking:
            return ""
        best = self.ranking[0].settings[field]
        if best == numbers[-1]:
            return f"the best {field}, {shown(best)}, is the largest tried: widen the range."
        if best == numbers[0] and best != 0:  # no decay at all is an end by nature
            return f"the best {field}, {shown(best)}, is the smallest tried: widen the range."
        return ""

    def next_command(self) -> str:
        """The command that trains as the best trial did."""
        recipe = self.folder / self.ranking[0].folder / "recipe.json"
        return shlex.join(["gpt2lab", "train", *self.tokens, "--out", "runs/best", "--recipe", str(recipe)])

    def to_json(self) -> dict[str, Any]:
        """What `sweep.json` says."""
        best = self.ranking[0] if self.ranking else None
        values = asdict(self)
        del values["folder"]
        return values | {
            "ranking": [trial.folder for trial in self.ranking],
            "best": best.folder if best else None,
            "best_settings": best.settings if best else None,
            "at_the_edge": self.edges(),
            "next": self.next_command() if best else None,
        }


def loss_of(trial: Trial) -> float:
    """The validation loss of a trial, infinite where there is none."""
    return math.inf if trial.val_loss is None else trial.val_loss


def read_sweep(folder: Path) -> Sweep:
    """Read `sweep.json`; raises BadInput where it is none."""
    path = folder / "sweep.json"
    found = read_json(path)
    try:
        trials = tuple(Trial(**trial) for trial in found["trials"])
        return Sweep(folder, found["recipe"], tuple(found["tokens"]), found["shards"], trials)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a sweep of this version ({error}). Choose another --out.") from None


def shown(value: Value) -> str:
    """A value as one would type it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def settings_text(settings: Settings, equals: str = " ", between: str = ", ") -> str:
    """Settings as words, by the short names of the fields: `learning_rate 0.001, weight_decay 0.1`."""
    names = short_names(list(settings))
    return between.join(f"{names[field]}{equals}{shown(value)}" for field, value in settings.items())


def ranked_rows(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of the ranking; trials without a result come last. Steps are shown where they differ."""
    names, ranking = short_names(sweep.fields), sweep.ranking
    differ = len({trial.steps for trial in ranking}) > 1
    columns = ["rank", "trial", *names.values(), "val loss", "to best", "bits/byte", *["steps"] * differ, "minutes"]
    rows = [
        [
            str(rank),
            f"{trial.number:03d}",
            *_values(trial, sweep.fields),
            f"{loss_of(trial):.4f}",
            f"{loss_of(trial) - loss_of(ranking[0]):+.4f}" if rank > 1 else "",
            f"{trial.val_bits_per_byte:.4f}",
            *[f"{trial.steps:,}"] * differ,
            f"{(trial.seconds or 0) / 60:.1f}",
        ]
        for rank, trial in enumerate(ranking, 1)
    ]
    rows += [
        [trial.status, f"{trial.number:03d}", *_values(trial, sweep.fields), *[""] * (4 + differ)]
        for trial in sweep.others
    ]
    return columns, rows


def _values(trial: Trial, fields: Sequence[str]) -> list[str]:
    return [shown(trial.settings[field]) for field in fields]
