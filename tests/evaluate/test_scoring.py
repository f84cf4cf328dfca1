"""Scores equal those of a straightforward unbatched pass."""

import copy
import math
import random
import time

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate import scoring
from gpt2lab.evaluate.scoring import BannedTokens, Pair, log_likelihoods, predict_seconds, score


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


def test_any_mixture_of_shared_beginnings_changes_no_score(small_model, monkeypatch):
    chooser = random.Random(2)
    stems = [[chooser.randrange(320) for _ in range(40)] for _ in range(4)]
    pairs = []
    for _ in range(120):
        ids = chooser.choice(stems)[: chooser.randrange(1, 40)] + [
            chooser.randrange(320) for _ in range(chooser.randrange(0, 6))
        ]
        border = chooser.randrange(1, len(ids)) if len(ids) > 1 else 0
        if border and len(ids) - border <= 32:
            pairs.append(Pair(ids[:border], np.array(ids[border:])))
    pairs += pairs[:5]
    expected = [plain_log_likelihoods(small_model.network, pair) for pair in pairs]
    for tokens_a_pack in (1, 64, 4096):
        monkeypatch.setattr(scoring, "TOKENS_A_PACK", tokens_a_pack)
        for ours, plain in zip(log_likelihoods(small_model.network, pairs), expected, strict=True):
            assert ours == pytest.approx(plain, abs=1e-4)


def test_banned_tokens_are_left_out_of_what_may_be_chosen(small_model):
    generator = torch.Generator().manual_seed(5)
    first, later = torch.rand(320, generator=generator) < 0.5, torch.rand(320, generator=generator) < 0.1
    first[:20] = later[:20] = False
    pairs = [Pair((7, n), (n + 1, n + 2)) for n in range(10)]
    for found, pair in zip(score(small_model.network, pairs, banned=BannedTokens(first, later)), pairs, strict=True):
        logits = small_model.network(torch.tensor([[*pair.context, pair.continuation[0]]]))[0, -2:]
        for place, mask in enumerate((first, later)):
            allowed = logits[place].detach().masked_fill(mask, -torch.inf).log_softmax(-1)
            token = pair.continuation[place]
            assert found.allowed_log_probs[place] == pytest.approx(float(allowed[token]), abs=1e-4)
            assert found.allowed_best[place] == (int(allowed.argmax()) == token)
            assert found.best[place] == (int(logits[place].argmax()) == token)


def test_a_banned_token_is_never_the_answer_however_probable(small_model):
    best = int(small_model.network(torch.tensor([[7, 8]]))[0, -1].argmax())
    banned = torch.arange(320) == best
    (found,) = score(small_model.network, [Pair((7, 8), (best,))], banned=BannedTokens(banned, banned))
    assert found.best == (True,)
    assert found.allowed_best == (False,)
    assert found.allowed_log_probs == (-math.inf,)


def test_of_equal_tokens_the_first_is_the_best(small_model):
    network = copy.deepcopy(small_model.network)
    with torch.no_grad():
        network.wte.weight.zero_()
    none = torch.zeros(320, dtype=torch.bool)
    (found,) = score(network, [Pair((7, 8), (0, 5))], banned=BannedTokens(none, none))
    assert found.best == found.allowed_best == (True, False)


def test_what_was_cut_off_a_long_context_is_told(small_model):
    (found,) = score(small_model.network, [Pair(tuple(range(40)), (1, 2))])
    assert found.truncated == 40 + 2 - 33


def test_predicted_time_is_of_the_order_of_the_real_one(small_model, monkeypatch):
    monkeypatch.setattr(scoring.time, "perf_counter", time.process_time)  # a busy machine lets either of them wait
    draw = np.random.default_rng(0)
    pairs = [Pair(draw.integers(0, 320, n % 20 + 1), draw.integers(0, 320, 10)) for n in range(3000)]
    seconds = predict_seconds(small_model.network, [pairs[:1000], pairs[1000:]])
    start = time.process_time()
    score(small_model.network, pairs)
    assert seconds == pytest.approx(time.process_time() - start, rel=0.8)


def test_broken_weights_are_told_in_one_line(small_model):
    network = copy.deepcopy(small_model.network)
    with torch.no_grad():
        network.h[0].mlp.c_fc.weight[3, 3] = torch.nan
    with pytest.raises(BadInput, match="not numbers"):
        score(network, [Pair((1, 2), (3,))])


def test_a_continuation_longer_than_the_context_is_refused(small_model):
    with pytest.raises(BadInput, match="33 tokens"):
        log_likelihoods(small_model.network, [Pair((1,), (2,) * 33)])


def test_an_empty_context_is_refused(small_model):
    with pytest.raises(BadInput, match="context of 0"):
        log_likelihoods(small_model.network, [Pair((), (2,))])
