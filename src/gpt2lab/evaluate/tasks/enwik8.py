"""enwik8 (Mahoney 2006): bits per byte of Wikipedia's source, markup and all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from gpt2lab.datasets.enwik8 import read_enwik8
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
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

_ENTITIES = {b"&lt;": b"<", b"&gt;": b">", b"&quot;": b'"', b"&amp;": b"&"}
_ENTITY = re.compile(b"|".join(_ENTITIES))


@dataclass(frozen=True)
class Enwik8(StreamTask):
    """Bits per byte of enwik8's last 5,000,000 bytes.

    The bytes are one stream, as they are: a character that the set's border cuts in two is given byte by byte. Windows
    are the network's context, with `stride` new tokens each; all losses are summed and divided by ln 2 and by the bytes
    of the set.

    `unescape_xml` shows `&lt;` `&gt;` `&quot;` `&amp;` as what they stand for (once: `&amp;lt;` becomes `&lt;`), still
    divided by the bytes of the set: that loses which were escaped, so its figure is too good by an unknown amount.
    """

    stride: int = PAPER_STRIDE
    unescape_xml: bool = False

    name: ClassVar[str] = "enwik8"
    title: ClassVar[str] = "enwik8"

    def read(self, source: DataSource) -> EvaluationSet[bytes]:
        """The test set as one piece of bytes."""
        return read_enwik8(source)

    def questions(self, found: EvaluationSet[bytes], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each."""
        return window_questions(self._stream(found), tokenizer, context_length, self.stride, None, "bytes")

    def facts(self, found: EvaluationSet[bytes], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Bytes and tokens."""
        return stream_facts([self._stream(found)], tokenizer, "bytes")

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Bits per byte."""
        return [bits_per("bits_per_byte", [row["nats"] for row in rows], [row["bytes"] for row in rows])]

    def _stream(self, found: EvaluationSet[bytes]) -> Stream:
        content = found.items[0]
        shown = _ENTITY.sub(lambda entity: _ENTITIES[entity[0]], content) if self.unescape_xml else content
        return Stream("enwik8", (Piece(shown, len(content), len(content)),))


PAPER = {"enwik8": Enwik8()}
FAST = {"enwik8": Enwik8(stride=FAST_STRIDE)}
