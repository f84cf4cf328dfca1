"""Watching a run: what it records and shows beside the loss, and that nothing of it changes the run."""

import importlib.util
import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from tests.conftest import read_json_lines
from tests.train.small_run import small_recipe

import gpt2lab
from gpt2lab.base.errors import BadOption
from gpt2lab.model.config import GPT2Config, training_flops_per_token
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.checkpointing import checkpoints
from gpt2lab.train.loop import Diverged
from gpt2lab.train.recipe import WatchConfig, recipe_from_json, recipe_to_json
from gpt2lab.train.watching.gemm_peak import measure_gemm_peak
from gpt2lab.train.watching.norms import group_of, noted_norms
from gpt2lab.train.watching.pace import Pace
from gpt2lab.train.watching.report import LiveReport, write_run_report

STEPS = 16


@pytest.fixture(scope="module")
def plain(small_tokenizer):
    return small_recipe(small_tokenizer.vocab_size, STEPS)


@pytest.fixture(scope="module")
def watched(plain):
    watch = replace(plain.watch, sample_every=6, prompts=("", "The cat"), norms_every=4)
    return replace(plain, watch=watch)


@pytest.fixture(scope="module")
def finished(watched, tokens_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("watched") / "run"
    gpt2lab.train(watched, tokens_folder, out)
    return out


def test_watching_changes_no_bits_of_a_run(finished, plain, tokens_folder, tmp_path):
    gpt2lab.train(plain, tokens_folder, tmp_path / "plain")
    weights = "model/model.safetensors"
    assert (tmp_path / "plain" / weights).read_bytes() == (finished / weights).read_bytes()
    assert not (tmp_path / "plain" / "samples.jsonl").exists()


def test_samples_are_written_of_each_prompt_and_at_the_end(finished, watched):
    samples = read_json_lines(finished / "samples.jsonl")
    assert [(line["step"], line["prompt"]) for line in samples] == [
        (step, prompt) for step in (6, 12, 16) for prompt in watched.watch.prompts for _ in range(3)
    ]
    assert len({line["text"] for line in samples}) > len(samples) / 2


def test_norms_of_the_groups_add_up_to_the_gradients_norm(finished):
    lines = read_json_lines(finished / "metrics.jsonl")
    whole = {line["step"]: line["gradient_norm"] for line in lines if "gradient_norm" in line}
    noted = [line for line in lines if "gradient_norm/wte" in line]
    assert [line["step"] for line in noted] == [4, 8, 12, 16]
    groups = {"wte", "wpe", "h.0.attn", "h.0.mlp", "h.1.attn", "h.1.mlp", "ln_f"}
    for line in noted:
        norms = {name.partition("/")[2]: value for name, value in line.items() if name.startswith("gradient_norm/")}
        assert norms.keys() == groups
        assert sum(norm**2 for norm in norms.values()) == pytest.approx(whole[line["step"]] ** 2, rel=1e-4)


def test_weights_of_zero_have_no_ratio_and_leave_a_gap_in_the_report(plain, tokens_folder, tmp_path):
    positions = replace(plain.initialization, position_deviation=0.0)
    watch = replace(plain.watch, norms_every=1)
    gpt2lab.train(replace(plain, initialization=positions, watch=watch, steps=3), tokens_folder, tmp_path / "run")
    write_run_report(tmp_path / "run", "a test")
    assert "A step changes the MLPs by" in page(tmp_path / "run")


def test_norms_are_those_of_the_step():
    """Plain gradient descent: the update is the rate times the gradient."""
    network = GPT2(
        GPT2Config(vocab_size=20, context_length=8, n_layer=2, n_head=2, n_embd=8, tie_word_embeddings=False)
    )
    network.initialize(torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    network.loss(torch.arange(8)[None], torch.arange(1, 9)[None]).backward()
    embeddings = float(network.wte.weight.detach().norm())
    with noted_norms(network, optimizer) as norms:
        optimizer.step()
    assert norms["weight_norm/wte"] == pytest.approx(embeddings)
    for group in {group_of(name) for name, _ in network.named_parameters()}:
        assert norms[f"update_norm/{group}"] == pytest.approx(0.5 * norms[f"gradient_norm/{group}"], rel=1e-4)
        ratio = norms[f"update_norm/{group}"] / norms[f"weight_norm/{group}"]
        assert norms[f"update_ratio/{group}"] == pytest.approx(ratio)
    assert "update_ratio/lm_head" in norms
    optimizer.step()  # and no more is noted


def test_a_resumed_run_writes_its_samples_again_and_keeps_the_gemm_peak(finished, watched, tokens_folder, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "summary.json").unlink()
    shutil.rmtree(checkpoints(out / "checkpoints")[-1])
    described = json.loads((out / "run.json").read_text())
    described["gemm_peak"]["flops_per_second"] = 1e6
    (out / "run.json").write_text(json.dumps(described))
    gpt2lab.train(watched, tokens_folder, out)
    assert (out / "samples.jsonl").read_bytes() == (finished / "samples.jsonl").read_bytes()
    assert json.loads((out / "run.json").read_text()) == described
    newest = [line for line in read_json_lines(out / "metrics.jsonl") if "loss" in line][-1]
    share = newest["tokens_per_second"] * training_flops_per_token(watched.model) / 1e6
    assert newest["of_gemm_peak"] == pytest.approx(share)


def test_the_gemm_peak_is_measured_without_the_shared_generator(plain):
    before = torch.get_rng_state()
    assert measure_gemm_peak(plain.model, 64, torch.float32, torch.device("cpu")) > 1e6
    assert torch.equal(torch.get_rng_state(), before)


def test_a_report_tells_while_the_run_goes_on_and_when_it_is_over(finished, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "report.html").unlink(missing_ok=True)  # on a busy machine it took more than seconds
    (out / "summary.json").rename(out / "kept.json")
    live = LiveReport(out, "gpt2lab train tokens")
    live.refresh(3600.0, news=True)
    live.close(stopped=None)
    assert page(out) == ""  # a run of seconds pays for no pictures
    monkeypatch.setattr(LiveReport, "AT_LEAST_SECONDS", 0.0)
    live.refresh(2 * 86_400.0, news=False)
    assert page(out) == ""
    live.refresh(2 * 86_400.0, news=True)
    running = page(out)
    assert 'http-equiv="refresh"' in running
    for words in (
        r"Running: step 16 of 16 at \d\d:\d\d, finish about \d\d:\d\d on \d+ \w+\.",
        r"tokens a second \(median step\), \d+% of the GEMM peak",
        "No step was skipped",
        "A step changes the MLPs by",
        "What it writes after step 16",
        "gpt2lab train tokens",
    ):
        assert re.search(words, running), words
    live.refresh(0.0, news=True)  # it has just cost more than its share of the time
    assert page(out) == running
    (out / "kept.json").rename(out / "summary.json")
    live.close(stopped=None)
    assert "Running" not in page(out)
    assert "refresh" not in page(out)
    assert "unigram model" in page(out)


def page(run):
    return (run / "report.html").read_text() if (run / "report.html").exists() else ""


def test_a_report_says_why_a_run_stopped(plain, tokens_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(LiveReport, "AT_LEAST_SECONDS", 0.0)
    wild = replace(plain, optimizer=replace(plain.optimizer, learning_rate=1e30), watch=WatchConfig(validate_every=1))
    with pytest.raises(Diverged):
        gpt2lab.train(wild, tokens_folder, tmp_path / "run")
    assert "Stopped at step" in page(tmp_path / "run")
    assert "most likely the learning rate (1e+30) is too high" in page(tmp_path / "run")
    assert "refresh" not in page(tmp_path / "run")


def test_the_pace_is_that_of_the_newest_steps():
    pace = Pace(tokens_a_step=100, validate_every=5)
    assert pace.seconds_left(10) is None
    for seconds in (*[50.0] * 5, *[0.5] * 20):
        pace.step_ended(seconds)
    assert pace.tokens_per_second == pytest.approx(200)
    assert 0 < pace.seconds_left(10) < 1


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(plain, tokens_folder, tmp_path, name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    asked = replace(plain, watch=replace(plain.watch, tracker=name))
    with pytest.raises(BadOption, match=rf"watch\.tracker = {name}: .*pip install 'gpt2lab\[{name}\]'"):
        gpt2lab.train(asked, tokens_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sample_every": -1}, r"watch\.sample_every = -1"),
        ({"norms_every": -1}, r"watch\.norms_every = -1"),
        ({"sample_every": 5, "prompts": []}, r"watch\.prompts: none given"),
        ({"tracker": "mlflow"}, r"watch\.tracker = 'mlflow' must be one of none, trackio, wandb"),
        ({"tracker": "wandb", "project": "../x"}, r"watch\.project = '\.\./x'"),
    ],
)
def test_what_can_not_be_watched_is_refused(plain, values, words):
    as_json = recipe_to_json(plain)
    with pytest.raises(BadOption, match=words):
        recipe_from_json(as_json | {"watch": as_json["watch"] | values}, "x")


def test_prompts_come_back_from_json(watched):
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(watched))), "x") == watched
