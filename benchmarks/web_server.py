"""A cheap web of many hosts on loopback, in a process of its own, that logs when each request came and was answered.

`python -m benchmarks.web_server HOSTS LOG` prints its port, serves 127.0.1.1 to 127.0.1.HOSTS until standard input
closes, and then writes the log: for each request its host, when it came and when it was answered (monotonic seconds).
"""

import asyncio
import html
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics

LATENCY_SECONDS = (0.020, 0.050)
PAGE_BYTES = (10_000, 40_000)
ROBOTS = b"User-agent: *\nDisallow: /private/\n"
DIFFERENT_BODIES = 64


def host_address(number: int) -> str:
    """The address of a host, counted from 0."""
    return f"127.0.1.{number + 1}"


def page_bodies() -> list[bytes]:
    """Pages of 10 to 40 kB: English prose that every Python has, in the usual amount of markup."""
    chooser = random.Random(0)
    texts = [text for _, text in sorted(topics.items())]
    menu = "".join(f'<li class="nav-item"><a href="/section/{n}.html">Section {n}</a></li>\n' for n in range(40))
    bodies = []
    for _ in range(DIFFERENT_BODIES):
        wanted = chooser.randint(*PAGE_BYTES)
        parts = [f'<body class="page"><ul id="menu" role="navigation">{menu}</ul><div id="content">\n']
        while sum(map(len, parts)) < wanted:
            text = chooser.choice(texts)
            paragraphs = text[: wanted - sum(map(len, parts))].split("\n\n")
            parts += [f'<p class="text" data-n="{chooser.random()}">{html.escape(words)}</p>\n' for words in paragraphs]
        bodies.append("".join([*parts, "</div></body></html>\n"]).encode())
    return bodies


class _Host(asyncio.Protocol):
    """One connection to one host; answers each request after a latency that its path decides."""

    log: list[tuple[int, float, float]]
    bodies: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""
        self.host = int(transport.get_extra_info("sockname")[0].rpartition(".")[2]) - 1
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            start, path = self.loop.time(), head.split(b" ", 2)[1]
            chooser = random.Random(path)
            self.loop.call_later(chooser.uniform(*LATENCY_SECONDS), self.answer, path, start)

    def answer(self, path: bytes, start: float) -> None:
        if path == b"/robots.txt":
            kind, body = b"text/plain", ROBOTS
        else:
            title = b"<!DOCTYPE html><html><head><title>Host %d, page %s</title></head>\n" % (self.host, path)
            kind, body = b"text/html; charset=utf-8", title + self.bodies[zlib.crc32(path) % DIFFERENT_BODIES]
        head = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        # Before the write: this process may be set aside between sending the last byte and looking at the clock.
        self.log.append((self.host, start, self.loop.time()))
        self.transport.write(head % (kind, len(body)) + body)


async def _serve(hosts: int) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_server(_Host, host_address(0), 0)
    port = first.sockets[0].getsockname()[1]
    others = await loop.create_server(_Host, [host_address(number) for number in range(1, hosts)], port)
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    first.close()
    others.close()


@dataclass(frozen=True)
class Manners:
    """What a server saw of a crawler: requests, gaps shorter than wanted, requests at the same time to a host."""

    requests: int
    gap_violations: int
    smallest_gap_seconds: float
    overlaps: int


def manners(log: Path, gap_seconds: float) -> Manners:
    """Read a server's log. The clock of both sides is the same; a millisecond is allowed for its rounding."""
    by_host: dict[int, list[tuple[float, float]]] = {}
    entries = json.loads(log.read_text())
    for host, start, end in entries:
        by_host.setdefault(host, []).append((start, end))
    gaps = [start - end for visits in by_host.values() for (_, end), (start, _) in pairwise(sorted(visits))]
    too_short = sum(gap < gap_seconds - 0.001 for gap in gaps)
    return Manners(len(entries), too_short, min(gaps, default=0.0), sum(gap < 0 for gap in gaps))


@contextmanager
def web_server(hosts: int, log: Path) -> Iterator[int]:
    """Run the server in a process of its own; yields the port, and the log is there afterwards."""
    command = [sys.executable, "-m", "benchmarks.web_server", str(hosts), str(log)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin
    assert server.stdout
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait()


def main() -> None:
    """Serve until standard input closes."""
    _Host.log, _Host.bodies = [], page_bodies()
    asyncio.run(_serve(int(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(_Host.log))


if __name__ == "__main__":
    main()
