"""Intervals hold the true value as often as they say, for few items too; no figure is infinite."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from gpt2lab.evaluate.comparison import compare_metric
from gpt2lab.evaluate.statistics import bits_per, perplexity, ratio


@pytest.mark.parametrize("items", [2, 3, 5, 20])
def test_an_interval_of_few_items_holds_the_true_value_in_95_of_100_cases(items):
    generator = np.random.default_rng(1)
    found = [ratio("x", generator.normal(10, 1, items).tolist(), [1] * items) for _ in range(300)]
    assert sum(one.low <= 10 <= one.high for one in found) / 300 > 0.9


@pytest.mark.parametrize("items", [2, 3, 5])
def test_models_that_are_alike_do_not_differ_on_few_items(items):
    generator = np.random.default_rng(2)
    different = 0
    for _ in range(60):
        rows = [[{"nats": nats, "units": 1} for nats in generator.normal(10, 1, items).tolist()] for _ in range(2)]
        metrics = [perplexity("perplexity", [row["nats"] for row in one], [1] * items) for one in rows]
        different += compare_metric(*metrics, *rows).better != "neither"
    assert different <= 6


def test_a_text_that_hardly_has_such_units_has_a_perplexity_that_can_be_written():
    for metric in (
        perplexity("word_perplexity", [9000.0, 8000.0], [1, 1]),
        perplexity("word_perplexity", [90.0, 80.0, 85.0], [30, 0, 0]),
        perplexity("word_perplexity", [90.0, 80.0], [0, 0]),
    ):
        assert math.isfinite(metric.value)
        json.dumps(asdict(metric), allow_nan=False)


def test_one_item_has_no_error():
    assert bits_per("bits_per_byte", [math.log(2)], [1]).standard_error is None
