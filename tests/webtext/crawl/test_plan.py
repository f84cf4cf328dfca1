import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2lab.webtext.crawl.addresses import host_number, host_of_link
from gpt2lab.webtext.crawl.fetch_options import FetchOptions
from gpt2lab.webtext.crawl.plan import Plan

MEASURE = Path(__file__).with_name("plan_memory.py")


def queues_of(plan):
    return [list(plan.links_of(queue)) for queue in plan.queues()]


def test_links_come_host_by_host_the_longest_first_each_in_the_given_order_and_once(tmp_path):
    links = ["http://b.example/2", "http://a.example/", "http://b.example/1", "http://b.example/2"]
    with Plan(tmp_path / "plan", links) as plan:
        assert queues_of(plan) == [["http://b.example/2", "http://b.example/1"], ["http://a.example/"]]
        assert (plan.links, plan.hosts, plan.skipped) == (3, 2, 0)
    assert list(tmp_path.iterdir()) == []


def test_what_was_done_is_not_planned_and_counted_if_it_was_asked_for(tmp_path):
    links = [f"http://a.example/{number}" for number in range(5)] * 2
    with Plan(tmp_path / "plan", links, [links[3], links[0], "http://other.example/"]) as plan:
        assert queues_of(plan) == [[links[1], links[2], links[4]]]
        assert plan.skipped == 2


def test_a_host_with_thousands_of_links_keeps_their_order(tmp_path):
    links = [f"http://a.example/{number}" for number in range(3000)]
    with Plan(tmp_path / "plan", links) as plan:
        assert queues_of(plan) == [links]


def test_a_link_that_is_no_text_of_any_encoding_is_planned_too(tmp_path):
    with Plan(tmp_path / "plan", ["http://\ud800/", "", "no link"]) as plan:
        assert queues_of(plan) == [["http://\ud800/", "", "no link"]]


@pytest.mark.parametrize(
    "link",
    [
        "http://example.org/a",
        "https://example.org:8443",
        "HTTP://Example.ORG/",
        "http://example.org./",
        "http://user:word@example.org/",
        "https://example.org?q",
        "http://example.org#x",
    ],
)
def test_a_host_has_one_name_however_it_is_written(link):
    assert host_of_link(link) == "example.org"


def test_an_international_name_is_the_same_in_both_alphabets():
    assert host_of_link("http://bücher.example/") == host_of_link("http://xn--bcher-kva.example/")


def test_every_host_belongs_to_exactly_one_shard():
    shards = [FetchOptions(shard=f"{index}/16") for index in range(1, 17)]
    numbers = [host_number(f"host{n}.example") for n in range(1600)]
    assert all(sum(shard.takes_host(number) for shard in shards) == 1 for number in numbers)
    assert all(60 < sum(shard.takes_host(number) for number in numbers) < 140 for shard in shards)
    assert host_number("example.org") == 4627260942063550277  # the same on every machine, in every version


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [100_000, 1])
def test_a_million_links_are_planned_in_bounded_memory_however_they_are_spread(tmp_path, hosts):
    def peak(links):
        command = [sys.executable, str(MEASURE), str(tmp_path), str(links), str(hosts)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found = json.loads(done.stdout)
        assert found["links"] == links
        return found["peak_mb"]

    assert peak(1_000_000) < peak(10_000) + 60
