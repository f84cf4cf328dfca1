"""Token shards: what is written is what is read, and what does not fit is refused."""

import json

import numpy as np
import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.documents import read_documents
from gpt2lab.tokens.bpe import gpt2_tokenizer
from gpt2lab.tokens.shards import (
    check_same_tokenizer,
    is_held_out,
    read_tokens_info,
)
from gpt2lab.tokens.stream import TokenStream
from gpt2lab.tokens.write_shards import write_shards


def test_shards_hold_every_document_once_on_its_side(tokens_folder, documents_folder, small_tokenizer):
    info = read_tokens_info(tokens_folder)
    texts = [document.text for document in read_documents(documents_folder)]
    for split, held_out in (("train", False), ("val", True)):
        stream = TokenStream(tokens_folder, split)
        ids = stream.read(0, len(stream))
        wanted = [text for text in texts if is_held_out(text, 0.2) is held_out]
        pieces = small_tokenizer.decode(ids.tolist()).split("<|endoftext|>")
        assert pieces[0] == ""
        assert pieces[1:] == wanted
        assert info.total(split) == len(ids)
    assert sum(shard.documents for shard in info.shards) == len(texts)


def test_shards_are_plain_little_endian_numbers(tokens_folder):
    raw = np.fromfile(tokens_folder / "train_00000.bin", "<u2")
    stream = TokenStream(tokens_folder, "train")
    assert (raw == stream.read(0, len(stream))).all()


def test_the_name_of_the_special_token_in_a_document_stays_text(tmp_path, small_tokenizer):
    from tests.conftest import write_documents

    write_documents(tmp_path / "documents.parquet", ["before <|endoftext|> after"])
    write_shards(tmp_path, tmp_path / "tokens", small_tokenizer, 0.0)
    stream = TokenStream(tmp_path / "tokens", "train")
    ids = stream.read(0, len(stream))
    assert (ids == small_tokenizer.end_of_text).tolist() == [True] + [False] * (len(ids) - 1)


def test_counts_are_of_all_tokens(tokens_folder):
    stream = TokenStream(tokens_folder, "train")
    assert (stream.counts() == np.bincount(stream.read(0, len(stream)), minlength=stream.info.vocab_size)).all()


def test_the_same_command_again_changes_nothing(tokens_folder, documents_folder, small_tokenizer):
    before = (tokens_folder / "tokens.json").read_bytes(), (tokens_folder / "train_00000.bin").stat().st_mtime_ns
    write_shards(documents_folder, tokens_folder, small_tokenizer, 0.2)
    after = (tokens_folder / "tokens.json").read_bytes(), (tokens_folder / "train_00000.bin").stat().st_mtime_ns
    assert after == before


def test_another_tokenizer_or_split_is_not_mixed_in(tokens_folder, documents_folder, small_tokenizer):
    with pytest.raises(BadInput, match="another tokenizer"):
        write_shards(documents_folder, tokens_folder, gpt2_tokenizer(), 0.2)
    with pytest.raises(BadInput, match="another split"):
        write_shards(documents_folder, tokens_folder, small_tokenizer, 0.3)


def test_a_shard_cut_short_is_refused(tmp_path, documents_folder, small_tokenizer):
    write_shards(documents_folder, tmp_path, small_tokenizer, 0.2)
    shard = tmp_path / "train_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(BadInput, match=r"train_00000\.bin: has"):
        TokenStream(tmp_path, "train")


def test_a_foreign_tokenizer_is_refused_with_both_hashes(tokens_folder, small_tokenizer):
    info = read_tokens_info(tokens_folder)
    with pytest.raises(BadInput, match=f"{small_tokenizer.sha256[:12]}, not {gpt2_tokenizer().sha256[:12]}"):
        check_same_tokenizer(info, gpt2_tokenizer(), tokens_folder)


def test_a_folder_without_shards_is_said(tmp_path):
    with pytest.raises(BadInput, match="gpt2lab tokenize"):
        read_tokens_info(tmp_path)
    (tmp_path / "tokens.json").write_text(json.dumps({"vocab_size": 3}))
    with pytest.raises(BadInput, match="not a tokens file"):
        read_tokens_info(tmp_path)


@pytest.mark.parametrize("side", [True, False])
def test_a_single_document_is_divided_so_that_its_end_is_held_out(tmp_path, sentences, small_tokenizer, capsys, side):
    from tests.conftest import write_documents

    text = "\n".join(sentences)
    while is_held_out(text, 0.1) is not side:
        text += "."
    write_documents(tmp_path / "documents.parquet", [text])
    info = write_shards(tmp_path, tmp_path / "tokens", small_tokenizer, 0.1)
    assert "the end of the last one is held out" in capsys.readouterr().err
    train, val = (TokenStream(tmp_path / "tokens", split) for split in ("train", "val"))
    ids = [*train.read(0, len(train)), *val.read(0, len(val))]
    assert ids == [small_tokenizer.end_of_text, *small_tokenizer.encode(text)]
    assert len(val) == max(1025, int(len(ids) * 0.1))
    assert sum(shard.text_bytes for shard in info.shards) == len(text.encode())
    assert write_shards(tmp_path, tmp_path / "tokens", small_tokenizer, 0.1) == info


def test_a_share_outside_0_to_1_is_refused(documents_folder, tmp_path, small_tokenizer):
    with pytest.raises(BadOption, match="held-out-share"):
        write_shards(documents_folder, tmp_path / "t", small_tokenizer, 1.0)


def test_about_the_asked_share_is_held_out():
    held_out = sum(is_held_out(f"document {n}", 0.1) for n in range(10_000))
    assert 900 < held_out < 1100
