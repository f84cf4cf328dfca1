"""What the quality rules measure of a text: counts, and shares from 0 to 1. None: there is nothing to measure in it."""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from gpt2lab.webtext.quality.text import Text, has_unspaced_letter

LONGEST_ERROR_PAGE = 1500  # characters; an article about errors is longer
SHORT_LINE = 30  # characters, FineWeb

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "‣", "▪", "●", "◦", "*", "-")
_ELLIPSES = ("...", "…")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_LONGEST_WORD = 1000  # characters, C4
_FEWEST_WORDS = 3  # on a line, C4

_TERMINALS = tuple(".!?…。！？｡．؟۔।॥։።។။")
_CLOSERS = "\"'”’»›)]」』）"
_C4_ENDS = (*_TERMINALS, '"', "”", "'", "’")
_MARK, _CLOSER = f"[{''.join(_TERMINALS)}]", f"[{re.escape(_CLOSERS)}]"
_SENTENCE_END = re.compile(rf"{_MARK}{_CLOSER}*+(?!\S)")
_UNSPACED_SENTENCE_END = re.compile(rf"[。！？｡．]++{_CLOSER}*+(?=\S)")

_ERROR = re.compile(
    r"""^(?:.{1,60}[:|·–—-]\s+)?(?:
        (?:http\s+)?(?:error|fehler|oops)(?:\s*[:–—-]\s.*|[\s!]*)           # "Error", "Pydoc: Error - x"
      | (?:http\s+)?(?:error\s+)?[45]\d\d(?:\s*[:–—-]?\s*(?:error|page|not\ found|file|forbidden|bad|gone|internal
            |service|unauthorized|access|server|too\ many|method|gateway).*|[.!]?)   # "404", "503 Service Unavailable"
      | (?:(?:the|this)\s+)?(?:requested\s+)?(?:page|file|url|site|document|content|resource)?\s*
            (?:was\s+|is\s+|could\s+|can)?\s*not\s+(?:be\s+)?found.{0,40}   # "Page not found"
      | page\s+(?:can(?:'|’)t|cannot|could\s+not)\s+be\s+found.{0,40}
      | (?:access\s+(?:is\s+)?(?:denied|forbidden)|forbidden|bad\ gateway|bad\ request|gateway\ time-?out
            |internal\ server\ error|service\ (?:temporarily\ )?unavailable|too\ many\ requests).{0,40}
      | (?:just\ a\ moment|are\ you\ (?:a\ )?(?:human|robot)|attention\ required).{0,40}   # what robots are shown
    )(?:\s+[|·–—-]\s+.{1,60})?$""",
    re.IGNORECASE | re.VERBOSE,
)


def characters(text: Text) -> float:
    """Characters of the text."""
    return len(text.text)


def visible_characters(text: Text) -> float:
    """Characters between the first and the last that is no white space."""
    return len(text.text.strip())


def error_headings(text: Text) -> float:
    """How many of title and first line name an error, where the text is short; an article about errors is longer."""
    if len(text.text) > LONGEST_ERROR_PAGE:
        return 0
    headings = (text.title.strip(), text.lines[0] if text.lines else "")
    return sum(0 < len(heading) <= 200 and _ERROR.match(heading) is not None for heading in headings)


def word_count(text: Text) -> float:
    """Words."""
    return len(text.words)


def mean_word_length(text: Text) -> float | None:
    """Mean characters of a word; not measured where most of the text is in scripts without spaces."""
    return _share(sum(map(len, text.spaced_words)), len(text.spaced_words))


def symbols_per_word(text: Text) -> float:
    """Hash signs, or ellipses if there are more of those, for each word."""
    ellipses = text.text.count("...") + text.text.count("…")
    return max(text.text.count("#"), ellipses) / max(1, len(text.words))


def bullet_lines(text: Text) -> float | None:
    """Share of the lines that start with a bullet."""
    return _share(sum(line.startswith(_BULLETS) for line in text.lines), len(text.lines))


def ellipsis_lines(text: Text) -> float | None:
    """Share of the lines that end with an ellipsis."""
    return _share(sum(line.endswith(_ELLIPSES) for line in text.lines), len(text.lines))


