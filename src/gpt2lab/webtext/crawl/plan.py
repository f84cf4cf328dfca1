"""The links still to fetch, host by host, on disk: memory does not grow with their number.

A scratch database, made anew for every run from the list of links and the log. SQLite sorts in files of its own, so
ten million links need no more memory than ten thousand, however they are spread over hosts.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import xxhash

from gpt2lab.webtext.crawl.addresses import host_number, host_of_link
from gpt2lab.webtext.crawl.scratch import ScratchDatabase

_LINKS_AT_ONCE = 64
_DONE = 1 << 62
_SIGN = 1 << 63

_SORT = """
CREATE TABLE fresh AS
    SELECT min(position) AS position, host, url, sum(position = {done}) AS done FROM given
    GROUP BY hash HAVING min(position) < {done};
DROP TABLE given;
CREATE TABLE link AS SELECT host, url FROM fresh WHERE done = 0 ORDER BY host, position;
CREATE TABLE queue AS
    SELECT min(rowid) AS first, count(*) AS links FROM link GROUP BY host ORDER BY links DESC, first;
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """The links of one host: the first one's place in the plan, and how many."""

    first: int
    links: int


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= _SIGN else number


class Plan:
    """Use as a context manager; the file is removed at its end. `links` and `skipped` are numbers of distinct links.

    Hosts with the most links come first, so that no long one is left for the end; the links of a host keep the order
    in which they were given.
    """

    def __init__(
        self,
        path: Path,
        links: Iterable[str],
        done: Iterable[str] = (),
        takes_host: Callable[[int], bool] = lambda _: True,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._takes_host, self._on_progress = takes_host, on_progress
        self._scratch = ScratchDatabase(path, cache_kib=16384)
        self._database = self._scratch.connection
        try:
            with self._scratch.full_disk_explained():
                self._make(links, done)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Plan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the plan."""
        self._scratch.close()

    def _make(self, links: Iterable[str], done: Iterable[str]) -> None:
        run = self._database.execute
        run("CREATE TABLE given (position INTEGER, host INTEGER, hash INTEGER, url BLOB)")
        run("BEGIN")
        rows = chain(self._rows_of_links(links), self._rows_of_done(done))
        self._database.executemany("INSERT INTO given VALUES (?, ?, ?, ?)", rows)
        run("COMMIT")
        for statement in _SORT.format(done=_DONE).split(";"):
            run(statement)
        (self.skipped,) = run("SELECT count(*) FROM fresh WHERE done > 0").fetchone()
        (self.links,) = run("SELECT count(*) FROM link").fetchone()
        (self.hosts,) = run("SELECT count(*) FROM queue").fetchone()
        run("DROP TABLE fresh")

    def _rows_of_links(self, links: Iterable[str]) -> Iterator[tuple[int, int, int, bytes]]:
        for position, link in enumerate(links):
            if position % 10_000 == 0:
                self._on_progress(position)
            host = host_number(host_of_link(link))
            if self._takes_host(host):
                data = _bytes(link)
                yield position, _signed(host), _link_number(data), data

    @staticmethod
    def _rows_of_done(done: Iterable[str]) -> Iterator[tuple[int, int, int, bytes]]:
        for link in done:
            yield _DONE, 0, _link_number(_bytes(link)), b""

    def queues(self) -> Iterator[Queue]:
        """One for each host, the longest first."""
        for first, links in self._database.execute("SELECT first, links FROM queue ORDER BY rowid"):
            yield Queue(first, links)

    def links_of(self, queue: Queue) -> Iterator[str]:
        """The links of a host, a few at a time in memory."""
        end = queue.first + queue.links
        for first in range(queue.first, end, _LINKS_AT_ONCE):
            some = self._database.execute(
                "SELECT url FROM link WHERE rowid >= ? AND rowid < ? ORDER BY rowid",
                (first, min(first + _LINKS_AT_ONCE, end)),
            ).fetchall()
            for (url,) in some:
                yield url.decode("utf-8", errors="surrogatepass")


def _bytes(link: str) -> bytes:
    return link.encode("utf-8", errors="surrogatepass")


def _link_number(link: bytes) -> int:
    """Eight bytes that stand for a link; among 10 million, two share one with a probability of 3 in a million."""
    return _signed(xxhash.xxh3_64_intdigest(link))
