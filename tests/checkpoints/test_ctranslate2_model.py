"""CTranslate2 says what our network says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.checkpoints.exported import PROMPTS, VARIANTS, checkpoint_of, random_model
from transformers import AutoTokenizer

from gpt2lab.base.errors import BadOption
from gpt2lab.checkpoints.formats.ctranslate2_model import write_ctranslate2
from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face, write_hugging_face

pytestmark = pytest.mark.interop
TYPES = ["float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"]


def symbols_of(model, text):
    vocabulary = [*model.tokenizer.symbols, "<|endoftext|>"]
    return [vocabulary[token] for token in model.tokenizer.encode(text)]


def greedy(folder, model, prompt, tokens=64):
    import ctranslate2

    generator = ctranslate2.Generator(str(folder), compute_type="float32")
    found = generator.generate_batch(
        [symbols_of(model, prompt)], max_length=tokens, sampling_topk=1, include_prompt_in_result=False
    )
    return found[0].sequences_ids[0], found[0].sequences[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_text_is_ours(tmp_path, small_tokenizer, variant):
    model = random_model(small_tokenizer, variant)
    write_ctranslate2(tmp_path / "out", checkpoint_of(model))
    for prompt in PROMPTS:
        ids, names = greedy(tmp_path / "out", model, prompt)
        ours = model.generate(prompt, max_tokens=64, temperature=0.0)
        assert ours.tokens == len(ids) == 64
        assert model.tokenizer.decode(ids) == ours.text
        assert names == [model.tokenizer.symbols[token] for token in ids]


def log_probabilities(model, ids):
    with torch.inference_mode():
        logits_TV = model.network(torch.tensor([ids]))[0, :-1, : model.tokenizer.vocab_size]
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


# What a type of weights may do to the log-probability of a token, in nats.
@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [*zip(TYPES, (1e-5, 5e-3, 0.05, 0.1, 0.1, 0.1, 0.1, 0.02), strict=True)],
)
def test_scores_of_every_type_of_weights_are_near(tmp_path, small_tokenizer, sentences, quantization, tolerance):
    import ctranslate2

    model = random_model(small_tokenizer)
    write_ctranslate2(tmp_path, checkpoint_of(model), quantization)
    generator = ctranslate2.Generator(str(tmp_path), compute_type="float32")
    ids = model.tokenizer.encode(sentences[0])[:100]
    names = [model.tokenizer.symbols[token] for token in ids]
    scored = torch.tensor(generator.score_batch([names])[0].log_probs)
    assert (scored - log_probabilities(model, ids)).abs().max() < tolerance


def test_the_types_of_weights_are_ctranslate2s():
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    from gpt2lab.checkpoints.exporting import TYPES as EXPORTED

    assert set(EXPORTED["ctranslate2"]) <= set(ACCEPTED_MODEL_TYPES) == set(TYPES)


def test_quantizing_leaves_the_weights_it_was_given_as_they_are(tmp_path, small_tokenizer):
    write_hugging_face(tmp_path / "in", checkpoint_of(random_model(small_tokenizer)))
    checkpoint = read_hugging_face(tmp_path / "in")
    before = {name: tensor.read().copy() for name, tensor in checkpoint.tensors.items()}
    write_ctranslate2(tmp_path / "out", checkpoint, "int8")
    for name, tensor in checkpoint.tensors.items():
        assert (tensor.read() == before[name]).all(), name


def test_a_folder_of_half_precision_weights_keeps_them(tmp_path, small_tokenizer):
    model = random_model(small_tokenizer)
    for dtype in ("float16", "bfloat16"):
        half = checkpoint_of(model).of_type(dtype)
        write_ctranslate2(tmp_path / "from half", half, dtype)
        write_ctranslate2(tmp_path / "from whole", checkpoint_of(model), dtype)
        written = [(tmp_path / name / "model.bin").read_bytes() for name in ("from half", "from whole")]
        assert written[0] == written[1]
        assert len(written[0]) < 2.1 * half.parameters  # bytes: each number once, the tied head, too


def test_the_folder_is_the_one_that_its_converter_for_transformers_makes(tmp_path, small_tokenizer):
    from ctranslate2.converters import TransformersConverter

    checkpoint = checkpoint_of(random_model(small_tokenizer))
    write_hugging_face(tmp_path / "hf", checkpoint)
    TransformersConverter(str(tmp_path / "hf")).convert(str(tmp_path / "theirs"), quantization="float32")
    write_ctranslate2(tmp_path / "ours", checkpoint)
    for name in ("model.bin", "vocabulary.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    theirs, ours = (json.loads((tmp_path / who / "config.json").read_text()) for who in ("theirs", "ours"))
    assert ours == theirs | {"layer_norm_epsilon": 1e-5}


def test_its_tokenizer_gives_the_names(tmp_path, small_tokenizer, sentences):
    model = random_model(small_tokenizer)
    write_ctranslate2(tmp_path, checkpoint_of(model))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize(sentences[0]) == symbols_of(model, sentences[0])


def test_a_full_disk_leaves_nothing(tmp_path):
    """A real process that may write no file over 100 kB: the operating system refuses, as a full disk does."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from gpt2lab.base.errors import NoSpace
from gpt2lab.checkpoints.formats.ctranslate2_model import write_ctranslate2
from gpt2lab.tokens.bpe import ByteLevelBPE
from tests.checkpoints.exported import checkpoint_of, random_model
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_ctranslate2(Path({str(tmp_path / "out")!r}), checkpoint_of(random_model(ByteLevelBPE([]))))
except NoSpace as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"{tmp_path / 'out'}: the disk is full" in done.stdout
    assert not [*tmp_path.iterdir()]


def test_without_ctranslate2_the_remedy_is_named(tmp_path, small_tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2.converters", None)
    with pytest.raises(BadOption, match=r"pip install 'gpt2lab\[ctranslate2\]'"):
        write_ctranslate2(tmp_path / "out", checkpoint_of(random_model(small_tokenizer)))
    assert not (tmp_path / "out").exists()
