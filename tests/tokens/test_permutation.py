"""Seeded orders: each number once, and nothing to see in them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.tokens.permutation import permuted, permuted_by_epoch, random_below


@given(st.integers(1, 3000), st.binary(max_size=8))
def test_the_permutation_meets_each_number_once(size, key):
    assert sorted(permuted(np.arange(size, dtype=np.uint64), size, key).tolist()) == list(range(size))


def test_the_permutation_depends_on_its_key_and_mixes():
    numbers = np.arange(1000, dtype=np.uint64)
    first, second = permuted(numbers, 1000, b"1"), permuted(numbers, 1000, b"2")
    assert (first == second).sum() < 20
    assert (first == numbers).sum() < 20
    assert abs(np.corrcoef(numbers, first)[0, 1]) < 0.1


def test_each_epoch_has_an_order_of_its_own():
    numbers = np.arange(300, dtype=np.uint64)
    orders = permuted_by_epoch(numbers % np.uint64(100), numbers // np.uint64(100), 100, b"k").reshape(3, 100)
    assert (np.sort(orders) == np.arange(100)).all()
    assert len({tuple(order) for order in orders.tolist()}) == 3


def test_random_numbers_fill_their_limits_evenly():
    numbers = np.arange(60_000, dtype=np.uint64)
    drawn = random_below(numbers, np.full(60_000, 6), b"dice")
    assert drawn.min() == 0
    assert drawn.max() == 5
    assert abs(np.bincount(drawn) - 10_000).max() < 400  # 4.4 standard deviations
    assert (drawn != random_below(numbers, np.full(60_000, 6), b"other")).any()
