"""The step's options: what they compute, what they skip, and the same bits after a resume."""

import json
import math
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import read_json_lines
from tests.train.small_run import small_recipe
from torch.utils.flop_counter import FlopCounterMode

import gpt2lab
from gpt2lab.base.errors import BadOption
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.loop import Diverged
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import StepConfig, recipe_from_json, recipe_to_json
from gpt2lab.train.step import StepMemory, TrainingStep

STEPS = 32


@pytest.fixture(scope="module")
def recipe():
    return small_recipe(320, STEPS)


def training_step(recipe, **config):
    """A step and the fresh network that it trains."""
    recipe = replace(recipe, step=StepConfig(**config))
    network = GPT2(recipe.model)
    network.initialize(torch.Generator().manual_seed(0))
    return TrainingStep(recipe, network, make_optimizer(network, recipe.optimizer)), network


def batch(length=32, seed=0):
    tokens = torch.randint(0, 320, (8, length + 1), generator=torch.Generator().manual_seed(seed))
    return tokens[:, :-1], tokens[:, 1:], None


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


ON_THE_CLOCK = ("tokens_per_second", "of_gemm_peak")


def same_lines(run):
    lines = read_json_lines(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in ON_THE_CLOCK} for line in lines]


@contextmanager
def kept_numbers():
    """The sizes of the tensors that are kept for the backward pass."""
    numbers = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (numbers.append(tensor.numel()), tensor)[1], lambda tensor: tensor
    ):
        yield numbers


