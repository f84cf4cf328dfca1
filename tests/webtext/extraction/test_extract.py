import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.extraction.extract import (
    PYDOC_EXTRACTOR,
    PYDOC_SKIP_ELEMENTS,
    check_selectors,
    clean_text,
    extract,
)

PYDOC_PAGES = ["topic?key=ASSIGNMENT", "topic?key=FORMATTING", "json.decoder.html", "textwrap.html", "asyncio.html"]


class TagStripper(HTMLParser):
    """The words of a page, told apart at every tag but those inside a line."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.pieces.append("" if tag in ("a", "strong", "span", "em", "b", "i") else " ")

    handle_endtag = lambda self, tag: self.handle_starttag(tag, [])  # noqa: E731

    def handle_data(self, data):
        self.pieces.append(data)

    def words(self) -> Counter[str]:
        return Counter("".join(self.pieces).split())


@pytest.mark.parametrize("path", PYDOC_PAGES)
def test_pydoc_options_keep_the_prose_and_drop_the_header(pydoc_page, path):
    html = pydoc_page(path)
    expected = TagStripper(html.split('<div style="clear:both;padding-top:.5em;">')[1]).words()
    found = extract(html, PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS)
    words = Counter(found.text.split())
    assert (words & expected).total() / expected.total() > 0.98
    assert (words - expected).total() <= 2
    for navigation in ("Module Index", "Topics", "Keywords", "Module Reference"):
        assert navigation not in found.text
    assert found.title.startswith("Pydoc: ")


def test_pydoc_pages_read_as_in_a_terminal(pydoc_page):
    text = extract(pydoc_page("topic?key=ASSIGNMENT"), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS).text
    assert text.startswith("TOPIC\n\nASSIGNMENT\n\nAssignment statements\n*********************\n\nAssignment")
    assert '\n   assignment_stmt ::= (target_list "=")+ (starred_expression' in text
    text = extract(pydoc_page("json.decoder.html"), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS).text
    assert "\n\nmsg: The unformatted error message\ndoc: The JSON document being parsed\n" in text
    assert not re.search(r"[\t\xa0]|[ ]$|\n{3}", text, re.MULTILINE)


PARAGRAPHS = "".join(
    f"<p>On the {n}th day the boats came back to the harbour, and the people of the town were there to see them.</p>"
    for n in range(12)
)
ARTICLE = f"""<html><head><title> The  harbour </title></head><body><nav><a href="/">Home</a> <a>Shop</a></nav>
<article><h1>The harbour</h1>{PARAGRAPHS}</article><footer>All rights reserved</footer></body></html>"""


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_article_extractors_keep_the_article_only(extractor):
    found = extract(ARTICLE, extractor)
    assert found.title == "The harbour"
    assert found.text.count("boats came back") == 12
    assert "All rights reserved" not in found.text
    assert "Shop" not in found.text


def test_a_page_without_an_html_tag_is_a_page():
    assert extract(ARTICLE.removeprefix("<html>"), "trafilatura").text == extract(ARTICLE, "trafilatura").text != ""


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse", "all-text"])
def test_skipped_elements_are_gone_whatever_the_extractor(extractor):
    assert "On the 3th day" not in extract(ARTICLE, extractor, ("p:nth-of-type(4)",)).text
    assert "On the 4th day" in extract(ARTICLE, extractor, ("p:nth-of-type(4)",)).text
    assert extract("", extractor).text == ""


def test_code_keeps_its_indentation_and_table_cells_are_parted_by_one_tab():
    html = (
        "<table><tr><td>&nbsp;</td><td>a</td><td></td><td>b</td></tr></table><pre>def f():\n\t\treturn 1\n    x</pre>"
    )
    assert extract(html, "all-text").text == "a\tb\ndef f():\n\t\treturn 1\n    x"


def test_a_broken_selector_is_a_bad_option():
    with pytest.raises(BadOption, match=r"'div\['"):
        check_selectors(("p", "div["))


def test_cleaning():
    assert clean_text("a\u00a0b\r\nc\rd  \t\n\n\n\n  e\x00\x07\u0301\n") == "a b\nc\nd\n\n  \u00e9"
    assert clean_text("\n\n  indented\n\tfirst") == "  indented\n\tfirst"
    assert clean_text("\ud800") == "\ufffd"


@given(st.text(alphabet=st.characters(), max_size=60))
def test_cleaning_twice_is_cleaning_once_and_makes_storable_text(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert not re.search(r"\n{3}|[ \t]\n|[\x00-\x08\r\xa0]", clean)
    clean.encode()


def test_a_page_of_html5_needs_neither_html_nor_body_tags():
    paragraphs = "".join(
        f"<p>Sentence number {n} of the article, which is long enough to be prose.</p>" for n in range(9)
    )
    for page in (
        f"<title>A page</title><article>{paragraphs}</article>",
        f"<!DOCTYPE html><main>{paragraphs}</main><p>Bye",
    ):
        assert extract(page).text.count("Sentence number") == 9
