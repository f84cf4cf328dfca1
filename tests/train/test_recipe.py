"""Recipes: named ones, files, and clear words for what is wrong in them."""

import json
from dataclasses import replace

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.train.recipe import (
    DataConfig,
    ScheduleConfig,
    changed_keys,
    recipe_from_json,
    recipe_to_json,
)
from gpt2lab.train.recipes import find_recipe, laptop, modern, paper
from gpt2lab.train.schedule import learning_rate_share


@pytest.mark.parametrize("recipe", [paper(), paper("1542M"), laptop(), laptop("micro", 300), modern(), modern("345M")])
def test_a_recipe_comes_back_from_its_json(recipe):
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe))), "x") == recipe


def test_the_weights_of_a_mixture_come_back_from_json():
    recipe = replace(laptop(), data=DataConfig(sampling="connor", weights=(0.7, 3.0), document_mask=True))
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe))), "x") == recipe
    assert recipe_from_json(recipe_to_json(laptop()) | {"data": {"weights": [7, 3]}}, "x").data.weights == (7.0, 3.0)


def test_names_and_files_stand_for_recipes(tmp_path):
    assert find_recipe("paper:345M") == paper("345M")
    assert find_recipe("laptop", 4096) == laptop("nano", 4096)
    (tmp_path / "mine.json").write_text(json.dumps(recipe_to_json(laptop("micro"))))
    assert find_recipe(str(tmp_path / "mine.json")) == laptop("micro")


def test_the_modern_recipe_has_the_network_and_length_of_the_others():
    for size, like in (("nano", laptop("nano")), ("micro", laptop("micro")), ("117M", paper("117M"))):
        recipe = find_recipe(f"modern:{size}")
        assert (recipe.model, recipe.steps) == (like.model, like.steps)
        assert (recipe.name, recipe.optimizer.name) == (f"modern:{size}", "muon")
    assert modern("117M").batch == paper("117M").batch
    assert {modern(size).batch.sequences * modern(size).model.context_length for size in ("nano", "micro")} == {4096}


def test_the_paper_batch_is_512_sequences_of_1024_tokens():
    recipe = paper()
    assert recipe.batch.sequences * recipe.batch.accumulation == 512
    assert recipe.model.context_length == 1024


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 1}, "unknown key learning_rate"),
        (
            {"optimizer": {"learning_rte": 1.0}},
            r"unknown key optimizer\.learning_rte; the keys here are name, learning_rate",
        ),
        ({"steps": "many"}, "steps = 'many' must be of type int"),
        ({"steps": True}, "steps = True must be of type int"),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"model": 3}, "model must be an object"),
        ({"optimizer": {"learning_rate": 0}}, "must be above 0"),
        ({"optimizer": {"clip_norm": -1.0}}, r"optimizer\.clip_norm = -1\.0"),
        ({"optimizer": {"beta1": 1.5}}, r"optimizer\.beta1 = 1\.5"),
        ({"minutes": float("inf")}, "minutes = inf"),
        ({"data": {"sampling": "twice"}}, r"data\.sampling = 'twice' must be one of each_once, connor, connor_long"),
        ({"data": {"weights": 0.5}}, r"data\.weights = 0\.5 must be a list"),
        ({"data": {"weights": [0.5, "much"]}}, r"data\.weights = \[0\.5, 'much'\] must be of type float"),
        ({"schedule": {"warmup_steps": -1}}, r"schedule\.warmup_steps = -1"),
        ({"schedule": {"decay_share": 1.5}}, r"schedule\.decay_share = 1\.5: must be at least 0 and at most 1"),
        ({"schedule": {"name": "linear"}}, r"schedule\.name = 'linear' must be one of cosine, warmup_stable_decay, in"),
        ({"optimizer": {"name": "adam"}}, r"optimizer\.name = 'adam' must be one of adamw, adafactor, muon"),
        ({"optimizer": {"decayed": "none"}}, r"optimizer\.decayed = 'none' must be one of matrices, all"),
        (
            {"optimizer": {"muon": {"momentum": 1.0}}},
            r"optimizer\.muon\.momentum = 1\.0: must be at least 0 and",
        ),
        ({"optimizer": {"muon": {"learning_rate": 0.0}}}, r"optimizer\.muon\.learning_rate = 0\.0: must be above 0"),
        ({"optimizer": {"muon": {"steps": 5}}}, r"unknown key optimizer\.muon\.steps"),
        (
            {"optimizer": {"adafactor": {"decay_type": "exp"}}},
            r"optimizer\.adafactor\.decay_type = 'exp' must be",
        ),
        ({"optimizer": {"adafactor": {"eps1": 0.0}}}, r"optimizer\.adafactor\.eps1 = 0\.0: must be above 0"),
        ({"optimizer": {"adafactor": {"parameter_scale": 1}}}, r"adafactor\.parameter_scale = 1 must be of type bool"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, words):
    with pytest.raises(BadOption, match=words):
        recipe_from_json(recipe_to_json(laptop()) | change, "mine.json")


def test_a_missing_key_is_named():
    with pytest.raises(BadOption, match=r"mine\.json: the key model is missing"):
        recipe_from_json({"name": "x"}, "mine.json")


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(BadOption, match="paper, laptop, modern"):
        find_recipe("nanogpt")
    with pytest.raises(BadOption, match="117M"):
        find_recipe("paper:118M")
    with pytest.raises(BadInput, match="no such file"):
        find_recipe(str(tmp_path / "absent.json"))


def test_changed_keys_are_named_with_both_values():
    recipe = laptop()
    other = replace(recipe, steps=7, optimizer=replace(recipe.optimizer, beta1=0.8))
    assert changed_keys(recipe_to_json(recipe), recipe_to_json(other)) == [
        "optimizer.beta1 (0.9 -> 0.8)",
        "steps (1000 -> 7)",
    ]


def shares_of(name: str, steps: int = 100) -> list[float]:
    schedule = ScheduleConfig(name=name, warmup_steps=10, final_share=0.1, decay_share=0.4)
    return [learning_rate_share(schedule, step, steps) for step in range(steps + 1)]


@pytest.mark.parametrize("name", ["cosine", "warmup_stable_decay", "inverse_sqrt", "constant"])
def test_the_learning_rate_warms_up_to_its_peak_and_never_rises_again(name):
    shares = shares_of(name)
    assert shares[:11] == [pytest.approx((step + 1) / 11) for step in range(11)]
    assert shares[10] == max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)


def test_the_learning_rate_falls_as_the_schedules_name_says():
    assert shares_of("cosine")[55] == pytest.approx(0.55)
    assert shares_of("cosine")[100] == pytest.approx(0.1)
    stable = shares_of("warmup_stable_decay")
    assert stable[10:61] == [1.0] * 51
    assert stable[80] == pytest.approx(0.55)
    assert stable[100] == pytest.approx(0.1)
    assert shares_of("inverse_sqrt")[43] == pytest.approx(0.5)
    assert set(shares_of("constant")[10:]) == {1.0}


def test_a_decay_longer_than_what_warm_up_leaves_starts_at_its_end():
    schedule = ScheduleConfig(name="warmup_stable_decay", warmup_steps=10, final_share=0.0, decay_share=1.0)
    assert learning_rate_share(schedule, 10, 20) == 1.0
    assert learning_rate_share(schedule, 15, 20) == 0.5
