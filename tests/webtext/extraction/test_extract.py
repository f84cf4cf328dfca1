import gzip
import json
import re
import socket
import time
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.extraction.extract import (
    EXTRACTORS,
    PYDOC_EXTRACTOR,
    PYDOC_SKIP_ELEMENTS,
    Look,
    PageRefused,
    check_selectors,
    clean_text,
    extract,
)
from gpt2lab.webtext.extraction.peers import with_newspaper, with_trafilatura

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
ARTICLE = f"""<html lang="en-GB"><head><title> The  harbour </title></head><body><nav><a href="/">Home</a> <a>Shop</a>
</nav><article><h1>The harbour</h1>{PARAGRAPHS}</article><footer>All rights reserved</footer></body></html>"""


@pytest.mark.parametrize("extractor", ["auto", "trafilatura", "resiliparse", "newspaper"])
def test_article_extractors_keep_the_article_only(extractor):
    found = extract(ARTICLE, extractor)
    assert found.title == "The harbour"
    assert found.text.count("boats came back") == 12
    assert "All rights reserved" not in found.text
    assert "Shop" not in found.text
    assert found.extractor == extractor


@pytest.mark.parametrize("extractor", ["auto", "trafilatura"])
def test_a_page_without_an_html_tag_is_a_page(extractor):
    bare = ARTICLE.removeprefix('<html lang="en-GB">')
    assert extract(bare, extractor).text == extract(ARTICLE, extractor).text != ""


@pytest.mark.parametrize("around", ["%s", "<title>A</title>%s", "<head><title>A</title></head>%s", "<body>%s"])
@pytest.mark.parametrize("tag", ["article", "main", "section", "div", "center"])
def test_pages_may_leave_out_head_and_body(around, tag):
    assert extract(around % f"<{tag}>{PARAGRAPHS}</{tag}>").text == extract(ARTICLE).text


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_skipped_elements_are_gone_whatever_the_extractor(extractor):
    assert "On the 3th day" not in extract(ARTICLE, extractor, ("p:nth-of-type(4)",)).text
    assert "On the 4th day" in extract(ARTICLE, extractor, ("p:nth-of-type(4)",)).text
    assert extract("", extractor).text == ""


def test_newspaper_asks_no_server(monkeypatch):
    def refuse(*_args):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    page = ARTICLE.replace("<h1>", '<img src="http://127.0.0.1:9/a.jpg"><h1>')
    assert "boats came back" in extract(page, "newspaper", url="http://127.0.0.1:9/page.html").text


def test_a_look_shows_beforehand_all_that_any_extractor_may_find():
    look = Look(ARTICLE)
    assert set(look.extract("auto").text.split()) <= set(look.visible_text().split())
    assert look.extract("auto").text.startswith("On the 0th day")


def test_mojibake_reaches_the_repair_as_it_was_on_the_page():
    assert "it\u00e2\x80\x99s" in Look(ARTICLE.replace("On the 0th", "On it\u00e2\x80\x99s 0th")).extract().text


def test_what_stands_aside_in_an_article_is_left_out():
    aside = """<div class="share-buttons"><p>Share it with all of your friends, wherever they may be.</p></div>
        <figure><img><figcaption>Boats in a harbour, seen from above. Photo: Somebody</figcaption></figure>
        <div class="newsletter-box"><p>Get our stories, every morning, in your inbox.</p></div><p>Advertisement</p>
        <h3>Related stories</h3><ul><li><a href="a">Another harbour, another town</a></li></ul>"""
    tail = """<p>Follow us on Example, where all the boats are.</p><div id="comments"><p>What a fine harbour
        that is, I have always said so, and will say so again.</p></div>"""
    page = ARTICLE.replace("On the 6th", aside + "<p>On the 6th").replace("</article>", tail + "</article>")
    assert extract(page).text == extract(ARTICLE).text


def test_a_wrapper_is_kept_whatever_its_name_says():
    for name in ("content-with-sidebar", "post type-post tag-news category-boats author-jane", "comments-enabled"):
        assert extract(ARTICLE.replace("<article>", f'<article class="{name}">')).text == extract(ARTICLE).text


