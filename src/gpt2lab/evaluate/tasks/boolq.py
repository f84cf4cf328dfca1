"""BoolQ: yes/no questions that people asked a search engine (Clark et al. 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gpt2lab.datasets.boolq import BoolqItem, read_boolq
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE

_ANSWERS = ("no", "yes")


@dataclass(frozen=True)
class Boolq(MultipleChoice):
    r"""Whether the answer to a question about a passage is yes or no; 3,270 questions (validation set).

    After "PASSAGE\nQuestion: QUESTION?\nAnswer:", as lm-evaluation-harness 0.4.13 has it. Always yes is right in 62 %.
    Not in GPT-2's paper.
    """

    name: ClassVar[str] = "boolq"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "BoolQ"
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)

    def read(self, source: DataSource) -> EvaluationSet[BoolqItem]:
        """The validation set."""
        return read_boolq(source)

    def question(self, name: str, item: BoolqItem, tokenizer: ByteLevelBPE) -> Question:
        """Two pairs a question."""
        context = f"{item.passage}\nQuestion: {item.question}?\nAnswer:"
        choices = [(context, f" {answer}") for answer in _ANSWERS]
        text = f"{item.passage}\n{item.question}"
        return choice_question(tokenizer, name, choices, int(item.answer), [1, 1], text, "lm-eval")

    def offered(self, item: BoolqItem) -> Sequence[str]:  # noqa: ARG002
        """What there is to choose from."""
        return _ANSWERS


LM_EVAL = {"boolq": Boolq()}
