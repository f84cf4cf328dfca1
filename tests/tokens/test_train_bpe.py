"""Training a byte-level BPE: the merges that the definition gives, and the files of every kind it reads."""

import gzip
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter

import gigatoken
import pyarrow
import pyarrow.parquet
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokens.plain_bpe import plain_merges
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.tokens import word_counts
from gpt2lab.tokens.bpe import SPLIT_PATTERN, ByteLevelBPE, byte_symbols
from gpt2lab.tokens.train_bpe import train_bpe, train_bpe_of_files, train_tokenizer
from gpt2lab.tokens.word_counts import count_words, count_words_of_files

OTHER_PATTERN = r"\p{Lu}?\p{Ll}+|\p{N}{1,3}|\s+|[\s\S]"


def as_dict(found: word_counts.WordCounts) -> dict[bytes, int]:
    return dict(zip(found.words.to_pylist(), found.counts.tolist(), strict=True))


def ids_of(merges: tuple[str, ...]) -> list[tuple[int, int]]:
    known = [symbol for _, symbol in byte_symbols()] + [merge.replace(" ", "") for merge in merges]
    number = {symbol: n for n, symbol in enumerate(known)}
    return [(number[left], number[right]) for left, right in (merge.split(" ") for merge in merges)]


def megabytes_of_corpora(shared_data, size: int) -> list[str]:
    """Documents of all the corpora in turn, `size` bytes of them."""
    files = {path.parent: path for path in sorted(shared_data("corpora").rglob("*.jsonl.gz"), reverse=True)}
    by_source = [gzip.decompress(path.read_bytes()).splitlines() for path in files.values()]
    texts = []
    for line in itertools.chain.from_iterable(itertools.zip_longest(*by_source)):
        if line is not None and size > 0:
            texts.append(json.loads(line)["text"])
            size -= len(texts[-1].encode())
    assert size <= 0
    return texts


# Few letters in long words: runs, overlaps and pairs that come and go.
small_texts = st.lists(st.text("ab", min_size=1, max_size=30) | st.text("abc é", max_size=20), min_size=1, max_size=12)


