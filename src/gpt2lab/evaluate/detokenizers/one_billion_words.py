"""De-tokenizers for the One Billion Word benchmark, whose sentences were set apart by the Moses tokenizer.

none: nothing.

sedd: the rules of Lou et al. 2023 (Score Entropy Discrete Diffusion), used by MDLM and others after it. A quote goes
with the next one, wherever that is; not invertible.

roundtrip: ours, as for WikiText but without its `@-@` marks; invertible (see `roundtrip`).
"""

import re
from typing import Literal

from gpt2lab.evaluate.detokenizers.moses import join_tokens, split_tokens
from gpt2lab.evaluate.detokenizers.replacing import replace_in_order
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized, detokenize_lines

OneBillionWordRules = Literal["none", "sedd", "roundtrip"]

_PROTOCOLS = tuple((f"{name} : / / ", f"{name}://") for name in ("http", "https"))
_FULL_STOPS = ((re.compile(r" (\w+) \. "), r" \1. "), (re.compile(r" (\w+) \.$"), r" \1."))
_BETWEEN = (*((f" {mark} ", f"{mark} ") for mark in ",:;"), (" / ", "/"))
_PAIRS = tuple(
    (re.compile(rf"{re.escape(first)} ([^{re.escape(first + last)}]+) {re.escape(last)}"), rf"{first}\1{last}")
    for first, last in ('""', "''", "()", "[]")
)
_CLITIC = re.compile(r" '(\w+)")


def sedd(sentence: str) -> str:
    """The rules of louaaron/Score-Entropy-Discrete-Diffusion (`data.py`), on one sentence."""
    sentence = _CLITIC.sub(r"'\1", replace_in_order(sentence, _PROTOCOLS))
    for pattern, new in _FULL_STOPS:
        sentence = pattern.sub(new, sentence)
    for mark in "?!":
        sentence = sentence.replace(f" {mark} ", f"{mark} ")
        if sentence.endswith(f" {mark}"):
            sentence = sentence[:-2] + mark
    sentence = replace_in_order(sentence, _BETWEEN)
    for pattern, trimmed in _PAIRS:
        sentence = pattern.sub(trimmed, sentence)
    return replace_in_order(sentence, (("$ ", "$"), ("£ ", "£")))


def roundtrip(text: str) -> Detokenized:
    """Our rules, a sentence a line; `inverse` gives each line back that is not verbatim."""
    return detokenize_lines(text, forward, inverse)


def forward(line: str) -> str:
    """One sentence as ordinary text."""
    text = join_tokens(line.split(" "), marked=False)
    return line if text is None else text


def inverse(line: str) -> str:
    """One sentence of the set from ordinary text."""
    return " ".join(split_tokens(line, marked=False))
