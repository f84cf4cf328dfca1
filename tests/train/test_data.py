"""A recipe's data: several folders, their weights, samplings and masks, and what is refused."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import read_json_lines, write_documents
from tests.train.small_run import small_recipe

import gpt2lab
from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.tokens.shards import read_tokens_info
from gpt2lab.tokens.stream import TokenStream
from gpt2lab.tokens.train_bpe import train_bpe
from gpt2lab.tokens.write_shards import write_shards
from gpt2lab.train.data import FoldersData, held_out_batches, open_token_folders, training_counts, training_loader
from gpt2lab.train.loop import _Run
from gpt2lab.train.recipe import BatchConfig, DataConfig


@pytest.fixture(scope="module")
def other_folder(sentences, small_tokenizer, tmp_path_factory):
    """Shards of a third of the corpus, upper case, with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    write_documents(folder / "documents.parquet", [text.upper() for text in sentences[:20]])
    write_shards(folder, folder / "tokens", small_tokenizer, 0.2)
    return folder / "tokens"


@pytest.fixture(scope="module")
def recipe(small_tokenizer):
    return small_recipe(small_tokenizer.vocab_size, 4)


def with_data(recipe, **changes):
    return replace(recipe, data=DataConfig(**changes))


def test_a_run_on_two_folders_records_both_and_refuses_other_weights(recipe, tokens_folder, other_folder, tmp_path):
    folders, out = [tokens_folder, other_folder], tmp_path / "run"
    gpt2lab.train(with_data(recipe, weights=(0.75, 0.25)), folders, out)
    for named in (read_provenance(out / "model")["tokens"], json.loads((out / "run.json").read_text())["tokens"]):
        assert [(source["folder"], source["weight"]) for source in named] == [
            (str(tokens_folder), 0.75),
            (str(other_folder), 0.25),
        ]
    with pytest.raises(BadOption, match=r"changed: data\.weights \(\[0\.75, 0\.25\] -> \[0\.5, 0\.5\]\)"):
        gpt2lab.train(with_data(recipe, weights=(0.5, 0.5)), folders, out)
    with pytest.raises(BadOption, match="changed: the tokens"):
        gpt2lab.train(with_data(recipe, weights=(0.75, 0.25)), folders[::-1], out)


def test_weights_are_by_size_unless_given(recipe, tokens_folder, other_folder):
    sizes = [read_tokens_info(folder).total("train") for folder in (tokens_folder, other_folder)]
    folders, _ = open_token_folders([tokens_folder, other_folder], recipe)
    assert [folder.weight for folder in folders] == [size / sum(sizes) for size in sizes]
    folders, _ = open_token_folders([tokens_folder, other_folder], with_data(recipe, weights=(3.0, 1.0)))
    assert [folder.weight for folder in folders] == [0.75, 0.25]


def test_validation_takes_from_each_folder_by_its_weight(recipe, tokens_folder, other_folder):
    asked = with_data(recipe, weights=(0.75, 0.25))
    folders, _ = open_token_folders([tokens_folder, other_folder], asked)
    rows = [len(inputs) for inputs, _ in held_out_batches(asked, folders)]
    assert rows == [3, 3, 2]
    streams = [TokenStream(folder, "val") for folder in (tokens_folder, other_folder)]
    first = [row for inputs, _ in held_out_batches(asked, folders) for row in inputs]
    for row, stream in zip(first, [streams[0]] * 6 + [streams[1]] * 2, strict=True):
        ids = stream.read(0, len(stream))
        assert (np.lib.stride_tricks.sliding_window_view(ids, 32) == row).all(axis=1).any()


def test_the_unigram_model_is_that_of_the_mixture(recipe, tokens_folder, other_folder):
    paths = [tokens_folder, other_folder]
    folders, _ = open_token_folders(paths, with_data(recipe, weights=(1.0, 3.0)))
    counts = training_counts(folders)
    separate = [TokenStream(path, "train").counts() for path in paths]
    wanted = 0.25 * separate[0] / separate[0].sum() + 0.75 * separate[1] / separate[1].sum()
    assert np.abs(counts / counts.sum() - wanted).max() < 1e-4
    alone, _ = open_token_folders(paths[:1], recipe)
    assert (training_counts(alone) == separate[0]).all()


def test_folders_of_different_tokenizers_are_refused_with_both_hashes(
    recipe, tokens_folder, documents_folder, sentences, small_tokenizer, tmp_path
):
    other = train_bpe(sentences[::-1][:30], 300)
    write_shards(documents_folder, tmp_path / "t", other, 0.2)
    with pytest.raises(BadInput, match=f"{other.sha256[:12]}, not {small_tokenizer.sha256[:12]}"):
        gpt2lab.train(recipe, [tokens_folder, tmp_path / "t"], tmp_path / "run")


