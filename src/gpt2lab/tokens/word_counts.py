"""How often each word occurs in documents: all that BPE training needs to know of them.

A word is what the split pattern cuts a text into, as bytes of UTF-8; merges never reach beyond one. Files are counted
apart from each other, in processes; their counts are put on disk and added up, the smallest first: the memory needed
grows with the different words, not with the text.
"""

import heapq
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet

from gpt2lab.base.errors import BadInput, explain_full_disk
from gpt2lab.base.workers import Advance, run_tasks
from gpt2lab.datasets.documents import check_documents, document_files, read_columns
from gpt2lab.datasets.texts import read_json_lines, read_plain_pieces, suffix_of
from gpt2lab.tokens.bpe import SPLIT_PATTERN, WHITE_SPACE, split_words
from gpt2lab.tokens.shards import is_held_out

SUFFIXES = (".parquet", ".jsonl", ".txt", ".md")
LONGEST_WORD_BYTES = 4096
"""A longer word (a line of one character, base64) is counted as several of this length, the last one shorter."""
SMALL_INPUT_BYTES = 8 << 20
"""Less than this on disk is counted before other processes would have started."""
BATCH_BYTES = 2 << 20
PART_BYTES = 16 << 20
FARTHEST_CUT = 1 << 16  # characters before the end of a piece
WORDS_A_FILE = 1 << 18
COUNTS_AT_ONCE_BYTES = 64 << 20
# Every match of GPT-2's pattern that holds anything else than white space ends before the next white space.
_LAST_SPACE_AFTER_WORD = re.compile(rf".*\S(?=[{WHITE_SPACE}])", re.DOTALL)


@dataclass(frozen=True)
class WordCounts:
    """Different words, in no particular order: a pyarrow.LargeBinaryArray and how often each occurs, int64 [words]."""

    words: Any
    counts: npt.NDArray[np.int64]

    def text(self) -> npt.NDArray[np.uint8]:
        """The bytes of all words, one after another."""
        return _values(self.words, 2, np.uint8)[self._ends[0] : self._ends[-1]]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of each word."""
        return np.diff(self._ends)

    @property
    def _ends(self) -> npt.NDArray[np.int64]:
        first = self.words.offset
        return _values(self.words, 1, np.int64)[first : first + len(self.words) + 1]


def count_words(texts: Iterable[str], split_pattern: str = SPLIT_PATTERN) -> WordCounts:
    """The words of texts, counted in this process."""
    counts: Counter[bytes] = Counter()
    for text in texts:
        _count_text(text, split_pattern, counts)
    return _word_counts(counts)


def count_words_of_files(
    places: Sequence[Path],
    split_pattern: str = SPLIT_PATTERN,
    held_out_share: float = 0.0,
    workers: int = 0,
    advance: Advance = lambda _: None,
) -> WordCounts:
    """The words of files and folders of documents (.parquet, .jsonl, and plain text; compressed, too).

    Documents of Parquet and JSON lines that `tokenize` holds out at `held_out_share` are left out; a plain text counts
    whole, in pieces of about 2 MiB that end before white space, if there is any. `workers` processes count (0: one a
    core); `advance` is called with bytes of text. Raises BadInput for places without
    documents and for what can't be read.
    """
    files = [file for place in places for file in document_files(place, SUFFIXES, below=True)]
    with (
        tempfile.TemporaryDirectory(prefix="gpt2lab-words-") as folder,
        explain_full_disk(Path(folder)),
    ):
        tasks = [
            (file, row_groups, Path(folder, f"{number:06d}"), split_pattern, held_out_share, os.getpid())
            for number, (file, row_groups) in enumerate(part for file in files for part in _parts(file))
        ]
        small = sum(file.stat().st_size for file in files) < SMALL_INPUT_BYTES
        run_tasks(_count_part, tasks, 1 if small else workers, advance, apart=not small)
        return _sum_of(list(Path(folder).iterdir()))


def text_bytes(places: Sequence[Path]) -> int | None:
    """About how many bytes of text there are to count; None where that is not known beforehand."""
    total = 0
    for place in places:
        for file in document_files(place, SUFFIXES, below=True):
            if suffix_of(file) == ".parquet":
                check_documents(file)
                data = pyarrow.parquet.read_metadata(file)
                column = data.schema.to_arrow_schema().get_field_index("text")
                total += sum(
                    data.row_group(group).column(column).total_uncompressed_size for group in range(data.num_row_groups)
                )
            elif suffix_of(file) == file.suffix.lower():
                total += file.stat().st_size
            else:
                return None
    return total


def _parts(file: Path) -> list[tuple[Path, tuple[int, ...] | None]]:
    """What is counted apart: the row groups of a Parquet file, some together; other files whole."""
    if suffix_of(file) != ".parquet":
        return [(file, None)]
    check_documents(file)
    parts: list[list[int]] = [[]]
    size = 0
    data = pyarrow.parquet.read_metadata(file)
    for group in range(data.num_row_groups):
        if size > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(group)
        size += data.row_group(group).total_byte_size
    return [(file, tuple(part)) for part in parts if part]


def _count_part(
    file: Path,
    row_groups: tuple[int, ...] | None,
    out: Path,
    split_pattern: str,
    held_out_share: float,
    starter: int,
    advance: Advance,
) -> None:
    """Write the counts of a part of the input to files whose names begin with `out`; `starter` is who asked for it."""
    counts: Counter[bytes] = Counter()
    waiting: list[bytes] = []  # UTF-8, which is half as large as text in Python
    size = written = 0
    apart = os.getpid() != starter
    if apart:
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # the default one keeps 30 MB that it no longer needs
    for text in _texts(file, row_groups, held_out_share):
        if apart and split_pattern == SPLIT_PATTERN:
            waiting.append(_utf8(text))
            size += len(waiting[-1])
            if size >= BATCH_BYTES:
                _count_batch(waiting, counts)
                waiting.clear()
                size = 0
        else:
            try:
                _count_text(text, split_pattern, counts)
            except BadInput as error:
                raise BadInput(f"{file}: {error}") from None
        if len(counts) >= WORDS_A_FILE:
            _write(_word_counts(counts), out.with_name(f"{out.name}-{written}"))
            counts.clear()
            written += 1
        advance(len(text))
    if waiting:
        _count_batch(waiting, counts)
    _write(_word_counts(counts), out.with_name(f"{out.name}-{written}"))


def _texts(file: Path, row_groups: tuple[int, ...] | None, held_out_share: float) -> Iterator[str]:
    match suffix_of(file):
        case ".parquet":
            texts = _parquet_texts(file, row_groups)
        case ".jsonl":
            texts = _json_texts(file)
        case _:
            return read_plain_pieces(file, BATCH_BYTES, _certain_cut)
    return (text for text in texts if not is_held_out(text, held_out_share)) if held_out_share else texts


def _parquet_texts(file: Path, row_groups: tuple[int, ...] | None) -> Iterator[str]:
    for batch in read_columns(file, ["text"], row_groups):
        try:
            yield from (text for text in batch.column(0).to_pylist() if text is not None)
        except UnicodeDecodeError as error:
            raise BadInput(f"{file}: a text is not UTF-8 ({error}); build it again.") from None


def _json_texts(file: Path) -> Iterator[str]:
    for number, record in read_json_lines(file):
        if not isinstance(text := record.get("text"), str):
            raise BadInput(
                f"{file}: line {number:,} has no text in 'text' ({', '.join(record)}); name its column text."
            )
        yield text


def _certain_cut(text: str) -> int:
    """The last place where a word ends whatever follows; the very end where there is no white space near it."""
    found = _LAST_SPACE_AFTER_WORD.match(text, max(0, len(text) - FARTHEST_CUT))
    return found.end() if found else len(text)


def _count_text(text: str, split_pattern: str, counts: Counter[bytes]) -> None:
    if split_pattern == SPLIT_PATTERN:
        from gigatoken.gigatoken_rs import pretokenizer

        counts.update(pretokenizer(_utf8(text)))
    else:
        words = Counter(split_words(split_pattern, text))
        counts.update({_utf8(word): count for word, count in words.items()})


def _count_batch(texts: Sequence[bytes], counts: Counter[bytes]) -> None:
    """Count the words of GPT-2's pattern, six times as fast; it chatters, so only in a process that has no terminal."""
    from gigatoken.gigatoken_rs import pretokenized_counts

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
    # 0xff is in no UTF-8; without a separator the engine would take <|endoftext|> for one.
    counts.update(dict(pretokenized_counts(b"\xff".join(texts), b"\xff")))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold: U+FFFD, as when encoding to tokens
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _word_counts(counts: Counter[bytes]) -> WordCounts:
    for word in [word for word in counts if len(word) > LONGEST_WORD_BYTES]:
        count = counts.pop(word)
        for start in range(0, len(word), LONGEST_WORD_BYTES):
            counts[word[start : start + LONGEST_WORD_BYTES]] += count
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)), out=ends[1:])
    # From buffers, here and below: pyarrow would import pandas, for half a second, to look whether it was given any.
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(counts))]
    words = pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(counts), buffers)
    return WordCounts(words, np.fromiter(counts.values(), np.int64, len(counts)))


