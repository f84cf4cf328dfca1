import gzip
import os
import zlib
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from fastwarc import ArchiveIterator

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.pages import compressed, gzip_members, jsonl, plain, warc
from gpt2lab.webtext.pages.page import Page, Unreadable, decode_page
from gpt2lab.webtext.pages.read import input_files, parts_of, read_pages

PROSE = "Der Bär — “said” the naïve fox — 東京.\n"


def read_all(path: Path, text_column: str = "text") -> list[Page | Unreadable]:
    return [item for file in input_files([path]) for item in read_pages(file, text_column)]


def reasons(path: Path) -> list[str]:
    return [item.reason for item in read_all(path) if isinstance(item, Unreadable)]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pages(path: Path) -> list[Page]:
    return [item for item in read_all(path) if isinstance(item, Page)]


def warc_record(kind: str, body: bytes, url: str = "http://a.example/", more: str = "") -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def response(body: bytes, status: str = "200 OK", headers: str = "Content-Type: text/html") -> bytes:
    http = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    return warc_record("response", http, more="Content-Type: application/http; msgtype=response\r\n")


def test_every_format_gives_its_text_and_origin(tmp_path):
    write(tmp_path / "a.txt", PROSE.encode())
    write(tmp_path / "b" / "c.md", b"\xef\xbb\xbf# Title")
    write(tmp_path / "b" / "d.HTML", b"<p>hello")
    write(tmp_path / "e.jsonl", b'{"text": "one", "url": "http://e/1"}\n\n{"text": "two"}')
    write(tmp_path / "e2.jsonl.gz", gzip.compress(b'{"text": "three"}\n'))
    write(tmp_path / "e3.jsonl.zst", zstandard.compress(b'{"text": "four"}\n'))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["five", None], "url": ["u", "v"]}), tmp_path / "f.parquet")
    write(tmp_path / "g.warc.gz", gzip.compress(response(b"<p>six")))
    write(tmp_path / "h.warc.wet", warc_record("conversion", b"sieben", "http://h/"))
    write(tmp_path / ".hidden.txt", b"no")
    write(tmp_path / "fetch.jsonl", b'{"url": "http://g/"}')  # fetch's log, beside its pages
    found = [(page.source_file, page.index, page.url, page.content, page.kind) for page in pages(tmp_path)]
    assert found == [
        ("a.txt", 0, None, PROSE, "text"),
        ("b/c.md", 0, None, "# Title", "text"),
        ("b/d.HTML", 0, None, "<p>hello", "html"),
        ("e.jsonl", 0, "http://e/1", "one", "text"),
        ("e.jsonl", 38, None, "two", "text"),
        ("e2.jsonl.gz", 0, None, "three", "text"),
        ("e3.jsonl.zst", 0, None, "four", "text"),
        ("f.parquet", 0, "u", "five", "text"),
        ("g.warc.gz", 0, "http://a.example/", "<p>six", "html"),
        ("h.warc.wet", 0, "http://h/", "sieben", "text"),
    ]