def test_pieces_of_one_text_stay_together():
    halves = PARAGRAPHS.split("<p>On the 2th")
    page = f'<div class="piece">{halves[0]}</div><div>A picture</div><div class="piece"><p>On the 2th{halves[1]}</div>'
    text = extract(f"<body>{page}<footer>The end of the page, as it were.</footer>").text
    assert [text.count(f"On the {n}th day") for n in range(12)] == [1] * 12
    assert "The end" not in text


def test_text_is_readable():
    page = """<article><h2>Tools</h2><p>Two things are needed,<br>and a third one helps, as everybody knows.</p>
        <ul><li>A <b>rope</b></li><li><p>A knife,</p><p>sharp</p></li></ul><pre>def tie():
    return "knot"</pre><table><tr><th>Knot</th><th>Strength</th></tr><tr><td>Bowline</td><td>70 %</td></tr></table>
        <blockquote><p>A good knot is short, said the old man.</p></blockquote><p>One.<br><br>Two.</p></article>"""
    assert (
        extract(page).text
        == """Tools

Two things are needed,
and a third one helps, as everybody knows.

- A rope
- A knife,
sharp

def tie():
    return "knot"

Knot\tStrength
Bowline\t70 %

A good knot is short, said the old man.

One.

Two."""
    )


def test_tables_for_layout_are_paragraphs():
    page = f"<table><tr><td>{PARAGRAPHS}</td></tr></table>"
    assert extract(page).text.count("\n\n") == 11


def test_chinese_and_japanese_articles_are_found():
    paragraph = "<p>港に船が戻ってきた。町の人々はみな、それを見に集まった。風は強く、波は高かった。</p>"
    page = f"<div><a>一</a><a>二</a></div><div>{paragraph * 5}</div><div class='footer'>{paragraph * 2}</div>"
    assert extract(page).text.count("港に船が") == 5


def test_an_article_only_in_the_data_for_search_engines_is_found_there():
    body = "The boats came back to the harbour. " * 20
    script = f'<script type="application/ld+json">{json.dumps({"@type": "Article", "articleBody": body})}</script>'
    found = extract(f"<html><head>{script}</head><body><p>Please turn on JavaScript.</p></body></html>")
    assert (found.text, found.extractor) == (body.rstrip(), "auto:json-ld")
    assert extract(ARTICLE.replace("</head>", script + "</head>")).extractor == "auto"


@pytest.mark.parametrize(
    ("head", "date"),
    [
        ('<meta property="article:published_time" content="2019-11-18T08:22:00-05:00">', "2019-11-18"),
        ('<meta name="date" content="20191118">', "2019-11-18"),
        ('<meta name="last-modified" content="2020-01-02"><meta name="pubdate" content="2019-11-18">', "2019-11-18"),
        ('<script type="application/ld+json">{"@graph": [{"datePublished": "2019-11-18"}]}</script>', "2019-11-18"),
        ('<meta property="article:modified_time" content="2020-01-02T00:00:00Z">', "2020-01-02"),
        ('<time itemprop="datePublished" datetime="2019-11-18 10:00">yesterday</time>', "2019-11-18"),
        ('<time datetime="2019-11-18">of something else</time>', None),
        ('<meta name="date" content="2019-13-45"><meta name="pubdate" content="yesterday">', None),
        ('<script type="application/ld+json">{"datePublished": "2019-11-</script>', None),
    ],
)
def test_dates_are_those_that_pages_declare(head, date):
    assert extract(f"<html><head>{head}</head><body><p>Published on 1 May 2018.</p></body></html>").date == date


def test_code_keeps_its_indentation_and_table_cells_are_parted_by_one_tab():
    html = (
        "<table><tr><td>&nbsp;</td><td>a</td><td></td><td>b</td></tr></table><pre>def f():\n\t\treturn 1\n    x</pre>"
    )
    assert extract(html, "all-text").text == "a\tb\ndef f():\n\t\treturn 1\n    x"


def test_a_broken_selector_is_a_bad_option():
    with pytest.raises(BadOption, match=r"'div\['"):
        check_selectors(("p", "div["))


