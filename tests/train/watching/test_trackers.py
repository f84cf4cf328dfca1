"""The real trackers, without a network: every line arrives, and a run taken up again goes on in the same run there."""

import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.train.small_run import small_recipe

from gpt2lab.base.files import write_json
from gpt2lab.train.checkpointing import checkpoints
from gpt2lab.train.recipe import recipe_to_json

pytestmark = pytest.mark.interop
STEPS = 16


def run_twice(tracker, tokens_folder, tokenizer, folder, environment):
    """A run with the tracker, its last checkpoint lost, then taken up again; each as a process of its own."""
    pytest.importorskip(tracker)
    recipe = small_recipe(tokenizer.vocab_size, STEPS)
    recipe = replace(recipe, watch=replace(recipe.watch, tracker=tracker, project="watched"))
    write_json(folder / "mine.json", recipe_to_json(recipe))
    out = folder / "run"
    command = [sys.executable, "-m", "gpt2lab", "train", str(tokens_folder), "--recipe", str(folder / "mine.json")]
    for again in (False, True):
        if again:
            (out / "summary.json").unlink()
            shutil.rmtree(checkpoints(out / "checkpoints")[-1])
        done = subprocess.run(
            [*command, "--out", str(out), "--json"],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == STEPS  # nothing else on standard output
        assert "Traceback" not in done.stderr
    return out, json.loads((out / "tracker.json").read_text())["run"]


def test_wandb_offline_gets_every_line_and_one_run(tokens_folder, small_tokenizer, tmp_path):
    environment = {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    out, name = run_twice("wandb", tokens_folder, small_tokenizer, tmp_path, environment)
    sessions = sorted((out / "wandb").glob(f"offline-run-*-{name}"))
    assert len(sessions) == 2
    steps = [step for session in sessions for step in wandb_steps(session / f"run-{name}.wandb")]
    assert steps == [0, *range(1, 11), 10, *range(11, 17), 16, 15, 16, 16]


def wandb_steps(path: Path) -> list[int]:
    """The steps of the lines in a file of wandb's: records in LevelDB's log format, whose header is of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, held, steps = path.read_bytes(), 7, b"", []
    while len(data) - place >= 7:
        if (left := 32_768 - place % 32_768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            record, held = Record.FromString(held), b""
            values = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            steps += [int(values["step"])] if values else []
    return steps


def test_trackio_gets_every_line_and_one_run(tokens_folder, small_tokenizer, tmp_path):
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    _, name = run_twice("trackio", tokens_folder, small_tokenizer, tmp_path, environment)
    script = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage as s;"
        " print(json.dumps([s.get_runs('watched'), s.get_logs('watched', sys.argv[1])]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, name], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    runs, lines = json.loads(found.stdout.splitlines()[-1])
    assert runs == [name]
    assert {line["step"] for line in lines if "loss" in line} == set(range(1, STEPS + 1))
    assert {line["step"] for line in lines if "val_loss" in line} == {0, 10, 16}
