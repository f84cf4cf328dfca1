"""LAMBADA: the last word of a passage (Paperno et al. 2016)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.datasets.lambada import read_lambada
from gpt2lab.evaluate.detokenizers.lambada import detokenize_lambada
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import BannedTokens, Pair, Scores
from gpt2lab.evaluate.statistics import Metric, accuracy, perplexity
from gpt2lab.evaluate.stop_words import STOP_WORDS, StopWords
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.evaluate.text_pairs import BorderRule, text_pair
from gpt2lab.evaluate.word_search import is_punctuation, most_probable_word
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.tokens.bpe import ByteLevelBPE

_ASCII_QUOTES = (("“", '"'), ("”", '"'), ("``", '"'), ("''", '"'))
_LISTS: dict[str, StopWords] = {"nltk127": "nltk127", "nltk127+punct": "nltk127", "nltk179": "nltk179"}


@dataclass(frozen=True)
class Lambada:
    """The last word of each of 5,153 passages, given what comes before it (GPT-2 paper, section 3.3).

    The word is what follows the last space, with that space: in seven passages of OpenAI's text a line break is inside
    it. One pass gives three figures: `perplexity`, exp of the mean of the words' summed nats (a per-token mean would be
    half as large); `accuracy`, the share of words whose every token is the most probable one given those before it
    (greedy decoding would write it); `accuracy_filtered`, the same with a stop-word filter, as the paper's 63.24 has
    (without one 52.66).

    text: `openai`, the untokenised rebuild that OpenAI published (openai/gpt-2#131); `zenodo`, the authors', tokenised
        and in lower case; `zenodo+moses`, that with its marks joined to their words.
    prefix: what comes before the passage. `newline` is what OpenAI said they did (openai/gpt-2#131), as is
    quotes: `ascii`, curly (and Treebank) double quotes made straight ones.
    match: `word`, all tokens of the word have to be right; `last_token`, only the last one (bflm's 46.67 for 117M).
    filter: words a model may not answer. OpenAI's list is not known: NLTK's of 127 words (47 answers are in it, so that
        it can at best reach 99.1 %), the same and tokens without letter or digit (quotes, full stops, line breaks,
        the end of the text), or NLTK's later list of 179. That the widest comes closest is a guess: public figures
        with 127 words stay 4 points below the paper's.
    filter_at: what "may not" means. A token is banned that is a space and a stop word in lower case, or " I"; with it
        go the words that merely begin so (" were|wolf", but not " themselves", which is another token than " the");
        `answers_unreachable` in the results counts the answers lost. `first token`: banned as the word's first token,
        where a wrong answer usually begins. `every token`: also after it, where a stop word would end the answer too
        early (as in bflm, which bans the tokens without the space, too). `whole word beam`: exact: the most probable
        whole word that is no stop word in whatever case, by a search over words (`word_search`), has to be the answer;
        answers with punctuation inside are out of its reach.
    ppl: `renormalised`, probabilities are those among tokens not banned; answers that are banned keep the plain ones.
    rules: token borders; `lm-eval`'s differ where a passage has a space before its last one.
    """

    name: ClassVar[str] = "lambada"
    version: ClassVar[int] = 1
    title: ClassVar[str] = "LAMBADA"

    text: Literal["openai", "zenodo", "zenodo+moses"] = "openai"
    prefix: Literal["none", "newline", "eot"] = "newline"
    quotes: Literal["as is", "ascii"] = "ascii"
    match: Literal["word", "last_token"] = "word"
    filter: Literal["none", "nltk127", "nltk127+punct", "nltk179"] = "nltk127+punct"
    filter_at: Literal["first token", "every token", "whole word beam"] = "every token"
    ppl: Literal["plain", "renormalised"] = "plain"
    rules: BorderRule = "exact"

    def __post_init__(self) -> None:
        if self.ppl == "renormalised" and (self.filter == "none" or self.filter_at == "whole word beam"):
            raise BadOption(
                f"ppl=renormalised with filter={self.filter}, filter_at={self.filter_at}: no token is banned then; take"
                " a filter at first token or every token."
            )
        if self.filter_at == "whole word beam" and self.match == "last_token":
            raise BadOption("filter_at=whole word beam with match=last_token: whole words can only match as words.")

    def read(self, source: DataSource) -> EvaluationSet[str]:
        """The passages, whole."""
        return read_lambada(source, "openai" if self.text == "openai" else "original")

    def passage(self, text: str) -> tuple[str, str]:
        """What is given, and the word asked for with its space. Raises BadInput where there are no two words."""
        if self.text == "zenodo+moses":
            text = detokenize_lambada(text)
        if self.quotes == "ascii":
            for curly, straight in _ASCII_QUOTES:
                text = text.replace(curly, straight)
        if self.rules == "exact":
            text = text.strip()
        before, space, word = text.rpartition(" ")
        if not before.strip() or not word:
            raise BadInput(f"{text[:40]!r} is no passage with a last word: it needs a space between two words.")
        return ("\n" if self.prefix == "newline" else "") + before, space + word

    def questions(
        self,
        found: EvaluationSet[str],
        tokenizer: ByteLevelBPE,
        context_length: int,  # noqa: ARG002
    ) -> Sequence[Question]:
        """One pair a passage."""
        questions = []
        for number, text in enumerate(found.items, 1):
            try:
                before, word = self.passage(text)
            except BadInput as error:
                raise BadInput(f"item {number}: {error}") from None
            pair = text_pair(tokenizer, before, word, self.rules)
            if self.prefix == "eot":
                pair = Pair((tokenizer.end_of_text, *pair.context), pair.continuation)
            questions.append(Question(str(number), (pair,), text, {"answer": word.strip()}))
        return questions

    def facts(self, found: EvaluationSet[str], tokenizer: ByteLevelBPE) -> dict[str, Any]:
        """Passages, tokens of their last words, and how many of these the filter keeps from being answered."""
        words = [self.passage(text)[1] for text in found.items]
        tokens = [tokenizer.encode(word) for word in words]
        facts: dict[str, Any] = {
            "passages": len(words),
            "target_tokens": sum(map(len, tokens)),
            "tokens_per_target": {str(count): n for count, n in sorted(Counter(map(len, tokens)).items())},
        }
        if self.filter != "none":
            stop_words = STOP_WORDS[_LISTS[self.filter]]
            facts["answers_in_stop_list"] = sum(word.strip().lower() in stop_words for word in words)
        if (banned := self.banned(tokenizer)) is not None:
            facts["answers_unreachable"] = sum(
                bool(banned.first[ids[0]]) or bool(banned.later[ids[1:]].any()) for ids in tokens
            )
        return facts

    def banned(self, tokenizer: ByteLevelBPE) -> BannedTokens | None:
        """The filter's tokens; none where whole words are searched for."""
        if self.filter == "none" or self.filter_at == "whole word beam":
            return None
        first = torch.tensor([self._bans(token) for token in tokenizer.token_bytes])
        return BannedTokens(first, first if self.filter_at == "every token" else torch.zeros_like(first))

    def _bans(self, token: bytes) -> bool:
        # <|endoftext|> has no bytes, and so is punctuation.
        if self.filter == "nltk127+punct" and is_punctuation(token):
            return True
        text = token.decode("utf-8", "replace")
        return text == " I" or (text.startswith(" ") and text[1:] in STOP_WORDS[_LISTS[self.filter]])

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:  # noqa: ARG002
        """Nats of the word, and whether it is the model's."""
        (word,) = scores
        last = slice(None) if self.match == "word" else slice(-1, None)
        row: Row = {"nats": -word.total, "units": 1, "accuracy": all(word.best[last])}
        if word.allowed_best is not None:
            row["accuracy_filtered"] = all(word.allowed_best[last])
        if self.ppl == "renormalised" and word.allowed_log_probs is not None:
            total = sum(word.allowed_log_probs)
            row["nats"] = -total if total != -float("inf") else row["nats"]
        return row

    def predict(self, model: LanguageModel, question: Question) -> Row:
        """With `whole word beam`: the model's word and whether it is the passage's; nothing otherwise."""
        if self.filter_at != "whole word beam":
            return {}
        stop_words = STOP_WORDS[_LISTS[self.filter]] if self.filter != "none" else frozenset()
        found = most_probable_word(
            model.network,
            model.tokenizer,
            question.pairs[0].context,
            lambda word: word.lower() not in stop_words,
        )
        if found is None:
            return {"predicted": "", "accuracy_filtered": False}
        right = found.word == question.facts["answer"]
        return {"predicted": found.word, "search_ended": found.exact, "accuracy_filtered": right}

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Perplexity a word, accuracy, and accuracy with the filter where there is one."""
        found = [
            perplexity("perplexity", [row["nats"] for row in rows], [row["units"] for row in rows]),
            accuracy("accuracy", [row["accuracy"] for row in rows]),
        ]
        if all("accuracy_filtered" in row for row in rows):
            found.append(accuracy("accuracy_filtered", [row["accuracy_filtered"] for row in rows]))
        return found


PAPER = {"lambada": Lambada()}
LM_EVAL = {"lambada_openai": Lambada(prefix="none", quotes="as is", filter="none", rules="lm-eval")}
