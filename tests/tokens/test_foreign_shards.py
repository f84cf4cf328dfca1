"""Shards of nanoGPT, llm.c and Hugging Face: out and in again gives the same tokens, and bad files are refused."""

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from tests.tokens.raw_shards import write_raw_shards

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.tokens.foreign_shards import export_shards, import_shards
from gpt2lab.tokens.shards import read_shard_note, read_tokens_info
from gpt2lab.tokens.stream import TokenStream


def ids_of(folder, split):
    stream = TokenStream(folder, split)
    return stream.read(0, len(stream))


@pytest.mark.parametrize("form", ["nanogpt", "llm.c", "hf"])
def test_out_and_in_again_gives_the_same_tokens(tokens_folder, small_tokenizer, tmp_path, form):
    export_shards(tokens_folder, tmp_path / "out", form)
    again = import_shards([tmp_path / "out"], tmp_path / "in", small_tokenizer)
    before = read_tokens_info(tokens_folder)
    for split in ("train", "val"):
        assert (ids_of(tmp_path / "in", split) == ids_of(tokens_folder, split)).all()
        assert again.total(split) == before.total(split)
    assert sum(shard.text_bytes for shard in again.shards) == sum(shard.text_bytes for shard in before.shards)
    assert sum(shard.documents for shard in again.shards) == sum(shard.documents for shard in before.shards)
    old, new = read_shard_note(tokens_folder, "train_00000.bin"), read_shard_note(tmp_path / "in", "train_00000.bin")
    assert new.document_offsets == old.document_offsets
    if form == "hf":
        assert new.document_ids == old.document_ids


def test_nanogpt_files_hold_the_ids_and_nothing_else(tokens_folder, tmp_path):
    export_shards(tokens_folder, tmp_path, "nanogpt")
    assert (np.fromfile(tmp_path / "train.bin", np.uint16) == ids_of(tokens_folder, "train")).all()
    assert (np.fromfile(tmp_path / "val.bin", np.uint16) == ids_of(tokens_folder, "val")).all()


def test_llm_c_files_have_its_header(tokens_folder, tmp_path):
    (train, _) = export_shards(tokens_folder, tmp_path, "llm.c")
    header = np.fromfile(train, np.int32, 256)
    ids = np.fromfile(train, np.uint16, offset=1024)
    assert header[:3].tolist() == [20240520, 1, len(ids)]
    assert (ids == ids_of(tokens_folder, "train")).all()


def test_the_end_behind_documents_comes_before_them(small_tokenizer, tmp_path):
    """nanoGPT's own files have <|endoftext|> behind each document."""
    first, second = small_tokenizer.encode("The cat sleeps."), small_tokenizer.encode("A dog.")
    end = small_tokenizer.end_of_text
    np.array([*first, end, *second, end], np.uint16).tofile(tmp_path / "train.bin")
    import_shards([tmp_path / "train.bin"], tmp_path / "in", small_tokenizer)
    assert ids_of(tmp_path / "in", "train").tolist() == [end, *first, end, *second]
    assert read_shard_note(tmp_path / "in", "train_00000.bin").document_offsets == (0, len(first) + 1)


def test_arrow_files_of_save_to_disk_are_read(small_tokenizer, tmp_path):
    rows = [small_tokenizer.encode("The cat sleeps."), [], [*small_tokenizer.encode("A dog."), 319]]
    (tmp_path / "set" / "test").mkdir(parents=True)
    lists = pyarrow.table({"input_ids": pyarrow.array(rows, pyarrow.list_(pyarrow.int32()))})
    with pyarrow.ipc.new_stream(tmp_path / "set" / "test" / "data-00000-of-00001.arrow", lists.schema) as table:
        table.write_table(lists)
    import_shards([tmp_path / "set"], tmp_path / "in", small_tokenizer)
    assert small_tokenizer.end_of_text == 319
    assert ids_of(tmp_path / "in", "val").tolist() == [319, *rows[0], 319, 319, *rows[2][:-1]]


