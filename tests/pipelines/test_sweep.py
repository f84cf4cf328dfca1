"""A sweep ranks its trials, counts those that diverge, goes on after a kill, and refuses to become another sweep."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.pipelines.small_sweep import small_sweep, swept_recipe
from tests.train.small_run import small_recipe

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.pipelines.sweep import RATE, sweep, tuned_as_in_the_paper
from gpt2lab.pipelines.sweep_results import Trial, read_sweep
from gpt2lab.pipelines.sweep_trials import recipe_with
from gpt2lab.train.loop import train
from gpt2lab.train.watching.metrics import read_metrics

STEPS = 6
OVER = [f"{RATE}=1e-3,1e-2,1e30"]


@pytest.fixture(scope="module")
def recipe(small_tokenizer):
    small = small_recipe(small_tokenizer.vocab_size, STEPS)
    return replace(
        small, schedule=replace(small.schedule, warmup_steps=1), watch=replace(small.watch, checkpoint_every=1)
    )


@pytest.fixture(scope="module")
def swept(recipe, tokens_folder, tmp_path_factory):
    """Two trials that finish and, between them in time, one that diverges."""
    out = tmp_path_factory.mktemp("sweep") / "rates"
    return sweep(recipe, [tokens_folder], out, [f"{RATE}=1e-3,1e30,1e-2"])


def test_finished_trials_are_ranked_and_a_diverged_one_counts_as_such(swept):
    assert [trial.settings[RATE] for trial in swept.ranking] == [1e-2, 1e-3]
    assert [(trial.settings[RATE], trial.status) for trial in swept.others] == [(1e30, "diverged")]
    assert "the learning rate (1e+30) is too high" in swept.others[0].reason
    found = json.loads((swept.folder / "sweep.json").read_text())
    assert found["best"] == "trials/003-learning_rate=0.01"
    assert found["ranking"] == ["trials/003-learning_rate=0.01", "trials/001-learning_rate=0.001"]
    assert read_sweep(swept.folder) == swept


def test_a_trial_is_an_ordinary_run_with_the_same_bits(swept, recipe, tokens_folder, tmp_path):
    best = swept.ranking[0]
    alone = train(recipe_with(recipe, {RATE: 1e-2}), [tokens_folder], tmp_path / "run")
    assert alone.val_loss_last == best.val_loss
    weights = "model/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (swept.folder / best.folder / weights).read_bytes()
    assert (swept.folder / best.folder / "report.html").exists()


def test_the_report_shows_the_ranking_the_best_and_the_command_that_trains_with_it(swept):
    page = (swept.folder / "report.html").read_text()
    assert "learning_rate 0.01 was best" in page
    assert f"{swept.folder}/trials/003-learning_rate=0.01/recipe.json" in page
    assert "Trial 002 diverged" in page
    assert page.count("<svg") == 2


def test_the_same_command_trains_nothing_again_and_more_trials_are_added(swept, recipe, tokens_folder):
    metrics = [swept.folder / trial.folder / "metrics.jsonl" for trial in swept.trials]
    before = [path.stat().st_mtime_ns for path in metrics]
    more = sweep(recipe, [tokens_folder], swept.folder, [f"{RATE}=1e-3,3e-3,1e-2,1e30"])
    assert [path.stat().st_mtime_ns for path in metrics] == before
    assert [trial.settings[RATE] for trial in more.trials] == [1e-3, 1e30, 1e-2, 3e-3]
    assert more.trials[:3] == swept.trials


def test_another_sweep_in_the_folder_is_refused(swept, recipe, tokens_folder, tmp_path):
    def refused(changed=recipe, over=OVER, out=swept.folder) -> str:
        with pytest.raises(BadOption) as error:
            sweep(changed, [tokens_folder], out, over)
        return str(error.value)

    assert "changed: steps (6 -> 7)" in refused(replace(recipe, steps=7))
    assert "a sweep over optimizer.learning_rate, not compile" in refused(over=["compile=false,true"])
    left_out = refused(over=[f"{RATE}=1e-3,1e-2"])
    assert "trial 2 there (learning_rate 1e+30) is none of this command's; trials can only be added" in left_out
    (tmp_path / "letter.txt").write_text("Dear Sir")
    assert "holds something else than a sweep" in refused(out=tmp_path)
    # What the recipe has for a swept field decides nothing.
    other_rate = recipe_with(recipe, {RATE: 0.5})
    assert sweep(other_rate, [tokens_folder], swept.folder, [f"{RATE}=1e-3,3e-3,1e-2,1e30"]).ranking


def test_the_best_value_at_the_edge_of_what_was_tried_is_said(swept):
    def edges(*losses: float | None, field=RATE, first=1) -> list[str]:
        trials = tuple(
            Trial(n, "", {field: n}, "diverged" if loss is None else "finished", val_loss=loss)
            for n, loss in enumerate(losses, first)
        )
        return replace(swept, trials=trials).edges()

    assert edges(3.0, 2.0, 1.0) == ["the best optimizer.learning_rate, 3, is the largest tried: widen the range."]
    assert edges(1.0, 2.0, 3.0) == ["the best optimizer.learning_rate, 1, is the smallest tried: widen the range."]
    assert edges(2.0, 1.0, None) == [], "beyond it training diverged"
    assert edges(2.0, 1.0) == [], "of two values one is always the larger"
    assert edges(1.0, 2.0, 3.0, field="optimizer.weight_decay", first=0) == [], "there is no less than no decay"
    assert edges(1.0, 2.0, 3.0, field="seed") == []


def test_a_trial_that_fails_is_tried_again_by_the_same_command(recipe, tokens_folder, tmp_path):
    over = [f"model.vocab_size={recipe.model.vocab_size},10"]
    failed = sweep(recipe, [tokens_folder], tmp_path / "out", over).trials[1]
    assert failed.status == "failed"
    assert "Raise model.vocab_size" in failed.reason
    metrics = tmp_path / "out" / "trials" / f"001-vocab_size={recipe.model.vocab_size}" / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    assert sweep(recipe, [tokens_folder], tmp_path / "out", over).trials[1].status == "failed"
    assert metrics.stat().st_mtime_ns == before


def test_the_papers_way_holds_out_five_percent_and_validates_on_all_of_it(
    documents_folder, tokens_folder, small_tokenizer, recipe, tmp_path
):
    from gpt2lab.tokens.write_shards import write_shards

    with pytest.raises(BadInput, match=r"20 % of the documents is held out, .* --held-out-share 0\.05"):
        tuned_as_in_the_paper(recipe, [tokens_folder], [])
    info = write_shards(documents_folder, tmp_path, small_tokenizer, 0.05)
    tuned, over = tuned_as_in_the_paper(replace(recipe, steps=200), [tmp_path], ["optimizer.weight_decay=0,0.1"])
    assert over == [f"{RATE}=0.0025..0.04", "optimizer.weight_decay=0,0.1"]
    assert tuned_as_in_the_paper(recipe, [tmp_path], [f"{RATE}=1e-3..1"])[1] == [f"{RATE}=1e-3..1"]
    assert (tuned.schedule.name, tuned.schedule.warmup_steps, tuned.schedule.final_share) == ("cosine", 4, 0.1)
    assert tuned.watch.validation_sequences >= info.total("val") / 32
    with pytest.raises(BadOption, match="two learning rates"):
        tuned_as_in_the_paper(recipe_with(recipe, {"optimizer.name": "muon"}), [tmp_path], [])
    with pytest.raises(BadOption, match="give --steps, not --minutes"):
        tuned_as_in_the_paper(replace(recipe, minutes=1.0), [tmp_path], [])


ROOT = Path(__file__).parents[2]


def stopped_in_trial_2(words: list[str], out: Path, sign: signal.Signals) -> tuple[int, str]:
    """Start the command, signal it when trial 2 has a checkpoint; its exit code and what it said."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    give_up = time.monotonic() + 240
    while not list(out.glob("trials/002-*/checkpoints/step-*/state.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_comes_to_the_same(tokens_folder, tmp_path, capsys):
    out = tmp_path / "killed"
    words = [sys.executable, "-m", "tests.pipelines.small_sweep", str(tokens_folder), str(out)]
    assert stopped_in_trial_2(words, out, signal.SIGKILL)[0] == -signal.SIGKILL
    first = out / "trials/001-learning_rate=0.001/metrics.jsonl"
    before = first.stat().st_mtime_ns
    found = small_sweep(tokens_folder, out)
    said = capsys.readouterr().err
    assert "trial 1 of 2" not in said
    assert "002-learning_rate=0.01: going on from step" in said
    assert first.stat().st_mtime_ns == before
    alone = train(recipe_with(swept_recipe(tokens_folder), {RATE: 1e-2}), [tokens_folder], tmp_path / "alone")
    assert found.trials[1].val_loss == alone.val_loss_last
    assert [line["step"] for line in read_metrics(out / found.trials[1].folder) if "loss" in line] == [*range(1, 41)]


@pytest.mark.interop
def test_ctrl_c_saves_and_the_same_command_goes_on(tokens_folder, tmp_path):
    out = tmp_path / "stopped"
    shape = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-embd", "32"]
    words = [sys.executable, "-m", "gpt2lab", "sweep", str(tokens_folder), "--out", str(out), *shape, "--json"]
    words += ["--over", f"{RATE}=1e-3,4e-3", "--steps", "60", "--watch.checkpoint-every", "5"]
    code, said = stopped_in_trial_2(words, out, signal.SIGINT)
    assert code == 130
    assert "the same command goes on" in said
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "trial 1 of 2" not in done.stderr
    assert [trial["status"] for trial in json.loads(done.stdout)["trials"]] == ["finished", "finished"]
