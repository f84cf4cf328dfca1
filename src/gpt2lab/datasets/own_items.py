"""A user's own questions: texts to choose from, and words to be found.

Choices (`--choices FILE.jsonl`), an object a line:

| part | keys | value |
|---|---|---|
| what comes before | `context`, `query`, `question`, `prompt` or `ctx` | a text, maybe an empty one |
| what may follow | `choices`, `options` or `endings` | a list of texts; ARC's kind: {"text": [...], "label": [...]} |
| the right one | `answer`, `gold`, `label` or `answerKey` | its place from 0, itself, or its letter or label |

or, where the beginnings differ and not the ends: `context_options`, `continuation` and the right one (llm-foundry's
form). Between the two parts comes a space, unless one of them brings white space.

Cloze (`--cloze FILE`): a text file, a passage a line, whose last word is to be found, as in LAMBADA (marks after it are
left out); or JSON lines with such a passage as `text`, or with a gap in the manner of the Children's Book Test:

| part | keys | value |
|---|---|---|
| the text | `text`, `query`, `question` or `sentence` | with one gap: `XXXXX`, `[MASK]`, or three or more `_` |
| what comes before it | `context`, which may be left out | a text, or a list of sentences |
| the words | `candidates`, `choices` or `options` | a list of texts |
| the right one | `answer`, `gold` or `label` | itself, its place from 0, or its letter |
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import EvaluationSet, FoundFile
from gpt2lab.datasets.texts import Record, open_bytes, read_json_lines, read_plain_pieces, suffix_of

_BEFORE = ("context", "query", "question", "prompt", "ctx")
_CHOICES = ("choices", "options", "endings", "candidates")
_RIGHT = ("answer", "gold", "label", "answerKey")
_GAP_TEXT = ("text", "query", "question", "sentence")
_GAP = re.compile(r"XXXXX|\[MASK\]|_{3,}")
_LAST_WORD = re.compile(r"\A(.*\S)(\s+\S*?\w)\W*\Z", re.DOTALL)


@dataclass(frozen=True)
class OwnItem:
    """(what is given, what is scored) a choice, the place of the right one, and the whole text with it.

    A word to be found without candidates is the only choice. `lengths` are those of the texts offered, in characters.
    """

    choices: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    answer: int
    text: str


def read_own_choices(path: Path) -> EvaluationSet[OwnItem]:
    """The items of a file of choices. Raises BadInput that names the line and what it lacks."""
    items = tuple(_choice_item(record, f"{path}: line {number:,}") for number, record in _records(path))
    return _as_set(path, items)


def read_own_cloze(path: Path) -> EvaluationSet[OwnItem]:
    """The items of a cloze file. Raises BadInput that names the line and what it lacks."""
    if suffix_of(path) == ".jsonl":
        return _as_set(path, tuple(_gap_item(record, f"{path}: line {n:,}") for n, record in _records(path)))
    lines = "".join(read_plain_pieces(path)).split("\n")
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return _as_set(path, tuple(_last_word(line, f"{path}: line {number:,}") for number, line in numbered))


def _as_set(path: Path, items: tuple[OwnItem, ...]) -> EvaluationSet[OwnItem]:
    if not items:
        raise BadInput(f"{path}: has no items; give one a line.")
    digest = hashlib.sha256()
    with open_bytes(path) as handle:
        while data := handle.read(1 << 20):
            digest.update(data)
    return EvaluationSet(items, (FoundFile(path.name, str(path), digest.hexdigest(), None),))


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    if suffix_of(path) != ".jsonl":
        raise BadInput(f"{path}: give JSON lines, in a file named *.jsonl.")
    return read_json_lines(path)


def _choice_item(record: Record, place: str) -> OwnItem:
    if "context_options" in record:
        contexts = _texts(record["context_options"], "context_options", place)
        end = record.get("continuation")
        if not isinstance(end, str) or not end.strip():
            raise BadInput(f"{place} has no text 'continuation'; mend the line.")
        right = _right_one(record, contexts, contexts, place)
        choices = tuple((context, _after(context, end)) for context in contexts)
        return OwnItem(choices, (len(end),) * len(contexts), right, "".join(choices[right]))
    before = record[_key(record, _BEFORE, place)]
    if not isinstance(before, str):
        raise BadInput(f"{place}: its {_key(record, _BEFORE, place)!r} is no text; mend the line.")
    key = _key(record, _CHOICES, place)
    offered, labels = record[key], None
    if isinstance(offered, dict) and "text" in offered:  # as the Hugging Face hub keeps ARC
        offered, labels = offered["text"], offered.get("label")
    texts = _texts(offered, key, place)
    right = _right_one(record, texts, labels if isinstance(labels, list) else texts, place)
    choices = tuple((before, _after(before, text)) for text in texts)
    return OwnItem(choices, tuple(map(len, texts)), right, "".join(choices[right]))


def _gap_item(record: Record, place: str) -> OwnItem:
    if not any(key in record for key in _CHOICES):
        text = record.get("text")
        if not isinstance(text, str):
            raise BadInput(f"{place} has no text 'text'; mend the line.")
        return _last_word(text, place)
    key = _key(record, _GAP_TEXT, place)
    context = record.get("context", "")
    if isinstance(context, list):
        context = "\n".join(map(str, context)) + "\n"
    if not isinstance(record[key], str) or not isinstance(context, str):
        raise BadInput(f"{place}: its {key!r} or 'context' is no text; mend the line.")
    gaps = list(_GAP.finditer(record[key]))
    if len(gaps) != 1:
        raise BadInput(f"{place}: its {key!r} has {len(gaps)} gaps (XXXXX, [MASK] or ___), not one; mend the line.")
    before, after = record[key][: gaps[0].start()], record[key][gaps[0].end() :]
    if context and not context[-1].isspace():
        before = _after(context, before)
    before = context + before
    words = _texts(record[_key(record, _CHOICES, place)], _key(record, _CHOICES, place), place)
    right = _right_one(record, words, words, place)
    given = before.removesuffix(" ")  # the space belongs to the word's token
    choices = tuple((given, before[len(given) :] + word + after) for word in words)
    return OwnItem(choices, tuple(map(len, words)), right, "".join(choices[right]))


def _last_word(text: str, place: str) -> OwnItem:
    found = _LAST_WORD.match(text.rstrip())
    if found is None:
        raise BadInput(f"{place} is no passage with a last word: it needs two words with a space between; mend it.")
    return OwnItem(((found[1], found[2]),), (len(found[2].strip()),), 0, text)


def _after(before: str, text: str) -> str:
    """A text with the space that parts it from what is before it, where neither has any."""
    return text if not before or before[-1].isspace() or text[:1].isspace() else f" {text}"


def _key(record: Record, keys: Sequence[str], place: str) -> str:
    found = next((key for key in keys if key in record), None)
    if found is None:
        raise BadInput(f"{place} has none of {', '.join(keys)}, but {', '.join(record) or 'nothing'}; mend the line.")
    return found


def _texts(value: Any, key: str, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise BadInput(f"{place}: its {key!r} is no list of texts to choose from; mend the line.")
    if not all(text.strip() for text in value):
        raise BadInput(f"{place}: one of its {key!r} is empty; mend the line.")
    return tuple(value)


def _right_one(record: Record, texts: Sequence[str], labels: Sequence[Any], place: str) -> int:
    key = _key(record, _RIGHT, place)
    value = record[key]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(texts):
        return value
    if isinstance(value, str):
        for known in (labels, texts, [chr(ord("A") + n) for n in range(len(texts))], list(map(str, range(len(texts))))):
            if value in known:
                return list(known).index(value)
    raise BadInput(f"{place}: its {key!r}, {value!r}, is none of its {len(texts)} choices; mend the line.")
