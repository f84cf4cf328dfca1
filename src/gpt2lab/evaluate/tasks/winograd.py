"""The Winograd Schema Challenge: what a pronoun stands for (Levesque et al. 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.winograd import WinogradItem, read_winograd
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import Pair, Scores
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.evaluate.text_pairs import BorderRule
from gpt2lab.tokens.bpe import ByteLevelBPE

_POSSESSIVES = ("my", "his", "her", "our", "their")
_LOWERED = ("A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their")
_SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"')


@dataclass(frozen=True)
class Winograd(MultipleChoice):
    """Which of two candidates a pronoun stands for, in 273 sentences (GPT-2 paper, section 3.4; Trinh and Le 2018).

    Each candidate is put in the pronoun's place (with 's for my, his, her, our, their; a leading article in lower case
    unless a sentence begins there).

    score: `partial`, log P of the words after the pronoun given those up to the candidate; `full`, log P of the whole
        sentence. The paper plots both and quotes the better one, 70.70 %.
    norm: `sum` of the tokens' nats, or their mean, `per token`.
    bos: `eot`, the sentence comes after <|endoftext|>, so that its first token has a probability, too; `none`, as
        in lm-eval: it comes first, and by full scoring its first token is not scored.
    rules: `lm-eval`: those of lm-evaluation-harness 0.4.13's wsc273, token for token: sentences as the Hugging Face hub
        has them (a space before the mark that follows a pronoun, in 18), two spaces between the candidate and what
        follows, and an article in lower case also after "!" (in 2).
    """

    name: ClassVar[str] = "winograd"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "Winograd Schema Challenge"
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)

    score: Literal["partial", "full"] = "partial"
    norm: Literal["sum", "per token"] = "sum"
    bos: Literal["none", "eot"] = "eot"
    rules: BorderRule = "exact"

    def read(self, source: DataSource) -> EvaluationSet[WinogradItem]:
        """The 273 schemas."""
        return read_winograd(source)

    def sentences(self, item: WinogradItem) -> list[tuple[str, str]]:
        """The sentence up to the end of each candidate, and what follows."""
        before, after = (" ".join(part.split()) for part in (item.before, item.after))
        if self.rules == "lm-eval":
            starts = before.endswith(".")
            after = f"  {after}"
        else:
            starts = not before or before.endswith(_SENTENCE_ENDS)
        if self.rules == "exact" and after[:1] not in ".,;:!?'":
            after = f" {after}"
        sentences = []
        for candidate in item.candidates:
            candidate = " ".join(candidate.split())
            if item.pronoun.strip().lower() in _POSSESSIVES:
                candidate += "'s"
            first, space, rest = candidate.partition(" ")
            if not starts and first in _LOWERED:
                candidate = first.lower() + space + rest
            elif starts and self.rules == "exact":
                candidate = candidate[:1].upper() + candidate[1:]
            sentences.append((f"{before} {candidate}".lstrip(" "), after))
        return sentences

    def question(self, name: str, item: WinogradItem, tokenizer: ByteLevelBPE) -> Question:
        """Two pairs a schema."""
        sentences = self.sentences(item)
        choices = sentences if self.score == "partial" else [("", given + after) for given, after in sentences]
        right = "".join(sentences[item.answer])
        question = choice_question(tokenizer, name, choices, item.answer, [1, 1], right, self.rules)
        pairs = tuple(self._with_start(pair, tokenizer) for pair in question.pairs)
        lengths = [len(pair.continuation) if self.norm == "per token" else 1 for pair in pairs]
        return replace(question, pairs=pairs, facts={**question.facts, "lengths": lengths})

    def _with_start(self, pair: Pair, tokenizer: ByteLevelBPE) -> Pair:
        end_of_text = tokenizer.end_of_text
        if self.score == "partial":
            return Pair((end_of_text, *pair.context), pair.continuation) if self.bos == "eot" else pair
        return pair if self.bos == "eot" else Pair(pair.continuation[:1], pair.continuation[1:])

    def offered(self, item: WinogradItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.candidates

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:
        """The candidates' scores and the one taken."""
        row = super().row(question, scores)
        if self.norm == "per token":
            row |= {"chosen": row["chosen_norm"], "accuracy": row["accuracy_norm"]}
        return row


PAPER = {"winograd": Winograd(), "winograd-full": Winograd(score="full")}
LM_EVAL = {"wsc273": Winograd(bos="none", rules="lm-eval")}
