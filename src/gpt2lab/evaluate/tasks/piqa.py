"""PIQA: which of two ways leads to a goal (Bisk et al. 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.piqa import PiqaItem, read_piqa
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class Piqa(MultipleChoice):
    r"""Which of two solutions reaches a goal of everyday life; 1,838 goals (validation set).

    After "Question: GOAL\nAnswer:", as lm-evaluation-harness 0.4.13 has it. `accuracy`: by the solutions' summed nats;
    `accuracy_norm`: by nats over characters. Not in GPT-2's paper.
    """

    name: ClassVar[str] = "piqa"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "PIQA"

    def read(self, source: DataSource) -> EvaluationSet[PiqaItem]:
        """The validation set."""
        return read_piqa(source)

    def question(self, name: str, item: PiqaItem, tokenizer: ByteLevelBPE) -> Question:
        """Two pairs a goal."""
        choices = [(f"Question: {item.goal}\nAnswer:", f" {solution}") for solution in item.solutions]
        lengths = list(map(len, item.solutions))
        text = f"{item.goal}\n{item.solutions[item.answer]}"
        return choice_question(tokenizer, name, choices, item.answer, lengths, text, "lm-eval")

    def offered(self, item: PiqaItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.solutions


LM_EVAL = {"piqa": Piqa()}
