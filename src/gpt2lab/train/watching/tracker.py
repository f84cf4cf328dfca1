"""The same lines of metrics for trackio or wandb, each an extra; a run taken up again goes on in the same run there."""

import importlib
import importlib.util
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import read_json, write_json
from gpt2lab.train.recipe import Recipe, recipe_to_json

Tracker = Callable[[int, Mapping[str, float]], None]
"""Takes the step and the values of a line of metrics."""


def check_tracker(recipe: Recipe) -> None:
    """Raise BadOption where the recipe asks for a tracker that is not installed."""
    name = recipe.watch.tracker
    if name != "none" and importlib.util.find_spec(name) is None:
        raise BadOption(f"watch.tracker = {name}: it is not installed; pip install 'gpt2lab[{name}]'.")


@contextmanager
def open_tracker(recipe: Recipe, run: Path) -> Iterator[Tracker | None]:
    """The recipe's tracker while the run goes on; None where it asks for none.

    The name of the run there is kept in `run/tracker.json`. Raises BadOption where the tracker can't be used.
    """
    if recipe.watch.tracker == "none":
        yield None
        return
    check_tracker(recipe)
    run_id = _run_id(recipe, run)
    with redirect_stdout(sys.stderr):  # standard output is for results
        opened = (_open_trackio if recipe.watch.tracker == "trackio" else _open_wandb)(recipe, run, run_id)
    log, finish = opened
    try:
        yield log
    finally:
        with redirect_stdout(sys.stderr):
            finish()


def _run_id(recipe: Recipe, run: Path) -> str:
    """The run's name at the tracker: drawn once for each tracker and project."""
    path, asked = run / "tracker.json", {"tracker": recipe.watch.tracker, "project": recipe.watch.project}
    known = read_json(path) if path.exists() else {}
    if {name: known.get(name) for name in asked} != asked:
        known = asked | {"run": f"{run.resolve().name}-{secrets.token_hex(4)}"}
        write_json(path, known)
    return str(known["run"])


def _open_trackio(recipe: Recipe, _: Path, run_id: str) -> tuple[Tracker, Any]:
    trackio = importlib.import_module("trackio")
    opened = trackio.init(
        project=recipe.watch.project,
        name=run_id,
        config=recipe_to_json(recipe),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )

    def log(step: int, values: Mapping[str, float]) -> None:
        opened.log(dict(values), step=step)

    return log, trackio.finish


def _open_wandb(recipe: Recipe, run: Path, run_id: str) -> tuple[Tracker, Any]:
    wandb = importlib.import_module("wandb")
    try:
        opened = wandb.init(
            project=recipe.watch.project,
            id=run_id,
            name=run_id,
            config=recipe_to_json(recipe),
            dir=run,
            resume="allow",
            settings=wandb.Settings(console="off", x_disable_stats=True, disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        why = " ".join(str(error).split())
        remedy = "`wandb login`, or WANDB_MODE=offline, or watch.tracker = none"
        raise BadOption(f"watch.tracker = wandb: {why} ({remedy}).") from None
    # Steps that a kill made undone come twice. By a step of its own wandb would drop the second; by this one they meet.
    opened.define_metric("step")
    opened.define_metric("*", step_metric="step")

    def log(step: int, values: Mapping[str, float]) -> None:
        opened.log({"step": step, **values})

    return log, opened.finish
