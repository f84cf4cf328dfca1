import gzip
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import ExitStack

import fastwarc
import pyarrow
import pyarrow.parquet
import pytest
from tests.webtext.crawl.web_site import QUICK, answer, archived, check_gaps, error_of, hello, log_lines, site
from warcio.archiveiterator import ArchiveIterator

from gpt2lab.base.errors import BadInput, BadOption, NoSpace, UserError
from gpt2lab.webtext.crawl import addresses
from gpt2lab.webtext.crawl.addresses import is_public
from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch, read_links, retry_after_seconds
from gpt2lab.webtext.crawl.warc_out import payload_digest
from gpt2lab.webtext.pages.page import Page, Unreadable
from gpt2lab.webtext.pages.read import input_files, read_pages
from gpt2lab.webtext.pages.warc import REPEAT


def test_pages_arrive_in_warc_files_that_any_reader_reads_and_each_link_has_one_log_line(tmp_path):
    with site(hello) as web:
        links = [f"{web.base}/{number}" for number in range(5)]
        summary = fetch([*links, links[0]], tmp_path / "pages", FetchOptions(**QUICK))
    assert (summary.pages, summary.errors, summary.skipped_already_done) == (5, {}, 0)
    assert archived(tmp_path / "pages") == [(link, f"<p>This is /{i}".encode()) for i, link in enumerate(links)]
    lines = log_lines(tmp_path / "pages")
    assert [line["url"] for line in lines] == links
    assert sum(line["bytes"] for line in lines) == summary.bytes
    for line in lines:
        with (tmp_path / "pages" / line["warc"]).open("rb") as handle:
            handle.seek(line["offset"])
            assert next(iter(fastwarc.ArchiveIterator(handle))).headers["WARC-Target-URI"] == line["url"]


