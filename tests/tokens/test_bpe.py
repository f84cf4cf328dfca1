"""Byte-level BPE: GPT-2's own to the byte, exact round trips."""

import hashlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.bpe import END_OF_TEXT, ByteLevelBPE, gpt2_tokenizer, parse_merges

GPT2 = gpt2_tokenizer()


def test_the_vocabulary_is_the_published_one_to_the_byte():
    encoder_json = json.dumps(GPT2.vocabulary())
    digest = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    assert hashlib.sha256(encoder_json.encode()).hexdigest() == digest
    assert GPT2.vocab_size == 50_257
    assert GPT2.end_of_text == 50_256


def test_every_shared_vector_passes(shared_data):
    vectors = [json.loads(line) for line in shared_data("gpt2-bpe/test_vectors.jsonl").read_text().splitlines()]
    assert len(vectors) > 50
    for vector in vectors:
        assert GPT2.encode(vector["text"]) == vector["ids"]
        assert GPT2.decode(vector["ids"]) == vector["text"]


def test_the_llama_cpp_vectors_pass(shared_data):
    folder = shared_data("gpt2-bpe/llama.cpp")
    texts = (folder / "ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / "ggml-vocab-gpt-2.gguf.out").read_text().splitlines()
    for text, line in zip(texts, lines, strict=False):
        assert GPT2.encode(text) == [int(number) for number in line.split()]


def test_whole_files_give_the_recorded_token_counts(shared_data):
    recorded = json.loads(shared_data("gpt2-bpe/corpus_token_counts.json").read_text())
    name = "wikitext-2-raw/wiki.test.raw"
    ids = GPT2.encode(shared_data(name).read_text(encoding="utf-8"))
    assert len(ids) == recorded[name]["tokens"]
    packed = b"".join(token.to_bytes(2, "little") for token in ids)
    assert hashlib.sha256(packed).hexdigest() == recorded[name]["sha256_u16"]


@given(st.text())
def test_any_text_comes_back_whole(text):
    assert GPT2.decode(GPT2.encode(text)) == text


@given(st.binary())
def test_any_bytes_come_back_whole(data):
    assert GPT2.decode_bytes(GPT2.encode_bytes(data)) == data


@given(st.text(), st.text())
@settings(max_examples=50)
def test_the_name_of_the_special_token_inside_a_text_is_text(before, after):
    ids = GPT2.encode(before + END_OF_TEXT + after)
    assert GPT2.end_of_text not in ids
    assert GPT2.decode(ids) == before + END_OF_TEXT + after


def test_bytes_and_text_agree_where_the_bytes_are_text():
    text = "naïve café — 日本語\n"
    assert GPT2.encode_bytes(text.encode()) == GPT2.encode(text)


def test_a_character_cut_in_two_is_shown_as_a_replacement():
    first, *_ = GPT2.encode_bytes("日".encode())
    assert "\ufffd" in GPT2.decode([first]) or GPT2.decode([first]) == "日"
    assert GPT2.decode(GPT2.encode_bytes(b"\xe6")) == "\ufffd"


@pytest.mark.parametrize("text", ["{run}", "a{run}b", "a{run}", "{run} b", "one {run}\n\ntwo{run}\u3000'll"])
def test_a_long_run_of_white_space_gives_the_pieces_that_a_short_one_gives(monkeypatch, text):
    from gpt2lab.tokens import bpe

    text = text.format(run=" \n\t" * 100)
    wanted = GPT2.encode(text)
    monkeypatch.setattr(bpe, "LONGEST_SPACE_RUN", 50)
    monkeypatch.setattr(bpe, "_LONG_SPACE_RUN", re.compile(bpe._LONG_SPACE_RUN.pattern.replace("10000", "50")))
    assert GPT2.encode(text) == wanted
    assert GPT2.encode_batch([text, "x"]) == [wanted, GPT2.encode("x")]


def test_a_million_newlines_are_encoded():
    text = "hello" + "\n" * 1_000_000 + "x"
    assert GPT2.decode(GPT2.encode(text)) == text


def test_an_id_beyond_the_vocabulary_is_refused():
    with pytest.raises(BadInput, match="50257 is not in the vocabulary"):
        GPT2.decode([50_257])


def test_a_merge_list_that_does_not_build_up_is_refused():
    with pytest.raises(BadInput, match="merge 2"):
        ByteLevelBPE(parse_merges("#version: 0.2\na b\nxy z\n"))
