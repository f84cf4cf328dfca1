import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.documents import Document, document_files, read_documents


def test_any_parquet_with_text_can_be_read(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", None, "three"]}), tmp_path / "a.parquet")
    expected = [Document("a.parquet:0", "one", None, "a.parquet"), Document("a.parquet:2", "three", None, "a.parquet")]
    assert list(read_documents(tmp_path)) == list(read_documents(tmp_path / "a.parquet")) == expected


def test_what_holds_no_documents_is_named_at_once(tmp_path):
    with pytest.raises(BadInput, match=r"gone: no such file or folder\."):
        read_documents(tmp_path / "gone")
    with pytest.raises(BadInput, match="no documents here"):
        read_documents(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match=r"a\.parquet: not a Parquet file"):
        read_documents(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"body": ["one"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"no column 'text' \(it has body\)"):
        read_documents(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="column 'text' holds int64, not text"):
        read_documents(tmp_path)


def test_damage_within_a_file_is_one_clear_line(tmp_path):
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["some words"] * 1000}), file, compression="zstd")
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56  # the first page; what the file says of itself is at its end
    file.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.parquet: damaged \(.*\); build it again\."):
        list(read_documents(tmp_path))


def test_files_of_a_folder_are_in_order_and_none_is_hidden_or_of_another_kind(tmp_path):
    for name in ("b.parquet", "a.parquet", ".c.parquet", "d.jsonl.gz", "e.csv", "f/g.parquet", ".h/i.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def named(*asked):
        return [str(path.relative_to(tmp_path)) for path in document_files(tmp_path, *asked)]

    assert named() == ["a.parquet", "b.parquet"]
    assert named((".parquet", ".jsonl"), True) == ["a.parquet", "b.parquet", "d.jsonl.gz", "f/g.parquet"]
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "j.parquet").touch()
    assert named() == ["documents/j.parquet"]
