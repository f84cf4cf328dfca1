"""What a run records: `metrics.jsonl`, one line a step and one a validation, and the same for TensorBoard."""

import json
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import whole_file


class MetricsLog(AbstractContextManager["MetricsLog"]):
    """The records of a run from `step` on; those that an earlier call made of later steps are cut away."""

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        path = run / "metrics.jsonl"
        kept = [line for line in _whole_lines(path) if step and json.loads(line)["step"] <= step]
        with whole_file(path, "w") as handle:
            handle.writelines(kept)
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(str(run), purge_step=step + 1)

    def record(self, step: int, values: dict[str, float | str]) -> None:
        """Write one line; numbers that are not finite are left out, for JSON has none."""
        kept = {
            name: value for name, value in values.items() if not (isinstance(value, float) and not math.isfinite(value))
        }
        self._file.write(json.dumps({"step": step} | kept) + "\n")
        self._file.flush()
        for name, value in kept.items():
            if not isinstance(value, str):
                self._board.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; raises BadInput where there is none."""
    path = run / "metrics.jsonl"
    if not path.exists():
        raise BadInput(f"{run}: no run folder (no metrics.jsonl here).")
    return [json.loads(line) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline; the last one may have been cut by a kill."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
