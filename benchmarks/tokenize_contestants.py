"""One encoder or one trainer of a byte-level BPE, ours or a peer, as a process to be timed by `benchmarks.tokenize`.

`python -m benchmarks.tokenize_contestants NAME FOLDER RANKS OUT [VOCAB_SIZE]` prints one JSON object. FOLDER holds
Parquet files with a column text and all.txt, the same joined; RANKS is GPT-2's `.tiktoken` file. What is imported and
loaded before the clock starts is what a user's process has once: libraries, tokenizers. Words are not remembered yet.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SPLIT_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Task:
    """What all of them are given."""

    files: list[Path]
    ranks: Path
    out: Path
    vocab_size: int


Contestant = Callable[[Task], Callable[[], int]]


def main() -> None:
    """Run one and print its seconds, and how many tokens or merges it made."""
    name, folder, ranks, out = sys.argv[1], *map(Path, sys.argv[2:5])
    vocab_size = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    run = CONTESTANTS[name](Task(sorted(folder.glob("*.parquet")), ranks, out, vocab_size))
    start = time.monotonic()
    made = run()
    print(json.dumps({"seconds": time.monotonic() - start, "made": made}))


def encode_gpt2lab(task: Task) -> Callable[[], int]:
    """Parquet to shards on disk: read, encoded, held out, hashed, flushed."""
    from gpt2lab.tokens.bpe import gpt2_tokenizer
    from gpt2lab.tokens.bulk import BulkEncoder, JoinedTexts
    from gpt2lab.tokens.write_shards import write_shards

    tokenizer = gpt2_tokenizer()
    encoder = BulkEncoder(tokenizer)
    encoder.encode(JoinedTexts.of([b"ready"]))

    def run() -> int:
        info = write_shards(task.files[0].parent, task.out, tokenizer, 0.05, encoder)
        return sum(shard.tokens - shard.documents for shard in info.shards)

    return run


def encode_tiktoken(task: Task) -> Callable[[], int]:
    """Texts in memory to ids in memory."""
    import tiktoken
    import tiktoken.load

    encoding = tiktoken.Encoding(
        "gpt2",
        pat_str=SPLIT_PATTERN,
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(task.ranks)),
        special_tokens={},
    )
    texts = list(read_texts(task.files))
    return lambda: sum(map(len, encoding.encode_ordinary_batch(texts, num_threads=CORES)))


def encode_gigatoken_parquet(task: Task) -> Callable[[], int]:
    """Parquet to ids in memory."""
    import awkward  # noqa: F401
    from gigatoken import ParquetFileSource, Tokenizer

    tokenizer = Tokenizer.from_tiktoken(task.ranks, "gpt2", {})
    return lambda: len(tokenizer.encode_files(ParquetFileSource(list(task.files))).layout.content.data)


def encode_gigatoken_text(task: Task) -> Callable[[], int]:
    """One plain text file to ids in memory."""
    import awkward  # noqa: F401
    from gigatoken import TextFileSource, Tokenizer

    tokenizer = Tokenizer.from_tiktoken(task.ranks, "gpt2", {})
    source = TextFileSource([task.files[0].with_name("all.txt")], "<|endoftext|>")
    return lambda: len(tokenizer.encode_files(source).layout.content.data)


def train_gpt2lab(task: Task) -> Callable[[], int]:
    """Ours: words counted in processes, then merged."""
    from gpt2lab.tokens.train_bpe import train_bpe_of_files

    return lambda: len(train_bpe_of_files(task.files, task.vocab_size).merges)


def train_tokenizers(task: Task) -> Callable[[], int]:
    """Hugging Face tokenizers, fed by an iterator."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def run() -> int:
        engine = Tokenizer(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=task.vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
        engine.train_from_iterator(read_texts(task.files), trainer)
        return int(engine.get_vocab_size()) - 256

    return run


def train_rustbpe(task: Task) -> Callable[[], int]:
    """The trainer of nanochat."""
    import rustbpe  # type: ignore[import-not-found]

    def run() -> int:
        engine = rustbpe.Tokenizer()
        engine.train_from_iterator(read_texts(task.files), vocab_size=task.vocab_size - 1, pattern=SPLIT_PATTERN)
        return int(engine.vocab_size) - 256

    return run


def train_gigatoken(task: Task) -> Callable[[], int]:
    """gigatoken, which reads the task.files itself."""
    from gigatoken import ParquetFileSource, train_bpe

    return lambda: len(train_bpe(ParquetFileSource(list(task.files)), task.vocab_size - 1, [])[1])


def read_texts(files: list[Path]) -> Iterator[str]:
    """The column text, some rows at a time."""
    import pyarrow.parquet

    for file in files:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(256, columns=["text"]):
            yield from batch["text"].to_pylist()


CONTESTANTS: dict[str, Contestant] = {
    function.__name__: function
    for function in (
        encode_gpt2lab,
        encode_tiktoken,
        encode_gigatoken_parquet,
        encode_gigatoken_text,
        train_gpt2lab,
        train_tokenizers,
        train_rustbpe,
        train_gigatoken,
    )
}


if __name__ == "__main__":
    main()