def test_a_compressed_page_is_archived_decoded_with_a_true_length(tmp_path):
    text = b"plain text " * 1000
    with site(lambda handler: answer(handler, 200, gzip.compress(text), Content_Encoding="gzip")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    with next(tmp_path.glob("*.warc.gz")).open("rb") as handle:
        record = next(record for record in ArchiveIterator(handle) if record.rec_type == "response")
        assert record.raw_stream.read() == text
        assert record.http_headers.get_header("Content-Length") == str(len(text))
        assert record.http_headers.get_header("Content-Encoding") is None
        assert record.http_headers.get_header("X-Archive-Orig-Content-Encoding") == "gzip"


def test_a_page_has_its_request_its_circumstances_and_true_digests(tmp_path):
    with site(lambda h: answer(h, 302, Location="/b") if h.path == "/a" else hello(h)) as web:
        fetch([f"{web.base}/a"], tmp_path, FetchOptions(**QUICK))
    with next(tmp_path.glob("*.warc.gz")).open("rb") as handle:
        found = {r.rec_type: (r.rec_headers, r.content_stream().read(), r) for r in ArchiveIterator(handle)}
    assert list(found) == ["warcinfo", "request", "metadata", "response"]
    response, body, _ = found["response"]
    assert response.protocol == "WARC/1.1"
    assert response.get_header("WARC-IP-Address") == "127.0.0.1"
    assert response.get_header("WARC-Payload-Digest") == payload_digest(body) == log_lines(tmp_path)[0]["digest"]
    assert response.get_header("WARC-Block-Digest")
    for kind in ("request", "metadata"):
        assert found[kind][0].get_header("WARC-Concurrent-To") == response.get_header("WARC-Record-ID")
        assert found[kind][0].get_header("WARC-Date") == response.get_header("WARC-Date")
    facts = dict(line.split(": ", 1) for line in found["metadata"][1].decode().splitlines())
    assert facts["via"] == f"{web.base}/a"
    assert facts["hopsFromSeed"] == "R"
    assert int(facts["fetchTimeMs"]) >= 0


def test_the_same_bytes_are_stored_once_a_host_and_the_repeat_says_where(tmp_path):
    long, short = "the same words " * 200, "too short to matter"
    with site(lambda handler: answer(handler, 200, short if "short" in handler.path else long)) as web:
        links = [f"{web.base}/{name}" for name in ("a", "b", "short", "short2")]
        summary = fetch(links[:1], tmp_path, FetchOptions(**QUICK))
        summary = fetch(links, tmp_path, FetchOptions(**QUICK))  # repeats are known after a new start too
    assert summary.pages == 3
    assert [url for url, _ in archived(tmp_path)] == [links[0], links[2], links[3]]
    assert [url for url, _ in archived(tmp_path, "revisit")] == [links[1]]
    lines = log_lines(tmp_path)
    assert [line["repeat_of"] for line in lines] == [None, links[0], None, None]
    with (tmp_path / lines[1]["warc"]).open("rb") as handle:
        handle.seek(lines[1]["offset"])
        head = next(iter(ArchiveIterator(handle))).rec_headers
    assert head.get_header("WARC-Profile") == "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
    assert head.get_header("WARC-Refers-To-Target-URI") == links[0]
    assert head.get_header("WARC-Refers-To-Date") == lines[0]["date"]
    assert head.get_header("WARC-Payload-Digest") == lines[0]["digest"]
    read = [item for file in input_files([tmp_path]) for item in read_pages(file)]
    assert Counter(item.reason for item in read if isinstance(item, Unreadable)) == {REPEAT: 1}
    assert sum(isinstance(item, Page) for item in read) == 3


def test_shards_together_bring_the_same_pages_as_one_crawl(tmp_path):
    with ExitStack() as stack:
        webs = [stack.enter_context(site(hello, f"127.0.0.{number}")) for number in range(1, 9)]
        links = [f"{web.base}/{'x' * 1200}{number % 3}" for number in range(6) for web in webs]
        fetch(links, tmp_path / "whole", FetchOptions(**QUICK))
        for index in (1, 2, 3):
            fetch(links, tmp_path / f"shard{index}", FetchOptions(**QUICK, shard=f"{index}/3"))
    shards = [archived(tmp_path / f"shard{index}") for index in (1, 2, 3)]
    hosts = [{url.partition("/x")[0] for url, _ in pages} for pages in shards]
    assert sum(map(len, hosts)) == len(webs) == len(set.union(*hosts))
    assert sum(bool(some) for some in hosts) > 1
    assert sorted(page for pages in shards for page in pages) == sorted(archived(tmp_path / "whole"))


def test_a_shard_without_hosts_says_so(tmp_path, capsys):
    with site(hello) as web:
        found = [fetch([f"{web.base}/"], tmp_path / f"{n}", FetchOptions(**QUICK, shard=f"{n}/2")) for n in (1, 2)]
    assert sorted(summary.pages for summary in found) == [0, 1]
    assert "no host" in capsys.readouterr().err


def test_a_list_that_can_not_be_read_leaves_no_folder_behind(tmp_path):
    for name in ("absent.txt", "what.csv"):
        with pytest.raises(BadInput):
            fetch(tmp_path / name, tmp_path / "pages", FetchOptions())
    assert not (tmp_path / "pages").exists()


def test_a_file_of_links_is_streamed_and_one_without_links_is_named(tmp_path):
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(BadInput, match=r"none\.txt: holds no links"):
        fetch(tmp_path / "none.txt", tmp_path / "pages", FetchOptions())
    with site(hello) as web:
        (tmp_path / "some.txt").write_text(f"{web.base}/1\n{web.base}/2\n{web.base}/1\n")
        assert fetch(tmp_path / "some.txt", tmp_path / "pages", FetchOptions(**QUICK)).pages == 2
    assert not [path.name for path in (tmp_path / "pages").iterdir() if path.name.startswith(".")]


def test_warc_files_are_rotated_when_full(tmp_path):
    with site(hello) as web:
        links = [f"{web.base}/{number}" for number in range(4)]
        fetch(links, tmp_path, FetchOptions(**QUICK, warc_bytes=2200))
    assert [path.name for path in sorted(tmp_path.glob("pages-*"))] == ["pages-00000.warc.gz", "pages-00001.warc.gz"]
    assert len(archived(tmp_path)) == 4


def test_a_finished_crawl_run_again_says_so_and_asks_for_nothing(tmp_path, capsys):
    with site(lambda handler: answer(handler, 404 if handler.path == "/gone" else 200)) as web:
        links = [f"{web.base}/{name}" for name in ("a", "gone")]
        fetch(links, tmp_path, FetchOptions(**QUICK))
        asked = len(web.log)
        summary = fetch(links, tmp_path, FetchOptions(**QUICK))
        assert len(web.log) == asked
        assert "nothing to do" in capsys.readouterr().err
        assert (summary.pages, summary.skipped_already_done) == (0, 2)
        assert fetch([*links, f"{web.base}/new"], tmp_path, FetchOptions(**QUICK)).pages == 1
    assert [line["error"] for line in log_lines(tmp_path)] == [None, "http_404", None]
    assert len(archived(tmp_path)) == 2


CRAWL = """
import sys
from pathlib import Path
from gpt2lab.webtext.pages.warc import REPEAT
from gpt2lab.webtext.crawl.warc_out import payload_digest
from gpt2lab.webtext.pages.page import Page, Unreadable
from gpt2lab.webtext.pages.read import input_files, read_pages
from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch, read_links
fetch(read_links(Path(sys.argv[1])), Path(sys.argv[2]),
      FetchOptions(allow_private=True, minimum_gap_seconds=0.0, warc_bytes=20_000))
"""


def test_a_crawl_killed_three_times_keeps_every_page_exactly_once(tmp_path):
    def slow(handler):
        time.sleep(0.01)
        while int(handler.path[1:]) >= held_from:  # so that no crawl ends before it is killed
            time.sleep(0.01)
        answer(handler, 200, handler.path + "".join(chr(33 + (i * i) % 90) for i in range(2000)))

    def logged():
        return [json.loads(line)["url"] for line in (out / "fetch.jsonl").read_bytes().split(b"\n")[:-1]]

    out, names, killed, held_from = tmp_path / "pages", tmp_path / "links.txt", [], 0
    out.mkdir()
    (out / "fetch.jsonl").touch()
    with site(slow) as web:
        links = [f"{web.base}/{number}" for number in range(100)]
        names.write_text("\n".join(links))
        for wanted in (10, 35, 60):
            held_from = wanted + 20
            crawl = subprocess.Popen([sys.executable, "-c", CRAWL, names, out])
            while crawl.poll() is None and len(logged()) < wanted:
                time.sleep(0.002)
            assert crawl.poll() is None
            crawl.send_signal(signal.SIGKILL)
            crawl.wait()
            killed.append((set(logged()), len(web.log)))
        held_from = len(links)
        fetch(read_links(names), out, FetchOptions(**QUICK, warc_bytes=20_000))
        for done, asked in killed:  # only what was under way, or waited to be written, at a kill is asked for again
            assert not done & {web.base + path for path in web.paths()[asked:]}
    assert sorted(url for url, _ in archived(out)) == sorted(links)
    assert sorted(line["url"] for line in log_lines(out)) == sorted(links)
    assert not list(out.glob("*.part"))


def test_a_full_disk_is_one_clear_error_and_the_crawl_goes_on_afterwards(tmp_path):
    noise = bytes((i * i * 7 + (i >> 3)) % 251 for i in range(200_000))
    with site(lambda handler: answer(handler, 200, noise + handler.path.encode())) as web:
        links = [f"{web.base}/{number}" for number in range(40)]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        try:
            with pytest.raises(NoSpace, match="disk is full"):
                fetch(links, tmp_path, FetchOptions(**QUICK))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        fetch(links, tmp_path, FetchOptions(**QUICK))
    assert [url for url, _ in archived(tmp_path)] == links
    assert [line["error"] for line in log_lines(tmp_path)] == [None] * 40


def test_two_crawls_never_write_to_one_folder(tmp_path):
    tried, patient = threading.Event(), FetchOptions(**{**QUICK, "timeout_seconds": 120.0})
    with site(lambda handler: (tried.wait(60), hello(handler))) as web:
        first = threading.Thread(target=fetch, args=([f"{web.base}/"], tmp_path, patient))
        first.start()
        while not (tmp_path / "fetch.jsonl").exists():
            time.sleep(0.01)
        with pytest.raises(BadOption, match="another fetch"):
            fetch([f"{web.base}/other"], tmp_path, patient)
        tried.set()
        first.join()


def test_what_robots_txt_forbids_us_is_not_asked_for(tmp_path):
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: gpt2lab\nDisallow: /private\n"
    with site(hello, robots=rules) as web:
        fetch([f"{web.base}/private/page", f"{web.base}/open"], tmp_path, FetchOptions(**QUICK))
        assert web.paths() == ["/robots.txt", "/open"]
    assert [line["error"] for line in log_lines(tmp_path)] == ["robots", None]


@pytest.mark.parametrize(("status", "error"), [(404, None), (403, None), (500, "robots_unavailable")])
def test_absent_rules_allow_everything_and_broken_ones_forbid_it(tmp_path, status, error):
    with site(hello, robots=(status, "User-agent: *\nDisallow: /")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert error_of(tmp_path) == error


def test_robots_txt_is_read_up_to_500_kib_and_no_further(tmp_path):
    rules = "User-agent: *\nDisallow: /no\n" + "# filler\n" * 60_000 + "Disallow: /later\n"
    with site(hello, robots=rules) as web:
        fetch([f"{web.base}/no", f"{web.base}/later"], tmp_path, FetchOptions(**QUICK))
    assert [line["error"] for line in log_lines(tmp_path)] == ["robots", None]


def test_a_redirect_into_what_robots_txt_forbids_is_not_followed(tmp_path):
    with site(hello, address="127.0.0.2", robots="User-agent: *\nDisallow: /x") as other:
        with site(lambda handler: answer(handler, 302, Location=f"{other.base}/x")) as web:
            fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
        assert other.paths() == ["/robots.txt"]
    assert error_of(tmp_path) == "robots"


def test_one_request_at_a_time_and_a_gap_after_each_one_to_a_host(tmp_path):
    with site(hello) as web:
        fetch([f"{web.base}/{i}" for i in range(4)], tmp_path, FetchOptions(**{**QUICK, "minimum_gap_seconds": 0.2}))
        assert len(web.log) == 5
        check_gaps(web.log, 0.2)


def test_a_crawl_delay_lengthens_the_gap_from_the_first_page_on(tmp_path):
    with site(hello, robots="User-agent: *\nCrawl-delay: 0.3") as web:
        fetch([f"{web.base}/{i}" for i in range(3)], tmp_path, FetchOptions(**QUICK))
        check_gaps(web.log, 0.3)


def test_a_crawl_delay_of_a_day_is_respected_by_staying_away(tmp_path):
    with site(hello, robots="User-agent: *\nCrawl-delay: 86400") as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert error_of(tmp_path) == "crawl_delay"


def test_hosts_are_visited_side_by_side(tmp_path):
    def slow(handler):
        all_three.wait()  # which breaks where the hosts are visited one after another
        time.sleep(0.1)
        hello(handler)

    all_three, patient = threading.Barrier(3, timeout=60), FetchOptions(**{**QUICK, "timeout_seconds": 120.0})
    with site(slow) as one, site(slow, address="127.0.0.2") as two, site(slow, address="127.0.0.3") as three:
        links = [f"{web.base}/{number}" for web in (one, two, three) for number in range(2)]
        assert fetch(links, tmp_path, patient).pages == 6
        check_gaps(one.log, 0.0)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1"]
)
def test_a_private_address_is_refused_however_it_is_written(tmp_path, host):
    with site(hello) as web:
        port = web.base.rpartition(":")[2]
        fetch([f"http://{host}:{port}/"], tmp_path, FetchOptions(minimum_gap_seconds=0.0))
        assert web.log == []
    assert error_of(tmp_path) in ("private_address", "bad_url")
    assert host != "127.0.0.1" or error_of(tmp_path) == "private_address"


def test_a_private_address_is_refused_even_after_a_redirect(tmp_path, monkeypatch):
    # No test can serve from a public address, so the first of these two plays one.
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    with site(hello, address="127.0.0.2") as hidden:
        with site(lambda handler: answer(handler, 301, Location=f"{hidden.base}/secret")) as web:
            fetch([f"{web.base}/"], tmp_path, FetchOptions(minimum_gap_seconds=0.0))
        assert hidden.log == []
    (line,) = log_lines(tmp_path)
    assert (line["error"], line["final_url"]) == ("private_address", f"{hidden.base}/secret")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),  # NAT64 of 93.184.216.34
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("10.0.0.1", False),
        ("169.254.169.254", False),  # where clouds keep machine credentials
        ("100.64.0.1", False),
        ("224.0.1.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address, public):
    assert is_public(address) is public


def test_a_gzip_bomb_is_refused_without_being_unpacked(tmp_path):
    bomb = gzip.compress(bytes(200_000_000), compresslevel=6)
    tracemalloc.start()
    try:
        with site(lambda handler: answer(handler, 200, bomb, Content_Encoding="gzip")) as web:
            fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK, max_bytes=1_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error_of(tmp_path) == "too_large"
    assert peak < 20_000_000


def test_a_page_of_the_largest_size_is_kept_and_one_byte_more_is_an_error(tmp_path):
    with site(lambda handler: answer(handler, 200, bytes(int(handler.path[1:])))) as web:
        fetch([f"{web.base}/1000", f"{web.base}/1001"], tmp_path, FetchOptions(**QUICK, max_bytes=1000))
    assert [line["error"] for line in log_lines(tmp_path)] == [None, "too_large"]


def test_a_redirect_loop_ends(tmp_path):
    with site(lambda handler: answer(handler, 302, Location="/again")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK, max_redirects=3))
        assert web.paths() == ["/robots.txt", "/", "/again", "/again", "/again"]
    assert error_of(tmp_path) == "too_many_redirects"


