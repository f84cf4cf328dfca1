import gzip
import json
import random
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.webtext.overlap.grams import normalise
from gpt2lab.webtext.overlap.overlap import DocumentOverlap, OverlapOptions, measure_overlap, overlap
from gpt2lab.webtext.overlap.report import write_overlap_report


def test_normalisation_is_the_papers():
    assert normalise("  Don't—stop: the_END, at 3.5%! Ärger\n") == "don t stop the end at 3 5 ärger"


def test_worked_example():
    train = ["a b c d e f g h i", "Q r s t; u v w x y z"]
    tests = [
        "A, b c d e f g h! x y",  # abcdefgh is in train; bcdefghx and cdefghxy are not
        "q r s t u v w x y q r s t u v w x",  # 10 grams: qrstuvwx (twice) and rstuvwxy
        "too short to have any",
    ]
    found = overlap(tests, train)
    assert found.per_document == (DocumentOverlap(3, 1), DocumentOverlap(10, 3), DocumentOverlap(0, 0))
    assert (found.grams, found.overlapping) == (13, 4)
    assert found.share == 4 / 13
    assert [document.share for document in found.per_document] == [1 / 3, 0.3, 0.0]


def test_grams_do_not_reach_over_the_end_of_a_document():
    assert overlap(["a b c d e f g h"], ["a b c d", "e f g h"]).overlapping == 0


def test_no_texts_have_no_overlap():
    assert overlap([], []).share == overlap(["a"], ["b"]).share == 0.0


words = st.lists(st.sampled_from("abc"), max_size=25).map(" ".join)


@given(st.lists(words, max_size=4), st.lists(words, max_size=4))
def test_agrees_with_sets_of_strings(tests, trains):
    def grams(text):
        split = text.split()
        return [" ".join(split[n : n + 8]) for n in range(len(split) - 7)]

    in_train = {gram for text in trains for gram in grams(text)}
    found = overlap(iter(tests), iter(trains))
    assert found.grams == sum(len(grams(text)) for text in tests)
    assert [document.overlapping for document in found.per_document] == [
        sum(gram in in_train for gram in grams(text)) for text in tests
    ]


def text_of(chooser, words, vocabulary=5000):
    return " ".join(f"w{chooser.randrange(vocabulary)}" for _ in range(words))


@pytest.fixture
def corpus(tmp_path):
    """Forty documents of 300 random words; a set of ten items, of which item n has n tenths of its words from them."""
    chooser = random.Random(5)
    documents = [text_of(chooser, 300) for _ in range(40)]
    items = []
    for n in range(10):
        copied = documents[3 * n].split()[: 10 * n]
        items.append(" ".join([*copied, *text_of(chooser, 100 - len(copied)).split()]))
    write_lines(tmp_path / "set.jsonl", items)
    return tmp_path, documents


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def figures(report):
    return [(one.name, one.grams, one.overlapping, one.per_item) for one in report.sets]


def test_every_form_of_documents_and_any_number_of_workers_gives_the_same_figures(corpus):
    folder, documents = corpus
    write_lines(folder / "a.jsonl", documents)
    (folder / "b").mkdir()
    (folder / "b" / "c.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    (folder / "d.txt").write_text(" / ".join(documents))
    table = pyarrow.table({"text": [*documents[:20], None, *documents[20:]], "other": range(41)})
    (folder / "build" / "documents").mkdir(parents=True)
    pyarrow.parquet.write_table(table, folder / "build" / "documents" / "x.parquet", row_group_size=7)
    sets = [f"lambada={folder}/set.jsonl"]
    expected = [(93, max(0, 10 * n - 7)) for n in range(10)]
    for place in ("a.jsonl", "b", "d.txt", "build"):
        for workers in (1, 2):
            found = measure_overlap([folder / place], sets, OverlapOptions(workers=workers)).sets[0]
            assert list(found.per_item) == expected
            assert found.overlapping == sum(overlapping for _, overlapping in expected)
            assert found.mean_item_share == pytest.approx(found.share)
            assert found.paper.webtext == 0.012
    example = found.examples[0]
    assert (example.item, example.words_in_run) == (9, 90)
    assert (example.training_file, example.training_row) == (str(folder / "build" / "documents" / "x.parquet"), 28)
    assert documents[27].startswith(example.words)


def test_the_papers_direction_gives_the_same_figures_and_its_filter_can_be_kept(corpus):
    folder, documents = corpus
    write_lines(folder / "a.jsonl", documents)
    sets = [f"{folder}/set.jsonl"]
    exact = measure_overlap([folder / "a.jsonl"], sets)
    kept = folder / "grams.bloom"
    asked = measure_overlap([folder / "a.jsonl"], sets, OverlapOptions(bloom=True, save_filter=kept))
    again = measure_overlap([], sets, OverlapOptions(filter=kept))
    assert figures(exact) == figures(asked) == figures(again)
    assert (exact.training_grams, exact.training_texts) == (again.training_grams, again.training_texts)
    assert again.random_hits == asked.random_hits == 0
    assert kept.stat().st_size < exact.training_grams * 38.4 / 8 + 1000
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"grams\.bloom: its bytes is not"):
        measure_overlap([], sets, OverlapOptions(filter=kept))