def test_what_cannot_be_read_is_reported_with_its_reason(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    write(tmp_path / "binary.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00")
    write(tmp_path / "bad-utf8.txt", b"good \xff\xfe bad")
    write(tmp_path / "empty.txt", b"")
    write(tmp_path / "picture.png", b"x")
    write(tmp_path / "lines.jsonl", b'{"text": "ok"}\n{"text": "cut\n[1]\n{"text": null}\n')
    write(tmp_path / "cut.jsonl.gz", gzip.compress(b'{"text": "ok"}\n' * 9)[:-6])
    write(tmp_path / "cut.jsonl.zst", zstandard.compress(b'{"text": "ok"}\n' * 9)[:-2])
    write(tmp_path / "not.parquet", b"PAR1 not at all")
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "no-text.parquet")
    found = [
        (item.source_file, item.reason, item.excerpt) for item in read_all(tmp_path) if isinstance(item, Unreadable)
    ]
    why_no_parquet = next(excerpt for name, _, excerpt in found if name == "not.parquet")
    assert why_no_parquet.startswith("Parquet magic bytes not found")
    assert found == [
        ("bad-utf8.txt", "file: not valid UTF-8", "at byte 5"),
        ("binary.txt", "file: binary, not text", ""),
        ("cut.jsonl.gz", "file: cut short", "after 32 bytes, in the line at byte 135"),
        ("cut.jsonl.zst", "file: cut short", "after 29 bytes, in the line at byte 0"),
        ("empty.txt", "file: empty", ""),
        ("gone.txt", "file: can't be read (No such file or directory)", ""),
        ("lines.jsonl", "line: not valid JSON", '{"text": "cut'),
        ("lines.jsonl", "line: no text in column 'text'", "[1]"),
        ("lines.jsonl", "line: no text in column 'text'", '{"text": null}'),
        ("no-text.parquet", "file: no column 'text'", "it has body"),
        ("not.parquet", "file: can't be read", why_no_parquet),
        ("picture.png", "file: type .png is not read", ""),
    ]
    assert [page.source_file for page in pages(tmp_path)] == ["cut.jsonl.gz"] * 9 + ["lines.jsonl"]


def test_another_text_column_can_be_named(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"body": "here"}\n')
    assert [item.content for item in read_all(path, "body")] == ["here"]


def test_no_input_is_one_clear_line(tmp_path):
    with pytest.raises(BadInput, match=r"absent: no such file or folder\."):
        input_files([tmp_path / "absent"])
    with pytest.raises(BadInput, match="nothing to read here"):
        input_files([tmp_path])
    write(tmp_path / "a.png", b"x")
    with pytest.raises(BadInput, match="nothing to read here"):
        input_files([tmp_path])


def test_only_whole_html_responses_of_status_200_are_pages(tmp_path):
    data = (
        warc_record("warcinfo", b"software: x\r\n")
        + warc_record("request", b"GET / HTTP/1.1\r\n\r\n", more="Content-Type: application/http; msgtype=request\r\n")
        + response(b"<p>gone", "404 Not Found")
        + response(b"\x89PNG", headers="Content-Type: image/png")
        + response(b"plain", headers="Content-Type: text/plain; charset=ascii")
        + response("<p>Bär".encode("latin-1"), headers="Content-Type: text/html; charset=iso-8859-1")
        + response(gzip.compress(b"<p>zipped"), headers="Content-Type: text/html\r\nContent-Encoding: gzip")
    )
    path = write(tmp_path / "a.warc", data)
    assert reasons(path) == ["http status 404", "not text: image/png"]
    assert [(page.content, page.kind) for page in pages(path)] == [
        ("plain", "text"),
        ("<p>Bär", "html"),
        ("<p>zipped", "html"),
    ]


def test_index_of_a_warc_record_is_its_byte_offset_and_unique_where_members_hold_many(tmp_path, shared_warcs):
    data = (shared_warcs / "dolma" / "sample-0000.warc.gz").read_bytes()
    for page in pages(write(tmp_path / "a.warc.gz", data)):
        assert zlib.decompressobj(31).decompress(data[page.index :], 1000).startswith(b"WARC/1.0")
    one_member = pages(write(tmp_path / "b.warc.gz", gzip.compress(gzip.decompress(data))))
    assert len({page.index for page in one_member}) == len(one_member) == 22


def test_records_of_one_member_never_have_the_number_of_another_ones(tmp_path):
    record = warc_record("conversion", b"a")
    dense, thin = gzip.compress(record * 2000), gzip.compress(record)
    assert len(dense) < 2000  # more records than bytes
    path = write(tmp_path / "a.warc.gz", thin + dense + thin * 2000)
    indexes = [item.index for item in read_all(path)]
    assert len(set(indexes)) == len(indexes) == 4001
    assert indexes[: 1 + len(dense)] == [0, *range(len(thin), len(thin + dense))]
    assert max(indexes) < 1 << 63
    assert min(indexes[1 + len(dense) : 2001]) == (1 << 52) + len(thin)
    (file,) = input_files([path])
    parts = parts_of(file, 1000)
    assert len(parts) > 10
    assert [item.index for part in parts for item in read_pages(part)] == indexes


