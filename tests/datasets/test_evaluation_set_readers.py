"""Readers of the published sets: their counts on the real files, and what is said of files that are not whole."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.arc import ArcItem, read_arc
from gpt2lab.datasets.boolq import BoolqItem, read_boolq
from gpt2lab.datasets.cbt import CbtItem, read_cbt
from gpt2lab.datasets.enwik8 import read_enwik8
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.datasets.hellaswag import HellaSwagItem, read_hellaswag
from gpt2lab.datasets.lambada import read_lambada
from gpt2lab.datasets.one_billion_words import read_one_billion_words
from gpt2lab.datasets.piqa import PiqaItem, read_piqa
from gpt2lab.datasets.ptb import read_ptb
from gpt2lab.datasets.wikitext import read_wikitext
from gpt2lab.datasets.winograd import WinogradItem, read_winograd
from gpt2lab.datasets.winogrande import WinograndeItem, read_winogrande


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def written(tmp_path):
    """A function that writes files by name and gives a source that takes them as they are."""

    def write(**files):
        for name, content in files.items():
            lines = [json.dumps(line) for line in content] if isinstance(content, list) else None
            text = "\n".join(lines) + "\n" if lines is not None else content
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return DataSource(tmp_path, allow_changed=True)

    return write


def source_of(shared_data, folder):
    return DataSource(shared_data(folder))


def test_lambada_has_5153_passages_in_both_texts(shared_data):
    openai = read_lambada(source_of(shared_data, "lambada"))
    original = read_lambada(source_of(shared_data, "lambada"), "original")
    assert [len(found.items) for found in (openai, original)] == [5153, 5153]
    assert [found.files[0].official for found in (openai, original)] == [True, True]
    assert sum("\n" in passage for passage in openai.items) == 4642


@pytest.mark.parametrize(
    ("version", "form", "unknown"), [("2", "tokens", 15_218), ("103", "tokens", 2_492), ("2", "raw", 0)]
)
def test_wikitext_has_245569_words_and_ends_of_lines(shared_data, version, form, unknown):
    shared_data("wikitext-2"), shared_data("wikitext-103")
    found = read_wikitext(DataSource(shared_data("wikitext-2-raw").parent), version, form)
    text = found.items[0]
    assert found.files[0].official
    assert (len(text.split()) + text.count("\n"), text.count("\n")) == (245_569, 4358)
    assert text.split().count("<unk>") == unknown
    assert form == "raw" or text.count(" ") == 245_569


def test_copies_of_wikitext_with_empty_lines_are_the_published_file(shared_data, tmp_path):
    original = shared_data("wikitext-2/wiki.test.tokens").read_text(encoding="utf-8")
    (tmp_path / "wiki.test.tokens").write_text(original.replace("\n \n", "\n\n").removeprefix(" "), encoding="utf-8")
    assert read_wikitext(DataSource(tmp_path), "2").items == (original,)
    (tmp_path / "wiki.test.tokens").unlink()
    rows = ["" if line == " " else f"{line}\n" for line in original.split("\n")[:-1]]
    (tmp_path / "wikitext-2-v1").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "wikitext-2-v1" / "test-0.parquet")
    found = read_wikitext(DataSource(tmp_path), "2")
    assert (found.items, found.files[0].official) == ((original,), True)


def test_wikitext_2_is_not_taken_for_wikitext_103(shared_data):
    source = DataSource(shared_data("wikitext-2"), allow_changed=True)
    with pytest.raises(BadInput, match=r"this is WikiText-2's test set, not WikiText-103's test set; get https://"):
        read_wikitext(source, "103")


def test_ptb_is_one_text_of_sentences_and_tells_missing_words(written):
    source = written(ptb_DOT_test_DOT_txt="the <unk> rose N points\nit fell\n")
    assert read_ptb(source).items == (" the <unk> rose N points \n it fell \n",)
    with pytest.raises(
        BadInput, match=r"ptb\.test\.txt: not the published file of Penn Treebank's test set \(Mikolov\)"
    ):
        read_ptb(DataSource(source.folder))


def test_one_billion_words_tells_its_count(written):
    source = written(**{"news.en.heldout-00000-of-00050": "Prices rose .\nThey fell .\n"})
    assert read_one_billion_words(source).items == ("Prices rose .", "They fell .")
    with pytest.raises(BadInput, match=r"8 words and ends of sentences, where .* has 159,658: 159,650 are missing"):
        read_one_billion_words(DataSource(source.folder))
    source = written(**{"news.en.heldout-00000-of-00050": "Prices rose .\n\nThey fell .\n"})
    with pytest.raises(BadInput, match=r"00050: line 2 is empty"):
        read_one_billion_words(source)


def test_enwik8_is_its_last_twentieth_in_bytes(written, shared_data):
    source = written(enwik8="0123456789" * 7 + "\u2019" * 10)
    (item,) = read_enwik8(source).items
    assert item == "\u2019".encode()[1:] + "\u2019".encode()  # begins inside a character
    (source.folder / "enwik8").write_bytes(shared_data("enwik-slice/enwik5").read_bytes())
    assert len(read_enwik8(source).items[0]) == 5000


CBT = "".join(f"{n} Sentence {n} .\n" for n in range(1, 21))


def test_cbt_questions_have_their_context_candidates_and_answer(written):
    source = written(
        cbtest_CN_valid_2000ex_DOT_txt=f"{CBT}21 The XXXXX sat .\tcat\t\tdog|cat|tea\n\n" * 2,
        cbtest_NE_test_2500ex_DOT_txt=f"{CBT}21 Then XXXXX sat .\tAnn\t\tAnn|Bo\n",
    )
    items = read_cbt(source, "CN").items
    context = tuple(f"Sentence {n} ." for n in range(1, 21))
    assert items == (CbtItem(context, "The XXXXX sat .", ("dog", "cat", "tea"), "cat"),) * 2
    assert read_cbt(source, "NE", "test").items[0].answer == "Ann"
    with pytest.raises(
        BadInput, match=r"2 questions, where Children's Book Test CN, valid has 2,000: 1,998 are missing"
    ):
        read_cbt(DataSource(source.folder), "CN")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{CBT}21 The XXXXX sat .\tcow\t\tdog|cat\n", "line 21: its answer 'cow' is none of its candidates"),
        (f"{CBT}21 The XXXXX sat .\tcat\n", "line 21 has 2 parts between tabs"),
        (f"{CBT}21 The cat sat .\tcat\t\tdog|cat\n", "line 21: its query has no XXXXX"),
        (CBT, "line 21: a question ends after 20 sentences"),
        (f"{CBT}22 The XXXXX sat .\tcat\t\tdog|cat\n", "line 21 does not begin with 21 and a sentence"),
        (CBT.replace("\n3 Sentence 3 .", "\n3 "), "line 3 does not begin with 3 and a sentence"),
        (CBT.removesuffix("\n"), "its last question is cut off after 20 sentences"),
    ],
)
def test_broken_cbt_questions_are_named_by_line(written, text, words):
    with pytest.raises(BadInput, match=rf"cbtest_V_valid_2000ex\.txt: {words}"):
        read_cbt(written(cbtest_V_valid_2000ex_DOT_txt=text), "V")


def schema(text, answers=("Ann ", "Bo"), correct=" A. "):
    found = "".join(f"<answer>{answer}</answer>" for answer in answers)
    return f"<schema><text>{text}</text>{found}<correctAnswer>{correct}</correctAnswer></schema>"


def test_winograd_schemas_are_sentences_around_a_pronoun(written):
    first = schema("<txt1>\nAnn saw  Bo because </txt1>\n<pron> she </pron><txt2> was there. </txt2>")
    second = schema("<txt1>Ann saw</txt1><pron> him</pron><txt2>.</txt2>", correct="B")
    assert read_winograd(written(WSCollection_DOT_xml=first + second)).items == (
        WinogradItem("Ann saw Bo because ", "she", " was there.", ("Ann", "Bo"), 0),
        WinogradItem("Ann saw ", "him", ".", ("Ann", "Bo"), 1),
    )


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (schema("<txt1>a</txt1><pron>b</pron><txt2>c</txt2>", correct="C"), "schema 1 lacks its text"),
        (schema("<txt1>a</txt1><pron>b</pron><txt2>c</txt2>", ("Ann",)), "schema 1 lacks its text"),
        (schema("<txt1>a</txt1><pron> </pron><txt2>c</txt2>"), "schema 1 is empty in part"),
    ],
)
def test_broken_schemas_are_named(written, broken, words):
    with pytest.raises(BadInput, match=rf"WSCollection\.xml: {words}"):
        read_winograd(written(WSCollection_DOT_xml=broken))


def test_the_273_schemas_are_those_everyone_tests_on(shared_data):
    """The list of sentences with [MASK] that came with BERT's studies has the same ones in the same order."""
    items = read_winograd(source_of(shared_data, "winograd")).items
    blocks = shared_data("winograd/wsc273.txt").read_text(encoding="utf-8").strip().split("\n\n")
    assert len(items) == 273
    for item, block in zip(items, blocks, strict=True):
        sentence, _, _, answer = (" ".join(line.split()) for line in block.split("\n"))
        assert f"{item.before}[MASK]{item.after}".replace(" ", "") == sentence.replace(" ", "")
        assert item.candidates[item.answer] == answer


