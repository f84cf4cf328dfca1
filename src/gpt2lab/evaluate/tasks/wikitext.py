"""WikiText-2 and WikiText-103 (Merity et al. 2017): perplexity a word of 62 Wikipedia articles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.wikitext import read_wikitext
from gpt2lab.evaluate.detokenizers import wikitext as detokenizers
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized
from gpt2lab.evaluate.detokenizers.wikitext import WikiTextRules
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.statistics import Metric, bits_per, perplexity
from gpt2lab.evaluate.tasks.stream import (
    FAST_STRIDE,
    PAPER_STRIDE,
    Piece,
    Stream,
    StreamTask,
    Unit,
    line_pieces,
    stream_facts,
    stream_question,
    whole_piece,
    window_questions,
)
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class _WikiText(StreamTask):
    text: Literal["v1", "raw"] = "v1"
    detokenizer: WikiTextRules = "none"
    stride: int = PAPER_STRIDE
    unit: Unit = "words+eos"
    bos: Literal["none", "eot"] = "none"
    scope: Literal["stream", "article"] = "stream"

    edition: ClassVar[Literal["2", "103"]]

    def read(self, source: DataSource) -> EvaluationSet[str]:
        """The test set as one text."""
        return read_wikitext(source, self.edition, "tokens" if self.text == "v1" else "raw")

    def questions(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each; an article each where articles are read alone."""
        bos = tokenizer.end_of_text if self.bos == "eot" else None
        streams, _ = self._streams(found)
        if self.scope == "article":
            return [
                stream_question(stream, tokenizer, context_length, self.stride, bos, self.unit) for stream in streams
            ]
        return window_questions(streams[0], tokenizer, context_length, self.stride, bos, self.unit)

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Units, tokens, bytes, lines kept verbatim."""
        streams, detokenized = self._streams(found)
        return stream_facts(streams, tokenizer, self.unit, detokenized)

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Perplexity a unit and bits per byte; in lm-eval's units its three figures by its names."""
        if self.unit != "lm-eval-words":
            return super().metrics(rows)
        nats, bytes_each = [row["nats"] for row in rows], [row["bytes"] for row in rows]
        return [
            perplexity("word_perplexity", nats, [row["units"] for row in rows]),
            perplexity("byte_perplexity", nats, bytes_each),
            bits_per("bits_per_byte", nats, bytes_each),
        ]

    def _streams(self, found: EvaluationSet[str]) -> tuple[list[Stream], list[Detokenized]]:
        texts = articles(found.items[0]) if self.scope == "article" else [found.items[0]]
        streams, detokenized = [], []
        for number, text in enumerate(texts):
            pieces: tuple[Piece, ...]
            match self.detokenizer:
                case "none":
                    pieces = line_pieces(text, text, self.unit)
                case "megatron":
                    pieces = whole_piece(text, detokenizers.megatron(text), self.unit)
                case "roundtrip":
                    detokenized.append(detokenizers.roundtrip(text))
                    pieces = line_pieces(text, detokenized[-1].text, self.unit)
            if self.unit == "lm-eval-words":  # which are those of the article, not of its lines
                shown = "".join(str(piece.shown) for piece in pieces)
                pieces = whole_piece(text, shown, self.unit)
            streams.append(Stream(f"article {number}", pieces))
        return streams, detokenized


@dataclass(frozen=True)
class WikiText2(_WikiText):
    """Perplexity a word of WikiText-2's test set, whose rarer words are `<unk>` (15,218 of 241,211).

    The whole set is one stream, line by line with its newlines; windows are the network's context, with `stride` new
    tokens each; all losses are summed and divided by 245,569 units (a word each, and one end a line), and then
    exponentiated (openai/gpt-2#78; Megatron-LM `tasks/zeroshot_gpt`). The paper's figures are of text without the
    artefacts of tokenization, by invertible de-tokenizers that were not published: `roundtrip` is ours.

    Radford gives 34.63 for the smallest model without de-tokenizer at stride 32 (second hand, karpathy/llm.c#276), the
    paper 29.41 with one.
    """

    detokenizer: WikiTextRules = "roundtrip"

    name: ClassVar[str] = "wikitext2"
    title: ClassVar[str] = "WikiText-2"
    edition: ClassVar[Literal["2", "103"]] = "2"


@dataclass(frozen=True)
class WikiText103(_WikiText):
    """Perplexity a word of WikiText-103's test set: the same articles as WikiText-2, with 2,492 words as `<unk>`.

    As `WikiText2`; but the paper's figures for its three smaller models (37.50, 26.37, 22.05) are those of the text
    with its tokenization as it is: Ram et al. 2023 (arXiv 2302.00083, table 1) measure 37.5, 26.3 and 22.0 so. For the
    largest the paper has 17.48, which fits a de-tokenized text (20.0 without). So `none` is the default here, and
    `roundtrip` is printed beside it.
    """

    name: ClassVar[str] = "wikitext103"
    title: ClassVar[str] = "WikiText-103"
    edition: ClassVar[Literal["2", "103"]] = "103"


def articles(text: str) -> list[str]:
    """The articles of a test set, each from its title on, without the newline before the next one.

    As EleutherAI/wikitext_document_level cuts them, the data set behind lm-eval's `wikitext` (62 of the test set).
    """
    found: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            found.append("\n".join(lines))
            lines = []
        lines.append(line)
    found.append("\n".join(lines))
    return [article for article in found if article.strip()]


PAPER = {
    "wikitext2": WikiText2(),
    "wikitext2-none": WikiText2(detokenizer="none"),
    "wikitext103": WikiText103(),
    "wikitext103-roundtrip": WikiText103(detokenizer="roundtrip"),
}
FAST = {
    "wikitext2": WikiText2(stride=FAST_STRIDE),
    "wikitext2-none": WikiText2(detokenizer="none", stride=FAST_STRIDE),
    "wikitext103": WikiText103(stride=FAST_STRIDE),
    "wikitext103-roundtrip": WikiText103(detokenizer="roundtrip", stride=FAST_STRIDE),
}
LM_EVAL = {
    "wikitext": WikiText2(
        text="raw", detokenizer="megatron", stride=FAST_STRIDE, unit="lm-eval-words", bos="eot", scope="article"
    ),
}
"""lm-evaluation-harness 0.4 `wikitext`: raw text, each article alone after `<|endoftext|>`, disjoint windows."""
