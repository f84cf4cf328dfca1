"""Training: what a run leaves behind, the same bits every time, killed or not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import read_json_lines
from tests.train.small_run import small_recipe
from transformers import GPT2LMHeadModel

import gpt2lab
from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.checkpointing import checkpoints
from gpt2lab.train.loop import Diverged
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import DataConfig, OptimizerConfig, ScheduleConfig, recipe_from_json
from gpt2lab.train.recipes import find_recipe

STEPS = 60
SCRIPT = Path(__file__).with_name("small_run.py")


@pytest.fixture(scope="module")
def recipe(small_tokenizer):
    return small_recipe(small_tokenizer.vocab_size, STEPS)


@pytest.fixture(scope="module")
def finished(recipe, tokens_folder, tmp_path_factory):
    """A run that was never disturbed."""
    out = tmp_path_factory.mktemp("run") / "whole"
    return out, gpt2lab.train(recipe, tokens_folder, out)


def same_lines(run: Path) -> list[dict]:
    """The metrics without what the clock decides."""
    return [
        {key: value for key, value in line.items() if key not in ("tokens_per_second", "of_gemm_peak")}
        for line in read_json_lines(run / "metrics.jsonl")
    ]


def test_a_run_learns_and_leaves_what_it_promises(finished, recipe):
    out, summary = finished
    assert summary.steps == STEPS
    assert summary.val_loss_last < summary.val_loss_first - 1.5
    assert summary.tokens == STEPS * 8 * 32
    resolved = recipe_from_json(json.loads((out / "recipe.json").read_text()), "x")
    assert resolved == replace(recipe, step=replace(recipe.step, precision="float32"))  # auto, on a processor
    lines = read_json_lines(out / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if "val_loss" in line] == [0, 10, 20, 30, 40, 50, 60]
    assert len(checkpoints(out / "checkpoints")) == 2
    assert list(out.glob("events.out.tfevents.*"))
    assert read_provenance(out / "model")["result"]["val_loss_last"] == summary.val_loss_last


def test_a_run_ends_in_a_model_folder_that_transformers_loads(finished, sentences):
    out, _ = finished
    ours = gpt2lab.load(out / "model")
    theirs = GPT2LMHeadModel.from_pretrained(out / "model").eval()
    tokens = torch.tensor([ours.tokenizer.encode(sentences[0])[:32]])
    with torch.inference_mode():
        torch.testing.assert_close(ours.network(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)


def test_two_runs_of_one_recipe_are_bit_identical(finished, recipe, tokens_folder, tmp_path):
    out, _ = finished
    gpt2lab.train(recipe, tokens_folder, tmp_path / "again")
    weights = "model/model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (out / weights).read_bytes()
    assert same_lines(tmp_path / "again") == same_lines(out)


@pytest.mark.slow
def test_resume_after_kill_gives_the_same_bits(finished, tokens_folder, tmp_path):
    out, _ = finished
    command = [sys.executable, str(SCRIPT), str(tokens_folder), str(tmp_path / "killed"), str(STEPS)]
    metrics = tmp_path / "killed" / "metrics.jsonl"
    chooser = random.Random(os.getpid())
    for lines_wanted in (chooser.randint(10, 25), chooser.randint(32, 42)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 240
        while not metrics.exists() or metrics.read_text().count("\n") < lines_wanted:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < give_up
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed" / "summary.json").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    weights = "model/model.safetensors"
    assert (tmp_path / "killed" / weights).read_bytes() == (out / weights).read_bytes()
    assert same_lines(tmp_path / "killed") == same_lines(out)


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_a_run_by_another_optimizer_learns_and_goes_on_with_the_same_bits(recipe, tokens_folder, tmp_path, name):
    optimizer = OptimizerConfig(name=name, learning_rate=0.1 if name == "adafactor" else 1e-2)
    schedule = ScheduleConfig(name="warmup_stable_decay", warmup_steps=5, final_share=0.0, decay_share=0.5)
    each = replace(recipe, optimizer=optimizer, schedule=schedule, steps=21)
    summary = gpt2lab.train(each, tokens_folder, tmp_path / "run")
    assert summary.val_loss_last < summary.val_loss_first - 0.5
    weights, lines = (tmp_path / "run/model/model.safetensors").read_bytes(), same_lines(tmp_path / "run")
    shutil.rmtree(checkpoints(tmp_path / "run/checkpoints")[-1])
    (tmp_path / "run/summary.json").unlink()
    gpt2lab.train(each, tokens_folder, tmp_path / "run")
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == weights
    assert same_lines(tmp_path / "run") == lines


@pytest.mark.slow
def test_ctrl_c_saves_the_step_under_way_and_says_so(tokens_folder, small_tokenizer, tmp_path):
    shape = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32"]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gpt2lab", "train", "--out", str(out), str(tokens_folder), *shape]
    command += ["--steps", "100000", "--watch.checkpoint-every", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").read_text().count("\n") < 5:
        assert process.poll() is None
        time.sleep(0.01)
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 2
    assert "another process is at work there" in second.stderr
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    step = int(said.rpartition("saved at step ")[2].partition(";")[0].replace(",", ""))
    assert [path.name for path in checkpoints(out / "checkpoints")] == [f"step-{step:08d}"]
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["model"]["vocab_size"] == small_tokenizer.vocab_size


def test_a_finished_run_is_not_run_again(finished, recipe, tokens_folder):
    out, summary = finished
    before = (out / "metrics.jsonl").stat().st_mtime_ns
    assert gpt2lab.train(recipe, tokens_folder, out) == summary
    assert (out / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_folder_with_another_run_is_refused_by_the_changed_keys(finished, recipe, tokens_folder):
    out, _ = finished
    with pytest.raises(BadOption, match=r"changed: seed \(0 -> 1\)"):
        gpt2lab.train(replace(recipe, seed=1), tokens_folder, out)


def test_a_run_that_is_refused_for_too_little_text_leaves_nothing_in_the_way(recipe, tokens_folder, tmp_path):
    with pytest.raises(BadInput, match="too few to join"):
        gpt2lab.train(replace(recipe, data=DataConfig(sampling="connor")), tokens_folder, tmp_path / "run")
    gpt2lab.train(replace(recipe, steps=1), tokens_folder, tmp_path / "run")


def test_a_changed_recipe_goes_on_where_that_is_allowed_and_can_be(finished, recipe, tokens_folder, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    longer = replace(recipe, steps=STEPS + 5)
    with pytest.raises(BadOption, match=r"changed: steps \(\d+ -> \d+\)\. .* --allow-change"):
        gpt2lab.train(longer, tokens_folder, tmp_path / "run")
    wider = replace(longer, model=replace(recipe.model, n_embd=64))
    with pytest.raises(BadOption, match=r"seed \(0 -> 1\): can't change within a run"):
        gpt2lab.train(replace(longer, seed=1), tokens_folder, tmp_path / "run", allow_change=True)
    with pytest.raises(BadOption, match=r"model\.n_embd \(32 -> 64\): can't change within a run"):
        gpt2lab.train(wider, tokens_folder, tmp_path / "run", allow_change=True)
    assert gpt2lab.train(longer, tokens_folder, tmp_path / "run", allow_change=True).steps == STEPS + 5
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["changes"][0]["keys"] == [f"steps ({STEPS} -> {STEPS + 5})"]
    assert [line["step"] for line in read_json_lines(tmp_path / "run/metrics.jsonl")][-1] == STEPS + 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "state"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(
    finished, recipe, tokens_folder, tmp_path, capsys, damage
):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "summary.json").unlink()
    newest = checkpoints(out / "checkpoints")[-1]
    file = newest / ("state.json" if damage == "state" else "optimizer.safetensors")
    held = bytearray(file.read_bytes())
    held[-5] ^= 1
    file.write_bytes(held if damage == "flipped" else held[: len(held) // 2])
    gpt2lab.train(recipe, tokens_folder, out)
    assert f"warning: {newest}" in capsys.readouterr().err
    assert (out / "checkpoints" / f"damaged-{newest.name}").exists()
    assert same_lines(out) == same_lines(finished[0])
    assert (out / "model/model.safetensors").read_bytes() == (finished[0] / "model/model.safetensors").read_bytes()


def test_a_run_without_a_whole_checkpoint_says_so(finished, recipe, tokens_folder, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for path in checkpoints(tmp_path / "run" / "checkpoints"):
        (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="none of its 2 checkpoints is whole"):
        gpt2lab.train(recipe, tokens_folder, tmp_path / "run")


def test_a_run_from_before_a_key_was_there_goes_on(finished, recipe, tokens_folder, tmp_path):
    """A key that came later has for an old run the value that is the default: what was done before it was there."""
    out, summary = finished
    shutil.copytree(out, tmp_path / "old")
    run, resolved = (json.loads((tmp_path / "old" / name).read_text()) for name in ("run.json", "recipe.json"))
    for values in (run["asked"], resolved):
        for key in ("name", "decayed", "adafactor", "muon"):
            del values["optimizer"][key]
        for key in ("name", "decay_share"):
            del values["schedule"][key]
    (tmp_path / "old/run.json").write_text(json.dumps(run))
    (tmp_path / "old/recipe.json").write_text(json.dumps(resolved))
    (tmp_path / "old/summary.json").unlink()
    shutil.rmtree(checkpoints(tmp_path / "old/checkpoints")[-1])
    assert gpt2lab.train(recipe, tokens_folder, tmp_path / "old").val_loss_last == summary.val_loss_last
    other = replace(recipe, optimizer=replace(recipe.optimizer, name="muon"))
    with pytest.raises(BadOption, match=r"changed: optimizer\.name \(adamw -> muon\)"):
        gpt2lab.train(other, tokens_folder, tmp_path / "old")


def test_minutes_become_steps_once_and_are_saved(recipe, tokens_folder, tmp_path):
    out = tmp_path / "run"
    summary = gpt2lab.train(replace(recipe, minutes=0.02), tokens_folder, out)
    resolved = find_recipe(str(out / "recipe.json"))
    assert resolved.steps == summary.steps
    assert resolved.minutes == 0
    assert gpt2lab.train(replace(recipe, minutes=0.02), tokens_folder, out).steps == summary.steps


def test_a_changed_recipe_of_minutes_keeps_its_steps_and_warm_up(recipe, tokens_folder, tmp_path):
    timed = replace(recipe, minutes=0.02, schedule=replace(recipe.schedule, warmup_steps=10**6))
    gpt2lab.train(timed, tokens_folder, tmp_path / "run")
    before = json.loads((tmp_path / "run/recipe.json").read_text())
    assert before["schedule"]["warmup_steps"] == before["steps"] // 5
    gpt2lab.train(replace(timed, name="other"), tokens_folder, tmp_path / "run", allow_change=True)
    assert json.loads((tmp_path / "run/recipe.json").read_text()) == before | {"name": "other"}


def test_a_vocabulary_larger_than_the_models_is_refused(recipe, tokens_folder, tmp_path):
    small = replace(recipe, model=replace(recipe.model, vocab_size=300))
    with pytest.raises(BadOption, match="the tokens have 320 ids, the model's vocabulary only 300"):
        gpt2lab.train(small, tokens_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_larger_vocabulary_than_the_tokens_is_padding(recipe, tokens_folder, tmp_path):
    padded = replace(recipe, model=replace(recipe.model, vocab_size=384), steps=2)
    model = gpt2lab.load(gpt2lab.train(padded, tokens_folder, tmp_path / "run").model)
    assert len(model.generate("The", max_tokens=20).text) > 0


def test_a_loss_that_is_no_number_stops_the_run_with_its_step(recipe, tokens_folder, tmp_path):
    wild = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=1e30))
    with pytest.raises(Diverged, match=r"at step \d+ the loss is .*learning rate \(1e\+30\) is too high"):
        gpt2lab.train(wild, tokens_folder, tmp_path / "run")
    both = replace(wild, optimizer=replace(wild.optimizer, name="muon"))
    with pytest.raises(Diverged, match=r"learning rate \(0\.005 and 1e\+30\) is too high"):
        gpt2lab.train(both, tokens_folder, tmp_path / "both")


def test_a_run_that_diverged_goes_on_with_the_lower_rate_it_asks_for(recipe, tokens_folder, tmp_path):
    wild = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=100.0), steps=400)
    with pytest.raises(
        Diverged, match=r"learning rate \(100\.0\) is too high\. Give a lower one and --allow-change to go on"
    ):
        gpt2lab.train(wild, tokens_folder, tmp_path / "run")
    assert gpt2lab.train(replace(recipe, steps=9), tokens_folder, tmp_path / "run", allow_change=True).steps == 9


def test_accumulation_gives_the_gradient_of_the_whole_batch(recipe, tokens_folder, tmp_path):
    still = replace(recipe, model=replace(recipe.model, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0), steps=3)
    at_once = replace(still, batch=replace(still.batch, sequences=8, accumulation=1))
    for name, each in (("parts", still), ("once", at_once)):
        gpt2lab.train(each, tokens_folder, tmp_path / name)
    losses = [
        [line["loss"] for line in read_json_lines(tmp_path / name / "metrics.jsonl") if "loss" in line]
        for name in ("parts", "once")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_validation_loss_is_that_of_a_plain_pass(finished, tokens_folder):
    """The recorded loss and bits per byte, computed again by hand from the model folder."""
    from gpt2lab.tokens.sequences import IGNORED, validation_batches
    from gpt2lab.tokens.stream import TokenStream

    out, summary = finished
    model = gpt2lab.load(out / "model")
    nats, text_nats, tokens, text_bytes = 0.0, 0.0, 0, 0
    for inputs, targets in validation_batches(TokenStream(tokens_folder, "val"), 32, 1, 8):
        with torch.inference_mode():
            scores = model.network(torch.from_numpy(inputs))[0].log_softmax(-1)
        for row, target in zip(scores, targets[0].tolist(), strict=True):
            if target == IGNORED:
                continue
            nats -= float(row[target])
            tokens += 1
            if target != model.tokenizer.end_of_text:
                text_nats -= float(row[target])
                text_bytes += len(model.tokenizer.token_bytes[target])
    assert summary.val_loss_last == pytest.approx(nats / tokens, abs=1e-5)
    assert summary.val_bits_per_byte_last == pytest.approx(text_nats / np.log(2) / text_bytes, abs=1e-5)


def test_decay_acts_on_what_the_recipe_says(recipe):
    network = GPT2(recipe.model)
    decayed, others = make_optimizer(network, OptimizerConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {parameter.ndim for parameter in decayed["params"]} == {2}
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))
    groups = make_optimizer(network, OptimizerConfig(weight_decay=0.3, decayed="all")).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.3]
