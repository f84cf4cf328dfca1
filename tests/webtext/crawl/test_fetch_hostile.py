"""Hosts that are slow, broken or hostile, played by real servers on loopback."""

import gzip
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import pytest
from aiohttp.abc import AbstractResolver
from tests.webtext.crawl.web_site import QUICK, answer, archived, error_of, errors_of, hello, log_lines, site

from gpt2lab.webtext.crawl import addresses
from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch
from gpt2lab.webtext.pages.page import Page, Unreadable
from gpt2lab.webtext.pages.read import input_files, read_pages


@contextmanager
def raw_server(respond):
    """A server that reads a request and leaves the connection to `respond(connection, path)`; robots.txt is absent."""

    def serve(connection):
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := connection.recv(65536)):
                    return
                data += more
            path = data.split(b" ", 2)[1].decode()
            paths.append(path)
            try:
                if path == "/robots.txt":
                    connection.sendall(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                else:
                    respond(connection, path)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    paths = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield base, paths
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def reply(data):
    return lambda connection, _: connection.sendall(data)


def head(*lines, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def read_all(out):
    return [item for file in input_files([out]) for item in read_pages(file)]


def test_a_host_that_trickles_a_byte_at_a_time_runs_into_the_time_limit(tmp_path):
    def trickle(connection, _):
        connection.sendall(head("Content-Length: 1000"))
        for _ in range(900):
            connection.sendall(b".")
            time.sleep(0.1)

    with raw_server(trickle) as (base, _):
        start = time.monotonic()
        fetch([f"{base}/"], tmp_path, FetchOptions(**{**QUICK, "timeout_seconds": 0.5}))
        assert time.monotonic() - start < 30  # it trickles for 90
    assert error_of(tmp_path) == "timeout"


def test_headers_that_trickle_run_into_the_time_limit_too(tmp_path):
    def trickle(connection, _):
        for byte in head(*[f"X-{number}: y" for number in range(50)]):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    with raw_server(trickle) as (base, _):
        fetch([f"{base}/"], tmp_path, FetchOptions(**{**QUICK, "timeout_seconds": 0.5}))
    assert error_of(tmp_path) == "timeout"


def test_a_host_that_never_answers_is_left_after_some_pages_and_the_others_are_fetched(tmp_path):
    with raw_server(lambda connection, _: connection.recv(1)) as (base, paths), site(hello, "127.0.0.2") as web:
        links = [*(f"{base}/{number}" for number in range(100)), f"{web.base}/good"]
        summary = fetch(links, tmp_path, FetchOptions(**{**QUICK, "timeout_seconds": 1.0}))  # as much for the good one
        assert len(paths) == 11  # robots.txt and ten pages
    assert (summary.pages, summary.errors) == (1, {"timeout": 100})


def test_a_robots_txt_of_10_mb_is_read_as_far_as_the_standard_asks(tmp_path):
    rules = "User-agent: *\nDisallow: /no\n" + "# filler\n" * 1_200_000
    tracemalloc.start()
    try:
        with site(hello, robots=rules) as web:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            fetch([f"{web.base}/no", f"{web.base}/yes"], tmp_path, FetchOptions(**QUICK))
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert errors_of(tmp_path) == ["robots", None]
    assert peak - before < 25_000_000  # of which the server's own copy is 11 MB


class ChangingNames(AbstractResolver):
    """A name server whose answer changes with every question: how a page gets at what is behind a firewall."""

    def __init__(self, *answers):
        self.answers, self.asked = answers, 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        address = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self):
        pass


def test_a_name_that_leads_to_loopback_on_the_second_look_up_is_refused(tmp_path, monkeypatch):
    # No test can serve from a public address, so 127.0.0.1 plays one, and 127.0.0.2 is what must not be reached.
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    with site(hello, "127.0.0.2") as hidden:
        port = hidden.base.rpartition(":")[2]
        redirect = lambda handler: answer(handler, 302, Location=f"http://rebind.example:{port}/secret")  # noqa: E731
        with site(redirect) as web:
            names = ChangingNames("127.0.0.1", "127.0.0.2")
            links = [f"http://rebind.example:{web.base.rpartition(':')[2]}/"]
            fetch(links, tmp_path, FetchOptions(minimum_gap_seconds=0.0), resolver=names)
            assert names.asked == 2
            assert web.paths() == ["/robots.txt", "/"]
        assert hidden.log == []
    assert error_of(tmp_path) == "private_address"


@pytest.mark.parametrize(
    "host", ["[::ffff:127.0.0.1]", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "127.1", "127.0.0.1."]
)
def test_loopback_in_disguise_is_refused(tmp_path, host):
    with site(hello) as web:
        port = web.base.rpartition(":")[2]
        fetch([f"http://{host}:{port}/"], tmp_path, FetchOptions(minimum_gap_seconds=0.0, retries=0))
        assert web.log == []
    assert error_of(tmp_path) in ("private_address", "bad_url", "dns")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_page_that_unpacks_a_thousand_times_is_refused_within_the_size_limit_too(tmp_path, encoding):
    bomb = bytes(9_000_000)
    packed = gzip.compress(bomb) if encoding == "gzip" else zlib.compress(bomb)
    assert len(bomb) > 900 * len(packed)
    with site(lambda handler: answer(handler, 200, packed, Content_Encoding=encoding)) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert error_of(tmp_path) == "too_compressed"


@pytest.mark.parametrize(
    "pack",
    [
        zlib.compress,
        lambda text: zlib.compress(text, wbits=-15),
        lambda text: gzip.compress(text[:99]) + gzip.compress(text[99:]),
        lambda text: gzip.compress(text) + b"left behind",
    ],
)
def test_what_browsers_unpack_is_unpacked(tmp_path, pack):
    text = b"some text " * 100
    encoding = "gzip" if pack(text).startswith(b"\x1f\x8b") else "deflate"
    with site(lambda handler: answer(handler, 200, pack(text), Content_Encoding=encoding)) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert [body for _, body in archived(tmp_path)] == [text]


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_a_compressed_page_cut_short_or_packed_as_we_did_not_ask_is_an_error(tmp_path, encoding):
    data = gzip.compress(b"some text " * 1000)[:-9]
    with site(lambda handler: answer(handler, 200, data, Content_Encoding=encoding)) as web:
        fetch([f"{web.base}/"], tmp_path, FetchOptions(**QUICK))
    assert error_of(tmp_path) == "bad_encoding"


def test_pages_of_50_mb_are_refused_without_being_read(tmp_path):
    sent = []

    def endless(connection, _):
        connection.sendall(head("Content-Length: 50000000"))
        for _ in range(500):
            connection.sendall(bytes(100_000))
            sent.append(100_000)

    tracemalloc.start()
    try:
        with raw_server(endless) as (base, _):
            fetch([f"{base}/{number}" for number in range(3)], tmp_path, FetchOptions(**QUICK, max_bytes=5_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert errors_of(tmp_path) == ["too_large"] * 3
    assert sum(sent) < 3 * 20_000_000
    assert peak < 30_000_000


def test_a_page_longer_than_its_length_says_is_never_mixed_up_with_the_next_one(tmp_path):
    def long(connection, path):
        connection.sendall(head("Content-Length: 4") + (b"page and much more" if path == "/a" else b"next"))
        connection.recv(1)

    with raw_server(long) as (base, _):
        fetch([f"{base}/a", f"{base}/b"], tmp_path, FetchOptions(**QUICK, retries=0))
    assert errors_of(tmp_path) == ["bad_answer", None]
    assert archived(tmp_path) == [(f"{base}/b", b"next")]


@pytest.mark.parametrize(
    "data",
    [
        head("Content-Length: 1000") + b"only this",
        head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
        head("Transfer-Encoding: chunked") + b"500\r\nhello",
        head("Transfer-Encoding: chunked") + b"nonsense\r\nhello\r\n0\r\n\r\n",
        head("Content-Length: -5") + b"hello",
        head("Content-Length: 5", "Content-Length: 7") + b"hello, I am",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"\x16\x03\x01\x00\xff",
        b"",
    ],
)
def test_an_answer_that_is_broken_off_or_contradicts_itself_is_no_page(tmp_path, data):
    with raw_server(reply(data)) as (base, _):
        fetch([f"{base}/"], tmp_path, FetchOptions(**QUICK, retries=0))
    assert error_of(tmp_path) in ("connection", "bad_answer")
    assert archived(tmp_path) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Long: " + "y" * 1_000_000],
        [f"X-{number}: {'y' * 1000}" for number in range(1000)],
        [f"X-{number}: {'y' * 8000}" for number in range(100)],
    ],
)
def test_headers_of_a_megabyte_are_refused(tmp_path, lines):
    with raw_server(reply(head(*lines, "Content-Length: 2") + b"ok")) as (base, _):
        fetch([f"{base}/"], tmp_path, FetchOptions(**QUICK, retries=0))
    assert error_of(tmp_path) in ("headers_too_large", "bad_answer")


def test_a_host_without_a_valid_certificate_is_refused(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    certificate = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=other.example -keyout {0} -out {0}.crt"
    subprocess.run(make.format(certificate).split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certificate}.crt", certificate)
    with site(hello, tls=context) as web:
        fetch([f"{web.base}/"], tmp_path / "pages", FetchOptions(**QUICK))
        assert web.log == []
    assert error_of(tmp_path / "pages") == "tls"


def test_a_host_that_does_not_speak_tls_at_all_is_an_error(tmp_path):
    with site(hello) as web:
        fetch([web.base.replace("http:", "https:") + "/"], tmp_path, FetchOptions(**QUICK, retries=0))
    assert error_of(tmp_path) in ("tls", "connection")


def test_pages_are_archived_byte_for_byte_whatever_they_claim_to_be(tmp_path):
    pages = {
        "/lies": ("text/html; charset=utf-8", "<p>Grüße</p>".encode("latin-1")),
        "/unknown": ("text/html; charset=klingon-8", "<p>Grüße</p>".encode()),
        "/nul": ("text/html", b"<p>a\0b</p>"),
        "/typeless": ("", "<p>Grüße</p>".encode("utf-16")),
    }
    with site(lambda handler: answer(handler, 200, pages[handler.path][1], Content_Type=pages[handler.path][0])) as web:
        fetch([web.base + path for path in pages], tmp_path, FetchOptions(**QUICK))
        assert archived(tmp_path) == [(web.base + path, body) for path, (_, body) in pages.items()]
    found = read_all(tmp_path)
    assert len(found) == 4
    assert [item.content for item in found if isinstance(item, Page)][:2] == ["<p>Grüße</p>"] * 2
    assert all(item.reason == "not text: binary" for item in found if isinstance(item, Unreadable))


def test_a_redirect_with_control_characters_or_far_too_long_is_no_way_out(tmp_path):
    answers = {
        "/nul": head("Location: /a\0b", "Content-Length: 0", status="302 Found"),
        "/long": head("Location: /" + "a" * 7000, "Content-Length: 0", status="302 Found"),
        "/latin": head("Location: /\xe9", "Content-Length: 0", status="302 Found"),
    }
    with raw_server(lambda connection, path: connection.sendall(answers.get(path, head("Content-Length: 0")))) as (
        base,
        _,
    ):
        fetch([base + path for path in answers], tmp_path, FetchOptions(**QUICK, retries=0))
    lines = {line["url"].removeprefix(base): line["error"] for line in log_lines(tmp_path)}
    assert lines["/nul"] in ("bad_url", "bad_answer", "connection")
    assert lines["/long"] is None
    assert f"{base}/{'a' * 7000}" in [url for url, _ in archived(tmp_path)]


def test_headers_in_any_encoding_are_archived_and_leave_the_record_readable(tmp_path):
    lines = [b"HTTP/1.1 200 Tr\xe8s bien", b"X-Name: Gr\xfc\xdfe \xe2\x82\xac", b"X-Empty:", b"Content-Length: 2"]
    with raw_server(reply(b"\r\n".join([*lines, b"", b"ok"]))) as (base, _):
        fetch([f"{base}/"], tmp_path, FetchOptions(**QUICK))
    assert archived(tmp_path) == [(f"{base}/", b"ok")]


def test_no_bytes_in_an_answer_stop_the_crawl_or_make_a_file_unreadable(tmp_path):
    chooser = random.Random(5)
    template = head("Content-Type: text/html; charset=utf-8", "X-Some: thing", "Content-Length: 5", status="200 Fine")

    def damaged(connection, path):
        data = bytearray(template + b"hello")
        for _ in range(int(path[1:]) % 4 + 1):
            data[chooser.randrange(9, len(data))] = chooser.randrange(256)
        connection.sendall(data)

    options = FetchOptions(**QUICK, retries=0)
    with raw_server(damaged) as (base, _):
        links = [f"{base}/{number}" for number in range(300)]
        fetch(links, tmp_path, options)
    lines = log_lines(tmp_path)
    assert sorted(line["url"] for line in lines) == sorted(links)
    assert len(archived(tmp_path)) == sum(line["error"] is None for line in lines) > 50
