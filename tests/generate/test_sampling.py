"""Choosing tokens, against plain words of what every option means, the released code's rules, and transformers'."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate import sampling_kernels
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.sampling import Adjustments, History, Sampler

END_OF_TEXT = 0
LOGITS = np.array([0.5, 2.0, 1.0, 1.0, 0.0, -1.0, -3.0, 0.7, 0.2, -0.5, 1.5, -2.0], np.float32)
GPT2_VOCAB = 50257


def plain_probabilities(logits, options, prompt=(), generated=()):
    """The distribution of the next token in plain words, float64 and sorted lists. Temperature is above 0."""
    values = [float(logit) for logit in logits]
    for token in set(prompt) | set(generated):
        if options.repetition_penalty != 1:
            values[token] *= options.repetition_penalty ** (1 if values[token] < 0 else -1)
    for token in set(generated):
        values[token] -= options.presence_penalty + options.frequency_penalty * list(generated).count(token)
    for token, bias in options.logit_bias:
        values[token] += bias
    forbidden = set(options.banned)
    if options.ignore_end_of_text or len(generated) < options.min_tokens:
        forbidden.add(END_OF_TEXT)
    if size := options.no_repeat_ngram:
        text = [*prompt, *generated]
        runs = {tuple(text[n : n + size]) for n in range(len(text) - size + 1)}
        forbidden |= {token for token in range(len(values)) if (*text[len(text) - size + 1 :], token) in runs}
    left = set(range(len(values))) - forbidden
    best = max(values[n] for n in left)
    weights = [math.exp((values[n] - best) / options.temperature) if n in left else 0.0 for n in range(len(values))]
    if options.top_k:
        border = sorted(weights, reverse=True)[: options.top_k][-1]
        weights = [weight if weight >= border else 0.0 for weight in weights]
    weights = plain_fewest(weights, weights, options.top_p)
    least = options.min_p * max(weights)
    weights = [weight if weight >= least else 0.0 for weight in weights]
    total = sum(weights)
    surprises = [-math.log(weight / total) if weight else 0.0 for weight in weights]
    expected = sum(weight / total * surprise for weight, surprise in zip(weights, surprises, strict=True))
    weights = plain_fewest(weights, [-abs(surprise - expected) for surprise in surprises], options.typical_p)
    total = sum(weights)
    return [weight / total for weight in weights]


def plain_fewest(weights, keys, part):
    """The fewest weights, by falling keys, that make this part of the sum; the lower places first among equals."""
    if part == 1:
        return weights
    kept, so_far, enough = [0.0] * len(weights), 0.0, part * sum(weights)
    for n in sorted(range(len(weights)), key=lambda n: (-keys[n], n)):
        if weights[n] and so_far < enough:
            kept[n] = weights[n]
            so_far += weights[n]
    return kept


def draws(logits, options, count, prompt=(), generated=()):
    """How often each token is chosen by `count` sequences that generated the same before."""
    counts = np.zeros(len(logits), np.int64)
    for index in range(count):
        sampler = Sampler(replace(options, forced=tuple(generated)), len(logits), prompt, END_OF_TEXT, index)
        for token in generated:
            assert sampler.choose(logits).token == token
        counts[sampler.choose(logits).token] += 1
    return counts


def fit(counts, probabilities):
    """The chi-square test's p-value, 0 where a token of probability 0 was drawn."""
    counts, expected = np.asarray(counts), np.asarray(probabilities) * np.sum(counts)
    if counts[expected == 0].any():
        return 0.0
    order = np.argsort(expected)
    order = order[expected[order] > 0]
    # Cells of fewer than 5 expected draws are put together.
    cells, together = [], np.zeros(2)
    for n in order:
        together += [counts[n], expected[n]]
        if together[1] >= 5:
            cells.append(together)
            together = np.zeros(2)
    cells[-1] = cells[-1] + together
    seen, wanted = np.array(cells).T
    return stats.chisquare(seen, wanted).pvalue if len(seen) > 1 else 1.0


