"""Mixtures: exact in every thousand sequences, and no source loses its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.tokens.mixture import BLOCK, apportioned, block_counts, block_sources


@given(st.integers(0, 5000), st.lists(st.floats(0.001, 1e6), min_size=1, max_size=8))
def test_apportioned_counts_add_up_and_are_within_one_of_the_exact_share(total, weights):
    counts = apportioned(total, weights)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1 + 1e-6


def test_equal_remainders_go_to_the_first():
    assert apportioned(10, [1, 1, 1]) == [4, 3, 3]
    assert apportioned(1000, [0.7, 0.3]) == [700, 300]


def test_each_block_has_exactly_the_counts_and_each_source_goes_on_where_it_was():
    counts = [700, 295, 5]
    seen: list[list[int]] = [[], [], []]
    orders = set()
    for block in range(4):
        sources, numbers = block_sources(block, counts, b"k")
        assert np.bincount(sources).tolist() == counts
        orders.add(tuple(sources.tolist()))
        for source in range(3):
            seen[source] += numbers[sources == source].tolist()
    assert len(orders) == 4
    for source, count in enumerate(counts):
        assert seen[source] == list(range(4 * count))


def test_a_weight_that_would_never_be_read_is_refused():
    assert block_counts([999, 1]) == [BLOCK - 1, 1]
    with pytest.raises(BadOption, match="would never be read"):
        block_counts([9999, 1])
