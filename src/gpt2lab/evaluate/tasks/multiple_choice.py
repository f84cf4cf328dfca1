"""What the sets have in common whose items offer several texts, one of them right."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import EvaluationSet
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import BannedTokens, Pair, Scores
from gpt2lab.evaluate.statistics import Metric, accuracy
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.evaluate.text_pairs import BorderRule, text_pair
from gpt2lab.tokens.bpe import ByteLevelBPE


def choice_question(
    tokenizer: ByteLevelBPE,
    name: str,
    choices: Sequence[tuple[str, str]],
    answer: int,
    lengths: Sequence[int],
    text: str,
    rule: BorderRule = "exact",
) -> Question:
    """A question of (context, continuation) choices; `lengths` are what `accuracy_norm` divides their scores by.

    Raises BadInput, naming the item, for a choice that is empty or whose length is 0.
    """
    pairs = []
    for number, (context, continuation) in enumerate(choices, 1):
        if not continuation.strip() or not lengths[number - 1]:
            raise BadInput(f"item {name}: choice {number} of {len(choices)} is empty; mend the item.")
        try:
            pairs.append(text_pair(tokenizer, context, continuation, rule))
        except BadInput as error:
            raise BadInput(f"item {name}, choice {number} of {len(choices)}: {error}") from None
    return Question(name, tuple(pairs), text, {"answer": answer, "lengths": list(lengths)})


class MultipleChoice:
    """What tasks of choices do alike: nothing is banned, and the choice with the highest score is taken."""

    METRICS: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_norm")

    def question(self, name: str, item: Any, tokenizer: ByteLevelBPE) -> Question:
        """An item as a question of this name: a pair a choice."""
        raise NotImplementedError

    def offered(self, item: Any) -> Sequence[str]:
        """What there is to choose from."""
        raise NotImplementedError

    def questions(
        self,
        found: EvaluationSet[Any],
        tokenizer: ByteLevelBPE,
        context_length: int,  # noqa: ARG002
    ) -> Sequence[Question]:
        """The items as questions, named by their place from 1."""
        return [self.question(str(number), item, tokenizer) for number, item in enumerate(found.items, 1)]

    def facts(self, found: EvaluationSet[Any], tokenizer: ByteLevelBPE) -> dict[str, Any]:  # noqa: ARG002
        """How many choices there are at most, and the share of items that guessing gets right."""
        sizes = [len(self.offered(item)) for item in found.items]
        return {"choices": max(sizes), "chance": math.fsum(1 / size for size in sizes) / len(sizes)}

    def banned(self, tokenizer: ByteLevelBPE) -> BannedTokens | None:  # noqa: ARG002
        """None."""
        return None

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:
        """The choices' log-likelihoods in nats; the one taken, by sum and by sum over length, the first of equals."""
        totals = [each.total for each in scores]
        norms = [total / length for total, length in zip(totals, question.facts["lengths"], strict=True)]
        chosen, chosen_norm = totals.index(max(totals)), norms.index(max(norms))
        answer = question.facts["answer"]
        return {
            "log_likelihoods": totals,
            "chosen": chosen,
            "accuracy": chosen == answer,
            "chosen_norm": chosen_norm,
            "accuracy_norm": chosen_norm == answer,
        }

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """The share of right answers, by each way to choose."""
        return [accuracy(name, [row[name] for row in rows]) for name in self.METRICS]


def last_tokens(pairs: Sequence[Pair], context_length: int) -> tuple[Pair, ...]:
    """Pairs that score whole texts alike at their start, all cut by as many tokens as lets the longest one fit."""
    cut = max(len(pair.continuation) for pair in pairs) - context_length
    if cut <= 0:
        return tuple(pairs)
    return tuple(Pair((pair.continuation[cut - 1],), pair.continuation[cut:]) for pair in pairs)
