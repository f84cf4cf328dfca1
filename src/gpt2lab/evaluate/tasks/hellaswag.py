"""HellaSwag: which of four endings goes on with a story (Zellers et al. 2019)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.hellaswag import HellaSwagItem, read_hellaswag
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class HellaSwag(MultipleChoice):
    """Which of four endings of a story is the right one; 10,042 stories, half of them from WikiHow (validation set).

    `accuracy`: by the endings' summed nats; `accuracy_norm`: by nats over length. Not in GPT-2's paper.

    prompt: `activity`, as lm-evaluation-harness 0.4.13 has it: the activity, a colon and the context, whose second part
        begins with a capital letter and goes on in small ones; WikiHow's marks in brackets removed. `context`, as
        llm.c's `hellaswag.py` has it (29.55 for 117M, 48.93 for 1542M, per token): the context as it is.
    norm: what `accuracy_norm` divides by: an ending's `characters`, or its `tokens`.
    """

    name: ClassVar[str] = "hellaswag"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "HellaSwag"

    prompt: Literal["activity", "context"] = "activity"
    norm: Literal["characters", "tokens"] = "characters"

    def read(self, source: DataSource) -> EvaluationSet[HellaSwagItem]:
        """The validation set."""
        return read_hellaswag(source)

    def question(self, name: str, item: HellaSwagItem, tokenizer: ByteLevelBPE) -> Question:
        """Four pairs a story."""
        choices = self.choices(item)
        lengths = [len(tokenizer.encode(end)) if self.norm == "tokens" else len(end) - 1 for _, end in choices]
        text = f"{item.ctx} {item.endings[item.answer]}"
        return choice_question(tokenizer, name, choices, item.answer, lengths, text, "lm-eval")

    def choices(self, item: HellaSwagItem) -> list[tuple[str, str]]:
        """The context and, with a space before it, each ending."""
        if self.prompt == "context":
            return [(item.ctx, f" {ending}") for ending in item.endings]
        context = _without_marks(f"{item.activity_label}: {item.ctx_a} {item.ctx_b.capitalize()}")
        return [(context, f" {_without_marks(ending)}") for ending in item.endings]

    def offered(self, item: HellaSwagItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.endings


def _without_marks(text: str) -> str:
    """WikiHow's `[title]` ends a sentence; its other marks go, and one of two spaces (lm-eval's `preprocess`)."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


LM_EVAL = {"hellaswag": HellaSwag()}
