"""Training a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019, section 2.2): count words, then merge pairs.

The most frequent pair of neighbouring tokens within words becomes a token, again and again. A pair's count is the
number of places where it stands, overlapping ones included ("aaa" holds "a a" twice); it is merged from left to right.
Of pairs that are equally frequent the one with the smaller left id comes first, then the one with the smaller right id,
as in Hugging Face's tokenizers. So the merges depend on the documents alone: not on their order, nor on the number of
workers.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import locked_folder
from gpt2lab.base.progress import progress_bar
from gpt2lab.tokens.bpe import SMALLEST_VOCABULARY, SPLIT_PATTERN, ByteLevelBPE, byte_symbols, check_split_pattern
from gpt2lab.tokens.shards import check_held_out_share
from gpt2lab.tokens.word_counts import WordCounts, count_words, count_words_of_files, text_bytes

MIN_COUNT = 2
"""A pair that stands in one place only is not merged: there is nothing to learn from it. Training ends early there."""
LOOKS_EVERY_SECONDS = 0.1
GPT2_PATTERN = "gpt2"
"""The name that stands for GPT-2's split pattern."""

Merges = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TrainedTokenizer:
    """What `train_tokenizer` made: ids, `<|endoftext|>` included, the tokenizer's identity and its split pattern."""

    vocab_size: int
    sha256: str
    split_pattern: str


def train_tokenizer(
    documents: Sequence[Path],
    out: Path,
    vocab_size: int,
    split_pattern: str = GPT2_PATTERN,
    held_out_share: float = 0.0,
    workers: int = 0,
) -> TrainedTokenizer:
    """Train a byte-level BPE on files (see `train_bpe_of_files`) and save it in the folder `out`, in every format."""
    pattern = SPLIT_PATTERN if split_pattern == GPT2_PATTERN else split_pattern
    check_training(vocab_size, pattern)
    if (out / "tokens.json").exists():
        raise BadOption(f"{out}: holds token shards with their tokenizer; choose another --out.")
    with locked_folder(out):
        tokenizer = train_bpe_of_files(documents, vocab_size, pattern, held_out_share, workers)
        tokenizer.save(out)
    return TrainedTokenizer(tokenizer.vocab_size, tokenizer.sha256, tokenizer.split_pattern)


def train_bpe(texts: Iterable[str], vocab_size: int, split_pattern: str = SPLIT_PATTERN) -> ByteLevelBPE:
    """Learn a byte-level BPE of `vocab_size` ids, or fewer where the texts hold no more pairs, in this process.

    Raises BadOption for a size below 257 or a split pattern that can't be used, and BadInput for texts without content.
    """
    check_training(vocab_size, split_pattern)
    return merges_of_words(count_words(texts, split_pattern), vocab_size, split_pattern)


def train_bpe_of_files(
    places: Sequence[Path],
    vocab_size: int,
    split_pattern: str = SPLIT_PATTERN,
    held_out_share: float = 0.0,
    workers: int = 0,
) -> ByteLevelBPE:
    """Learn a byte-level BPE on files and folders of documents of any size; see `count_words_of_files`.

    Raises what `train_bpe` raises, and BadInput for what can't be read.
    """
    check_training(vocab_size, split_pattern)
    check_held_out_share(held_out_share)
    with progress_bar("count words", text_bytes(places), unit="bytes") as bar:
        words = count_words_of_files(places, split_pattern, held_out_share, workers, bar.advance)
    return merges_of_words(words, vocab_size, split_pattern)


def check_training(vocab_size: int, split_pattern: str) -> None:
    """Raise BadOption for a vocabulary or a split pattern that nothing can be trained with."""
    if vocab_size < SMALLEST_VOCABULARY:
        raise BadOption(
            f"--vocab-size {vocab_size}: a byte-level BPE needs at least {SMALLEST_VOCABULARY} ids"
            " (256 bytes and <|endoftext|>)."
        )
    check_split_pattern(split_pattern)


def merges_of_words(words: WordCounts, vocab_size: int, split_pattern: str) -> ByteLevelBPE:
    """Learn a byte-level BPE of `vocab_size` ids from counts of words."""
    if not len(words.counts):
        raise BadInput("no text to train a tokenizer on.")
    progress = np.zeros(2, np.int64)
    total = min(vocab_size - SMALLEST_VOCABULARY, len(words.text()))  # a merge leaves at least one token fewer
    # In a thread of its own, so that Ctrl-C and the progress line have this one.
    with ThreadPoolExecutor(1) as beside, progress_bar("merge pairs", total, unit="merges") as bar:
        learning = beside.submit(_learn_merges, words, total, progress)
        try:
            _follow(learning, progress, bar.advance)
        finally:
            progress[1] = 1
    symbols = [symbol for _, symbol in byte_symbols()]
    merges = []
    for left, right in learning.result().tolist():
        merges.append(f"{symbols[left]} {symbols[right]}")
        symbols.append(symbols[left] + symbols[right])
    return ByteLevelBPE(merges, split_pattern)


def _follow(learning: "Future[Merges]", progress: npt.NDArray[np.int64], advance: Callable[[float], None]) -> None:
    seen = 0
    while True:
        finished = wait([learning], LOOKS_EVERY_SECONDS).done
        advance(int(progress[0]) - seen)
        seen = int(progress[0])
        if finished:
            return


def _learn_merges(words: WordCounts, total: int, progress: npt.NDArray[np.int64]) -> Merges:
    """The pairs of ids merged, int32 [merges done, 2]; `progress` as `learn_merges` has it."""
    # Only now: numba takes half a second, and as much memory as a process that counts words.
    from gpt2lab.tokens.merge_kernel import learn_merges

    text = words.text()
    if len(text) >= 2**31:
        raise BadInput(f"{len(text):,} bytes of different words are more than this trainer can hold (2 GiB).")
    id_of_byte = np.zeros(256, np.int32)
    for number, (byte, _) in enumerate(byte_symbols()):
        id_of_byte[byte] = number
    word_at = np.repeat(np.arange(len(words.counts), dtype=np.int32), words.lengths())
    merges = np.zeros((total, 2), np.int32)
    learn_merges(id_of_byte[text], word_at, words.counts, MIN_COUNT, merges, progress)
    return merges[: progress[0]]
