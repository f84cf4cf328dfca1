"""Models of the hub: the client's own code against a hub on loopback that speaks its protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoints.hub_server import serve_hub, sha256

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.formats.hugging_face import write_hugging_face
from gpt2lab.checkpoints.hub import as_path, fetch_model, hub_name
from gpt2lab.checkpoints.opening import open_model
from gpt2lab.checkpoints.quantizing import quantize_model
from gpt2lab.checkpoints.weights import Checkpoint, StoredTensor, published_shapes
from gpt2lab.model.config import GPT2Config

FIRST, SECOND = "a" * 40, "b" * 40
MODEL = "someone/tiny"


def made(tokenizer, folder, seed=1, shard_bytes=None):
    """The files of a small random GPT-2, as a repository of the hub holds them."""
    config = GPT2Config(vocab_size=tokenizer.vocab_size, context_length=16, n_layer=2, n_head=2, n_embd=32)
    rng = np.random.default_rng(seed)
    tensors = {
        name: StoredTensor.of(rng.standard_normal(shape, np.float32))
        for name, shape in published_shapes(config).items()
    }
    write_hugging_face(folder, Checkpoint(folder, "made", config, tensors, tokenizer), max_shard_bytes=shard_bytes)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(small_tokenizer, tmp_path_factory):
    return made(small_tokenizer, tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def hub():
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def cache(hub, tmp_path, monkeypatch):
    """The client in this process, turned to the hub on loopback and a fresh cache."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "cache"
    close_session()


def go_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def weights_of(checkpoint):
    return np.concatenate([tensor.read().ravel() for tensor in checkpoint.tensors.values()])


def blob_of(cache, content, model=MODEL):
    return cache / f"models--{model.replace('/', '--')}" / "blobs" / sha256(content)


