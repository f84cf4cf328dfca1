"""The evaluation of a model by a suite of tasks: sets, scores, overlap with its training documents, results, report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import locked_folder, write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import say
from gpt2lab.datasets.evaluation_sets import AbsentSet, DataSource
from gpt2lab.evaluate.explain import Explanation, explain
from gpt2lab.evaluate.results import SuiteResult, TaskResult, read_results, write_results
from gpt2lab.evaluate.run import PreparedTask, identify_model, prepare_task, score_items, task_result
from gpt2lab.evaluate.scoring import predict_seconds
from gpt2lab.evaluate.tasks.task import Task, UnfitModel
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.pipelines.evaluation_report import left_out, write_evaluation_report
from gpt2lab.pipelines.item_overlap import item_overlap, items_overlap


@dataclass(frozen=True)
class Evaluated:
    """A model and the tasks that it is to be evaluated by, their sets read."""

    model: LanguageModel
    source: str
    prepared: tuple[PreparedTask, ...]
    absent: dict[str, str]


def prepare(
    source: str, tasks: Mapping[str, Task], data: DataSource, *, limit: int | None = None, all_needed: bool = False
) -> Evaluated:
    """Open a model and read the sets.

    Sets that are nowhere to be found, or not for this model, are left out, unless `all_needed`.

    Raises BadInput for a set that is not the published one, and where none is found.
    """
    model = LanguageModel.load(source)
    identity = identify_model(source, model)
    prepared, absent = [], {}
    for label, task in tasks.items():
        try:
            prepared.append(prepare_task(label, task, model, identity, data, limit))
        except (AbsentSet, UnfitModel) as error:
            if all_needed:
                raise
            absent[label] = str(error).removeprefix(f"{label}: ")
    if not prepared:
        raise BadInput(
            f"none of the sets can be evaluated on; for one, {next(iter(absent.values()), 'no task was named.')}"
        )
    return Evaluated(model, source, tuple(prepared), absent)


def predicted_seconds(evaluated: Evaluated) -> float:
    """How long scoring all of it will take on this machine, by a short measurement."""
    return predict_seconds(evaluated.model.network, (prepared.pairs for prepared in evaluated.prepared))


def explain_suite(
    evaluated: Evaluated, data: DataSource, out: Path | None = None, limit: int | None = None
) -> list[Explanation]:
    """Run the options worth telling apart of each set; see `evaluate.explain.explain`."""
    tasks = {prepared.label: prepared.task for prepared in evaluated.prepared}
    identity = evaluated.prepared[0].identity.model
    if out is None:
        return explain(evaluated.model, identity, tasks, data, None, limit)
    with locked_folder(out):
        explanations = explain(evaluated.model, identity, tasks, data, out, limit)
        write_json(out / "explanation.json", [asdict(each) for each in explanations])
    return explanations


def evaluate_suite(
    evaluated: Evaluated,
    out: Path | None,
    *,
    suite: str,
    protocol: str,
    command: str,
    training: Sequence[Path] = (),
    beside: Sequence[SuiteResult] = (),
) -> SuiteResult:
    """Score all tasks; with `out` results, rows and a report are written there, and a killed run goes on.

    `training` are the model's training documents: each task's overlap with them is measured. `beside` are other runs
    for the report's pictures. What `out` holds of other tasks of the same model stays. Raises BadOption where it holds
    another model's results.
    """
    if out is None:
        return _suite_result(evaluated, None, suite, protocol, command, training)
    with locked_folder(out):
        result = _suite_result(evaluated, out, suite, protocol, command, training)
        if (out / "results.json").exists():
            result = _with_earlier(result, read_results(out))
        write_results(out, result)
        write_evaluation_report(out, result, beside)
    return result


def _with_earlier(result: SuiteResult, earlier: SuiteResult) -> SuiteResult:
    """The result with the same model's tasks that were evaluated before into the same folder, and not now."""
    if earlier.model.weights_sha256 != result.model.weights_sha256:
        return result
    labels = {task.label for task in result.tasks}
    tasks = (*(task for task in earlier.tasks if task.label not in labels), *result.tasks)
    there = {task.label for task in tasks}
    absent = {label: why for label, why in (earlier.absent | result.absent).items() if label not in there}
    return replace(result, tasks=tasks, absent=absent)


def _suite_result(
    evaluated: Evaluated, out: Path | None, suite: str, protocol: str, command: str, training: Sequence[Path]
) -> SuiteResult:
    for labels, why in left_out(evaluated.absent):
        say(f"{labels}: left out: {why}")
    shares = {}
    if training:
        texts = {each.label: [question.text for question in each.questions] for each in evaluated.prepared}
        shares = items_overlap(texts, training)
    results: list[TaskResult] = []
    for prepared in evaluated.prepared:
        start = time.monotonic()
        rows = score_items(evaluated.model, prepared, out)
        seconds = time.monotonic() - start
        overlap = item_overlap(prepared.task, rows, shares[prepared.label], training) if training else None
        results.append(task_result(evaluated.model, prepared, rows, seconds, overlap))
    return SuiteResult(
        suite=suite,
        protocol=protocol,
        model=evaluated.prepared[0].identity.model,
        tasks=tuple(results),
        command=command,
        versions=describe_versions(),
        machine=describe_machine(),
        absent=evaluated.absent,
    )
