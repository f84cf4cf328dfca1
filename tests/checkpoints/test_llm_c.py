"""Files of llm.c byte for byte: what it writes is read, what it reads is written."""

import resource
import struct
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput, NoSpace
from gpt2lab.checkpoints.formats.llm_c import read_llm_c, write_llm_c
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.torch_network import network_of, published_weights
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor
from gpt2lab.tokens.bpe import ByteLevelBPE, byte_symbols

ROWS = 384  # 320 ids, padded to a multiple of 128


@pytest.fixture
def checkpoint(tmp_path, small_model):
    network = small_model.network
    return Checkpoint(tmp_path, "network", network.config, published_weights(network), small_model.tokenizer)


def plain_file(network, version, rows=ROWS):
    """The bytes of llm.c's file, tensor after tensor; the network's matrices are [out, in] as llm.c's are."""
    config = network.config
    counts = [config.context_length, config.vocab_size, config.n_layer, config.n_head, config.n_embd, rows]
    header = struct.pack("<8i", 20240326, version, *counts) + bytes(4 * (256 - 8))
    padding = torch.zeros(rows - config.vocab_size, config.n_embd)
    parts = [torch.cat([network.wte.weight, padding]), network.wpe.weight]
    parts += [layer.ln_1.weight for layer in network.h]
    parts += [layer.ln_1.bias for layer in network.h]
    parts += [layer.attn.c_attn.weight for layer in network.h]
    parts += [layer.attn.c_attn.bias for layer in network.h]
    parts += [layer.attn.c_proj.weight for layer in network.h]
    parts += [layer.attn.c_proj.bias for layer in network.h]
    parts += [layer.ln_2.weight for layer in network.h]
    parts += [layer.ln_2.bias for layer in network.h]
    parts += [layer.mlp.c_fc.weight for layer in network.h]
    parts += [layer.mlp.c_fc.bias for layer in network.h]
    parts += [layer.mlp.c_proj.weight for layer in network.h]
    parts += [layer.mlp.c_proj.bias for layer in network.h]
    parts += [network.ln_f.weight, network.ln_f.bias]
    if version == 5:
        return header + b"".join(part.detach().bfloat16().view(torch.int16).numpy().tobytes() for part in parts)
    return header + b"".join(part.detach().numpy().tobytes() for part in parts)


@pytest.mark.parametrize(("version", "rows"), [(3, ROWS), (1, 320)])
def test_a_file_of_llm_c_gives_the_same_network(tmp_path, small_model, version, rows):
    (tmp_path / "model.bin").write_bytes(plain_file(small_model.network, version, rows))
    read = open_model(tmp_path / "model.bin")
    assert (read.format, read.config) == ("llm_c", small_model.network.config)
    tokens = torch.arange(32)[None]
    with torch.inference_mode():
        assert torch.equal(network_of(read)(tokens), small_model.network(tokens))
    assert bool(read.notes) is (rows > 320)


@pytest.mark.parametrize(("dtype", "version"), [("float32", 3), ("bfloat16", 5)])
def test_what_is_written_is_llm_cs_file_to_the_byte(tmp_path, checkpoint, small_model, dtype, version):
    write_llm_c(tmp_path / "out", checkpoint, dtype)
    assert (tmp_path / "out" / "model.bin").read_bytes() == plain_file(small_model.network, version)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_there_and_back_nothing_is_lost(tmp_path, checkpoint, dtype):
    source = replace(checkpoint, tensors={name: t.of_type(dtype) for name, t in checkpoint.tensors.items()})
    write_llm_c(tmp_path / "out", source, dtype)
    read = open_model(tmp_path / "out")
    assert read.config == source.config
    assert list(read.tensors) == list(source.tensors)
    for name, tensor in read.tensors.items():
        assert tensor.dtype == dtype
        bits = [np.ascontiguousarray(t.read()).view(np.uint8) for t in (tensor, source.tensors[name])]
        np.testing.assert_array_equal(*bits, strict=True)