def test_a_plan_for_one_long_member_reads_no_more_of_it_than_it_must(tmp_path, monkeypatch):
    monkeypatch.setattr(gzip_members, "LARGEST_HELD_BYTES", 1 << 20)
    data = gzip.compress(warc_record("conversion", os.urandom(1 << 24)), 0)
    with write(tmp_path / "a.warc.gz", data).open("rb") as handle:
        assert list(warc.warc_boundaries(handle, len(data), 1 << 20)) == []
        assert handle.tell() < 8 << 20  # of 16 MiB; 4 MiB are searched for a second member


def test_a_panic_of_a_reader_costs_one_page_or_one_file(tmp_path, monkeypatch, capfd):
    """fastwarc panics where its source gives a place that no file has."""
    path = write(tmp_path / "a.warc.gz", gzip.compress(response(b"<p>one")) + gzip.compress(response(b"<p>two")))
    with monkeypatch.context() as patch:
        patch.setattr(warc._Response, "tell", lambda _: -1)
        assert reasons(path) == ["broken http response"] * 2

    def panic(_: object) -> None:
        next(ArchiveIterator(SimpleNamespace(read=lambda size: b"x" * size, tell=lambda: -1), parse_http=False))

    monkeypatch.setattr(gzip_members, "GzipReader", panic)
    assert reasons(path) == ["file: the reader panicked"]

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt  # a signal sent to itself (`signal.raise_signal`) may come a few instructions late

    monkeypatch.setattr(gzip_members, "GzipReader", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_all(path)


def test_thirty_cut_files_have_one_reason(tmp_path):
    for n in range(30):
        lines = b"".join(b'{"text": "%s"}\n' % os.urandom(9 + n).hex().encode() for _ in range(n + 2))
        write(tmp_path / f"{n}.jsonl.gz", gzip.compress(lines)[: -9 - n])
        write(tmp_path / f"{n}.warc.gz", gzip.compress(response(lines))[: -9 - n])
        write(tmp_path / f"{n}.warc", response(lines)[: -9 - n])
    assert set(reasons(tmp_path)) == {"file: cut short"}
    assert len({item.excerpt for item in read_all(tmp_path) if isinstance(item, Unreadable)}) > 20


@pytest.mark.parametrize("layout", ["members", "one member", "plain"])
def test_a_warc_cut_anywhere_is_reported_and_keeps_the_pages_before(tmp_path, layout):
    records = [response(b"<p>" + bytes([65 + n]) * 30) for n in range(3)]
    pieces = [gzip.compress(record) for record in records] if layout == "members" else records
    data = gzip.compress(b"".join(records)) if layout == "one member" else b"".join(pieces)
    ends = {sum(map(len, pieces[: n + 1])) for n in range(3)} if layout != "one member" else set()
    for size in range(1, len(data)):
        path = write(tmp_path / ("a.warc" if layout == "plain" else "a.warc.gz"), data[:size])
        items = read_all(path)
        nothing_lost = any(end - 4 <= size <= end for end in ends) if layout == "plain" else size in ends
        assert [isinstance(item, Unreadable) for item in items].count(True) == (0 if nothing_lost else 1), size
        contents = [item.content for item in items if isinstance(item, Page)]
        assert contents == ["<p>" + chr(65 + n) * 30 for n in range(len(contents))]
        if layout == "members":
            assert len(contents) >= sum(end <= size for end in ends)


def test_a_damaged_gzip_member_is_reported_where_it_begins_and_none_of_its_text_is_kept(tmp_path):
    members = [gzip.compress(response(b"<p>" + os.urandom(200).hex().encode())) for _ in range(3)]
    good = pages(write(tmp_path / "good.warc.gz", b"".join(members)))
    start = len(members[0])
    damaged = bytearray(b"".join(members))
    damaged[start + len(members[1]) - 7] ^= 255  # in the checksum
    path = write(tmp_path / "a.warc.gz", bytes(damaged))
    assert [page.content for page in pages(path)] == [good[0].content, good[2].content]
    assert [(item.index, item.reason, item.excerpt) for item in read_all(path) if isinstance(item, Unreadable)] == [
        (start, "damaged: incorrect data check", f"bytes {start:,} to {start + len(members[1]):,}")
    ]
    path = write(tmp_path / "b.warc.gz", b"".join(members) + b"garbage")
    assert [page.content for page in pages(path)] == [page.content for page in good]
    (item,) = [item for item in read_all(path) if isinstance(item, Unreadable)]
    assert (item.reason, item.excerpt) == ("file: damaged (no WARC record)", f"at byte {sum(map(len, members)):,}")


def test_real_crawls_give_all_their_pages(shared_warcs):
    counts = {
        file.path.name: sum(isinstance(item, Page) for item in read_pages(file)) for file in input_files([shared_warcs])
    }
    assert counts["sample-0000.warc.gz"] + counts["sample-0001.warc.gz"] == 37
    assert counts["warcfile.warc.gz"] == 16
    assert counts["whirlwind.warc.gz"] == counts["whirlwind.warc.wet"] == counts["whirlwind.warc.wet.gz"] == 1
    assert counts["clipped.warc.gz"] == 0


def test_limits_stop_what_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "LARGEST_TEXT_BYTES", 1000)
    monkeypatch.setattr(plain, "LARGEST_PAGE_BYTES", 1000)
    monkeypatch.setattr(warc, "LARGEST_PAGE_BYTES", 1000)
    monkeypatch.setattr(compressed, "FREE_EXPANSION_BYTES", 100_000)
    monkeypatch.setattr(plain, "MIB", 1000)
    monkeypatch.setattr(jsonl, "MIB", 1000)
    assert reasons(write(tmp_path / "a.html", b"x" * 1001)) == ["file: larger than 1 MiB"]
    lines = write(tmp_path / "b.jsonl", b'{"text": "' + b"x" * 9000 + b'"}\n{"text": "next"}\n')
    assert reasons(lines) == ["line: larger than 1 MiB"]
    assert [(page.index, page.content) for page in pages(lines)] == [(9013, "next")]
    bomb = write(tmp_path / "c.jsonl.zst", zstandard.compress(b'{"text": ""}\n' * 1_000_000))
    (item,) = [item for item in read_all(bomb) if isinstance(item, Unreadable)]
    assert item.reason == "file: expands more than 1,000 times when decompressed"
    assert item.excerpt.startswith("in the line at byte ")
    record = response(b"<p>" + b"x" * 2000) + response(b"<p>next")
    path = write(tmp_path / "d.warc.gz", gzip.compress(record))
    assert reasons(path) == ["page: larger than 16 MiB"]
    assert [page.content for page in pages(path)] == ["<p>next"]
    zipped = response(gzip.compress(b"x" * 100_000), headers="Content-Type: text/html\r\nContent-Encoding: gzip")
    assert reasons(write(tmp_path / "e.warc", zipped)) == ["page: larger than 16 MiB"]


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("Bär".encode(), "iso-8859-1", "Bär"),  # servers lie; UTF-8 shows
        ("Bär".encode("latin-1"), "no-such-charset", "Bär"),
        ("Привет, как дела".encode("cp1251"), "windows-1251", "Привет, как дела"),
        ('<meta charset="windows-1251">Привет'.encode("cp1251"), None, '<meta charset="windows-1251">Привет'),
        ("Bär".encode("utf-16"), None, "Bär"),
        (b"GIF89a\0\0", None, None),
    ],
)
def test_charset(data, declared, text):
    assert decode_page(data, declared) == text
