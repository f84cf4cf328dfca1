import bz2
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_texts import read_evaluation_texts
from gpt2lab.datasets.texts import read_plain_pieces

QUESTION = "21 The XXXXX sat .\tcat\t\tcat|dog"
ARTICLES = [" \n = One = \n \n Text of = one = . \n \n = = Part = = \n \n More . \n \n", " = Two = \n \n Text . \n"]
SCHEMAS = (
    '<?xml version="1.0" encoding="ISO-8859-1"?>\n<collection><schema>\n<text>\n<txt1>Caf\xe9 saw Bo because</txt1>\n'
    "<pron> he </pron><txt2> hid. </txt2>\n</text>\n<quote><pron>he</pron></quote></schema></collection>"
)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": "a passage"}, "a passage"),
        ({"id": 1, "story": "a story", "questions": []}, "a story"),
        ({"ctx": "he", "endings": ["runs", "sits"], "label": "1"}, "he sits"),
        ({"ctx": "he", "endings": ["runs", "sits"], "label": ""}, "he"),
        ({"goal": "g", "sol1": "a", "sol2": "b"}, "g\na\nb"),
        ({"query": "q", "choices": ["a", "b"], "gold": 0}, "q a"),
        ({"context_options": ["a", "b"], "continuation": "c", "gold": 1}, "b c"),
        ({"context": "a", "continuation": "b"}, "a b"),
        ({"context": "a", "answer": "b", "aliases": []}, "a b"),
        ({"question": "who", "answer": ["me"]}, "who"),
    ],
)
def test_json_lines_of_every_known_set(tmp_path, record, text):
    for name, content in (("a.jsonl", json.dumps(record) + "\n\n"), ("b.json", json.dumps({"data": [record]}))):
        (tmp_path / name).write_text(content)
        assert list(read_evaluation_texts(tmp_path / name)) == [text]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "c.parquet")
    assert list(read_evaluation_texts(tmp_path / "c.parquet")) == [text]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("notes.txt", "one\n\ntwo\n", ["one\n\ntwo\n"]),
        ("lambada_test.txt", "one passage\nanother\n", ["one passage", "another"]),
        ("news.en.heldout-00000-of-00050", "a b\nc d\n", ["a b", "c d"]),
        ("wiki.test.raw", "".join(ARTICLES), ARTICLES),
        ("cbt.txt", "\n\n".join(["1 A cat .\n2 A mat .\n" + QUESTION] * 2), ["A cat .\nA mat .\nThe cat sat ."] * 2),
        ("cbt_raw.txt", "_BOOK_TITLE_ : A\nx\n_BOOK_TITLE_ : B\ny\n", [" A\nx\n", " B\ny\n"]),
        ("wsc.txt", "Ann saw [MASK] .\n[MASK]\nBo,Cy\nBo \n\nD [MASK]\n[MASK]\nE,F\nE\n", ["Ann saw Bo .", "D E"]),
        ("wsc.xml", SCHEMAS, ["Café saw Bo because he hid."]),
        ("wiki.xml", "<mediawiki>text</mediawiki>", ["<mediawiki>text</mediawiki>"]),
        ("empty", "", []),
    ],
)
def test_texts_in_forms_of_their_own(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(content.encode("iso-8859-1" if name == "wsc.xml" else "utf-8"))
    assert list(read_evaluation_texts(tmp_path / name)) == texts


def test_compressed_files_read_the_same(tmp_path):
    for suffix, compress in ((".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)):
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(compress(b'{"text": "one"}\n{"text": "two"}\n'))
        assert list(read_evaluation_texts(path)) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.jsonl", None, r"gone\.jsonl: no such file\."),
        ("a.txt", b"abc\0", r"a\.txt: a zero byte at 3: binary, not text"),
        ("a.txt", b"abc \xff\xfe", r"a\.txt: not UTF-8 near byte 4; convert it"),
        ("a.jsonl", b'{"text": "x"}\nnot JSON\n', r"a\.jsonl: line 2 is not a JSON object"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl: line 1 is not a JSON object"),
        ("a.jsonl", b'{"body": "x"}\n', r"a\.jsonl: line 1 has no text we know of \(body\); name its column text"),
        ("a.jsonl", b'{"ctx": "x", "endings": ["y"], "label": 3}\n', r"line 1: label 3 is none of its 1 options"),
        ("a.parquet", b"PAR1", r"a\.parquet: not a Parquet file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9, mtime=0)[:-9], r"a\.jsonl\.gz: can't be read to its end"),
    ],
)
def test_what_is_not_understood_is_named_with_its_place_and_remedy(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words) as raised:
        list(read_evaluation_texts(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_character_cut_at_the_end_of_a_slice_is_dropped(tmp_path):
    (tmp_path / "enwik5").write_bytes("text é".encode()[:-1])
    assert list(read_evaluation_texts(tmp_path / "enwik5")) == ["text "]


def test_pieces_end_between_words_and_give_the_whole_text(tmp_path):
    text = "äöü ß\n" * 200 + "x" * 500 + " end"
    (tmp_path / "a.txt").write_text(text)
    pieces = list(read_plain_pieces(tmp_path / "a.txt", piece_bytes=64))
    assert "".join(pieces) == text
    assert all(piece[-1] in " \n" for piece in pieces[:-1])


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("lambada/lambada_test.jsonl", 5153),
        ("lambada/lambada_test_plain_text.txt", 5153),
        ("wikitext-2-raw/wiki.test.raw", 60),
        ("wikitext-103/wiki.valid.tokens", 60),
        ("enwik-slice/enwik5", 1),
        ("winograd/WSCollection.xml", 283),
        ("winograd/wsc273.txt", 273),
        ("winograd/winograd_wsc.llm-foundry.jsonl", 273),
        ("coqa/coqa_dev.jsonl.gz", 500),
        ("hellaswag/hellaswag_val.jsonl.gz", 10_042),
        ("piqa/valid.jsonl", 1838),
        ("nq-open/NQ-open.dev.jsonl", 3610),
        ("mc-evals/llm-foundry/arc_easy.jsonl", 2376),
    ],
)
def test_published_sets_have_all_their_items(shared_data, path, items):
    texts = list(read_evaluation_texts(shared_data(path)))
    assert len(texts) == items
    assert all(text.strip() for text in texts)
