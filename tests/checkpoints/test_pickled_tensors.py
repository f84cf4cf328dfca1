"""Files of torch.save are read as data: code in them never runs, and what is damaged is refused in one line."""

import json
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.pickled_tensors import read_pickle, read_pickled_tensors
from gpt2lab.checkpoints.model_folder import load_model_folder, save_model_folder


class Command:
    """Unpickled in the ordinary way, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("way", ["archive", "older file", "plain pickle"])
def test_code_in_a_pickle_never_runs(tmp_path, way):
    file, marker = tmp_path / "model.pt", tmp_path / "it-ran"
    content = {"wte.weight": torch.ones(2), "extra": Command(marker)}
    if way == "plain pickle":
        file.write_bytes(pickle.dumps(content["extra"], protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=way == "archive")
    with pytest.raises(BadInput, match=r"model\.pt: holds more than .*posix\.system.*nothing in it was run") as caught:
        read_pickled_tensors(file)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert os.system(f"touch {marker}") == 0  # it would have
    assert marker.exists()


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_come_back_bit_for_bit(tmp_path, dtype, archive):
    tensor = torch.randn(6, 4).to(getattr(torch, dtype))
    content = {"a": tensor, "turned": tensor.T, "parameter": torch.nn.Parameter(tensor)}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=archive)
    read = read_pickled_tensors(tmp_path / "x.pt")
    wanted = tensor.float().numpy().astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert [stored.dtype for stored in read.values()] == [dtype] * 3
    assert read["turned"].shape == (4, 6)
    for name, array in (("a", wanted), ("turned", wanted.T), ("parameter", wanted)):
        np.testing.assert_array_equal(read[name].read().astype(np.float32), array.astype(np.float32), strict=True)


def test_writing_to_what_was_read_leaves_the_file_alone(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    read_pickled_tensors(tmp_path / "x.pt")["a"].read()[:] = 7
    assert (tmp_path / "x.pt").read_bytes() == before


def compressed(file):
    torch.save({"a": torch.zeros(1_000_000)}, file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def cut(file, archive=True):
    torch.save({"a": torch.zeros(10_000)}, file, _use_new_zipfile_serialization=archive)
    os.truncate(file, file.stat().st_size // 2)


def foreign_archive(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hello.txt", "hello")


DAMAGED = {
    "a compressed entry (a bomb)": (compressed, "is compressed, which torch.save never does"),
    "an archive cut short": (cut, "cut short or damaged"),
    "an older file cut short": (lambda file: cut(file, archive=False), "or a damaged one"),
    "an empty file": (lambda file: file.touch(), "an empty file"),
    "text": (lambda file: file.write_text("<!doctype html>" * 9), "not a file of PyTorch's torch.save"),
    "a pickle, not PyTorch's": (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "not a file of PyTorch's"),
    "an archive, not PyTorch's": (foreign_archive, "not a file of PyTorch's"),
    "a module": (lambda file: torch.save(torch.nn.Linear(1, 1), file), r"torch\.nn\.modules\.linear\.Linear"),
    "numbers, not tensors": (lambda file: torch.save({"step": 3}, file), "'step' in it is a int"),
    "names that are none": (lambda file: torch.save({3: torch.ones(1)}, file), "3 in it is a Tensor"),
    "a list": (lambda file: torch.save([torch.ones(1)], file), "holds a list, not tensors by name"),
    "a sparse tensor": (lambda file: torch.save({"a": torch.ones(3).to_sparse()}, file), "a is a tensor without plain"),
    "no numbers": (lambda file: torch.save({"a": torch.ones(3, device="meta")}, file), "a is a tensor without plain"),
    "one number claimed to be many": (
        lambda file: torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, file),
        "a claims 1,000,000,000,000 numbers",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_no_file_of_tensors_is_refused_in_one_line(tmp_path, what):
    make, words = DAMAGED[what]
    file = tmp_path / "model.pt"
    make(file)
    with pytest.raises(BadInput, match=words) as caught:
        read_pickled_tensors(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250 + len(str(file))


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_pickle(tmp_path / "absent.pt")


@pytest.fixture
def older_folder(tmp_path, small_model):
    """A model folder whose weights are pytorch_model.bin, and those weights."""
    folder = tmp_path / "model"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril().bool()
    weights["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(weights, folder / "pytorch_model.bin")
    return folder, weights


def assert_same_logits(folder, small_model):
    network, _ = load_model_folder(folder)
    tokens = torch.arange(32)[None]
    with torch.inference_mode():
        assert torch.equal(network(tokens), small_model.network(tokens))


def test_a_folder_with_pytorch_model_bin_gives_the_same_logits(older_folder, small_model):
    assert_same_logits(older_folder[0], small_model)


def test_a_folder_with_several_of_them_gives_the_same_logits(older_folder, small_model):
    folder, weights = older_folder
    (folder / "pytorch_model.bin").unlink()
    names = list(weights)
    shards = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for shard, held in shards.items():
        torch.save({name: weights[name] for name in held}, folder / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_same_logits(folder, small_model)
    cut(folder / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(BadInput, match=r"pytorch_model-00002-of-00002\.bin: cut short"):
        load_model_folder(folder)
