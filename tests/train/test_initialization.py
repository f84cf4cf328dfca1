"""Fresh weights: the switches of the recipe `modern`. The replication's are in test_connor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.train.small_run import small_recipe

from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.data import FoldersData, open_token_folders
from gpt2lab.train.initialization import initialize
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import InitializationConfig, MuonConfig, OptimizerConfig
from gpt2lab.train.start import FreshWeights

BARE = InitializationConfig(token_deviation=0.0, zero_branches=True, unigram=True)


def test_weights_that_begin_as_the_unigram_model_have_its_loss():
    counts_V = np.arange(1, 321)
    network = GPT2(replace(small_recipe(320, 1).model)).eval()
    initialize(network, BARE, torch.Generator().manual_seed(0), counts_V)
    logarithms_V = torch.log_softmax(network(torch.tensor([[5, 300, 7]])), -1)[0]
    expected_V = torch.log((torch.from_numpy(counts_V) + 0.5) / (counts_V + 0.5).sum())
    for each_V in logarithms_V:
        torch.testing.assert_close(each_V, expected_V.float(), rtol=0, atol=1e-4)


def test_the_layers_do_not_see_the_unigram_model():
    recipe = small_recipe(320, 1)
    networks = [GPT2(recipe.model).eval() for _ in range(2)]
    config = InitializationConfig(unigram=True)
    for network, counts_V in zip(networks, (np.ones(320, dtype=np.int64), np.arange(1, 321) ** 2), strict=True):
        initialize(network, config, torch.Generator().manual_seed(0), counts_V)
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(*(network.hidden(tokens) for network in networks), rtol=0, atol=1e-4)


def test_small_embeddings_and_silent_layers():
    network = GPT2(small_recipe(320, 1).model)
    config = InitializationConfig(token_deviation=0.003, position_deviation=0.004, zero_branches=True)
    initialize(network, config, torch.Generator().manual_seed(0))
    assert network.wte.weight.std().item() == pytest.approx(0.003, rel=0.05)
    assert network.wpe.weight.std().item() == pytest.approx(0.004, rel=0.1)
    for name, each in network.named_parameters():
        assert each.count_nonzero() == 0 if "c_proj" in name else True
    assert network.h[0].mlp.c_fc.weight.std() > 0.01


@pytest.fixture
def data(tokens_folder):
    recipe = replace(small_recipe(320, 3), initialization=BARE)
    folders, tokenizer = open_token_folders([tokens_folder], recipe)
    return FoldersData(recipe, folders, tokenizer)


def test_the_unigram_model_is_of_tokens_that_the_run_trains_on(data):
    targets = np.concatenate([data.batch(step)[1] for step in range(3)])
    network = FreshWeights(data.recipe, data).network()
    probabilities_V = torch.softmax(network.eval()(torch.tensor([[1]])), -1)[0, 0]
    counts_V = np.bincount(targets[targets >= 0], minlength=320) + 0.5
    torch.testing.assert_close(probabilities_V, torch.from_numpy(counts_V / counts_V.sum()).float(), rtol=1e-4, atol=0)


def test_the_token_embedding_has_a_rate_of_its_own():
    network = GPT2(small_recipe(320, 1).model)
    config = OptimizerConfig("muon", 1e-3, muon=MuonConfig(learning_rate=5e-3, token_learning_rate=1e-2))
    rates = {
        each: group["peak_lr"] for group in make_optimizer(network, config).param_groups for each in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    assert rates[network.wte.weight] == 1e-2
    assert rates[network.wpe.weight] == rates[network.ln_f.bias] == 1e-3
    assert rates[network.h[0].mlp.c_fc.weight] == 5e-3
