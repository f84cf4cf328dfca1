"""A speech recognizer's n-best lists: what each utterance may have been, each with the recognizer's log score.

| form | what |
|---|---|
| JSON lines | `{"id": ..., "hypotheses": [{"text": ..., "score": ...}, ...], "reference": ...}`, maybe no reference |
| ESPnet's decode folder | `1best_recog/`, `2best_recog/` ... each with `text` and `score`, lines of an id and a value |
| Kaldi's n-best archives | a folder with `words_text`, `acwt` and, maybe, `lmwt.nolm`, whose ids are UTTERANCE-N |

Kaldi keeps costs: a score is minus their sum, the acoustic one unscaled. References for folders are a file of lines of
an id and the words, as both tools have them.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.texts import Record, open_bytes, read_json_lines

_BEST = re.compile(r"(\d+)best_recog")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Hypothesis:
    """What may have been said, and the recognizer's log score of it (higher is better)."""

    text: str
    score: float


@dataclass(frozen=True)
class Utterance:
    """An utterance's hypotheses in the file's order, and what was said, where that is known."""

    id: str
    hypotheses: tuple[Hypothesis, ...]
    reference: str | None = None


def read_nbest_lists(place: Path, references: Path | None = None) -> list[Utterance]:
    """Read lists in any of the forms above; `references` take the place of those in the file.

    Raises BadInput that names the file and line of what can't be used, and ids that come twice.
    """
    utterances = _read_folder(place) if place.is_dir() else _read_json_lines(place)
    if not utterances:
        raise BadInput(f"{place}: no utterances.")
    if references is None:
        return utterances
    said = _read_table(references)
    if said and not any(utterance.id in said for utterance in utterances):
        raise BadInput(
            f"{references}: has none of the ids of {place}: {next(iter(said))!r} there, {utterances[0].id!r} here."
        )
    return [replace(utterance, reference=said.get(utterance.id)) for utterance in utterances]


def _read_json_lines(path: Path) -> list[Utterance]:
    utterances: dict[str, Utterance] = {}
    for number, record in read_json_lines(path):
        place = f"{path}: line {number:,}"
        utterance = _utterance(record, place)
        if utterance.id in utterances:
            raise BadInput(f"{place}: id {utterance.id!r} comes twice; give each utterance its own.")
        utterances[utterance.id] = utterance
    return list(utterances.values())


def _utterance(record: Record, place: str) -> Utterance:
    match record:
        case {"id": str(name), "hypotheses": [_, *_] as found}:
            reference = record.get("reference")
            if reference is not None and not isinstance(reference, str):
                raise BadInput(f"{place}: its reference is no text; mend the line.")
            return Utterance(name, tuple(_hypothesis(each, place) for each in found), reference)
    raise BadInput(f"{place} has no id and hypotheses (a list that is not empty); mend the line.")


def _hypothesis(found: Any, place: str) -> Hypothesis:
    match found:
        case {"text": str(text), "score": int() | float() as score} if math.isfinite(score):
            return Hypothesis(text, float(score))
    raise BadInput(f"{place}: each hypothesis needs a text and a score that is a number; mend the line.")


def _read_folder(folder: Path) -> list[Utterance]:
    if (folder / "words_text").is_file():
        return _read_kaldi(folder)
    numbered = {int(found[1]): path for path in folder.iterdir() if (found := _BEST.fullmatch(path.name))}
    if not numbered:
        raise BadInput(f"{folder}: no n-best lists (1best_recog/ ..., or words_text with acwt); give JSON lines.")
    lists: dict[str, list[Hypothesis]] = {}
    for _, best in sorted(numbered.items()):
        scores = _read_table(best / "score")
        for name, text in _read_table(best / "text").items():
            lists.setdefault(name, []).append(Hypothesis(text, _number(scores, name, best / "score")))
    return [Utterance(name, tuple(hypotheses)) for name, hypotheses in lists.items()]


def _read_kaldi(folder: Path) -> list[Utterance]:
    costs = [_read_table(folder / "acwt")]
    if (folder / "lmwt.nolm").is_file():
        costs.append(_read_table(folder / "lmwt.nolm"))
    lists: dict[str, list[Hypothesis]] = {}
    for name, text in _read_table(folder / "words_text").items():
        utterance, dash, number = name.rpartition("-")
        if not dash or not number.isdigit():
            raise BadInput(f"{folder / 'words_text'}: id {name!r} does not end with - and a number.")
        cost = sum(_number(each, name, folder) for each in costs)
        lists.setdefault(utterance, []).append(Hypothesis(text, -cost))
    return [Utterance(name, tuple(hypotheses)) for name, hypotheses in lists.items()]


def _read_table(path: Path) -> dict[str, str]:
    """Lines of an id and the rest."""
    rows: dict[str, str] = {}
    with open_bytes(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                name, _, rest = line.decode("utf-8").strip().partition(" ")
            except UnicodeDecodeError:
                raise BadInput(f"{path}: line {number:,} is not UTF-8; convert the file (iconv -t utf-8).") from None
            if name in rows:
                raise BadInput(f"{path}: line {number:,}: id {name!r} comes twice; give each its own.")
            if name:
                rows[name] = rest.strip()
    return rows


def _number(table: dict[str, str], name: str, place: Path) -> float:
    """The number in a row: ESPnet writes `tensor(-1.25)`."""
    found = _NUMBER.search(table.get(name, ""))
    if found is None:
        raise BadInput(f"{place}: no score of {name!r}; give each hypothesis its own.")
    return float(found[0])