def test_llm_c_files_that_divide_a_document_are_joined_again(tokens_folder, small_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2lab.tokens.foreign_shards.LLM_C_SHARD", 1000)
    assert len(export_shards(tokens_folder, tmp_path / "out", "llm.c")) > 4
    import_shards([tmp_path / "out"], tmp_path / "in", small_tokenizer)
    for split in ("train", "val"):
        assert (ids_of(tmp_path / "in", split) == ids_of(tokens_folder, split)).all()


def test_what_would_be_garbage_or_overwritten_is_refused(tokens_folder, small_tokenizer, tmp_path):
    (train, _) = export_shards(tokens_folder, tmp_path / "out", "llm.c")
    with pytest.raises(BadOption, match="token files already"):
        export_shards(tokens_folder, tmp_path / "out", "hf")
    with pytest.raises(BadInput, match="gpt2lab's shards already"):
        import_shards([tokens_folder], tmp_path / "in", small_tokenizer)
    with pytest.raises(BadOption, match="read and written"):
        import_shards([tmp_path / "out"], tmp_path / "out", small_tokenizer)
    data = bytearray(train.read_bytes())
    data[:1024] = np.frombuffer(data[:1024], np.int32).byteswap().tobytes()
    train.write_bytes(data)
    with pytest.raises(BadInput, match="big-endian"):
        import_shards([train], tmp_path / "in", small_tokenizer)


def test_nanogpt_is_not_given_ids_it_cannot_read(tmp_path):
    write_raw_shards(tmp_path / "tokens", [[0, 5, 70_000]], vocab_size=70_001, dtype="uint32")
    with pytest.raises(BadOption, match=r"nanoGPT reads 16-bit ids.*llm\.c"):
        export_shards(tmp_path / "tokens", tmp_path / "out", "nanogpt")


def test_a_file_cut_short_is_refused(tokens_folder, small_tokenizer, tmp_path):
    (train, _) = export_shards(tokens_folder, tmp_path / "llm", "llm.c")
    train.write_bytes(train.read_bytes()[:-2])
    with pytest.raises(BadInput, match="its header says"):
        import_shards([train], tmp_path / "in", small_tokenizer)
    (tmp_path / "train.bin").write_bytes(b"\1\0\2")
    with pytest.raises(BadInput, match="no whole number of uint16"):
        import_shards([tmp_path / "train.bin"], tmp_path / "in", small_tokenizer)
    assert not (tmp_path / "in" / "tokens.json").exists()


def test_ids_beyond_the_vocabulary_are_refused(small_tokenizer, tmp_path):
    np.array([5, 320], np.uint16).tofile(tmp_path / "train.bin")
    with pytest.raises(BadInput, match=r"train\.bin: id 320 is not in .* 320 ids"):
        import_shards([tmp_path / "train.bin"], tmp_path / "in", small_tokenizer)
    pyarrow.parquet.write_table(pyarrow.table({"ids": [[1, -100]]}), tmp_path / "padded.parquet")
    with pytest.raises(BadInput, match="id -100 is not in"):
        import_shards([tmp_path / "padded.parquet"], tmp_path / "in", small_tokenizer)


def test_texts_instead_of_ids_are_sent_to_tokenize(small_tokenizer, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["words"]}), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match="gpt2lab tokenize"):
        import_shards([tmp_path], tmp_path / "in", small_tokenizer)


def test_shards_are_not_overwritten(tokens_folder, small_tokenizer, tmp_path):
    export_shards(tokens_folder, tmp_path / "out", "nanogpt")
    import_shards([tmp_path / "out"], tmp_path / "in", small_tokenizer)
    with pytest.raises(BadOption, match="token shards already"):
        import_shards([tmp_path / "out"], tmp_path / "in", small_tokenizer)


@pytest.mark.interop
def test_datasets_loads_what_was_exported_and_what_it_saves_is_read(tokens_folder, small_tokenizer, tmp_path):
    import datasets

    export_shards(tokens_folder, tmp_path / "out", "hf")
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "validation"}
    note = read_shard_note(tokens_folder, "train_00000.bin")
    assert found["train"]["id"] == list(note.document_ids)
    found.save_to_disk(str(tmp_path / "saved"))
    import_shards([tmp_path / "saved"], tmp_path / "in", small_tokenizer)
    for split in ("train", "val"):
        assert (ids_of(tmp_path / "in", split) == ids_of(tokens_folder, split)).all()
