"""Protocol options run one beside the other, and each published figure matched with the nearest of them."""

import json
import re
from dataclasses import replace

import pytest

from gpt2lab.base.errors import BadOption
from gpt2lab.datasets.evaluation_sets import DataSource
from gpt2lab.evaluate.explain import explain, explanation_text, variant_tasks
from gpt2lab.evaluate.run import identify_model
from gpt2lab.evaluate.tasks import wikitext
from gpt2lab.evaluate.tasks.lambada import Lambada
from gpt2lab.evaluate.tasks.piqa import Piqa
from gpt2lab.evaluate.tasks.ptb import PennTreebank


@pytest.fixture
def passages(tmp_path, sentences):
    """A few passages in LAMBADA's format, and no others."""
    lines = [document.splitlines()[0].split(".")[0] for document in sentences[:3]]
    folder = tmp_path / "data" / "lambada"
    folder.mkdir(parents=True)
    (folder / "lambada_test.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return DataSource(tmp_path / "data", allow_changed=True)


@pytest.fixture
def explained(small_model, passages, tmp_path):
    identity = identify_model("small", small_model)

    def run(identity=identity, out=tmp_path / "out", limit=None):
        return explain(small_model, identity, {"lambada": Lambada()}, passages, out, limit)

    return run, identity


def test_each_figure_finds_the_nearest_protocol(explained, tmp_path):
    run, _ = explained
    (one,) = run()
    assert (one.label, one.size, one.is_that_size) == ("lambada", "117M", False)
    by_options = {json.dumps(trial.options): trial for trial in one.trials}
    assert by_options['{"text": "zenodo"}'].failed
    paper = next(
        near for near in one.nearest if near.target.who.startswith("the paper") and near.target.metric == "perplexity"
    )
    values = {
        number: next(metric.value for metric in trial.result.metrics if metric.name == "perplexity")
        for number, trial in enumerate(one.trials)
        if trial.result and not trial.not_the_papers
    }
    assert paper.closest == min(values, key=lambda number: abs(values[number] / 35.13 - 1))
    harness = next(near for near in one.nearest if near.target.value == 0.3256)
    assert one.trials[harness.own].options["rules"] == "lm-eval"
    text = explanation_text([one])
    place = one.nearest.index(paper) + 1
    assert re.search(rf"closest to .*\[{place}\]", text)
    assert f"[{place}] the paper, table 3: perplexity 35.13; closest:" in text
    assert "this model is of another" in text
    assert "left out: text=zenodo" in text
    scored = sorted(tmp_path.glob("out/items/*.jsonl"))
    assert len(scored) == sum(trial.result is not None for trial in one.trials)
    before = [file.stat().st_mtime_ns for file in scored]
    run()
    assert [file.stat().st_mtime_ns for file in scored] == before, "what was scored before is not scored again"


def test_a_model_of_a_published_size_is_taken_at_its_word(explained):
    run, identity = explained
    (one,) = run(replace(identity, parameters=1_557_611_200), None, limit=1)
    assert (one.size, one.is_that_size) == ("1542M", True)
    assert 0.5266 in {near.target.value for near in one.nearest}
    assert "this model is of another" not in explanation_text([one])


def test_options_that_do_not_go_with_the_tasks_own_are_left_out_and_said(capsys):
    variants = variant_tasks("ptb", PennTreebank(n_map="1"))
    assert all(task.detokenizer == "roundtrip" for _, task in variants)
    assert len(variants) > 5
    assert "ptb, detokenizer=none: left out" in capsys.readouterr().err


def test_a_set_that_nobody_published_is_refused(small_model, passages):
    with pytest.raises(BadOption, match="none of piqa"):
        explain(small_model, identify_model("small", small_model), {"piqa": Piqa()}, passages)


def test_a_figure_per_another_unit_is_never_the_nearest(small_model, tmp_path, sentences):
    """Hugging Face's 29.94 is per GPT-2 token, Radford's 34.63 per word: no text gives both by one protocol."""
    (tmp_path / "wiki.test.tokens").write_text(" \n = Title = \n \n" + "".join(f" {line} \n" for line in sentences[:3]))
    (tmp_path / "wiki.test.raw").write_text(" \n = Title = \n \n" + "".join(f" {line} \n" for line in sentences[:3]))
    source = DataSource(tmp_path, allow_changed=True)
    (one,) = explain(small_model, identify_model("small", small_model), wikitext.FAST, source, limit=2)[:1]
    per_word = next(near for near in one.nearest if near.target.value == 34.63)
    per_token = next(near for near in one.nearest if near.target.value == 29.94)
    assert one.trials[per_word.closest].options.get("unit", "words+eos") == "words+eos"
    assert one.trials[per_token.closest].options["unit"] == "bpe"
    assert not one.trials[one.nearest[0].closest].not_the_papers
    assert "not the paper's: per GPT-2 token" in explanation_text([one])
