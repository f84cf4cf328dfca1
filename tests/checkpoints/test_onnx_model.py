"""onnxruntime says what our network says: at once, step by step, and beside padding."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.checkpoints.exported import PROMPTS, VARIANTS, checkpoint_of, random_model
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face
from gpt2lab.checkpoints.formats.onnx_model import write_onnx
from gpt2lab.checkpoints.torch_network import published_weights
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE

pytestmark = pytest.mark.interop


class Session:
    """An ONNX decoder with the names that optimum gives it, and its cache."""

    def __init__(self, folder, batch=1):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(folder / "model.onnx")
        self.cache = {}
        for value in self.session.get_inputs()[3:]:
            shape = [batch, value.shape[1], 0, value.shape[3]]
            self.cache[value.name] = np.zeros(shape, np.float16 if value.type == "tensor(float16)" else np.float32)

    def __call__(self, tokens_BT, mask_BS=None):
        past = next(iter(self.cache.values())).shape[2]
        if mask_BS is None:
            mask_BS = np.ones((len(tokens_BT), past + tokens_BT.shape[1]), np.int64)
        positions_BS = np.maximum(mask_BS.cumsum(1) - 1, 0)
        fed = {"input_ids": tokens_BT, "attention_mask": mask_BS, "position_ids": positions_BS[:, past:]}
        logits_BTV, *cache = self.session.run(None, fed | self.cache)
        self.cache = dict(zip(self.cache, cache, strict=True))
        assert logits_BTV.dtype == np.float32
        return logits_BTV


def tokens_of(model, batch, length):
    return np.random.default_rng(1).integers(0, model.tokenizer.vocab_size, (batch, length))


def wanted(model, tokens_BT):
    with torch.inference_mode():
        return model.network(torch.from_numpy(tokens_BT)).numpy()[..., : model.tokenizer.vocab_size]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_at_once_and_by_steps_and_greedy_text_are_ours(tmp_path, small_tokenizer, variant):
    import onnx

    model = random_model(small_tokenizer, variant)
    difference = write_onnx(tmp_path, checkpoint_of(model))
    assert difference is not None
    assert difference < 1e-4
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)

    tokens_BT = tokens_of(model, 3, 128)
    wanted_BTV = wanted(model, tokens_BT)
    np.testing.assert_allclose(Session(tmp_path, 3)(tokens_BT), wanted_BTV, atol=1e-4, rtol=0)
    session = Session(tmp_path, 3)
    for start, end in ((0, 50), (50, 51), (51, 52), (52, 60), (60, 128)):
        stepped_BTV = session(tokens_BT[:, start:end])
        np.testing.assert_allclose(stepped_BTV, wanted_BTV[:, start:end], atol=1e-4, rtol=0)

    for prompt in PROMPTS:
        session, new, ids = Session(tmp_path), model.tokenizer.encode(prompt), []
        for _ in range(64):
            new = [int(session(np.array([new]))[0, -1].argmax())]
            ids += new
        assert model.tokenizer.decode(ids) == model.generate(prompt, max_tokens=64, temperature=0.0).text


def test_a_padded_sequence_gives_what_it_gives_alone(tmp_path, small_tokenizer):
    model = random_model(small_tokenizer)
    write_onnx(tmp_path, checkpoint_of(model))
    tokens_BT = tokens_of(model, 4, 40)
    mask_BT = np.ones_like(tokens_BT)
    for row, padding in enumerate((0, 1, 7, 29)):
        mask_BT[row, :padding] = 0
    session, pieces = Session(tmp_path, 4), []
    for start, end in ((0, 30), *((n, n + 1) for n in range(30, 40))):
        pieces.append(session(tokens_BT[:, start:end], mask_BT[:, :end]))
    logits_BTV = np.concatenate(pieces, axis=1)
    assert np.isfinite(logits_BTV).all()
    for row, padding in enumerate((0, 1, 7, 29)):
        alone_TV = wanted(model, tokens_BT[row : row + 1, padding:])[0]
        np.testing.assert_allclose(logits_BTV[row, padding:], alone_TV, atol=1e-4, rtol=0)


def test_half_precision_is_near_and_half_the_size(tmp_path, small_tokenizer):
    import onnx

    model = random_model(small_tokenizer)
    write_onnx(tmp_path / "whole", checkpoint_of(model))
    difference = write_onnx(tmp_path / "half", checkpoint_of(model), "float16")
    onnx.checker.check_model(tmp_path / "half" / "model.onnx", full_check=True)
    tokens_BT = tokens_of(model, 2, 64)
    wanted_BTV = wanted(model, tokens_BT)
    off = np.abs(Session(tmp_path / "half", 2)(tokens_BT) - wanted_BTV).max() / np.abs(wanted_BTV).max()
    assert 1e-6 < off < 5e-3
    assert difference is not None
    assert difference / np.abs(wanted_BTV).max() < 5e-3
    half, whole = ((tmp_path / name / "model.onnx_data").stat().st_size for name in ("half", "whole"))
    assert half < 0.75 * whole  # of so small a model much is the alignment


def test_weights_stand_once_to_the_bit_and_never_in_the_graph_which_may_not_exceed_two_gigabytes(
    tmp_path, small_tokenizer
):
    import onnx
    from onnx import numpy_helper

    checkpoint = checkpoint_of(random_model(small_tokenizer))
    write_onnx(tmp_path, checkpoint)
    bare = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert bare.ByteSize() < 50_000
    found = {tensor.name: tensor for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    for name, tensor in checkpoint.tensors.items():
        assert np.array_equal(numpy_helper.to_array(found.pop(name)), tensor.read()), name
    assert all(numpy_helper.to_array(constant).size <= 2 for constant in found.values())


def test_the_files_beside_it_are_what_its_loaders_want(tmp_path, small_tokenizer, sentences):
    write_onnx(tmp_path, checkpoint_of(random_model(small_tokenizer, "padded")))
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.vocab_size, config.n_layer) == ("gpt2", 320, 2)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == small_tokenizer.end_of_text
    assert AutoTokenizer.from_pretrained(tmp_path)(sentences[0])["input_ids"] == small_tokenizer.encode(sentences[0])
    script = json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]
    assert script == {"use_external_data_format": True, "kv_cache_dtype": "float32"}


def test_no_torch_is_needed_without_onnxruntime_to_check(tmp_path, small_tokenizer):
    write_hugging_face(tmp_path / "in", checkpoint_of(random_model(small_tokenizer)))
    script = f"""
