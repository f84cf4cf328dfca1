"""The Children's Book Test: a word left out of a sentence, ten candidates for it (Hill et al. 2016)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.cbt import CbtItem, read_cbt
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.detokenizers.cbt import CBTRules, detokenize_cbt
from gpt2lab.evaluate.tasks.multiple_choice import (
    MultipleChoice,
    choice_question,
    last_tokens,
)
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE

GAP = "XXXXX"
_OPENS_SENTENCE = re.compile(r"\A[\"'`([\s]*\Z")


@dataclass(frozen=True)
class CBT(MultipleChoice):
    """Which of ten words stood in the gap: the one under which it and the rest of its sentence are most probable.

    GPT-2 paper, section 3.2: after 20 sentences and the 21st up to the gap, log P(candidate and rest of the sentence);
    the highest sum wins, whatever its length. Context that does not fit is cut at its start, and counted.

    kind: of word: common nouns, named entities, verbs, prepositions; the paper has the first two.
    split: `valid`, 2,000 items a kind: every figure of the paper's Table 3 is a count out of 2,000 (and one of the test
        set's books is in WebText, says the paper).
    join: what stands between two sentences.
    score: `rest`, the candidate and what follows it; `whole`, all 21 sentences (the same but for tokens at the
        borders); `word only`, the candidate alone.
    detok: how the file's Penn Treebank words become text: `full`, all marks that can be told; `lm-eval`, the rules of
        lm-evaluation-harness v0.3 with their defects; `none`.
    prompt: lm-evaluation-harness adds "Passage:" and "Question:", which the paper does not speak of.
    case: of a candidate at the start of a sentence: `sentence`, all of them begin with a capital letter there, as the
        word that stood there did; `as is`, as the file lists them, where most do not.
    """

    name: ClassVar[str] = "cbt"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "Children's Book Test"
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)

    kind: Literal["CN", "NE", "V", "P"] = "CN"
    split: Literal["valid", "test"] = "valid"
    join: Literal["newline", "space"] = "newline"
    score: Literal["rest", "whole", "word only"] = "rest"
    detok: CBTRules = "full"
    prompt: Literal["none", "Passage/Question"] = "none"
    case: Literal["sentence", "as is"] = "sentence"

    def read(self, source: DataSource) -> EvaluationSet[CbtItem]:
        """The set's items of this kind."""
        return read_cbt(source, self.kind, self.split)

    def around_gap(self, item: CbtItem) -> tuple[str, str, str]:
        """The text before the question's sentence, that sentence up to its gap, and what follows the gap."""
        separator = " " if self.join == "space" else "\n"
        before, gap, after = self._text([item.query], separator).partition(GAP)
        if not gap:
            raise BadInput(f"the question has no gap {GAP}: {item.query[:60]!r}.")
        context = self._text(item.context, separator) + separator
        if self.prompt == "Passage/Question":
            context = f"Passage: {context.rstrip()}\nQuestion: "
        return context, before, after

    def _text(self, sentences: Sequence[str], separator: str) -> str:
        if self.detok == "full":  # sentence by sentence
            return separator.join(detokenize_cbt(sentence, "full") for sentence in sentences)
        return detokenize_cbt(separator.join(sentences), self.detok)

    def questions(
        self, found: EvaluationSet[CbtItem], tokenizer: ByteLevelBPE, context_length: int
    ) -> Sequence[Question]:
        """Ten pairs an item, in the order of its candidates."""
        questions = []
        for number, item in enumerate(found.items, 1):
            try:
                context, sentence, after = self.around_gap(item)
                answer = item.candidates.index(item.answer)
            except (BadInput, ValueError) as error:
                raise BadInput(f"item {number}: {error}") from None
            candidates = item.candidates
            if self.case == "sentence" and _OPENS_SENTENCE.match(sentence):
                candidates = tuple(word[:1].upper() + word[1:] for word in candidates)
            if self.score == "word only":
                after = ""
            before = context + sentence
            given = before.removesuffix(" ")  # the space belongs to the candidate's token
            filled = [before + word + after.replace(GAP, word) for word in candidates]
            if self.score == "whole":
                choices = [("", text) for text in filled]
            else:
                choices = [(given, text[len(given) :]) for text in filled]
            text = "\n".join((*item.context, item.query.replace(GAP, item.answer)))
            question = choice_question(tokenizer, str(number), choices, answer, [1] * len(candidates), text)
            if self.score == "whole":
                question = replace(question, pairs=last_tokens(question.pairs, context_length))
            questions.append(question)
        return questions

    def offered(self, item: CbtItem) -> Sequence[str]:
        """What there is to choose from."""
        return item.candidates


PAPER = {"cbt-cn": CBT(kind="CN"), "cbt-ne": CBT(kind="NE")}
