"""The torch backend against the network without a cache, with shapes as they are and padded as on an accelerator."""

import numpy as np
import pytest
import torch

from gpt2lab.generate.torch_backend import TorchBackend


@pytest.fixture(params=["as they are", "padded"])
def backend(request, small_model):
    backend = TorchBackend(small_model.network)
    backend._static = request.param == "padded"
    backend.reserve(6)
    return backend


def whole(small_model, tokens: list[int]) -> np.ndarray:
    with torch.inference_mode():
        return small_model.network(torch.tensor([tokens]))[0].numpy()


def test_prefill_in_parts_and_decode_give_the_networks_logits(backend, small_model):
    """Two sequences of unequal length, whose blocks lie anywhere."""
    first, second = list(range(5, 35)), list(range(100, 109))
    tables = np.array([[4, 1], [2, 0]], np.int32)
    assert backend.prefill(np.array(first[:7], np.int32), 0, tables[0], "none") is None
    all_TV = backend.prefill(np.array(first[7:29], np.int32), 7, tables[0], "all")
    np.testing.assert_allclose(all_TV, whole(small_model, first[:29])[7:], atol=1e-4)
    last_V = backend.prefill(np.array(second[:8], np.int32), 0, tables[1, :1])
    np.testing.assert_allclose(last_V, whole(small_model, second[:8])[-1], atol=1e-4)
    logits_BV = backend.decode(np.array([first[29], second[8]], np.int32), np.array([29, 8], np.int32), tables).logits
    for logits_V, tokens in zip(logits_BV, (first, second), strict=True):
        np.testing.assert_allclose(logits_V, whole(small_model, tokens)[-1], atol=1e-4)


def test_a_copied_block_goes_on_by_itself(backend, small_model):
    tokens = list(range(40, 60))
    backend.prefill(np.array(tokens, np.int32), 0, np.array([3, 5], np.int32), "none")
    backend.copy_block(5, 2)
    tables, positions = np.array([[3, 5], [3, 2]], np.int32), np.array([20, 20], np.int32)
    backend.decode(np.array([7, 8], np.int32), positions, tables)
    logits_BV = backend.decode(np.array([9, 9], np.int32), positions + 1, tables).logits
    for logits_V, between in zip(logits_BV, (7, 8), strict=True):
        np.testing.assert_allclose(logits_V, whole(small_model, [*tokens, between, 9])[-1], atol=1e-4)
