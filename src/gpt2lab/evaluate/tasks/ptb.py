"""Penn Treebank (Mikolov et al. 2010): perplexity a word of newspaper sentences without case and punctuation."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.ptb import read_ptb
from gpt2lab.evaluate.detokenizers import ptb as detokenizers
from gpt2lab.evaluate.detokenizers.ptb import PTBRules
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized
from gpt2lab.evaluate.tasks.stream import (
    FAST_STRIDE,
    PAPER_STRIDE,
    Stream,
    StreamTask,
    Unit,
    line_pieces,
    stream_facts,
    whole_piece,
    window_questions,
)
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class PennTreebank(StreamTask):
    """Perplexity a word of Penn Treebank's test set in Mikolov's form: lower case, no punctuation, `N`, `<unk>`.

    OpenAI used that form (EleutherAI/lm-evaluation-harness#5). The whole set is one stream with a newline between
    sentences; windows are the network's context, with `stride` new tokens each; all losses are summed and divided by
    82,430 units (a word each, and one end a sentence). Sentences scored alone give several times the paper's figure.

    `roundtrip` is our invertible de-tokenizer; numbers may be shown as 1 (`n_map`), unknown words as `?` or U+FFFD
    (`unk`), and sentences with a capital letter and a full stop: which of these OpenAI did is not known. `join` by a
    space shows no line ends, and is not invertible.
    """

    detokenizer: PTBRules = "roundtrip"
    n_map: Literal["N", "1"] = "N"
    unk: Literal["literal", "?", "rare"] = "literal"
    capitalise_sentence: bool = False
    add_period: bool = False
    join: Literal["newline", "space"] = "newline"
    stride: int = PAPER_STRIDE
    unit: Unit = "words+eos"
    bos: Literal["none", "eot"] = "none"

    name: ClassVar[str] = "ptb"
    title: ClassVar[str] = "Penn Treebank"

    def __post_init__(self) -> None:
        if self.detokenizer != "roundtrip" and self._edits != detokenizers.Edits():
            raise BadOption(
                "ptb: n_map, unk, capitalise_sentence and add_period go with detokenizer=roundtrip; the other"
                " de-tokenizers have rules of their own."
            )

    def read(self, source: DataSource) -> EvaluationSet[str]:
        """The test set as one text."""
        return read_ptb(source)

    def questions(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each."""
        bos = tokenizer.end_of_text if self.bos == "eot" else None
        return window_questions(self._stream(found)[0], tokenizer, context_length, self.stride, bos, self.unit)

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Units, tokens, bytes, lines kept verbatim."""
        stream, detokenized = self._stream(found)
        return stream_facts([stream], tokenizer, self.unit, detokenized)

    @property
    def _edits(self) -> detokenizers.Edits:
        return detokenizers.Edits(self.n_map, self.unk, self.capitalise_sentence, self.add_period)

    def _stream(self, found: EvaluationSet[str]) -> tuple[Stream, list[Detokenized]]:
        text = found.items[0]
        end = "\n" if self.join == "newline" else " "
        match self.detokenizer:
            case "none":
                shown = text if self.join == "newline" else "\n".join(line.strip(" ") for line in text.split("\n"))
                return Stream("ptb", line_pieces(text, shown, self.unit, end)), []
            case "megatron":
                return Stream("ptb", whole_piece(text, detokenizers.megatron(text).replace("\n", end), self.unit)), []
            case "sedd":
                return Stream("ptb", whole_piece(text, detokenizers.sedd(text).replace("\n", end), self.unit)), []
            case "roundtrip":
                detokenized = detokenizers.roundtrip(text, self._edits)
                return Stream("ptb", line_pieces(text, detokenized.text, self.unit, end)), [detokenized]


PAPER = {"ptb": PennTreebank(), "ptb-none": PennTreebank(detokenizer="none")}
FAST = {
    "ptb": PennTreebank(stride=FAST_STRIDE),
    "ptb-none": PennTreebank(detokenizer="none", stride=FAST_STRIDE),
}
