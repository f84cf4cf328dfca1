"""Fine-tuning: a model takes on a text, keeps its best weights, says when it copies; an adapter is one for peft."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

import gpt2lab
from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.checkpoints.provenance import read_provenance
from gpt2lab.pipelines.finetune import Copied, FinetuneOptions, finetune, warning_of
from gpt2lab.pipelines.finetune_report import write_finetune_report
from gpt2lab.train.checkpointing import checkpoints

OPTIONS = FinetuneOptions(steps=24, learning_rate=3e-3, max_tokens=24)


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory):
    """A model folder to begin with."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def text(sentences, tmp_path_factory):
    """A folder of documents, a file each."""
    folder = tmp_path_factory.mktemp("text")
    for n, sentence in enumerate(sentences):
        (folder / f"{n}.txt").write_text(sentence)
    return folder


@pytest.fixture(scope="module")
def tuned(model, text, tmp_path_factory):
    """A full fine-tuning that was never disturbed."""
    out = tmp_path_factory.mktemp("run") / "full"
    return out, finetune(model, [text], out, OPTIONS)


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


def same_logits(one, two, tolerance=1e-5):
    tokens = torch.arange(200).view(8, 25)
    with torch.inference_mode():
        torch.testing.assert_close(one(tokens).logits, two(tokens).logits, atol=tolerance, rtol=0)


def test_held_out_text_is_predicted_better_and_the_run_says_what_it_came_from(tuned, model):
    out, found = tuned
    assert found.perplexity_after < found.perplexity_before / 2
    assert found.samples[0].prompt == ""
    assert len(found.samples) == 4
    assert all(sample.before != sample.after for sample in found.samples)
    start = read_provenance(out / "model")["start"]
    assert start["model"] == str(model)
    assert set(start["files"]) == {"model.safetensors", "config.json"}
    write_finetune_report(out, found, str(model), "gpt2lab finetune")
    page = (out / "report.html").read_text()
    assert "Perplexity on held-out text falls" in page
    assert "before training, no prompt" in page


def test_the_same_command_goes_on_with_the_same_bits(tuned, model, text, tmp_path):
    out, found = tuned
    shutil.copytree(out, tmp_path / "run")
    assert finetune(model, [text], tmp_path / "run", OPTIONS) == replace(found)  # finished: as it was
    with pytest.raises(BadOption, match=r"changed: optimizer\.learning_rate"):
        finetune(model, [text], tmp_path / "run", replace(OPTIONS, learning_rate=1e-3))
    with pytest.raises(BadOption, match="changed: the text"):
        finetune(model, [next(text.iterdir())], tmp_path / "run", replace(OPTIONS, sequence_length=16))
    (tmp_path / "run/summary.json").unlink()
    held = checkpoints(tmp_path / "run/checkpoints")
    shutil.rmtree(held[-1])
    again = finetune(model, [text], tmp_path / "run", OPTIONS)
    assert weights(tmp_path / "run") == weights(out)
    assert again.perplexity_after == found.perplexity_after


def test_a_model_that_only_gets_worse_stops_early_and_is_left_as_it_was(model, text, tmp_path, capsys):
    found = finetune(model, [text], tmp_path / "run", replace(OPTIONS, learning_rate=1.0, steps=200))
    assert found.model_step == 0
    assert found.steps == 60
    assert found.perplexity_after == found.perplexity_before
    told = capsys.readouterr().err
    assert "stopped at step 60 of 200: 3 validations without a better loss than step 0's" in told
    assert "the best validation was at step 0; the model has its weights" in told
    same_logits(*(GPT2LMHeadModel.from_pretrained(each) for each in (model, tmp_path / "run/model")))


def test_the_best_validation_is_what_the_model_folder_has(model, sentences, tmp_path):
    """A short text is learned by heart: held-out text gets worse after a while, and the run goes back."""
    (tmp_path / "a.txt").write_text(sentences[0])
    found = finetune(model, [tmp_path / "a.txt"], tmp_path / "run", replace(OPTIONS, steps=400, learning_rate=1e-2))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["val_loss"] for line in lines if "val_loss" in line}
    assert 0 < found.model_step < found.steps < 400
    assert losses[found.model_step] == min(losses.values())
    kept = [path.name for path in checkpoints(tmp_path / "run/checkpoints")]
    assert f"step-{found.model_step:08d}" in kept
    held = load_file(tmp_path / "run/checkpoints" / kept[0] / "weights.safetensors")
    assert torch.equal(gpt2lab.load(found.model).network.wte.weight, held["wte.weight"])