HELLASWAG_ROW = {
    "ind": 1, "activity_label": "Tea", "ctx_a": "A man boils water.", "ctx_b": "he", "ctx": "A man boils water. he",
    "endings": ["waits.", "flies.", "sinks.", "melts."], "split": "val", "split_type": "zeroshot", "label": "0",
    "source_id": "made~1",
}  # fmt: skip


def test_hellaswag_items_have_four_endings_in_every_form(written, shared_data):
    item = HellaSwagItem(
        "Tea", "A man boils water.", "he", "A man boils water. he", ("waits.", "flies.", "sinks.", "melts."), 0
    )
    source = written(hellaswag_val_DOT_jsonl=[HELLASWAG_ROW, HELLASWAG_ROW | {"label": 0}])
    assert read_hellaswag(source).items == (item, item)
    (source.folder / "hellaswag_val.jsonl").unlink()
    with gzip.open(source.folder / "hellaswag_val.jsonl.gz", "wt") as handle:
        handle.write(json.dumps(HELLASWAG_ROW))
    assert read_hellaswag(source).items == (item,)
    (source.folder / "hellaswag_val.jsonl.gz").unlink()
    (source.folder / "hellaswag").mkdir()
    table = pyarrow.Table.from_pylist([HELLASWAG_ROW])
    pyarrow.parquet.write_table(table, source.folder / "hellaswag" / "validation-0.parquet")
    assert read_hellaswag(source).items == (item,)