OPTIONS = {
    "nothing": {},
    "temperature": {"temperature": 0.7},
    "heat": {"temperature": 3.0},
    "top-k": {"top_k": 5},
    "top-k at equals": {"top_k": 4},
    "top-k beyond": {"top_k": 99},
    "top-p": {"top_p": 0.8},
    "top-p small": {"top_p": 0.05},
    "top-p at equals": {"top_p": 0.57},
    "min-p": {"min_p": 0.2},
    "typical": {"typical_p": 0.6},
    "repetition": {"repetition_penalty": 1.7},
    "presence": {"presence_penalty": 0.9},
    "frequency": {"frequency_penalty": 0.6},
    "bias": {"logit_bias": ((6, 4.0), (1, -2.0), (3, -math.inf), (6, 1.0))},
    "banned": {"banned": (1, 10)},
    "no end of text": {"ignore_end_of_text": True},
    "min tokens": {"min_tokens": 5},
    "no repetition of n-grams": {"no_repeat_ngram": 2},
    "all": {
        "temperature": 0.9,
        "top_k": 9,
        "top_p": 0.95,
        "min_p": 0.05,
        "typical_p": 0.9,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": -0.2,
        "logit_bias": ((5, 2.0),),
        "banned": (10,),
        "min_tokens": 9,
    },
}
PROMPT, GENERATED = [6, 1, 10, 1], [7, 3, 3, 1]


@pytest.mark.parametrize("name", OPTIONS)
def test_draws_follow_the_plain_distribution(name):
    options = SamplingOptions(**OPTIONS[name], seed=5)
    counts = draws(LOGITS, options, 4000, PROMPT, GENERATED)
    assert fit(counts, plain_probabilities(LOGITS, options, PROMPT, GENERATED)) > 0.001


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("nothing", "top-k beyond")])
def test_the_chi_square_test_rejects_a_distribution_without_the_option(name):
    options = SamplingOptions(**OPTIONS[name], seed=5)
    counts = draws(LOGITS, options, 4000, PROMPT, GENERATED)
    assert fit(counts, plain_probabilities(LOGITS, SamplingOptions(), PROMPT, GENERATED)) < 1e-6


def test_the_chi_square_test_rejects_a_distribution_a_little_off():
    counts = draws(LOGITS, SamplingOptions(seed=5), 4000)
    for wrong in ({"temperature": 1.2}, {"logit_bias": ((2, 0.25),)}, {"top_k": 11}, {"top_p": 0.99}):
        assert fit(counts, plain_probabilities(LOGITS, SamplingOptions(**wrong))) < 1e-4


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 40}, {"top_k": 5000}, {"top_p": 0.9}, {"min_p": 0.01}, {"typical_p": 0.5}]
)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_draws_from_gpt2s_vocabulary_follow_the_plain_distribution(options, spread):
    logits = np.random.default_rng(1).normal(0, spread, GPT2_VOCAB).astype(np.float32)
    options = SamplingOptions(**options, seed=8)
    sampler = Sampler(options, GPT2_VOCAB, (), END_OF_TEXT)
    counts = np.bincount([sampler.choose(logits).token for _ in range(3000)], minlength=GPT2_VOCAB)
    assert fit(counts, plain_probabilities(logits, options)) > 0.001


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_steps_and_seeds_are_as_good_as_those_of_sequences(seed):
    options = SamplingOptions(seed=seed, top_p=0.8)
    sampler = Sampler(options, len(LOGITS), (), END_OF_TEXT)
    by_step = np.bincount([sampler.choose(LOGITS).token for _ in range(4000)], minlength=len(LOGITS))
    by_seed = np.zeros(len(LOGITS))
    for other in range(4000):
        sampler = Sampler(SamplingOptions(seed=seed + 2**40 * other, top_p=0.8), len(LOGITS), (), END_OF_TEXT)
        by_seed[sampler.choose(LOGITS).token] += 1
    for counts in (by_step, by_seed):
        assert fit(counts, plain_probabilities(LOGITS, options)) > 0.001


def kept(logits, **options):
    """The tokens that our filters keep, by the arrays that draws are made from."""
    options = SamplingOptions(**options)
    filters = (options.top_k, float(options.top_p), float(options.min_p), float(options.typical_p))
    values = np.asarray(logits, np.float32)
    ids, keys, weights, sums, mass = sampling_kernels.filtered(
        values, values.max(), np.float32(1 / options.temperature), *filters
    )
    places = range(len(weights))
    before = [sampling_kernels.weight_before(keys, weights, n, sums) for n in places]
    return {int(ids[n]) if len(ids) else n for n in places if weights[n] > 0 and before[n] < mass}


def plain_kept(logits, **options):
    probabilities = plain_probabilities(np.asarray(logits, np.float32), SamplingOptions(**options))
    return {n for n, probability in enumerate(probabilities) if probability}


