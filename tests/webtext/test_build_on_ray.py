"""The same build on a Ray cluster: real raylets, the real command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CLUSTER = Path(__file__).with_name("ray_cluster.py")


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    quiet = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-W", "ignore", CLUSTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet) as cluster:
        assert cluster.stdout
        address = cluster.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield address
        cluster.communicate("")


def run(folder: Path, *arguments: str | Path) -> dict:
    command = [sys.executable, "-m", "gpt2lab", "build", *map(str, arguments), "--filters", "paper", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def documents(out: Path) -> dict[str, bytes]:
    files = [*(out / "documents").iterdir(), *(out / "removed").iterdir()]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.interop
def test_a_cluster_of_two_workers_makes_the_same_documents_byte_for_byte(many_pages, ray_address, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "07.html").write_bytes((many_pages / "07.html").read_bytes())  # a name that is there twice
    here = run(tmp_path, many_pages.name, "more", "--out", "here")
    there = run(tmp_path, many_pages.name, "more", "--out", "there", "--ray", ray_address)
    assert here["kept"] == there["kept"] == 50
    assert documents(tmp_path / "here") == documents(tmp_path / "there")
    assert len(list((tmp_path / "there" / "stages" / "extracted").iterdir())) > 3


def test_a_cluster_that_is_not_there_is_told_in_one_line(many_pages, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'gpt2lab[ray]'")
    command = [sys.executable, "-m", "gpt2lab", "build", many_pages, "--out", tmp_path / "out", "--ray", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ray: nothing answers at '127.0.0.1:1'")