def test_the_sets_own_training_text_is_the_other_row(corpus):
    folder, documents = corpus
    write_lines(folder / "a.jsonl", documents)
    (folder / "own.txt").write_text(json.loads((folder / "set.jsonl").read_text().splitlines()[0])["text"])
    sets = [f"wikitext-2={folder}/set.jsonl"]
    found = measure_overlap([folder / "a.jsonl"], sets, OverlapOptions(own_train=(f"wikitext-2={folder}/own.txt",)))
    assert found.sets[0].own_train_share == 0.1
    assert found.sets[0].paper.own_train == 0.0066
    with pytest.raises(BadOption, match="no set of this name; sets are wikitext-2"):
        measure_overlap([folder / "a.jsonl"], sets, OverlapOptions(own_train=(f"ptb={folder}/own.txt",)))


def test_equal_disjoint_empty_and_short_sets(corpus):
    folder, documents = corpus
    write_lines(folder / "a.jsonl", documents)
    write_lines(folder / "disjoint.jsonl", [" ".join("abcdefghijklm")])
    write_lines(folder / "short.jsonl", ["only seven words are in here"] * 3)
    (folder / "empty.txt").write_text("")
    sets = [f"{name}={folder}/{name}" for name in ("a.jsonl", "disjoint.jsonl", "short.jsonl", "empty.txt")]
    found = measure_overlap([folder / "a.jsonl"], sets)
    assert [(one.share, one.distinct_share) for one in found.sets] == [(1, 1), (0, 0), (0, 0), (0, 0)]
    assert [one.items for one in found.sets] == [40, 1, 3, 0]
    write_overlap_report(found, folder / "out", "command")
    assert json.loads((folder / "out" / "overlap.json").read_text())["sets"][0]["share"] == 1
    assert "a.jsonl overlaps most: 100.00 % of its 8-grams" in (folder / "out" / "report.html").read_text()


def test_no_gram_is_lost_where_one_huge_line_is_cut(tmp_path):
    words = [f"é{n}x" for n in range(1_900_000)]
    (tmp_path / "line.txt").write_text(" ".join(words))
    assert (tmp_path / "line.txt").stat().st_size > 17 << 20  # it is read in pieces of 16 MiB
    (tmp_path / "set.txt").write_text(" ".join(words[1_500_000:1_800_000]))
    found = measure_overlap([tmp_path / "line.txt"], [str(tmp_path / "set.txt")])
    assert found.training_grams == len(words) - 7
    assert found.sets[0].share == 1


def test_many_small_documents(tmp_path):
    documents = [f"document {n} says what the other ones say too but for {n}" for n in range(100_000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": documents}), tmp_path / "a.parquet")
    write_lines(tmp_path / "set.jsonl", [documents[77_777]])
    found = measure_overlap([tmp_path / "a.parquet"], [f"s={tmp_path}/set.jsonl"])
    assert (found.sets[0].share, found.training_texts) == (1, 100_000)
    assert found.sets[0].examples[0].training_row == 77_777


@pytest.mark.parametrize(
    ("documents", "sets", "words"),
    [
        ("gone", "set.jsonl", r"gone: no such file or folder\."),
        ("set.jsonl", "gone.txt", r"gone\.txt: no such file\."),
        ("set.jsonl", "binary", r"binary: a zero byte at 2: binary, not text; give text, JSON lines or Parquet\."),
        ("binary.parquet", "set.jsonl", r"binary\.parquet: not a Parquet file"),
        ("nothing", "set.jsonl", r"nothing: no documents here"),
        ("url.jsonl", "set.jsonl", r"url\.jsonl: line 1 has no text in 'text' \(url\)"),
        ("cut.jsonl.gz", "set.jsonl", r"cut\.jsonl\.gz: can't be read to its end"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(corpus, documents, sets, words):
    folder, texts = corpus
    (folder / "nothing").mkdir()
    (folder / "binary").write_bytes(b"\x01\x02\0\xff")
    (folder / "binary.parquet").write_bytes(b"\x01\x02\0\xff")
    (folder / "url.jsonl").write_text('{"url": "http://example.org/"}\n')
    write_lines(folder / "all.jsonl", texts)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress((folder / "all.jsonl").read_bytes())[:-2000])
    with pytest.raises(BadInput, match=words):
        measure_overlap([folder / documents], [f"s={folder}/{sets}"], OverlapOptions(workers=2))


def test_the_command_line_prints_the_table_and_the_next_program_reads_json(corpus):
    folder, documents = corpus
    write_lines(folder / "a.jsonl", documents)
    command = [sys.executable, "-m", "gpt2lab", "overlap", folder / "a.jsonl", "--sets", f"lambada={folder}/set.jsonl"]
    table = subprocess.run([*command, "--out", folder / "out"], capture_output=True, text=True, check=True).stdout
    head, row = table.splitlines()
    assert head.split()[:3] == ["set", "items", "8-grams"]
    assert row.split()[:5] == ["lambada", "10", "930", "41.61", "%"]
    assert "1.20 %" in row
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found["sets"][0]["overlapping"] == 387
    bad = subprocess.run([*command[:-1], folder / "gone.jsonl"], capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (2, f"error: {folder}/gone.jsonl: no such file.\n")


def test_a_real_book_is_found_in_real_stories(shared_data):
    """CoQA's development stories hold a page of Huckleberry Finn, which is among the books."""
    sets = [f"coqa={shared_data('coqa/coqa_dev.jsonl.gz')}"]
    found = measure_overlap([shared_data("corpora/standardebooks")], sets).sets[0]
    assert found.items_mostly_overlapping == 1
    assert found.examples[0].words_in_run > 300
    assert "jim" in found.examples[0].words
