"""De-tokenizing a text line by line so that nothing is lost: a line whose inverse does not give it back stays as it is.

What the inverse needs is the de-tokenized text and, for each line, whether it was kept verbatim: no more. That one bit
a line is not predicted by the model; `Detokenized.flag_nats` bounds what it would add to the loss of the whole text.
Source of the idea: Radford et al. 2019, section 3.1 ("invertible de-tokenizers").
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

Rule = Callable[[str], str]


@dataclass(frozen=True)
class Detokenized:
    """Lines of a text as they are shown to a model (joined by newlines), and which of them are as they were.

    `verbatim` are numbers (from 0) of lines that the rules could not give back; `lines` counts those that hold more
    than white space.
    """

    text: str
    verbatim: frozenset[int]
    lines: int

    @property
    def verbatim_share(self) -> float:
        """Share of the lines with text that were kept verbatim."""
        return len(self.verbatim) / max(1, self.lines)

    @property
    def flag_nats(self) -> float:
        """Entropy in nats of all the lines' flags, were they drawn independently."""
        share = self.verbatim_share
        if not 0 < share < 1:
            return 0.0
        return -self.lines * (share * math.log(share) + (1 - share) * math.log(1 - share))


def detokenize_lines(text: str, forward: Rule, inverse: Rule) -> Detokenized:
    """Apply `forward` to each line that `inverse` brings back exactly; a result of more than one line is refused."""
    shown, verbatim, with_text = [], set(), 0
    lines, end = _lines(text)
    for number, line in enumerate(lines):
        with_text += bool(line.strip())
        new = forward(line)
        vanishes = not new and not end and number == len(lines) - 1  # and would be taken for the last newline's end
        if "\n" in new or vanishes or inverse(new) != line:
            new = line
            if inverse(line) != line:  # a line that the inverse leaves alone needs no flag
                verbatim.add(number)
        shown.append(new)
    return Detokenized("\n".join(shown) + end, frozenset(verbatim), with_text)


def restore_lines(text: str, inverse: Rule, verbatim: Collection[int]) -> str:
    """The original of a de-tokenized text."""
    lines, end = _lines(text)
    return "\n".join(line if number in verbatim else inverse(line) for number, line in enumerate(lines)) + end


def _lines(text: str) -> tuple[list[str], str]:
    """The lines of a text, and its last newline if it ends with one (which is no empty line after it)."""
    if text.endswith("\n"):
        return text[:-1].split("\n"), "\n"
    return text.split("\n"), ""