def test_hugging_faces_rows_of_hellaswag_are_the_makers_file_to_the_byte(shared_data):
    found = read_hellaswag(source_of(shared_data, "hellaswag"))
    assert (len(found.items), found.files[0].official) == (10_042, True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (HELLASWAG_ROW | {"label": "4"}, "label '4' is none of 0, 1, 2, 3"),
        (HELLASWAG_ROW | {"label": ""}, "label '' is none of"),
        (HELLASWAG_ROW | {"ctx": " "}, "its 'ctx' is empty"),
        (HELLASWAG_ROW | {"endings": ["one", " "]}, "one of its 'endings' is empty"),
        (HELLASWAG_ROW | {"endings": "one"}, "its 'endings' is no list of texts"),
        ({}, "has no text|its 'endings'"),
    ],
)
def test_broken_items_are_named_by_line(written, row, words):
    source = written(hellaswag_val_DOT_jsonl=[HELLASWAG_ROW, row])
    with pytest.raises(BadInput, match=rf"hellaswag_val\.jsonl: line 2.*({words})"):
        read_hellaswag(source)


def test_a_line_that_is_no_json_is_named(written):
    with pytest.raises(BadInput, match=r"hellaswag_val\.jsonl: line 2 is not a JSON object"):
        read_hellaswag(written(hellaswag_val_DOT_jsonl=json.dumps(HELLASWAG_ROW) + "\n{half\n"))