def test_a_model_that_learned_its_text_by_heart_is_warned_of_and_a_fresh_one_is_not(model, sentences, tmp_path):
    (tmp_path / "a.txt").write_text(sentences[0])
    prompts = tuple(" ".join(sentence.split()[:4]) for sentence in sentences[0].split(". ")[:12])
    asked = replace(OPTIONS, learning_rate=5e-3, patience=0, max_tokens=28, prompt=prompts)
    fresh = finetune(model, [tmp_path / "a.txt"], tmp_path / "fresh", replace(asked, steps=1)).copied
    learned = finetune(model, [tmp_path / "a.txt"], tmp_path / "learned", replace(asked, steps=250)).copied
    assert warning_of(fresh) is None
    assert learned.memorized
    assert "it memorizes" in warning_of(learned)
    assert warning_of(Copied(10, 0.0, 1.0, 0.0, None)) is None


def test_completions_are_learned_as_generate_asks_for_them(model, tmp_path):
    words = "cat dog horse heron otter badger falcon rabbit".split()
    lines = [json.dumps({"prompt": f"The {word} says", "completion": " " + word[::-1]}) + "\n" for word in words]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    asked = replace(OPTIONS, steps=60, learning_rate=1e-2, patience=0)
    found = finetune(model, [tmp_path / "a.jsonl"], tmp_path / "run", asked)
    (held_out,) = {sample.prompt for sample in found.samples}
    trained = gpt2lab.load(found.model)
    for word in words:
        answer = trained.generate(f"The {word} says", temperature=0, max_tokens=12)
        if answer.prompt != held_out:
            assert (answer.text, answer.finish_reason) == (" " + word[::-1], "end_of_text")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers for it
def test_an_adapter_is_one_for_peft_and_the_model_folder_has_it_merged(model, text, tmp_path):
    peft = pytest.importorskip("peft")
    asked = replace(OPTIONS, lora=True, lora_rank=4, learning_rate=1e-2)
    found = finetune(model, [text], tmp_path / "run", asked)
    assert found.perplexity_after < found.perplexity_before
    base = GPT2LMHeadModel.from_pretrained(model)
    adapted = peft.PeftModel.from_pretrained(base, found.adapter).eval()
    merged = GPT2LMHeadModel.from_pretrained(found.model).eval()
    same_logits(adapted, merged, 1e-4)
    held = load_file(checkpoints(tmp_path / "run/checkpoints")[-1] / "weights.safetensors")
    assert all(".lora_" in name for name in held)
    assert sum(tensor.numel() for tensor in held.values()) == sum(
        4 * sum(shape) for shape in ((64, 192), (64, 64), (64, 256), (256, 64)) * 2
    )
    before = weights(tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    shutil.rmtree(checkpoints(tmp_path / "run/checkpoints")[-1])
    finetune(model, [text], tmp_path / "run", asked)
    assert weights(tmp_path / "run") == before


def test_lora_without_peft_is_refused_in_one_line(model, text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadOption, match=r"--lora needs peft, .* pip install 'gpt2lab\[lora\]'"):
        finetune(model, [text], tmp_path / "run", replace(OPTIONS, lora=True))
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_tokenizer_and_options_that_can_not_be_are_refused(model, text, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model / name, bare)
    with pytest.raises(BadInput, match="has no tokenizer"):
        finetune(bare, [text], tmp_path / "run")
    with pytest.raises(BadOption, match="--epochs 0"):
        FinetuneOptions(epochs=0)
    with pytest.raises(BadOption, match="--steps and --minutes"):
        FinetuneOptions(steps=3, minutes=1)
    with pytest.raises(BadOption, match="--lora-rank 0"):
        finetune(model, [text], tmp_path / "run", FinetuneOptions(lora=True, lora_rank=0))