def test_a_redirect_is_followed_and_both_addresses_are_kept(tmp_path):
    with site(
        lambda handler: answer(handler, 301, Location="b?c#d") if handler.path == "/a" else hello(handler)
    ) as web:
        fetch([f"{web.base}/a"], tmp_path, FetchOptions(**QUICK))
    (line,) = log_lines(tmp_path)
    assert (line["url"], line["final_url"], line["error"]) == (f"{web.base}/a", f"{web.base}/b?c", None)


BAD_LINKS = [
    "ftp://example.com/",
    "file:///etc/passwd",
    "no link at all",
    "http://",
    "http://[::1/",
    "http://a:99999/",
    "http://" + "a" * 70 + ".example/",
    "http://a\r\nHost: b/",
    "http://\ud800/",
    "javascript:alert(1)",
]


def test_what_is_no_web_address_is_logged_and_the_crawl_goes_on(tmp_path):
    with site(hello) as web:
        summary = fetch([*BAD_LINKS, f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert (summary.pages, summary.errors) == (1, {"bad_url": len(BAD_LINKS)})


def test_a_redirect_to_a_file_is_refused(tmp_path):
    with site(lambda handler: answer(handler, 302, Location="file:///etc/passwd")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert error_of(tmp_path) == "bad_url"


def test_a_broken_connection_is_tried_again(tmp_path):
    def broken_twice(handler):
        tries.append(handler.path)
        if len(tries) > 2:
            hello(handler)
        else:
            handler.connection.close()
            handler.close_connection = True

    tries = []
    with site(broken_twice) as web:
        summary = fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert summary.pages == 1


def test_a_page_cut_short_is_an_error_and_no_page(tmp_path):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"only this")
        handler.close_connection = True

    with site(cut) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK, retries=1))
        assert web.paths() == ["/robots.txt", "/", "/"]
    assert error_of(tmp_path) == "connection"
    assert archived(tmp_path) == []


