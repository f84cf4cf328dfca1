"""De-tokenizers for the Penn Treebank as Mikolov et al. (2010) prepared it: lower case, no punctuation, `N`, `<unk>`.

none: nothing.

megatron: the rules of Megatron-LM; ` N ` becomes `1 ` without the space before it ("plunged1 points").

sedd: those of Lou et al. 2023, used by MDLM and others after it: numbers become 1, `<unk>` becomes `?`.

roundtrip: ours: clitics, `$`, `#`, `%`, and what `Edits` asks for; invertible (see `roundtrip`).
"""

import re
from dataclasses import dataclass
from typing import Literal

from gpt2lab.evaluate.detokenizers.replacing import replace_in_order
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized, detokenize_lines

PTBRules = Literal["none", "megatron", "sedd", "roundtrip"]
RARE = "\N{REPLACEMENT CHARACTER}"
"""What `unk="rare"` writes for an unknown word: a string that no text of the set holds and that says the same."""

_MEGATRON = (
    (" '", "'"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" n't", "n't"),
    (" N ", "1 "),
    ("$ 1", "$1"),
    ("# 1", "#1"),
)
_SEDD = (
    (" 's", "'s"),
    ("s ' ", "s' "),
    (" n't", "n't"),
    (" \n ", "\n"),
    ("\\/", "/"),
    *((" N ", " 1 "),) * 2,  # twice, because neighbouring Ns share a space
    ("$ 1", "$1"),
    ("# 1", "#1"),
    ("<unk>", "?"),
)
_AFTER_WORD = re.compile(r" (n't|'(?:s|re|ve|ll|d|m)?|%)(?![^ ])")
_BEFORE_WORD = re.compile(r"(?<![^ ])([$#]) (?=\S)")
_SET_APART_AFTER = re.compile(r"(?<=\S)(n't|'(?:s|re|ve|ll|d|m)?|%)(?![^ ])")
_SET_APART_BEFORE = re.compile(r"(?<![^ ])([$#])(?=\S)")
_UNKNOWN = {"?": "?", "rare": RARE}


@dataclass(frozen=True)
class Edits:
    """What our rules may do beside joining: each is undone by the inverse.

    `n_map` writes numbers as N or 1; `unk` unknown words as they are, as `?`, or as U+FFFD; sentences may begin with a
    capital letter and end with a full stop, which the set took away.
    """

    n_map: Literal["N", "1"] = "N"
    unk: Literal["literal", "?", "rare"] = "literal"
    capitalise_sentence: bool = False
    add_period: bool = False


def megatron(text: str) -> str:
    """Megatron-LM's rules (`tasks/zeroshot_gpt/detokenizer.py`), on a whole text."""
    return replace_in_order(text, _MEGATRON)


def sedd(text: str) -> str:
    """The rules of louaaron/Score-Entropy-Discrete-Diffusion (`data.py`), on a whole text."""
    return replace_in_order(text, _SEDD)


def roundtrip(text: str, edits: Edits) -> Detokenized:
    """Our rules, line by line; `inverse` gives each line back that is not verbatim."""
    return detokenize_lines(text, lambda line: forward(line, edits), lambda line: inverse(line, edits))


def forward(line: str, edits: Edits) -> str:
    """One line, which begins and ends with a space, as ordinary text."""
    if line[:1] != " " or line[-1:] != " " or not line.strip(" "):
        return line.strip(" ")
    words = line[1:-1].split(" ")
    if edits.n_map == "1":
        words = ["1" if word == "N" else word for word in words]
    if edits.unk != "literal":
        words = [_UNKNOWN[edits.unk] if word == "<unk>" else word for word in words]
    text = _BEFORE_WORD.sub(r"\1", _AFTER_WORD.sub(r"\1", " ".join(words)))
    if edits.capitalise_sentence:
        text = text[:1].upper() + text[1:]
    return text + "." * edits.add_period


def inverse(line: str, edits: Edits) -> str:
    """One line of the set from ordinary text."""
    text = line.removesuffix(".") if edits.add_period else line
    if edits.capitalise_sentence and text.split(" ", 1)[0] != "N":
        text = text[:1].lower() + text[1:]
    text = _SET_APART_AFTER.sub(r" \1", _SET_APART_BEFORE.sub(r"\1 ", text))
    words = text.split(" ") if text else []
    if edits.n_map == "1":
        words = ["N" if word == "1" else word for word in words]
    if edits.unk != "literal":
        words = ["<unk>" if word == _UNKNOWN[edits.unk] else word for word in words]
    return " ".join(["", *words, ""]) if words else " "
