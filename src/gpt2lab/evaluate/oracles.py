"""What a model is recorded to have said: files of logits or of ranks, in the two formats that real ones are kept in.

Logits, a JSON object a line (plain or gzip), which holds all logits after the last token of a prompt:

    {"prompt": str, "token_ids": [T], "last_position_logits": [V]}

Ranks, the JSON that GLTR's server answers (Gehrmann et al. 2019; HendrikStrobelt/detecting-fake-text), which holds, for
each of a text's N tokens after `<|endoftext|>`, how many tokens were likelier, how likely it was, and the likeliest K:

    {"request": {"text": str},
     "result": {"bpe_strings": [N + 1], "real_topk": N times [rank, probability],
                "pred_topk": N times K times [token, probability]}}
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.bpe import END_OF_TEXT, ByteLevelBPE

OracleKind = Literal["logits", "ranks"]
_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_LOGITS = 'recorded logits (lines of JSON with "prompt", "token_ids" and "last_position_logits")'
_RANKS = 'GLTR\'s ranks (JSON with "request" and "result")'


@dataclass(frozen=True)
class RecordedLogits:
    """The logits after the last of a prompt's tokens, float64 [V]."""

    prompt: str
    token_ids: list[int]
    logits: NDArray[np.float64]


@dataclass(frozen=True)
class RecordedRanks:
    """A text's tokens, the first of them `<|endoftext|>`, and what was recorded of the N others.

    `ranks` [N] counts the likelier tokens (0: it was the likeliest), `probabilities` [N] are rounded to 5 decimals, and
    so are those of the likeliest tokens, `top_ids` and `top_probabilities` [N, K].
    """

    text: str
    token_ids: list[int]
    ranks: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    top_ids: NDArray[np.int64]
    top_probabilities: NDArray[np.float64]


def find_oracles(path: Path) -> dict[Path, OracleKind]:
    """The recorded files at a path, a file or a folder, and what each holds, found by its contents.

    Raises BadInput for a file of neither format, and for a folder without one of either; others in it are passed over.
    """
    if path.is_dir():
        found = {file: _kind(file) for file in sorted(path.iterdir()) if file.name.endswith(_ENDINGS)}
        kinds = {file: kind for file, kind in found.items() if kind is not None}
        if not kinds:
            raise BadInput(f"{path}: no file in this folder holds {_LOGITS} or {_RANKS}.")
        return kinds
    if not path.is_file():
        raise BadInput(f"{path}: no such file or folder.")
    kind = _kind(path)
    if kind is None:
        raise BadInput(f"{path}: holds neither {_LOGITS} nor {_RANKS}.")
    return {path: kind}


def read_logits(path: Path, tokenizer: ByteLevelBPE) -> Iterator[RecordedLogits]:
    """The prompts of a file one by one. Raises BadInput for a broken line, and for one of another tokenizer."""
    with _opened(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield _logits(f"{path}: line {number:,}", _parsed(path, line, number), tokenizer)


def read_ranks(path: Path, tokenizer: ByteLevelBPE) -> RecordedRanks:
    """The text of a file. Raises BadInput where it is broken, or of another tokenizer."""
    with _opened(path) as handle:
        found = _parsed(path, handle.read())
    try:
        text, result = found["request"]["text"], found["result"]
        symbols, real, top = result["bpe_strings"], result["real_topk"], result["pred_topk"]
        ranks_N = np.array([rank for rank, _ in real], np.int64)
        probabilities_N = np.array([probability for _, probability in real], np.float64)
        top_symbols_NK = [[symbol for symbol, _ in row] for row in top]
        top_probabilities_NK = np.array([[probability for _, probability in row] for row in top], np.float64)
        if not isinstance(text, str) or not len(symbols) - 1 == len(real) == len(top) > 0:
            raise ValueError
        if not top_probabilities_NK.size:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadInput(
            f"{path}: not GLTR's ranks: wanted are request.text, and in result one more of bpe_strings than of"
            " real_topk ([rank, probability]) and of pred_topk (as many [token, probability] each)."
        ) from None
    for values in (probabilities_N, top_probabilities_NK):
        if not ((values >= 0) & (values <= 1)).all():
            raise BadInput(f"{path}: holds probabilities that are none.")
    if not ((ranks_N >= 0) & (ranks_N < tokenizer.vocab_size)).all():
        raise BadInput(f"{path}: holds ranks beyond the {tokenizer.vocab_size:,} ids of the model's tokenizer.")
    ids = tokenizer.vocabulary()
    unknown = next(
        (name for row in (symbols, *top_symbols_NK) for name in row if not isinstance(name, str) or name not in ids),
        None,
    )
    if unknown is not None:
        raise BadInput(f"{path}: has the token {unknown!r}, which the model's tokenizer has not.")
    token_ids = [ids[symbol] for symbol in symbols]
    if token_ids != [tokenizer.end_of_text, *tokenizer.encode(text)]:
        raise BadInput(
            f"{path}: its tokens are not {END_OF_TEXT} and those that the model's tokenizer gives for its text; it was"
            " recorded with another tokenizer."
        )
    top_ids_NK = np.array([[ids[symbol] for symbol in row] for row in top_symbols_NK], np.int64)
    return RecordedRanks(text, token_ids, ranks_N, probabilities_N, top_ids_NK, top_probabilities_NK)


def _logits(where: str, found: Any, tokenizer: ByteLevelBPE) -> RecordedLogits:
    try:
        prompt, token_ids, logits = found["prompt"], found["token_ids"], found["last_position_logits"]
        logits_V = np.array(logits, np.float64)
        if not isinstance(prompt, str) or not token_ids or logits_V.ndim != 1 or {*map(type, token_ids)} != {int}:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{where} is no recorded prompt: wanted are prompt (text), token_ids (some) and last_position_logits"
            " (numbers)."
        ) from None
    encoded = tokenizer.encode(prompt)
    if token_ids not in (encoded, [tokenizer.end_of_text, *encoded]):
        raise BadInput(
            f"{where}: its token_ids are not those that the model's tokenizer gives for its prompt {prompt[:40]!r}; it"
            " was recorded with another tokenizer."
        )
    if len(logits_V) != tokenizer.vocab_size:
        raise BadInput(
            f"{where} has {len(logits_V):,} logits, but the model's tokenizer has {tokenizer.vocab_size:,} ids, each"
            " with one."
        )
    if not np.isfinite(logits_V).all():
        raise BadInput(f"{where} holds logits that are not finite.")
    return RecordedLogits(prompt, token_ids, logits_V)


def _kind(path: Path) -> OracleKind | None:
    """What a file holds, by its first line, or all of it where that is no line of recorded logits."""
    with _opened(path) as handle:
        start = handle.readline()
        if b'"last_position_logits"' in start:
            return "logits"
        if not start.lstrip().startswith(b"{"):
            return None
        whole = start + handle.read()
    return "ranks" if b'"bpe_strings"' in whole and b'"real_topk"' in whole else None


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as handle:
        try:
            yield handle
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"{path}: the compressed file is cut short or damaged ({error}); fetch it again.") from None


def _parsed(path: Path, data: bytes, line: int | None = None) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError, too
        where = "" if line is None else f"line {line:,} is "
        raise BadInput(f"{path}: {where}not valid JSON ({error}).") from None