def test_a_page_that_is_not_what_its_encoding_says_is_an_error(tmp_path):
    with site(lambda handler: answer(handler, 200, b"no gzip here", Content_Encoding="gzip")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
        assert web.paths() == ["/robots.txt", "/"]
    assert error_of(tmp_path) == "bad_encoding"


def test_an_answer_that_is_not_http_is_an_error(tmp_path):
    with site(lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK, retries=0))
    assert error_of(tmp_path) in ("bad_answer", "connection")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_is_given_the_time_it_asks_for(tmp_path, status):
    def busy_once(handler):
        if web.paths().count("/") > 1:
            hello(handler)
        else:
            answer(handler, status, Retry_After="1")

    with site(busy_once) as web:
        assert fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK)).pages == 1
        check_gaps(web.log[1:], 1.0)


def test_a_host_that_asks_for_an_hour_is_not_asked_again_for_that_page(tmp_path):
    with site(lambda handler: answer(handler, 503, Retry_After="3600")) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
        assert web.paths() == ["/robots.txt", "/"]
    assert error_of(tmp_path) == "http_503"


def test_retry_after_is_understood_in_both_forms():
    assert retry_after_seconds("7") == 7
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_seconds("soon") is None
    assert retry_after_seconds("") is None


def test_a_trickling_host_runs_into_the_time_limit(tmp_path):
    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(900):
            handler.wfile.write(b".")
            time.sleep(0.1)

    with site(trickle) as web:
        start = time.monotonic()
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**{**QUICK, "timeout_seconds": 0.5}))
        assert time.monotonic() - start < 30  # it trickles for 90
    assert error_of(tmp_path) == "timeout"