@given(small_texts, st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_the_merges_are_those_of_the_definition(texts, merges):
    found = count_words(texts)
    if not len(found.counts):
        return
    trained = train_bpe(texts, 257 + merges)
    assert ids_of(trained.merges) == plain_merges(as_dict(found), merges)


@pytest.mark.parametrize("word", ["aaaaaaa", "abababab", "aabaabaab", "abcabcab aab"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_overlapping_pairs_are_counted_and_merged_from_the_left(word, times):
    trained = train_bpe([word] * times, 280)
    assert ids_of(trained.merges) == plain_merges(as_dict(count_words([word] * times)), 23)


@pytest.mark.slow
def test_the_merges_of_five_megabytes_are_those_of_the_plain_reference(shared_data):
    texts = megabytes_of_corpora(shared_data, 5_000_000)
    trained = train_bpe(texts, 257 + 700)
    assert ids_of(trained.merges) == plain_merges(as_dict(count_words(texts)), 700)


@pytest.mark.slow
def test_the_merges_are_those_of_other_trainers(shared_data, tmp_path):
    texts = megabytes_of_corpora(shared_data, 5_000_000)
    trained = train_bpe(texts, 20_000)
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=19_999, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    theirs.train_from_iterator(texts, trainer)
    merges = json.loads(theirs.to_str())["model"]["merges"]
    assert [" ".join(merge) for merge in merges] == list(trained.merges)

    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "texts.parquet")
    source = gigatoken.ParquetFileSource([str(tmp_path / "texts.parquet")])
    _, merges = gigatoken.train_bpe(source, 19_999, [], "huggingface")
    symbol = dict(byte_symbols())
    spelled = [" ".join("".join(symbol[byte] for byte in part) for part in merge) for merge in merges]
    assert spelled == list(trained.merges)


def test_no_token_is_made_by_two_merges():
    # Where every merge is done wherever it can be, the bytes of a token are cut in one way at any time, so that no
    # other pair ever makes the same token. The constructor would refuse one that came twice.
    chooser = random.Random(11)
    for letters in ("ab", "abc", "aaab"):
        texts = ["".join(chooser.choices(letters, k=chooser.randrange(1, 40))) for _ in range(2000)]
        trained = train_bpe(texts, 3000)
        assert len(set(trained.symbols)) == len(trained.symbols) > 800


def test_a_trained_tokenizer_is_the_same_for_any_order_of_documents(sentences):
    assert train_bpe(sentences, 300).sha256 == train_bpe(reversed(sentences), 300).sha256


def test_training_merges_the_most_frequent_pair_first():
    assert train_bpe(["abab abab abab cdcd"], 259).merges == ("a b", "ab ab")


def test_training_ends_where_no_pair_is_left_twice():
    trained = train_bpe(["abab abab abab cdcd", "xyz"], 1000)
    assert trained.merges == ("a b", "ab ab", "c d", "Ġ abab")


# Characters that this Python knows: the engines' tables are of different years, and a newer letter is none to some.
@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cn"))), max_size=5))
@settings(deadline=None)
def test_both_ways_of_counting_give_the_words_of_the_pattern(texts):
    wanted = Counter(word.encode() for text in texts for word in regex.findall(SPLIT_PATTERN, text))
    assert as_dict(count_words(texts)) == wanted
    # GPT-2's pattern in another spelling is counted by `regex`, as any other pattern is.
    assert as_dict(count_words(texts, f"(?:{SPLIT_PATTERN})")) == wanted


def test_processes_and_one_process_count_alike_whatever_the_format(tmp_path, sentences, monkeypatch):
    monkeypatch.setattr(word_counts, "SMALL_INPUT_BYTES", 0)
    odd = ["<|endoftext|> in a text", "Ünïcode  \u3000 \x85\n\n'S 's", "日本語、テキスト。", "\x1c\x1d 🏳️‍🌈 \U000e0001"]
    texts = [*sentences, *odd]
    folder = tmp_path / "documents"
    folder.mkdir()
    rows = pyarrow.table({"text": [*texts[::3], None]})
    pyarrow.parquet.write_table(rows, folder / "a.parquet", row_group_size=5)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[1::3])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for number, text in enumerate(texts[2::3]):
        (folder / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    wanted = as_dict(count_words(texts))
    assert as_dict(count_words_of_files([folder], workers=2)) == wanted
    assert as_dict(count_words_of_files([folder], workers=1)) == wanted
    assert as_dict(count_words_of_files([folder], f"(?:{SPLIT_PATTERN})", workers=2)) == wanted


def test_counts_put_on_disk_in_many_parts_add_up(tmp_path, sentences, monkeypatch):
    chooser = random.Random(5)
    texts = [" ".join(str(chooser.randrange(3000)) for _ in range(100)) for _ in range(200)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet", row_group_size=20)
    monkeypatch.setattr(word_counts, "PART_BYTES", 0)
    monkeypatch.setattr(word_counts, "BATCH_BYTES", 1000)
    monkeypatch.setattr(word_counts, "WORDS_A_FILE", 100)
    monkeypatch.setattr(word_counts, "COUNTS_AT_ONCE_BYTES", 0)
    assert as_dict(count_words_of_files([tmp_path])) == as_dict(count_words(texts))


def test_held_out_documents_are_left_out(tmp_path, sentences):
    from gpt2lab.tokens.shards import is_held_out

    pyarrow.parquet.write_table(pyarrow.table({"text": sentences}), tmp_path / "a.parquet")
    kept = [text for text in sentences if not is_held_out(text, 0.5)]
    assert 0 < len(kept) < len(sentences)
    found = train_bpe_of_files([tmp_path], 400, held_out_share=0.5)
    assert found.sha256 == train_bpe(kept, 400).sha256 != train_bpe(sentences, 400).sha256


def test_a_text_is_cut_only_where_a_word_ends(tmp_path, sentences, monkeypatch):
    monkeypatch.setattr(word_counts, "BATCH_BYTES", 50)
    text = "\n\n".join(sentences) + "  we'll\u00a0\u00a0see \x85 it\u3000 " * 50
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert as_dict(count_words_of_files([tmp_path / "a.txt"])) == as_dict(count_words([text]))


def test_a_long_word_is_counted_in_pieces():
    assert as_dict(count_words(["a" * 10_000])) == {b"a" * 4096: 2, b"a" * 1808: 1}


def test_a_hundred_megabytes_of_one_character_are_no_trap(tmp_path):
    with (tmp_path / "a.txt").open("w") as handle:
        for _ in range(100):
            handle.write("a" * 1_000_000)
    trained = train_bpe_of_files([tmp_path / "a.txt"], 300)
    assert trained.merges[:3] == ("a a", "aa aa", "aaaa aaaa")
    assert len(trained.merges) == 12  # up to the 4,096 bytes of a piece


def test_half_a_surrogate_pair_counts_as_a_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x \\ud800y"}\n')
    assert as_dict(count_words_of_files([tmp_path / "a.jsonl"])) == as_dict(count_words(["x \ufffdy"]))


def test_the_merges_do_not_depend_on_the_number_of_workers_and_the_terminal_stays_quiet(tmp_path, sentences):
    for number in range(4):
        rows = pyarrow.table({"text": sentences[number::4] * 20})
        pyarrow.parquet.write_table(rows, tmp_path / f"{number}.parquet")
    code = """
import sys
from pathlib import Path
from gpt2lab.tokens import train_bpe, word_counts
if __name__ == "__main__":
    word_counts.SMALL_INPUT_BYTES = 0
    print(train_bpe.train_bpe_of_files([Path(sys.argv[1])], 400, workers=int(sys.argv[2])).sha256)
"""
    (tmp_path / "train.py").write_text(code)
    found = set()
    for workers in ("1", "2"):
        command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path), workers]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        assert done.stderr == ""
        found.add(done.stdout)
    assert len(found) == 1


def test_another_split_pattern_cuts_other_words(sentences):
    trained = train_bpe(sentences, 400, OTHER_PATTERN)
    assert trained.split_pattern == OTHER_PATTERN
    assert not any("Ġ" in symbol and symbol.strip("Ġ") for symbol in trained.symbols)
    text = "The cat, 12345 \n été."
    assert trained.decode(trained.encode(text)) == text
    assert trained.sha256 != ByteLevelBPE(trained.merges).sha256


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"(?:a", "no regular expression"),
        (r"(\s+)|\S+", r"write its groups as"),
        (r"\p{L}+|\s+", "passes over"),
        (r"a*|[\s\S]", "matches nothing at all"),
    ],
)
def test_a_split_pattern_that_cannot_be_is_refused(pattern, words):
    with pytest.raises(BadOption, match=words):
        train_bpe(["text"], 300, pattern)


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(BadOption, match="at least 257"):
        train_bpe(["text"], 256)
    assert train_bpe(["text text"], 257).merges == ()


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_to_train_on_is_said(texts):
    with pytest.raises(BadInput, match="no text to train"):
        train_bpe(texts, 300)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.parquet", b"PAR1 and nothing", r"a\.parquet: not a Parquet file"),
        ("a.txt", "é".encode("latin-1") * 9, r"a\.txt: not UTF-8"),
        ("a.txt", b"a\0b", r"a\.txt: a zero byte at 1"),
        ("a.jsonl", b'{"text": "x"}\n{"title": "y"}\n', r"a\.jsonl: line 2 has no text"),
        ("a.jsonl.gz", b"not gzip", r"a\.jsonl\.gz: can't be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=words):
        train_bpe_of_files([tmp_path / name], 300)


def test_a_damaged_parquet_file_is_named_from_a_process_too(tmp_path, sentences, monkeypatch):
    monkeypatch.setattr(word_counts, "SMALL_INPUT_BYTES", 0)
    for name in ("a.parquet", "b.parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": sentences}), tmp_path / name, compression="gzip")
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    data[200:600] = bytes(400)
    (tmp_path / "b.parquet").write_bytes(data)
    with pytest.raises(BadInput, match=r"b\.parquet: damaged"):
        train_bpe_of_files([tmp_path], 300, workers=2)


def test_an_absurdly_large_vocabulary_costs_no_memory():
    assert train_bpe(["the cat and the hat"], 10**12).vocab_size < 300


def test_a_tokenizer_is_not_put_over_shards(tmp_path, tokens_folder, documents_folder):
    with pytest.raises(BadOption, match="holds token shards"):
        train_tokenizer([documents_folder], tokens_folder, 300)


@pytest.mark.parametrize("pattern", ["^.*|[\\s\\S]", "[[:alpha:]]+|[\\s\\S]"])
def test_patterns_that_engines_take_differently_are_refused(pattern):
    with pytest.raises(BadOption, match=r"take .* differently"):
        train_bpe(["text"], 300, pattern)
