"""Checkpoints that TensorFlow writes under OpenAI's and the replication's names give the same network here."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.checkpoints.formats.tensorflow_checkpoint import read_tensorflow
from gpt2lab.checkpoints.importing import import_model
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.torch_network import network_of, published_weights
from gpt2lab.checkpoints.weights import Checkpoint

SHAPE = {"n_vocab": 320, "n_ctx": 32, "n_embd": 64, "n_head": 4, "n_layer": 2}
REPLICATION = SHAPE | {"embed_dropout": 0.1, "attn_dropout": 0.2, "res_dropout": 0.3, "lr": 0.00025, "input": "web"}

# TensorFlow as the two programs use it: variables by name, slots by its own optimizers, saved by its Saver.
WRITE = """
import os, sys
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
import numpy
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()

class Factored(tf.train.Optimizer):  # the slots that the replication's Adafactor makes
    def _create_slots(self, variables):
        for variable in variables:
            shape = variable.shape.as_list()
            for slot, of in ("vr", shape[:-1]), ("vc", shape[:-2] + shape[-1:]):
                self._get_or_make_slot(variable, tf.ones(of, tf.float32), slot, self._name)
    def _apply_dense(self, gradient, variable):
        return tf.no_op()

def write(folder, kind):
    arrays = dict(numpy.load(sys.argv[1]))
    with tf.Graph().as_default(), tf.Session() as session:
        dtype = tf.bfloat16 if kind == "bfloat16" else tf.float32
        with tf.variable_scope("model"):
            variables = [tf.get_variable(name, initializer=tf.cast(array, dtype)) for name, array in arrays.items()]
            if kind == "extra layer":
                tf.get_variable("h2/ln_1/g", [64])
            if kind == "adapter":
                tf.get_variable("h1/adapter/w", [64])
        if kind in ("adam", "bfloat16"):
            step = tf.train.get_or_create_global_step()
            optimizer = tf.train.AdamOptimizer() if kind == "adam" else Factored(False, "Adafactor")
            optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in variables], step)
        if kind == "head":
            tf.get_variable("classifier/w", [64, 2])
        session.run(tf.global_variables_initializer())
        if kind == "adam":
            session.run(step.assign(1000))
            tf.train.Saver().save(session, folder + "/model.ckpt", step)
        else:
            tf.train.Saver().save(session, folder + "/model.ckpt")

for kind in sys.argv[3:]:
    os.makedirs(sys.argv[2] + "/" + kind)
    write(sys.argv[2] + "/" + kind, kind)
"""


def variable_name(name):
    """OpenAI's name of a published tensor, below the scope 'model'."""
    parts = name.removesuffix(".weight").removesuffix(".bias").split(".")
    if parts[0] == "h":
        parts[:2] = [f"h{parts[1]}"]
    if name in ("wte.weight", "wpe.weight"):
        return parts[0]
    kind = "b" if name.endswith("bias") else "g" if "ln_" in name else "w"
    return "/".join([*parts, kind])


@pytest.fixture(scope="module")
def weights(small_model):
    network = small_model.network
    return Checkpoint(Path("small"), "network", network.config, published_weights(network), small_model.tokenizer)


@pytest.fixture(scope="module")
def written(tmp_path_factory, weights):
    """A folder of folders, each with a checkpoint that TensorFlow wrote."""
    place = tmp_path_factory.mktemp("tensorflow")
    arrays = {variable_name(name): tensor.read() for name, tensor in weights.tensors.items()}
    np.savez(
        place / "weights.npz",
        **{name: array[None] if name.endswith("/w") else array for name, array in arrays.items()},
    )
    kinds = ["openai", "adam", "bfloat16", "extra layer", "adapter", "head"]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRITE, place / "weights.npz", place / "folders", *kinds],
        check=True,
        timeout=200,
    )
    return place / "folders"


@pytest.fixture
def folder_of(written, tmp_path, small_tokenizer):
    """A function from a kind of checkpoint to a folder as its users have it."""

    def make(kind):
        folder = tmp_path / "124M"
        shutil.copytree(written / kind, folder)
        if kind == "openai":
            (folder / "hparams.json").write_text(json.dumps(SHAPE))
            (folder / "encoder.json").write_text(json.dumps(small_tokenizer.vocabulary()))
            (folder / "vocab.bpe").write_text(small_tokenizer.merges_text())
        else:
            (folder / "PrettyBig.json").write_text(json.dumps(REPLICATION))
        return folder

    return make


