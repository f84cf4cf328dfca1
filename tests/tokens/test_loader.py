"""The loader: a pure function of seed and step, whatever the ranks, and each source at its weight."""

from collections import Counter

import numpy as np
import pytest
from tests.tokens.raw_shards import raw_stream

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.tokens.connor_windows import ConnorWindows
from gpt2lab.tokens.loader import Loader
from gpt2lab.tokens.sequences import IGNORED, Sequences
from gpt2lab.tokens.stream import TokenStream


@pytest.fixture(scope="module")
def stream(tokens_folder):
    return TokenStream(tokens_folder, "train")


@pytest.fixture
def mixture(tmp_path):
    """A function from a seed to a loader of 0.7 of one folder (uint16) and 0.3 of another (uint32)."""
    first = Sequences(raw_stream(tmp_path / "a", [list(range(1, 200))]), 8)
    second = Sequences(raw_stream(tmp_path / "b", [list(range(300, 400))], dtype="uint32"), 8)
    return lambda seed: Loader([first, second], batch_size=12, seed=seed, weights=[0.7, 0.3])


def test_targets_are_the_inputs_one_later(stream):
    inputs, targets = Loader([Sequences(stream, 16)], batch_size=4, seed=5).batch(3)
    assert inputs.shape == targets.shape == (4, 16)
    assert inputs.dtype == targets.dtype == np.int64
    assert (inputs[:, 1:] == targets[:, :-1]).all()


def test_a_step_is_the_same_whatever_came_before(stream, mixture):
    for make in (lambda seed: Loader([Sequences(stream, 16)], 4, seed), mixture):
        one, other = make(5), make(5)
        for step in range(10):
            one.batch(step)
        for step in (10, 10_000, 3):
            assert (one.batch(step) == other.batch(step)).all()
        assert (one.batch(10) != make(6).batch(10)).any()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 12])
def test_any_number_of_ranks_gives_the_same_global_order(mixture, ranks):
    loader = mixture(1)
    for step in (0, 7, 83, 84):  # sequences 996 to 1007 of step 83 lie in two blocks of the mixture
        shares = [mixture(1).batch(step, rank, ranks) for rank in range(ranks)]
        assert {share.shape for share in shares} == {(2, 12 // ranks, 8)}
        assert (np.concatenate(shares, axis=1) == loader.batch(step)).all()


def test_a_batch_that_does_not_divide_among_the_ranks_is_refused(mixture):
    with pytest.raises(BadOption, match="12 sequences can't be divided among 5 ranks"):
        mixture(0).batch(0, 0, 5)


def test_each_source_of_a_mixture_has_its_weight_and_its_own_epochs(mixture):
    loader = mixture(3)
    targets = np.concatenate([loader.batch(step)[1] for step in range(250)])  # 3,000 sequences
    last = targets[:, -1]
    assert [int((block < 300).sum()) for block in last.reshape(3, 1000)] == [700, 700, 700]
    first, second = targets[last < 300], targets[last >= 300]
    for rows, wanted in ((first, range(2, 200)), (second, range(301, 400))):
        epoch = -(-len(wanted) // 8)
        for number in range(len(rows) // epoch):
            counted = rows[number * epoch : (number + 1) * epoch]
            assert Counter(counted[counted != IGNORED].tolist()) == Counter(wanted)


def test_weights_are_one_a_source(stream):
    with pytest.raises(BadOption, match="2 weights for 1 sources"):
        Loader([Sequences(stream, 16)], 4, 0, [0.5, 0.5])


def test_the_connor_mixture_is_a_pure_function_too(stream):
    def loader() -> Loader:
        sources = [ConnorWindows(stream, 16, 3, 5), ConnorWindows(stream, 16, 2, 10)]
        return Loader(sources, 8, 2, [0.3, 0.7])

    one = loader()
    for step in (0, 1, 124, 125, 9):
        assert (one.batch(step) == loader().batch(step)).all()


def test_a_batch_with_an_id_beyond_the_vocabulary_names_the_file(tmp_path):
    source = Sequences(raw_stream(tmp_path, [[*range(20), 77, *range(20)]], vocab_size=50), 40)
    with pytest.raises(BadInput, match=r"train_00000\.bin: token 20 is 77"):
        Loader([source], 1, 0).batch(0)
