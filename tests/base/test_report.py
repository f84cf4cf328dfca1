"""A report is one well-formed page that needs nothing else, whatever texts it shows."""

from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from lxml import etree

from gpt2lab.base.report import Picture, Report, number, printable

EVIL = "<script>alert(1)</script>"
EVIL_ATTRIBUTE = '" onmouseover="alert(1)" x=\'<img src=http://example.org/x>\''
VOID = {"meta", "br", "img", "link", "input", "hr", "path"}


class Page(HTMLParser):
    """Checks that tags nest and close, and remembers what the page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), "an attribute is given twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def names(self) -> list[str]:
        return [tag for tag, _ in self.tags]

    def text_of_page(self) -> str:
        return "".join(self.texts)


def full_report(text: str, svg: str = '<svg role="img" aria-label="x"><path d="M0 0"/></svg>') -> Report:
    """A report with every kind of block, each of them saying `text`."""
    report = Report(text, text)
    report.figures([(text, text), ("tokens", "12,288,000")])
    report.heading(text)
    report.paragraph(text)
    report.picture(Picture(text, svg), text)
    report.table([text, "ours"], [[text, 1.5], ["other", text]], text)
    report.table(["stage", "seconds"], [["fetch", 3]])
    report.passage(text, text)
    report.passage(text)
    report.details(text, text)
    report.foot([(text, text)])
    return report


@pytest.mark.parametrize(
    "text", ["plain", EVIL, EVIL_ATTRIBUTE, "</pre></style></title>-->", "a & b &lt; &amp;lt;", ""]
)
def test_every_block_is_well_formed_and_shows_its_text_as_text(text):
    page = Page(full_report(text).html())
    plain = Page(full_report("plain").html())
    assert set(page.names()) <= set(plain.names())
    assert "script" not in page.names()
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert text in page.text_of_page()


def test_every_block_escapes_a_script():
    page = full_report(EVIL).html()
    shown = page.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert "<script" not in page
    assert shown >= full_report("unmistakable").html().count("unmistakable")


def test_the_page_asks_for_nothing_and_forbids_itself_to():
    page = Page(full_report(EVIL_ATTRIBUTE).html())
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "img")
        assert not {"src", "href", "srcset", "action", "data", "xlink:href", "background"} & set(attributes)
        assert "url(" not in (attributes.get("style") or "")
    html = full_report("plain").html()
    assert "@import" not in html
    assert "url(" not in html
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_page_can_be_read_by_a_screen_reader():
    report = full_report("words")
    page = Page(report.html())
    assert ("html", {"lang": "en"}) in page.tags
    assert "title" in page.names()
    levels = [int(tag[1]) for tag in page.names() if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert scopes
    assert set(scopes) <= {"col", "row"}
    assert page.names().count("figcaption") == 3  # picture, table and passage that have a name
    for tag, attributes in page.tags:
        if attributes.get("tabindex") == "0":  # what scrolls can be reached by keyboard and has a name
            assert attributes.get("aria-label"), tag


def test_the_page_has_light_dark_narrow_and_printed_forms():
    html = full_report("words").html()
    for wanted in ("prefers-color-scheme: dark", "max-width: 30rem", "@media print", 'name="viewport"', "color-scheme"):
        assert wanted in html


def test_the_outcome_comes_first_and_the_making_last():
    report = Report("Title", "It went well.")
    report.foot([("command", "gpt2lab train --minutes 10")])
    report.paragraph("Between.")
    text = Page(report.html()).text_of_page()
    assert text.index("It went well.") < text.index("Between.") < text.index("How this was made")
    assert "gpt2lab train --minutes 10" in text


def test_a_passage_keeps_its_line_breaks_also_at_its_start():
    text = "\n\n  class A:\n\tdef f(self): ...\n\n\nend\n"
    report = Report("Title", "Outcome.")
    report.passage(text)
    tree = etree.HTML(report.html())
    # Browsers drop one line break right after <pre>; libxml2 keeps it.
    assert tree.findtext(".//pre") == "\n" + text


def test_columns_of_numbers_are_aligned_right_and_columns_of_words_left():
    report = Report("Title", "Outcome.")
    rows = [
        ["117M", "35.1 ± 0.9", 35.13, "−0.2 %", "good", np.int64(1234)],
        ["345M", "–", None, "", "12 monkeys too", 5],
    ]
    report.table(["model", "ours", "paper", "difference", "remark", "items"], rows)
    tree = etree.HTML(report.html())
    head = [cell.get("class") for cell in tree.iterfind(".//thead//th")]
    assert head == [None, "number", "number", "number", None, "number"]
    assert [cell.text for cell in tree.iterfind(".//tbody/tr[2]/*")] == ["345M", "–", "–", None, "12 monkeys too", "5"]
    assert tree.findtext(".//tbody/tr[1]/td[5]") == "1,234"


def test_a_row_of_another_length_is_refused():
    with pytest.raises((ValueError, IndexError)):
        Report("Title", "Outcome.").table(["a", "b"], [["only one"]])
    with pytest.raises(ValueError, match="zip"):
        Report("Title", "Outcome.").table(["a", "b"], [["one", 2, 3]])


def test_a_table_without_rows_still_shows_its_columns():
    report = Report("Title", "Outcome.")
    report.table(["reason", "pages"], [])
    assert "reason" in Page(report.html()).text_of_page()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (-5, "−5"),
        (np.int32(12000), "12,000"),
        (4.1, "4.10"),
        (np.float32(4.125), "4.12"),
        (31.55, "31.6"),
        (123.4, "123"),
        (999.9, "1,000"),
        (-1234.5, "−1,234"),
        (0.0123, "0.0123"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_said_as_readers_want_them(value, text):
    assert number(value) == text


def test_texts_that_no_file_can_hold_are_written_all_the_same(tmp_path):
    path = tmp_path / "report.html"
    full_report("nul \0 escape \x1b[31m surrogate \ud800 end").write(path)
    page = path.read_text(encoding="utf-8")
    assert "nul \ufffd escape \ufffd[31m surrogate \ufffd end" in page
    assert printable("tab\tline\nčaj 茶 🍵") == "tab\tline\nčaj 茶 🍵"


def test_a_report_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    report = full_report("new")
    monkeypatch.setattr(report, "html", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
