"""Which tasks there are: suites by protocol, and options given by name."""

import importlib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gpt2lab.base.errors import BadOption
from gpt2lab.evaluate.results import ProtocolName, Suite
from gpt2lab.evaluate.tasks.own_items import OwnChoices, OwnCloze
from gpt2lab.evaluate.tasks.own_text import OwnText
from gpt2lab.evaluate.tasks.task import Task

_NOT_IN_LABELS = re.compile(r"[^\w-]+")
_MODULES: dict[Suite, tuple[str, ...]] = {
    "table3": ("lambada", "cbt", "wikitext", "ptb", "enwik8", "text8", "one_billion_words"),
    "choices": ("winograd", "hellaswag", "piqa", "arc", "winogrande", "boolq"),
}
_MODULES["all"] = (*_MODULES["table3"], *_MODULES["choices"])


def tasks_of(suite: Suite, protocol: ProtocolName) -> dict[str, Task]:
    """The tasks of a suite by their labels.

    A module has PAPER (sets that the paper lacks have LM_EVAL alone, which then is their protocol), FAST where that
    differs, LM_EVAL where the harness has the set.
    """
    tasks: dict[str, Task] = {}
    for name in _MODULES[suite]:
        of = vars(importlib.import_module(f"gpt2lab.evaluate.tasks.{name}"))
        if protocol == "lm-eval":
            tasks |= of.get("LM_EVAL", {})
        else:
            paper = of["PAPER"] if "PAPER" in of else of["LM_EVAL"]
            tasks |= of.get("FAST", paper) if protocol == "fast" else paper
    return tasks


def own_tasks(texts: Sequence[Path], clozes: Sequence[Path], choices: Sequence[Path]) -> dict[str, Task]:
    """Tasks of a user's own files, each by its file's name. Raises BadOption where two have the same."""
    tasks: dict[str, Task] = {}
    kinds = ((OwnText, texts), (OwnCloze, clozes), (OwnChoices, choices))
    for kind, file in [(kind, file) for kind, files in kinds for file in files]:
        label = _NOT_IN_LABELS.sub("-", file.name)
        if label in tasks:
            raise BadOption(f"{file}: another file of this name is given; rename one.")
        tasks[label] = kind(file=file)
    return tasks


def chosen_tasks(tasks: dict[str, Task], labels: Sequence[str]) -> dict[str, Task]:
    """Those of some labels, or all. Raises BadOption for an unknown label."""
    if unknown := [label for label in labels if label not in tasks]:
        raise BadOption(f"--tasks {unknown[0]}: no task of this name here; there are {', '.join(tasks)}.")
    return {label: task for label, task in tasks.items() if not labels or label in labels}


def with_options(tasks: dict[str, Task], settings: Sequence[str]) -> dict[str, Task]:
    """The tasks with settings LABEL.OPTION=VALUE. Raises BadOption, which says what there is to choose from."""
    changed = dict(tasks)
    for setting in settings:
        place, equals, value = setting.partition("=")
        label, point, option = place.partition(".")
        if not equals or not point:
            raise BadOption(f"--set {setting}: say TASK.OPTION=VALUE, as in --set lambada.filter=none.")
        if label not in tasks:
            raise BadOption(f"--set {setting}: no task {label!r} is to be run; there are {', '.join(tasks)}.")
        changed[label] = _with_option(changed[label], option, value, setting)
    return changed


def options_of(task: Task) -> dict[str, tuple[Any, ...]]:
    """The options of a task, and what each can be (nothing listed: any number, or text)."""
    hints = typing.get_type_hints(type(task))
    return {field.name: tuple(_choices(hints[field.name])) for field in fields(task)}  # type: ignore[arg-type]


def _choices(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [choice for part in get_args(hint) for choice in _choices(part)]
    if typing.get_origin(hint) is Literal:
        return list(get_args(hint))
    if hint is type(None):
        return [None]
    return [False, True] if hint is bool else []


def _with_option(task: Task, option: str, value: str, setting: str) -> Task:
    known = options_of(task)
    if option not in known:
        raise BadOption(f"--set {setting}: {task.name} has no option {option!r}; it has {', '.join(known)}.")
    by_word = {str(choice).lower(): choice for choice in known[option]}
    if value.lower() in by_word:
        return replace(task, **{option: by_word[value.lower()]})  # type: ignore[type-var]
    hint = typing.get_type_hints(type(task))[option]
    for kind in (int, float, str):
        if hint is kind or kind in get_args(hint):
            try:
                return replace(task, **{option: kind(value)})  # type: ignore[type-var]
            except ValueError:
                break
    allowed = ", ".join(map(str, known[option])) or "a number"
    raise BadOption(f"--set {setting}: {option} can be {allowed}.")
