"""Sequences: each token of a stream is predicted once an epoch, to the last."""

from collections import Counter

import numpy as np
import pytest
from tests.tokens.raw_shards import raw_stream

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.sequences import IGNORED, Sequences, document_numbers, validation_batches
from gpt2lab.tokens.stream import TokenStream


@pytest.mark.parametrize("length", [9, 10, 15, 16, 17, 100])
def test_each_token_is_predicted_exactly_once_an_epoch(tmp_path, length):
    ids = list(range(length))
    sequences = Sequences(raw_stream(tmp_path, [ids[:7], ids[7:]]), 8)
    numbers = np.arange(2 * sequences.sequences, dtype=np.uint64)
    inputs, targets = sequences.read(sequences.places(numbers, b"k"))
    for epoch in (slice(0, sequences.sequences), slice(sequences.sequences, None)):
        counted = targets[epoch][targets[epoch] != IGNORED]
        assert Counter(counted.tolist()) == Counter(ids[1:])
    counted = targets != IGNORED
    assert (targets[counted] == inputs[counted] + 1).all()
    assert counted.any(axis=1).all()


def test_only_the_last_sequence_has_targets_that_do_not_count(tmp_path):
    sequences = Sequences(raw_stream(tmp_path, [list(range(20))]), 8)
    inputs, targets = sequences.read(np.arange(3))
    assert inputs.tolist() == [list(range(8)), list(range(8, 16)), list(range(11, 19))]
    assert targets[2].tolist() == [IGNORED] * 5 + [17, 18, 19]
    assert (targets[:2] != IGNORED).all()


def test_a_document_begins_at_its_end_of_text():
    inputs = np.array([[7, 0, 1, 2, 0, 0, 3], [0, 1, 2, 3, 4, 5, 6]])
    assert document_numbers(inputs, 0).tolist() == [[0, 1, 1, 1, 2, 3, 3], [1] * 7]


def test_validation_sequences_are_spread_and_always_the_same(tokens_folder):
    stream = TokenStream(tokens_folder, "val")
    batches = validation_batches(stream, 16, 3, most=7)
    assert sum(len(inputs) for inputs, _ in batches) == 7
    assert max(len(inputs) for inputs, _ in batches) <= 3
    again = validation_batches(stream, 16, 3, most=7)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_all_of_a_small_held_out_part_is_predicted_once(tmp_path):
    batches = validation_batches(raw_stream(tmp_path, [list(range(30))], split="val"), 8, 3, most=100)
    targets = np.concatenate([targets for _, targets in batches])
    assert sorted(targets[targets != IGNORED].tolist()) == list(range(1, 30))


def test_too_little_text_for_one_context_is_said(tokens_folder):
    with pytest.raises(BadInput, match=r"training tokens .* are fewer than one context"):
        Sequences(TokenStream(tokens_folder, "train"), 10**6)
    with pytest.raises(BadInput, match="held-out"):
        validation_batches(TokenStream(tokens_folder, "val"), 10**6, 1, 1)