def _values(array: Any, buffer: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    data = array.buffers()[buffer]
    return np.zeros(0, dtype) if data is None else np.frombuffer(data, dtype)


def _write(found: WordCounts, path: Path) -> None:
    buffers = [None, pyarrow.py_buffer(found.counts)]
    counts = pyarrow.Int64Array.from_buffers(pyarrow.int64(), len(found.counts), buffers)
    batch = pyarrow.RecordBatch.from_arrays([found.words, counts], names=["word", "count"])
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path) -> WordCounts:
    with pyarrow.memory_map(str(path)) as source:
        batch = pyarrow.ipc.open_file(source).get_batch(0)
    return WordCounts(batch.column(0), _values(batch.column(1), 1, np.int64)[: len(batch)])


def _sum_of(files: Sequence[Path]) -> WordCounts:
    """The sums of counts in files, which are removed; the smallest are added up first."""
    queue = [(file.stat().st_size, file) for file in files]
    heapq.heapify(queue)
    while len(queue) > 1:
        size = 0
        together: list[Path] = []
        while queue and (len(together) < 2 or size < COUNTS_AT_ONCE_BYTES):
            one, file = heapq.heappop(queue)
            size += one
            together.append(file)
        made = together[0].with_name(f"{together[0].name}-")
        _write(_added_up([_read(file) for file in together]), made)
        for file in together:
            file.unlink()
        heapq.heappush(queue, (made.stat().st_size, made))
    return _read(queue[0][1])


def _added_up(parts: Sequence[WordCounts]) -> WordCounts:
    encoded = pyarrow.concat_arrays([part.words for part in parts]).dictionary_encode()
    sums = np.zeros(len(encoded.dictionary), np.int64)
    np.add.at(sums, _values(encoded.indices, 1, np.int32)[: len(encoded)], np.concatenate([p.counts for p in parts]))
    return WordCounts(encoded.dictionary, sums)