# Which words name a model of the hub


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("distilgpt2", "distilbert/distilgpt2"),
        ("gpt2@refs/pr/3", "openai-community/gpt2@refs/pr/3"),
        ("openai-community/gpt2-medium", "openai-community/gpt2-medium"),
        ("someone/gpt2.v1@main", "someone/gpt2.v1@main"),
        ("hub:gpt2-large", "openai-community/gpt2-large"),
        ("hub:runs/model", "runs/model"),
    ],
)
def test_names_of_the_hub_are_known(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name(source) == name


@pytest.mark.parametrize(
    "source",
    [
        *("./gpt2", "/models/gpt2", "../a/gpt2", "~/gpt2", "runs/mine/model", "gpt2/", "gpt3", ".", "", "C:/gpt2"),
        *("some/model.gguf", "some/model.safetensors", "a/b.pt", "a--b/c", "a/..", "a/b@", Path("gpt2"), Path("a/b")),
    ],
)
def test_paths_never_go_to_the_hub(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name(source) is None


def test_a_short_name_that_is_a_folder_here_too_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gpt2").mkdir()
    with pytest.raises(BadOption, match=r"gpt2: both a folder here and a model of the hub; write ./gpt2 or hub:gpt2"):
        hub_name("gpt2")
    assert hub_name("./gpt2") is None
    assert hub_name("hub:gpt2") == hub_name("gpt2@main").removesuffix("@main") == "openai-community/gpt2"


@pytest.mark.parametrize("out", ["gpt2", "models/gpt2", "mine"])
def test_a_new_folder_is_told_by_a_name_that_opens_it(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(out).mkdir(parents=True)
    assert hub_name(as_path(Path(out))) is None


def test_a_path_of_two_parts_that_exists_stays_a_path_and_a_mistyped_one_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/model").mkdir(parents=True)
    Path("runs/model.ckpt-10.index").touch()
    assert hub_name("runs/model") is None
    assert hub_name("runs/model.ckpt-10") is None
    with pytest.raises(BadOption, match=r"runs/modle: no such file or folder in runs/; .* write hub:runs/modle"):
        hub_name("runs/modle")


@pytest.mark.parametrize("source", ["hub:", "hub:gpt3", "hub:a/b/c", "hub:../x", "hub:a/b@"])
def test_hub_before_no_name_is_refused(source):
    with pytest.raises(BadOption, match="no name of the hub; those are OWNER/NAME, gpt2"):
        hub_name(source)


def test_telling_names_from_paths_imports_nothing_heavy():
    code = "import sys; from gpt2lab.checkpoints.hub import hub_name; hub_name('gpt2'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"huggingface_hub", "torch", "httpx2", "transformers"} & set(loaded)


# Fetching


def test_a_model_is_fetched_once_and_then_asks_only_what_main_is(hub, cache, files):
    from huggingface_hub import scan_cache_dir

    hub.publish(MODEL, files | {"tf_model.h5": b"x", "pytorch_model.bin": b"y", "onnx/model.onnx": b"z"}, FIRST)
    opened = open_model(MODEL)
    assert opened.provenance["hub"] == MODEL
    assert opened.provenance["revision"] == FIRST
    first = weights_of(opened)
    fetched = {Path(request.path.partition("?")[0]).name for request in hub.asked("GET", "resolve")}
    assert fetched == files.keys()
    assert not hub.asked(containing="telemetry")
    assert not hub.asked(containing="agent")
    assert {request.user_agent for request in hub.requests} == {"gpt2lab"}
    assert not scan_cache_dir(cache).warnings

    hub.requests.clear()
    again = open_model(MODEL)
    assert [request.path for request in hub.requests] == [f"/api/models/{MODEL}/revision/main?blobs=true"]
    np.testing.assert_array_equal(weights_of(again), first)


def test_a_commit_in_the_cache_needs_no_network(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    open_model(MODEL, FIRST)
    hub.requests.clear()
    assert open_model(MODEL, FIRST).provenance["revision"] == FIRST
    assert open_model(f"{MODEL}@{FIRST}").provenance["revision"] == FIRST
    assert not hub.requests


def test_a_model_can_not_say_that_it_is_another(hub, cache, files):
    claim = json.dumps({"hub": "openai-community/gpt2", "revision": SECOND, "made_by": "me"}).encode()
    hub.publish(MODEL, files | {"provenance.json": claim}, FIRST)
    assert open_model(MODEL).provenance == {"hub": MODEL, "revision": FIRST, "made_by": "me"}


def test_revisions_pick_the_commit(hub, cache, files, small_tokenizer, tmp_path):
    newer = made(small_tokenizer, tmp_path / "newer", seed=2)
    hub.publish(MODEL, files, FIRST)
    hub.publish(MODEL, newer, SECOND)
    hub.revisions[MODEL, "v1"] = FIRST
    assert open_model(MODEL).provenance["revision"] == SECOND
    older = open_model(MODEL, "v1")
    assert older.provenance["revision"] == FIRST
    assert not np.array_equal(weights_of(open_model(MODEL)), weights_of(older))
    large = hub.asked("GET", "signature")
    assert len(large) == 2
    with pytest.raises(BadInput, match=f"{MODEL}: has no revision v2; name a branch, tag or commit"):
        open_model(MODEL, "v2")
    with pytest.raises(BadOption, match=f"--revision v1: {MODEL}@main names a revision already"):
        open_model(f"{MODEL}@main", "v1")


def test_main_that_moved_is_followed_and_both_commits_stay(hub, cache, files, small_tokenizer, tmp_path, monkeypatch):
    hub.publish(MODEL, files, FIRST)
    open_model(MODEL)
    hub.publish(MODEL, made(small_tokenizer, tmp_path / "newer", seed=2), SECOND)
    assert open_model(MODEL).provenance["revision"] == SECOND
    go_offline(monkeypatch)
    assert open_model(MODEL).provenance["revision"] == SECOND
    assert open_model(MODEL, FIRST).provenance["revision"] == FIRST


def test_shards_are_fetched_with_their_index(hub, cache, small_tokenizer, tmp_path):
    sharded = made(small_tokenizer, tmp_path / "sharded", shard_bytes=40_000)
    assert sum(name.endswith(".safetensors") for name in sharded) > 2
    hub.publish(MODEL, sharded, FIRST)
    whole = made(small_tokenizer, tmp_path / "whole")
    hub.publish("someone/whole", whole, FIRST)
    np.testing.assert_array_equal(weights_of(open_model(MODEL)), weights_of(open_model("someone/whole")))


def test_a_quantized_folder_is_fetched_and_opened_as_one(hub, cache, small_tokenizer, tmp_path):
    made(small_tokenizer, tmp_path / "model")
    quantize_model(tmp_path / "model", tmp_path / "small", "int8")
    hub.publish(MODEL, {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}, FIRST)
    opened = open_model(MODEL)
    np.testing.assert_array_equal(weights_of(opened), weights_of(open_model(tmp_path / "small")))
    assert opened.tensors["wte.weight"].quantized is not None


def test_an_older_model_of_pytorch_files_is_fetched_where_there_are_no_safetensors(hub, cache, files):
    older = {name: content for name, content in files.items() if name != "model.safetensors"}
    hub.publish(MODEL, older | {"pytorch_model.bin": b"some pickle", "model.gguf": b"GGUF"}, FIRST)
    folder = fetch_model(MODEL).folder
    assert (folder / "pytorch_model.bin").read_bytes() == b"some pickle"
    assert not (folder / "model.gguf").exists()


def test_the_published_models_are_pinned_to_a_commit_and_their_checksum(hub, cache, files):
    pinned = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    hub.publish("openai-community/gpt2", files, pinned)
    hub.publish("openai-community/gpt2", files, SECOND)
    with pytest.raises(BadInput, match=r"openai-community/gpt2: its weights at commit 607a30d are not the published"):
        open_model("gpt2")
    assert [request.path for request in hub.requests] == [
        f"/api/models/openai-community/gpt2/revision/{pinned}?blobs=true"
    ]
    assert open_model("gpt2", "main").provenance["revision"] == SECOND


# Downloads that break off, bytes that are wrong


def test_a_connection_cut_once_is_resumed_at_once(hub, cache, files, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    hub.publish(MODEL, files, FIRST)
    hub.cut_once["model.safetensors"] = 50_000
    open_model(MODEL)
    first, second = hub.asked("GET", "signature")
    assert first.range is None
    assert second.range == f"bytes={50_000 // 4096 * 4096}-"


def in_a_process(hub, tmp_path, code, **environment):
    """Run a few lines in a Python of its own, with the environment that a user would set."""
    settings = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings | environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


OPEN = f"""
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 4096
from gpt2lab.base.errors import UserError
from gpt2lab.checkpoints.opening import open_model
try:
    print(open_model({MODEL!r}).provenance["revision"])
except UserError as error:
    print("error:", error)
print("torch" in sys.modules)
"""


def test_a_download_that_was_killed_goes_on_where_it_was(hub, tmp_path, files):
    hub.publish(MODEL, files, FIRST)
    hub.stall_once["model.safetensors"] = 60_000
    killed = in_a_process(hub, tmp_path, OPEN)
    assert hub.stalled.wait(200)
    partial = blob_of(tmp_path / "home" / "hub", files["model.safetensors"])
    partial = partial.with_name(f"{partial.name}.incomplete")
    full_chunks = 60_000 // 4096 * 4096
    deadline = time.monotonic() + 60
    while partial.stat().st_size < full_chunks - 8192 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = partial.stat().st_size
    assert kept > 0

    hub.requests.clear()
    output, errors = in_a_process(hub, tmp_path, OPEN).communicate(timeout=200)
    assert output.split() == [FIRST, "False"], errors
    assert [request.range for request in hub.asked("GET", "signature")] == [f"bytes={kept}-"]
    assert not partial.exists()

    hub.requests.clear()
    output, errors = in_a_process(hub, tmp_path, OPEN, HF_HUB_OFFLINE="1").communicate(timeout=200)
    assert output.split() == [FIRST, "False"]
    assert not errors
    assert not hub.requests


def test_wrong_bytes_are_deleted_and_fetched_anew(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    hub.wrong_bytes.add("model.safetensors")
    with pytest.raises(BadInput, match=rf"{MODEL}: .* does not hold what the hub has .* deleted: run the same command"):
        open_model(MODEL)
    assert not [*(cache / "models--someone--tiny" / "blobs").glob(f"{sha256(files['model.safetensors'])}*")]
    hub.wrong_bytes.clear()
    assert open_model(MODEL).provenance["revision"] == FIRST


def test_wrong_bytes_of_a_small_file_are_deleted_and_fetched_anew(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    hub.wrong_bytes.add("merges.txt")
    with pytest.raises(BadInput, match="does not hold what the hub has"):
        open_model(MODEL)
    hub.wrong_bytes.clear()
    assert open_model(MODEL).provenance["revision"] == FIRST


def test_partial_files_of_rubbish_and_servers_without_ranges_still_end_in_the_right_bytes(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    blob = blob_of(cache, files["model.safetensors"])
    blob.parent.mkdir(parents=True)
    partial = blob.with_name(f"{blob.name}.incomplete")
    partial.write_bytes(b"rubbish" * 100)
    hub.ignores_ranges = True
    open_model(MODEL)
    assert blob.read_bytes() == files["model.safetensors"]

    blob.unlink()
    partial.write_bytes(files["model.safetensors"] + b"more")
    open_model(MODEL)
    assert blob.read_bytes() == files["model.safetensors"]

    blob.unlink()
    partial.write_bytes(b"rubbish" * 100)
    hub.ignores_ranges = False
    with pytest.raises(BadInput, match="does not hold what the hub has"):
        open_model(MODEL)
    open_model(MODEL)
    assert blob.read_bytes() == files["model.safetensors"]


def test_a_file_damaged_or_cut_short_in_the_cache_is_noticed_and_mended(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    folder = fetch_model(MODEL).folder
    for name, damaged in (
        ("model.safetensors", files["model.safetensors"][:-4]),
        ("tokenizer.json", b""),
        ("config.json", files["config.json"].replace(b"16", b"61")),
    ):
        (folder / name).resolve().write_bytes(damaged)
        with pytest.raises(BadInput, match="does not hold what the hub has"):
            fetch_model(MODEL)
        assert (fetch_model(MODEL).folder / name).read_bytes() == files[name]


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
"""


def test_a_full_disk_is_told_and_the_rest_is_fetched_later(hub, files, tmp_path):
    hub.publish(MODEL, files, FIRST)
    output, errors = in_a_process(hub, tmp_path, FULL_DISK + OPEN).communicate(timeout=200)
    assert "the disk is full; free some space and run the same command again" in output, errors
    hub.requests.clear()
    output, errors = in_a_process(hub, tmp_path, OPEN).communicate(timeout=200)
    assert output.split()[0] == FIRST, errors
    assert [request.range for request in hub.asked("GET", "signature")] == ["bytes=50000-"]


# Without a network, without permission, without sense


def test_what_is_not_in_the_cache_cannot_be_had_offline(hub, cache, files, monkeypatch):
    hub.publish(MODEL, files, FIRST)
    go_offline(monkeypatch)
    with pytest.raises(BadInput, match=rf"{MODEL}: not \(wholly\) in the cache .* HF_HUB_OFFLINE forbids"):
        open_model(MODEL)
    assert not hub.requests


@pytest.mark.parametrize("lost", ["vocab.json", "model.safetensors"])
def test_a_file_lost_from_the_cache_is_told_offline_and_fetched_later(hub, cache, files, monkeypatch, lost):
    from huggingface_hub import constants

    hub.publish(MODEL, files, FIRST)
    (open_model(MODEL).where / lost).resolve().unlink()
    go_offline(monkeypatch)
    with pytest.raises(BadInput, match=rf"^{MODEL}: not \(wholly\) in the cache .*") as caught:
        open_model(MODEL)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    open_model(MODEL)


def test_without_a_network_the_cache_serves_and_its_lack_is_told_at_once(hub, cache, files, monkeypatch):
    from huggingface_hub import constants

    hub.publish(MODEL, files, FIRST)
    open_model(MODEL)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert open_model(MODEL).provenance["revision"] == FIRST
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"gpt2: not \(wholly\) in the cache .* http://127.0.0.1:9 can't be reached"):
        open_model("gpt2")
    assert time.monotonic() - start < 10


def test_a_cache_that_another_program_filled_serves_offline_only_if_it_has_the_tokenizer(
    hub, cache, files, monkeypatch
):
    from huggingface_hub import snapshot_download

    hub.publish(MODEL, files, FIRST)
    hub.publish("someone/partly", files, FIRST)
    snapshot_download(MODEL)
    snapshot_download("someone/partly", allow_patterns=["config.json", "model.safetensors"])
    hub.requests.clear()
    go_offline(monkeypatch)
    assert open_model(MODEL).provenance["revision"] == FIRST
    with pytest.raises(BadInput, match="not \\(wholly\\) in the cache"):
        open_model("someone/partly")


def test_weights_that_another_program_fetched_are_verified_but_not_fetched_again(hub, cache, files):
    from huggingface_hub import snapshot_download

    hub.publish(MODEL, files, FIRST)
    snapshot_download(MODEL, allow_patterns=["config.json", "model.safetensors"])
    hub.requests.clear()
    open_model(MODEL)
    assert not hub.asked(containing="model.safetensors")
    assert hub.asked("GET", "merges.txt")


def test_a_private_model_opens_with_the_token_which_the_storage_never_sees(hub, cache, files, monkeypatch):
    hub.publish(MODEL, files, FIRST)
    hub.private[MODEL] = "hf_secret"
    with pytest.raises(BadInput, match=rf"{MODEL}: no such model on {hub.address}, or a private one \(set HF_TOKEN\)"):
        open_model(MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    open_model(MODEL)
    assert hub.asked("GET", "/resolve/")[-1].authorization == "Bearer hf_secret"
    assert [request.authorization for request in hub.asked("GET", "signature")] == [None]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda hub: hub.files.clear(), "no such model on http"),
        (lambda hub: hub.gated.add(MODEL), "accept the terms at http.*/someone/tiny, then set HF_TOKEN"),
        (lambda hub: setattr(hub, "status", 503), "answered with HTTP status 503; try again later"),
        (lambda hub: setattr(hub, "status", 403), "answered with HTTP status 403; set HF_TOKEN"),
        (lambda hub: setattr(hub, "status", 200), "does not answer as a hub does; is HF_ENDPOINT right"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(hub, cache, files, spoil, message):
    hub.publish(MODEL, files, FIRST)
    spoil(hub)
    with pytest.raises(BadInput, match=f"^{MODEL}: .*{message}") as caught:
        open_model(MODEL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": None}, r"not a model as transformers keeps them \(no config.json"),
        ({"config.json": b'{"model_type": "llama"}'}, "not the config of a GPT-2 .model_type is 'llama'"),
        (
            {"model.safetensors": None, "tf_model.h5": b"x", "a.gguf": b"y"},
            r"has no weights .* \(only tf_model.h5, a.gguf\)",
        ),
        ({"model.safetensors": b"not safetensors"}, "not a whole safetensors file"),
    ],
)
def test_a_repository_without_a_gpt2_is_refused_by_its_name_before_its_weights_come(hub, cache, files, change, message):
    hub.publish(MODEL, {name: content for name, content in (files | change).items() if content is not None}, FIRST)
    with pytest.raises(BadInput, match=f"^{MODEL}: .*{message}"):
        open_model(MODEL)
    if "safetensors" not in message:
        assert not hub.asked("GET", "signature")


def test_names_that_lead_out_of_the_folder_are_never_written(hub, cache, files, tmp_path):
    outside = {"../../../../outside.json": b"1", "../model.safetensors": b"2", "/tmp/outside.json": b"3"}
    hub.publish(MODEL, files | outside, FIRST)
    folder = open_model(MODEL).where
    assert {path.name for path in folder.iterdir()} == files.keys()
    assert not [*tmp_path.rglob("outside.json")]

    index = {"weight_map": {"wte.weight": "../../../../secret.safetensors"}}
    bare = {name: content for name, content in files.items() if name != "model.safetensors"}
    hub.publish("someone/sly", bare | {"model.safetensors.index.json": json.dumps(index).encode()}, FIRST)
    with pytest.raises(BadInput, match=r"someone/sly: .*a shard is a .safetensors or .bin file beside it"):
        open_model("someone/sly")
    hub.publish("someone/linked", files | {"config.json": b"../../../../../secret.json"}, FIRST)  # git keeps a link so
    with pytest.raises(BadInput, match=r"someone/linked: .*not valid JSON"):
        open_model("someone/linked")


def test_a_cache_that_cannot_be_written_is_told(hub, cache, files):
    hub.publish(MODEL, files, FIRST)
    cache.write_text("a file")
    with pytest.raises(BadInput, match=f"{cache}.* can't be written .*; set HF_HOME to a folder of yours") as caught:
        open_model(MODEL)
    assert "\n" not in str(caught.value)
