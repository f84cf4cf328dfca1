"""De-tokenizers for the Children's Book Test, whose sentences are Penn Treebank tokens with spaces between them.

none: nothing.

lm-eval: the rules of lm-evaluation-harness up to v0.3 (`cbt.py`): clitics, full stops, double quotes. Brackets stay
`-LRB-`, opening single quotes stay back-quotes with a space after them.

full: all that can be told from the tokens: brackets, both kinds of quotes, clitics, punctuation, `$`, `%`, `gon na`.
"""

from typing import Literal

from gpt2lab.evaluate.detokenizers.replacing import replace_in_order

CBTRules = Literal["none", "lm-eval", "full"]

_LM_EVAL = (
    (" '", "'"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" n't", "n't"),
    ("`` ", '"'),
    ("''", '"'),
    *((f" {mark}", mark) for mark in ":;!?,."),
)
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_QUOTES = {"``": '"', "''": '"', "`": "'"}
_STICKS_TO_NEXT = frozenset("([{$£#") | {"``", "`"}
_STICKS_TO_LAST = frozenset(")]},.;:!?%'") | {"...", "''", "n't", "'s", "'re", "'ve", "'ll", "'d", "'m"}
_SPLIT_WORDS = frozenset(  # that the Penn Treebank's tokenizer takes apart
    "can not,gon na,got ta,wan na,gim me,lem me,'t is,'t was,d' ye,more 'n".split(",")
)


def detokenize_cbt(text: str, rules: CBTRules) -> str:
    """Text of a sentence, or of several with newlines between them (which stay); the gap `XXXXX` is a word."""
    match rules:
        case "none":
            return text
        case "lm-eval":
            return replace_in_order(text, _LM_EVAL)
        case "full":
            return "\n".join(map(_full, text.split("\n")))


def _full(line: str) -> str:
    words = [_BRACKETS.get(word.upper(), word) for word in line.split()]
    text, quote_is_open = "", False
    for number, word in enumerate(words):
        last = words[number - 1] if number else ""
        opens = word == '"' and not quote_is_open
        if word == '"':
            quote_is_open = not quote_is_open
        after_opening = last in _STICKS_TO_NEXT or (last == '"' and quote_is_open and word != '"')
        sticks = word.lower() in _STICKS_TO_LAST or (word == '"' and not opens)
        if number and not sticks and not after_opening and f"{last} {word}".lower() not in _SPLIT_WORDS:
            text += " "
        text += _QUOTES.get(word, word)
    return text
