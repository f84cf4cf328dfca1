"""Many texts to ids at once, on all cores: gigatoken for GPT-2's split pattern, tiktoken for any other.

gigatoken (Rød 2026) remembers the ids of every word it has met, so that it becomes faster with each text. It is given
no special tokens: it would find them inside documents, where they are only text. Its ids are tiktoken's but for texts
with letters and digits that are new in Unicode 17, which it knows and tiktoken does not; those go to tiktoken.
"""

import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow

from gpt2lab.tokens.bpe import SPLIT_PATTERN, ByteLevelBPE
from gpt2lab.tokens.tokenizer_files import tiktoken_text

Ids = npt.NDArray[np.uint32]
LARGEST_MEMORY_OF_WORDS = 1 << 30
"""Bytes by which the memory of a process may grow before the words are forgotten; text of the open web never repeats
itself enough for that memory to stop growing."""
NEW_IN_UNICODE_17 = (
    (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4),
    (0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9),
    (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3), (0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18D1E),
    (0x18D80, 0x18DF2), (0x1E6C0, 0x1E6DE), (0x1E6E0, 0x1E6E2), (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED),
    (0x1E6F0, 0x1E6F4), (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479),
)  # fmt: skip
"""First and last of the code points that gigatoken 0.10 takes for letters or digits and tiktoken 0.14 does not."""
_NEW_CHARACTER = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in NEW_IN_UNICODE_17) + "]")
_FIRST_BYTES = sorted({chr(first).encode()[:1] for first, _ in NEW_IN_UNICODE_17})


@dataclass(frozen=True)
class JoinedTexts:
    """Texts in UTF-8, one after another, uint8 [bytes]; where each begins and the last one ends, int64 [texts + 1]."""

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "JoinedTexts":
        """Join some."""
        starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(texts), np.uint8), starts)

    @classmethod
    def of_column(cls, column: Any) -> "JoinedTexts":
        """The texts of a pyarrow.ChunkedArray of strings without nulls, not copied when it is one chunk.

        Raises pyarrow.ArrowInvalid where they are not UTF-8.
        """
        kind = np.dtype(np.int64 if pyarrow.types.is_large_string(column.type) else np.int32)
        if not len(column):
            return cls.of([])
        texts = column.chunk(0) if column.num_chunks == 1 else pyarrow.concat_arrays(column.chunks)
        texts.validate(full=True)
        _, starts, data = texts.buffers()
        if data is None:
            return cls(np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64))
        ends = np.frombuffer(starts, kind)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
        return cls(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]], ends - ends[0])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[memoryview]:
        view = self.data.data
        return (view[start:end] for start, end in pairwise(self.starts.tolist()))


class BulkEncoder:
    """Encodes many texts with one tokenizer; threads take turns, each on all cores."""

    def __init__(self, tokenizer: ByteLevelBPE) -> None:
        self._tokenizer = tokenizer
        self._engine: Any = None
        self._memory_before = 0
        self._turn = threading.Lock()

    def encode(self, texts: JoinedTexts) -> tuple[Ids, npt.NDArray[np.int64]]:
        """All ids one after the other, uint32 [N], and where each text's begin and the last one's end, int64 [texts+1].

        `<|endoftext|>` inside a text is text like any other.
        """
        if self._tokenizer.split_pattern != SPLIT_PATTERN:
            return _joined(self._tokenizer.encode_batch([str(text, "utf-8") for text in texts]))
        if not len(texts):
            return np.zeros(0, np.uint32), np.zeros(1, np.int64)
        with self._turn:
            found = self._warm_engine().encode_batch(_awkward(texts)).layout
        ids, starts = np.asarray(found.content.data), np.asarray(found.offsets.data)
        if unsure := _with_new_characters(texts):
            parts = [ids[start:end] for start, end in pairwise(starts)]
            for number, text in unsure:
                parts[number] = np.array(self._tokenizer.encode(text), np.uint32)
            return _joined(parts)
        return ids, starts

    def _warm_engine(self) -> Any:
        memory = psutil.Process().memory_info().rss
        if self._engine is None or memory - self._memory_before > LARGEST_MEMORY_OF_WORDS:
            self._engine = None
            self._memory_before = psutil.Process().memory_info().rss
            self._engine = _gigatoken(self._tokenizer)
        return self._engine


def _awkward(texts: JoinedTexts) -> Any:
    """The texts as gigatoken takes them without a copy."""
    import awkward

    data = awkward.contents.NumpyArray(texts.data, parameters={"__array__": "byte"})
    index = awkward.index.Index64(texts.starts)
    return awkward.Array(awkward.contents.ListOffsetArray(index, data, parameters={"__array__": "bytestring"}))


def _with_new_characters(texts: JoinedTexts) -> list[tuple[int, str]]:
    """Number and text of those that tiktoken has to encode."""
    data = texts.data.tobytes()
    if not any(byte in data for byte in _FIRST_BYTES):  # few texts have one of these, and bytes are found fast
        return []
    found = []
    for number, (start, end) in enumerate(pairwise(texts.starts.tolist())):
        if any(data.find(byte, start, end) >= 0 for byte in _FIRST_BYTES):
            text = data[start:end].decode("utf-8")
            if _NEW_CHARACTER.search(text):
                found.append((number, text))
    return found


def _joined(parts: Sequence[Sequence[int] | Ids]) -> tuple[Ids, npt.NDArray[np.int64]]:
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    arrays = [np.asarray(part, np.uint32) for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.uint32), starts


def _gigatoken(tokenizer: ByteLevelBPE) -> Any:
    from gigatoken import Tokenizer

    with tempfile.TemporaryDirectory(prefix="gpt2lab-") as folder:
        path = Path(folder) / "ranks.tiktoken"
        path.write_text(tiktoken_text(tokenizer), encoding="ascii")
        return Tokenizer.from_tiktoken(path, "gpt2", {})
