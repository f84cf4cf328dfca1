"""Pages that their owners asked to have left out are left out, and their text is kept nowhere."""

import json

import pyarrow.parquet
import pytest

from gpt2lab.base.errors import BadInput
from gpt2lab.webtext.build import BuildOptions, build
from gpt2lab.webtext.takedown import read_takedown_list

LIST = """# asked for in November
example.org
https://site.example.com/one?x=1  # this page alone
http://blog.example.net/private/*
Shop.Example.COM/items
"""


@pytest.fixture
def takedown(tmp_path):
    path = tmp_path / "takedown.txt"
    path.write_text(LIST)
    return path


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://example.org/", True),
        ("http://deep.sub.EXAMPLE.org:8080/a", True),
        ("https://notexample.org/", False),
        ("https://example.org.evil.com/", False),
        ("http://site.example.com/one?x=1", True),
        ("https://site.example.com/one?x=2", False),
        ("https://site.example.com/", False),
        ("https://blog.example.net/private/deep/page.html", True),
        ("https://blog.example.net/public", False),
        ("https://shop.example.com/items", True),
        ("http://[broken", False),
        (None, False),
    ],
)
def test_an_address_is_covered_as_the_list_says(takedown, url, covered):
    assert read_takedown_list(takedown).covers(url) is covered


@pytest.mark.parametrize("line", ["not a domain", "https://", "localhost", "http://[::1"])
def test_a_line_that_cannot_be_honoured_stops_the_build(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"example.org\n{line}\n")
    with pytest.raises(BadInput, match=r"list\.txt: line 2"):
        read_takedown_list(tmp_path / "list.txt")
    with pytest.raises(BadInput, match="can't be read"):
        read_takedown_list(tmp_path / "absent.txt")


def test_the_text_of_a_page_taken_down_is_kept_nowhere(tmp_path, takedown):
    rows = [
        {"url": "https://www.example.org/page", "text": "The secret recipe of a page that was taken down. " * 5},
        {"url": "https://www.example.edu/page", "text": "Another page, which may stay where it is for all. " * 5},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    first = build([tmp_path / "in.jsonl"], out, BuildOptions(filters=("none",), workers=1))
    assert first.kept == 2
    report = build([tmp_path / "in.jsonl"], out, BuildOptions(filters=("none",), workers=1, takedown=takedown))
    assert (report.kept, report.removed) == (1, {"takedown": 1})
    for folder in ("documents", "removed", "stages"):
        for file in sorted((out / folder).rglob("*.parquet")):
            assert "secret" not in str(pyarrow.parquet.read_table(file).to_pylist())
    assert "secret" not in (out / "report.json").read_text()
    takedown.write_text(LIST + "www.example.edu\n")
    longer = build([tmp_path / "in.jsonl"], out, BuildOptions(filters=("none",), workers=1, takedown=takedown))
    assert (longer.kept, longer.removed) == (0, {"takedown": 2})