# Often equal; and where they are not, float32 tells their probabilities apart.
some_logits = st.lists(st.integers(-500, 500).map(lambda n: n / 64) | st.integers(0, 2), min_size=1, max_size=24)


@given(
    some_logits,
    st.sampled_from([0.3, 0.8, 1.0, 2.0]),
    st.integers(0, 25),
    st.floats(0.01, 0.99) | st.just(1.0),
    st.floats(0.01, 0.99) | st.just(0.0),
    st.floats(0.01, 0.99) | st.just(1.0),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_kept_tokens_are_those_of_the_plain_filters(logits, temperature, top_k, top_p, min_p, typical_p):
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p}

    def with_borders_moved(by):
        moved = {
            "top_p": min(1, top_p * by) if top_p < 1 else 1,
            "min_p": min(1, min_p * by),
            "typical_p": min(1, typical_p * by) if typical_p < 1 else 1,
        }
        return plain_kept(logits, **{**options, **moved})

    # A sum may land on a border itself, within float32's rounding; and equal surprises on both sides be ordered anyhow.
    assume(with_borders_moved(1 - 1e-4) == with_borders_moved(1 + 1e-4) == plain_kept(logits, **options))
    ours, plain = kept(logits, **options), plain_kept(logits, **options)
    if typical_p == 1:
        assert ours == plain
    else:  # surprises as far above the expected one as others are below it: their order is rounding's
        assert ours == plain or near_equal_surprises(logits, options, ours ^ plain)


def near_equal_surprises(logits, options, tokens):
    before = plain_probabilities(np.asarray(logits, np.float32), SamplingOptions(**{**options, "typical_p": 1.0}))
    surprises = {n: -math.log(p) for n, p in enumerate(before) if p}
    expected = sum(before[n] * surprise for n, surprise in surprises.items())
    distances = [abs(surprises[n] - expected) for n in tokens if n in surprises]
    return len(distances) == len(tokens) and max(distances) - min(distances) < 1e-4


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=700), st.integers(1, 800))
@settings(max_examples=200, deadline=None)
def test_the_most_probable_are_those_that_a_sort_finds(values, k):
    values = np.array(values, np.float32)
    k = min(k, len(values))
    ids, found = sampling_kernels.most_probable(values, k)
    wanted = np.flatnonzero(values >= np.sort(values)[-k])
    assert ids.tolist() == wanted.tolist()
    assert found.tolist() == values[wanted].tolist()


@pytest.mark.parametrize("k", [1, 5, 40, 700, 3000, 50256, GPT2_VOCAB])
@pytest.mark.parametrize("kind", ["noise", "rising", "falling", "equal", "banned"])
def test_the_most_probable_of_gpt2s_vocabulary_are_those_that_a_sort_finds(k, kind):
    noise = np.random.default_rng(2).normal(size=GPT2_VOCAB).astype(np.float32)
    values = {
        "noise": noise,
        "rising": np.sort(noise),
        "falling": np.sort(noise)[::-1].copy(),
        "equal": np.zeros_like(noise),
        "banned": np.where(noise > 2.5, noise, -np.inf).astype(np.float32),
    }[kind]
    ids, _ = sampling_kernels.most_probable(values, k)
    assert ids.tolist() == np.flatnonzero(values >= np.sort(values)[-k]).tolist()


# The released code's rules (openai/gpt-2, src/sample.py), in words of our own.


def released_top_k(logits, k):
    return set(np.flatnonzero(logits >= np.sort(logits)[-k]).tolist())


def released_top_p(logits, p):
    falling = np.sort(logits)[::-1]
    so_far = np.cumsum(np.exp(falling) / np.exp(falling).sum(), dtype=np.float32)
    last = max(np.sum(so_far <= p) - 1, 0)
    return set(np.flatnonzero(logits >= falling[last]).tolist())


@given(some_logits, st.integers(1, 24))
def test_top_k_is_the_released_codes_rule(logits, k):
    k = min(k, len(logits))
    assert kept(logits, top_k=k) == released_top_k(np.array(logits, np.float32), k)


def test_equals_at_the_kth_place_all_stay():
    assert kept([2, 1, 1, 0], top_k=2) == {0, 1, 2}


def test_a_k_beyond_the_vocabulary_keeps_all():
    assert kept([2, 1, 1, 0], top_k=5) == kept([2, 1, 1, 0]) == {0, 1, 2, 3}


