"""Token shards: what is written is what is read, and what does not fit is refused."""

import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.datasets.documents import read_documents
from gpt2lab.tokens.bpe import gpt2_tokenizer
from gpt2lab.tokens.shards import (
    check_same_tokenizer,
    is_held_out,
    read_shard_note,
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


KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from gpt2lab.base import files
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.write_shards import write_shards

left, replace = int(sys.argv[1]), Path.replace

def replace_and_count(self, target):
    global left
    replace(self, target)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = replace_and_count
write_shards(Path(sys.argv[2]), Path(sys.argv[3]), ByteLevelBPE.load(Path(sys.argv[4])), 0.2)
"""


@pytest.mark.parametrize(("few", "files_written"), [(True, 4), (True, 5), (True, 6), (False, 3), (False, 7)])
def test_killed_after_any_file_and_run_again_gives_the_same_bytes(
    tmp_path, sentences, small_tokenizer, few, files_written
):
    from tests.conftest import write_documents

    for number, texts in enumerate([["".join(sentences)]] if few else [sentences[:30], sentences[30:]]):
        write_documents(tmp_path / "in" / f"{number}.parquet", texts)
    (tmp_path / "tokenizer").mkdir()
    small_tokenizer.save(tmp_path / "tokenizer")
    arguments = [str(files_written), tmp_path / "in", tmp_path / "out", tmp_path / "tokenizer"]
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER, *map(str, arguments)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for out in ("out", "whole"):
        write_shards(tmp_path / "in", tmp_path / out, small_tokenizer, 0.2)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_a_shard_that_was_lost_or_cut_is_made_anew(tmp_path, documents_folder, small_tokenizer):
    info = write_shards(documents_folder, tmp_path, small_tokenizer, 0.2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "val_00000.bin").unlink()
    assert write_shards(documents_folder, tmp_path, small_tokenizer, 0.2) == info
    (tmp_path / "train_00000.bin").write_bytes(before["train_00000.bin"][:-10])
    assert write_shards(documents_folder, tmp_path, small_tokenizer, 0.2) == info
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_shards_of_other_documents_are_not_overwritten(tmp_path, tokens_folder, documents_folder, small_tokenizer):
    from gpt2lab.tokens.foreign_shards import export_shards, import_shards

    export_shards(tokens_folder, tmp_path / "out", "nanogpt")
    import_shards([tmp_path / "out" / "train.bin"], tmp_path / "in", small_tokenizer)
    before = (tmp_path / "in" / "train_00000.bin").read_bytes()
    with pytest.raises(BadInput, match="other documents"):
        write_shards(documents_folder, tmp_path / "in", small_tokenizer, 0.2)
    assert (tmp_path / "in" / "train_00000.bin").read_bytes() == before


def test_a_tail_that_begins_with_a_document_holds_no_part_of_the_one_before(tmp_path, small_tokenizer):
    from tests.conftest import write_documents

    texts = [text for text in map("The cat sleeps {}.".format, range(10_000)) if not is_held_out(text, 1e-9)]
    length = len(small_tokenizer.encode(texts[0]))
    two = [text for text in texts if len(small_tokenizer.encode(text)) == length][:2]
    write_documents(tmp_path / "documents.parquet", two)
    write_shards(tmp_path, tmp_path / "tokens", small_tokenizer, 1e-9)
    train, val = (read_shard_note(tmp_path / "tokens", f"{split}_00000.bin") for split in ("train", "val"))
    assert train.document_offsets == val.document_offsets == (0,)
    assert train.document_ids != val.document_ids
    assert train.shard.documents == val.shard.documents == 1


def test_rows_without_text_are_passed_over_and_bad_columns_are_told(tmp_path, small_tokenizer):
    def shards_of(name, **columns):
        (tmp_path / name).mkdir()
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / name / "a.parquet")
        return write_shards(tmp_path / name, tmp_path / name / "tokens", small_tokenizer, 0.0)

    nothing = pyarrow.array([None, None], pyarrow.string())
    with pytest.raises(BadInput, match="hold no text"):
        shards_of("null", text=nothing)
    with pytest.raises(BadInput, match="hold no text"):
        shards_of("empty", text=["", ""])
    assert sum(shard.documents for shard in shards_of("some", text=[None, "The cat.", None]).shards) == 1
    assert shards_of("numbers", text=["The cat."], url=[7]).sources.keys() == {"7"}
    not_utf8 = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
    )
    for column in ("text", "id", "source"):
        with pytest.raises(BadInput, match=r"a\.parquet: after row 0"):
            shards_of(f"bad {column}", **{"text": pyarrow.array(["The cat."])} | {column: not_utf8})
    (tmp_path / "twice").mkdir()
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], ["text", "text"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice" / "a.parquet")
    with pytest.raises(BadInput, match="two columns 'text'"):
        write_shards(tmp_path / "twice", tmp_path / "twice" / "tokens", small_tokenizer, 0.0)
