"""WinoGrande: Winograd schemas by the thousand (Sakaguchi et al. 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.winogrande import WinograndeItem, read_winogrande
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class Winogrande(MultipleChoice):
    """Which of two names fills the gap of a sentence; 1,267 sentences (validation set).

    By partial scoring, as lm-evaluation-harness 0.4.13 has it: log P of what follows the gap given the sentence up to
    it with the name in it. Not in GPT-2's paper.
    """

    name: ClassVar[str] = "winogrande"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "WinoGrande"
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)

    def read(self, source: DataSource) -> EvaluationSet[WinograndeItem]:
        """The validation set."""
        return read_winogrande(source)

    def question(self, name: str, item: WinograndeItem, tokenizer: ByteLevelBPE) -> Question:
        """Two pairs a sentence."""
        after = f" {item.after.strip()}"
        choices = [(item.before + option, after) for option in item.options]
        text = item.before + item.options[item.answer] + item.after
        return choice_question(tokenizer, name, choices, item.answer, [1, 1], text, "lm-eval")

    def offered(self, item: WinograndeItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.options


LM_EVAL = {"winogrande": Winogrande()}
