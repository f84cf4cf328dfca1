"""Recipes: named ones, files, and clear words for what is wrong in them."""

import json
from dataclasses import replace

import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.train.recipe import (
    DataConfig,
    ScheduleConfig,
    changed_keys,
    find_recipe,
    laptop,
    paper,
    recipe_from_json,
    recipe_to_json,
)
from gpt2lab.train.schedule import learning_rate_share


@pytest.mark.parametrize("recipe", [paper(), paper("1542M"), laptop(), laptop("micro", 300)])
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


def test_the_paper_batch_is_512_sequences_of_1024_tokens():
    recipe = paper()
    assert recipe.batch.sequences * recipe.batch.accumulation == 512
    assert recipe.model.context_length == 1024


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 1}, "unknown key learning_rate"),
        ({"optimizer": {"learning_rte": 1.0}}, r"unknown key optimizer\.learning_rte; the keys here are learning_rate"),
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
    ],
)
def test_a_wrong_key_or_value_is_named(change, words):
    with pytest.raises(BadOption, match=words):
        recipe_from_json(recipe_to_json(laptop()) | change, "mine.json")


def test_a_missing_key_is_named():
    with pytest.raises(BadOption, match="'model'"):
        recipe_from_json({"name": "x"}, "mine.json")


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(BadOption, match="paper, laptop"):
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


def test_the_learning_rate_warms_up_and_falls_to_its_final_share():
    schedule = ScheduleConfig(warmup_steps=10, final_share=0.1)
    shares = [learning_rate_share(schedule, step, 100) for step in range(101)]
    assert shares[:11] == sorted(shares[:11])
    assert shares[0] == pytest.approx(1 / 11)
    assert shares[10] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0.1)
