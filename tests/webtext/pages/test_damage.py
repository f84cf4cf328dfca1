"""What is damaged is told, and costs no more than itself."""

import base64
import gzip
import hashlib
import os
import random
import time
from pathlib import Path

import pytest

from gpt2lab.webtext.pages.page import Page, Unreadable
from gpt2lab.webtext.pages.read import input_files, parts_of, read_pages


def record(number: int, length: int | None = None, digest: bool = False, eol: str = "\r\n") -> bytes:
    body = b"<p>%d " % number + random.Random(number).randbytes(300).hex().encode()
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    value = base64.b32encode(hashlib.sha1(block).digest()).decode()
    lines = [
        "WARC/1.0",
        "WARC-Type: response",
        f"WARC-Target-URI: http://a.example/{number}",
        "WARC-Date: 2024-05-06T07:08:09Z",
        "Content-Type: application/http; msgtype=response",
        *([f"WARC-Block-Digest: sha1:{value}"] if digest else []),
        f"Content-Length: {len(block) if length is None else length}",
    ]
    return eol.join([*lines, "", ""]).encode() + block + 2 * eol.encode()


def read(path: Path, data: bytes) -> tuple[list[int], list[Unreadable]]:
    """Numbers of the pages, and the rest; the same in parts of any size."""
    path.write_bytes(data)
    (file,) = input_files([path])
    items = list(read_pages(file))
    for size in (100, 1000):
        assert [item for part in parts_of(file, size) for item in read_pages(part)] == items
    numbers = [int(item.content[3:].split()[0]) for item in items if isinstance(item, Page)]
    return numbers, [item for item in items if isinstance(item, Unreadable)]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_flipped_bit_or_a_cut_costs_the_record_it_is_in(tmp_path, compressed):
    records = [record(n, digest=True) for n in range(8)]
    pieces = [gzip.compress(one) for one in records] if compressed else records
    whole = b"".join(pieces)
    path = tmp_path / ("a.warc.gz" if compressed else "a.warc")
    assert read(path, whole) == (list(range(8)), [])
    chooser = random.Random(5)
    for _ in range(100):
        at = chooser.randrange(len(whole))
        hit = next(n for n in range(8) if at < sum(map(len, pieces[: n + 1])))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chooser.randrange(8)
        numbers, rest = read(path, bytes(flipped))
        assert set(range(8)) - {hit} <= set(numbers)
        assert len(rest) <= 1
        numbers, rest = read(path, whole[:at])
        assert numbers[:hit] == list(range(hit))


@pytest.mark.parametrize("compressed", [True, False])
def test_garbage_zeros_and_gaps_between_records_cost_none(tmp_path, compressed):
    pack = gzip.compress if compressed else bytes
    one, two, three = (pack(record(n)) for n in range(3))
    path = tmp_path / ("a.warc.gz" if compressed else "a.warc")
    for garbage in (os.urandom(5000), bytes(5000), b"WARC/1.0\r\n" * 50, b"\x1f\x8b\x08\0" * 50, two[:60], b"WARC/"):
        numbers, (damage,) = read(path, one + garbage + two + garbage + three)[0], read(path, one + garbage + two)[1]
        assert numbers == [0, 1, 2], garbage[:20]
        assert damage.reason.startswith("damaged: ")
        assert damage.excerpt == f"bytes {len(one):,} to {len(one + garbage):,}"
        assert damage.index == len(one)
        numbers, (last,) = read(path, one + two + garbage)
        assert numbers == [0, 1]
        assert last.reason.startswith("file: ")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("length", [-1, 20, 5000, 10**18, 10**30])
def test_a_wrong_length_costs_one_record(tmp_path, compressed, length):
    pack = gzip.compress if compressed else bytes
    data = b"".join(map(pack, [record(0), record(1, length), record(2), record(3), record(4)]))
    numbers, rest = read(tmp_path / ("a.warc.gz" if compressed else "a.warc"), data)
    assert numbers == [0, 2, 3, 4]
    assert len(rest) == 1


def test_whatever_the_layout_of_a_warc_its_pages_are_the_same(tmp_path):
    records = [record(n) for n in range(5)]
    whole = b"".join(records)
    blocks = b"".join(gzip.compress(whole[at : at + 333]) for at in range(0, len(whole), 333))
    line_feeds = b"".join(record(n, eol="\n") for n in range(5))
    named = {"a.warc.gz": gzip.compress(whole), "b.warc.gz": blocks, "c.warc": line_feeds, "d.warc.gz": whole}
    for name, data in named.items():
        assert read(tmp_path / name, data) == (list(range(5)), []), name
    assert read(tmp_path / "e.warc", b"".join(map(gzip.compress, records))) == (list(range(5)), [])


def test_a_warc_stored_inside_a_record_is_no_place_to_begin_a_part(tmp_path):
    inner = b"".join(gzip.compress(record(n)) for n in range(100, 300))
    head = b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: %d\r\n\r\n" % len(inner)
    outer = gzip.compress(head + inner + b"\r\n\r\n", 0)  # stored as it is
    data = gzip.compress(record(0)) + outer + gzip.compress(record(1))
    assert read(tmp_path / "a.warc.gz", data) == ([0, 1], [])


def test_a_wrong_digest_removes_a_page_where_there_is_no_other_checksum(tmp_path):
    wrong = record(1, digest=True).replace(b"<p>1", b"<p>2")
    numbers, (item,) = read(tmp_path / "a.warc", record(0, digest=True) + wrong)
    assert numbers == [0]
    assert (item.url, item.reason) == ("http://a.example/1", "damaged: not the bytes that its digest was made of")


def test_noise_takes_time_in_proportion(tmp_path):
    for name, noise in {
        "a.warc.gz": os.urandom(1 << 24),
        "b.warc.gz": b"\x1f\x8b\x08\0" * (1 << 17),
        "c.warc": b"WARC/1.0\r\n" * (1 << 15),
        "d.warc": b"a:WARC/1.0\n" * (1 << 15),
        "e.warc.gz": gzip.compress(record(0))[:40] * 5000,
        "f.warc": b"\n" * (1 << 24),
    }.items():
        (tmp_path / name).write_bytes(noise)
        (file,) = input_files([tmp_path / name])
        begun = time.process_time()
        items = list(read_pages(file))
        assert time.process_time() - begun < 20, name
        assert len(items) <= 1, name
