"""Prompts with options of their own: read from files, run side by side, handed out in order. No torch here."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.prompts import read_text

if TYPE_CHECKING:
    from gpt2lab.generate.engine import Generation

SUBMITTED_AHEAD = 64
"""Prompts that wait in the engine's queue, so that it never runs dry while their texts are written."""


@dataclass(frozen=True)
class Request:
    """One prompt as its user wrote it, with its options; `place` names it in messages (empty: there is but one)."""

    prompt: str
    options: SamplingOptions
    place: str = ""
    line: int | None = None
    id: Any = None
    document: str = ""


def read_requests(data: bytes, name: str, options: SamplingOptions) -> Iterator[Request | BadInput]:
    """Prompts of a file, one a line: text, or JSON objects (`.jsonl`, or a first line that is an object with a prompt).

    An object has `prompt`, optionally `id` (any value, handed through), `document` (of a question) and options of its
    own under the names of SamplingOptions. Empty lines are passed over. A line that can't be used comes out as the
    error that says so, with its number.
    """
    lines = data.split(b"\n")
    objects = name.endswith((".jsonl", ".ndjson")) or _is_prompt_object(lines[0])
    for number, line in enumerate(lines, 1):
        place = f"{name}: line {number:,}"
        try:
            text = read_text(line.removesuffix(b"\r"), place)
            if not text.strip():
                continue
            yield _request(text, place, number, options) if objects else Request(text, options, place, number)
        except BadInput as error:
            yield error


def _is_prompt_object(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "prompt" in found


def _request(line: str, place: str, number: int, options: SamplingOptions) -> Request:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadInput(f'{place} is not a JSON object; write {{"prompt": "..."}}.')
    prompt, document = record.pop("prompt", None), record.pop("document", "")
    if not isinstance(prompt, str) or not isinstance(document, str):
        raise BadInput(f"{place} has no text {'prompt' if not isinstance(prompt, str) else 'document'!r}.")
    identity = record.pop("id", None)
    try:
        check_unicode(prompt + document, place)
        return Request(prompt, with_options(options, record), place, number, identity, document)
    except BadOption as error:
        raise BadInput(f"{place}: {error}") from None


def in_order(
    requests: Iterable[Request], submit: "Callable[[Request], Generation | None]"
) -> "Iterator[tuple[Request, Generation]]":
    """Requests with their generations, in order; those behind run beside the one that its taker iterates over.

    `submit` hands a request to an engine; where it gives None the request is left out.
    """
    ahead: deque[tuple[Request, Generation]] = deque()
    for request in requests:
        if (generation := submit(request)) is not None:
            ahead.append((request, generation))
        if len(ahead) > SUBMITTED_AHEAD:
            yield ahead.popleft()
    while ahead:
        yield ahead.popleft()


def check_unicode(text: str, place: str) -> None:
    """Raise BadInput for lone surrogates: bytes of a command line that were not UTF-8, or half a character in JSON."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{place}: character {error.start + 1:,} is broken: no valid Unicode.") from None


def with_options(options: SamplingOptions, given: Mapping[str, Any]) -> SamplingOptions:
    """`options` with some replaced by those of a JSON object. Raises BadOption for names or values that are none."""
    changes = {}
    for name, value in given.items():
        if name not in _TYPES:
            raise BadOption(f"{name!r} is no option; there are {', '.join(_TYPES)}.")
        read, wanted = _READERS[_TYPES[name]]
        try:
            changes[name] = read(value)
        except (TypeError, ValueError, OverflowError):
            raise BadOption(f"{name}: {json.dumps(value)} is not {wanted}.") from None
    return replace(options, **changes)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError
    return tuple(texts)


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(map(_whole, _listed(value)))


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    if isinstance(value, dict):  # JSON's keys are texts
        return tuple((int(token), _number(bias)) for token, bias in value.items())
    return tuple((_whole(token), _number(bias)) for token, bias in _listed(value))


def _listed(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


_READERS: Mapping[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_whole, "a whole number"),
    int | None: (_whole_or_none, "a whole number, or null"),
    float: (_number, "a number"),
    bool: (_truth, "true or false"),
    tuple[str, ...]: (_texts, "a text, or a list of texts"),
    tuple[int, ...]: (_ids, "a list of token ids"),
    tuple[tuple[int, float], ...]: (_biases, "an object of token ids and numbers"),
}
_TYPES = {field.name: field.type for field in fields(SamplingOptions)}
