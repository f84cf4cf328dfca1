"""The team of threads: it ends with its owner, survives a fork, and never waits for a member that isn't there."""

import gc
import os
import signal
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from gpt2lab.base.errors import BadOption
from gpt2lab.generate.cpu.team import Team


class Roll:
    """A kernel in Python: who came, and all wait for each other at its end."""

    def __init__(self, threads: int) -> None:
        self.came: list[int] = []
        self._all = threading.Barrier(threads, timeout=20)

    def __call__(self, member, threads, barrier, *_):
        self.came.append(member)
        self._all.wait()


def called(team: Team, *arguments) -> list[int]:
    roll = Roll(team.threads)
    team.run(roll, *arguments)
    return sorted(roll.came)


def members() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "gpt2lab-cpu"}


def wait_until(holds) -> bool:
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return holds()


def test_every_member_is_called():
    for threads in (1, 2, 5):
        assert called(Team(threads)) == list(range(threads))


def test_what_a_run_was_given_is_not_kept_by_those_who_wait():
    team, weights = Team(3), np.zeros(10)
    assert called(team, weights) == [0, 1, 2]
    given = weakref.ref(weights)
    del weights
    assert wait_until(lambda: given() is None)


def test_threads_end_with_the_team():
    before = members()
    teams = [Team(3) for _ in range(5)]
    for team in teams:
        called(team)
    ours = members() - before
    assert len(ours) == 10
    del team, teams
    assert wait_until(lambda: not ours & members())


def test_a_thread_that_can_not_start_is_not_waited_for(monkeypatch):
    team = Team(3)

    def fails(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(BadOption, match="--threads 3: 1 are as many as the system starts"):
            called(team)
    assert called(team) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_forks_has_a_team_on_both_sides():
    team = Team(3)
    assert called(team) == [0, 1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, for threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(called(team) != [0, 1, 2])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert called(team) == [0, 1, 2]
