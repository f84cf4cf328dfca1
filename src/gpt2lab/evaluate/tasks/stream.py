"""What the language-modelling tasks share: a text as one stream of tokens, scored in windows, each token once.

A window is the network's context: it predicts as many tokens as it reads. Each window after the first predicts `stride`
new tokens and reads what comes before them as context (Radford et al. 2019 do so with 1,024 and 32; the same windows as
in Megatron-LM's `tasks/zeroshot_gpt`).

Losses are summed over tokens and divided by the set's own units (words, say). Each row carries the units that its
tokens stand for: those of a line spread evenly over the bytes of the line as it is shown. They are whole multiples of
1/1,024, so that they add up exactly to the set's count.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.evaluate.detokenizers.roundtrip import Detokenized
from gpt2lab.evaluate.results import Row
from gpt2lab.evaluate.scoring import BannedTokens, Pair, Scores
from gpt2lab.evaluate.statistics import Metric, bits_per, perplexity
from gpt2lab.evaluate.tasks.task import Question
from gpt2lab.tokens.bpe import ByteLevelBPE

PAPER_STRIDE = 32
FAST_STRIDE = 1024
_UNIT_PARTS = 1024
_WORD = re.compile(r"[^\W_]+")
_WORDS_BEFORE = 7
_WHITE_SPACE = re.compile(r"\s+")

Unit = Literal["words+eos", "words", "bpe", "bytes", "lm-eval-words"]


@dataclass(frozen=True)
class Piece:
    """A stretch of a stream as it is shown to the model, and the units and bytes of the set that it stands for."""

    shown: str | bytes
    units: int
    original_bytes: int


@dataclass(frozen=True)
class Stream:
    """Pieces that are read as one text."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def shown(self) -> str | bytes:
        """The text itself."""
        parts = [piece.shown for piece in self.pieces]
        if any(isinstance(part, bytes) for part in parts):
            return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        return "".join(part for part in parts if isinstance(part, str))


class StreamTask:
    """What all tasks of this kind do alike once their questions are scored."""

    version: ClassVar[int] = 1

    def banned(self, tokenizer: ByteLevelBPE) -> BannedTokens | None:
        """None: every token may come next."""

    def row(self, question: Question, scores: Sequence[Scores]) -> Row:  # noqa: ARG002
        """The loss of the item's new tokens."""
        return {"nats": -sum(each.total for each in scores)}

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Perplexity a unit, and bits per byte of the set's own text."""
        nats = [row["nats"] for row in rows]
        return [
            perplexity("perplexity", nats, [row["units"] for row in rows]),
            bits_per("bits_per_byte", nats, [row["bytes"] for row in rows]),
        ]


def count_units(text: str, unit: Unit) -> int:
    """How many units a text has (`bpe` tokens are counted where they are made)."""
    match unit:
        case "words+eos":
            return len(text.split()) + text.count("\n")
        case "words":
            return len(text.split())
        case "bytes":
            return len(text.encode())
        case "lm-eval-words":  # the empty strings before the first and after the last white space count
            return len(_WHITE_SPACE.split(text))
        case "bpe":
            return 0


def line_pieces(original: str, shown: str, unit: Unit, end: str = "\n") -> tuple[Piece, ...]:
    """A piece a line, where both texts have the same lines; `end` is shown for each newline."""
    lines = [f"{line}\n" for line in original.split("\n")]
    new_lines = [f"{line}{end}" for line in shown.split("\n")]
    lines[-1], new_lines[-1] = lines[-1][:-1], new_lines[-1].removesuffix(end)
    pairs = zip(lines, new_lines, strict=True)
    return tuple(Piece(new, count_units(line, unit), len(line.encode())) for line, new in pairs if line)


def whole_piece(original: str, shown: str, unit: Unit) -> tuple[Piece, ...]:
    """One piece, for rules that do not keep to lines."""
    return (Piece(shown, count_units(original, unit), len(original.encode())),)


def window_questions(
    stream: Stream, tokenizer: ByteLevelBPE, context_length: int, stride: int, bos: int | None, unit: Unit
) -> list[Question]:
    """A question a window. Without `bos` (`<|endoftext|>`) the first token is only read; its units go to window 1."""
    ids = _ids(stream, tokenizer, bos)
    lengths = np.array([len(token) for token in tokenizer.token_bytes], np.int64)
    ends = np.cumsum(lengths[ids])
    units, original_bytes = _spread(stream, ends, unit)
    text_of = _window_texts(stream)
    before = 0 if bos is None else 1
    questions = []
    given = 0
    for start, new, end in windows(len(ids), context_length, stride):
        questions.append(
            Question(
                name=f"{new - before}-{end - before - 1}",
                pairs=(Pair(ids[start:new], ids[new:end]),),
                text=text_of(int(ends[given - 1]) if given else 0, int(ends[end - 1])),
                facts={
                    "start": new - before,
                    "tokens": end - new,
                    "units": float(units[end - 1] - (units[given - 1] if given else 0)),
                    "bytes": float(original_bytes[end - 1] - (original_bytes[given - 1] if given else 0)),
                },
            )
        )
        given = end
    return questions


