"""The command line on the user's own files, and one clear line with exit code 2 for what can't be."""

import gzip
import json
import os
import shlex
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from gpt2lab.checkpoints.model_folder import save_model_folder

COMMAND = [sys.executable, "-m", "gpt2lab"]


def run(*arguments, code: int = 0, **more) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **more)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def my_texts(tmp_path_factory, sentences):
    """A folder of files of every kind that a user may have."""
    folder = tmp_path_factory.mktemp("my_texts")
    parts = [sentences[n::6] for n in range(6)]
    for n, text in enumerate(parts[0]):
        (folder / f"{n}.txt").write_text(text)
    (folder / "notes.md").write_text("\n\n".join(parts[1]))
    (folder / "page.html").write_text(
        f"<html><title>A page</title><body><p>{'</p><p>'.join(parts[2])}</p></body></html>"
    )
    lines = "".join(json.dumps({"text": text, "url": "http://example.org/"}) + "\n" for text in parts[3])
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in parts[4])
    (folder / "b.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    pyarrow.parquet.write_table(pyarrow.table({"text": parts[5]}), folder / "c.parquet")
    return folder


@pytest.mark.slow
def test_a_users_own_files_become_a_talking_model(my_texts, tmp_path):
    data, tokens, out = tmp_path / "data", tmp_path / "tokens", tmp_path / "run"
    built = json.loads(run("build", my_texts, "--out", data, "--filters", "none", "--json").stdout)
    assert built["kept"] == 10 + 1 + 1 + 10 + 10 + 10
    assert built["removed"] == {}
    rows = pyarrow.parquet.read_table(data / "documents").to_pylist()
    assert {"id", "text", "url", "source_file"} <= rows[0].keys()
    assert len({row["id"] for row in rows}) == len(rows)
    assert (
        "gpt2lab train" in run("tokenize", data, "--out", tokens, "--vocab-size", 300, "--held-out-share", 0.3).stderr
    )
    shape = ["--model.context-length", 32, "--model.n-layer", 1, "--model.n-head", 2, "--model.n-embd", 32]
    trained = run("train", tokens, "--out", out, *shape, "--steps", 40, "--batch.sequences", 4)
    assert f"gpt2lab generate {out}/model" in trained.stderr
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    scores = run("evaluate", out / "model", data, "--held-out-share", 0.3, "--cloze-items", 0, "--out", tmp_path / "ev")
    assert "bits per byte" in scores.stdout
    assert json.loads((tmp_path / "ev" / "results.json").read_text())["language_modelling"]["documents"] > 3
    text = run("generate", out / "model", "The cat", "--max-tokens", 20, "--seed", 3).stdout
    assert text.startswith("The cat")
    found = json.loads(
        run("generate", out / "model", "-", "--max-tokens", 20, "--seed", 3, "--json", input="The cat").stdout
    )
    assert "The cat" + found["text"] + "\n" == text


def test_links_of_a_dump_are_what_fetch_reads(tmp_path):
    rows = [{"url": f"http://example.com/{n}", "score": n, "created_utc": 1_300_000_000} for n in range(6)]
    (tmp_path / "RS_2011-01.zst").write_bytes(
        zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )
    done = run("links", tmp_path / "RS_2011-01.zst", "--out", tmp_path / "out")
    assert done.stdout == ""
    made, following = done.stderr.splitlines()[-2:]
    assert "3 links of 6 lines" in made
    assert following == f"next: gpt2lab fetch {tmp_path}/out/links.parquet --out pages/"
    found = json.loads(run("links", tmp_path / "RS_2011-01.zst", "--out", tmp_path / "out", "--json").stdout)
    assert (found["links"], found["dropped"], found["already_finished"]) == (3, {"score below 3": 3}, True)
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!DOCTYPE html>")
    from gpt2lab.webtext.crawl.fetch import read_links

    assert sorted(read_links(tmp_path / "out" / "links.parquet")) == [row["url"] for row in rows[3:]]


def test_a_tokenizer_of_ones_own(documents_folder, tmp_path):
    """Trained, said to be smaller than asked for where the documents hold no more, and ready to tokenize with."""
    done = run("tokens", "train", documents_folder, "--out", tmp_path / "bpe", "--vocab-size", 300)
    made, following = done.stderr.splitlines()
    assert made == f"{tmp_path}/bpe: a byte-level BPE of 300 ids."
    assert following == f"next: gpt2lab tokenize {documents_folder} --tokenizer {tmp_path}/bpe --out tokens/"
    run(*shlex.split(following)[2:-1], tmp_path / "tokens")
    trained_on_the_way = json.loads(
        run("tokenize", documents_folder, "--vocab-size", 300, "--out", tmp_path / "same", "--json").stdout
    )
    told = json.loads(
        run("tokens", "train", documents_folder, "--out", tmp_path / "bpe", "--vocab-size", 300, "--json").stdout
    )
    assert told["sha256"] == trained_on_the_way["tokenizer_sha256"]
    few = run("tokens", "train", documents_folder, "--out", tmp_path / "few", "--vocab-size", 9000)
    assert "ids, not 9,000: no other pair of tokens occurs twice" in few.stderr
    assert "tokens train" in run("tokens").stdout


def test_tokens_are_inspected_compared_and_carried_to_other_tools_and_back(documents_folder, tmp_path):
    tokens = tmp_path / "tokens"
    made = run("tokenize", documents_folder, "--out", tokens, "--vocab-size", 300, "--held-out-share", 0.2)
    assert f"{tokens}/report.html" in made.stderr
    assert "bytes a token" in (tokens / "report.html").read_text()
    table = run("tokens", "inspect", tokens).stdout
    assert "300 ids as uint16" in table
    found = json.loads(run("tokens", "inspect", tokens, "--json").stdout)
    assert f"{found['splits'][0]['tokens']:,}" in table
    told = run("tokens", "inspect", tokens, "--at", 0, "--count", 5).stdout
    assert "train token 0 = train_00000.bin token 0; token 0 of its document" in told
    assert "<|endoftext|>The " in told
    compared = run("tokens", "compare", "gpt2", tokens, "--documents", documents_folder, "--held-out-share", 0.2).stdout
    assert compared.splitlines()[0].split()[-3:] == ["gpt2", "tokens", "gain"]
    run("tokens", "export", tokens, "--to", "nanogpt", "--out", tmp_path / "nanogpt")
    again = run("tokens", "import", tmp_path / "nanogpt", "--out", tmp_path / "again", "--tokenizer", tokens, "--json")
    assert sum(shard["tokens"] for shard in json.loads(again.stdout)["shards"]) == sum(
        split["tokens"] for split in found["splits"]
    )


def test_help_answers_at_once_and_names_every_verb():
    def seconds() -> float:
        """Of the processor: a busy machine lets it wait."""
        before = os.times()
        text = run("--help").stdout
        assert all(f"  {verb} " in text for verb in "links fetch build tokenize train evaluate generate demo".split())
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(5)) < 0.3


