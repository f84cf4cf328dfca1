"""text8 (Mahoney 2006): bits per character of Wikipedia in nothing but small letters and spaces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.text8 import read_text8
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.statistics import Metric, bits_per
from gpt2lab.evaluate.tasks.stream import (
    FAST_STRIDE,
    PAPER_STRIDE,
    Piece,
    Stream,
    StreamTask,
    stream_facts,
    window_questions,
)
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE

_DIGITS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine".split())}
_NUMBER = re.compile(rf"\b(?:{'|'.join(_DIGITS)})(?: (?:{'|'.join(_DIGITS)}))+\b")


@dataclass(frozen=True)
class Text8(StreamTask):
    """Bits per character of text8's last 5,000,000 characters.

    The text is one stream, as it is. Windows are the network's context, with `stride` new tokens each; all losses are
    summed and divided by ln 2 and by the characters of the set.

    `digits=joined` shows two or more digits in a row as a number ("one nine nine nine" as 1999). That is invertible,
    as the set has no other digits; nobody says that it was done for the paper.
    """

    stride: int = PAPER_STRIDE
    digits: Literal["spelled", "joined"] = "spelled"

    name: ClassVar[str] = "text8"
    title: ClassVar[str] = "text8"

    def read(self, source: DataSource) -> EvaluationSet[str]:
        """The test set as one text."""
        return read_text8(source)

    def questions(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each."""
        return window_questions(self._stream(found), tokenizer, context_length, self.stride, None, "bytes")

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Characters (each a byte) and tokens."""
        return stream_facts([self._stream(found)], tokenizer, "characters")

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Bits per character."""
        return [bits_per("bits_per_character", [row["nats"] for row in rows], [row["units"] for row in rows])]

    def _stream(self, found: EvaluationSet[str]) -> Stream:
        text = found.items[0]
        shown = join_digits(text) if self.digits == "joined" else text
        return Stream("text8", (Piece(shown, len(text), len(text.encode())),))


def join_digits(text: str) -> str:
    """Two or more spelled digits in a row as a number."""
    return _NUMBER.sub(lambda number: "".join(_DIGITS[word] for word in number[0].split(" ")), text)


def spell_digits(text: str) -> str:
    """The inverse of `join_digits`."""
    words = list(_DIGITS)
    return re.sub("[0-9]+", lambda number: " ".join(words[int(digit)] for digit in number[0]), text)


PAPER = {"text8": Text8()}
FAST = {"text8": Text8(stride=FAST_STRIDE)}