def test_rounding_to_bfloat16_is_to_the_nearest(tmp_path, checkpoint):
    write_llm_c(tmp_path / "out", checkpoint, "bfloat16")
    read = read_llm_c(tmp_path / "out" / "model.bin").tensors["wte.weight"].read()
    np.testing.assert_array_equal(read, checkpoint.tensors["wte.weight"].read().astype(ml_dtypes.bfloat16))


def test_the_tokenizer_is_written_as_llm_c_decodes_it(tmp_path, checkpoint):
    write_llm_c(tmp_path / "out", checkpoint)
    content = (tmp_path / "out" / "gpt2_tokenizer.bin").read_bytes()
    assert struct.unpack("<4I", content[:16]) == (20240328, 2, 320, 319)
    tokens, place = [], 1024
    while place < len(content):
        tokens.append(content[place + 1 : place + 1 + content[place]])
        place += 1 + content[place]
    assert tokens == [*checkpoint.required_tokenizer().token_bytes[:-1], b"<|endoftext|>"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "gelu"}, "activation_function is gelu; llm.c's network has gelu_new"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ],
)
def test_what_llm_c_can_not_be_is_refused_by_name(tmp_path, checkpoint, change, words):
    with pytest.raises(BadInput, match=words):
        write_llm_c(tmp_path / "out", replace(checkpoint, config=replace(checkpoint.config, **change)))
    assert not (tmp_path / "out").exists()


def test_a_token_too_long_for_llm_cs_tokenizer_is_refused(tmp_path, checkpoint):
    letter = dict(byte_symbols())[ord("=")]
    doubled = [f"{letter * 2**power} {letter * 2**power}" for power in range(8)]
    with pytest.raises(BadInput, match=r"a token of 256 bytes; llm\.c's tokenizer file holds up to 255"):
        write_llm_c(tmp_path / "out", replace(checkpoint, tokenizer=ByteLevelBPE(doubled)))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, 20240327, "no weights of llm.c"),
        (1, 4, "version 4 of llm.c's format; 3 "),
        (2, 2**31 - 1, "where its header .* means"),
        (3, 0, "vocab_size = 0: must be at least 1"),
        (3, 385, "384 rows for a vocabulary of 385"),
        (4, -1, "n_layer = -1"),
        (4, 2**31 - 1, "where its header .2,147,483,647 layers"),
        (5, 5, "can't be divided"),
        (6, 2**30, "where its header .* 1,073,741,824 wide"),
        (7, 2**31 - 1, "2,147,483,647 rows. means"),
    ],
)
def test_a_header_of_no_gpt2_is_refused_before_anything_is_made_of_it(tmp_path, small_model, place, value, words):
    content = bytearray(plain_file(small_model.network, 3))
    content[4 * place : 4 * place + 4] = struct.pack("<i", value)
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_llm_c(tmp_path / "model.bin")


@pytest.mark.parametrize("length", [4, 1000, 1024, 50_000])
def test_a_file_cut_short_is_refused(tmp_path, small_model, length):
    (tmp_path / "model.bin").write_bytes(plain_file(small_model.network, 3)[:length])
    with pytest.raises(BadInput, match=r"model\.bin: (cut short|has [\d,]+ bytes where)"):
        open_model(tmp_path / "model.bin")


def test_one_tensor_is_held_at_a_time_and_a_full_disk_leaves_nothing(tmp_path, checkpoint):
    def tensor(name):
        def read():
            written.append(name)
            return checkpoint.tensors[name].read()

        return StoredTensor(checkpoint.tensors[name].shape, "float32", read)

    written = []
    source = replace(checkpoint, tensors={name: tensor(name) for name in checkpoint.tensors})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(NoSpace, match="disk is full"):
            write_llm_c(tmp_path / "out", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < len(written) < len(checkpoint.tensors)
    assert list(tmp_path.iterdir()) == []
