"""Precision: `auto` is float32 on a processor, settled once a run, and what a device can't do is said."""

import json
from dataclasses import replace

import pytest
import torch
from tests.train.small_run import small_recipe

import gpt2lab
from gpt2lab.base.errors import BadOption
from gpt2lab.train.precision import check_precision, with_precision
from gpt2lab.train.recipe import StepConfig, recipe_to_json

CPU = torch.device("cpu")


def test_auto_is_float32_on_a_processor_and_the_run_folder_says_so(tokens_folder, tmp_path):
    recipe = small_recipe(320, 1)
    assert recipe.step.precision == "auto"
    gpt2lab.train(recipe, tokens_folder, tmp_path / "run")
    saved = json.loads((tmp_path / "run/recipe.json").read_text())
    assert saved["step"]["precision"] == "float32"
    assert json.loads((tmp_path / "run/run.json").read_text())["asked"] == saved


def test_a_run_that_goes_on_elsewhere_keeps_the_precision_it_began_with(tmp_path):
    recipe = small_recipe(320, 1)
    began = replace(recipe, step=StepConfig(precision="bfloat16"))
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_to_json(began)))
    assert with_precision(recipe, CPU, tmp_path).step.precision == "bfloat16"
    assert with_precision(recipe, CPU).step.precision == "float32"
    asked = replace(recipe, step=StepConfig(precision="float16"))
    assert with_precision(asked, CPU, tmp_path) == asked


def test_a_precision_that_a_device_cannot_do_is_refused():
    for precision in ("bfloat16", "float16"):
        with pytest.raises(BadOption, match=rf"step\.precision = {precision}: meta can't; use float32"):
            check_precision(precision, torch.device("meta"))
        check_precision(precision, CPU)
    check_precision("float32", torch.device("meta"))
