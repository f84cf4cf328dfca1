"""Beam search against transformers' on small random networks."""

import numpy as np
import pytest

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.generate.beams import BeamSearch
from gpt2lab.generate.options import SamplingOptions

VOCAB, END_OF_TEXT, PROMPT = 40, 39, [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def networks():
    """Small random GPT-2s of transformers, by seed. Their next tokens are far from alike, and some end the text."""
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
                made[seed].transformer.wte.weight[END_OF_TEXT] *= 1.5
        return made[seed]

    return network


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


@pytest.mark.parametrize("seed", range(6))
def test_beams_are_those_of_transformers(networks, seed):
    for beams, length_penalty in [(2, 1.0), (5, 0.0), (3, 2.0), (4, -1.0)]:
        options = SamplingOptions(max_tokens=8, beams=beams, n=beams, length_penalty=length_penalty)
        ours, steps = search(networks(seed), options)
        assert_same(ours, transformers_search(networks(seed), options))
        print(seed, beams, length_penalty, steps, [(f.finish_reason, len(f.choices)) for f in ours])
