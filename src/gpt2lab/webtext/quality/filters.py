"""Quality rules: named measurements with bounds, the published sets of them, and the judging of a text by some."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.quality import measures
from gpt2lab.webtext.quality.text import Text


@dataclass(frozen=True)
class Rule:
    """A text passes when the measurement lies between the bounds, or when there is nothing to measure in it."""

    name: str
    source: str
    measure: Callable[[Text], float | None]
    minimum: float = -inf
    maximum: float = inf
    exclusive: bool = False
    """the bounds themselves are removed too"""
    english: bool = False
    """made for English: removes good texts in other languages"""

    def passes(self, value: float) -> bool:
        """Whether a measurement is one that keeps the text."""
        if self.exclusive:
            return self.minimum < value < self.maximum
        return self.minimum <= value <= self.maximum

    @property
    def bounds(self) -> str:
        """The measurements that keep a text, in mathematical notation."""
        less = "<" if self.exclusive else "≤"
        lower = "" if self.minimum == -inf else f"{self.minimum:g} {less} "
        upper = "" if self.maximum == inf else f" {less} {self.maximum:g}"
        return f"{lower}x{upper}"


@dataclass(frozen=True)
class Removal:
    """The rule a text broke and the measurement that broke it."""

    rule: str
    value: float


@dataclass(frozen=True)
class Judgement:
    """What the rules say of a text: why it is removed, if it is, and all that was measured until then, by rule."""

    removal: Removal | None
    scores: dict[str, float]


_WEBTEXT = "Radford et al. 2019, section 2.1"
_OURS = "this project's"
_GOPHER = "Gopher: Rae et al. 2021, appendix A.1.1"
_GOPHER_TABLE = "Gopher: Rae et al. 2021, appendix A.1.1, table A1"
_C4 = "C4: Raffel et al. 2020, section 2.2"
_FINEWEB = "FineWeb: Penedo et al. 2024, section 3.6"

_EMPTY = Rule("empty", _OURS, measures.visible_characters, minimum=1)
_CLEANING = (
    Rule("error_page", _OURS, measures.error_headings, maximum=0),
    Rule("too_short", f"{_OURS}, after {_WEBTEXT}", measures.characters, minimum=128),
)
_GOPHER_QUALITY = (
    Rule("word_count", _GOPHER, measures.word_count, 50, 100_000),
    Rule("mean_word_length", _GOPHER, measures.mean_word_length, 3, 10),
    Rule("symbol_to_word_ratio", _GOPHER, measures.symbols_per_word, maximum=0.1),
    Rule("bullet_lines", _GOPHER, measures.bullet_lines, maximum=0.9),
    Rule("ellipsis_lines", _GOPHER, measures.ellipsis_lines, maximum=0.3),
    Rule("alphabetic_words", _GOPHER, measures.alphabetic_words, minimum=0.8),
    Rule("stop_words", _GOPHER, measures.stop_words, minimum=2, english=True),
)
_DUPLICATE_LINES = (
    Rule("duplicate_lines", _GOPHER_TABLE, measures.duplicate_lines, maximum=0.30),
    Rule("duplicate_line_characters", _GOPHER_TABLE, measures.duplicate_line_characters, maximum=0.20),
    Rule("duplicate_paragraphs", _GOPHER_TABLE, measures.duplicate_paragraphs, maximum=0.30),
    Rule("duplicate_paragraph_characters", _GOPHER_TABLE, measures.duplicate_paragraph_characters, maximum=0.20),
)
_REPEATED_NGRAMS = (
    *(
        Rule(f"top_{n}_gram", _GOPHER_TABLE, measures.top_ngram(n), maximum=share)
        for n, share in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(
        Rule(f"duplicate_{n}_grams", _GOPHER_TABLE, measures.duplicate_ngrams(n), maximum=share)
        for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
)
_C4_RULES = (
    Rule("lorem_ipsum", _C4, measures.lorem_ipsum, maximum=0),
    Rule("curly_bracket", _C4, measures.curly_brackets, maximum=0),
    Rule("sentences", _C4, measures.sentences, minimum=5),
)
_TERMINAL_PUNCTUATION = Rule("terminal_punctuation", _C4, measures.punctuated_sentences, minimum=5)
_FINEWEB_RULES = (
    Rule("line_punctuation", _FINEWEB, measures.punctuated_lines, minimum=0.12, exclusive=True),
    Rule("short_lines", _FINEWEB, measures.short_lines, maximum=0.67, exclusive=True),
    Rule(
        "duplicate_line_characters_fineweb",
        _FINEWEB,
        measures.duplicate_line_characters,
        maximum=0.1,
        exclusive=True,
    ),
)

RULES: tuple[Rule, ...] = (
    _EMPTY,
    *_CLEANING,
    *_GOPHER_QUALITY,
    *_DUPLICATE_LINES,
    *_C4_RULES,
    _TERMINAL_PUNCTUATION,
    *_FINEWEB_RULES,
    *_REPEATED_NGRAMS,
)
"""All rules, in the order they are asked: cheap ones first."""

_SETS: dict[str, tuple[Rule, ...]] = {
    "none": (),
    "paper": _CLEANING,
    "gopher-quality": _GOPHER_QUALITY,
    "gopher-repetition": (*_DUPLICATE_LINES, *_REPEATED_NGRAMS),
    "gopher": (*_GOPHER_QUALITY, *_DUPLICATE_LINES, *_REPEATED_NGRAMS),
    "c4": _C4_RULES,
    "fineweb": _FINEWEB_RULES,
    "web": (
        *_CLEANING,
        *_GOPHER_QUALITY,
        *_DUPLICATE_LINES,
        *_C4_RULES,
        *_FINEWEB_RULES,
        *_REPEATED_NGRAMS,
    ),
}
RULE_SETS: dict[str, tuple[str, ...]] = {name: tuple(rule.name for rule in rules) for name, rules in _SETS.items()}
"""The names of the rules of each set; `empty` is asked whatever the set."""


def rules_of(
    filters: tuple[str, ...] = ("web",), without: tuple[str, ...] = (), minimum_characters: int = 128
) -> tuple[Rule, ...]:
    """The rules of some sets and single rules by name, but for those of `without`, each once and cheap ones first.

    `empty` is always among them: what has no text is no document. `minimum_characters` is the bound of `too_short`.
    Raises BadOption when a name is unknown.
    """
    chosen = _rule_names("filters", filters) - _rule_names("without-rules", without) | {_EMPTY.name}
    return tuple(
        replace(rule, minimum=minimum_characters) if rule.name == "too_short" else rule
        for rule in RULES
        if rule.name in chosen
    )


def _rule_names(option: str, names: tuple[str, ...]) -> set[str]:
    single = {rule.name: (rule.name,) for rule in RULES}
    known = {**single, **RULE_SETS}
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3) or list(RULE_SETS)
            raise BadOption(f"{option}: there is no rule or set of rules {name!r}; nearest: {', '.join(nearest)}.")
    return {rule for name in names for rule in known[name]}


def judge(text: str, title: str, rules: tuple[Rule, ...]) -> Judgement:
    """Measure a text by `rules` until it breaks one."""
    looked_at = Text(text, title)
    scores: dict[str, float] = {}
    for rule in rules:
        value = rule.measure(looked_at)
        if value is None:
            continue
        scores[rule.name] = float(value)  # a large int fits no column of float32, a large float does
        if not rule.passes(value):
            return Judgement(Removal(rule.name, value), scores)
    return Judgement(None, scores)


def rules_table() -> str:
    """A Markdown table of all rules, for the documentation."""
    rows = ["| rule | measures x | keeps | sets | source |", "|---|---|---|---|---|"]
    for rule in RULES:
        sets = [f"`{name}`" for name, names in RULE_SETS.items() if rule.name in names]
        where = "always" if rule is _EMPTY else ", ".join(sets) or "only by name"
        what = (rule.measure.__doc__ or "").rstrip(".") + (" (**English only**)" if rule.english else "")
        rows.append(f"| `{rule.name}` | {what} | {rule.bounds} | {where} | {rule.source} |")
    return "\n".join(rows) + "\n"
