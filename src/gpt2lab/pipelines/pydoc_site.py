"""Real pages that every Python can serve: `pydoc` on loopback, and the links of the pages worth taking from it."""

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib.machinery import FileFinder
from pathlib import Path
from pkgutil import iter_modules
from urllib.parse import quote, unquote
from urllib.request import urlopen

from gpt2lab.base.errors import UserError

START_TIMEOUT_SECONDS = 30.0
INDEX_TIMEOUT_SECONDS = 30.0

# pydoc's own `-p` command, but for the end: it leaves when the pipe on its standard input closes, whatever the pages
# it showed did to it. (`python -m pydoc -p 0` hangs there once it has shown the page of `threading`, which it reloads.)
SERVE = """
import os, pydoc, sys
def leave_when_the_pipe_closes(prompt):
    sys.stdin.buffer.read()
    os._exit(0)
pydoc.input = leave_when_the_pipe_closes
pydoc.browse(int(sys.argv[1]), hostname="127.0.0.1", open_browser=False)
"""

# Packages that an installation of gpt2lab always has, with prose in their docstrings. pydoc imports a module anew for
# every page, which some packages don't survive (numpy, networkx) or pay dearly for (matplotlib: 28 s and 0.7 GB).
PACKAGES = (
    "aiohttp",
    "attr",
    "courlan",
    "fastwarc",
    "fsspec",
    "grpc",
    "htmldate",
    "jinja2",
    "lxml",
    "markdown",
    "multidict",
    "protego",
    "psutil",
    "pyarrow",
    "requests",
    "rich",
    "tiktoken",
    "tokenizers",
    "trafilatura",
    "tyro",
    "urllib3",
    "warcio",
    "werkzeug",
    "yarl",
    "zstandard",
)

# Modules whose import does something (opens a browser, prints, starts a game) or that are no documentation.
UNWANTED_MODULES = frozenset({"antigravity", "ensurepip", "idlelib", "lib2to3", "test", "this", "turtledemo"})
UNWANTED_PART = re.compile(r"_.*|tests?|test_.*|.*_tests?|testing|conftest|setup|vendor|vendored|extern")


@contextmanager
def pydoc_site(python: str = sys.executable, port: int = 0) -> Iterator[str]:
    """Serve `python`'s documentation on loopback; yields the base URL, ending in a slash. Port 0 is any free port.

    The server ends with the block, and also when this process is killed. Raises UserError when it can't start.
    """
    with tempfile.TemporaryDirectory(prefix="gpt2lab-pydoc-") as folder:
        said = Path(folder, "said.txt")
        command = [python, "-P", "-u", "-c", SERVE, str(port)]
        # Standard output is a file, not a pipe: some modules print when imported, and nobody would empty the pipe.
        with said.open("wb") as output:
            try:
                server = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=folder
                )
            except OSError as error:
                raise UserError(f"{python}: can't be started ({error.strerror}); name another Python.") from None
        try:
            yield _wait_for_url(server, said)
        finally:
            if server.stdin:
                server.stdin.close()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for_url(server: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        ended = server.poll() is not None
        text = said.read_text(encoding="utf-8", errors="replace")
        if ready := re.search(r"Server ready at (http://\S+)\s", text):
            return ready[1]
        if ended or time.monotonic() > deadline:
            reason = text.strip().splitlines()[-1:] or [f"no word from it in {START_TIMEOUT_SECONDS:g} s"]
            raise UserError(f"pydoc: the documentation server can't start on 127.0.0.1 ({reason[0]}); try again.")
        time.sleep(0.02)


def collect_links(base_url: str) -> list[str]:
    """Links of every page worth taking: topics and keywords as the server lists them, then modules of this Python.

    The standard library comes last, because pydoc reloads what it shows: after the pages of `typing`, `enum` and
    `threading` some packages can't be imported any more.

    Nothing is imported here. Raises UserError when the server does not answer.
    """
    names = [key for index in ("topics", "keywords") for key in _listed_topics(f"{base_url}{index}.html")]
    topics = [f"{base_url}topic?key={quote(name)}" for name in dict.fromkeys(names)]
    modules = [f"{base_url}{name}.html" for name in module_names((*PACKAGES, *sorted(sys.stdlib_module_names)))]
    return topics + modules


def _listed_topics(url: str) -> list[str]:
    try:
        with urlopen(url, timeout=INDEX_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the address is the server's own
            page = answer.read().decode("utf-8", errors="replace")
    except (OSError, HTTPException) as error:
        raise UserError(f"{url}: no answer from the documentation server ({error}); start it again.") from None
    return [unquote(key) for key in re.findall(r'href="topic\?key=([^"]+)"', page)]


def module_names(top_level: Iterable[str]) -> Iterator[str]:
    """Dotted names of the installed ones of `top_level` and of all below them, without importing any."""
    for name in top_level:
        if name in UNWANTED_MODULES or UNWANTED_PART.fullmatch(name):
            continue
        spec = importlib.util.find_spec(name)
        if spec is not None:
            yield name
            yield from _submodule_names(name, spec.submodule_search_locations or ())


def _submodule_names(package: str, folders: Iterable[str]) -> Iterator[str]:
    for found in iter_modules(list(folders), prefix=f"{package}."):
        last = found.name.rpartition(".")[2]
        if UNWANTED_PART.fullmatch(last):
            continue
        yield found.name
        if found.ispkg and isinstance(found.module_finder, FileFinder):
            yield from _submodule_names(found.name, [str(Path(found.module_finder.path, last))])