def test_a_dead_host_is_given_up_once_for_all_its_links(tmp_path):
    with socket.socket() as silent:  # its port is nobody else's meanwhile
        silent.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        summary = fetch([f"{dead}/{number}" for number in range(50)], tmp_path, FetchOptions(**QUICK))
    assert summary.errors == {"connection": 50}
    assert summary.seconds < 5  # with all their further tries 7.5 at least


def test_we_say_who_we_are_and_who_to_write_to(tmp_path):
    seen = []
    with site(lambda handler: (seen.append(handler.headers["User-Agent"]), hello(handler))) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK, contact="mailto:crawler@example.org"))
    assert seen == ["gpt2lab/0.1 (+https://github.com/gpt2lab/gpt2lab) mailto:crawler@example.org"]


@pytest.mark.parametrize(
    "option",
    [
        {"concurrency": 0},
        {"minimum_gap_seconds": -1},
        {"timeout_seconds": 0},
        {"contact": "a\r\nb: c"},
        {"shard": "0/3"},
        {"shard": "4/3"},
        {"shard": "3"},
    ],
)
def test_options_that_cannot_be_meant_are_refused(option):
    with pytest.raises(BadOption):
        FetchOptions(**option)


def test_an_empty_list_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="empty"):
        fetch([], tmp_path, FetchOptions())


