"""Hugging Face folders: shards, half precision and the hub's links open; what is damaged or hostile is named."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.checkpoints.exported import checkpoint_of, random_model
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face, write_hugging_face
from gpt2lab.checkpoints.torch_network import network_of
from gpt2lab.checkpoints.weights import without_padding

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def model(small_tokenizer):
    return random_model(small_tokenizer)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    write_hugging_face(folder, checkpoint_of(model))
    return folder


@pytest.fixture(scope="module")
def sharded(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded") / "model"
    write_hugging_face(folder, checkpoint_of(model), max_shard_bytes=150_000)
    return folder


def copy_of(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def shards_of(folder):
    return sorted(folder.glob("model-*.safetensors"))


def logits_here_and_there(folder, model, sentences):
    tokens_BT = torch.tensor([model.tokenizer.encode(sentences[0])[:64]])
    with torch.inference_mode():
        theirs = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()(tokens_BT).logits
        return network_of(read_hugging_face(folder))(tokens_BT), theirs


def test_shards_are_read_as_transformers_reads_them(sharded, model, sentences):
    assert len(shards_of(sharded)) == 4
    assert all(file.stat().st_size < 155_000 for file in shards_of(sharded))
    assert sorted(file.name for file in read_hugging_face(sharded).files) == [
        "config.json",
        *(file.name for file in shards_of(sharded)),
    ]
    ours, theirs = logits_here_and_there(sharded, model, sentences)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    again = read_hugging_face(sharded).tensors
    for name, tensor in checkpoint_of(model).tensors.items():
        assert np.array_equal(again[name].read(), tensor.read()), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept_and_said(model, tmp_path, sentences, dtype):
    write_hugging_face(tmp_path / "half", checkpoint_of(model).of_type(dtype))
    checkpoint = read_hugging_face(tmp_path / "half")
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {dtype}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == dtype
    assert str(GPT2LMHeadModel.from_pretrained(tmp_path / "half", dtype="auto").dtype) == f"torch.{dtype}"
    ours, theirs = logits_here_and_there(tmp_path / "half", model, sentences)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_an_untied_head_is_read_as_transformers_reads_it(small_tokenizer, tmp_path, sentences):
    untied = random_model(small_tokenizer, "untied")
    write_hugging_face(tmp_path / "untied", checkpoint_of(untied))
    ours, theirs = logits_here_and_there(tmp_path / "untied", untied, sentences)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_the_masks_of_older_files_are_passed_over(whole, tmp_path):
    folder = copy_of(whole, tmp_path)
    weights = load_file(folder / WEIGHTS)
    weights["transformer.h.0.attn.bias"] = np.ones((1, 1, 128, 128), np.uint8)
    weights["transformer.h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    save_file(weights, folder / WEIGHTS)
    assert read_hugging_face(folder).tensors.keys() == read_hugging_face(whole).tensors.keys()


def test_tokens_added_with_transformers_are_left_out_and_named(whole, model, tmp_path, sentences):
    theirs, tokenizer = GPT2LMHeadModel.from_pretrained(whole), AutoTokenizer.from_pretrained(whole)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens(["<|user|>"])
    theirs.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    theirs.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    checkpoint = read_hugging_face(tmp_path)
    assert checkpoint.config.vocab_size == 322
    assert checkpoint.required_tokenizer().sha256 == model.tokenizer.sha256
    assert checkpoint.notes == (
        "Tokens added to its tokenizer ([PAD], <|user|>) were left out; their rows of the vocabulary stand for no"
        " token.",
    )
    assert np.array_equal(without_padding(checkpoint).tensors["wte.weight"].read(), model.network.wte.weight.detach())


def test_the_hubs_cache_of_links_opens(sharded, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sharded.iterdir()):
        shutil.copy(file, blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", f"{number:040}"))
    assert read_hugging_face(snapshot).tensors.keys() == read_hugging_face(sharded).tensors.keys()


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "..", "", "a\0b", "sub/a.safetensors", 3, "config.json"]
)
def test_an_index_that_names_anything_but_a_file_beside_it_is_refused(sharded, tmp_path, name):
    folder = copy_of(sharded, tmp_path)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["transformer.wte.weight"] = name
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(BadInput, match=rf"{INDEX}: names the shard .* file beside it"):
        read_hugging_face(folder)


@pytest.mark.parametrize("index", [[1], {"x": 1}, {"weight_map": []}])
def test_an_index_that_is_none_is_refused(sharded, tmp_path, index):
    folder = copy_of(sharded, tmp_path)
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(BadInput, match="not an index of shards"):
        read_hugging_face(folder)


def link_to_outside(shard):
    outside = shard.parent.parent / "outside.safetensors"
    shard.rename(outside)
    shard.symlink_to(outside)


def leave_one_out(shard):
    weights = load_file(shard)
    weights.popitem()
    save_file(weights, shard)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (link_to_outside, "a link to a file outside its folder"),
        (Path.unlink, "no such file, though model.safetensors.index.json names it"),
        (leave_one_out, "which the index promises there"),
        (lambda shard: os.truncate(shard, shard.stat().st_size - 5), "not a whole safetensors file"),
    ],
)
def test_a_damaged_shard_is_named(sharded, tmp_path, change, words):
    shard = shards_of(copy_of(sharded, tmp_path))[1]
    change(shard)
    with pytest.raises(BadInput, match=f"{shard.name}: .*{words}"):
        read_hugging_face(shard.parent)


def header_of(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(file, header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def overlapping(header):
    begin, _ = header["transformer.wte.weight"]["data_offsets"]
    length = np.subtract(*header["transformer.wpe.weight"]["data_offsets"][::-1])
    header["transformer.wpe.weight"]["data_offsets"] = [begin, begin + int(length)]


def past_the_end(header):
    header["transformer.ln_f.bias"]["data_offsets"] = [10**9, 10**9 + 256]


def of_vast_shape(header):
    header["transformer.ln_f.bias"]["shape"] = [2**62, 4]


@pytest.mark.parametrize("change", [overlapping, past_the_end, of_vast_shape])
def test_a_header_that_lies_about_the_file_is_refused(whole, tmp_path, change):
    file = copy_of(whole, tmp_path) / WEIGHTS
    header, data = header_of(file)
    change(header)
    with_header(file, header, data)
    with pytest.raises(BadInput, match=f"{WEIGHTS}: not a whole safetensors file"):
        read_hugging_face(file.parent)


@pytest.mark.parametrize("text", [b"{nope", b"[1]", b'{"a":' * 100_000, b""])
def test_a_header_that_is_no_json_object_is_refused(whole, tmp_path, text):
    file = copy_of(whole, tmp_path) / WEIGHTS
    with_header(file, text, b"")
    with pytest.raises(BadInput, match=f"{WEIGHTS}: not a whole safetensors file"):
        read_hugging_face(file.parent)


@pytest.mark.parametrize("really", [False, True])
def test_a_header_of_four_gigabytes_is_refused_unread(whole, tmp_path, really):
    file = copy_of(whole, tmp_path) / WEIGHTS
    file.write_bytes(struct.pack("<Q", 4 << 30))
    if really:
        os.truncate(file, (4 << 30) + 100)  # a sparse file: no space is taken
    with pytest.raises(BadInput, match=f"{WEIGHTS}: not a whole safetensors file .*header too large"):
        read_hugging_face(file.parent)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("transformer.ln_f.bias", np.zeros(64, np.int8), r"ln_f\.bias is of type I8"),
        ("transformer.ln_f.bias", np.zeros(64), r"ln_f\.bias is of type F64"),
        (
            "transformer.h.1.attn.c_attn.weight",
            np.zeros((192, 64), np.float32),
            r"h\.1\.attn\.c_attn\.weight has shape \[192, 64\], .*wanted \[64, 192\]",
        ),
        ("ln_f.bias", np.zeros(64, np.float32), r"holds ln_f\.bias twice"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(whole, tmp_path, name, array, words):
    folder = copy_of(whole, tmp_path)
    save_file(load_file(folder / WEIGHTS) | {name: array}, folder / WEIGHTS)
    with pytest.raises(BadInput, match=rf"{WEIGHTS}: {words}"):
        read_hugging_face(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_layer": 1}, r"12 tensors are of no GPT-2 of this config \(1 layers\), first of them h\.1\."),
        ({"n_layer": 3}, r"12 tensors are missing, first of them h\.2\.ln_1\.weight"),
        ({"n_layer": 10**9}, "the config has 1,000,000,000 layers"),
        ({"n_embd": 128}, r"wte\.weight has shape \[320, 64\], which disagrees with the config"),
        ({"n_positions": 64}, r"wpe\.weight has shape \[128, 64\], which disagrees"),
        ({"tie_word_embeddings": False}, r"1 tensor is missing, first of them lm_head\.weight"),
        ({"n_layer": "2"}, "n_layer is '2', not a whole number"),
        ({"n_embd": 64.0}, r"n_embd is 64\.0, not a whole number"),
        ({"n_head": True}, "n_head is True, not a whole number"),
        ({"n_embd": None, "n_inner": 256}, "n_embd is None"),
        ({"n_inner": "256"}, "n_inner is '256'"),
        ({"n_head": 5}, "can't be divided"),
        ({"n_layer": -1}, "must be at least 1"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ({"attn_pdrop": "0.1"}, r"attn_pdrop is '0\.1', not a number"),
        ({"activation_function": ["gelu"]}, r"activation_function \['gelu'\] is neither"),
        ({"tie_word_embeddings": "no"}, "neither true nor false"),
    ],
)
def test_a_config_that_is_wrong_or_disagrees_with_the_weights_is_refused(whole, tmp_path, changes, words):
    folder = copy_of(whole, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(BadInput, match=words):
        read_hugging_face(folder)


@pytest.mark.parametrize("name", ["config.json", "provenance.json"])
@pytest.mark.parametrize("text", ["[1]", "[" * 100_000, '{"a": ', "\xff"])
def test_json_that_is_no_object_is_refused(whole, tmp_path, name, text):
    folder = copy_of(whole, tmp_path)
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=name):
        read_hugging_face(folder)


def test_a_disk_full_in_the_middle_of_an_export_leaves_the_older_one(whole, tmp_path):
    """A real process that may write no file over 90 kB: the second of several shards is larger."""
    folder = copy_of(whole, tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    script = f"""
import resource, signal
from pathlib import Path
from gpt2lab.base.errors import NoSpace
from gpt2lab.checkpoints.formats.hugging_face import read_hugging_face, write_hugging_face
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
for out in ({str(folder)!r}, {str(tmp_path / "new")!r}):
    try:
        write_hugging_face(Path(out), read_hugging_face(Path({str(whole)!r})), max_shard_bytes=100_000)
    except NoSpace as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count(": the disk is full") == 2
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]
