"""One Billion Word benchmark (Chelba et al. 2013): perplexity a word of shuffled sentences of news."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.one_billion_words import read_one_billion_words
from gpt2lab.evaluate.detokenizers import one_billion_words as detokenizers
from gpt2lab.evaluate.detokenizers.one_billion_words import OneBillionWordRules
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized
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
    window_questions,
)
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class OneBillionWords(StreamTask):
    """Perplexity a word of the One Billion Word benchmark's test sentences (news.en.heldout-00000-of-00050).

    All losses are summed and divided by 159,658 units: a word each, and one end a sentence, which is shown as a
    newline. The sentences are one stream, shuffled as they are (`scope=stream`, windows of the network's context with
    `stride` new tokens), or each is scored alone, after `<|endoftext|>` or after a newline. Which of these the paper
    did is not known, nor its de-tokenizer; `roundtrip` is ours and invertible.

    No word is mapped to the benchmark's `<UNK>`: that takes the counts of its whole training set.
    """

    detokenizer: OneBillionWordRules = "roundtrip"
    scope: Literal["stream", "sentence+eot", "sentence+newline"] = "stream"
    stride: int = PAPER_STRIDE
    unit: Unit = "words+eos"
    bos: Literal["none", "eot"] = "none"

    name: ClassVar[str] = "1bw"
    title: ClassVar[str] = "One Billion Word benchmark"

    def __post_init__(self) -> None:
        if self.bos != "none" and self.scope != "stream":
            raise BadOption(
                f"1bw: bos={self.bos} goes with scope=stream; {self.scope} says what comes before a sentence."
            )

    def read(self, source: DataSource) -> EvaluationSet[str]:
        """The sentences."""
        return read_one_billion_words(source)

    def questions(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE, context_length: int) -> list[Question]:
        """A window each; a sentence each where sentences are read alone."""
        pieces, _ = self._pieces(found)
        if self.scope == "stream":
            bos = tokenizer.end_of_text if self.bos == "eot" else None
            whole = Stream("1bw", pieces)
            return window_questions(whole, tokenizer, context_length, self.stride, bos, self.unit)
        first = tokenizer.end_of_text if self.scope == "sentence+eot" else tokenizer.encode("\n")[0]
        streams = [Stream(f"sentence {number}", (piece,)) for number, piece in enumerate(pieces)]
        return [stream_question(each, tokenizer, context_length, self.stride, first, self.unit) for each in streams]

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Units, tokens, bytes, sentences kept verbatim."""
        pieces, detokenized = self._pieces(found)
        return stream_facts([Stream("1bw", pieces)], tokenizer, self.unit, detokenized)

    def _pieces(self, found: EvaluationSet[str]) -> tuple[tuple[Piece, ...], list[Detokenized]]:
        text = "".join(f"{sentence}\n" for sentence in found.items)
        match self.detokenizer:
            case "none":
                return line_pieces(text, text, self.unit), []
            case "sedd":
                shown = "".join(f"{detokenizers.sedd(sentence)}\n" for sentence in found.items)
                return line_pieces(text, shown, self.unit), []
            case "roundtrip":
                detokenized = detokenizers.roundtrip(text)
                return line_pieces(text, detokenized.text, self.unit), [detokenized]


PAPER = {
    "1bw": OneBillionWords(),
    "1bw-none": OneBillionWords(detokenizer="none"),
}
FAST = {
    "1bw": OneBillionWords(stride=FAST_STRIDE),
    "1bw-none": OneBillionWords(detokenizer="none", stride=FAST_STRIDE),
}
