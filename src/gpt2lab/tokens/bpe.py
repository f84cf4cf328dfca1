"""Byte-level byte-pair encoding as GPT-2 does it (Radford et al. 2019, section 2.2; openai/gpt-2 `src/encoder.py`).

Every tokenizer here has GPT-2's layout: ids 0 to 255 are the single bytes in the published order, then one id for each
merge in order of priority, then `<|endoftext|>`. So a list of merges says everything, and the published list
(`gpt2/vocab.bpe`, the one data table this project carries) gives GPT-2's own 50,257 ids.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise
from pathlib import Path

import regex  # type: ignore[import-untyped]
import tiktoken

from gpt2lab.base.errors import BadInput, BadOption

END_OF_TEXT = "<|endoftext|>"
# The released code's pattern, its missing IGNORECASE included: "'s" is split off, "'S" is not.
SPLIT_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
SMALLEST_VOCABULARY = 257  # the bytes and <|endoftext|>
LONGEST_SPACE_RUN = 10_000
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # what the engine's \\s matches
_LONG_SPACE_RUN = re.compile(f"[{WHITE_SPACE}]{{{LONGEST_SPACE_RUN},}}")
_MERGES_HEADER = "#version: 0.2"
_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")


def parse_merges(text: str) -> list[str]:
    """The merges of a `merges.txt` / `vocab.bpe` file, its version line left out."""
    lines = text.split("\n")
    start = 1 if lines[0].startswith("#version") else 0
    return [line for line in lines[start:] if line]


@lru_cache(maxsize=8)
def _compiled(split_pattern: str) -> regex.Pattern[str]:
    return regex.compile(split_pattern)


def split_words(split_pattern: str, text: str) -> list[str]:
    """The words of a text by any pattern. Raises BadInput for a text that the pattern passes over in parts."""
    words: list[str] = _compiled(split_pattern).findall(text)
    if sum(map(len, words)) != len(text):
        rest = next(piece for piece in _compiled(split_pattern).split(text) if piece)
        raise BadInput(
            f"the split pattern passes over {rest[:20]!r}; let it match all there is: end it with |[\\s\\S]."
        )
    return words


@lru_cache(maxsize=8)
def check_split_pattern(split_pattern: str) -> None:
    """Raise BadOption for a pattern that cannot cut every text into words, in all the engines that will read it."""
    if split_pattern == SPLIT_PATTERN:
        return
    from tokenizers import Regex

    try:
        groups = _compiled(split_pattern).groups
        Regex(split_pattern)
        tiktoken.Encoding("check", pat_str=split_pattern, mergeable_ranks={b"a": 0}, special_tokens={})
    except Exception as error:  # tokenizers raises nothing narrower
        raise BadOption(f"--split-pattern {split_pattern!r}: no regular expression ({error}).") from None
    outside_classes = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "", split_pattern)
    if "^" in outside_classes or "[:" in split_pattern:
        raise BadOption(
            f"--split-pattern {split_pattern!r}: the engines that will read it take ^ and [:class:] differently; write"
            " \\A or (?<=\\n), and \\p{...}."
        )
    if groups:
        raise BadOption(f"--split-pattern {split_pattern!r}: write its groups as (?:...), not (...).")
    every_character = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    try:
        words = split_words(split_pattern, every_character)
    except BadInput as error:
        raise BadOption(f"--split-pattern {split_pattern!r}: {error}") from None
    if "" in words:
        raise BadOption(f"--split-pattern {split_pattern!r}: it matches nothing at all in places; let it match a word.")


@lru_cache(maxsize=1)
def byte_symbols() -> tuple[tuple[int, str], ...]:
    """The 256 (byte, printable character) pairs in the order of GPT-2's first 256 ids.

    Printable Latin-1 characters stand for themselves; the other bytes take the characters from U+0100 on, so that a
    merge list is a readable text file.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return tuple([(byte, chr(byte)) for byte in printable] + [(byte, chr(256 + n)) for n, byte in enumerate(others)])


