"""Questions of one's own: every form that is documented is read, and what is wrong is named with its line."""

import json

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.datasets.own_items import read_own_choices, read_own_cloze
from gpt2lab.evaluate.scoring import score
from gpt2lab.evaluate.tasks.own_items import OwnChoices, OwnCloze

SKY = "The sky at noon is"


def written(folder, *lines, name="items.jsonl"):
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "record",
    [
        {"context": SKY, "choices": ["green", "blue"], "answer": 1},
        {"query": SKY, "choices": ["green", "blue"], "gold": 1},
        {"question": SKY, "choices": ["green", "blue"], "label": "1"},
        {"question": SKY, "choices": {"text": ["green", "blue"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": SKY, "choices": {"text": ["green", "blue"], "label": ["1", "2"]}, "answerKey": "2"},
        {"prompt": SKY + " ", "options": ["green", "blue"], "answer": "B"},
        {"ctx": SKY, "endings": [" green", " blue"], "label": 1},
        {"context": SKY, "choices": ["green", "blue"], "answer": "blue"},
    ],
)
def test_choices_in_every_form(tmp_path, record):
    (item,) = read_own_choices(written(tmp_path, record)).items
    assert ["".join(choice) for choice in item.choices] == [f"{SKY} green", f"{SKY} blue"]
    assert item.answer == 1
    assert item.text == f"{SKY} blue"


def test_contexts_to_choose_from(tmp_path):
    record = {"context_options": ["The otter", "The river"], "continuation": "is wide.", "gold": 1}
    (item,) = read_own_choices(written(tmp_path, record)).items
    assert item.choices == (("The otter", " is wide."), ("The river", " is wide."))
    assert item.lengths == (8, 8)


def test_an_empty_context_is_the_start_of_a_document(tmp_path, small_tokenizer):
    task = OwnChoices(written(tmp_path, {"context": "", "choices": ["a cat", "a dog"], "answer": 0}))
    (question,) = task.questions(task.read(DataSource()), small_tokenizer, 32)
    assert {tuple(pair.context) for pair in question.pairs} == {(small_tokenizer.end_of_text,)}


def test_last_words_and_gaps(tmp_path):
    plain = written(tmp_path, "The cat in the garden sleeps.", "", "A dog hunts", name="passages.txt")
    first, second = read_own_cloze(plain).items
    assert first.choices == (("The cat in the garden", " sleeps"),)
    assert second.choices == (("A dog", " hunts"),)
    for gap in ("XXXXX", "[MASK]", "____"):
        record = {
            "context": ["A cat came.", "It slept."],
            "query": f"The {gap} woke, then.",
            "candidates": ["cat", "dog"],
        }
        (item,) = read_own_cloze(written(tmp_path, record | {"answer": "cat"})).items
        assert item.choices[1] == ("A cat came.\nIt slept.\nThe", " dog woke, then.")
        assert item.answer == 0
    (item,) = read_own_cloze(written(tmp_path, {"text": "A dog hunts"})).items
    assert item.choices == (("A dog", " hunts"),)


@pytest.mark.parametrize(
    ("reader", "line", "said"),
    [
        (read_own_choices, {"choices": ["a", "b"], "answer": 0}, "none of context, query"),
        (read_own_choices, {"context": "x", "answer": 0}, "none of choices, options"),
        (read_own_choices, {"context": "x", "choices": ["a", "b"]}, "none of answer, gold"),
        (read_own_choices, {"context": "x", "choices": ["a", "b"], "answer": 2}, "2, is none of its 2 choices"),
        (read_own_choices, {"context": "x", "choices": ["a", "b"], "answer": True}, "True, is none"),
        (read_own_choices, {"context": "x", "choices": ["a", "b"], "answer": -1}, "-1, is none"),
        (read_own_choices, {"context": "x", "choices": ["a"], "answer": 0}, "no list of texts"),
        (read_own_choices, {"context": "x", "choices": ["a", 3], "answer": 0}, "no list of texts"),
        (read_own_choices, {"context": "x", "choices": ["a", " "], "answer": 0}, "is empty"),
        (read_own_choices, {"context": 3, "choices": ["a", "b"], "answer": 0}, "is no text"),
        (read_own_choices, {"context_options": ["a", "b"], "gold": 0}, "no text 'continuation'"),
        (read_own_choices, "[1, 2]", "not a JSON object"),
        (read_own_cloze, {"query": "no gap", "candidates": ["a", "b"], "answer": "a"}, "has 0 gaps"),
        (read_own_cloze, {"query": "XXXXX XXXXX", "candidates": ["a", "b"], "answer": "a"}, "has 2 gaps"),
        (read_own_cloze, {"text": "word"}, "no passage with a last word"),
        (read_own_cloze, {"words": "a b"}, "no text 'text'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, reader, line, said):
    with pytest.raises(BadInput, match=said) as failure:
        reader(written(tmp_path, line))
    assert "items.jsonl: line 1" in str(failure.value)


def test_files_without_items_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(BadInput, match="has no items"):
        read_own_choices(written(tmp_path))
    with pytest.raises(BadInput, match=r"named \*\.jsonl"):
        read_own_choices(written(tmp_path, "a", name="items.txt"))
    with pytest.raises(BadInput, match="no such file"):
        read_own_cloze(tmp_path / "absent.txt")


def test_last_words_and_gaps_are_judged_in_one_file(tmp_path, small_model):
    records = (
        {"text": "The cat in the garden sleeps"},
        {"query": "The XXXXX in the garden sleeps.", "candidates": ["cat", "dog"], "answer": "dog"},
    )
    task = OwnCloze(written(tmp_path, *records))
    found = task.read(DataSource())
    assert found.files[0].official is None
    assert task.facts(found, small_model.tokenizer) == {"last_words": 1, "gaps": 1}
    rows = [
        {**question.facts, **task.row(question, score(small_model.network, question.pairs))}
        for question in task.questions(found, small_model.tokenizer, 32)
    ]
    values = {metric.name: metric.items for metric in task.metrics(rows)}
    assert values == {"accuracy": 2, "perplexity": 1}
