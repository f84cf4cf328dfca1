"""Fields of JSON records: what is not there, or not what it has to be, is named with its file and line."""

from collections.abc import Sequence
from typing import Any

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.texts import Record


def text_field(record: Record, key: str, place: str, empty: bool = False) -> str:
    """A field's text; `place` is the file and line for the error. White space alone is refused unless `empty`."""
    value = record.get(key)
    if not isinstance(value, str):
        raise BadInput(f"{place} has no text {key!r}; mend the line.")
    if not empty and not value.strip():
        raise BadInput(f"{place}: its {key!r} is empty; mend the line.")
    return value


def texts_field(record: Record, key: str, place: str) -> tuple[str, ...]:
    """A field's list of at least two texts, none of them empty."""
    return checked_options(record.get(key), key, place)


def checked_options(value: Any, key: str, place: str) -> tuple[str, ...]:
    """A list of at least two texts to choose from, none of them empty."""
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) for text in value):
        raise BadInput(f"{place}: its {key!r} is no list of texts to choose from; mend the line.")
    if not all(text.strip() for text in value):
        raise BadInput(f"{place}: one of its {key!r} is empty; mend the line.")
    return tuple(value)


def choice_of(value: Any, labels: Sequence[str], place: str) -> int:
    """The place of a label among those there are. Raises BadInput for one that is none of them."""
    if isinstance(value, bool) or str(value) not in labels:
        raise BadInput(f"{place}: label {value!r} is none of {', '.join(labels)}; mend the line.")
    return labels.index(str(value))