class ByteLevelBPE:
    """A byte-level BPE tokenizer of GPT-2's layout, given by its merges ("Ġ t" means: a space, then t).

    `split_pattern` cuts a text into the words that merges stay within. Encoding is exact for any text and any bytes,
    and never yields `<|endoftext|>`: that id is only put by callers. Raises BadInput when the merges are not a BPE of
    this layout.
    """

    def __init__(self, merges: Sequence[str], split_pattern: str = SPLIT_PATTERN) -> None:
        self.merges = tuple(merges)
        self.split_pattern = split_pattern
        symbols = [symbol for _, symbol in byte_symbols()]
        known = set(symbols)
        for number, merge in enumerate(self.merges, 1):
            first, _, second = merge.partition(" ")  # no symbol holds a space
            joined = first + second
            if first not in known or second not in known or joined in known:
                raise BadInput(f"merge {number:,} ({merge!r}) does not join two earlier tokens into a new one.")
            symbols.append(joined)
            known.add(joined)
        self.symbols = tuple(symbols)

    @property
    def vocab_size(self) -> int:
        """Number of ids, `<|endoftext|>` included."""
        return len(self.symbols) + 1

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`, the last one."""
        return len(self.symbols)

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes each id stands for; none for `<|endoftext|>`, which is no text."""
        # All symbols at once, then cut apart: ten times as fast as one by one, which a start would feel.
        table = {ord(symbol): byte for byte, symbol in byte_symbols()}
        joined = "".join(self.symbols).translate(table).encode("latin-1")
        ends = [0, *accumulate(map(len, self.symbols))]
        return (*(joined[start:end] for start, end in pairwise(ends)), b"")

    @cached_property
    def sha256(self) -> str:
        """Identity of the tokenizer: SHA-256 of its merges file, and of its split pattern where that is not GPT-2's."""
        pattern = "" if self.split_pattern == SPLIT_PATTERN else self.split_pattern
        return hashlib.sha256((self.merges_text() + pattern).encode()).hexdigest()

    @cached_property
    def _engine(self) -> tiktoken.Encoding:
        ranks = {token: rank for rank, token in enumerate(self.token_bytes[:-1])}
        special = {END_OF_TEXT: self.end_of_text}
        return tiktoken.Encoding("gpt2lab", pat_str=self.split_pattern, mergeable_ranks=ranks, special_tokens=special)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; a literal `<|endoftext|>` in it is text like any other."""
        if len(text) < LONGEST_SPACE_RUN or not (run := _LONG_SPACE_RUN.search(text)):
            return self._engine.encode_ordinary(text)
        if self.split_pattern != SPLIT_PATTERN:
            words = split_words(self.split_pattern, text)
            return [token for word in words for token in self._engine._encode_single_piece(word)]
        # The engine's regular expressions overflow on such a run. The split pattern makes all of it but its last
        # character one piece (and the last one too, at the end of the text).
        end = run.end() if run.end() == len(text) else run.end() - 1
        before = self._engine.encode_ordinary(text[: run.start()])
        return before + self._engine._encode_single_piece(text[run.start() : end]) + self.encode(text[end:])

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, on all cores."""
        if any(len(text) >= LONGEST_SPACE_RUN and _LONG_SPACE_RUN.search(text) for text in texts):
            return [self.encode(text) for text in texts]
        return self._engine.encode_ordinary_batch(list(texts))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes; stretches that are not UTF-8 become one id a byte."""
        ids: list[int] = []
        for stretch in _NOT_UTF8.split(data.decode("utf-8", "surrogateescape")):
            if _NOT_UTF8.match(stretch):
                ids.extend(self._byte_ids[byte] for byte in stretch.encode("utf-8", "surrogateescape"))
            else:
                ids.extend(self.encode(stretch))
        return ids

    @cached_property
    def _byte_ids(self) -> dict[int, int]:
        return {byte: number for number, (byte, _) in enumerate(byte_symbols())}

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; `<|endoftext|>` gives its literal name. Raises BadInput for an unknown id."""
        pieces = []
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise BadInput(f"token id {token} is not in the vocabulary of {self.vocab_size:,} ids.")
            pieces.append(END_OF_TEXT.encode() if token == self.end_of_text else self.token_bytes[token])
        return b"".join(pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def vocabulary(self) -> dict[str, int]:
        """The `encoder.json` / `vocab.json` mapping from symbol to id."""
        return {symbol: number for number, symbol in enumerate((*self.symbols, END_OF_TEXT))}

    def merges_text(self) -> str:
        """The `merges.txt` / `vocab.bpe` file."""
        return "\n".join((_MERGES_HEADER, *self.merges)) + "\n"

    def save(self, folder: Path) -> None:
        """Write the files of every format (see `tokenizer_files`) into an existing folder."""
        from gpt2lab.tokens.tokenizer_files import save_tokenizer

        save_tokenizer(self, folder)

    @classmethod
    def load(cls, place: Path) -> "ByteLevelBPE":
        """Read a folder, or a `tokenizer.json` or `.tiktoken` file (see `tokenizer_files`)."""
        from gpt2lab.tokens.tokenizer_files import load_tokenizer

        return load_tokenizer(place)


@lru_cache(maxsize=1)
def gpt2_tokenizer() -> ByteLevelBPE:
    """GPT-2's own tokenizer: the published 50,000 merges, 50,257 ids."""
    data = files("gpt2lab.tokens").joinpath("gpt2/vocab.bpe").read_bytes()
    if hashlib.sha256(data).hexdigest() != VOCAB_BPE_SHA256:
        raise BadInput("gpt2lab/tokens/gpt2/vocab.bpe is not the published file. Install gpt2lab again.")
    return ByteLevelBPE(parse_merges(data.decode("utf-8")))
