"""A real web server for the tests of the fetcher, and what a crawl left behind it."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import fastwarc
from warcio.archiveiterator import ArchiveIterator

QUICK = {"allow_private": True, "minimum_gap_seconds": 0.0, "backoff_seconds": 0.05, "timeout_seconds": 10.0}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class Site:
    """A web server whose pages are a function of the request; `log` has [path, start, end] of each request.

    A request is in the log before its answer goes out, and its end is the moment before the last answer to it: what a
    crawl has seen is there, and no gap looks shorter for a server that is held up after its answer.
    """

    def __init__(self, base, log):
        self.base, self.log = base, log

    def paths(self):
        return [path for path, _, _ in self.log]


@contextmanager
def site(respond, address="127.0.0.1", robots=None, tls=None):
    log = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            self.entry = [self.path, time.monotonic(), time.monotonic()]
            log.append(self.entry)
            if self.path == "/robots.txt" and robots is None:
                answer(self, 404)
            elif self.path == "/robots.txt":
                answer(self, *robots) if isinstance(robots, tuple) else answer(self, 200, robots)
            else:
                respond(self)

        def log_message(self, *_):
            pass

    server = Server((address, 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Site(f"http{'s' if tls else ''}://{address}:{server.server_port}", log)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler, status, body="", **headers):
    data = body.encode() if isinstance(body, str) else body
    handler.entry[2] = time.monotonic()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def hello(handler):
    answer(handler, 200, f"<p>This is {handler.path}", Content_Type="text/html; charset=utf-8")


def log_lines(out):
    return [json.loads(line) for line in (out / "fetch.jsonl").read_text().splitlines()]


def error_of(out):
    (line,) = log_lines(out)
    return line["error"]


def errors_of(out):
    return [line["error"] for line in log_lines(out)]


def archived(out, kind="response"):
    """The pages in all WARC files, by warcio with digests checked; fastwarc must see the same ones."""
    pages, seen_by_fastwarc = [], []
    for path in sorted(out.glob("*.warc.gz")):
        with path.open("rb") as handle:
            pages.extend(
                (record.rec_headers.get_header("WARC-Target-URI"), record.content_stream().read())
                for record in ArchiveIterator(handle, check_digests="raise")
                if record.rec_type == kind
            )
        with path.open("rb") as handle:
            seen_by_fastwarc.extend(
                (record.headers["WARC-Target-URI"], record.reader.read())
                for record in fastwarc.ArchiveIterator(handle, record_types=getattr(fastwarc.WarcRecordType, kind))
            )
    assert pages == seen_by_fastwarc
    return pages


def check_gaps(log, gap):
    log = sorted(log, key=lambda entry: entry[1])
    for (_, _, end), (_, start, _) in pairwise(log):
        assert start - end > gap - 0.03
