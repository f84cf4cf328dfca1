import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.documents import Document, read_documents


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