def test_top_p_keeps_one_token_more_than_the_released_code_where_a_sum_passes_p():
    logits = np.log([0.5, 0.3, 0.15, 0.05]).astype(np.float32)
    assert (kept(logits, top_p=0.7), released_top_p(logits, 0.7)) == ({0, 1}, {0})
    assert (kept(logits, top_p=0.9), released_top_p(logits, 0.9)) == ({0, 1, 2}, {0, 1})


def test_top_p_keeps_what_the_released_code_keeps_where_a_sum_is_p():
    logits = np.log([0.5, 0.25, 0.125, 0.125]).astype(np.float32)
    assert kept(logits, top_p=0.75) == released_top_p(logits, 0.75 + 1e-6) == {0, 1}
    assert kept([1, 1, 1, 1], top_p=0.5) == {0, 1}


def test_top_p_cuts_equals_where_the_released_code_keeps_them_all():
    assert (kept([1, 1, 1, 1], top_p=0.3), released_top_p(np.ones(4), 0.3)) == ({0, 1}, {0, 1, 2, 3})


def test_top_p_keeps_the_most_probable_token_as_the_released_code_does():
    assert kept([2, 1, 0], top_p=1e-9) == released_top_p(np.array([2.0, 1, 0]), 1e-9) == {0}


def test_top_p_1_keeps_all_where_the_released_code_may_not():
    logits = np.random.default_rng(0).normal(0, 3, GPT2_VOCAB).astype(np.float32)
    assert len(kept(logits[:3000], top_p=1.0)) == 3000
    lost = [
        seed
        for seed in range(5)
        if len(released_top_p(np.random.default_rng(seed).normal(0, 0.5, GPT2_VOCAB), 1.0)) < GPT2_VOCAB
    ]
    assert lost


def test_top_p_asks_for_a_part_of_what_top_k_left():
    logits = np.log([0.3, 0.2, 0.2, 0.2, 0.1]).astype(np.float32)
    assert kept(logits, top_p=0.5) == {0, 1}
    assert kept(logits, top_p=0.5, top_k=1) == {0}
    assert kept(np.log([0.4, 0.3, 0.2, 0.1]).astype(np.float32), top_p=0.5, top_k=2) == {0}


# transformers' processors


def processed(processor, scores, ids=()):
    import torch

    ids = torch.tensor([list(ids)], dtype=torch.long)
    return processor(ids, torch.tensor(np.asarray(scores, np.float32))[None])[0].numpy()


@pytest.mark.parametrize("seed", range(5))
def test_filters_keep_what_transformers_keeps(seed):
    from transformers.generation import logits_process

    logits = np.random.default_rng(seed).normal(0, 2, 300).astype(np.float32)
    logits[::7] = logits[3]
    for top_k in (1, 2, 40, 299, 400):
        theirs = processed(logits_process.TopKLogitsWarper(top_k), logits)
        assert kept(logits, top_k=top_k) == set(np.flatnonzero(np.isfinite(theirs)).tolist())
    logits = np.random.default_rng(seed).normal(0, 2, 300).astype(np.float32)
    for part in (0.01, 0.3, 0.9, 0.999):
        theirs = processed(logits_process.TopPLogitsWarper(part), logits)
        assert kept(logits, top_p=part) == set(np.flatnonzero(np.isfinite(theirs)).tolist())
        theirs = processed(logits_process.TypicalLogitsWarper(part), logits)
        assert kept(logits, typical_p=part) == set(np.flatnonzero(np.isfinite(theirs)).tolist())
        theirs = processed(logits_process.MinPLogitsWarper(part), logits)
        assert kept(logits, min_p=part) == set(np.flatnonzero(np.isfinite(theirs)).tolist())
    warped = processed(logits_process.TemperatureLogitsWarper(0.8), logits)
    for warper in (
        logits_process.TopKLogitsWarper(50),
        logits_process.TopPLogitsWarper(0.9),
        logits_process.MinPLogitsWarper(0.05),
        logits_process.TypicalLogitsWarper(0.7),
    ):
        warped = processed(warper, warped)
    ours = kept(logits, temperature=0.8, top_k=50, top_p=0.9, min_p=0.05, typical_p=0.7)
    assert ours == set(np.flatnonzero(np.isfinite(warped)).tolist())


