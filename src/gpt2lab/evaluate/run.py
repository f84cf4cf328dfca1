"""Running a task on a model: rows go to disk as they are scored, so that a killed run goes on where it was."""

import hashlib
import json
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gpt2lab.base.errors import BadInput, BadOption, explain_full_disk
from gpt2lab.base.files import read_json, whole_file, write_json
from gpt2lab.base.progress import progress_bar, say
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.results import (
    ItemOverlap,
    ModelIdentity,
    Row,
    TaskIdentity,
    TaskResult,
    read_rows,
    task_identity,
)
from gpt2lab.evaluate.scoring import Pair, Scores, score_as_done
from gpt2lab.evaluate.tasks.task import Predicts, Question, Task, UnfitModel
from gpt2lab.generate.language_model import LanguageModel

CODE_OF_SCORES = ("datasets", "evaluate", "model", "tokens")
"""The parts of the package that a score depends on."""
FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class PreparedTask:
    """A task whose set has been read and made into questions for a model."""

    label: str
    task: Task
    found: EvaluationSet[Any]
    questions: Sequence[Question]
    identity: TaskIdentity

    @property
    def pairs(self) -> list[Pair]:
        """All that a model has to score."""
        return [pair for question in self.questions for pair in question.pairs]


def identify_model(source: str, model: LanguageModel) -> ModelIdentity:
    """What a model is: SHA-256 over its tensors in order of names, and over what its configuration says beside them.

    That is heads, activation, the layer norms' epsilon.
    """
    config = model.network.config
    digest = hashlib.sha256(f"{config.n_head} {config.activation_function} {config.layer_norm_epsilon}\n".encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    context_length = model.network.config.context_length
    return ModelIdentity(source, parameters, context_length, digest.hexdigest(), model.tokenizer.sha256)


@cache
def code_sha256() -> str:
    """SHA-256 of the source files that scores depend on."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(file for part in CODE_OF_SCORES for file in (package / part).rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def prepare_task(
    label: str, task: Task, model: LanguageModel, identity: ModelIdentity, source: DataSource, limit: int | None = None
) -> PreparedTask:
    """Read a task's set and make its questions (the first `limit` of them).

    Raises BadInput where the set is absent or not the published one, or has no items, UnfitModel where an item alone is
    longer than the model's context.
    """
    found = task.read(source)
    try:
        questions = task.questions(found, model.tokenizer, model.network.config.context_length)[:limit]
    except BadInput as error:
        raise type(error)(f"{label}: {error}") from None
    if not questions:
        raise BadInput(f"{label}: the set has no items.")
    _check_lengths(label, questions, model.network.config.context_length)
    if len({question.name for question in questions}) < len(questions):
        raise BadInput(f"{label}: two items of the set have the same name.")
    options: dict[str, Any] = asdict(task)  # type: ignore[call-overload]
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    if limit is not None:
        options["limit"] = limit
    of = TaskIdentity(task.name, task.version, options, found.files, identity, code_sha256())
    return PreparedTask(label, task, found, questions, of)


def _check_lengths(label: str, questions: Sequence[Question], context_length: int) -> None:
    """Raise UnfitModel where a continuation is longer than the context.

    Scored in parts it would be another question, and left out the set would be another set.
    """
    for question in questions:
        longest = max(len(pair.continuation) for pair in question.pairs)
        if longest > context_length:
            raise UnfitModel(
                f"{label}: item {question.name}: a continuation of {longest:,} tokens can't be scored by a model with a"
                f" context of {context_length:,}; take a model with a longer one, or leave the set out."
            )


def run_task(
    model: LanguageModel,
    identity: ModelIdentity,
    label: str,
    task: Task,
    source: DataSource,
    out: Path | None = None,
    limit: int | None = None,
) -> TaskResult:
    """Prepare a task, score it and make its metrics; raises as `prepare_task` and `score_items` do."""
    prepared = prepare_task(label, task, model, identity, source, limit)
    start = time.monotonic()
    rows = score_items(model, prepared, out)
    return task_result(model, prepared, rows, time.monotonic() - start)


def score_items(model: LanguageModel, prepared: PreparedTask, out: Path | None = None) -> list[Row]:
    """A row for each question, in their order.

    With `out` the rows are written below, and those that a killed run with the same identity left are kept. Raises
    BadOption where `out` holds rows of another model, BadInput where an item can't be scored.
    """
    label = prepared.label
    kept = _KeptRows(out, prepared) if out is not None else None
    rows = dict(kept.rows) if kept else {}
    if rows:
        say(f"{label}: {len(rows):,} of {len(prepared.questions):,} items were scored before.")
    if len(rows) < len(prepared.questions):
        for row in _score_questions(model, prepared, rows):
            rows[row["item"]] = row
            if kept:
                kept.add(row)
    in_order = [rows[question.name] for question in prepared.questions]
    if kept:
        kept.finish(in_order)
    return in_order


def task_result(
    model: LanguageModel,
    prepared: PreparedTask,
    rows: Sequence[Row],
    seconds: float,
    overlap: ItemOverlap | None = None,
) -> TaskResult:
    """A task's figures from its rows."""
    task = prepared.task
    return TaskResult(
        label=prepared.label,
        title=task.title,
        protocol=protocol_words(task),
        identity=prepared.identity,
        metrics=tuple(task.metrics(rows)),
        items=len(rows),
        facts=task.facts(prepared.found, model.tokenizer),
        truncated=sum(row["truncated"] > 0 for row in rows),
        scored_tokens=sum(len(pair.continuation) for pair in prepared.pairs),
        seconds=seconds,
        overlap=overlap,
    )


def protocol_words(task: Task) -> str:
    """A task's protocol in words: its docstring, a paragraph a line."""
    paragraphs = (type(task).__doc__ or "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _score_questions(model: LanguageModel, prepared: PreparedTask, known: Container[str]) -> Iterator[Row]:
    """The rows of the questions that are not `known`, in the order in which they are done."""
    task, questions = prepared.task, prepared.questions
    owners = [(number, place) for number, question in enumerate(questions) for place in range(len(question.pairs))]
    pairs = prepared.pairs
    done = {number for number, (owner, _) in enumerate(owners) if questions[owner].name in known}
    tokens = [len(pair.context) + len(pair.continuation) for pair in pairs]
    scores: dict[int, dict[int, Scores]] = {}
    with progress_bar(prepared.label, sum(tokens), "tokens") as bar:
        bar.skip(sum(tokens[number] for number in done))
        for number, found in score_as_done(model.network, pairs, task.banned(model.tokenizer), done):
            owner, place = owners[number]
            question = questions[owner]
            so_far = scores.setdefault(owner, {})
            so_far[place] = found
            bar.advance(tokens[number])
            if len(so_far) < len(question.pairs):
                continue
            of_item = [so_far[place] for place in range(len(question.pairs))]
            del scores[owner]
            truncated = max(each.truncated for each in of_item)
            row = {"item": question.name, **question.facts, **task.row(question, of_item), "truncated": truncated}
            if isinstance(task, Predicts):
                row |= task.predict(model, question)
            yield row


class _KeptRows:
    """The rows of a task on disk: a file that grows while they are scored, in the set's order when all are there."""

    def __init__(self, out: Path, prepared: PreparedTask) -> None:
        self._out, self._label = out, prepared.label
        folder = out / "items"
        self._identity_file = folder / f"{prepared.label}.json"
        self._partial = folder / f"{prepared.label}.partial.jsonl"
        self._whole = folder / f"{prepared.label}.jsonl"
        self._flushed = 0.0
        self.rows: dict[str, Row] = {}
        folder.mkdir(parents=True, exist_ok=True)
        before = _identity_in(self._identity_file)
        for there in map(_identity_in, sorted(folder.glob("*.json"))):
            if there is not None and there.model.weights_sha256 != prepared.identity.model.weights_sha256:
                raise BadOption(f"{out}: holds results of another model ({there.model.source}); name another folder.")
        if before is not None and _without_places(before) == _without_places(prepared.identity):
            self._read(prepared)
        else:
            if before is not None:
                say(f"{self._label}: scored anew, for its options, data or code are not those of the rows on disk.")
            self._partial.unlink(missing_ok=True)
            self._whole.unlink(missing_ok=True)
            write_json(self._identity_file, asdict(prepared.identity))
        self._handle = self._partial.open("a", encoding="utf-8") if not self._whole.exists() else None

    def _read(self, prepared: PreparedTask) -> None:
        if self._whole.exists():
            self.rows = {row["item"]: row for row in read_rows(self._out, self._label)}
            if all(question.name in self.rows for question in prepared.questions):
                return
            self._whole.replace(self._partial)  # someone took lines out of it
        if not self._partial.exists():
            return
        data = self._partial.read_bytes()
        self.rows, kept = {}, 0
        for line in data.splitlines(keepends=True):
            row = _row_of(line)
            if row is None:  # killed in the middle of it; a row after it is scored again
                break
            self.rows[row["item"]] = row
            kept += len(line)
        if kept < len(data):
            with whole_file(self._partial) as handle:
                handle.write(data[:kept])

    def add(self, row: Row) -> None:
        """Keep one more row."""
        assert self._handle is not None
        with explain_full_disk(self._partial):
            self._handle.write(json.dumps(row, allow_nan=False) + "\n")
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._handle.flush()
                self._flushed = time.monotonic()

    def finish(self, rows: Sequence[Row]) -> None:
        """Write all rows in the set's order."""
        if self._handle is None:
            return
        self._handle.close()
        with whole_file(self._whole, "w") as handle:
            handle.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        self._partial.unlink()


def _identity_in(file: Path) -> TaskIdentity | None:
    """The identity in a file; None where there is none that can be read."""
    if not file.exists():
        return None
    try:
        return task_identity(read_json(file))
    except (BadInput, KeyError, TypeError):
        return None


def _without_places(identity: TaskIdentity) -> TaskIdentity:
    """An identity without the paths by which model and files were named: the same ones may lie elsewhere now."""
    return replace(
        identity,
        options={name: value for name, value in identity.options.items() if name != "file"},
        files=tuple(replace(file, path="") for file in identity.files),
        model=replace(identity.model, source=""),
    )


def _row_of(line: bytes) -> Row | None:
    """The row of a whole line; None where it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if line.endswith(b"\n") and isinstance(row, dict) and "item" in row else None
