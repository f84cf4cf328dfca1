"""A suite on a model: what is absent is told, what overlaps is told, everything is on disk."""

import json

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.datasets.evaluation_sets import AbsentSet, DataSource
from gpt2lab.evaluate.results import read_results, read_rows
from gpt2lab.evaluate.tasks.own_items import OwnChoices
from gpt2lab.evaluate.tasks.registry import chosen_tasks, options_of, own_tasks, tasks_of, with_options
from gpt2lab.pipelines.evaluation import evaluate_suite, predicted_seconds, prepare


@pytest.fixture(scope="module")
def model_folder(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    return str(folder)


@pytest.fixture
def choices_file(tmp_path, sentences):
    known = " ".join(sentences[0].split()[:10])
    items = [
        {"context": known, "choices": [" sleeps.", " hides."], "answer": 0},
        {"context": "A sentence nobody has ever written down in any document", "choices": [" a", " b"], "answer": 1},
        {"context": "Another one of which the same is true as far as we know", "choices": [" a", " b"], "answer": 1},
    ]
    path = tmp_path / "my questions.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_absent_sets_are_left_out_and_told_unless_they_were_asked_for(model_folder, choices_file, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    tasks = tasks_of("table3", "fast") | own_tasks([], [], [choices_file])
    source = DataSource(tmp_path / "data")
    evaluated = prepare(model_folder, tasks, source)
    result = evaluate_suite(
        evaluated, tmp_path / "out", suite="table3", protocol="fast", command="gpt2lab evaluate ..."
    )
    assert [task.label for task in result.tasks] == ["my-questions-jsonl"]
    assert set(result.absent) == set(tasks) - {"my-questions-jsonl"}
    assert "lambada: left out: LAMBADA's test set" in (told := capsys.readouterr().err)
    assert "enwik8" in told
    assert "ptb, ptb-none: left out: " in told
    assert read_results(tmp_path / "out") == result
    assert "left out" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(AbsentSet, match="lambada"):
        prepare(model_folder, tasks, source, all_needed=True)
    with pytest.raises(BadInput, match="none of the sets"):
        prepare(model_folder, tasks_of("table3", "fast"), source)


def test_overlap_with_training_documents_and_scores_without_it(model_folder, choices_file, documents_folder, tmp_path):
    evaluated = prepare(model_folder, own_tasks([], [], [choices_file]), DataSource())
    result = evaluate_suite(
        evaluated, tmp_path / "out", suite="own", protocol="paper", command="", training=[documents_folder]
    )
    (task,) = result.tasks
    assert (task.overlap.items, task.overlap.overlapping_items) == (3, 1)
    rows = read_rows(tmp_path / "out", task.label)
    without = sum(row["accuracy"] for row in rows[1:]) / 2
    assert task.overlap.metrics_without[0].value == without


def test_tasks_that_were_evaluated_before_stay_in_the_results(model_folder, choices_file, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(choices_file.read_text())
    for file in (choices_file, other):
        evaluated = prepare(model_folder, own_tasks([], [], [file]), DataSource())
        evaluate_suite(evaluated, tmp_path / "out", suite="own", protocol="paper", command="")
    assert [task.label for task in read_results(tmp_path / "out").tasks] == ["my-questions-jsonl", "other-jsonl"]
    assert "other-jsonl" in (tmp_path / "out" / "report.html").read_text()


def test_the_time_is_predicted(model_folder, choices_file):
    assert 0 < predicted_seconds(prepare(model_folder, own_tasks([], [], [choices_file]), DataSource())) < 10


def test_options_are_set_by_name():
    tasks = with_options(tasks_of("table3", "paper"), ["lambada.filter=none", "wikitext2.stride=64"])
    assert tasks["lambada"].filter == "none"
    assert tasks["wikitext2"].stride == 64
    assert "roundtrip" in options_of(tasks["wikitext2"])["detokenizer"]


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("lambada", "TASK.OPTION=VALUE"),
        ("lambda.filter=none", "no task 'lambda'"),
        ("lambada.filtr=none", "no option 'filtr'"),
        ("lambada.filter=all", "none, nltk127"),
        ("wikitext2.stride=many", "a number"),
    ],
)
def test_a_wrong_setting_says_what_there_is(setting, complaint):
    with pytest.raises(BadOption, match=complaint):
        with_options(tasks_of("table3", "paper"), [setting])


def test_an_unknown_task_says_what_there_is():
    with pytest.raises(BadOption, match=r"--tasks nope.*lambada"):
        chosen_tasks(tasks_of("table3", "paper"), ["nope"])


def test_every_task_of_every_suite_says_its_protocol():
    for protocol in ("paper", "fast", "lm-eval"):
        for label, task in tasks_of("all", protocol).items():
            assert len(type(task).__doc__) > 100, label
            assert task.title, label


def test_two_own_files_of_one_name_are_refused(choices_file, tmp_path):
    with pytest.raises(BadOption, match="another file of this name"):
        own_tasks([], [choices_file], [choices_file])
    assert isinstance(own_tasks([], [], [choices_file])["my-questions-jsonl"], OwnChoices)
