"""A text as the quality rules look at it: its words, lines and paragraphs, each found once however many rules ask."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gpt2lab.webtext.quality.repetition import RepeatedNgrams, repeated_ngrams

LONGEST_NGRAM = 10  # of Gopher's rules

_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese kana, Han."""
_UNSPACED_LETTER = re.compile(f"[{_WITHOUT_SPACES}]")
_WORD_OR_UNSPACED_LETTER = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+")


@dataclass(frozen=True)
class Text:
    """A text and the title of its page."""

    text: str
    title: str = ""

    @cached_property
    def unspaced(self) -> bool:
        """Whether any of it is in a script that puts no spaces between words."""
        return not self.text.isascii() and _UNSPACED_LETTER.search(self.text) is not None

    @cached_property
    def words(self) -> list[str]:
        """What white space separates; in scripts without spaces every letter is a word."""
        return _WORD_OR_UNSPACED_LETTER.findall(self.text) if self.unspaced else self.text.split()

    @cached_property
    def spaced_words(self) -> list[str]:
        """The words that have a length: those of scripts that put spaces between them; none if most of it is not so."""
        if not self.unspaced:
            return self.words
        spaced = [word for word in self.words if not _UNSPACED_LETTER.match(word)]
        return spaced if len(spaced) > len(self.words) / 2 else []

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The different words, numbered in the order they come."""
        return {word: number for number, word in enumerate(dict.fromkeys(self.words))}

    @cached_property
    def word_numbers(self) -> npt.NDArray[np.int64]:
        """int64 (words,): the number in the vocabulary of each word."""
        return np.fromiter(map(self.vocabulary.__getitem__, self.words), np.int64, len(self.words))

    @cached_property
    def repeated(self) -> dict[int, RepeatedNgrams]:
        """The n-grams that occur more than once, by n from 2 to 10."""
        characters = np.fromiter(map(len, self.vocabulary), np.int64, len(self.vocabulary))
        return dict(repeated_ngrams(self.word_numbers, characters[self.word_numbers], LONGEST_NGRAM))

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, stripped."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What blank lines separate, stripped."""
        return [stripped for part in self.text.split("\n\n") if (stripped := part.strip())]

    @cached_property
    def lower(self) -> str:
        """The text in lower case."""
        return self.text.lower()


def has_unspaced_letter(line: str) -> bool:
    """Whether a line is, if only in part, in a script that puts no spaces between words."""
    return not line.isascii() and _UNSPACED_LETTER.search(line) is not None