def assert_same_logits(found, wanted):
    tokens = torch.arange(32)[None]
    with torch.inference_mode():
        assert torch.equal(network_of(found)(tokens), network_of(wanted)(tokens))


@pytest.mark.interop
def test_openais_folder_gives_the_same_network_and_tokenizer(folder_of, weights, tmp_path):
    folder = folder_of("openai")
    read = open_model(folder)
    assert (read.format, read.config) == ("tensorflow", weights.config)
    assert read.required_tokenizer().sha256 == weights.required_tokenizer().sha256
    assert {file.name for file in read.files} == {
        "model.ckpt.index",
        "model.ckpt.data-00000-of-00001",
        "hparams.json",
    }
    assert_same_logits(read, weights)
    import_model(folder, tmp_path / "mine")
    assert_same_logits(open_model(tmp_path / "mine"), weights)


@pytest.mark.interop
def test_the_replications_checkpoint_is_read_without_its_optimizer(folder_of, weights):
    read = open_model(folder_of("adam"))
    config = read.config
    assert (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop) == (0.1, 0.2, 0.3)
    assert read.provenance == {"checkpoint": "model.ckpt-1000", "global_step": 1000}
    assert any("PrettyBig.json" in note for note in read.notes)
    assert any(f"{2 * 28 + 3} variables of its training" in note for note in read.notes)
    assert_same_logits(read, weights)


@pytest.mark.interop
def test_the_replications_bfloat16_is_kept(folder_of, weights):
    read = open_model(folder_of("bfloat16"))
    assert {tensor.dtype for tensor in read.tensors.values()} == {"bfloat16"}
    rounded = {name: tensor.of_type("bfloat16") for name, tensor in weights.tensors.items()}
    for name, tensor in read.tensors.items():
        np.testing.assert_array_equal(tensor.read().view(np.uint16), rounded[name].read().view(np.uint16))
    assert_same_logits(read, replace(weights, tensors=rounded))


@pytest.mark.interop
@pytest.mark.parametrize(
    "name", ["model.ckpt", "model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001"]
)
def test_any_file_of_a_checkpoint_stands_for_it(folder_of, weights, name):
    assert_same_logits(open_model(folder_of("openai") / name), weights)


@pytest.mark.interop
def test_the_newest_checkpoint_is_taken_by_its_base_name(folder_of):
    folder = folder_of("adam")
    for file in folder.glob("model.ckpt-1000.*"):
        shutil.copy(file, folder / file.name.replace("1000", "10"))
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/elsewhere/../run/model.ckpt-10"\n')
    assert open_model(folder).provenance["checkpoint"] == "model.ckpt-10"


@pytest.mark.interop
def test_nothing_is_printed_and_the_environment_stays(folder_of):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from gpt2lab.checkpoints.formats.tensorflow_checkpoint import read_tensorflow\n"
        "before = dict(os.environ)\n"
        "found = read_tensorflow(Path(sys.argv[1]))\n"
        "[tensor.read() for tensor in found.tensors.values()]\n"
        "assert os.environ == before\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, folder_of("openai")], capture_output=True, text=True, env=environment, timeout=200
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("extra layer", "n_layer is 2, but the weights of model.ckpt have 3"),
        ("adapter", r"holds model/h1/adapter/w \[64\], which is no variable of GPT-2's"),
        ("head", r"holds classifier/w \[64, 2\]"),
    ],
)
def test_what_is_no_gpt2_is_named(folder_of, kind, words):
    with pytest.raises(BadInput, match=words):
        open_model(folder_of(kind))


@pytest.mark.interop
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_layer": 3}, "n_layer is 3, but the weights of model.ckpt have 2"),
        ({"n_ctx": 1024}, "n_ctx is 1,024, but the weights of model.ckpt have 32"),
        ({"n_vocab": 50257}, "n_vocab is 50,257, but the weights of model.ckpt have 320"),
        ({"n_embd": 128}, "n_embd is 128, but the weights of model.ckpt have 64"),
    ],
)
def test_a_shape_that_disagrees_with_the_weights_is_named(folder_of, change, words):
    folder = folder_of("openai")
    (folder / "hparams.json").write_text(json.dumps(SHAPE | change))
    with pytest.raises(BadInput, match=rf"hparams\.json: {words}"):
        open_model(folder)


