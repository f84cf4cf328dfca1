from types import SimpleNamespace

import pytest

from gpt2lab.webtext.crawl import hosts
from gpt2lab.webtext.crawl.hosts import HostStates


def test_a_host_in_use_has_one_state_and_keeps_it_for_a_while_afterwards():
    states = HostStates(gap=0.0)
    with states.use("a") as first, states.use("a") as second:
        assert first is second
    with states.use("a") as again:
        assert again is first


def test_hosts_that_are_done_are_forgotten_but_none_in_use(monkeypatch):
    monkeypatch.setattr(hosts, "IDLE_HOSTS_KEPT", 10)
    states = HostStates(gap=0.0)
    with states.use("used") as state:
        for number in range(1000):
            with states.use(f"host{number}"):
                pass
        assert len(states) == 11
        with states.use("used") as same:
            assert same is state


def test_large_robots_files_are_forgotten_sooner(monkeypatch):
    states = HostStates(gap=0.0)
    for number in range(100):
        with states.use(f"host{number}") as state:
            state.robots_bytes = 500 * 1024
    assert len(states) == hosts.IDLE_ROBOTS_BYTES_KEPT // (500 * 1024)


def test_a_host_that_wants_to_be_left_alone_is_not_forgotten_before(monkeypatch):
    monkeypatch.setattr(hosts, "IDLE_HOSTS_KEPT", 1)
    now = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(hosts, "time", now)
    states = HostStates(gap=1.0)
    for name in "abc":
        with states.use(name) as state:
            state.rest(60.0)
    assert len(states) == 3
    now.monotonic = lambda: 61.0
    with states.use("d"):
        pass
    assert len(states) == 1


def test_a_crawl_delay_counts_from_the_last_request_on():
    state = next(iter([HostStates(1.0)])).use("a")
    with state as host:
        host.rest(0.0)
        before = host.not_before
        host.lengthen_gap(3.0)
        assert host.not_before - before == pytest.approx(2.0)
        host.lengthen_gap(0.5)
        assert host.gap == 3.0