def test_wrong_weights_are_refused(recipe, tokens_folder, other_folder, tmp_path):
    with pytest.raises(BadOption, match="2 weights for 1 folders"):
        gpt2lab.train(with_data(recipe, weights=(0.5, 0.5)), tokens_folder, tmp_path / "run")
    with pytest.raises(BadOption, match="would never be read"):
        gpt2lab.train(with_data(recipe, weights=(1.0, 1e-4)), [tokens_folder, other_folder], tmp_path / "run")
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadOption, match="each must be above 0 and finite"):
            with_data(recipe, weights=(1.0, wrong))


@pytest.mark.parametrize("sampling", ["connor", "connor_long", "connor_longbiased"])
def test_the_replications_samplings_train(recipe, sentences, small_tokenizer, tmp_path, sampling):
    write_documents(tmp_path / "documents.parquet", sentences)
    write_shards(tmp_path, tmp_path / "tokens", small_tokenizer, 0.1)  # more than 42 documents stay
    gpt2lab.train(with_data(recipe, sampling=sampling), tmp_path / "tokens", tmp_path / "run")
    assert len(read_json_lines(tmp_path / "run" / "metrics.jsonl")) == 6


def test_the_document_mask_acts_in_training_and_in_validation(recipe, tokens_folder, tmp_path):
    borders = replace(
        recipe, batch=BatchConfig(sequences=64), watch=replace(recipe.watch, validation_sequences=1000), steps=1
    )
    first = []
    for mask in (False, True):
        out = tmp_path / str(mask)
        gpt2lab.train(with_data(borders, document_mask=mask), tokens_folder, out)
        validation, step = read_json_lines(out / "metrics.jsonl")[:2]
        first.append((validation["val_loss"], step["loss"]))
    assert first[0][0] != first[1][0]  # of one fresh network
    assert first[0][1] != first[1][1]


def test_the_loss_of_a_step_is_the_mean_over_the_targets_that_count(recipe, tokens_folder, tmp_path):
    """Of micro-batches with different numbers of such targets, too: the gradient is that of the batch at once."""
    still = replace(recipe, model=replace(recipe.model, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0))
    folders, tokenizer = open_token_folders([tokens_folder], still)
    run = _Run(still, FoldersData(still, folders, tokenizer), tmp_path)
    step = next(step for step in range(10_000) if (run.data.batch(step)[1] == IGNORED).any())
    run._fresh()
    result = run._take(step)
    network = GPT2(still.model)
    network.initialize(torch.Generator().manual_seed(still.seed))
    inputs, targets = (torch.from_numpy(each) for each in run.data.batch(step))
    scores = network(inputs).log_softmax(-1)
    counted = [(row, column) for row, column in (targets != IGNORED).nonzero().tolist()]
    mean = -sum(scores[row, column, targets[row, column]] for row, column in counted) / len(counted)
    mean.backward()
    assert len(counted) < targets.numel()
    assert result.loss == pytest.approx(float(mean.detach()), abs=1e-5)
    wanted = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    assert result.gradient_norm == pytest.approx(float(wanted), rel=1e-4)


def test_all_training_tokens_are_predicted_once_in_a_runs_first_epoch(recipe, tokens_folder):
    folders, _ = open_token_folders([tokens_folder], recipe)
    loader = training_loader(recipe, folders)
    stream = TokenStream(tokens_folder, "train")
    epoch = -(-(len(stream) - 1) // 32)
    targets = np.concatenate([loader.batch(step)[1] for step in range(-(-epoch // 8))])[:epoch]
    wanted = Counter(stream.read(1, len(stream)).tolist())
    assert Counter(targets[targets != IGNORED].tolist()) == wanted


def test_a_changed_shard_is_refused_when_training_starts(recipe, documents_folder, small_tokenizer, tmp_path):
    write_shards(documents_folder, tmp_path / "t", small_tokenizer, 0.2)
    shard = tmp_path / "t" / "train_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\x01\x00")
    with pytest.raises(BadInput, match=r"train_00000\.bin: its SHA-256 is"):
        gpt2lab.train(recipe, tmp_path / "t", tmp_path / "run")


@pytest.mark.slow
def test_the_command_line_takes_folders_and_their_weights(tokens_folder, other_folder, tmp_path):
    shape = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32"]
    command = [sys.executable, "-m", "gpt2lab", "train", str(tokens_folder), str(other_folder), "--steps", "1", *shape]
    command += ["--data.weights", "0.75", "0.25", "--data.document-mask", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"mixture: 75.0% {tokens_folder}, 25.0% {other_folder}" in done.stderr
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["data"] == {"sampling": "each_once", "weights": [0.75, 0.25], "document_mask": True}
