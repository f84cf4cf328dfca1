"""Bulk encoding gives tiktoken's ids, whatever the text."""

import gzip
import json
import sys
import zipfile
from itertools import pairwise

import pytest
import tiktoken
from tests.tokens.strange_strings import strange_strings

from gpt2lab.tokens.bpe import END_OF_TEXT, SPLIT_PATTERN, ByteLevelBPE, gpt2_tokenizer
from gpt2lab.tokens.bulk import NEW_IN_UNICODE_17, BulkEncoder, JoinedTexts


@pytest.fixture(scope="module")
def bulk():
    return BulkEncoder(gpt2_tokenizer())


@pytest.fixture(scope="module")
def oracle():
    """tiktoken as OpenAI uses it, without our tokenizer between."""
    ranks = {token: rank for rank, token in enumerate(gpt2_tokenizer().token_bytes[:-1])}
    return tiktoken.Encoding(
        "gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def encoded(bulk, texts):
    ids, starts = bulk.encode(JoinedTexts.of([text.encode() for text in texts]))
    ids = ids.tolist()
    return [ids[start:end] for start, end in pairwise(starts.tolist())]


def assert_equal(bulk, oracle, texts, batch=2000):
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        ours, theirs = encoded(bulk, part), oracle.encode_ordinary_batch(part, num_threads=2)
        wrong = [text for text, one, other in zip(part, ours, theirs, strict=True) if one != other]
        assert not wrong, wrong[:3]


def test_strange_strings_have_tiktokens_ids(bulk, oracle):
    assert_equal(bulk, oracle, strange_strings(3000))


def test_no_texts_and_empty_texts_are_encoded(bulk):
    assert encoded(bulk, []) == []
    assert encoded(bulk, ["", "a", ""]) == [[], [64], []]


def test_the_name_of_the_special_token_is_text(bulk):
    (ids,) = encoded(bulk, [f"x{END_OF_TEXT}y"])
    assert gpt2_tokenizer().end_of_text not in ids
    assert gpt2_tokenizer().decode(ids) == f"x{END_OF_TEXT}y"


def test_characters_new_in_unicode_17_have_tiktokens_ids(bulk, oracle):
    edges = [chr(code) for pair in NEW_IN_UNICODE_17 for code in pair]
    assert_equal(bulk, oracle, [f"{one}'s {one}{other}'ll 1{one}" for one, other in pairwise(edges)])


def test_another_split_pattern_is_followed(oracle):
    tokenizer = ByteLevelBPE(gpt2_tokenizer().merges, split_pattern=r"\S+|\s+")
    texts = ["don't split", "a  b", "", "end.\n\n"]
    assert encoded(BulkEncoder(tokenizer), texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode("x can't.") != oracle.encode_ordinary("x can't.")


def test_long_runs_are_no_trap(bulk):
    tokenizer = gpt2_tokenizer()
    texts = [" " * 20_000, "a" * 20_000, "\n" * 20_000 + "x", "x" + " " * 20_000 + "y"]
    assert encoded(bulk, texts) == [tokenizer.encode(text) for text in texts]


def test_forgotten_words_change_no_id(bulk, oracle, monkeypatch):
    monkeypatch.setattr("gpt2lab.tokens.bulk.LARGEST_MEMORY_OF_WORDS", -(1 << 40))
    assert_equal(bulk, oracle, strange_strings(200, seed=2), batch=20)


@pytest.mark.interop
def test_every_code_point_has_tiktokens_ids(bulk, oracle):
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"a{one}'s {one}1 " for one in characters[n : n + 32]) for n in range(0, len(characters), 32)]
    assert_equal(bulk, oracle, texts)


@pytest.mark.interop
def test_a_hundred_thousand_strange_strings_have_tiktokens_ids(bulk, oracle):
    assert_equal(bulk, oracle, strange_strings(100_000, seed=100), 20_000)


@pytest.mark.interop
def test_every_document_of_the_shared_data_has_tiktokens_ids(bulk, oracle, shared_data):
    texts = []
    for path in sorted(shared_data(".").rglob("*")):
        texts += shared_texts(path)
    assert sum(map(len, texts)) > 150_000_000
    assert_equal(bulk, oracle, texts, 500)


def shared_texts(path):
    """The records of JSON lines, the members of zips; other files whole, HTML sources among them."""
    if not path.is_file() or path.suffix in (".xz", ".npz", ".bin", ".safetensors", ".gguf", ".warc", ".parquet"):
        return []
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as members:
            return [members.read(name).decode("utf-8", "replace") for name in members.namelist()]
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError):
        return []  # some are broken on purpose
    text = data.decode("utf-8", "replace")
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        return [string for line in text.split("\n") if line.strip() for string in strings_of(json.loads(line))]
    return [text]


def strings_of(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [string for each in value.values() for string in strings_of(each)]
    return [string for each in value for string in strings_of(each)] if isinstance(value, list) else []
