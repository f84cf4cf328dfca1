"""Replacements of strings, one after the other: what most published de-tokenizers are."""

from collections.abc import Sequence


def replace_in_order(text: str, replacements: Sequence[tuple[str, str]]) -> str:
    """Replace all of the first string, then, in what that gave, all of the second, and so on."""
    for old, new in replacements:
        text = text.replace(old, new)
    return text
