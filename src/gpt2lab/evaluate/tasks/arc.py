"""ARC: science questions from school examinations (Clark et al. 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gpt2lab.datasets.arc import ArcItem, read_arc
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class Arc(MultipleChoice):
    r"""Which of (mostly) four answers to a science question is right; 2,376 easy and 1,172 hard ones (test sets).

    After "Question: QUESTION\nAnswer:", as lm-evaluation-harness 0.4.13 has it. `accuracy`: by the answers' summed
    nats; `accuracy_norm`: by nats over characters. Not in GPT-2's paper.

    kind: `easy`, or `challenge`: those that word counts and retrieval got wrong.
    """

    name: ClassVar[str] = "arc"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "ARC"

    kind: Literal["easy", "challenge"] = "easy"

    def read(self, source: DataSource) -> EvaluationSet[ArcItem]:
        """The test set of this kind."""
        return read_arc(source, self.kind)

    def question(self, name: str, item: ArcItem, tokenizer: ByteLevelBPE) -> Question:
        """A pair an answer."""
        choices = [(f"Question: {item.question}\nAnswer:", f" {choice}") for choice in item.choices]
        lengths = list(map(len, item.choices))
        text = f"{item.question} {item.choices[item.answer]}"
        return choice_question(tokenizer, name, choices, item.answer, lengths, text, "lm-eval")

    def offered(self, item: ArcItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.choices


LM_EVAL = {"arc_easy": Arc("easy"), "arc_challenge": Arc("challenge")}
