"""The demo, shortened: the whole way on a few of pydoc's pages, resumed, finished, started over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROMISED = {
    "pages_fetched",
    "documents_kept",
    "documents_removed",
    "tokens_train",
    "tokens_val",
    "val_loss_first",
    "val_loss_last",
    "val_bits_per_byte_last",
    "unigram_val_loss",
    "cloze_accuracy",
    "cloze_chance",
    "train_tokens_per_second",
    "peak_memory_bytes",
    "samples",
    "seconds",
    "versions",
    "machine",
}
MINUTES = 0.2
SHORT = ["--minutes", str(MINUTES), "--pages", "160"]


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "gpt2lab", "demo", "--out", str(out), *SHORT, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short demo, killed once in the crawl and once in training (busy machines get no further than a step or two)."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    for sign in (out / "pages" / "fetch.jsonl", out / "train" / "metrics.jsonl"):
        process = subprocess.Popen(command(out), stderr=subprocess.DEVNULL, start_new_session=True)
        give_up = time.monotonic() + 240
        while not sign.exists() or len(sign.read_bytes()) < 80:
            assert process.poll() is None, "the demo ended before it could be killed"
            assert time.monotonic() < give_up
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.slow
def test_the_demo_leaves_what_it_promises(finished):
    out, done = finished
    values = json.loads((out / "report.json").read_text())
    assert values.keys() >= PROMISED
    assert values["pages_fetched"] == 160
    assert values["documents_kept"] + sum(values["documents_removed"].values()) == 160
    # A machine may be so busy that only one step fits; after one the loss may be higher.
    assert values["val_loss_last"] < values["val_loss_first"] or values["steps"] == 1
    assert len(values["samples"]) == 4
    assert values["cloze_chance"] == 0.1
    assert values["peak_memory_bytes"] < 4 * 2**30
    assert set(values["seconds"]) == {"fetch", "build", "overlap", "tokenize", "train", "evaluate", "sample"}
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert f"gpt2lab generate {out}/model" in done.stderr


@pytest.mark.slow
def test_the_demos_model_loads_in_transformers(finished):
    from transformers import AutoTokenizer, GPT2LMHeadModel

    out, _ = finished
    import gpt2lab

    ours = gpt2lab.load(out / "model")
    theirs, tokenizer = (
        GPT2LMHeadModel.from_pretrained(out / "model").eval(),
        AutoTokenizer.from_pretrained(out / "model"),
    )
    prompt = "The import statement"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == ours.tokenizer.encode(prompt)
    answer = theirs.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=0)
    text = ours.generate(prompt, max_tokens=20, temperature=0)
    assert tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True) == text.text


@pytest.mark.slow
def test_a_finished_demo_says_so_and_other_options_are_refused(finished):
    out, _ = finished
    before = (out / "report.json").read_bytes()
    again = subprocess.run(command(out), capture_output=True, text=True, check=True)
    assert "finished" in again.stderr
    assert (out / "report.json").read_bytes() == before
    other = subprocess.run(command(out, "--seed", "5"), capture_output=True, text=True)
    assert other.returncode == 2
    assert "seed (0 -> 5)" in other.stderr
    assert "--fresh" in other.stderr


def test_fresh_deletes_nothing_but_a_demo(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = subprocess.run(command(tmp_path, "--fresh"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "--fresh does not delete it" in done.stderr
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.slow
def test_the_number_of_steps_is_worked_out_once_and_saved(finished):
    out, _ = finished
    recipe = json.loads((out / "train" / "recipe.json").read_text())
    assert recipe["steps"] == json.loads((out / "report.json").read_text())["steps"] > 0
    assert json.loads((out / "train" / "run.json").read_text())["asked"]["minutes"] == MINUTES
