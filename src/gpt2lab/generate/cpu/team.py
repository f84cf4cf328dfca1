"""A team of threads that run one kernel together: the caller is its first member, the others wait for work."""

import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any


class Team:
    """`threads` members. `run` calls a kernel on each; the kernels let go of Python's lock and meet at barriers."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: list[queue.SimpleQueue[tuple[Any, ...]]] = []

    def run(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Call `kernel(member, threads, *arguments)` on every member; it ends with a barrier, so all are done then.

        The kernel must be compiled for these arguments already: a member that failed would leave the others waiting.
        """
        while len(self._work) < self.threads - 1:
            self._work.append(queue.SimpleQueue())
            member = threading.Thread(target=_serve, args=(self._work[-1],), name="gpt2lab-cpu", daemon=True)
            member.start()
        calls: list[Callable[[], None]] = [
            partial(work.put, (kernel, number, self.threads, *arguments)) for number, work in enumerate(self._work, 1)
        ]
        calls.append(partial(kernel, 0, self.threads, *arguments))
        # All in one call of C: Ctrl-C in between would leave members at a barrier that the caller never reaches.
        deque(map(call, calls), maxlen=0)


def _serve(work: "queue.SimpleQueue[tuple[Any, ...]]") -> None:
    while True:
        kernel, *arguments = work.get()
        kernel(*arguments)
