"""What a task is: items of a set made into questions for a model, and their scores made into metrics.

A task is a frozen dataclass: its fields are the named options of its protocol, the defaults are those that come closest
to the paper's. Its docstring is the protocol in words, with the sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import BannedTokens, Pair, Scores
from gpt2lab.evaluate.statistics import Metric
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.tokens.bpe import ByteLevelBPE


class UnfitModel(BadInput):
    """A model can't be asked a set's questions at all: its context is too short for one of them."""


@dataclass(frozen=True)
class Question:
    """One item: the pairs a model has to score for it, and what is known about it.

    `name` is its own within the set and the same in every run. `text` is the item's text in full, which is what its
    overlap with training documents is measured on. `facts` go into its row as they are.
    """

    name: str
    pairs: tuple[Pair, ...]
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """One evaluation by one protocol."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Goes up with every change that can change a score."""
    title: ClassVar[str]

    def read(self, source: DataSource) -> EvaluationSet[Any]:
        """The set. Raises BadInput where it is absent or not the published one."""

    def questions(self, found: EvaluationSet[Any], tokenizer: ByteLevelBPE, context_length: int) -> Sequence[Question]:
        """The items as questions, in the set's order."""

    def facts(self, found: EvaluationSet[Any], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """What the results say of the set under these options (units, tokens, share of lines kept verbatim ...)."""

    def banned(self, tokenizer: ByteLevelBPE) -> BannedTokens | None:
        """Tokens that the protocol does not let a model choose."""

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:
        """What is kept of an item beside its name and facts; `scores` are those of its pairs.

        So that two runs can be compared item by item: whether an answer is right under the name of its metric
        (`accuracy`, a bool), what a rate is made of under `nats` and `units` (those may be facts too).
        """

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """The task's figures over rows (name, facts and `row`): of all items, or of some of them."""


@runtime_checkable
class Predicts(Protocol):
    """A task that asks a model for more than the scores of pairs."""

    def predict(self, model: LanguageModel, question: Question) -> Row:
        """What is kept of an item beside what `row` gives."""
