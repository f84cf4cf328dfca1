"""What a run records: `metrics.jsonl`, one line a step and one a validation, and `samples.jsonl`.

TensorBoard gets the same, and the recipe's tracker the metrics.
"""

import json
import math
import sys
import types
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import whole_file
from gpt2lab.train.watching.samples import Sample
from gpt2lab.train.watching.tracker import Tracker


class MetricsLog(AbstractContextManager["MetricsLog"]):
    """The records of a run from `step` on; those that an earlier call made of later steps are cut away."""

    def __init__(self, run: Path, step: int, tracker: Tracker | None = None) -> None:
        # Without this module TensorBoard imports TensorFlow, where that is installed: three seconds and
        # a page of warnings for nothing that is used here.
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
        from torch.utils.tensorboard.writer import SummaryWriter

        self._samples_path = run / "samples.jsonl"
        _keep_until(step, run / "metrics.jsonl")
        if self._samples_path.exists():
            _keep_until(step, self._samples_path)
        self._metrics = (run / "metrics.jsonl").open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(str(run), purge_step=step + 1)
        self._tracker = tracker

    def record(self, step: int, values: dict[str, float | str]) -> None:
        """Write one line; numbers that are not finite are left out, for JSON has none."""
        kept = {
            name: value for name, value in values.items() if not (isinstance(value, float) and not math.isfinite(value))
        }
        self._metrics.write(json.dumps({"step": step} | kept) + "\n")
        self._metrics.flush()
        numbers = {name: value for name, value in kept.items() if not isinstance(value, str)}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker(step, numbers)

    def record_samples(self, samples: Sequence[Sample]) -> None:
        """Write one line for each."""
        with self._samples_path.open("a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)
        for number, sample in enumerate(samples, start=1):
            # Shown as Markdown: indented, a text stays as it is.
            shown = "\n".join(f"    {line}" for line in (sample.prompt + sample.text).splitlines())
            self._board.add_text(f"sample {number}", shown, sample.step)

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; raises BadInput where there is none."""
    path = run / "metrics.jsonl"
    if not path.exists():
        raise BadInput(f"{run}: no run folder (no metrics.jsonl here).")
    return [json.loads(line) for line in _whole_lines(path)]


def read_samples(run: Path) -> list[Sample]:
    """The lines of a run's `samples.jsonl`, none where it wrote none."""
    return [Sample(**json.loads(line)) for line in _whole_lines(run / "samples.jsonl")]


def _keep_until(step: int, path: Path) -> None:
    """Cut a file of lines after those of `step`."""
    kept = [line for line in _whole_lines(path) if step and json.loads(line)["step"] <= step]
    with whole_file(path, "w") as handle:
        handle.writelines(kept)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline; the last one may have been cut by a kill."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as handle:  # not splitlines: a sample may hold other line separators
        return [line for line in handle if line.endswith("\n")]
