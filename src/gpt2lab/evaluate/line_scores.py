"""How probable a model finds each line of a file."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import Bar, progress_bar
from gpt2lab.datasets.texts import LONGEST_LINE_BYTES, open_bytes
from gpt2lab.evaluate.language_modelling import windows
from gpt2lab.evaluate.scoring import score_as_done
from gpt2lab.generate.language_model import LanguageModel

LINES_AT_ONCE = 4096


@dataclass(frozen=True)
class LineScore:
    """A line's log-likelihood in nats (None for an empty one), and what it is of; lines are counted from 1."""

    line: int
    log_likelihood: float | None
    tokens: int
    bytes: int


def score_lines(model: LanguageModel, lines: Sequence[str], bar: Bar | None = None) -> list[LineScore]:
    """Score each line on its own, after `<|endoftext|>`, without its newline; their order is kept.

    A line longer than the network's context is scored in windows of it, half of them new, each token once.
    """
    context_length = model.network.config.context_length
    ids_of = model.tokenizer.encode_batch(lines)
    pairs, owner = [], []
    for number, ids in enumerate(ids_of):
        for pair in windows([model.tokenizer.end_of_text, *ids], context_length, max(1, context_length // 2)):
            pairs.append(pair)
            owner.append(number)
    left = [0] * len(lines)
    for number in owner:
        left[number] += 1
    nats = [0.0] * len(lines)
    for place, scores in score_as_done(model.network, pairs):
        nats[owner[place]] += scores.total
        left[owner[place]] -= 1
        if bar is not None and not left[owner[place]]:
            bar.advance()
    return [
        LineScore(number + 1, nats[number] if ids else None, len(ids), len(line.encode("utf-8", "replace")))
        for number, (line, ids) in enumerate(zip(lines, ids_of, strict=True))
    ]


def score_file(model: LanguageModel, place: Path | None) -> Iterator[LineScore]:
    """Score the lines of a file (None: of standard input), some at a time. Raises BadInput for what is no text."""
    name = "standard input" if place is None else str(place)
    with progress_bar("score", unit="lines") as bar:
        before = 0
        for lines in _batches(_lines(place, name)):
            for found in score_lines(model, lines, bar):
                yield LineScore(before + found.line, found.log_likelihood, found.tokens, found.bytes)
            before += len(lines)


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, LINES_AT_ONCE)):
        yield batch


def _lines(place: Path | None, name: str) -> Iterator[str]:
    if place is None:
        yield from _decoded(sys.stdin.buffer, name)
    else:
        with open_bytes(place) as handle:
            yield from _decoded(handle, name)


def _decoded(handle: BinaryIO, name: str) -> Iterator[str]:
    number = 0
    while line := handle.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            raise BadInput(f"{name}: line {number:,} is longer than {LONGEST_LINE_BYTES >> 20} MiB; break it.")
        if b"\0" in line:
            raise BadInput(f"{name}: line {number:,} holds a zero byte: binary, not text; give a text file.")
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"{name}: line {number:,} is not UTF-8; convert the file (iconv -t utf-8).") from None
