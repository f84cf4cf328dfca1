"""The independent replication's recipes: his files and his code, key by key and formula by formula."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import read_json_lines
from tests.train.small_run import small_recipe
from torch.nn import functional as F  # noqa: N812

import gpt2lab
from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.model.config import parameter_count
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.initialization import initialize
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import (
    AdafactorConfig,
    BatchConfig,
    DataConfig,
    InitializationConfig,
    OptimizerConfig,
    ScheduleConfig,
    StepConfig,
    WatchConfig,
    recipe_from_json,
    recipe_to_json,
)
from gpt2lab.train.recipes import connor, find_recipe, laptop, modern, paper
from gpt2lab.train.schedule import learning_rate_share
from gpt2lab.train.step import TrainingStep

ALL_FILES = {
    "n_vocab": 50257,
    "n_ctx": 1024,
    "attn_dropout": 0.1,
    "embed_dropout": 0.1,
    "res_dropout": 0.1,
    "lr": 0.00025,
    "warmup_steps": 2000,
    "weight_decay": 0.01,
    "beta1": 0.9,
    "scale_by_depth": True,
    "scale_by_in": True,
    "train_steps": 10000,
    "eval_steps": 10,
    "max_steps": 500000,
    "iterations": 500,
    "predict_batch_size": 1,
    "input": "openwebtext",
    "model": "GPT2",
    "encoder_path": "gs://a/encoder",
    "data_path": "gs://a/data/",
    "model_path": "gs://a/model",
    "predict_path": "predictions.txt",
}
ADAM = {"opt_name": "adam", "beta2": 0.98, "epsilon": 1e-9}
FILES = {
    "117M": {"n_layer": 12, "n_head": 12, "n_embd": 768, "train_batch_size": 32, "eval_batch_size": 32} | ADAM,
    "345M": {"n_layer": 24, "n_head": 16, "n_embd": 1024, "train_batch_size": 8, "eval_batch_size": 8} | ADAM,
    "PrettyBig": ADAM
    | {"n_layer": 25, "n_head": 16, "n_embd": 1024, "train_batch_size": 256, "eval_batch_size": 256}
    | {"embed_dropout": 0.0, "attn_dropout": 0.0, "input": "openwebtext_longbiased", "max_steps": 604800},
    "1542M": {"n_layer": 48, "n_head": 25, "n_embd": 1600, "train_batch_size": 512, "eval_batch_size": 8}
    | {"opt_name": "adafactor", "beta1": 0.0, "decay_type": "pow", "decay_exponent": 0.8, "precision": "float32"}
    | {"input": "openwebtext_longbiased", "max_steps": 300000, "train_steps": 100000},
}
"""The figures of his four files (1542M: 1.5B.json)."""


def write_file(folder, values):
    path = folder / "his.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("size", FILES)
def test_a_file_of_his_is_the_recipe_of_its_size(size, tmp_path):
    path = write_file(tmp_path, ALL_FILES | FILES[size])
    recipe = find_recipe(f"connor:{path}")
    assert recipe == replace(connor(size), name="connor:his.json")
    assert recipe_from_json(recipe_to_json(recipe), "x") == recipe


def test_each_key_of_a_file_is_taken_over(tmp_path):
    recipe = find_recipe(f"connor:{write_file(tmp_path, ALL_FILES | FILES['117M'])}")
    model = recipe.model
    assert parameter_count(model) == 124_439_808
    assert (model.embd_pdrop, model.attn_pdrop, model.resid_pdrop) == (0.1, 0.1, 0.1)
    assert (model.context_length, model.vocab_size) == (1024, 50_257)
    assert recipe.optimizer == OptimizerConfig(
        "adamw", 2.5e-4, beta1=0.9, beta2=0.98, eps=1e-9, weight_decay=0.01, decayed="all", clip_norm=0.0
    )
    assert recipe.schedule == ScheduleConfig("cosine", 2000, warmup_from_zero=True, final_share=0.0)
    assert recipe.data == DataConfig(sampling="connor")
    assert recipe.batch == BatchConfig(8, 4)
    assert recipe.watch == WatchConfig(validate_every=10_000, validation_sequences=320)
    assert recipe.steps == 500_000
    assert recipe.step == StepConfig(table_dropout=True)
    assert recipe.initialization == InitializationConfig("mlp", "layers", 0, True)


def test_the_settings_of_the_largest_are_adafactor_and_long_texts():
    recipe = connor("1542M")
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.beta1, optimizer.learning_rate) == ("adafactor", 0.0, 2.5e-4)
    wanted = AdafactorConfig("pow", 0.8, clipping_threshold=1.0, relative_step=False, parameter_scale=True)
    assert optimizer.adafactor == replace(wanted, eps1=1e-30, eps2=1e-3)
    assert (recipe.data.sampling, recipe.steps) == ("connor_longbiased", 300_000)
    assert recipe.batch.sequences * recipe.batch.accumulation == 512
    assert parameter_count(connor("PrettyBig").model) == 367_419_392


def test_every_size_has_a_recipe_and_no_other_recipe_has_a_quirk():
    for size in ("117M", "345M", "762M", "1542M", "PrettyBig", "nano", "micro"):
        assert find_recipe(f"connor:{size}").name == f"connor:{size}"
        for other in (paper(size), modern(size), laptop(size)):
            assert (other.initialization, other.step.table_dropout) == (InitializationConfig(), False)
            assert (other.optimizer.decayed, other.schedule.warmup_from_zero) == ("matrices", False)
            assert other.data.sampling == "each_once"
    nano = connor("nano", 4096)
    assert (nano.steps, nano.batch, nano.model.vocab_size) == (1000, BatchConfig(8, 1), 4096)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"scale_by_depth": False, "scale_by_in": False}, lambda r: r.initialization.scale_by_depth == "none"),
        ({"precision": "bfloat16"}, lambda r: r.step.precision == "bfloat16"),
        ({"input": "openwebtext_long"}, lambda r: r.data.sampling == "connor_long"),
        ({"warmup_steps": None}, lambda r: r.schedule == ScheduleConfig("constant", 0)),
        ({"weight_decay": None}, lambda r: r.optimizer.weight_decay == 0.0),
        ({"train_batch_size": 12}, lambda r: r.batch == BatchConfig(6, 2)),
        ({"train_batch_size": 13}, lambda r: r.batch == BatchConfig(1, 13)),
        (
            {"opt_name": "adafactor", "decay_type": "adam", "epsilon": None},
            lambda r: (r.optimizer.adafactor.decay_type, r.optimizer.beta2) == ("adam", 0.98),
        ),
        (
            {"scale_by_depth": None, "scale_by_in": None, "scale": 0.14433756729740646},
            lambda r: r.initialization == InitializationConfig("both", "layers", 48),
        ),
    ],
)
def test_other_values_that_his_code_knows(tmp_path, change, check):
    values = {key: value for key, value in (ALL_FILES | FILES["117M"] | change).items() if value is not None}
    assert check(find_recipe(f"connor:{write_file(tmp_path, values)}"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": 1.0}, r"his\.json: unknown key clip; the keys here are model, n_layer"),
        ({"n_layer": "12"}, r"his\.json: n_layer = '12' must be of type int"),
        ({"n_layer": 12.0}, r"n_layer = 12\.0 must be of type int"),
        ({"n_layer": 0}, r"his\.json: n_layer = 0: must be at least 1"),
        ({"n_head": 7}, r"n_embd = 768 can't be divided among n_head = 7"),
        ({"lr": 0}, r"lr = 0\.0: must be above 0"),
        ({"lr": math.nan}, r"lr = nan: must be above 0"),
        ({"lr": 10**400}, r"lr = inf: must be above 0 and finite"),
        ({"epsilon": -1e-9}, r"epsilon = -1e-09: must be at least 0"),
        ({"embed_dropout": 1.0}, r"embed_dropout = 1\.0: must be at least 0 and below 1"),
        ({"beta2": True}, r"beta2 = True must be of type float"),
        ({"warmup_steps": None}, r"warmup_steps = None must be of type int"),
        ({"warmup_steps": 600_000}, r"warmup_steps = 600000: must be at most max_steps = 500000"),
        ({"train_batch_size": 0}, r"train_batch_size = 0: must be at least 1"),
        ({"input": "openwebtext_short"}, r"input = 'openwebtext_short' must be one of openwebtext, openwebtext_long,"),
        ({"model": "BERT"}, r"model = 'BERT' must be one of GPT2"),
        ({"opt_name": "sgd"}, r"opt_name = 'sgd' must be one of adam, adafactor"),
        ({"opt_name": "adafactor"}, r"the key decay_type is missing, which opt_name adafactor needs"),
        (
            {"opt_name": "adafactor", "decay_type": "pow"},
            r"key decay_exponent is missing, .* adafactor and decay_type p",
        ),
        ({"decay_type": "exp"}, r"decay_type = 'exp' must be one of pow, adam"),
        ({"precision": "float16"}, r"precision = 'float16' must be one of float32, bfloat16"),
        ({"scale_by_in": 1}, r"scale_by_in = 1 must be of type bool"),
        ({"scale": 0.25}, r"scale is of older files than scale_by_depth and scale_by_in"),
        ({"iterations": "many"}, r"iterations = 'many' must be of type int"),
    ],
)
def test_a_bad_key_or_value_is_named(tmp_path, change, words):
    with pytest.raises(BadOption, match=words):
        find_recipe(f"connor:{write_file(tmp_path, ALL_FILES | FILES['117M'] | change)}")


@pytest.mark.parametrize(
    ("left_out", "more", "words"),
    [
        ("n_layer", {}, r"his\.json: the key n_layer is missing"),
        ("epsilon", {}, r"the key epsilon is missing, which opt_name adam needs"),
        ("scale_by_in", {}, r"the key scale_by_in is missing"),
        ("scale_by", {"scale": 0.3}, r"scale = 0\.3: must be 1/sqrt\(a number of layers\)"),
    ],
)
def test_a_key_left_out_is_named(tmp_path, left_out, more, words):
    values = {key: value for key, value in (ALL_FILES | FILES["117M"]).items() if not key.startswith(left_out)} | more
    with pytest.raises(BadOption, match=words):
        find_recipe(f"connor:{write_file(tmp_path, values)}")


def test_a_file_that_is_none_of_his_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        find_recipe(f"connor:{tmp_path / 'absent.json'}")
    with pytest.raises(BadOption, match=r"his\.json: a recipe must be an object"):
        find_recipe(f"connor:{write_file(tmp_path, [1])}")
    with pytest.raises(BadOption, match=r"no size '1\.5B'; the sizes are 117M"):
        find_recipe("connor:1.5B")
    with pytest.raises(BadOption, match="unknown key attn_dropout"):
        find_recipe(str(write_file(tmp_path, ALL_FILES)))


def test_what_means_nothing_here_is_said_in_one_line(tmp_path, capsys):
    path = write_file(tmp_path, ALL_FILES | FILES["1542M"] | {"beta2": 0.98})
    find_recipe(f"connor:{path}", 50_257)
    assert capsys.readouterr().err == (
        f"{path}: without meaning here, and left aside: iterations, predict_batch_size, encoder_path, data_path,"
        " model_path, predict_path, beta2.\n"
    )


def test_the_vocabulary_is_that_of_the_tokens_and_a_difference_is_said(tmp_path, capsys):
    path = write_file(tmp_path, ALL_FILES | FILES["117M"])
    assert find_recipe(f"connor:{path}", 4096).model.vocab_size == 4096
    assert "the vocabulary is the tokens', of 4,096 ids, not n_vocab = 50,257." in capsys.readouterr().err
    path = write_file(tmp_path, ALL_FILES | FILES["117M"] | {"n_vocab": 300})
    assert find_recipe(f"connor:{path}").model.vocab_size == 300


SMALL_FILE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_ctx": 32, "train_batch_size": 6, "warmup_steps": 2}
SMALL_FILE |= {"max_steps": 6, "train_steps": 3, "eval_steps": 2, "eval_batch_size": 4}


@pytest.mark.parametrize("size", ["117M", "1542M"])
def test_a_file_trains_and_a_resumed_run_has_the_bits_of_one_never_stopped(size, tokens_folder, tmp_path):
    path = write_file(tmp_path, ALL_FILES | FILES[size] | SMALL_FILE | {"input": "openwebtext"})
    recipe = find_recipe(f"connor:{path}", 320)
    recipe = replace(recipe, watch=replace(recipe.watch, checkpoint_every=3))
    recipe = replace(recipe, data=DataConfig())  # the small corpus has too few documents to join 42
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    gpt2lab.train(recipe, tokens_folder, whole)
    shutil.copytree(whole, resumed)
    (resumed / "summary.json").unlink()
    shutil.rmtree(resumed / "checkpoints" / "step-00000006")
    gpt2lab.train(recipe, tokens_folder, resumed)
    model = "model/model.safetensors"
    assert (whole / model).read_bytes() == (resumed / model).read_bytes()
    assert json.loads((whole / "model/config.json").read_text())["embd_pdrop"] == 0.1
    rates = [line["learning_rate"] for line in read_json_lines(whole / "metrics.jsonl") if "loss" in line]
    cosine = [0.5 * 2.5e-4 * (1 + math.cos(math.pi * (step - 2) / 4)) for step in range(2, 6)]
    assert rates == pytest.approx([0.0, 1.25e-4, *cosine])


# The dropout of the tables


def plain_loss(weights, config, inputs, targets, wpe, wte):
    """The mean loss of a batch from dropped tables, written out as his `models/gpt2/gpt2.py`; no other dropout."""

    def norm(x, name):
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).square().mean(-1, keepdim=True)
        return (x - mean) * (variance + 1e-5).rsqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def conv1d(x, name):
        return x @ weights[f"{name}.weight"].t() + weights[f"{name}.bias"]

    length = inputs.shape[1]
    seen = torch.ones(length, length).tril()
    x = wte[inputs] + wpe[:length]
    for layer in (f"h.{number}" for number in range(config.n_layer)):
        q, k, v = conv1d(norm(x, f"{layer}.ln_1"), f"{layer}.attn.c_attn").split(config.n_embd, -1)
        q, k, v = (each.unflatten(-1, (config.n_head, -1)).transpose(1, 2) for each in (q, k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(v.shape[-1])
        mixed = (scores * seen - 1e10 * (1 - seen)).softmax(-1) @ v
        x = x + conv1d(mixed.transpose(1, 2).flatten(2), f"{layer}.attn.c_proj")
        h = conv1d(norm(x, f"{layer}.ln_2"), f"{layer}.mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + conv1d(h, f"{layer}.mlp.c_proj")
    return F.cross_entropy((norm(x, "ln_f") @ wte.t()).flatten(0, 1), targets.flatten())


def table_dropping_step(**changes):
    """A step with a rate of 1, whose update is the gradient; its network; a batch of two parts."""
    recipe = small_recipe(320, 10)
    model = replace(recipe.model, embd_pdrop=0.3, attn_pdrop=0.0, resid_pdrop=0.0)
    optimizer = replace(recipe.optimizer, clip_norm=0.0)
    options = replace(recipe.step, **{"table_dropout": True} | changes)
    recipe = replace(recipe, model=model, optimizer=optimizer, step=options)
    network = GPT2(model)
    network.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    tokens = torch.randint(0, 320, (8, 33), generator=torch.Generator().manual_seed(5))
    step = TrainingStep(recipe, network, torch.optim.SGD(network.parameters(), lr=1.0))
    return step, network, (tokens[:, :-1], tokens[:, 1:], None)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_under_table_dropout_are_those_of_his_model_written_out(checkpointing):
    step, network, batch = table_dropping_step(activation_checkpointing=checkpointing)
    weights = {name: each.detach().clone().requires_grad_() for name, each in network.named_parameters()}
    result = step.take(4, batch)
    torch.manual_seed(int(np.random.SeedSequence([0, 4]).generate_state(1)[0]))
    losses = []
    for rows in (slice(0, 4), slice(4, 8)):  # each part of the batch drops anew
        wpe, wte = (
            weights[name] * F.dropout(torch.ones_like(weights[name]), 0.3) for name in ("wpe.weight", "wte.weight")
        )
        losses.append(plain_loss(weights, network.config, batch[0][rows], batch[1][rows], wpe, wte) / 2)
    sum(losses).backward()
    assert result.loss == pytest.approx(float(sum(losses).detach()), rel=1e-6)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(weights[name].detach() - parameter, weights[name].grad, atol=2e-7, rtol=1e-4)
    for name in ("wte.weight", "wpe.weight"):
        dropped = weights[name].grad == 0  # by both parts of the batch: 0.3 * 0.3
        assert 0.07 < float(dropped.float().mean()) < 0.11
        assert torch.equal(dict(network.named_parameters())[name][dropped], weights[name][dropped])


def test_table_dropout_ends_with_the_step():
    step, network, batch = table_dropping_step()
    before = [name for name, _ in network.named_parameters()]
    step.take(0, batch)
    assert [name for name, _ in network.named_parameters()] == before
    network.eval()
    weights = {name: each.detach() for name, each in network.named_parameters()}
    plain = plain_loss(weights, network.config, *batch[:2], weights["wpe.weight"], weights["wte.weight"])
    assert float(network.loss(*batch[:2]).detach()) == pytest.approx(float(plain), rel=1e-6)
    network.wte.weight.data.zero_()  # still the parameter itself, and the dropout of the sum is there again
    assert network.dropout.p == 0.3
    with pytest.raises(IndexError):
        step.take(1, (batch[0] + 1000, batch[1], None))
    assert [name for name, _ in network.named_parameters()] == before


def test_table_dropout_in_short_types_and_with_averaged_weights_is_nearly_that_of_float32():
    (exact, _, batch), (short, _, _) = (
        table_dropping_step(),
        table_dropping_step(precision="bfloat16", weight_averaging=0.9),
    )
    assert short.take(0, batch).loss == pytest.approx(exact.take(0, batch).loss, rel=5e-3)
    assert short.averaged.dropout.p == 0.3


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself, on loading its compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # which the compiler itself looks at, and hides
def test_a_compiled_step_drops_the_same_numbers():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here, which torch.compile needs")
    eager, network, batch = table_dropping_step()
    compiling = replace(eager.recipe, compile=True)
    twin = GPT2(network.config)
    twin.load_state_dict(network.state_dict())
    compiled = TrainingStep(compiling, twin, torch.optim.SGD(twin.parameters(), lr=1e-2))
    eager.optimizer.param_groups[0]["lr"] = 1e-2
    for number in range(3):
        wanted, ours = eager.take(number, batch), compiled.take(number, batch)
        assert ours.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert ours.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-4)


# Fresh weights


def his_deviation(name, inputs, n_layer, scale_by_depth, scale_by_in):
    """Of `conv1d` at his last commit, which is told `scale=True` for the MLP's last matrix alone."""
    deviation = 0.02
    if scale_by_depth and name.endswith("mlp.c_proj.weight"):
        deviation *= 1 / math.sqrt(n_layer)
    if scale_by_in:
        deviation *= 1 / math.sqrt(inputs)
    return deviation


