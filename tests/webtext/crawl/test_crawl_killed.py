"""kill -9 at any moment: at the end every page is there exactly once."""

import asyncio
import random
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.webtext.crawl.web_site import archived, log_lines

HOSTS, PAGES, KILLS = 20, 2000, 20
CRAWL = Path(__file__).with_name("kill_crawl.py")


def body_of(path):
    """A page of its own for each path, but each tenth of a host looks like the one before."""
    number = int(path.rpartition("/")[2])
    number -= number % 10 == 9
    return random.Random(f"{number}").randbytes(2000).hex().encode()


class Host(asyncio.Protocol):
    """Answers the first `most` requests to all hosts together, and holds the others back."""

    paths, most = None, 0

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            body = b"" if path == "/robots.txt" else body_of(path)
            self.paths.append((self.transport.get_extra_info("sockname")[0], path))
            if len(self.paths) > Host.most:
                return
            delay = zlib.crc32(path.encode()) % 20 / 1000
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            asyncio.get_running_loop().call_later(delay, self.transport.write, answer)


@contextmanager
def many_hosts():
    """Serves 127.0.3.1 to 127.0.3.20 from a thread; yields the base addresses and what was asked for."""

    async def serve():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        hosts = [f"127.0.3.{number + 1}" for number in range(HOSTS)]
        first = await loop.create_server(Host, hosts[0], 0)
        port = first.sockets[0].getsockname()[1]
        async with first, await loop.create_server(Host, hosts[1:], port):
            shared.update(loop=loop, stop=stop, bases=[f"http://{host}:{port}" for host in hosts])
            ready.set()
            await stop.wait()

    shared, ready = {}, threading.Event()
    Host.paths = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield shared["bases"], Host.paths
    finally:
        shared["loop"].call_soon_threadsafe(shared["stop"].set)
        thread.join()


@pytest.mark.slow
def test_a_crawl_killed_at_20_random_moments_has_every_page_exactly_once(tmp_path):
    chooser, out, names = random.Random(11), tmp_path / "pages", tmp_path / "links.txt"
    with many_hosts() as (bases, asked):
        links = [f"{base}/{number}" for number in range(PAGES // HOSTS) for base in bases]
        names.write_text("\n".join(links))
        killed = 0
        while killed < KILLS:
            before = len(asked)
            # Some are killed while they start, mend or plan; the others anywhere in some 100 pages.
            wanted = chooser.choice([0, *range(1, 200, 2)])
            Host.most = before + wanted  # and no further, or a crawl would end while this process is kept waiting
            crawl = subprocess.Popen([sys.executable, str(CRAWL), str(names), str(out)])
            while len(asked) - before < wanted and crawl.poll() is None:
                time.sleep(0.001)
            time.sleep(chooser.random() * (0.5 if wanted == 0 else 0.01))
            assert crawl.poll() is None, "ended before it was killed"
            crawl.kill()
            crawl.wait()
            killed += 1
        Host.most = sys.maxsize
        subprocess.run([sys.executable, str(CRAWL), str(names), str(out)], check=True)
        pages_asked = Counter(name for name in asked if name[1] != "/robots.txt")
    pages, repeats = archived(out), archived(out, "revisit")
    assert Counter(url for url, _ in [*pages, *repeats]) == Counter(links)
    assert Counter(line["url"] for line in log_lines(out)) == Counter(links)
    assert len(repeats) == PAGES // 10
    assert all(body == body_of(url) for url, body in pages)
    assert sorted(path.suffix for path in out.iterdir()) == [".gz"] * len(list(out.glob("*.gz"))) + [".jsonl"]
    again = sum(pages_asked.values()) - PAGES
    assert again <= KILLS * (HOSTS + 64)  # what was under way, or waited to be written, at each kill