@pytest.mark.parametrize("penalty", [0.5, 1.3, 10.0])
def test_penalties_and_bans_are_those_of_transformers(penalty):
    from transformers.generation import logits_process

    ids = [*PROMPT, *GENERATED]

    def ours(**options):
        options = SamplingOptions(**options)
        history = History(options, PROMPT)
        for token in GENERATED:
            history.push(token)
        return Adjustments(options, len(LOGITS), END_OF_TEXT).applied(LOGITS, history)

    theirs = processed(logits_process.RepetitionPenaltyLogitsProcessor(penalty), LOGITS, ids)
    np.testing.assert_allclose(ours(repetition_penalty=penalty), theirs, rtol=1e-6)
    for size in (2, 3, 4, 20):
        theirs = processed(logits_process.NoRepeatNGramLogitsProcessor(size), LOGITS, ids)
        np.testing.assert_array_equal(ours(no_repeat_ngram=size), theirs)
    theirs = processed(logits_process.SuppressTokensLogitsProcessor([1, 5]), LOGITS, ids)
    np.testing.assert_array_equal(ours(banned=(1, 5)), theirs)
    theirs = processed(logits_process.SequenceBiasLogitsProcessor({(4,): -1.5, (9,): 2.5}), LOGITS, ids)
    np.testing.assert_allclose(ours(logit_bias=((4, -1.5), (9, 2.5))), theirs, rtol=1e-6)
    for least in (len(GENERATED), len(GENERATED) + 1):
        minimum = logits_process.MinNewTokensLengthLogitsProcessor(len(PROMPT), least, END_OF_TEXT)
        np.testing.assert_array_equal(ours(min_tokens=least), processed(minimum, LOGITS, ids))


# Random numbers


def test_random_numbers_are_philox():
    """The known answers that come with Random123, the library of the method's authors."""
    assert sampling_kernels.philox(0, 0, 0, 0) == (0x6627E8D5, 0xE169C58D)
    ones = 2**32 - 1, 2**32 - 1, np.uint64(2**64 - 1)
    assert sampling_kernels.philox(np.uint64(2**64 - 1), *ones) == (0x408F276D, 0x41C83B0E)
    pi = 0x243F6A88, 0x85A308D3, 0x0370734413198A2E
    assert sampling_kernels.philox(0x299F31D0A4093822, *pi) == (0xD16CFE09, 0x94FDCCEB)


def texts_of(samplers, logits=LOGITS, steps=30):
    texts = [[] for _ in samplers]
    for _ in range(steps):
        for sampler, text in zip(samplers, texts, strict=True):
            text.append(sampler.choose(logits).token)
    return texts


def test_a_sequences_tokens_depend_on_its_seed_and_index_alone():
    def sampler(seed, index, prompt=()):
        return Sampler(SamplingOptions(seed=seed, top_p=0.9), len(LOGITS), prompt, END_OF_TEXT, index)

    together = texts_of([sampler(1, 0), sampler(1, 1), sampler(2, 0), sampler(2**62 + 1, 0)])
    assert len({tuple(text) for text in together}) == 4
    assert texts_of([sampler(2, 0, [3, 4])]) == [together[2]]
    assert texts_of([sampler(1, 1), sampler(1, 0)]) == [together[1], together[0]]


def test_a_step_is_drawn_alike_whatever_the_steps_before_it_needed():
    forced = Sampler(SamplingOptions(seed=1, forced=(3,) * 10), len(LOGITS), (), END_OF_TEXT)
    free = Sampler(SamplingOptions(seed=1), len(LOGITS), (), END_OF_TEXT)
    assert texts_of([forced])[0][10:] == texts_of([free])[0][10:]


def test_the_array_may_be_read_only_or_strided_and_is_never_written():
    logits = LOGITS.copy()
    logits.flags.writeable = False
    strided = np.repeat(LOGITS, 2)[::2]
    options = SamplingOptions(repetition_penalty=1.3, logprobs=2, seed=3)
    samplers = [Sampler(options, len(LOGITS), PROMPT, END_OF_TEXT) for _ in range(3)]
    assert (
        len(
            {tuple(sampler.choose(values)) for sampler, values in zip(samplers, (LOGITS, logits, strided), strict=True)}
        )
        == 1
    )


# Greedy, forced, log-probabilities


