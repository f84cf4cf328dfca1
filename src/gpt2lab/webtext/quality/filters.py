"""Quality rules: named pure functions that say of a text what is wrong with it, or None.

The rules of `web` are Gopher's (Rae et al. 2021, "Scaling Language Models", appendix A.1.1), made for English prose.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, get_args

RuleSet = Literal["web", "paper", "none"]
RULE_SETS: tuple[str, ...] = get_args(RuleSet)

LONGEST_ERROR_PAGE = 1500  # characters; an article about errors is longer

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "‣", "▪", "●", "◦", "*", "-")
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


@dataclass(frozen=True)
class Text:
    """A text as the rules look at it."""

    text: str
    title: str = ""

    @cached_property
    def words(self) -> list[str]:
        """What white space separates."""
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, stripped."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]


@dataclass(frozen=True)
class Removal:
    """The rule a text broke and the measurement that broke it."""

    rule: str
    value: float


Rule = tuple[str, Callable[[Text], float | None]]
"""A rule's name, and a function from a text to the offending measurement, or None when the text passes."""


def empty(text: Text) -> float | None:
    """Nothing but white space: the extractor found no text."""
    return None if text.words else 0.0


def error_page(text: Text) -> float | None:
    """A short page whose title or first line is that of an error, served as if all were well; value: characters."""
    if len(text.text) > LONGEST_ERROR_PAGE:
        return None
    first_line = text.lines[0] if text.lines else ""
    if any(len(line) <= 200 and _ERROR.match(line.strip()) for line in (text.title, first_line) if line):
        return float(len(text.text))
    return None


def too_short(text: Text, minimum_characters: int) -> float | None:
    """Fewer characters than `minimum_characters`; value: characters."""
    return float(len(text.text)) if len(text.text) < minimum_characters else None


def word_count(text: Text) -> float | None:
    """Not between 50 and 100,000 words (Gopher)."""
    count = len(text.words)
    return None if 50 <= count <= 100_000 else float(count)


def mean_word_length(text: Text) -> float | None:
    """Mean word length not between 3 and 10 characters (Gopher)."""
    mean = sum(map(len, text.words)) / max(1, len(text.words))
    return None if 3 <= mean <= 10 else mean


def symbol_to_word_ratio(text: Text) -> float | None:
    """More than one hash sign or ellipsis for every ten words (Gopher)."""
    words = max(1, len(text.words))
    ellipses = text.text.count("...") + text.text.count("…")
    ratio = max(text.text.count("#"), ellipses) / words
    return ratio if ratio > 0.1 else None


def bullet_lines(text: Text) -> float | None:
    """More than 90 % of the lines start with a bullet (Gopher)."""
    return _over(0.9, sum(line.startswith(_BULLETS) for line in text.lines), len(text.lines))


def ellipsis_lines(text: Text) -> float | None:
    """More than 30 % of the lines end with an ellipsis (Gopher)."""
    return _over(0.3, sum(line.endswith(("...", "…")) for line in text.lines), len(text.lines))


def alphabetic_words(text: Text) -> float | None:
    """Fewer than 80 % of the words hold a letter (Gopher)."""
    share = sum(any(map(str.isalpha, word)) for word in text.words) / max(1, len(text.words))
    return share if share < 0.8 else None


def stop_words(text: Text) -> float | None:
    """Fewer than two different ones of the, be, to, of, and, that, have, with (Gopher)."""
    found = len(_STOP_WORDS.intersection(word.lower() for word in text.words))
    return None if found >= 2 else float(found)


def duplicate_lines(text: Text) -> float | None:
    """More than 30 % of the lines were there before (Gopher, repetition)."""
    return _over(0.3, len(text.lines) - len(set(text.lines)), len(text.lines))


def duplicate_line_characters(text: Text) -> float | None:
    """More than 20 % of the characters are in lines that were there before (Gopher, repetition)."""
    again = sum(len(line) * (count - 1) for line, count in Counter(text.lines).items())
    return _over(0.2, again, sum(map(len, text.lines)))


def _over(limit: float, part: int, whole: int) -> float | None:
    share = part / max(1, whole)
    return share if share > limit else None


def rules_of(name: RuleSet, minimum_characters: int) -> tuple[Rule, ...]:
    """The rules of a set, in the order they are asked.

    `none` removes only what has no text at all; `paper` also error pages and texts under `minimum_characters`, as
    WebText (Radford et al. 2019, section 2.1) did hardly more than cleaning; `web` adds Gopher's.
    """
    rules: list[Rule] = [("empty", empty)]
    if name != "none":
        rules += [
            ("error_page", error_page),
            ("too_short", partial(too_short, minimum_characters=minimum_characters)),
        ]
    if name == "web":
        gopher = (word_count, mean_word_length, symbol_to_word_ratio, bullet_lines, ellipsis_lines, alphabetic_words)
        rules += [(rule.__name__, rule) for rule in (*gopher, stop_words, duplicate_lines, duplicate_line_characters)]
    return tuple(rules)


def judge(text: str, title: str, rules: tuple[Rule, ...]) -> Removal | None:
    """The first of `rules` that a text breaks, or None when it is kept."""
    looked_at = Text(text, title)
    for name, rule in rules:
        value = rule(looked_at)
        if value is not None:
            return Removal(name, value)
    return None
