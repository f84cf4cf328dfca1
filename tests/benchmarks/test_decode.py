import json
import sys
from math import prod

import pytest
from benchmarks.decode import (
    CONTESTANTS,
    OURS,
    OURS_AS_PEERS,
    PEERS,
    MeanAndBest,
    Sitting,
    Worker,
    best_peer,
    read_rates,
    request,
    summarize,
    worker,
)

from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.weights import published_shapes
from gpt2lab.model.config import gpt2_size

OURS_INT8 = next(one for one in OURS if one.name == "gpt2lab int8")


def sitting_of(rates: dict[str, float]) -> Sitting:
    """One round in which every contestant named made 100 tokens at its rate, and read a long prompt in 1 / rate."""
    contestants = [one for one in (*OURS, *PEERS) if one.name in rates]
    decoded = {name: {"decode_tokens": 100, "decode_seconds": 100 / rate} for name, rate in rates.items()}
    read = {name: {"first_seconds": 1 / rate} for name, rate in rates.items()}
    runs = {name: {"one": [decoded[name]], "many": [decoded[name]], "prefill": [read[name]]} for name in rates}
    bandwidth = {name: [MeanAndBest(32e9, 40e9)] for name in rates}
    return Sitting("117M", contestants, runs, bandwidth, dict.fromkeys(rates, 0.0), {})


def test_a_token_in_float32_reads_every_weight_but_the_positions():
    config = gpt2_size("117M")
    shapes = published_shapes(config)
    weights = sum(prod(shape) for name, shape in shapes.items() if name != "wpe.weight")
    float32 = next(one for one in OURS if one.bits == 32)
    assert float32.bytes_per_token(config) == 4 * weights


def test_a_ratio_against_an_absent_peer_is_missing():
    figures = summarize(sitting_of({"gpt2lab int8": 200.0, OURS_AS_PEERS: 300.0, "llama.cpp f32": 50.0}), None, [])
    assert "int8_b1_vs_best_8bit_peer" not in figures
    assert figures["int8_b8_vs_best_peer"] == pytest.approx(6)
    assert figures["int8_b8_16_bit_activations_vs_best_peer"] == pytest.approx(4)
    assert figures["prefill_vs_best_peer"] == pytest.approx(6)
    read = 200 * OURS_INT8.bytes_per_token(gpt2_size("117M"))
    assert figures["int8_b1_of_bandwidth"] == pytest.approx(read / 40e9)
    assert figures["int8_b1_of_mean_bandwidth"] == pytest.approx(read / 32e9)


def test_the_memorys_mean_rate_is_bytes_by_time_of_the_faster_way_to_read():
    before, after = {"numpy": [10.0, 30.0], "numba": [20.0, 20.0]}, {"numpy": [10.0, 30.0], "numba": [20.0, 20.0]}
    assert read_rates(before, after) == MeanAndBest(pytest.approx(20), 30)


def test_a_peer_of_fewer_bits_counts_only_where_any_do():
    rates = {"gpt2lab int8": 200.0, OURS_AS_PEERS: 200.0, "llama.cpp Q8_0": 100.0, "llama.cpp Q4_0": 400.0}
    figures = summarize(sitting_of(rates), None, [])
    assert figures["int8_b1_vs_best_8bit_peer"] == pytest.approx(2)
    assert figures["int8_b8_vs_best_peer"] == pytest.approx(2)
    assert figures["int8_b8_vs_best_peer_any_bits"] == pytest.approx(0.5)
    fastest = best_peer(sitting_of(rates), "prefill", 0, 32)
    assert fastest is not None
    assert fastest.name == "llama.cpp Q4_0"


def test_prompts_are_the_same_for_everyone_and_new_in_every_round():
    assert request("many", 3, 128) == request("many", 3, 128)
    prompts = [tuple(prompt) for seed in range(3) for prompt in request("many", seed, 128)["prompts"]]
    assert len(set(prompts)) == 24
    assert {len(prompt) for prompt in prompts} == {32}


def test_a_contestant_makes_the_tokens_asked_for_and_says_when_they_came(small_model, tmp_path):
    save_model_folder(tmp_path / "model", small_model.network, small_model.tokenizer, {})
    options = json.dumps({"weights": "float32"})
    with worker([sys.executable, "-P", str(CONTESTANTS), "gpt2lab", str(tmp_path / "model"), options]) as contestant:
        found = contestant.ask(prompts=[[1, 2, 3], [4, 5, 6]], new_tokens=5)
        assert "gpt2lab" in contestant.versions
        assert found["new_tokens"] == 10
        assert found["decode_tokens"] == 8
        assert 0 < found["first_seconds"] < found["seconds"]
        assert 0 < found["decode_seconds"] < found["seconds"]
        assert contestant.ask(prompts=[[7, 8, 9]], new_tokens=1)["decode_tokens"] == 0


def test_a_contestant_that_fails_ends_the_benchmark_with_its_own_words(tmp_path):
    with pytest.raises(SystemExit, match="absent"):
        Worker([sys.executable, "-P", str(CONTESTANTS), "gpt2lab", str(tmp_path / "absent"), '{"weights": "int8"}'])
