"""The loader: a pure function of seed and step that meets each token once an epoch."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.loader import Loader, permuted, validation_batches
from gpt2lab.tokens.stream import TokenStream


@given(st.integers(1, 3000), st.binary(max_size=8))
def test_the_permutation_meets_each_number_once(size, key):
    assert sorted(permuted(np.arange(size, dtype=np.uint64), size, key).tolist()) == list(range(size))


def test_the_permutation_depends_on_its_key_and_mixes():
    numbers = np.arange(1000, dtype=np.uint64)
    first, second = permuted(numbers, 1000, b"1"), permuted(numbers, 1000, b"2")
    assert (first == second).sum() < 20
    assert (first == numbers).sum() < 20
    assert abs(np.corrcoef(numbers, first)[0, 1]) < 0.1


def test_each_token_is_predicted_once_an_epoch(tokens_folder):
    stream = TokenStream(tokens_folder, "train")
    loader = Loader(stream, context_length=16, batch_size=4, seed=5)
    steps = -(-2 * loader.sequences // 4)
    rows = np.concatenate([loader.batch(step)[1] for step in range(steps)])
    for epoch in (0, 1):
        epoch_rows = rows[epoch * loader.sequences : (epoch + 1) * loader.sequences]
        everything = stream.read(1, loader.sequences * 16)
        assert Counter(map(tuple, epoch_rows.tolist())) == Counter(map(tuple, everything.reshape(-1, 16).tolist()))
    assert (rows[: loader.sequences] != rows[loader.sequences : 2 * loader.sequences]).any()


def test_targets_are_the_inputs_one_later(tokens_folder):
    loader = Loader(TokenStream(tokens_folder, "train"), context_length=16, batch_size=4, seed=5)
    inputs, targets = loader.batch(3)
    assert inputs.shape == targets.shape == (4, 16)
    assert (inputs[:, 1:] == targets[:, :-1]).all()


def test_a_step_is_the_same_whatever_came_before(tokens_folder):
    stream = TokenStream(tokens_folder, "train")
    one, other = (Loader(stream, context_length=16, batch_size=4, seed=5) for _ in range(2))
    for step in range(10):
        one.batch(step)
    assert (one.batch(10)[0] == other.batch(10)[0]).all()
    assert (one.batch(10)[0] != Loader(stream, 16, 4, seed=6).batch(10)[0]).any()


def test_validation_sequences_are_spread_and_always_the_same(tokens_folder):
    stream = TokenStream(tokens_folder, "val")
    batches = validation_batches(stream, 16, 3, most=7)
    assert sum(len(inputs) for inputs, _ in batches) == 7
    assert max(len(inputs) for inputs, _ in batches) <= 3
    again = validation_batches(stream, 16, 3, most=7)
    assert all((a[0] == b[0]).all() for a, b in zip(batches, again, strict=True))


def test_too_little_text_for_one_context_is_said(tokens_folder):
    with pytest.raises(BadInput, match="fewer than one context"):
        Loader(TokenStream(tokens_folder, "train"), context_length=10**6, batch_size=1, seed=0)
    with pytest.raises(BadInput, match="held-out"):
        validation_batches(TokenStream(tokens_folder, "val"), 10**6, 1, 1)
