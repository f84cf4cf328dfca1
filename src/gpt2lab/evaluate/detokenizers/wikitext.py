"""De-tokenizers for WikiText-2 and WikiText-103.

none: nothing.

megatron: the rules of Megatron-LM, copied since into lm-evaluation-harness and many others. Some lose information
(` N ` becomes ` 1 `, quotes are paired across lines), so that their perplexity is of another text.

roundtrip: ours: punctuation, brackets, quotes paired within the line, clitics, `@-@` `@,@` `@.@`, currencies, headings,
the spaces at both ends of a line; invertible (see `roundtrip`).
"""

import re
from typing import Literal

from gpt2lab.evaluate.detokenizers.moses import join_tokens, split_tokens
from gpt2lab.evaluate.detokenizers.replacing import replace_in_order
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized, detokenize_lines

WikiTextRules = Literal["none", "megatron", "roundtrip"]

_BEFORE_PAIRS = (
    ("s '", "s'"),
    *((f" @{mark}@ ", mark) for mark in "-,."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
)
_PAIRS = tuple(
    (re.compile(rf"{re.escape(first)}\s*([^{re.escape(last)}]*?)\s*{re.escape(last)}"), rf"{first}\1{last}")
    for first, last in ("()", "[]", "{}", '""', "''")
)
_AFTER_PAIRS = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def megatron(text: str) -> str:
    """Megatron-LM's rules (`tasks/zeroshot_gpt/detokenizer.py`), on a whole text."""
    text = replace_in_order(text, _BEFORE_PAIRS)
    for pattern, trimmed in _PAIRS:
        text = pattern.sub(trimmed, text)
    return replace_in_order(text, _AFTER_PAIRS)


def roundtrip(text: str) -> Detokenized:
    """Our rules, line by line; `inverse` gives each line back that is not verbatim."""
    return detokenize_lines(text, forward, inverse)


def forward(line: str) -> str:
    """One line, which begins and ends with a space, as ordinary text."""
    if line == " " or line[:1] != " " or line[-1:] != " ":
        return line.strip(" ")
    text = join_tokens(line[1:-1].split(" "), marked=True)
    return line if text is None else text


def inverse(line: str) -> str:
    """One line of WikiText from ordinary text."""
    return f" {' '.join(split_tokens(line, marked=True))} " if line.strip(" ") else " "
