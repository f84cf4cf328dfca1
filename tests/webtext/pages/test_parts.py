"""Parts of a file, together, are the file."""

import json
import os
import random
import socket
import zlib
from pathlib import Path

import brotli
import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.webtext.pages import plain, read
from gpt2lab.webtext.pages.page import InputFile, Page, Unreadable, decode_page
from gpt2lab.webtext.pages.read import input_files, parts_of, read_pages


def only_file(path: Path) -> InputFile:
    (file,) = input_files([path])
    return file


def assert_parts_are_the_file(path: Path, sizes: tuple[int, ...], least: int) -> list[Page | Unreadable]:
    file = only_file(path)
    items = list(read_pages(file))
    for size in sizes:
        parts = parts_of(file, size)
        assert len(parts) >= least
        assert [item for part in parts for item in read_pages(part)] == items
    assert len({item.index for item in items}) == len(items)
    return items


def test_json_lines_in_parts_have_the_same_index_compressed_or_not(tmp_path):
    rows = [{"text": "ä" * (n % 40), "url": f"u{n}", "date": f"2020-01-{n % 28 + 1:02d}"} for n in range(300)]
    data = "\n".join(json.dumps(row, ensure_ascii=False) + "\n" * (n % 3) for n, row in enumerate(rows)).encode()
    (tmp_path / "a.jsonl").write_bytes(data)
    items = assert_parts_are_the_file(tmp_path / "a.jsonl", (1, 7, 64, 1000, 20_000), 2)
    assert [(item.url, item.date) for item in items] == [(row["url"], row["date"]) for row in rows]
    compressor = zlib.compressobj(wbits=31)
    (tmp_path / "b.jsonl.gz").write_bytes(compressor.compress(data) + compressor.flush())
    file = only_file(tmp_path / "b.jsonl.gz")
    assert len(parts_of(file, 100)) == 1
    assert [item.index for item in read_pages(file)] == [item.index for item in items]


def test_parquet_parts_are_row_groups_and_a_damaged_one_costs_only_itself(tmp_path):
    chooser = random.Random(1)
    texts = [chooser.randbytes(200).hex() for _ in range(1000)]
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": texts, "created": ["2021-02-03"] * 1000})
    pyarrow.parquet.write_table(table, path, row_group_size=100, write_page_checksum=False)
    items = assert_parts_are_the_file(path, (1000, 100_000), 2)
    assert [(item.index, item.content, item.date) for item in items] == [
        (n, text, "2021-02-03") for n, text in enumerate(texts)
    ]
    start = pyarrow.parquet.ParquetFile(path).metadata.row_group(3).column(0).dictionary_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 5000] = bytes(5000)
    path.write_bytes(bytes(damaged))
    items = list(read_pages(only_file(path)))
    assert sum(isinstance(item, Page) for item in items) == 900
    (bad,) = [item for item in items if isinstance(item, Unreadable)]
    assert (bad.index, bad.reason) == (300, "damaged: a row group that can't be read")
    assert bad.excerpt.startswith("rows 300 to 400: ")


@pytest.mark.parametrize("ending", ["\n\n", "\r\n\r\n", "\n", " ", ""])
def test_a_long_text_comes_in_pieces_that_lose_nothing(tmp_path, monkeypatch, ending):
    for module in (plain, read):
        monkeypatch.setattr(module, "LARGEST_TEXT_BYTES", 50_000)
        monkeypatch.setattr(module, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(plain, "_BREAK_WITHIN", 2_000)
    chooser = random.Random(3)
    text = "".join("Bär東" * chooser.randrange(1, 60) + ending for _ in range(1000))
    path = tmp_path / "a.txt"
    path.write_text(text, newline="")
    items = assert_parts_are_the_file(path, (1, 10_000, 35_000), 2)
    assert "".join(item.content for item in items) == text
    assert all(item.content.endswith(ending) for item in items[:-1])
    assert all(len(item.content.encode()) <= 12_000 for item in items)


def test_what_is_no_file_is_told_and_nothing_hangs(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    os.mkfifo(tmp_path / "b.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c.txt"))
    (tmp_path / "d").symlink_to(tmp_path)
    (tmp_path / "e.txt").symlink_to(tmp_path / "e.txt")
    (tmp_path / "f.arc.gz").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/g\xff.txt")).write_text("y")
    files = input_files([tmp_path])
    assert [(item.source_file, getattr(item, "reason", None)) for file in files for item in read_pages(file)] == [
        ("a.txt", None),
        ("b.txt", "file: what is no regular file is not read"),
        ("c.txt", "file: what is no regular file is not read"),
        ("d", "file: a link to a folder is not followed"),
        ("e.txt", "file: can't be read (Too many levels of symbolic links)"),
        ("f.arc.gz", "file: type .arc.gz is not read; make a WARC of it with `warcio recompress`"),
        ("g\\xff.txt", None),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b").mkdir(mode=0)
    assert [file.source_file for file in input_files([tmp_path])] == ["a.txt", "b"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_a_bomb_in_an_http_body_is_stopped(tmp_path, encoding):
    zeros = bytes(1 << 28)
    compressor = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    bomb = (
        brotli.compress(zeros, quality=1, lgwin=22)
        if encoding == "br"
        else compressor.compress(zeros) + compressor.flush()
    )
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: %s\r\n\r\n" % encoding.encode() + bomb
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(head % len(http) + http + b"\r\n\r\n")
    (item,) = read_pages(only_file(tmp_path / "a.warc"))
    assert isinstance(item, Unreadable)
    assert item.reason == "page: larger than 16 MiB"


def test_lone_surrogates_become_writable_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b \\ud83d\\ude00", "url": "\\udfff"}\n')
    (item,) = read_pages(only_file(tmp_path / "a.jsonl"))
    assert isinstance(item, Page)
    assert (item.content, item.url) == ("a\ufffdb \U0001f600", "\ufffd")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_known_with_and_without_their_mark(encoding):
    text = "<p>Ein Bär, wide encodings, and a little more text"
    assert decode_page(text.encode(encoding)) == text
