"""Rules for English text whose words were set apart as the Moses tokenizer does (WikiText, the One Billion Word set).

Forward: which of the spaces between tokens an ordinary text would not have. Inverse: a tokenizer. Where the two do not
agree about a place, the space there stays, an artefact of the set rather than a loss; only a token that the inverse
would take apart however it is written makes a line impossible.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

MARKED = {"@-@": "-", "@,@": ",", "@.@": "."}
"""WikiText's marks for what stood inside a word or number."""

_AFTER_WORD = frozenset(", . ; : ! ? % ) ] } ” … ° ′ ″ ♭ ♯ ...".split())
_BEFORE_WORD = frozenset("( [ { “ $ £ € ¥ ₱ #".split())
_BETWEEN_WORDS = frozenset("/ — ‑ ⁄".split())
_CLITICS = frozenset("s t re ve ll d m S T".split())
_DOLLARS = frozenset("US A C NZ HK S R AU CA".split())

_ALWAYS_APART = re.compile(r'(\.{2,}|[;:!?%(){}\[\]"”“…°′″♭♯$£€¥₱#/–—‑⁄’‘])')
_HYPHEN = re.compile(r"(?<=[^\s-])-(?=[^\s-])")
_DECIMAL_POINT = re.compile(r"(?<![\w.])(\d+)\.(?=\d)")
_DIGIT_COMMA = re.compile(r"(?<=\d),(?=\d+\b)")
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
_INNER_APOSTROPHE = re.compile(r"(?<=[^\W_]|>)'(?=[^\W\d_])")
_FIRST_APOSTROPHE = re.compile(r"(?<!\S)'(?=\S)(?!(?:s|t|re|ve|ll|d|m|S|T)\b)")
_LAST_APOSTROPHE = re.compile(r"(?<=\S)'(?!\S)")
_EQUALS = re.compile(r"(?<!\S)=+(?!\S)")
# Words that keep their full stop: titles, ranks, company forms, Latin. Single capitals and U.S. are told by their form.
_ABBREVIATIONS = frozenset(
    "Adm Brig Bros Capt Cmdr Co Col Corp Dr Gen Gov Hon Inc Jr Lt Ltd Maj Messrs Mr Mrs Ms Prof Rep Rev Sen Sgt Sr St"
    " etc p pp var vs v".split()
)
_BEFORE_NUMBERS = frozenset("No Nos Art".split())


def join_tokens(tokens: Sequence[str], marked: bool) -> str | None:
    """Ordinary text of tokens, from which `split_tokens` makes the same tokens; None where there is no such text."""
    joined = _joined(tokens, marked)
    while True:
        text = _written(tokens, joined)
        found = split_tokens(text, marked)
        if found == list(tokens):
            return text
        wrong = next((n for n, (one, other) in enumerate(zip(tokens, found, strict=False)) if one != other), len(found))
        near = (wrong + 1, wrong, wrong + 2, wrong - 1, wrong - 2)
        place = next((n for n in near if 0 < n < len(tokens) and joined[n]), None)
        if place is None:
            return None
        joined[place] = False


def split_tokens(text: str, marked: bool) -> list[str]:
    """Tokens of ordinary text, in which punctuation, quotes and clitics are words.

    Where `marked`, so are hyphens, and the commas and points inside numbers, as `@-@`, `@,@`, `@.@`.
    """
    tokens: list[str] = []
    for word in text.split(" "):
        tokens += _split_word(word, marked) if word and word not in MARKED else (word,)
    return [
        part
        for number, token in enumerate(tokens)
        for part in _split_full_stop(token, tokens[number + 1] if number + 1 < len(tokens) else "")
    ]


@lru_cache(maxsize=1 << 16)
def _split_word(word: str, marked: bool) -> tuple[str, ...]:
    if marked:
        word = _HYPHEN.sub(" @-@ ", word)
        word = _DIGIT_COMMA.sub(" @,@ ", word)
        word = " ".join(
            piece if piece in MARKED else _COMMA.sub(" , ", _DECIMAL_POINT.sub(r"\1 @.@ ", piece))
            for piece in word.split(" ")
        )
    else:
        word = _COMMA.sub(" , ", word)
    word = _ALWAYS_APART.sub(r" \1 ", word)
    word = _EQUALS.sub(lambda run: " ".join(run[0]), word)
    word = _FIRST_APOSTROPHE.sub("' ", word)
    word = _INNER_APOSTROPHE.sub(" '", word)
    return tuple(_LAST_APOSTROPHE.sub(" '", word).split())


def _split_full_stop(token: str, following: str) -> tuple[str, ...]:
    """A last full stop set apart, unless it is part of the word (by the rules of Moses, with abbreviations of ours)."""
    word = token.removesuffix(".")
    if not word or word == token or token in MARKED or word.endswith("."):
        return (token,)
    initials = "." in word and any(map(str.isalpha, word))
    single_capital = len(word) == 1 and word.isupper()
    before_number = word in _BEFORE_NUMBERS and (following[:1].isdigit() or following == "<unk>")
    if initials or single_capital or word in _ABBREVIATIONS or before_number or following[:1].islower():
        return (token,)
    return word, "."


def _written(tokens: Sequence[str], joined: Sequence[bool]) -> str:
    pieces = []
    for number, token in enumerate(tokens):
        inside = joined[number] and number + 1 < len(tokens) and joined[number + 1]
        pieces.append((" " if number and not joined[number] else "") + (MARKED.get(token, token) if inside else token))
    return "".join(pieces)


def _joined(tokens: Sequence[str], marked: bool) -> list[bool]:
    """Whether each token follows the one before it without a space."""
    joined = [False] * (len(tokens) + 1)
    double_open = single_open = False
    for n, word in enumerate(tokens):
        before = tokens[n - 1] if n else ""
        after = tokens[n + 1] if n + 1 < len(tokens) else ""
        numbers = before[-1:].isdigit() and after[:1].isdigit()
        to_left = to_right = False
        if word in MARKED:
            to_left = to_right = marked
        elif word in _BETWEEN_WORDS or (word in "–:" and numbers):
            to_left = to_right = True
        elif word in _AFTER_WORD:
            to_left = True
            to_right = word == "°" and after in ("C", "F")
        elif word in _BEFORE_WORD:
            to_right = True
            to_left = word == "$" and before in _DOLLARS and after[:1].isdigit()
        elif word == '"':
            to_left, to_right = double_open, not double_open
            double_open = not double_open
        elif word == "’":
            to_left, to_right = True, after in _CLITICS
        elif word == "'":
            possessive = before.endswith("s") and not single_open
            opens = not possessive and not single_open and (after[:1].isdigit() or "'" in tokens[n + 2 : n + 20])
            to_left, to_right = not opens, opens
            single_open = opens and not after[:1].isdigit() if not single_open else False
        elif word.startswith("'"):
            to_left = True
        elif word == "=":
            to_left = before == "="
        joined[n] |= to_left and n > 0
        joined[n + 1] |= to_right
    return joined
