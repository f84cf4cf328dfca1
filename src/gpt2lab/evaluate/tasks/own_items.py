"""A user's own questions; `datasets.own_items` says what their files look like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.own_items import OwnItem, read_own_choices, read_own_cloze
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import Scores
from gpt2lab.evaluate.statistics import Metric, accuracy, perplexity
from gpt2lab.evaluate.tasks.multiple_choice import MultipleChoice, choice_question
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE


@dataclass(frozen=True)
class OwnChoices(MultipleChoice):
    """Which of several texts goes on with a context: a file of one's own.

    Each choice is scored after its context. `accuracy`: by the choices' summed nats; `accuracy_norm`: by nats over
    characters. An empty context is <|endoftext|>.
    """

    name: ClassVar[str] = "own-choices"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "Own choices"

    file: Path

    def read(self, source: DataSource) -> EvaluationSet[OwnItem]:  # noqa: ARG002
        """The file's items."""
        return read_own_choices(self.file)

    def question(self, name: str, item: OwnItem, tokenizer: ByteLevelBPE) -> Question:
        """A pair a choice."""
        return choice_question(tokenizer, name, item.choices, item.answer, item.lengths, item.text)

    def offered(self, item: OwnItem) -> Sequence[str]:
        """What there is to choose from."""
        return [continuation for _, continuation in item.choices]


@dataclass(frozen=True)
class OwnCloze(MultipleChoice):
    """Words to be found in texts of one's own: the last one of a passage, or the one in a gap, of several candidates.

    A last word is right when its every token is the most probable one (as LAMBADA's `accuracy`; `perplexity` is exp of
    the mean of such words' nats). A candidate is scored with the rest of the text, as in the Children's Book Test, and
    the highest sum wins.
    """

    name: ClassVar[str] = "own-cloze"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "Own cloze"

    file: Path

    def read(self, source: DataSource) -> EvaluationSet[OwnItem]:  # noqa: ARG002
        """The file's items."""
        return read_own_cloze(self.file)

    def question(self, name: str, item: OwnItem, tokenizer: ByteLevelBPE) -> Question:
        """A pair a last word or candidate."""
        return choice_question(tokenizer, name, item.choices, item.answer, item.lengths, item.text)

    def facts(self, found: EvaluationSet[OwnItem], tokenizer: ByteLevelBPE) -> dict[str, Any]:  # noqa: ARG002
        """How many last words and gaps there are."""
        gaps = sum(len(item.choices) > 1 for item in found.items)
        return {"last_words": len(found.items) - gaps, "gaps": gaps}

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:
        """Nats of the last word and whether it is the model's, or the candidates' scores and the one taken."""
        if len(scores) > 1:
            return super().row(question, scores)
        return {"nats": -scores[0].total, "units": 1, "accuracy": all(scores[0].best)}

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Accuracy, and perplexity a last word where there are any."""
        found = [accuracy("accuracy", [row["accuracy"] for row in rows])]
        words = [row for row in rows if "nats" in row]
        if words:
            found.append(perplexity("perplexity", [row["nats"] for row in words], [row["units"] for row in words]))
        return found
