"""A task's rows: written as they are scored, kept over a kill, of one model and one protocol only."""

import copy
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.evaluate.results import read_rows
from gpt2lab.evaluate.run import identify_model, prepare_task, run_task
from gpt2lab.evaluate.tasks.own_items import OwnChoices
from gpt2lab.evaluate.tasks.own_text import OwnText
from gpt2lab.evaluate.tasks.task import UnfitModel
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.model.gpt2 import GPT2

SOURCE = DataSource()


@pytest.fixture
def choices_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    items = [{"context": f"The cat number {n}", "choices": [" sleeps", " sings."], "answer": n % 2} for n in range(30)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def run(model, path, out, **options):
    return run_task(model, identify_model("mine", model), "mine", OwnChoices(file=path, **options), SOURCE, out)


def test_rows_are_in_the_sets_order_and_the_result_says_what_they_depend_on(small_model, choices_file, tmp_path):
    result = run(small_model, choices_file, tmp_path / "out")
    rows = read_rows(tmp_path / "out", "mine")
    assert [row["item"] for row in rows] == [str(n) for n in range(1, 31)]
    (accuracy, _) = result.metrics
    assert accuracy.value == pytest.approx(sum(row["accuracy"] for row in rows) / 30)
    assert result.identity.files[0].sha256
    assert len(result.identity.code_sha256) == len(result.identity.model.weights_sha256) == 64
    assert not list((tmp_path / "out" / "items").glob("*.partial*"))


def test_a_half_written_row_is_dropped_and_the_others_are_kept(small_model, choices_file, tmp_path, capsys):
    out = tmp_path / "out"
    run(small_model, choices_file, out)
    whole = out / "items" / "mine.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    marked = json.loads(lines[0]) | {"mark": "of the killed run"}
    (out / "items" / "mine.partial.jsonl").write_bytes(json.dumps(marked).encode() + b"\n" + lines[1] + lines[2][:40])
    whole.unlink()
    run(small_model, choices_file, out)
    assert "2 of 30 items were scored before" in capsys.readouterr().err
    rows = read_rows(out, "mine")
    assert rows[0]["mark"] == "of the killed run"
    assert rows[1:] == [json.loads(line) for line in lines[1:]]


@pytest.mark.parametrize("of_the_whole", [True, False])
def test_rows_that_are_lost_or_damaged_are_scored_again(small_model, choices_file, tmp_path, of_the_whole):
    out = tmp_path / "out"
    run(small_model, choices_file, out)
    whole = out / "items" / "mine.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    if of_the_whole:
        whole.write_bytes(b"".join(lines[:4] + lines[5:]))
    else:
        (out / "items" / "mine.partial.jsonl").write_bytes(b"".join([*lines[:4], b'{"item": \0\0\n', *lines[5:9]]))
        whole.unlink()
    run(small_model, choices_file, out)
    assert whole.read_bytes() == b"".join(lines)


def test_changed_items_are_scored_anew(small_model, choices_file, tmp_path, capsys):
    run(small_model, choices_file, tmp_path / "out")
    choices_file.write_text(choices_file.read_text().replace("The cat", "The dog"))
    run(small_model, choices_file, tmp_path / "out")
    assert "scored anew" in capsys.readouterr().err


def test_results_of_another_model_are_not_overwritten(small_model, choices_file, tmp_path):
    run(small_model, choices_file, tmp_path / "out")
    before = (tmp_path / "out" / "items" / "mine.jsonl").read_bytes()
    network = copy.deepcopy(small_model.network)
    with torch.no_grad():
        network.wte.weight[0, 0] += 1
    with pytest.raises(BadOption, match="another model"):
        run(LanguageModel(network, small_model.tokenizer), choices_file, tmp_path / "out")
    other = LanguageModel(network, small_model.tokenizer)
    with pytest.raises(BadOption, match="another model"):  # for another task, too: results.json is one model's
        run_task(other, identify_model("x", other), "else", OwnChoices(file=choices_file), SOURCE, tmp_path / "out")
    assert (tmp_path / "out" / "items" / "mine.jsonl").read_bytes() == before


def test_rows_are_kept_when_the_same_file_lies_elsewhere(small_model, choices_file, tmp_path, capsys):
    run(small_model, choices_file, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    run(small_model, choices_file.rename(tmp_path / "moved" / "mine.jsonl"), tmp_path / "out")
    assert "30 of 30 items were scored before" in capsys.readouterr().err


def test_the_same_tensors_with_other_heads_are_another_model(small_model):
    network = GPT2(replace(small_model.network.config, n_head=2))
    network.load_state_dict(small_model.network.state_dict())
    other = identify_model("mine", LanguageModel(network, small_model.tokenizer))
    assert other.weights_sha256 != identify_model("mine", small_model).weights_sha256


def test_a_set_without_items_is_told(small_model, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=r"empty\.jsonl"):
        run(small_model, tmp_path / "empty.jsonl", None)


def test_an_item_longer_than_the_context_is_named_where_it_is_to_be_scored(small_model, choices_file):
    choices_file.write_text(
        choices_file.read_text() + json.dumps({"context": "dry a coat", "choices": ["burn " * 40, "no"], "answer": 1})
    )
    task, identity = OwnChoices(file=choices_file), identify_model("mine", small_model)
    with pytest.raises(UnfitModel, match=r"mine: item 31: a continuation of \d+ tokens .* a context of 32"):
        prepare_task("mine", task, small_model, identity, SOURCE)
    assert len(prepare_task("mine", task, small_model, identity, SOURCE, limit=30).questions) == 30


def test_a_killed_evaluation_goes_on_and_gives_the_same_bits(small_model, sentences, tmp_path):
    save_model_folder(tmp_path / "model", small_model.network, small_model.tokenizer, {})
    text = tmp_path / "mine.txt"
    text.write_text("\n".join(sentences[:8]))
    command = [sys.executable, "-m", "gpt2lab", "evaluate", tmp_path / "model", "--text", text]
    command += ["--set", "mine-txt.stride=1", "--out", tmp_path / "out"]
    partial = tmp_path / "out" / "items" / "mine-txt.partial.jsonl"
    while not partial.exists():  # where a run ended before it could be killed, once more
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not any(path.stat().st_size for path in partial.parent.glob(partial.name)):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = partial.read_bytes().count(b"\n")
    assert kept
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{kept:,} of " in ended.stderr
    rows = read_rows(tmp_path / "out", "mine-txt")
    task = OwnText(file=text, stride=1)
    run_task(small_model, identify_model("x", small_model), "mine-txt", task, SOURCE, tmp_path / "other")
    assert rows == read_rows(tmp_path / "other", "mine-txt")