def test_temperature_0_takes_the_greatest_logit_and_the_lowest_id_among_equals():
    logits = np.array([0, 3, 1, 3], np.float32)
    sampler = Sampler(SamplingOptions(temperature=0, top_k=2, top_p=0.1), 4, (), END_OF_TEXT)
    assert [sampler.choose(logits).token for _ in range(3)] == [1, 1, 1]


def test_penalties_act_on_greedy_choices():
    sampler = Sampler(SamplingOptions(temperature=0, frequency_penalty=0.3), len(LOGITS), (), END_OF_TEXT)
    assert [sampler.choose(LOGITS).token for _ in range(5)] == [1, 1, 10, 1, 10]


@pytest.mark.parametrize("temperature", [1e-30, 1e-300, 5e-324])
def test_a_temperature_next_to_0_is_greedy(temperature):
    sampler = Sampler(SamplingOptions(temperature=temperature), len(LOGITS), (), END_OF_TEXT)
    assert {sampler.choose(LOGITS).token for _ in range(50)} == {1}


@pytest.mark.parametrize("options", [{}, {"banned": (3,)}, {"banned": (1,)}, {"temperature": 1.0}, {"min_tokens": 2}])
def test_a_greatest_logit_that_is_known_changes_nothing(options):
    """Nor one that was looked for among more logits than these, of which one is not finite."""
    asked = SamplingOptions(**{"temperature": 0.0} | options)
    wanted, known, broken = (Sampler(asked, len(LOGITS), (), END_OF_TEXT) for _ in range(3))
    for _ in range(5):
        token = wanted.choose(LOGITS).token
        assert known.choose(LOGITS, 1).token == broken.choose(LOGITS, -1).token == token


@pytest.mark.parametrize("temperature", [1e30, 1e300])
def test_a_temperature_without_end_chooses_evenly_and_still_never_what_is_banned(temperature):
    options = SamplingOptions(temperature=temperature, banned=(1, 2), typical_p=0.999)
    counts = draws(LOGITS, options, 3000)
    assert fit(counts, [0 if n in (1, 2) else 0.1 for n in range(12)]) > 0.001


def test_forced_tokens_come_first_whatever_forbids_them():
    options = SamplingOptions(forced=(6, 0, 6), banned=(6,), ignore_end_of_text=True, temperature=0, logprobs=0)
    sampler = Sampler(options, len(LOGITS), (), END_OF_TEXT)
    choices = [sampler.choose(LOGITS) for _ in range(4)]
    assert [choice.token for choice in choices] == [6, 0, 6, 1]
    assert choices[0].logprob == pytest.approx(math.log(plain_probabilities(LOGITS, SamplingOptions())[6]), abs=1e-5)


@pytest.mark.parametrize("more", [{}, {"temperature": 0}, {"temperature": 0.3, "top_k": 2, "repetition_penalty": 2.0}])
def test_log_probabilities_are_the_models_own(more):
    plain = np.log(plain_probabilities(LOGITS, SamplingOptions()))
    sampler = Sampler(SamplingOptions(logprobs=4, **more), len(LOGITS), [1, 2], END_OF_TEXT)
    for _ in range(5):
        choice = sampler.choose(LOGITS)
        assert choice.logprob == pytest.approx(plain[choice.token], abs=1e-5)
        assert [token for token, _ in choice.alternatives] == [1, 10, 2, 3]
        assert [logprob for _, logprob in choice.alternatives] == pytest.approx(plain[[1, 10, 2, 3]], abs=1e-5)


def test_alternatives_are_as_many_as_asked_for_even_among_equals():
    sampler = Sampler(SamplingOptions(logprobs=3), len(LOGITS), (), END_OF_TEXT)
    assert [token for token, _ in sampler.choose(LOGITS).alternatives] == [1, 10, 2]
    sampler = Sampler(SamplingOptions(logprobs=99), len(LOGITS), (), END_OF_TEXT)
    assert sorted(token for token, _ in sampler.choose(LOGITS).alternatives) == list(range(12))


def test_log_probabilities_are_there_only_where_they_are_needed():
    def choice(**options):
        return Sampler(SamplingOptions(**options), len(LOGITS), (), END_OF_TEXT).choose(LOGITS)

    assert choice().logprob is None
    assert choice(best_of=2).logprob is not None
    assert choice(logprobs=0).alternatives == ()


