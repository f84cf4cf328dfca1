"""A de-tokenizer for LAMBADA as its authors published it: lower-case Penn Treebank words with spaces between them.

In the manner of the Moses toolkit's `detokenizer.perl` for English, and as bflm's re-measurements had it
(cybertronai/bflm `eval_lambada_slow.py --detokenize --detokenize_havent`): marks go to the word they belong to. Quotes
stay `` and '' where they were; `quotes` of the task says what becomes of them.
"""

_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}"}
_OPENING = frozenset("([{$£#`¿¡“‘") | {"``"}
_CLOSING = frozenset(")]}.,:;!?%'”’…") | {"''", "...", "....", "n't", "'s", "'m", "'d", "'re", "'ve", "'ll", "?!", "!!"}


def detokenize_lambada(text: str) -> str:
    """Text of a passage, each mark joined to the word it belongs to."""
    joined, last_opens = "", True
    for word in text.split():
        word = _BRACKETS.get(word, word)
        joined += word if last_opens or word in _CLOSING else f" {word}"
        last_opens = word in _OPENING
    return joined