OPTIONS = {
    "float16, outliers": StepConfig(precision="float16", skip_outliers=1.05),
    "everything": StepConfig("bfloat16", True, 1e-3, True, 1.1, 0.95),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_run_has_the_bits_of_one_never_stopped(recipe, tokens_folder, tmp_path, name):
    watch = replace(recipe.watch, checkpoint_every=7, keep_checkpoints=9)
    rising = replace(recipe.schedule, warmup_steps=STEPS)  # so that there are outliers late in the run
    recipe = replace(recipe, step=OPTIONS[name], watch=watch, schedule=rising)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    gpt2lab.train(recipe, tokens_folder, whole)
    shutil.copytree(whole, resumed)
    (resumed / "summary.json").unlink()
    shutil.rmtree(resumed / "model")
    for later in ("step-00000028", "step-00000032"):  # 21 norms are known at the one that is left
        shutil.rmtree(resumed / "checkpoints" / later)
    gpt2lab.train(recipe, tokens_folder, resumed)
    model = "model/model.safetensors"
    assert (whole / model).read_bytes() == (resumed / model).read_bytes()
    assert same_lines(whole) == same_lines(resumed)
    state = "checkpoints/step-00000032/state.json"
    assert json.loads((whole / state).read_text())["memory"] == json.loads((resumed / state).read_text())["memory"]
    if recipe.step.skip_outliers:
        assert any(line.get("skipped") == "outlier" for line in same_lines(whole))


def test_activation_checkpointing_changes_no_bit_of_loss_or_weights(recipe):
    for drop in (0.0, 0.2):
        dropped = replace(recipe, model=replace(recipe.model, embd_pdrop=drop, attn_pdrop=drop, resid_pdrop=drop))
        (plain, one), (saving, two) = (
            training_step(dropped, activation_checkpointing=chosen) for chosen in (False, True)
        )
        for number in range(3):
            assert plain.take(number, batch(seed=number)) == saving.take(number, batch(seed=number))
        assert torch.equal(weights(one), weights(two))


def test_activation_checkpointing_keeps_fewer_numbers(recipe):
    kept = {}
    for chosen in (False, True):
        step, _ = training_step(recipe, activation_checkpointing=chosen)
        with kept_numbers() as numbers:
            step._hidden(batch()[0])
        kept[chosen] = sum(numbers)
    assert kept[True] < kept[False] / 3


def test_gelu_is_not_kept_and_computing_it_again_changes_no_bit_and_repeats_no_product(recipe):
    """Beside the network as it is without a training step around it."""
    inputs, targets, _ = batch()
    _, forgetful = training_step(recipe)
    plain = GPT2(recipe.model)
    plain.load_state_dict(forgetful.state_dict())
    kept, products = [], []
    for network in (plain, forgetful):
        torch.manual_seed(1)  # dropout
        with FlopCounterMode(display=False) as counter, kept_numbers() as numbers:
            network.loss(inputs, targets).backward()
        kept.append(sum(numbers))
        products.append(counter.get_total_flops())
    # GELU's result, and the matrix after it, which is at hand in any case.
    wide = 4 * recipe.model.n_embd
    assert kept[0] - kept[1] == recipe.model.n_layer * wide * (targets.numel() + recipe.model.n_embd)
    assert products[0] == products[1] > 0
    for ours, wanted in zip(forgetful.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, wanted.grad)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_short_products_give_nearly_the_gradient_of_float32(recipe, precision):
    still = replace(recipe, model=replace(recipe.model, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0))
    (exact, _), (short, network) = training_step(still), training_step(still, precision=precision)
    wanted, ours = exact.take(0, batch()), short.take(0, batch())
    assert ours.loss == pytest.approx(wanted.loss, rel=2e-3)
    assert ours.gradient_norm != wanted.gradient_norm
    assert ours.gradient_norm == pytest.approx(wanted.gradient_norm, rel=2e-2)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_gradient_that_overflows_float16_halves_the_loss_scale_and_leaves_the_weights(recipe):
    step, network = training_step(recipe, precision="float16")
    step.memory = StepMemory(loss_scale=2.0**33)
    before, verdicts = weights(network), []
    while "taken" not in verdicts:
        assert torch.equal(weights(network), before)
        verdicts.append(step.take(len(verdicts), batch()).verdict)
    assert 1 < len(verdicts) < 20
    assert set(verdicts[:-1]) == {"not finite"}
    assert step.memory.loss_scale == 2.0 ** (33 - len(verdicts) + 1)
    assert not torch.equal(weights(network), before)


def test_the_loss_scale_doubles_after_2000_good_steps(recipe):
    step, _ = training_step(recipe, precision="float16")
    step.memory = StepMemory(loss_scale=64.0, steps_at_scale=1999)
    step.take(0, batch())
    assert (step.memory.loss_scale, step.memory.steps_at_scale) == (128.0, 0)


def test_a_step_that_is_not_finite_is_skipped_where_asked_and_the_next_is_taken(recipe):
    for asked, verdict in ((False, "diverged"), (True, "not finite")):
        step, network = training_step(recipe, skip_nonfinite=asked)
        with torch.no_grad():
            network.wpe.weight[20] = math.nan
        before = weights(network)
        assert step.take(0, batch(32)).verdict == verdict
        assert torch.equal(weights(network).nan_to_num(), before.nan_to_num())
        assert not step.optimizer.state
    assert step.memory.not_finite_in_a_row == 1
    assert step.take(1, batch(16)).verdict == "taken"  # meets no position 20
    assert step.memory.not_finite_in_a_row == 0


def test_a_run_with_nothing_finite_left_stops_all_the_same(recipe, tokens_folder, tmp_path, capsys):
    wild = replace(recipe.optimizer, learning_rate=1e30)
    watch = replace(recipe.watch, validate_every=50)  # a validation would stop it earlier
    recipe = replace(recipe, optimizer=wild, step=StepConfig(skip_nonfinite=True), watch=watch)
    with pytest.raises(Diverged, match="the loss is nan"):
        gpt2lab.train(recipe, tokens_folder, tmp_path / "run")
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line.get("skipped") for line in lines].count("not finite") == 19
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "skipped: the loss is nan" in capsys.readouterr().err