def his_older_deviation(name, scale):
    """Of `conv1d` until July 2019, which was told `scale` for the last matrix of both residual branches."""
    return 0.02 * (scale if name.endswith("c_proj.weight") else 1.0)


@pytest.mark.parametrize("by_depth", [True, False])
@pytest.mark.parametrize("by_in", [True, False])
def test_fresh_weights_have_the_deviations_of_his_code(tmp_path, by_depth, by_in):
    check_deviations(
        tmp_path,
        {"scale_by_depth": by_depth, "scale_by_in": by_in},
        lambda name, inputs: his_deviation(name, inputs, 5, by_depth, by_in),
    )


@pytest.mark.parametrize("layers", [5, 48])
def test_fresh_weights_have_the_deviations_of_his_older_code(tmp_path, layers):
    scale = 1 / math.sqrt(layers)
    check_deviations(tmp_path, {"scale": scale}, lambda name, _: his_older_deviation(name, scale))


def check_deviations(tmp_path, keys, wanted):
    values = {key: value for key, value in (ALL_FILES | FILES["117M"]).items() if not key.startswith("scale")} | keys
    path = write_file(tmp_path, values | {"n_layer": 5, "n_embd": 64, "n_head": 4, "n_vocab": 300, "n_ctx": 100})
    recipe = find_recipe(f"connor:{path}")
    network = GPT2(recipe.model)
    initialize(network, recipe.initialization, torch.Generator().manual_seed(3))
    for name, each in network.state_dict().items():
        if each.ndim == 1:
            assert torch.equal(each, torch.full_like(each, float("ln" in name and "weight" in name)))
            continue
        deviation = {"wpe.weight": 0.01, "wte.weight": 0.02}.get(name) or wanted(name, each.shape[1])
        tolerance = 4 / math.sqrt(2 * each.numel())  # four standard errors
        assert float(each.std()) == pytest.approx(deviation, rel=tolerance), name
        assert abs(float(each.mean())) < 4 * deviation / math.sqrt(each.numel())


