"""llama.cpp (llama-cpp-python, in an environment of its own) loads our GGUF files: same ids, same greedy text."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.checkpoints.formats.gguf_files import read_gguf, write_gguf
from gpt2lab.checkpoints.torch_network import network_of, published_weights
from gpt2lab.checkpoints.weights import Checkpoint
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE, gpt2_tokenizer

PYTHON = Path(__file__).resolve().parents[2] / ".venv-llama-cpp" / "bin" / "python"
STEPS = 64
FLOAT32, FLOAT16 = 0, 1

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not PYTHON.parents[1].joinpath(".ready").exists(), reason="no llama.cpp here; make test-interop builds it"
    ),
]

TEXTS = [
    "Hello, world! I'll say it's 12345 o'clock; they've 'DON'T' and we'd 'll.",
    " leading and trailing spaces   ",
    "\n\n\nthree newlines\n \n\t\ttabs \t mixed\r\nand a carriage return",
    "emoji 🙂👩‍👩‍👧‍👦🇩🇪 and CJK 日本語、中文 한국어",
    "Ünïcödé é (combining) ﬁ ligature ½ ² Ⅷ ٣٤٥",
    "no-break\u00a0space, em\u2003space, zero\u200bwidth, ideographic\u3000space, next line\u0085here",
    "def f(x):\n    return {'a': [1, 2.50, -3e10]}  # code != prose",
    "<|endoftext|> is text here, and so is [PAD300]",
    "",
    " ",
    "\x00\x01\x7f control characters \ufeff and a mark",
]


def ask(path, tokens=(), prompt=(0,), steps=0, texts=(), kv=FLOAT32):
    asked = {"texts": list(texts), "tokens": list(tokens), "prompt": list(prompt), "steps": steps, "kv": kv}
    program = Path(__file__).with_name("llama_cpp_program.py")
    done = subprocess.run(
        [PYTHON, program, path], input=json.dumps(asked), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), np.load(f"{path}.npy")


def trained(config, tokenizer, texts, steps):
    """A network that has learned enough for its next tokens to be far from even."""
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(5))
    ids = torch.tensor([token for text in texts for token in [tokenizer.end_of_text, *tokenizer.encode(text)]])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    chooser = torch.Generator().manual_seed(6)
    for _ in range(steps):
        starts = torch.randint(len(ids) - 65, (8,), generator=chooser)
        windows = torch.stack([ids[start : start + 65] for start in starts])
        logits = network(windows[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval(), loss.item()


def as_checkpoint(network, tokenizer, folder):
    return Checkpoint(folder, "network", network.config, published_weights(network), tokenizer)


@torch.inference_mode()
def greedy_of(network, prompt, steps=STEPS):
    """Our greedy tokens, and how far apart the two best logits were where they came closest."""
    ids, gap = list(prompt), np.inf
    for _ in range(steps):
        best = network(torch.tensor([ids]))[0, -1].topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[len(prompt) :], gap


@torch.inference_mode()
def logits_of(network, tokens):
    return network(torch.tensor([tokens]))[0].numpy()


@pytest.fixture(scope="module")
def model(small_tokenizer, sentences, tmp_path_factory):
    config = GPT2Config(small_tokenizer.vocab_size, context_length=128, n_layer=2, n_head=4, n_embd=64)
    network, loss = trained(config, small_tokenizer, sentences, steps=120)
    assert loss < 2
    return as_checkpoint(network, small_tokenizer, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def tokens(model, sentences):
    return model.tokenizer.encode(sentences[3])[:60]


def test_the_same_greedy_text_and_nearly_the_same_logits_at_float32(model, tokens, tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, model, "float32")
    network = network_of(model)
    ours, clear = logits_of(network, tokens), 0
    for text in ("The cat in the", "The otter", "\n", "nobody in the library", "A", "sings, and"):
        prompt = model.tokenizer.encode(text)
        found, theirs = ask(path, tokens, prompt, STEPS)
        difference = np.abs(ours - theirs).max()
        greedy, gap = greedy_of(network, prompt)
        print(f"largest difference of logits {difference:.2g} of {np.abs(ours).max():.3g}; closest call {gap:.2g}")
        assert difference < 5e-3  # llama.cpp's GELU is a table of float16
        if gap > 2 * difference:  # else the two best tokens are as good as equal, and either is right
            clear += 1
            assert found["greedy"] == greedy, text
    assert clear >= 3


@pytest.mark.parametrize(("dtype", "near"), [("float16", 0.02), ("bfloat16", 0.15), ("q8_0", 0.15)])
def test_smaller_types_load_and_give_near_logits(model, dtype, near, tokens, tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, model, dtype)
    _, theirs = ask(path, tokens)
    exact, rounded = logits_of(network_of(model), tokens), logits_of(network_of(read_gguf(path)), tokens)
    print(f"{dtype}: theirs differ by {np.abs(exact - theirs).max():.2g} from the float32 model's logits,")
    print(f"and by {np.abs(rounded - theirs).max():.2g} from those of our own reading of the file")
    assert np.abs(exact - theirs).max() < near
    assert (exact.argmax(1) == theirs.argmax(1)).mean() > 0.9


def test_what_llama_cpp_quantizes_has_our_bytes_and_opens_here(model, tmp_path):
    ours, theirs, exact = (tmp_path / f"{name}.gguf" for name in ("ours", "theirs", "exact"))
    write_gguf(exact, model, "float32")
    write_gguf(ours, model, "q8_0")
    code = (
        "import sys, llama_cpp\n"
        "asked = llama_cpp.llama_model_quantize_default_params()\n"
        "asked.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0\n"
        "sys.exit(llama_cpp.llama_model_quantize(*(path.encode() for path in sys.argv[1:]), asked))"
    )
    subprocess.run([PYTHON, "-c", code, exact, theirs], check=True, capture_output=True)
    opened, expected = read_gguf(theirs), read_gguf(ours)
    assert opened.config == expected.config
    assert opened.tokenizer.sha256 == expected.tokenizer.sha256
    for name, tensor in expected.tensors.items():
        assert opened.tensors[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(opened.tensors[name].read(), tensor.read(), err_msg=name)


def test_gpt2s_own_ids_on_real_texts_and_a_padded_vocabulary(sentences, tmp_path):
    tokenizer = gpt2_tokenizer()
    network = GPT2(GPT2Config(50_304, context_length=128, n_layer=2, n_head=4, n_embd=64))
    network.initialize(torch.Generator().manual_seed(1))
    path = tmp_path / "model.gguf"
    write_gguf(path, as_checkpoint(network, tokenizer, tmp_path), "q8_0")
    texts = [
        *TEXTS,
        *sentences[:10],
        Path(__file__).read_text(),
        *map(chr, [*range(0x20, 0x250), *range(0x2000, 0x2100)]),
    ]
    found, logits = ask(path, texts=texts, tokens=[5, 6])
    for text, ids in zip(texts, found["ids"], strict=True):
        assert ids == tokenizer.encode(text), repr(text)
    assert (found["bos"], found["eos"], found["size"]) == (50_256, 50_256, 50_304)
    assert logits.shape == (2, 50_304)


def test_a_tokenizer_of_our_own_gives_the_same_ids(model, sentences, tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, model, "float32")
    texts = [*TEXTS, *sentences]
    found, _ = ask(path, texts=texts, tokens=[1])
    for text, ids in zip(texts, found["ids"], strict=True):
        assert ids == model.tokenizer.encode(text), repr(text)


def test_an_untied_head_and_odd_widths_load(small_tokenizer, tmp_path):
    config = GPT2Config(small_tokenizer.vocab_size, 64, n_layer=1, n_head=3, n_embd=36, tie_word_embeddings=False)
    network = GPT2(config)
    network.initialize(torch.Generator().manual_seed(2))
    with torch.no_grad():
        network.lm_head.weight.normal_(std=0.3)
    path = tmp_path / "model.gguf"
    write_gguf(path, as_checkpoint(network, small_tokenizer, tmp_path), "q8_0")
    tokens = list(range(40, 80))
    _, theirs = ask(path, tokens)
    np.testing.assert_allclose(logits_of(network, tokens), theirs, atol=0.05)
    bytes_only = as_checkpoint(network, ByteLevelBPE([]), tmp_path)  # 257 ids and fillers, a list of no merges
    write_gguf(path, bytes_only, "float32")
    found, _ = ask(path, tokens, texts=["bytes é"])
    assert found["ids"] == [bytes_only.tokenizer.encode("bytes é")]
