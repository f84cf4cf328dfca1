"""From a page's HTML to the text a reader would see, with the navigation left out."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from lxml import etree
from resiliparse.parse.html.exception import CSSParserException

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.extraction.article import find_article
from gpt2lab.webtext.extraction.clean_text import clean_text as clean_text
from gpt2lab.webtext.extraction.clean_text import without_surrogates
from gpt2lab.webtext.extraction.page_facts import linked_data, page_date, page_title
from gpt2lab.webtext.extraction.page_tree import MAXIMUM_TAGS, PageTree, check_size, parse_page
from gpt2lab.webtext.extraction.page_tree import PageRefused as PageRefused
from gpt2lab.webtext.extraction.peers import html_without, with_newspaper, with_resiliparse, with_trafilatura
from gpt2lab.webtext.extraction.render import render

Extractor = Literal["auto", "trafilatura", "resiliparse", "newspaper", "all-text"]
EXTRACTORS: tuple[str, ...] = get_args(Extractor)

SLOW_EXTRACTORS: tuple[str, ...] = ("trafilatura", "newspaper")
"""Those worth a cheap first look before"""

PYDOC_EXTRACTOR: Extractor = "all-text"
"""Python's own documentation server lays its text out with tables, of which article extractors keep half."""

PYDOC_SKIP_ELEMENTS = ('div[style*="float"]', "td.extra")
"""The header of pydoc's pages (version, search forms), and the links to index, source file and reference."""

_SCANT_TEXT = 300
"""Characters; where less is seen of an article, its own copy for search engines may be all there is of it."""


@dataclass(frozen=True)
class Extracted:
    """The title of a page, "" when it has none, its text, and what made the text: the extractor, or a part of `auto`.

    `date` is the day (YYYY-MM-DD) of publication, only as the page declares it.
    """

    title: str
    text: str
    extractor: str
    date: str | None


class Look:
    """A page, parsed once: a cheap look at its text, and then, if it is worth it, the extractor that was asked for.

    `skip_elements` are CSS selectors of elements dropped before anything else. Raises PageRefused for a page that
    would take too long.
    """

    def __init__(self, html: str, skip_elements: tuple[str, ...] = ()) -> None:
        check_size(html, MAXIMUM_TAGS)
        try:
            encoded = html.encode()
        except UnicodeEncodeError:
            html = without_surrogates(html)
            encoded = html.encode()
        self._html = html
        self._page = parse_page(encoded)
        if skip_elements:
            self._html = html_without(self._mended_html(), skip_elements)
            self._page = parse_page(self._html.encode())

    def visible_text(self) -> str:
        """The cleaned text of everything that can be seen: no extractor finds more."""
        return clean_text(with_resiliparse(self._mended_html(), main_content=False))

    def extract(self, extractor: Extractor = "auto", url: str | None = None) -> Extracted:
        """Title, text and date of the page; the text is "" when the extractor finds none, and not cleaned.

        `auto` finds the article by rules of our own (`article.py`), `trafilatura` (precision mode), `newspaper` and
        `resiliparse` are others' ways to do so; `all-text` keeps everything visible, for sites that article
        extractors don't understand.
        """
        name: str = extractor
        if extractor == "auto":
            text = render(find_article(self._page), self._page.elements)
            if len(text) < _SCANT_TEXT and len(declared := _declared_article(self._page)) > 2 * len(text):
                text, name = declared, "auto:json-ld"
        elif extractor == "trafilatura":
            text = with_trafilatura(self._with_html_tag(), url)
        elif extractor == "newspaper":
            text = with_newspaper(self._with_html_tag(), url)
        else:
            text = with_resiliparse(self._mended_html(), main_content=extractor == "resiliparse")
        root = self._page.root
        if root is None:
            return Extracted("", text, name, None)
        title = " ".join(clean_text(page_title(root)).split())
        return Extracted(title, text, name, page_date(root))

    def _with_html_tag(self) -> str:
        """HTML5 does without the <html> tag, with trafilatura no text is found then."""
        return self._html if "<html" in self._html[:4096].lower() else self._mended_html()

    def _mended_html(self) -> str:
        """The page once more, every tag closed and none nested more than 2,048 deep.

        HTML5's rules open every formatting tag left open again in each paragraph to come, so that resiliparse makes
        4 GB of a page of 60 kB that is written for it.
        """
        root = self._page.root
        return "" if root is None else etree.tostring(root, method="html", encoding="unicode")


def extract(
    html: str, extractor: Extractor = "auto", skip_elements: tuple[str, ...] = (), url: str | None = None
) -> Extracted:
    """All of a `Look` at once, the text cleaned, for pages that need no look before."""
    found = Look(html, skip_elements).extract(extractor, url)
    return replace(found, text=clean_text(found.text))


def _declared_article(page: PageTree) -> str:
    """The text in a page's `articleBody` of schema.org, if it is text and not once more HTML."""
    if page.root is None:
        return ""
    bodies = (item.get("articleBody") for item in linked_data(page.root))
    texts = [body for body in bodies if isinstance(body, str) and "</" not in body]
    return max(texts, key=len, default="")


def check_selectors(skip_elements: tuple[str, ...]) -> None:
    """Raise BadOption when one of the CSS selectors can't be parsed."""
    for selector in skip_elements:
        try:
            html_without("<p>", (selector,))
        except CSSParserException as error:
            raise BadOption(f"skip-elements: {selector!r} is no CSS selector ({error}).") from None