def test_links_are_read_from_text_jsonl_and_parquet(tmp_path):
    links = ["http://a.example/", "http://b.example/?q=#x"]
    (tmp_path / "l.txt").write_text("\ufeff# mine\n\n" + "\r\n".join(links) + "\n")
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps({"url": link, "score": 3}) for link in links) + "\n\n")
    pyarrow.parquet.write_table(pyarrow.table({"score": [3, 4], "url": links}), tmp_path / "l.parquet")
    for name in ("l.txt", "l.jsonl", "l.parquet"):
        assert read_links(tmp_path / name) == links


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.csv", b"http://a", "can't tell"),
        ("l.txt", b"# nothing\n\n", "no links"),
        ("l.txt", b"http://\xff/\n", "UTF-8"),
        ("l.txt", None, "no such file"),
        ("l.parquet", None, "no such file"),
        ("l.jsonl", b'{"url": "http://a"}\n{"url": 3}\n', "line 2"),
        ("l.jsonl", b'{"url": "http://a"}\n{"link": "http://b"}\n', "line 2"),
        ("l.jsonl", b'["http://a"]\n', "line 1"),
        ("l.parquet", b"PAR1 no", "Parquet"),
    ],
)
def test_a_bad_list_of_links_is_named_with_its_place(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        read_links(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_parquet_without_urls_or_with_empty_ones_is_named_with_its_place(tmp_path):
    path = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"link": ["http://a"]}), path)
    with pytest.raises(BadInput, match="no column called url"):
        read_links(path)
    pyarrow.parquet.write_table(pyarrow.table({"url": ["http://a", None]}), path)
    with pytest.raises(BadInput, match="row 1"):
        read_links(path)


def test_a_folder_with_another_log_is_left_alone(tmp_path):
    (tmp_path / "fetch.jsonl").write_text('{"what": 1}\n')
    with pytest.raises(BadInput, match="line 1"):
        fetch(["http://a.example/"], tmp_path, FetchOptions())
    assert (tmp_path / "fetch.jsonl").read_text() == '{"what": 1}\n'
