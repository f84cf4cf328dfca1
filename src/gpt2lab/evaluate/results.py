"""What an evaluation leaves on disk, as read back by reports and comparisons.

OUT/results.json           `SuiteResult`: every task's metrics, with what they are of
OUT/items/LABEL.jsonl      one row an item, in the set's order
OUT/items/LABEL.json       what the rows are of: `TaskIdentity`; there from the first row on
OUT/report.html
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import read_json, write_json
from gpt2lab.datasets.evaluation_sets import FoundFile
from gpt2lab.evaluate.statistics import Metric

Suite = Literal["table3", "choices", "all"]
ProtocolName = Literal["paper", "fast", "lm-eval"]
Row = dict[str, Any]
"""The results of one item, to be written as JSON; `item` is its name."""


@dataclass(frozen=True)
class ModelIdentity:
    """A model: what it was called, its size, and the SHA-256 of its weights and of its tokenizer."""

    source: str
    parameters: int
    context_length: int
    weights_sha256: str
    tokenizer_sha256: str


@dataclass(frozen=True)
class TaskIdentity:
    """All that a task's rows depend on: two runs with the same identity have the same rows."""

    task: str
    version: int
    options: dict[str, Any]
    files: tuple[FoundFile, ...]
    model: ModelIdentity
    code_sha256: str


@dataclass(frozen=True)
class ItemOverlap:
    """8-grams of a set's items that are in the model's training documents, and the metrics without such items."""

    training: tuple[str, ...]
    grams: int
    overlapping_grams: int
    items: int
    overlapping_items: int
    metrics_without: tuple[Metric, ...]


@dataclass(frozen=True)
class TaskResult:
    """One task's figures. `label` is its name in the suite; `facts` say what the set is under the task's options.

    `truncated`: items that lost the start of their context.
    """

    label: str
    title: str
    protocol: str
    identity: TaskIdentity
    metrics: tuple[Metric, ...]
    items: int
    facts: dict[str, Any]
    truncated: int
    scored_tokens: int
    seconds: float
    overlap: ItemOverlap | None = None


@dataclass(frozen=True)
class SuiteResult:
    """The figures of one model on a suite of tasks; `absent` are tasks that were left out, and why."""

    suite: str
    protocol: str
    model: ModelIdentity
    tasks: tuple[TaskResult, ...]
    command: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    absent: dict[str, str] = field(default_factory=dict)


def write_results(out: Path, result: SuiteResult) -> None:
    """Write `results.json`."""
    write_json(out / "results.json", asdict(result))


def read_results(out: Path) -> SuiteResult:
    """Read a folder's `results.json` (or the file itself). Raises BadInput where it is none."""
    path = out / "results.json" if out.is_dir() else out
    if path != out and not path.exists():
        raise BadInput(f"{out}: no results.json in it; make one with `gpt2lab evaluate ... --out {out}`.")
    found = read_json(path)
    try:
        return _suite(found)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path}: not the results of an evaluation ({error}); evaluate again.") from None


def read_rows(out: Path, label: str) -> list[Row]:
    """The rows of a task in a folder of results."""
    path = out / "items" / f"{label}.jsonl"
    if not path.is_file():
        raise BadInput(f"{path} is absent: the results' items are needed; evaluate again.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
            rows[-1]["item"]
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{path}: line {number:,} is no row of results; remove the file, evaluate again.") from None
    return rows


def _suite(found: dict[str, Any]) -> SuiteResult:
    return SuiteResult(
        **found
        | {"model": ModelIdentity(**found["model"]), "tasks": tuple(_task_result(task) for task in found["tasks"])}
    )


def _task_result(found: dict[str, Any]) -> TaskResult:
    overlap = found["overlap"]
    return TaskResult(
        **found
        | {
            "identity": task_identity(found["identity"]),
            "metrics": _metrics(found["metrics"]),
            "overlap": overlap
            and ItemOverlap(
                **overlap
                | {"training": tuple(overlap["training"]), "metrics_without": _metrics(overlap["metrics_without"])}
            ),
        }
    )


def task_identity(found: dict[str, Any]) -> TaskIdentity:
    """A `TaskIdentity` from its JSON."""
    return TaskIdentity(
        **found
        | {"files": tuple(FoundFile(**file) for file in found["files"]), "model": ModelIdentity(**found["model"])}
    )


def _metrics(found: Sequence[dict[str, Any]]) -> tuple[Metric, ...]:
    return tuple(Metric(**metric) for metric in found)