def _window_texts(stream: Stream) -> Callable[[int, int], str]:
    """A function from two places in a stream, in bytes, to the words that end between them and those just before.

    So many words before, that each 8-gram of the stream is in the text of exactly one window: the one where it ends.
    """
    text = _as_bytes(stream.shown).decode("utf-8", "surrogateescape")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000) - 2 * ((codes >= 0xDC80) & (codes <= 0xDCFF))
    end_of_character = np.concatenate([[0], np.cumsum(widths)])
    spans = np.array([word.span() for word in _WORD.finditer(text)], np.int64).reshape(-1, 2)
    word_ends = end_of_character[spans[:, 1]]

    def text_of(start: int, end: int) -> str:
        first, last = np.searchsorted(word_ends, [start, end], side="right").tolist()
        if first == last:
            return ""
        words = text[spans[max(0, first - _WORDS_BEFORE), 0] : spans[last - 1, 1]]
        return words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    return text_of


def stream_question(
    stream: Stream, tokenizer: ByteLevelBPE, context_length: int, stride: int, bos: int | None, unit: Unit
) -> Question:
    """One question for a whole stream (an article, a sentence), its windows as pairs."""
    ids = _ids(stream, tokenizer, bos)
    pairs = tuple(Pair(ids[a:b], ids[b:c]) for a, b, c in windows(len(ids), context_length, stride))
    tokens = len(ids) - 1
    shown = stream.shown
    return Question(
        name=stream.name,
        pairs=pairs,
        text=shown.decode("utf-8", "replace") if isinstance(shown, bytes) else shown,
        facts={
            "tokens": tokens,
            "units": float(tokens if unit == "bpe" else sum(piece.units for piece in stream.pieces)),
            "bytes": float(sum(piece.original_bytes for piece in stream.pieces)),
        },
    )


def windows(tokens: int, context_length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(first token read, first new token, end) of each window over `tokens`; token 0 is read, the others scored once.

    A stride longer than the context is the context.
    """
    if stride < 1:
        raise BadOption(f"stride {stride}: must be at least 1.")
    new = 1
    while new < tokens:
        end = min(tokens, new + (context_length if new == 1 else min(stride, context_length)))
        yield max(0, end - context_length - 1), new, end
        new = end


def stream_facts(
    streams: Sequence[Stream], tokenizer: ByteLevelBPE, unit: str, detokenized: Sequence[Detokenized] = ()
) -> dict[str, Any]:
    """Counts of a set under a task's options; of invertible de-tokenizers what they left as it was."""
    tokens = sum(len(_ids(stream, tokenizer, tokenizer.end_of_text)) - 1 for stream in streams)
    pieces = [piece for stream in streams for piece in stream.pieces]
    facts: dict[str, Any] = {
        "unit": unit,
        "units": tokens if unit == "bpe" else sum(piece.units for piece in pieces),
        "tokens": tokens,
        "bytes": sum(piece.original_bytes for piece in pieces),
        "bytes_shown": sum(len(_as_bytes(piece.shown)) for piece in pieces),
    }
    if detokenized:
        lines = sum(each.lines for each in detokenized)
        verbatim = sum(len(each.verbatim) for each in detokenized)
        facts["verbatim_lines"] = verbatim
        facts["verbatim_share"] = verbatim / max(1, lines)
        facts["verbatim_flag_nats"] = sum(each.flag_nats for each in detokenized)
    return facts


def _ids(stream: Stream, tokenizer: ByteLevelBPE, bos: int | None) -> npt.NDArray[np.int32]:
    shown = stream.shown
    ids = tokenizer.encode_bytes(shown) if isinstance(shown, bytes) else tokenizer.encode(shown)
    if len(ids) + (bos is not None) < 2:
        raise BadInput(f"{stream.name}: a text of {len(ids)} tokens; at least two are needed to predict one.")
    return np.array(ids if bos is None else [bos, *ids], np.int32)


def _spread(
    stream: Stream, ends: npt.NDArray[np.int64], unit: Unit
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Units, and bytes of the set, up to and with each token, given where in the stream (in bytes) each ends."""
    borders = np.cumsum([0, *(len(_as_bytes(piece.shown)) for piece in stream.pieces)])

    def up_to_tokens(amount: Callable[[Piece], int]) -> npt.NDArray[np.float64]:
        amounts = np.cumsum([0, *(amount(piece) for piece in stream.pieces)])
        spread: npt.NDArray[np.float64] = np.round(np.interp(ends, borders, amounts) * _UNIT_PARTS) / _UNIT_PARTS
        spread[-1] = amounts[-1]
        return spread

    original_bytes = up_to_tokens(lambda piece: piece.original_bytes)
    if unit == "bpe":
        return np.arange(len(ends), dtype=np.float64), original_bytes
    return up_to_tokens(lambda piece: piece.units), original_bytes


def _as_bytes(shown: str | bytes) -> bytes:
    return shown.encode() if isinstance(shown, str) else shown