import sys
from pathlib import Path
from gpt2lab.checkpoints.formats import onnx_model
from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face
found = onnx_model.find_spec
onnx_model.find_spec = lambda name: None if name == "onnxruntime" else found(name)
assert onnx_model.write_onnx(Path({str(tmp_path / "out")!r}), read_hugging_face(Path({str(tmp_path / "in")!r}))) is None
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "out" / "model.onnx").exists()


def test_weights_too_large_for_half_precision_are_refused_and_leave_nothing(tmp_path, small_tokenizer):
    checkpoint = checkpoint_of(random_model(small_tokenizer))
    huge = StoredTensor.of(np.full((64,), 1e6, np.float32))
    broken = replace(checkpoint, tensors=dict(checkpoint.tensors) | {"h.0.ln_1.weight": huge})
    with pytest.raises(BadInput, match=r"h\.0\.ln_1\.weight holds numbers that are not finite, or too large"):
        write_onnx(tmp_path / "out", broken, "float16")
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_leaves_the_older_export(tmp_path, small_tokenizer):
    """A real process that may write no file over 100 kB: the operating system refuses, as a full disk does."""
    write_onnx(tmp_path / "out", checkpoint_of(random_model(small_tokenizer)))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from gpt2lab.base.errors import NoSpace
from gpt2lab.checkpoints.formats.onnx_model import write_onnx
from gpt2lab.tokens.bpe import ByteLevelBPE
from tests.checkpoints.exported import checkpoint_of, random_model
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_onnx(Path({str(tmp_path / "out")!r}), checkpoint_of(random_model(ByteLevelBPE([]))))
except NoSpace as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the disk is full" in done.stdout
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_without_onnx_the_remedy_is_named(tmp_path, small_tokenizer, monkeypatch):
    monkeypatch.setattr("gpt2lab.checkpoints.formats.onnx_model.find_spec", lambda name: None)
    with pytest.raises(BadOption, match=r"pip install 'gpt2lab\[onnx\]'"):
        write_onnx(tmp_path / "out", checkpoint_of(random_model(small_tokenizer)))


def test_a_context_of_one_token_is_exported(tmp_path):
    config = GPT2Config(vocab_size=257, context_length=1, n_layer=1, n_head=1, n_embd=8)
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(tmp_path, "network", config, published_weights(network), ByteLevelBPE([]))
    assert write_onnx(tmp_path / "out", checkpoint) < 1e-4