def test_without_a_quirk_fresh_weights_are_the_papers_to_the_bit():
    networks = [GPT2(small_recipe(320, 1).model) for _ in range(2)]
    networks[0].initialize(torch.Generator().manual_seed(3))
    initialize(networks[1], InitializationConfig(), torch.Generator().manual_seed(3))
    for one, two in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, two)


def test_a_run_begins_with_the_weights_its_recipe_says(tokens_folder, tmp_path):
    recipe = small_recipe(320, 1)
    recipe = replace(recipe, initialization=InitializationConfig(scale_by_in=True), schedule=ScheduleConfig("constant"))
    recipe = replace(recipe, schedule=ScheduleConfig(warmup_steps=1, warmup_from_zero=True))  # a step at rate 0
    gpt2lab.train(recipe, tokens_folder, tmp_path / "run")
    weights = load_file(tmp_path / "run/checkpoints/step-00000001/weights.safetensors")
    network = GPT2(recipe.model)
    initialize(network, recipe.initialization, torch.Generator().manual_seed(0))
    assert all(torch.equal(weights[name], each) for name, each in network.named_parameters())
    other = replace(recipe, initialization=InitializationConfig())
    with pytest.raises(BadOption, match=r"initialization\.scale_by_in \(True -> False\): can't change within a run"):
        gpt2lab.train(other, tokens_folder, tmp_path / "run", allow_change=True)


