"""The extractors of others, as options: each turns HTML into text. Loaded when first used, which takes seconds."""

import logging
import re
import warnings
from typing import cast

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from gpt2lab.webtext.extraction.page_tree import check_size

MAXIMUM_TAGS = 150_000
"""trafilatura takes up to 7 seconds for so many, 43 for the 600,000 that our own extractor reads in 5."""
MAXIMUM_TAGS_OF_NEWSPAPER = 30_000
"""newspaper4k takes the square of the number of paragraphs: more than 100 seconds for 70,000."""

_TAB_IN_PRE = "\ue000"  # stands for a real tab while tabs between table cells are tidied
_EMPTY_CELLS_BEFORE = re.compile(r"^[ \xa0]*\t[ \xa0\t]*", re.MULTILINE)
_CELL_BORDER = re.compile(r"(?<![ \xa0])[ \xa0]*\t[ \xa0\t]*")


def with_trafilatura(html: str, url: str | None) -> str:
    """Text of the article by trafilatura in its precision mode, "" where it finds none. Raises PageRefused."""
    check_size(html, MAXIMUM_TAGS)
    with warnings.catch_warnings():
        # Of a library that trafilatura downloads with, which we don't; it would be shown to every user.
        warnings.filterwarnings("ignore", message="SOCKS support")
        from trafilatura import extract as extract_article

    return cast(str, extract_article(html, url=url, favor_precision=True, include_comments=False) or "")


def with_newspaper(html: str, url: str | None) -> str:
    """Text of the article by newspaper4k, heir of what made WebText. Asks no server; raises PageRefused."""
    check_size(html, MAXIMUM_TAGS_OF_NEWSPAPER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the many libraries that it brings
        from newspaper import Article

        logging.getLogger("newspaper").setLevel(logging.ERROR)
        for options in ({}, {"language": "en"}):
            article = Article(url or "http://localhost/", fetch_images=False, **options)
            article.download(input_html=html)
            try:
                article.parse()
            except ImportError:  # of the optional tokenizer that Japanese, Chinese, Thai and others need
                continue
            return cast(str, article.text or "")
    return ""


def with_resiliparse(html: str, main_content: bool) -> str:
    """Text of all that is visible, or of the main part; resiliparse puts two tabs between cells, here one is left."""
    tree = HTMLTree.parse(html)
    if tree.document:
        # as a list of its own: going through the collection itself takes the square of its length
        for element in tree.document.query_selector_all("pre").values():
            if "\t" in element.html:
                element.html = element.html.replace("\t", _TAB_IN_PRE)
    text = extract_plain_text(tree, preserve_formatting=True, main_content=main_content)
    text = _EMPTY_CELLS_BEFORE.sub("", text)
    return _CELL_BORDER.sub("\t", text).replace(_TAB_IN_PRE, "\t")


def html_without(html: str, selectors: tuple[str, ...]) -> str:
    """A page without the elements that the CSS selectors match."""
    tree = HTMLTree.parse(html)
    if tree.document:
        for selector in selectors:
            for element in tree.document.query_selector_all(selector).values():
                element.decompose()
    return str(tree)
