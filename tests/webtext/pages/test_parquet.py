"""Wrong bytes and odd columns in Parquet cost as little as can be."""

import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gpt2lab.webtext.pages.page import Page, Unreadable
from gpt2lab.webtext.pages.read import input_files, parts_of, read_pages

THREE = ["one", "two", "three"]


def read(path: Path) -> list[Page | Unreadable]:
    (file,) = input_files([path])
    return list(read_pages(file))


def read_table(folder: Path, table: pyarrow.Table) -> list[Page | Unreadable]:
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return read(folder / "a.parquet")


@pytest.mark.parametrize(
    "dates",
    [
        pyarrow.array([0, 1, 10**8], pyarrow.date32()),
        pyarrow.array([0, 86_400 * 10**6, 2**60], pyarrow.timestamp("us")),
    ],
)
def test_a_date_that_python_cannot_hold_is_left_out(tmp_path, dates):
    items = read_table(tmp_path, pyarrow.table({"text": THREE, "date": dates}))
    assert [item.content for item in items] == THREE
    assert [(item.date or "")[:10] for item in items] == ["1970-01-01", "1970-01-02", ""]


def test_dates_of_an_unknown_time_zone_are_left_out(tmp_path):
    dates = pyarrow.array([1, 2, 3], pyarrow.timestamp("us", "Foo/Bar"))
    items = read_table(tmp_path, pyarrow.table({"text": THREE, "timestamp": dates}))
    assert [(item.content, item.date) for item in items] == [(text, None) for text in THREE]


def test_a_column_name_that_is_there_twice_costs_no_page(tmp_path):
    column = pyarrow.array(THREE)
    for name, date in (("date", None), ("text", None), ("url", None)):
        table = pyarrow.Table.from_arrays([column, column, column], names=["text", name, name])
        assert [(item.content, item.date) for item in read_table(tmp_path, table)] == [(text, date) for text in THREE]


@pytest.mark.parametrize("column", ["text", "url"])
def test_what_is_not_utf_8_costs_its_row(tmp_path, column):
    broken = pyarrow.array([b"one", b"\xff\xfetwo", b"three"]).view(pyarrow.string())
    items = read_table(tmp_path, pyarrow.table({"text": THREE} | {column: broken}))
    assert [item.content for item in (items[0], items[2])] == ["one", "three"]
    assert items[1] == Unreadable("a.parquet", 1, None, "line: not valid UTF-8", "\ufffd\ufffdtwo")


def test_a_damaged_date_column_costs_no_text(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {n}" for n in range(300)]
    dates = [f"2020-01-{n % 28 + 1:02d}" for n in range(300)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "date": dates}), path, row_group_size=100)
    column = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset
    data[begin : begin + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    expected = [*dates[:100], *[None] * 100, *dates[200:]]
    assert [(item.content, item.date) for item in read(path)] == list(zip(texts, expected, strict=True))


FLIP = """
import random, sys
from pathlib import Path
from gpt2lab.webtext.pages.read import input_files, parts_of, read_pages

path = Path(sys.argv[1])
whole = path.read_bytes()
footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
chooser = random.Random(1)
everywhere = [(chooser.randrange(len(whole)), 1 << chooser.randrange(8)) for _ in range(200)]
for at, bit in [*everywhere, *((at, 1) for at in range(footer, len(whole)))]:
    damaged = bytearray(whole)
    damaged[at] ^= bit
    path.write_bytes(damaged)
    (file,) = input_files([path])
    for part in parts_of(file, 500):
        for item in read_pages(part):
            assert item.source_file
print("read on")
"""


def test_no_flipped_bit_raises_or_ends_the_process(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"text": [f"hello world {n} " * 20 for n in range(8)], "date": ["2020-01-01"] * 8}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=4)
    command = [sys.executable, "-c", FLIP, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "read on\n"), done.stderr[-500:]


def test_parts_have_their_share_of_the_bytes(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"{n} " * 1000 for n in range(1000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=100)
    (file,) = input_files([path])
    parts = parts_of(file, file.size // 3)
    assert 2 <= len(parts) <= 4
    assert 0.98 < sum(part.size for part in parts) / file.size <= 1
