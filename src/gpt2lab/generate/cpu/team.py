"""A team of threads that run one kernel together: the caller is its first member, the others wait for work."""

import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any

import numpy as np

from gpt2lab.base.errors import BadOption

_Work = queue.SimpleQueue[tuple[Any, ...]]


class Team:
    """`threads` members. `run` calls a kernel on each; the kernels let go of Python's lock and meet at barriers.

    Its threads end when nobody holds the team any more. `run` is for one caller at a time.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: list[_Work] = []
        self._barrier = np.zeros(16, np.int64)
        self._process = os.getpid()
        weakref.finalize(self, _dismiss, self._work).atexit = False

    def run(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Call `kernel(member, threads, barrier, *arguments)` on every member; its end is a barrier, so all are done.

        The kernel must be compiled for these arguments already: a member that failed would leave the others waiting.
        """
        if self._process != os.getpid():  # a fork: the threads have stayed behind, perhaps in the middle of a run
            self._process = os.getpid()
            self._work.clear()
            self._barrier = np.zeros(16, np.int64)
        while len(self._work) < self.threads - 1:
            work: _Work = queue.SimpleQueue()
            try:
                threading.Thread(target=_serve, args=(work,), name="gpt2lab-cpu", daemon=True).start()
            except RuntimeError:
                most = len(self._work) + 1
                raise BadOption(
                    f"--threads {self.threads:,}: {most:,} are as many as the system starts; ask for fewer."
                ) from None
            self._work.append(work)  # only now: for one that could not start the others would wait for ever
        calls: list[Callable[[], None]] = [
            partial(work.put, (kernel, number, self.threads, self._barrier, *arguments))
            for number, work in enumerate(self._work, 1)
        ]
        calls.append(partial(kernel, 0, self.threads, self._barrier, *arguments))
        # All in one call of C: Ctrl-C in between would leave members at a barrier that the caller never reaches.
        deque(map(call, calls), maxlen=0)


def _serve(work: _Work) -> None:
    while task := work.get():
        kernel, *arguments = task
        kernel(*arguments)
        del task, kernel, arguments  # while it waits, a model that nobody uses any more must not be kept alive


def _dismiss(team: list[_Work]) -> None:
    for work in team:
        work.put(())
