"""The cleaning that every text gets, wherever it came from."""

import re
import unicodedata

_LINE_ENDS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[\u00a0\u2007\u202f]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n{3,}")

_PILED_MARKS = 30
"""Combining marks kept on one letter: the limit of Unicode's stream-safe format (UAX 15, section 13)."""
_RUN_OF_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_PILED_MARKS + 1},}}")


def clean_text(text: str) -> str:
    """Text in NFC with plain spaces and newlines, without control characters, trailing spaces or runs of blank lines.

    Indentation is kept, and tabs inside lines. Marks piled on one letter beyond 30 are dropped, as normalising
    them takes the square of their number: 20 seconds for 160 kB. Idempotent.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _SPACES.sub(" ", text)
    text = _INVISIBLE.sub("", text)
    text = without_surrogates(text)
    text = _RUN_OF_MARKS.sub(_unpile, text)
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        text = _RUN_OF_MARKS.sub(_unpile, composed)  # there are characters that NFC takes apart into two marks
    text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])  # the plain pattern takes the square of a run
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def without_surrogates(text: str) -> str:
    """Text that can be encoded: lone surrogates become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def _unpile(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _PILED_MARKS:
            kept.append(character)
    return "".join(kept)