def damage(file, place):
    content = bytearray(file.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    file.write_bytes(content)


@pytest.mark.interop
def test_damaged_files_are_named(folder_of):
    folder = folder_of("openai")
    data, index = folder / "model.ckpt.data-00000-of-00001", folder / "model.ckpt.index"
    whole, whole_index = data.read_bytes(), index.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match=r"data-00000-of-00001: cut short; [\d,]+ bytes of data, where .* lists"):
        open_model(folder)
    data.write_bytes(whole)
    damage(data, 5000)
    with pytest.raises(BadInput, match="can't be read; the data file is damaged"):
        [tensor.read() for tensor in open_model(folder).tensors.values()]
    data.write_bytes(whole)
    for content in (b"", whole_index[:-20], os.urandom(2000)):
        index.write_bytes(content)
        with pytest.raises(BadInput, match=r"model\.ckpt\.index: not the whole index"):
            open_model(folder)


# What is wrong with a folder is said before TensorFlow is needed.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """OpenAI's folder with files of no content, and no TensorFlow to read them."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    folder = tmp_path / "124M"
    folder.mkdir()
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        (folder / name).touch()
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    (folder / "hparams.json").write_text(json.dumps(SHAPE))
    return folder


def test_without_tensorflow_one_line_says_how_to_get_it(folder):
    with pytest.raises(BadInput, match=r"has to read .*: pip install 'gpt2lab\[tf\]'\.") as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)


def state(text):
    return lambda folder: (folder / "checkpoint").write_text(text)


def shape(text):
    return lambda folder: (folder / "hparams.json").write_text(text)


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def two_checkpoints(folder):
    (folder / "checkpoint").unlink()
    (folder / "model.ckpt-7.index").touch()


def two_shapes(folder):
    for name in ("1.5B.json", "117M.json"):
        (folder / name).write_text(json.dumps(SHAPE))
    (folder / "hparams.json").unlink()


def second_shard_alone(folder):
    (folder / "model.ckpt.data-00000-of-00001").rename(folder / "model.ckpt.data-00001-of-00002")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("model.ckpt.index"), r"model\.ckpt\.index: no such file, which its file 'checkpoint' names"),
        (without("model.ckpt.data-00000-of-00001"), "data-00000-of-00001: no such file.*not whole without it"),
        (second_shard_alone, "data-00000-of-00002: no such file"),
        (without("hparams.json"), r"124M: no hparams\.json with n_layer.*beside its checkpoint"),
        (two_shapes, r"1\.5B\.json and 117M\.json both tell a shape"),
        (two_checkpoints, r"124M: 2 TensorFlow checkpoints here and no file 'checkpoint'.*model\.ckpt-7"),
        (state('model_checkpoint_path: "../../../etc/passwd"'), r"124M/passwd\.index: no such file"),
        (state('model_checkpoint_path: "/"'), "names no checkpoint"),
        (state("\xff\x00"), "names no checkpoint"),
        (shape("{"), r"hparams\.json: not valid JSON"),
        (shape(json.dumps(SHAPE | {"n_head": "4"})), "n_head is '4', not a whole number"),
        (shape(json.dumps(SHAPE | {"n_head": 5})), "can't be divided"),
        (shape(json.dumps(SHAPE | {"attn_dropout": "some"})), "attn_dropout is 'some', not a number"),
        (shape('{"n_layer": 2, "n_embd": 64}'), "n_vocab is None"),
    ],
)
def test_a_folder_that_is_not_whole_is_named(folder, change, words):
    change(folder)
    with pytest.raises(BadInput, match=words):
        read_tensorflow(folder)


def test_other_json_files_beside_a_checkpoint_are_passed_over(folder):
    (folder / "hparams.json").rename(folder / "117M.json")
    (folder / "samples.json").write_text('["n_embd", "n_layer"]')
    (folder / "encoder.json").write_text("{" + " " * 100_000)
    with pytest.raises(BadInput, match="pip install"):
        read_tensorflow(folder)
