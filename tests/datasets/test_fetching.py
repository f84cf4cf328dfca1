"""Files fetched from a real server on loopback, with its faults."""

import hashlib
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, PublishedFile
from gpt2lab.datasets.fetching import cache_folder

CONTENT = b"published\n" * 5000


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def site():
    """A server's files by path; bytes that it announces but doesn't send by path; and the paths it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path]) + missing.get(self.path, 0)))
            self.end_headers()
            return self.wfile.write(files[self.path])

        def log_message(self, *words):
            pass

    files, missing, asked = {}, {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files, missing, asked
    server.shutdown()
    thread.join()
    server.server_close()


HASH = sha256(CONTENT)


def published(address, expected=HASH, **others):
    return PublishedFile("a set", ("set.txt",), expected, f"{address}/set.txt", "none", **others)


def test_a_file_is_fetched_once_and_then_found_in_the_cache(site):
    address, files, _, asked = site
    files["/set.txt"] = CONTENT
    found = DataSource(fetch=True).file(published(address))
    assert (found.official, found.sha256) == (True, HASH)
    assert DataSource(fetch=True).file(published(address)) == found
    assert DataSource().file(published(address)) == found
    assert asked == ["/set.txt"]


def test_nothing_is_fetched_unless_asked(site):
    address, _, _, asked = site
    with pytest.raises(BadInput, match="or let --fetch do that"):
        DataSource().file(published(address))
    assert not asked


def test_what_comes_with_a_wrong_hash_is_not_kept(site):
    address, files, _, _ = site
    files["/set.txt"] = b"other\n"
    with pytest.raises(
        BadInput,
        match=rf"/set\.txt: what came is not the published file \(SHA-256 {sha256(b'other' + bytes([10]))}, not "
        rf"{HASH}\); try again later, or fetch set\.txt by other means and put it below --data\.",
    ):
        DataSource(fetch=True, allow_changed=True).file(published(address))
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]


def test_an_absent_file_is_named(site):
    with pytest.raises(BadInput, match=r"/set\.txt: the server answers with 404 Not Found; fetch set\.txt by other"):
        DataSource(fetch=True).file(published(site[0]))


def test_a_connection_that_breaks_leaves_nothing_and_the_next_run_fetches_it(site):
    address, files, missing, _ = site
    files["/set.txt"], missing["/set.txt"] = CONTENT[:20_000], 30_000
    for known in (HASH, None):
        with pytest.raises(BadInput, match=r"/set\.txt: broke off after 20,000 of 50,000 bytes; run the same command"):
            DataSource(fetch=True).file(published(address, known))
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]
    files["/set.txt"] = CONTENT
    missing.clear()
    assert DataSource(fetch=True).file(published(address)).official


def test_without_a_network_one_line_names_the_address_and_the_file(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(BadInput, match=rf"^{address}/set\.txt: can't be reached \(.*\); fetch set\.txt by other"):
            DataSource(fetch=True).file(published(address))


def zipped(content):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/set.txt", content)
    return buffer.getvalue()


def test_a_member_of_an_archive_is_fetched(site):
    address, files, _, asked = site
    files["/set.txt"] = zipped(CONTENT)
    for member_sha256 in (None, HASH):
        wanted = published(address, member_sha256, member="set.txt", archive_sha256=sha256(files["/set.txt"]))
        found = DataSource(fetch=True).file(wanted)
        assert (found.official, found.sha256) == (True, HASH)
    assert asked == ["/set.txt"]


def test_an_archive_of_unknown_hash_is_taken_where_its_member_is_right(site):
    address, files, _, _ = site
    files["/set.txt"] = zipped(b"other\n")
    wanted = published(address, member="set.txt")
    with pytest.raises(BadInput, match=r"/set\.txt: set\.txt in it is not the published one \(SHA-256 "):
        DataSource(fetch=True).file(wanted)
    files["/set.txt"] = zipped(CONTENT)
    assert DataSource(fetch=True).file(wanted).official


def test_a_cache_that_cannot_be_written_is_named(site, tmp_path, monkeypatch):
    address, files, _, _ = site
    files["/set.txt"] = CONTENT
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPT2LAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"file.*: can't be written \(Not a directory\); set GPT2LAB_CACHE to a folder"):
        DataSource(fetch=True).file(published(address))
