"""Texts of one's own: every kind of file is read, and what can't be used is named with its file and line."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput, BadOption, UserError
from gpt2lab.datasets.own_texts import Example, read_own_texts


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(found):
    return [example.text for example in found.examples]


def test_every_kind_of_file_in_a_folder_is_read_in_the_order_of_names(tmp_path):
    written(tmp_path / "a.txt", "One.\r\nTwo.\n")
    written(tmp_path / "b.csv", '\ufeffjoke\n"Three, really."\n\nFour\n"  "\n')
    written(tmp_path / "c.jsonl", '{"text": "Five"}\n\n{"text": "Six", "url": 1}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["Seven"], "n": [1]}), tmp_path / "d.parquet")
    written(tmp_path / "e.txt", "Eight\n<|endoftext|>\nNine\n<|endoftext|>\n")
    written(tmp_path / "picture.png", b"\0")
    found = read_own_texts([tmp_path])
    wanted = ["One.\nTwo.\n", "Three, really.", "Four", "Five", "Six", "Seven", "Eight", "Nine"]
    assert texts(found) == wanted
    assert found.empty == 2
    assert not found.are_completions


def test_the_column_that_is_asked_for_is_read(tmp_path):
    files = [
        written(tmp_path / "a.csv", "name,joke\nx,A\ny,B\n"),
        written(tmp_path / "b.jsonl", '{"joke": "C", "text": "no"}\n'),
        tmp_path / "c.parquet",
    ]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["no"], "joke": ["D"]}), files[2])
    assert texts(read_own_texts(files, "joke")) == ["A", "B", "C", "D"]


def test_prompts_and_completions_are_read_as_such(tmp_path):
    lines = [{"prompt": "2+2=", "completion": " 4"}, {"prompt": "", "completion": "x"}]
    found = read_own_texts([written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))])
    assert found.examples == (Example(" 4", "2+2="), Example("x", ""))
    assert found.are_completions


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", r"a\.txt: holds no text; leave it out"),
        ("a.txt", " \n", r"a\.txt: holds no text"),
        ("a.txt", b"ab\0c", r"a\.txt: a zero byte at 2: binary, not text"),
        ("a.txt", "Grüße".encode("latin-1"), r"a\.txt: not UTF-8 near byte 2"),
        ("a.csv", "name,joke\nx,A\n", r"has the columns name, joke; say which .* --column joke"),
        ("a.csv", "joke\nx,A\n", r"a\.csv: line 2 has 2 columns, the first row 1"),
        ("a.csv", 'joke\n"x\n', r"a\.csv: line 2 is no CSV \(unexpected end of data\)"),
        ("a.csv", "joke\n", r"a\.csv: holds no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl: line 2 is not a JSON object"),
        ("a.jsonl", '{"title": "a"}\n', r"a\.jsonl: line 1: has no 'text', nor .* \(it has title\)"),
        ("a.jsonl", '{"text": 3}\n', r"a\.jsonl: line 1: its text is int, not a string"),
        ("a.jsonl", '{"prompt": "a", "completion": null}\n', "line 1: its completion is NoneType, not a string"),
        ("a.jsonl", '{"prompt": "a", "completion": ""}\n', "line 1: its completion is empty"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"text": "c"}\n', "holds documents and .* train on one kind"),
        ("a.json", '[{"text": "a"}]', r"give JSON lines"),
        ("a.parquet", "text", r"a\.parquet: not a Parquet file"),
    ],
)
def test_what_can_not_be_used_is_named(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words):
        read_own_texts([written(tmp_path / name, content)])


def test_an_absent_file_an_empty_folder_and_a_wrong_column_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_own_texts([tmp_path / "absent.txt"])
    with pytest.raises(BadInput, match=r"no documents here \(\*\.txt \*\.md"):
        read_own_texts([tmp_path])
    with pytest.raises(BadOption, match="no text given"):
        read_own_texts([])
    with pytest.raises(BadOption, match="has no column 'b'; its first row names a"):
        read_own_texts([written(tmp_path / "a.csv", "a\nx\n")], "b")
