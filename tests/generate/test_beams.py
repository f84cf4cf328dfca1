"""Beam search against transformers' on small random networks."""

from dataclasses import replace

import numpy as np
import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate.beams import BeamSearch
from gpt2lab.generate.options import SamplingOptions

VOCAB, END_OF_TEXT, PROMPT = 40, 39, [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def networks():
    """Small random GPT-2s of transformers, by seed; their texts end now and then."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    made = {}

    def network(seed):
        if seed not in made:
            torch.manual_seed(seed)
            config = GPT2Config(
                vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=2, n_head=2, eos_token_id=END_OF_TEXT,
                bos_token_id=END_OF_TEXT, initializer_range=0.4,
            )  # fmt: skip
            made[seed] = GPT2LMHeadModel(config).eval()
            with torch.no_grad():
                toward_the_end = made[seed].transformer.wte.weight[END_OF_TEXT]
                made[seed].transformer.ln_f.bias += 0.7 * toward_the_end
        return made[seed]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of so little work, sharing it takes longer than doing it
    yield network
    torch.set_num_threads(threads)


def search(network, options, ends_in_stop=None):
    """Our beam search, the logits always read from the whole text."""
    import torch

    beams = BeamSearch(options, VOCAB, PROMPT, END_OF_TEXT)
    texts, steps = [PROMPT], 0
    while not beams.done:
        with torch.inference_mode():
            logits_BV = network(torch.tensor(texts)).logits[:, -1].numpy()
        parents = beams.advance(logits_BV, ends_in_stop)
        texts = [[*texts[n], beam.last_token] for n, beam in zip(parents, beams.live, strict=True)]
        steps += 1
    return beams.hypotheses, steps


def transformers_search(network, options, **more):
    """The continuations that transformers finds, without what ends or pads them, and their scores."""
    import torch

    found = network.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        do_sample=False,
        num_beams=options.beams,
        num_return_sequences=options.n,
        length_penalty=options.length_penalty,
        early_stopping=False,
        max_new_tokens=options.max_tokens,
        pad_token_id=END_OF_TEXT,
        return_dict_in_generate=True,
        output_scores=True,
        **more,
    )
    texts = [tokens[len(PROMPT) :] for tokens in found.sequences.tolist()]
    return [text[: text.index(END_OF_TEXT)] if END_OF_TEXT in text else text for text in texts], found.sequences_scores


def assert_same(ours, theirs):
    texts, scores = theirs
    assert [[choice.token for choice in found.choices] for found in ours[: len(texts)]] == texts
    np.testing.assert_allclose([found.score for found in ours[: len(texts)]], scores, rtol=1e-4)


def test_beams_are_those_of_transformers(networks):
    reasons, steps_taken = set(), set()
    for seed in range(6):
        for beams, length_penalty in [(2, 1.0), (3, 2.0), (4, -1.0), (6, 0.0)]:
            options = SamplingOptions(max_tokens=10, beams=beams, n=beams, length_penalty=length_penalty)
            ours, steps = search(networks(seed), options)
            assert_same(ours, transformers_search(networks(seed), options))
            reasons |= {found.finish_reason for found in ours}
            steps_taken.add(steps)
    # Some ended by themselves, some by length; some searches were over early.
    assert reasons == {"end_of_text", "length"}
    assert min(steps_taken) < 6 < max(steps_taken) == 10


def test_beams_are_not_those_of_another_length_penalty(networks):
    same = 0
    for seed in range(4):
        ours, _ = search(networks(seed), SamplingOptions(max_tokens=10, beams=3, n=3, length_penalty=1.0))
        theirs, _ = transformers_search(
            networks(seed), SamplingOptions(max_tokens=10, beams=3, n=3, length_penalty=-1.0)
        )
        same += [[choice.token for choice in found.choices] for found in ours] == theirs
    assert same < 4


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        ({"min_tokens": 7}, {"min_new_tokens": 7}),
        ({"banned": (4, 8, 15)}, {"suppress_tokens": [4, 8, 15]}),
        ({"logit_bias": ((7, 2.0), (9, -3.0))}, {"sequence_bias": {(7,): 2.0, (9,): -3.0}}),
        (
            {"repetition_penalty": 1.2, "no_repeat_ngram": 3, "banned": (1,), "min_tokens": 3},
            {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "suppress_tokens": [1], "min_new_tokens": 3},
        ),
    ],
)
def test_penalties_and_bans_act_on_beams_as_transformers_do(networks, options, theirs):
    differs = False
    for seed in (2, 4):
        plain = SamplingOptions(max_tokens=10, beams=4, n=4)
        ours, _ = search(networks(seed), replace(plain, **options))
        assert_same(ours, transformers_search(networks(seed), plain, **theirs))
        differs |= ours != search(networks(seed), plain)[0]
    assert differs


def test_a_stop_string_ends_a_hypothesis(networks):
    options = SamplingOptions(max_tokens=10, beams=3, n=3, stop=("7",))
    asked = []

    def ends_in_stop(tokens):
        asked.append(tokens)
        return tokens[-1] in (7, 8, 20)

    found = [hypothesis for seed in range(6) for hypothesis in search(networks(seed), options, ends_in_stop)[0]]
    assert {hypothesis.finish_reason for hypothesis in found} == {"stop", "length", "end_of_text"}
    for hypothesis in found:
        tokens = [choice.token for choice in hypothesis.choices]
        assert not {7, 8, 20} & set(tokens[:-1])
        assert (hypothesis.finish_reason == "stop") == (tokens[-1:] in ([7], [8], [20]))
    assert max(len(tokens) for tokens in asked) == 10


def test_all_hypotheses_begin_with_forced_tokens(networks):
    found, _ = search(networks(0), SamplingOptions(max_tokens=8, beams=3, n=3, forced=(11, 12), min_tokens=4))
    assert [[choice.token for choice in hypothesis.choices[:2]] for hypothesis in found] == [[11, 12]] * 3
    assert len({hypothesis.choices for hypothesis in found}) == 3


def test_log_probabilities_of_beams_are_the_models_own(networks):
    import torch

    options = SamplingOptions(max_tokens=8, beams=3, n=3, logprobs=2, repetition_penalty=1.5, length_penalty=0.0)
    for hypothesis in search(networks(1), options)[0]:
        tokens = [choice.token for choice in hypothesis.choices]
        with torch.inference_mode():
            logits_TV = networks(1)(torch.tensor([PROMPT + tokens])).logits[0, len(PROMPT) - 1 :]
        logprobs_TV = logits_TV.log_softmax(-1).numpy()
        for choice, logprobs_V in zip(hypothesis.choices, logprobs_TV, strict=False):
            assert choice.logprob == pytest.approx(logprobs_V[choice.token], abs=1e-4)
            assert [token for token, _ in choice.alternatives] == np.argsort(-logprobs_V)[:2].tolist()


def test_a_search_in_a_tiny_vocabulary_finds_fewer_than_asked_for():
    beams = BeamSearch(SamplingOptions(max_tokens=3, beams=8, n=8, ignore_end_of_text=True), 2, [0], 1)
    while not beams.done:
        beams.advance(np.zeros((len(beams.live), 2), np.float32))
    assert [[choice.token for choice in found.choices] for found in beams.hypotheses] == [[0, 0, 0]]


@pytest.mark.parametrize("n", [1, 2])
def test_no_tokens_asked_for_is_no_search(n):
    beams = BeamSearch(SamplingOptions(max_tokens=0, beams=2, n=n), VOCAB, PROMPT, END_OF_TEXT)
    assert beams.done
    assert [(found.choices, found.finish_reason) for found in beams.hypotheses] == [((), "length")] * n


def test_what_cannot_be_searched_is_told():
    with pytest.raises(BadOption, match="--banned 40: no such token; the vocabulary has 40"):
        BeamSearch(SamplingOptions(beams=2, banned=(40,)), VOCAB, PROMPT, END_OF_TEXT)
    with pytest.raises(BadInput, match="not numbers"):
        BeamSearch(SamplingOptions(beams=2), VOCAB, PROMPT, END_OF_TEXT).advance(np.full((1, VOCAB), np.nan, "f4"))