HOSTILE = {
    "nothing": "",
    "a comment": "<!-- x -->",
    "deep": "<div>" * 100_000 + PARAGRAPHS,
    "deep lists": "<ul><li>x" * 50_000,
    "deep formatting": "<b>" * 100_000 + "x",
    "formatting never closed": "".join(f"<p><b id={n}>x" for n in range(50_000)),
    "siblings": "<a href=x>y</a>" * 100_000,
    "one paragraph": "<p>" + "word " * 600_000,
    "one word": "<p>" + "buffalo " * 400_000 + "</p>",
    "attribute": "<p class='" + "share " * 500_000 + "'>x",
    "spaces": "<pre>" + " " * 3_000_000 + "x</pre>",
    "spaces and tabs": "<pre>" + " \xa0" * 1_000_000 + "x\t</pre>",
    "no-break spaces": "<table><tr><td>" + "\xa0" * 3_000_000 + "</td></tr></table>",
    "marks": "<p>a" + "\u0301\u0316" * 500_000,
    "line breaks": "<br>" * 100_000,
    "related": "<h2>Related</h2><p>x</p>" * 30_000,
    "bodies": ("<div class=entry-content>" * 2_000 + "x. " * 10 + "</div>" * 2_000) * 10,
    "less-than": "<" * 500_000,
    "brackets": f'<script type="application/ld+json">{"[" * 200_000}</script>',
    "NULs and surrogates": f"<p>a\0b\ud800</p>{PARAGRAPHS}",
}


@pytest.mark.parametrize("extractor", ["auto", "all-text"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_take_no_time(name, extractor):
    start = time.process_time()
    found = extract(HOSTILE[name], extractor)
    assert time.process_time() - start < 10
    found.text.encode()
    assert "\0" not in found.text
    if name == "NULs and surrogates":
        assert found.text.count("boats came back") == 12


def test_pages_that_would_take_minutes_are_refused():
    with pytest.raises(PageRefused, match="more than 600,000 tags"):
        Look("<p>x" * 600_001)
    with pytest.raises(PageRefused, match="more than 16,000,000 characters"):
        Look("x" * 16_000_001)
    with pytest.raises(PageRefused, match="more than 150,000 tags"):
        with_trafilatura("<p>x" * 150_001, None)
    with pytest.raises(PageRefused, match="more than 30,000 tags"):
        with_newspaper("<p>x" * 30_001, None)


def test_newspaper_reads_languages_whose_tokenizers_are_not_installed():
    paragraph = "<p>港に船が戻ってきた。町の人々はみな、それを見に集まった。風は強く、波は高かった。</p>"
    page = f'<html lang="ja"><head><meta http-equiv="content-language" content="ja"></head><body>{paragraph * 9}'
    assert isinstance(extract(page, "newspaper").text, str)


def shingles(text):
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3)))


def f1_of_shingles(pairs):
    precision, recall = [], []
    for article, found in pairs:
        true, positive = shingles(article), shingles(found)
        precision.append((true & positive).total() / positive.total())
        recall.append((true & positive).total() / true.total())
    p, r = sum(precision) / len(precision), sum(recall) / len(recall)
    return 2 * p * r / (p + r)


def test_articles_of_the_benchmark_are_found(shared_data):
    folder = shared_data("web-extract/article-extraction-benchmark")
    truth = json.loads((folder / "ground-truth.json").read_text())
    pages = {name: gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()).decode() for name in truth}
    assert f1_of_shingles((truth[name]["articleBody"], extract(html).text) for name, html in pages.items()) > 0.98


def test_every_case_of_readability_gives_some_text(shared_data):
    folder = shared_data("web-extract/readability")
    cases = [gzip.decompress(path.read_bytes()).decode() for path in sorted(folder.glob("*/source.html.gz"))]
    texts = [extract(html).text for html in cases]
    assert len(texts) == 130
    assert all(texts)


def test_cleaning():
    assert clean_text("a\u00a0b\r\nc\rd  \t\n\n\n\n  e\x00\x07\u0301\n") == "a b\nc\nd\n\n  \u00e9"
    assert clean_text("\n\n  indented\n\tfirst") == "  indented\n\tfirst"
    assert clean_text("\ud800") == "\ufffd"
    assert clean_text("a" + "\u0316" * 100 + "b") == "a" + "\u0316" * 30 + "b"


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
