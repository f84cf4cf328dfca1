"""Whose turn it is at a host, when, and what its robots.txt says; forgotten once nobody needs it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from yarl import URL

from gpt2lab.webtext.crawl.robots import Rules

IDLE_HOSTS_KEPT = 1000
"""Hosts lately used, as many redirects lead to the same few."""
IDLE_ROBOTS_BYTES_KEPT = 4 << 20
"""Of their robots.txt files together; parsed, they are some 15 times larger."""


@dataclass(eq=False)
class HostState:
    """One host: a lock for its one connection, the gap to keep in seconds, the next moment it may be asked."""

    gap: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    not_before: float = 0.0
    robots: dict[URL, asyncio.Task[Rules]] = field(default_factory=dict)
    robots_bytes: int = 0
    users: int = 0

    async def turn(self) -> None:
        """Wait until the host may be asked again; the lock is to be held."""
        if (pause := self.not_before - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    def rest(self, seconds: float) -> None:
        """Leave the host alone for its gap, or for longer."""
        self.not_before = time.monotonic() + max(self.gap, seconds)

    def lengthen_gap(self, gap: float) -> None:
        """Keep to a Crawl-delay from now on, the pause under way included."""
        if gap > self.gap:
            self.not_before += gap - self.gap
            self.gap = gap


class HostStates:
    """States of the hosts in use, and of a bounded number of others."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._used: dict[str, HostState] = {}
        self._idle: OrderedDict[str, HostState] = OrderedDict()
        self._idle_robots_bytes = 0

    def __len__(self) -> int:
        return len(self._used) + len(self._idle)

    @contextmanager
    def use(self, name: str) -> Iterator[HostState]:
        """The state of a host, which stays the same one for everybody as long as anybody uses it."""
        state = self._used.get(name)
        if state is None:
            state = self._idle.pop(name, None)
            if state is None:
                state = HostState(self._gap)
            else:
                self._idle_robots_bytes -= state.robots_bytes
            self._used[name] = state
        state.users += 1
        try:
            yield state
        finally:
            state.users -= 1
            if not state.users:
                self._idle[name] = self._used.pop(name)
                self._idle_robots_bytes += state.robots_bytes
                self._forget()

    def _forget(self) -> None:
        """Drop those idle the longest, but none that has asked to be left alone for a while."""
        while len(self._idle) > IDLE_HOSTS_KEPT or self._idle_robots_bytes > IDLE_ROBOTS_BYTES_KEPT:
            name, oldest = next(iter(self._idle.items()))
            if oldest.not_before > time.monotonic():
                return
            del self._idle[name]
            self._idle_robots_bytes -= oldest.robots_bytes