def test_importing_the_package_does_not_import_torch():
    code = "import gpt2lab, gpt2lab.cli, sys; assert 'torch' not in sys.modules; gpt2lab.train; gpt2lab.evaluate"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)


def test_the_api_reads_like_the_command_line():
    code = """
import inspect, gpt2lab
from gpt2lab.train.recipes import laptop
from gpt2lab.evaluate.evaluation import Evaluation
assert list(inspect.signature(gpt2lab.train).parameters)[:3] == ["recipe", "tokens", "out"]
assert list(inspect.signature(gpt2lab.evaluate).parameters)[:3] == ["model", "data", "out"]
assert callable(gpt2lab.load)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "no verb 'nope'"),
        (["build", "{empty}", "--out", "{out}"], "nothing to read here"),
        (["build", "{empty}/absent", "--out", "{out}"], "no such file"),
        (["links", "{empty}", "--out", "{out}"], "no links here"),
        (["links", "{empty}/RS_2011-01.zst", "--out", "{out}"], "no such file"),
        (["links", "{bad_recipe}", "--out", "{out}"], "nothing could be read"),
        (["links", "{bad_recipe}", "--out", "{out}", "--compare", "{bad_recipe}"], "line 1 is not a count"),
        (["fetch", "{empty}/links.txt", "--out", "{out}"], "no such file"),
        (["tokenize", "{empty}", "--out", "{out}"], "no documents here"),
        (["train", "{empty}", "--out", "{out}"], "gpt2lab tokenize"),
        (["train", "{tokens}", "--out", "{out}", "--recipe", "{bad_recipe}"], "unknown key learning_rate"),
        (["train", "{tokens}", "--out", "{out}", "--recipe", "dream"], "no recipe 'dream'"),
        (["train", "{tokens}", "--out", "{out}", "--model.vocab-size", "300"], "the model's vocabulary only 300"),
        (["train", "{tokens}", "--out", "{out}", "--batch.sequences", "1000000"], "What fits, with about"),
        (["generate", "{empty}"], "no model in this folder"),
        (["generate", "{empty}", "--temperature", "-1"], "--temperature -1.0"),
        (["evaluate", "{empty}", "{empty}"], "no model in this folder"),
        (["demo", "--minutes", "0", "--out", "{out}"], "--minutes 0.0"),
        (["train", "{tokens}", "--out", "{bad_recipe}"], "can't be made a folder"),
        (["tokenize", "{tokens}/absent", "--out", "{out}"], "no such file or folder"),
        (["tokens", "nope"], "no verb 'tokens nope'; there are tokens"),
        (["tokens", "train", "{empty}", "--out", "{out}", "--vocab-size", "300"], "no documents here"),
        (["tokens", "train", "{bad_recipe}", "--out", "{out}", "--vocab-size", "256"], "at least 257"),
        (["tokens", "train", "{none}", "--out", "{out}", "--vocab-size", "300"], "no text to train"),
        (
            ["tokens", "train", "{empty}", "--out", "{out}", "--vocab-size", "300", "--split-pattern", "(a"],
            "no regular",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line(arguments, words, tmp_path, tokens_folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("")
    (tmp_path / "bad.json").write_text('{"name": "x", "learning_rate": 1}')
    places = {
        "empty": tmp_path / "empty",
        "out": tmp_path / "out",
        "tokens": tokens_folder,
        "bad_recipe": tmp_path / "bad.json",
        "none": tmp_path / "none.txt",
    }
    done = run(*(argument.format(**places) for argument in arguments), code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_below_a_file_is_one_clear_line(small_model, tmp_path):
    save_model_folder(tmp_path / "model", small_model.network, small_model.tokenizer, {})
    (tmp_path / "file").touch()
    done = run("export", tmp_path / "model", "--to", "gguf", "--out", tmp_path / "file" / "new", code=2)
    assert done.stderr == f"error: {tmp_path / 'file'}: a file lies in the way.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("buffered", [False, True])
def test_output_that_nobody_reads_ends_quietly_and_a_full_disk_in_one_line(buffered):
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    unread, pipe = os.pipe()
    os.close(unread)
    full = os.open("/dev/full", os.O_WRONLY)
    for place, code, words in ((pipe, 141, ""), (full, 2, "error: the disk that is written to is full")):
        command = [*COMMAND, "tokens"]
        done = subprocess.run(command, stdout=place, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        os.close(place)
        assert done.returncode == code
        assert done.stderr.startswith(words)
        assert done.stderr.count("\n") == (1 if words else 0)
