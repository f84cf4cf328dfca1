"""Sampling filters against plain words of what they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gpt2lab.base.errors import BadOption
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import choose_token, filtered_probabilities

LOGITS = torch.tensor([2.0, 1.0, 1.0, 0.0, -1.0, -3.0])


def plain_filter(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    import math

    scaled = [math.exp(logit / temperature) for logit in logits]
    if top_k:
        limit = sorted(scaled, reverse=True)[min(top_k, len(scaled)) - 1]
        scaled = [value if value >= limit else 0.0 for value in scaled]
    probabilities = [value / sum(scaled) for value in scaled]
    kept, total = set(), 0.0
    for n in sorted(range(len(logits)), key=lambda n: -probabilities[n]):
        if total < top_p or top_p == 1:
            kept.add(n)
        total += probabilities[n]
    left = [p if n in kept else 0.0 for n, p in enumerate(probabilities)]
    return [p / sum(left) for p in left]


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=20, unique=True),
    st.sampled_from([0.3, 0.8, 1.0, 2.0]),
    st.integers(0, 25),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_filters_equal_the_plain_reference(logits, temperature, top_k, top_p):
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    ours = filtered_probabilities(torch.tensor(logits), options).float()
    wanted = torch.tensor(plain_filter(logits, temperature, top_k, top_p))
    if ((ours > 0) == (wanted > 0)).all():  # a sum may land on top_p itself, within rounding
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
    else:
        assert abs((ours > 0).sum() - (wanted > 0).sum()) == 1


def test_ties_at_the_kth_place_all_stay():
    assert (filtered_probabilities(LOGITS, SamplingOptions(top_k=2)) > 0).tolist() == [True] * 3 + [False] * 3


def test_top_p_keeps_at_least_the_best_token():
    assert (filtered_probabilities(LOGITS, SamplingOptions(top_p=1e-9)) > 0).sum() == 1


def test_draws_follow_the_probabilities():
    options = SamplingOptions(temperature=0.9, top_k=4)
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(
        torch.tensor([choose_token(LOGITS, options, generator) for _ in range(4000)]), minlength=6
    ).double()
    expected = filtered_probabilities(LOGITS, options).double() * 4000
    kept = expected > 0
    assert counts[~kept].sum() == 0
    assert stats.chisquare(counts[kept], expected[kept] * counts.sum() / expected.sum()).pvalue > 0.001


def test_a_temperature_next_to_0_is_greedy():
    assert filtered_probabilities(LOGITS, SamplingOptions(temperature=1e-300)).tolist() == [1, 0, 0, 0, 0, 0]


def test_temperature_0_is_greedy():
    assert choose_token(LOGITS, SamplingOptions(temperature=0), torch.Generator()) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"max_tokens": -1},
        {"stop": ("",)},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadOption):
        SamplingOptions(**wrong)
