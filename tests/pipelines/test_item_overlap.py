"""A task's items in a model's training documents: found in one reading for all tasks, and left out as in the paper."""

from dataclasses import dataclass

import pytest
from tests.conftest import write_documents

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.statistics import accuracy
from gpt2lab.pipelines.item_overlap import item_overlap, items_overlap
from gpt2lab.webtext.overlap import training_texts

SEEN = "one two three four five six seven eight nine ten eleven twelve"
TEXTS = {
    "first": [
        f"Before it: {SEEN}, and after.",
        "nothing of this was ever in any training document at all",
        "too short",
    ],
    "second": ["ONE two; three four five six seven EIGHT", "alpha beta gamma delta epsilon zeta eta theta iota"],
}


@pytest.fixture
def training(tmp_path):
    write_documents(tmp_path / "build" / "documents" / "documents-00000.parquet", ["something else", f"It is {SEEN}."])
    (tmp_path / "more.txt").write_text("so alpha beta gamma delta epsilon zeta eta theta, said he")
    return [tmp_path / "build", tmp_path / "more.txt"]


@dataclass(frozen=True)
class Answers:
    def metrics(self, rows):
        return [accuracy("accuracy", [row["accuracy"] for row in rows])]


def test_every_tasks_items_are_counted(training):
    found = items_overlap(TEXTS, training, workers=1)
    assert [(item.grams, item.overlapping) for item in found["first"]] == [(9, 5), (4, 0), (0, 0)]
    assert [(item.grams, item.overlapping) for item in found["second"]] == [(1, 1), (2, 1)]


def test_the_training_documents_are_read_once_for_all_tasks(training, monkeypatch):
    """Counted where files are opened; in this process, as there is one worker."""
    opened = []
    for name in ("_parquet_texts", "_plain_texts"):
        read = getattr(training_texts, name)
        monkeypatch.setattr(training_texts, name, lambda what, read=read: (opened.append(what), read(what))[1])
    items_overlap({f"task {number}": TEXTS["first"] for number in range(5)}, training, workers=1)
    assert len(opened) == 2


def test_items_with_any_overlap_are_left_out(training):
    found = items_overlap(TEXTS, training)["first"]
    rows = [{"item": str(number), "accuracy": number == 0} for number in range(3)]
    overlap = item_overlap(Answers(), rows, found, training)
    assert (overlap.grams, overlap.overlapping_grams, overlap.items, overlap.overlapping_items) == (13, 5, 3, 1)
    assert [(metric.value, metric.items) for metric in overlap.metrics_without] == [(0.0, 2)]
    assert overlap.training == tuple(map(str, training))


def test_where_every_item_overlaps_no_score_is_left(training):
    found = items_overlap(TEXTS, training)["second"]
    rows = [{"item": str(number), "accuracy": True} for number in range(2)]
    assert item_overlap(Answers(), rows, found, training).metrics_without == ()


def test_an_absent_place_is_named(tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        items_overlap(TEXTS, [tmp_path / "nowhere"])


def test_no_texts_overlap_with_nothing(training):
    assert items_overlap({"none": []}, training) == {"none": ()}