def alphabetic_words(text: Text) -> float | None:
    """Share of the words that hold a letter."""
    holds = (word[0].isalpha() or any(map(str.isalpha, word)) for word in text.vocabulary)
    with_letter = np.fromiter(holds, bool, len(text.vocabulary))[text.word_numbers]
    return _share(int(np.count_nonzero(with_letter)), len(text.words))


def stop_words(text: Text) -> float:
    """How many different ones of *the, be, to, of, and, that, have, with* there are, in upper or lower case."""
    return len(_STOP_WORDS.intersection(map(str.lower, text.vocabulary)))


def duplicate_lines(text: Text) -> float | None:
    """Share of the lines that were there before."""
    return _duplicates(text.lines)


def duplicate_line_characters(text: Text) -> float | None:
    """Share of the characters in lines that were there before."""
    return _duplicate_characters(text.lines)


def duplicate_paragraphs(text: Text) -> float | None:
    """Share of the paragraphs (between blank lines) that were there before."""
    return _duplicates(text.paragraphs)


def duplicate_paragraph_characters(text: Text) -> float | None:
    """Share of the characters in paragraphs that were there before."""
    return _duplicate_characters(text.paragraphs)


def top_ngram(n: int) -> Callable[[Text], float]:
    """A measure of the most frequent n-gram."""

    def measure(text: Text) -> float:
        return text.repeated[n].top_share

    measure.__doc__ = f"Share of the characters in the most frequent {n}-gram of words, if it occurs more than once."
    return measure


def duplicate_ngrams(n: int) -> Callable[[Text], float]:
    """A measure of all repeated n-grams."""

    def measure(text: Text) -> float:
        return text.repeated[n].duplicate_share

    measure.__doc__ = f"Share of the characters in {n}-grams of words that were there before, overlaps counted once."
    return measure


def lorem_ipsum(text: Text) -> float:
    """How often "lorem ipsum" occurs, in upper or lower case."""
    return text.lower.count("lorem ipsum")


def curly_brackets(text: Text) -> float:
    """How many opening curly brackets there are."""
    return text.text.count("{")


def sentences(text: Text) -> float:
    """Sentences in the lines that C4 keeps: 3 words or more, none over 1000 characters, no javascript, no policy."""
    return _sentences(_lines_of_c4(text), text.unspaced)


def punctuated_sentences(text: Text) -> float:
    """Sentences as in `sentences`, in only those lines that end in a final or quotation mark, not an ellipsis."""
    ended = [line for line in _lines_of_c4(text) if line.endswith(_C4_ENDS) and not line.endswith(_ELLIPSES)]
    return _sentences(ended, text.unspaced)


def punctuated_lines(text: Text) -> float | None:
    """Share of the lines that end in a sentence's final mark; quotation marks and brackets may follow it."""
    return _share(sum(map(_ends_sentence, text.lines)), len(text.lines))


def short_lines(text: Text) -> float | None:
    """Share of the lines with fewer than 30 characters."""
    return _share(sum(len(line) < SHORT_LINE for line in text.lines), len(text.lines))


def _lines_of_c4(text: Text) -> list[str]:
    unwanted = tuple(phrase for phrase in ("javascript", *_POLICIES) if phrase in text.lower)
    return [
        line
        for line in text.lines
        if (len(line.split(None, _FEWEST_WORDS - 1)) == _FEWEST_WORDS or (text.unspaced and has_unspaced_letter(line)))
        and not (unwanted and any(phrase in line.lower() for phrase in unwanted))
        and not (len(line) > _LONGEST_WORD and any(len(word) > _LONGEST_WORD for word in line.split()))
    ]


def _sentences(lines: list[str], unspaced: bool) -> int:
    """Final marks, and what stands after the last one of a line."""
    joined = "\n".join(lines)
    ended = len(_SENTENCE_END.findall(joined)) + (len(_UNSPACED_SENTENCE_END.findall(joined)) if unspaced else 0)
    return ended + sum(not _ends_sentence(line) for line in lines)


def _ends_sentence(line: str) -> bool:
    return line.rstrip(_CLOSERS).endswith(_TERMINALS)


def _duplicates(parts: list[str]) -> float | None:
    return _share(len(parts) - len(set(parts)), len(parts))


def _duplicate_characters(parts: list[str]) -> float | None:
    distinct = Counter(parts)
    every = sum(map(len, parts))
    return _share(every - sum(map(len, distinct)), every)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