# Rates and decay


def his_rate(step, lr, warmup_steps, max_steps):
    """`cosine_decay_with_warmup` of his `optimizers.py`, for a step counted from 0, as TensorFlow's global_step."""
    rate = 0.5 * lr * (1 + math.cos(math.pi * (step - warmup_steps) / (max_steps - warmup_steps)))
    if step < warmup_steps:
        rate = lr / warmup_steps * step
    return 0.0 if step > max_steps else rate


@pytest.mark.parametrize("size", FILES)
def test_the_learning_rate_is_that_of_his_formula(size):
    recipe = connor(size)
    steps, warmup = recipe.steps, recipe.schedule.warmup_steps
    assert warmup == 2000
    for step in (0, 1, 2, 1000, warmup - 1, warmup, warmup + 1, steps // 2, steps - 1, steps, steps + 1):
        ours = recipe.optimizer.learning_rate * learning_rate_share(recipe.schedule, step, steps)
        assert ours == pytest.approx(his_rate(step, 2.5e-4, warmup, steps), abs=1e-18)
    assert learning_rate_share(recipe.schedule, 0, steps) == 0.0
    assert learning_rate_share(replace(recipe.schedule, warmup_steps=0), 0, steps) == 1.0


def test_adamw_is_that_of_tensorflows_contrib_on_every_variable():
    """Decay of lr * weight_decay before the update. Epsilon is added before v's correction there: no matter at 1e-9."""
    recipe = connor("nano", 300)
    config = replace(recipe.optimizer, weight_decay=0.5)
    network = GPT2(replace(recipe.model, n_layer=1, n_embd=8))
    initialize(network, recipe.initialization, torch.Generator().manual_seed(0))
    optimizer = make_optimizer(network, config)
    variables = {name: each.detach().double().clone() for name, each in network.named_parameters()}
    first, second = ({name: torch.zeros_like(each) for name, each in variables.items()} for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    for t in range(1, 11):
        lr = 0.01 * t
        for group in optimizer.param_groups:
            group["lr"] = lr
        for name, parameter in network.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad, g = gradient, gradient.double()
            variables[name] -= lr * 0.5 * variables[name]
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.98 * second[name] + 0.02 * g**2
            corrected = lr * math.sqrt(1 - 0.98**t) / (1 - 0.9**t)
            variables[name] -= corrected * first[name] / (second[name].sqrt() + 1e-9)
        optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.double(), variables[name], rtol=1e-5, atol=1e-5)