@pytest.mark.parametrize("size", [1, 2, 511, 512, 513, 1024])
@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_p": 0.5}, {"typical_p": 0.5}, {"temperature": 0}])
def test_vocabularies_of_any_size(size, options):
    logits = np.zeros(size, np.float32)
    sampler = Sampler(SamplingOptions(logprobs=1, **options), size, (), END_OF_TEXT)
    choices = [sampler.choose(logits) for _ in range(20)]
    assert all(0 <= choice.token < size for choice in choices)
    assert choices[0].logprob == pytest.approx(-math.log(size), abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"logit_bias": ((1, 1e300), (2, 1e39), (3, -1e300))},
        {"repetition_penalty": 1e-320},
        {"repetition_penalty": 1e300},
        {"presence_penalty": -1e308, "frequency_penalty": 1e308},
        {"frequency_penalty": -1e308, "logit_bias": ((1, -math.inf), (3, -math.inf), (7, 1e308))},
    ],
)
@pytest.mark.parametrize("more", [{}, {"temperature": 0}, {"top_p": 0.9}, {"typical_p": 0.9}])
def test_options_beyond_float32_are_brought_inside(options, more):
    sampler = Sampler(SamplingOptions(**options, **more), len(LOGITS), PROMPT, END_OF_TEXT)
    tokens = [sampler.choose(LOGITS).token for _ in range(20)]
    banned = {token for token, bias in options.get("logit_bias", ()) if bias < -1e38}
    assert not banned & set(tokens)
    assert all(0 <= token < len(LOGITS) for token in tokens)


def test_no_repeat_ngram_gives_way_where_nothing_else_is_left():
    sampler = Sampler(SamplingOptions(no_repeat_ngram=2, temperature=0), 2, (), END_OF_TEXT)
    tokens = [sampler.choose(np.array([1, 0], np.float32)).token for _ in range(8)]
    assert tokens == [0, 0, 1, 0, 0, 0, 0, 0]


# What can't be


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 11])
@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"forced": (3,)}, {"banned": (7,)}])
def test_logits_that_are_not_numbers_are_told(wrong, place, options):
    logits = LOGITS.copy()
    logits[place] = wrong
    with pytest.raises(BadInput, match="not numbers: its weights are broken"):
        Sampler(SamplingOptions(**options), len(LOGITS), (), END_OF_TEXT).choose(logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"banned": (12,)}, "--banned 12: no such token; the vocabulary has 12, ids 0 to 11."),
        ({"forced": (3, -1)}, "--forced -1: no such token; the vocabulary has 12, ids 0 to 11."),
        ({"logit_bias": ((99, 1.0),)}, "--logit-bias 99: no such token; the vocabulary has 12, ids 0 to 11."),
    ],
)
def test_ids_outside_the_vocabulary_are_named(options, message):
    with pytest.raises(BadOption) as caught:
        Sampler(SamplingOptions(**options), 12, (), END_OF_TEXT)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options",
    [
        {"banned": tuple(range(12))},
        {"banned": tuple(range(1, 12)), "ignore_end_of_text": True},
        {"banned": tuple(range(1, 12)), "min_tokens": 1},
        {"logit_bias": tuple((token, -math.inf) for token in range(12))},
    ],
)
def test_options_that_leave_no_token_are_refused(options):
    with pytest.raises(BadOption, match="forbid all 12 tokens: leave at least one"):
        Sampler(SamplingOptions(**options), 12, (), END_OF_TEXT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"typical_p": 0},
        {"repetition_penalty": 0},
        {"presence_penalty": math.nan},
        {"logit_bias": ((1, math.inf),)},
        {"max_tokens": -1},
        {"min_tokens": -1},
        {"min_tokens": 129},
        {"forced": (1, 2), "max_tokens": 1},
        {"no_repeat_ngram": 1},
        {"no_repeat_ngram": -2},
        {"stop": ("",)},
        {"n": 0},
        {"n": 3, "best_of": 2},
        {"n": 3, "beams": 2},
        {"beams": 2, "best_of": 2},
        {"logprobs": -1},
        {"seed": 2**63},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadOption):
        SamplingOptions(**wrong)


def test_a_sampler_imports_neither_torch_nor_for_greedy_choices_numba():
    code = (
        "import sys, numpy as np; from gpt2lab.generate.sampling import Sampler;"
        "from gpt2lab.generate.options import SamplingOptions;"
        "Sampler(SamplingOptions(temperature=0), 3, (), 0).choose(np.zeros(3, np.float32));"
        "assert not {'torch', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
