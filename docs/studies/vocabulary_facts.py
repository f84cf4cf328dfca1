"""What vocabularies of byte-level BPE show of the texts they were trained on; for docs/studies/own-bpe.md.

`python docs/studies/vocabulary_facts.py TOKENIZER [TOKENIZER]`: gpt2, or a folder that `gpt2lab tokens train` made.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from gpt2lab.tokens.bpe import SPLIT_PATTERN, ByteLevelBPE, split_words
from gpt2lab.tokens.tokenizer_files import find_tokenizer

SHOWN, LONGEST_SHOWN = 3, 20
_MOJIBAKE = re.compile("[ÃÂâ][\x80-\xbf]|[ÃÂ]{2}")
"""UTF-8 that was once read as Latin-1 and written as UTF-8 again."""


def main() -> None:
    """Print a table, a column a tokenizer, and examples."""
    names = sys.argv[1:3] or ["gpt2"]
    tokenizers = [find_tokenizer(name) for name in names]
    texts = [[text_of(token) for token in tokenizer.token_bytes[:-1]] for tokenizer in tokenizers]
    print(f"{'tokens':36}" + "".join(f"{name.rpartition('/')[2]:>10}" for name in names))
    for fact, holds in FACTS.items():
        found = [[text for text in each if text is not None and holds(text)] for each in texts]
        examples = sorted((text for text in found[0] if len(text) <= LONGEST_SHOWN), key=len, reverse=True)
        shown = "   " + ", ".join(repr(text) for text in examples[:SHOWN])
        print(f"{fact:36}" + "".join(f"{len(each):>10,}" for each in found) + shown)
    for fact, count in COUNTS.items():
        print(f"{fact:36}" + "".join(f"{count(tokenizer):>10,}" for tokenizer in tokenizers))
    scripts = [Counter(script for text in each if text for script in {script_of(text)} if script) for each in texts]
    for script, _ in scripts[0].most_common(12):
        print(f"{'in letters: ' + script:36}" + "".join(f"{each[script]:>10,}" for each in scripts))
    if len(tokenizers) == 2:
        first, second = (tokenizer.token_bytes[256:-1] for tokenizer in tokenizers)
        for most in (1_000, 10_000, len(first)):
            common = len(set(first[:most]) & set(second))
            print(f"of {names[0]}'s first {most:,} merges the other has {common / most:.1%}")


def text_of(token: bytes) -> str | None:
    """The token as text; None for a piece of a character."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return None


def script_of(text: str) -> str | None:
    """The script of a token's first letter, as the name of the letter tells it."""
    letter = next((character for character in text if character.isalpha()), None)
    return unicodedata.name(letter, "").split(" ")[0] if letter else None


def is_one_word(text: str) -> bool:
    """Whether GPT-2's split pattern leaves it whole; what follows it is not known, so a space may do."""
    return split_words(SPLIT_PATTERN, text) == [text] or split_words(SPLIT_PATTERN, text + "x")[0] == text


def differently_merged(tokenizer: ByteLevelBPE) -> int:
    """Tokens whose bytes, encoded alone with the earlier merges, do not end as the two parts that made them.

    None in a vocabulary that was learned by merging the pairs in this order.
    """
    rank = {tuple(merge.split(" ")): number for number, merge in enumerate(tokenizer.merges)}
    wrong = 0
    for number, merge in enumerate(tokenizer.merges):
        parts = list(merge.replace(" ", ""))
        while len(parts) > 2:
            pairs = [rank.get(pair, number) for pair in pairwise(parts)]
            if min(pairs) >= number:
                break
            place = pairs.index(min(pairs))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        wrong += parts != merge.split(" ")
    return wrong


FACTS: dict[str, Callable[[str], bool]] = {
    "whole characters": lambda text: True,  # noqa: ARG005
    "begin with a space and a letter": lambda text: len(text) > 1 and text[0] == " " and text[1].isalpha(),
    "letters without a space before": str.isalpha,
    "digits": lambda text: text.strip(" ").isdigit(),
    "white space only": str.isspace,
    "mojibake": lambda text: _MOJIBAKE.search(text) is not None,
    "capitals only, 4 or more": lambda text: len(text.strip()) > 3 and text.strip().isalpha() and text.isupper(),
    "longer than 15 letters": lambda text: len(text.strip()) > 15 and text.strip().isalpha(),
    "15 or more of one mark": lambda text: len(text.strip()) > 14 and len(set(text.strip())) == 1,
    "not one word of GPT-2's pattern": lambda text: not is_one_word(text),
}
COUNTS: dict[str, Callable[[ByteLevelBPE], int]] = {
    "pieces of characters": lambda tokenizer: sum(text_of(token) is None for token in tokenizer.token_bytes),
    "merged differently from the order": differently_merged,
}


if __name__ == "__main__":
    main()
