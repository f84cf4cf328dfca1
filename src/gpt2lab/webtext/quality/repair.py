"""Text that was decoded wrongly somewhere on its way, put right by ftfy (Speer 2019), and cleaned as every text is."""

import functools
import re
from typing import TYPE_CHECKING

from gpt2lab.webtext.extraction.clean_text import clean_text

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

_ESCAPE = "\x1b"  # begins the colours of a terminal
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_NEIGHBOURS = 4  # characters of ASCII; ftfy's patterns have at most two on a side
_BROKEN = re.compile(
    "[\x1b\x80-\x9f\ud800-\udfff]"  # C1 controls, halves of characters
    "|[\u0132\u0133\u0149\u01f1-\u01f3\u01c4-\u01cc\ufb00-\ufb06]"  # ligatures, as typesetters left them
    "|^[ÃÂ] ",  # which ftfy looks for at the beginning of a line only
    re.MULTILINE,
)


def repair(text: str) -> str:
    """The text without mojibake ("Iâ€™m" becomes "I’m"), cleaned by `clean_text`. Idempotent.

    Give it text that was not cleaned before: the control characters that are part of much mojibake would be gone.
    Curly quotes, full-width characters, entities, tabs and indentation stay as they are.
    """
    while (repaired := clean_text(_fix(text))) != text:
        text = repaired
    return text


def _fix(text: str) -> str:
    """What ftfy makes of the lines that something may be wrong with; it would take as long for all the others."""
    if not _may_be_broken(text):
        return text
    from ftfy import fix_text

    return "\n".join(fix_text(line, _config()) if _may_be_broken(line) else line for line in text.split("\n"))


def _may_be_broken(text: str) -> bool:
    """Whether ftfy would change any line of a text, or a little more often than that."""
    if text.isascii():
        return _ESCAPE in text
    from ftfy.badness import is_bad

    return bool(_BROKEN.search(text)) or is_bad(_around_non_ascii(text))


def _around_non_ascii(text: str) -> str:
    """Runs of characters beyond ASCII, with their neighbours: whatever ftfy holds for mojibake has one in it.

    Its pattern has a hundred alternatives and takes 0.2 µs a character.
    """
    runs = [text[max(0, run.start() - _NEIGHBOURS) : run.end() + _NEIGHBOURS] for run in _NON_ASCII.finditer(text)]
    return "\n".join(runs)


@functools.cache
def _config() -> "TextFixerConfig":
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,  # extractors have done so; an entity that is left is one that the page shows its reader
        uncurl_quotes=False,  # WebText has them as the pages had them
        fix_character_width=False,  # full-width commas and brackets are how Chinese and Japanese are written
        fix_line_breaks=False,  # clean_text does this and the following two
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
