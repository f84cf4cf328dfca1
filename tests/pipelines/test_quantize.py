"""What a smaller model costs is measured right: beside itself, beside what `evaluate` says, and on disk."""

import json

import numpy as np
import pytest
import torch
import tyro

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.cli.quantizing import quantize_verb
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.evaluate import side_by_side
from gpt2lab.evaluate.tasks.registry import own_tasks, tasks_of
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.pipelines.evaluation import evaluate_suite, prepare
from gpt2lab.pipelines.quantize import quality_text, quantize


@pytest.fixture(scope="module")
def folder(small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    save_model_folder(path, small_model.network, small_model.tokenizer, {})
    return path


@pytest.fixture(scope="module")
def text(sentences, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "mine.txt"
    path.write_text("\n".join(sentences[:4]))
    return path


@pytest.fixture(scope="module")
def in_four_bits(folder, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "int4"
    return out, quantize(folder, out, "int4", texts=[text], command="gpt2lab quantize ...")


def test_perplexities_are_those_of_evaluate(folder, text, in_four_bits):
    out, found = in_four_bits
    quality = found.texts[0]
    for model, token, word in (
        (folder, quality.perplexity_before, quality.word_perplexity_before),
        (out, quality.perplexity_after, quality.word_perplexity_after),
    ):
        evaluated = prepare(str(model), own_tasks([text], [], []), DataSource())
        metrics = evaluate_suite(evaluated, None, suite="own", protocol="paper", command="").tasks[0].metrics
        theirs = {metric.name: metric for metric in metrics}
        assert token.value == pytest.approx(theirs["token_perplexity"].value, rel=1e-6)
        assert word.value == pytest.approx(theirs["word_perplexity"].value, rel=1e-6)
        assert token.standard_error == pytest.approx(theirs["token_perplexity"].standard_error, rel=1e-4)


def test_agreement_and_divergence_are_those_of_the_whole_distributions(folder, text, in_four_bits):
    out, found = in_four_bits
    quality = found.texts[0]
    networks = [LanguageModel.load(path).network for path in (folder, out)]
    tokenizer = open_model(folder).required_tokenizer()
    ids = [tokenizer.end_of_text, *tokenizer.encode(text.read_text())]
    windows = [ids[start : start + 32] for start in range(0, len(ids) - 1, 32)]
    same, divergence, places = 0, 0.0, 0
    with torch.inference_mode():
        for window in windows:  # the task's windows, but for the last one, which reads further back
            if window[-1] == ids[-1] and len(window) < 32:
                break
            before, after = (network(torch.tensor([window]))[0].double().log_softmax(-1) for network in networks)
            same += int((before.argmax(-1) == after.argmax(-1)).sum())
            divergence += float((before.exp() * (before - after)).sum())
            places += len(window)
    assert quality.tokens == len(ids) - 1 == quality.divergence_tokens
    assert quality.tokens - places < 32
    assert abs(quality.same_top_token.value * quality.tokens - same) <= quality.tokens - places
    assert quality.divergence.value == pytest.approx(divergence / places, rel=0.05)
    assert 0.5 < quality.same_top_token.value < 1
    change = quality.perplexity_after.value / quality.perplexity_before.value - 1
    assert quality.change.value == pytest.approx(change, rel=1e-6)
    assert quality.change.low < quality.change.value < quality.change.high
    assert 0 < quality.change.standard_error < quality.perplexity_before.standard_error / 10  # it is paired


def test_a_model_beside_itself_has_lost_nothing(in_four_bits, text, tmp_path):
    out, _ = in_four_bits
    found = quantize(out, tmp_path / "again", "int4", texts=[text])
    quality = found.texts[0]
    assert quality.change.value == quality.divergence.value == 0
    assert quality.same_top_token.value == 1
    assert "No matrix changed" in quality_text(found)


def test_distributions_are_kept_of_places_all_over_the_text_where_there_is_no_room_for_all(folder, text, monkeypatch):
    windowed = side_by_side.read_texts(folder, None, own_tasks([text], (), ()), DataSource())
    whole = side_by_side.predict_texts(folder, None, windowed, "whole")[0]
    monkeypatch.setattr(side_by_side, "_KEPT_NUMBERS", 320 * 50)
    some = side_by_side.predict_texts(folder, None, windowed, "some")[0]
    step = -(-sum(map(len, whole.kept)) // 50)
    assert np.array_equal(np.concatenate(some.kept), np.concatenate(whole.kept)[::step])
    assert some.nats == whole.nats


def test_the_verb_tells_in_sentences_and_keeps_the_figures(folder, text, tmp_path, capsys):
    out = tmp_path / "made"
    tyro.cli(quantize_verb(), args=[str(folder), "--out", str(out), "--text", str(text), "--limit", "9"])
    said = capsys.readouterr()
    assert said.out.startswith("mine-txt: with int8 the perplexity a token is ")
    assert "h.*.attn.c_attn.weight  int8" in said.out
    made, following = said.err.splitlines()[-2:]
    assert made.startswith(f"{out}: 122,624 parameters as int8, 0.1 MB, 3.")
    assert following == f"next: gpt2lab generate {out} 'Once upon a time'"
    kept = json.loads((out / "quality.json").read_text())
    assert kept["texts"][0]["windows"] == 9
    assert kept["made"]["bytes"] == (out / "quantized.safetensors").stat().st_size
    tyro.cli(quantize_verb(), args=[str(folder), "--out", str(out), "--weights", "bfloat16", "--json"])
    assert json.loads(capsys.readouterr().out)["texts"] == []
    assert not (out / "quantized.safetensors").exists()


def test_nothing_is_written_where_a_text_cannot_be_read(folder, text, tmp_path):
    out = tmp_path / "made"
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"empty\.txt: holds no text"):
        quantize(folder, out, "int8", texts=[tmp_path / "empty.txt"])
    with pytest.raises(BadInput, match=r"no wiki\.test\.tokens"):
        quantize(folder, out, "int8", wikitext2=DataSource(text.parent))
    with pytest.raises(BadOption, match="--limit 0: must be at least 1"):
        quantize(folder, out, "int8", texts=[text], limit=0)
    with pytest.raises(BadOption, match="only with texts"):
        tyro.cli(quantize_verb(), args=[str(folder), "--out", str(out), "--limit", "3"])
    assert not out.exists()


@pytest.mark.interop
def test_wikitext2_is_the_set_of_evaluate(folder, shared_data, tmp_path):
    data = DataSource(shared_data("wikitext-2"))
    found = quantize(folder, tmp_path / "made", "int8", wikitext2=data, limit=20)
    evaluated = prepare(str(folder), {"wikitext2": tasks_of("table3", "fast")["wikitext2"]}, data, limit=20)
    theirs = evaluate_suite(evaluated, None, suite="own", protocol="fast", command="").tasks[0].metrics[0]
    assert found.texts[0].word_perplexity_before.value == pytest.approx(theirs.value, rel=1e-5)
    assert found.texts[0].files[0].official
