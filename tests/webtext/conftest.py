"""Real things for the tests of webtext: pydoc's server, and the WARC files of the shared data."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.webtext.prose import prose

SHARED_WARCS = Path(__file__).parents[3] / "shared" / "data" / "warc"


@pytest.fixture(scope="session")
def shared_warcs() -> Path:
    if not SHARED_WARCS.is_dir():
        pytest.skip(f"the shared data is not at {SHARED_WARCS}")
    return SHARED_WARCS


@pytest.fixture(scope="session")
def pydoc_page() -> Iterator[Callable[[str], str]]:
    """Fetches a page by its path from Python's own documentation server."""
    command = [sys.executable, "-m", "pydoc", "-n", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().removeprefix("Server ready at ").strip()

        def fetch(path: str) -> str:
            with urllib.request.urlopen(url + path, timeout=60) as response:
                return response.read().decode()

        yield fetch
        server.kill()


@pytest.fixture
def many_pages(tmp_path) -> Path:
    """Pages for seven tasks, ten of them duplicates."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        paragraphs = "".join(f"<p>{line}</p>" for line in prose(number % 50 + 1, 60).split("\n"))
        (folder / f"{number:02d}.html").write_text(f"<title>A page</title><article>{paragraphs}</article>")
    return folder
