"""A text of the user's own: perplexity a word and a token, bits per byte."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, FoundFile
from gpt2lab.datasets.texts import open_bytes
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.statistics import Metric, bits_per, perplexity
from gpt2lab.evaluate.tasks.stream import Stream, StreamTask, line_pieces, stream_facts, window_questions
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE

_LARGEST = 1 << 28
"""Bytes of a file that is held in memory with its windows."""


@dataclass(frozen=True)
class OwnText(StreamTask):
    """Perplexity and bits per byte of a UTF-8 text file of the user's own.

    The file is one stream, as it is, after `<|endoftext|>` (`bos=eot`, so that its first token counts too) or without.
    Windows are the network's context, with `stride` new tokens each. Words are what stands between white space; a
    perplexity a word or byte compares models of any tokenizer, one a token only those with the same.
    """

    file: Path
    stride: int = 512
    bos: Literal["none", "eot"] = "eot"

    name: ClassVar[str] = "text"
    title: ClassVar[str] = "Own text"

    def read(self, source: DataSource) -> EvaluationSet[str]:  # noqa: ARG002
        """The file's text. Raises BadInput where there is none in it, or it is no UTF-8."""
        with open_bytes(self.file) as handle:
            content = handle.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BadInput(f"{self.file}: more than {_LARGEST >> 20} MiB; evaluate on a part of it.")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise BadInput(f"{self.file}: line {line:,} is not UTF-8; convert the file.") from None
        if "\0" in text:
            raise BadInput(f"{self.file}: holds NUL bytes; give plain text.")
        if not text.strip():
            raise BadInput(f"{self.file}: holds no text.")
        return EvaluationSet(
            (text,), (FoundFile("own text", str(self.file), hashlib.sha256(content).hexdigest(), None),)
        )

    def questions(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each."""
        bos = tokenizer.end_of_text if self.bos == "eot" else None
        return window_questions(self._stream(found), tokenizer, context_length, self.stride, bos, "words")

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Words, tokens, bytes."""
        return stream_facts([self._stream(found)], tokenizer, "words")

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Perplexity a word and a token, bits per byte."""
        nats = [row["nats"] for row in rows]
        return [
            perplexity("word_perplexity", nats, [row["units"] for row in rows]),
            perplexity("token_perplexity", nats, [row["tokens"] for row in rows]),
            bits_per("bits_per_byte", nats, [row["bytes"] for row in rows]),
        ]

    def _stream(self, found: EvaluationSet[str]) -> Stream:
        text = found.items[0]
        return Stream(str(self.file), line_pieces(text, text, "words"))