def test_piqa_joins_items_and_labels(written, shared_data):
    rows = [{"goal": "boil water", "sol1": "heat it", "sol2": "cool it"}] * 2
    source = written(piqa__valid_DOT_jsonl=rows, **{"piqa__valid-labels_DOT_lst": "0\n1\n"})
    solutions = ("heat it", "cool it")
    assert read_piqa(source).items == (PiqaItem("boil water", solutions, 0), PiqaItem("boil water", solutions, 1))
    with pytest.raises(BadInput, match=r"labels\.lst: line 2: label '2' is none of 0, 1"):
        read_piqa(written(**{"piqa__valid-labels_DOT_lst": "0\n2\n"}))
    with pytest.raises(BadInput, match=r"valid\.jsonl: 2 items, but .*labels\.lst has 1 labels"):
        read_piqa(written(**{"piqa__valid-labels_DOT_lst": "0\n"}))
    found = read_piqa(source_of(shared_data, "piqa"))
    assert (len(found.items), [file.official for file in found.files]) == (1838, [True, True])


def test_arc_is_read_in_every_form(written):
    item = ArcItem("What is wet?", ("sand", "water", "dust"), 1)
    texts, labels = list(item.choices), ["A", "B", "C"]
    official = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    rows = [
        {"id": "1", "question": {"stem": item.question, "choices": official}, "answerKey": "B"},
        {"id": "1", "question": item.question, "choices": {"text": texts, "label": labels}, "answerKey": "B"},
        {"query": f"Question: {item.question}", "choices": texts, "gold": 1},
    ]
    assert read_arc(written(**{"ARC-Easy-Test_DOT_jsonl": rows}), "easy").items == (item,) * 3
    for broken, words in (
        (rows[0] | {"answerKey": "D"}, "label 'D' is none of A, B, C"),
        (rows[2] | {"gold": 3}, "label 3 is none of 0, 1, 2"),
        ({"question": "What?"}, "is no item of ARC"),
    ):
        with pytest.raises(BadInput, match=rf"Test\.jsonl: line 1:? {words}"):
            read_arc(written(**{"ARC-Challenge-Test_DOT_jsonl": [broken]}), "challenge")


def test_winogrande_is_read_in_both_forms(written):
    row = {"sentence": "Ann met the cook and the _ waved.", "option1": "cook", "option2": "old man", "answer": "2"}
    contexts = {
        "context_options": ["Ann met Bo, so Bo", "Ann met Bo, so Bobby"],
        "continuation": "'s dog ran.",
        "gold": 0,
    }
    assert read_winogrande(written(winogrande__dev_DOT_jsonl=[row, contexts])).items == (
        WinograndeItem("Ann met the cook and the ", " waved.", ("cook", "old man"), 1),
        WinograndeItem("Ann met Bo, so ", "'s dog ran.", ("Bo", "Bobby"), 0),
    )
    for broken, words in (
        (row | {"sentence": "No gap."}, "its sentence has not one gap"),
        (row | {"answer": "3"}, "label '3' is none of 1, 2"),
    ):
        with pytest.raises(BadInput, match=rf"dev\.jsonl: line 1: {words}"):
            read_winogrande(written(winogrande__dev_DOT_jsonl=[broken]))


def test_boolq_is_read_in_both_forms(written):
    row = {"question": "is water wet", "title": "Water", "passage": "Water is a liquid.", "answer": True}
    query = {"query": "Passage: Water is a liquid.\nQuestion: is water wet?", "choices": ["no", "yes"], "gold": 1}
    item = BoolqItem("Water is a liquid.", "is water wet", answer=True)
    assert read_boolq(written(boolq__dev_DOT_jsonl=[row, query])).items == (item, item)
    with pytest.raises(BadInput, match=r"dev\.jsonl: line 1: label 'yes' is neither true nor false"):
        read_boolq(written(boolq__dev_DOT_jsonl=[row | {"answer": "yes"}]))


@pytest.mark.parametrize(
    ("read", "count"),
    [
        (lambda source: read_arc(source, "easy"), 2376),
        (lambda source: read_arc(source, "challenge"), 1172),
        (read_winogrande, 1267),
        (read_boolq, 3270),
    ],
)
def test_llm_foundrys_copies_have_all_items(shared_data, read, count):
    found = read(source_of(shared_data, "mc-evals"))
    assert (len(found.items), found.files[0].official) == (count, True)
