import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.pipelines.pydoc_site import PACKAGES, collect_links, module_names, pydoc_site
from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch

LOOPBACK = FetchOptions(allow_private=True, minimum_gap_seconds=0.0)


def is_up(base):
    try:
        with urlopen(base + "topics.html", timeout=60) as page:
            return page.status == 200
    except OSError:
        return False


def test_the_links_lead_to_documentation_and_collecting_them_imports_nothing(tmp_path):
    imported = set(sys.modules)
    with pydoc_site() as base:
        links = collect_links(base)
        assert {name for name in set(sys.modules) - imported if name.partition(".")[0] in PACKAGES} == set()
        sample = [f"{base}{page}" for page in ("topic?key=LOOPING", "topic?key=while", "json.html", "rich.table.html")]
        assert set(sample) <= set(links)
        assert fetch(sample, tmp_path, LOOPBACK).pages == len(sample)
    assert len(links) == len(set(links))
    assert 300 < len(links) < 1500
    lines = [json.loads(line) for line in (tmp_path / "fetch.jsonl").read_text().splitlines()]
    assert all(line["bytes"] > 1500 for line in lines)


def test_no_module_is_listed_whose_import_does_something():
    names = set(module_names((*sorted(sys.stdlib_module_names), *PACKAGES)))
    assert {"json", "json.decoder", "asyncio.tasks", "warcio.warcwriter"} <= names
    tops = {name.partition(".")[0] for name in names}
    assert not tops & {"antigravity", "this", "idlelib", "turtledemo", "test", "ensurepip", "lib2to3"}
    parts = {part for name in names for part in name.split(".")}
    assert not any(part.startswith("_") or part in ("tests", "test", "conftest", "setup") for part in parts)


def test_absent_modules_are_left_out():
    assert not list(module_names(["no_such_module_anywhere"]))


def test_a_page_that_fails_to_import_is_served_and_the_server_lives_on(tmp_path):
    with pydoc_site() as base:
        names = ("asyncio.windows_utils", "no_such_module", "threading", "typing", "pydoc", "sys")
        assert fetch([f"{base}{name}.html" for name in names], tmp_path, LOOPBACK).pages == len(names)
        assert is_up(base)
        start = time.monotonic()
    assert time.monotonic() - start < 30  # `python -m pydoc` itself never ends after the page of threading
    assert not is_up(base)


def test_the_server_dies_with_a_killed_parent(tmp_path):
    program = (
        "import time; from gpt2lab.pipelines.pydoc_site import pydoc_site\n"
        "with pydoc_site() as base: print(base, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        base = parent.stdout.readline().strip()
        assert is_up(base)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_up(base) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_up(base)


def test_a_port_in_use_is_a_user_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="in use"), pydoc_site(port=taken.getsockname()[1]):
            pass


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_a_python_that_cannot_start_is_a_user_error(python):
    with pytest.raises(UserError, match="can't"), pydoc_site(python=python):
        pass


def test_a_server_that_is_gone_is_a_user_error():
    with pydoc_site() as base:
        pass
    with pytest.raises(UserError, match="no answer"):
        collect_links(base)
