"""From a page's HTML to the text a reader would see, with the navigation left out; and the cleaning every text gets."""

import re
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.exception import CSSParserException
from resiliparse.parse.html.node import ElementNode

from gpt2lab.base.errors import BadOption

Extractor = Literal["auto", "trafilatura", "resiliparse", "all-text"]
EXTRACTORS: tuple[str, ...] = get_args(Extractor)

PYDOC_EXTRACTOR: Extractor = "all-text"
"""Python's own documentation server lays its text out with tables, of which article extractors keep half."""

PYDOC_SKIP_ELEMENTS = ('div[style*="float"]', "td.extra")
"""The header of pydoc's pages (version, search forms), and the links to index, source file and reference."""

_TAB_IN_PRE = "\ue000"  # stands for a real tab while tabs between table cells are tidied
_EMPTY_CELLS_BEFORE = re.compile(r"^[ \xa0]*\t[ \xa0\t]*", re.MULTILINE)
_CELL_BORDER = re.compile(r"[ \xa0]*\t[ \xa0\t]*")

_LINE_ENDS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[\u00a0\u2007\u202f]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_TRAILING_SPACES = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Extracted:
    """The title of a page, "" when it has none, and its text."""

    title: str
    text: str
    extractor: str = ""
    date: str | None = None


class ExtractionError(Exception):
    """TEMP"""


class Look:
    """TEMP: the extraction branch has the real one."""

    def __init__(self, html: str, skip_elements: tuple[str, ...] = ()) -> None:
        self._html, self._skip = html, skip_elements
        found = extract(html, "all-text", skip_elements)
        self.title, self.text = found.title, found.text

    def extract(self, extractor: "Extractor", url: str | None) -> Extracted:
        """TEMP"""
        found = extract(self._html, extractor, self._skip, url)
        return Extracted(found.title, found.text, extractor)


def check_selectors(skip_elements: tuple[str, ...]) -> None:
    """Raise BadOption when one of the CSS selectors can't be parsed."""
    empty = HTMLTree.parse("<p>")
    for selector in skip_elements:
        try:
            _select(empty, selector)
        except CSSParserException as error:
            raise BadOption(f"skip-elements: {selector!r} is no CSS selector ({error}).") from None


def extract(
    html: str, extractor: Extractor = "trafilatura", skip_elements: tuple[str, ...] = (), url: str | None = None
) -> Extracted:
    """Title and cleaned text of a page; the text is "" when the extractor finds none.

    `trafilatura` (precision mode) and `resiliparse` keep the main content of an article; `all-text` keeps
    everything visible, for sites that article extractors don't understand. `skip_elements` are CSS selectors
    of elements dropped before.
    """
    tree = HTMLTree.parse(html)
    for selector in skip_elements:
        for element in _select(tree, selector):
            element.decompose()
    title = " ".join(clean_text(tree.title or "").split())
    if extractor in ("auto", "trafilatura"):
        if skip_elements or "<html" not in html[:4096].lower():
            html = str(tree)  # HTML5 does without the <html> tag, trafilatura finds no text then
        return Extracted(title, clean_text(_with_trafilatura(html, url)))
    return Extracted(title, clean_text(_with_resiliparse(tree, main_content=extractor == "resiliparse")))


def _select(tree: HTMLTree, selector: str) -> Iterable[ElementNode]:
    return tree.document.query_selector_all(selector) if tree.document else ()


def _with_trafilatura(html: str, url: str | None) -> str:
    with warnings.catch_warnings():
        # Of a library that trafilatura downloads with, which we don't; it would be shown to every user.
        warnings.filterwarnings("ignore", message="SOCKS support")
        from trafilatura import extract as extract_article  # 0.2 s that only pages of HTML should cost

    return cast(str, extract_article(html, url=url, favor_precision=True, include_comments=False) or "")


def _with_resiliparse(tree: HTMLTree, main_content: bool) -> str:
    """Text of a tree; resiliparse puts two tabs between table cells, empty ones too: here one is left."""
    for element in _select(tree, "pre"):
        if "\t" in element.html:
            element.html = element.html.replace("\t", _TAB_IN_PRE)
    text = extract_plain_text(tree, preserve_formatting=True, main_content=main_content)
    text = _EMPTY_CELLS_BEFORE.sub("", text)
    return _CELL_BORDER.sub("\t", text).replace(_TAB_IN_PRE, "\t")


def clean_text(text: str) -> str:
    """Text in NFC with plain spaces and newlines, without control characters, trailing spaces or runs of blank lines.

    Indentation is kept, and tabs inside lines. Idempotent.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _SPACES.sub(" ", text)
    text = _INVISIBLE.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    text = unicodedata.normalize("NFC", text)
    text = _TRAILING_SPACES.sub("", text)
    return _BLANK_LINES.sub("\n\n", text).strip("\n")