def test_an_outlier_is_skipped_but_norms_that_stay_high_are_not(recipe):
    step, network = training_step(recipe, skip_outliers=3.0)
    norm = step.take(0, batch()).gradient_norm
    step.memory = StepMemory(norms=(norm / 10,) * 20)
    before = weights(network)
    result = step.take(1, batch())
    assert result.verdict == "outlier"
    assert result.median_norm == norm / 10
    assert "times the median" in result.reason
    assert torch.equal(weights(network), before)
    verdicts = [step.take(number, batch()).verdict for number in range(2, 25)]
    assert verdicts[-1] == "taken"


def test_fewer_than_twenty_norms_judge_nothing(recipe):
    step, _ = training_step(recipe, skip_outliers=1.5)
    step.memory = StepMemory(norms=(1e-6,) * 19)
    assert step.take(0, batch()).verdict == "taken"


def test_the_average_of_the_weights_is_that_of_its_formula_and_ends_in_the_model(recipe, tokens_folder, tmp_path):
    step, network = training_step(recipe, weight_averaging=0.5)
    average = weights(network)
    for number in range(12):
        step.take(number, batch(seed=number))
        decay = min(0.5, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * weights(network)
    torch.testing.assert_close(weights(step.averaged), average)
    averaging = replace(recipe, steps=9, step=StepConfig(weight_averaging=0.5))
    summary = gpt2lab.train(averaging, tokens_folder, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000009"
    averaged, newest = (load_file(checkpoint / name) for name in ("averaged.safetensors", "weights.safetensors"))
    model = gpt2lab.load(summary.model).network
    assert all(torch.equal(parameter, averaged[name]) for name, parameter in model.named_parameters())
    assert not torch.equal(averaged["wte.weight"], newest["wte.weight"])


def test_the_z_loss_is_minimized_but_not_reported(recipe):
    still = replace(recipe, model=replace(recipe.model, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0))
    (plain, _), (penalized, network) = training_step(still), training_step(still, z_loss=0.1)

    def mean_square():
        with torch.no_grad():
            return float(network(batch()[0]).logsumexp(-1).square().mean())

    before = mean_square()
    assert plain.take(0, batch()).loss == penalized.take(0, batch()).loss
    for number in range(1, 20):
        penalized.take(number, batch())
    assert mean_square() < before / 2


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself, on loading its compiler
def test_a_compiled_step_with_every_option_is_an_eager_one(recipe):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here, which torch.compile needs")
    still = replace(recipe, model=replace(recipe.model, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, n_layer=1))
    options = {"activation_checkpointing": True, "z_loss": 1e-3, "weight_averaging": 0.9}
    eager, compiled = (training_step(replace(still, compile=chosen), **options)[0] for chosen in (False, True))
    wanted, ours = eager.take(0, batch()), compiled.take(0, batch())
    assert ours.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert ours.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-4)


def test_without_a_compiler_a_compiled_run_says_so_and_goes_on(recipe, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    step, _ = training_step(replace(recipe, compile=True))
    assert "no C++ compiler here: training without torch.compile" in capsys.readouterr().err
    assert step.take(0, batch()).verdict == "taken"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bf16"}, r"step\.precision = 'bf16' must be one of auto, float32, bfloat16"),
        ({"z_loss": -1.0}, r"step\.z_loss = -1\.0"),
        ({"skip_outliers": 0.5}, r"step\.skip_outliers = 0\.5: must be above 1"),
        ({"weight_averaging": 1.0}, r"step\.weight_averaging = 1\.0: must be at least 0 and below 1"),
        ({"activation_checkpointing": 1}, r"step\.activation_checkpointing = 1 must be of type bool"),
        ({"skip": True}, r"unknown key step\.skip"),
    ],
)
def test_a_wrong_option_of_the_step_is_named(recipe, change, words):
    with pytest.raises(BadOption, match=words):
        recipe_from_json(recipe_to_json(recipe) | {"step": change}, "mine.json")
