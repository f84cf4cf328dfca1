import json

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.nbest_lists import Hypothesis, Utterance, read_nbest_lists

LISTS = [
    Utterance("a-1", (Hypothesis("the cat", -1.25), Hypothesis("a cat", -2.0)), "the cat"),
    Utterance("b", (Hypothesis("", -3.0),), None),
]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(lists):
    return [
        {"id": each.id, "hypotheses": [vars(one) for one in each.hypotheses]}
        | ({} if each.reference is None else {"reference": each.reference})
        for each in lists
    ]


def write_table(path, **rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name.replace('_', '-')} {value}\n" for name, value in rows.items()))


def test_json_lines_are_read(tmp_path):
    assert read_nbest_lists(write_json_lines(tmp_path / "lists.jsonl", rows_of(LISTS))) == LISTS


def test_espnets_folder_is_read_with_its_references(tmp_path):
    write_table(tmp_path / "out" / "1best_recog" / "text", a_1="the cat", b="")
    write_table(tmp_path / "out" / "1best_recog" / "score", a_1="tensor(-1.25)", b="tensor(-3., device='cuda:0')")
    write_table(tmp_path / "out" / "2best_recog" / "text", a_1="a cat")
    write_table(tmp_path / "out" / "2best_recog" / "score", a_1="-2e0")
    write_table(tmp_path / "text", a_1="the cat", other="unused")
    assert read_nbest_lists(tmp_path / "out", tmp_path / "text") == LISTS


def test_kaldis_archives_are_read_with_costs_as_negative_scores(tmp_path):
    write_table(tmp_path / "words_text", a_1_1="the cat", a_1_2="a cat", b_1="")
    write_table(tmp_path / "acwt", a_1_1="1.0", a_1_2="1.5", b_1="2.5")
    write_table(tmp_path / "lmwt.nolm", a_1_1="0.25", a_1_2="0.5", b_1="0.5")
    assert read_nbest_lists(tmp_path)[0].hypotheses == LISTS[0].hypotheses
    (tmp_path / "lmwt.nolm").unlink()
    assert read_nbest_lists(tmp_path)[1] == Utterance("b", (Hypothesis("", -2.5),))


GOOD = rows_of(LISTS)[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "c"}, "line 2 has no id and hypotheses"),
        (GOOD | {"id": "c", "hypotheses": []}, "line 2 has no id and hypotheses"),
        (GOOD | {"id": 3}, "line 2 has no id and hypotheses"),
        (GOOD, "line 2: id 'a-1' comes twice"),
        (GOOD | {"id": "c", "reference": 5}, "line 2: its reference is no text"),
        (GOOD | {"id": "c", "hypotheses": [{"text": "x"}]}, "line 2: each hypothesis needs a text and a score"),
        (GOOD | {"id": "c", "hypotheses": [{"text": "x", "score": float("nan")}]}, "line 2: each hypothesis needs"),
        (GOOD | {"id": "c", "hypotheses": [{"text": "x", "score": "-1"}]}, "line 2: each hypothesis needs"),
    ],
)
def test_broken_lists_are_named_by_line(tmp_path, row, words):
    with pytest.raises(BadInput, match=rf"lists\.jsonl: {words}"):
        read_nbest_lists(write_json_lines(tmp_path / "lists.jsonl", [GOOD, row]))


def test_folders_that_lack_something_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"no n-best lists \(1best_recog/ \.\.\., or words_text with acwt\)"):
        read_nbest_lists(tmp_path)
    write_table(tmp_path / "1best_recog" / "text", a="the cat")
    write_table(tmp_path / "1best_recog" / "score", b="-1")
    with pytest.raises(BadInput, match=r"1best_recog/score: no score of 'a'"):
        read_nbest_lists(tmp_path)
    (tmp_path / "1best_recog" / "text").write_text("a x\na y\n")
    with pytest.raises(BadInput, match=r"1best_recog/text: line 2: id 'a' comes twice"):
        read_nbest_lists(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=r"empty\.jsonl: no utterances"):
        read_nbest_lists(tmp_path / "empty.jsonl")
