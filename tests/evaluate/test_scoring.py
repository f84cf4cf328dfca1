"""Scores equal those of a straightforward unbatched pass."""

import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.scoring import Pair, log_likelihoods


def plain_log_likelihoods(network, pair: Pair) -> list[float]:
    ids = [*pair.context, *pair.continuation]
    read = ids[:-1][-network.config.context_length :]
    with torch.inference_mode():
        log_probabilities = network(torch.tensor([read]))[0].log_softmax(-1)
    count = len(pair.continuation)
    return [float(row[token]) for row, token in zip(log_probabilities[-count:], pair.continuation, strict=True)]


def test_scores_equal_the_plain_reference_in_the_order_given(small_model):
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for context, continuation in ((1, 1), (30, 2), (5, 20), (31, 1), (60, 3), (2, 30), (1, 32)):
        ids = torch.randint(0, 320, (context + continuation,), generator=generator).tolist()
        pairs.append(Pair(tuple(ids[:context]), tuple(ids[context:])))
    for ours, pair in zip(log_likelihoods(small_model.network, pairs), pairs, strict=True):
        assert ours == pytest.approx(plain_log_likelihoods(small_model.network, pair), abs=1e-4)


def test_a_shared_context_changes_no_score(small_model):
    generator = torch.Generator().manual_seed(1)
    draw = lambda count: tuple(torch.randint(0, 320, (count,), generator=generator).tolist())  # noqa: E731
    for context in (draw(1), draw(20), draw(31)):
        pairs = [Pair(context, draw(count)) for count in (1, 3, 12, 1)]
        for ours, pair in zip(log_likelihoods(small_model.network, pairs), pairs, strict=True):
            assert ours == pytest.approx(plain_log_likelihoods(small_model.network, pair), abs=1e-4)


def test_a_continuation_longer_than_the_context_is_refused(small_model):
    with pytest.raises(BadInput, match="33 tokens"):
        log_likelihoods(small_model.network, [Pair((1,), (2,) * 33)])


def test_an_empty_context_is_refused(small_model):
    with pytest.raises(BadInput, match="context of 0"):
        log_likelihoods(small_model.network, [Pair((), (2,))])
