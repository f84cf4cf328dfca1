"""A page of HTML as a list of blocks of text and the elements they stand in: parsed once, walked once."""

import re
from dataclasses import dataclass
from functools import lru_cache

from lxml import etree

from gpt2lab.webtext.extraction.boilerplate import (
    ASIDE,
    ASIDE_TAGS,
    AWAY,
    AWAY_ROLES,
    AWAY_TAGS,
    LONGEST_NAME,
    PLAIN,
    is_unseen,
    weigh_name,
)

MAXIMUM_CHARACTERS = 16_000_000
MAXIMUM_TAGS = 600_000
"""Opening and closing tags; far beyond any page meant for people. 16 MB of nothing but tags would take minutes."""

# What holds no text of the page: code, pictures and their texts, controls, and formulas written a second time.
_NOT_TEXT = frozenset(
    "script style noscript template svg iframe object embed applet audio video canvas map select option datalist"
    " textarea input button img picture source track progress meter frameset noframes title link meta base area param"
    " annotation annotation-xml".split()
)
# As HTML's standard style sheet has it; other elements are parts of a line, but for those of the page's own making.
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li listing main menu nav ol optgroup p"
    " plaintext pre search section summary table tbody td tfoot th thead tr ul xmp".split()
)
_INLINE, _BLOCK, _SKIPPED, _LINK, _LINE_BREAK, _SPAN = "inline", "block", "skipped", "link", "line break", "span"
_KINDS = (
    dict.fromkeys(_NOT_TEXT, _SKIPPED) | dict.fromkeys(_BLOCKS, _BLOCK) | {"a": _LINK, "br": _LINE_BREAK, "span": _SPAN}
)
HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")
_BREAK = "\x01"  # a <br> while a text is being collected


class PageRefused(ValueError):
    """A page that would take too long; the message is short and says why."""


class Element:
    """A block-level element. `elements[index + 1 : end]` are those inside it, `blocks[first:last]` its texts."""

    __slots__ = ("body", "end", "first", "last", "name", "parent", "says", "tag")

    def __init__(self, tag: str, parent: int, name: str, says: int, body: bool, first: int) -> None:
        self.tag = tag
        self.parent = parent
        self.name = name
        self.says = says  # AWAY, ASIDE or PLAIN
        self.body = body  # calls itself the body of the article
        self.first = first
        self.last = first
        self.end = 0


class Block:
    """A run of text without a block-level element in it, and the share of its characters that are links."""

    __slots__ = ("element", "link_share", "size", "tag", "text")

    def __init__(self, text: str, tag: str, element: int, link_characters: int) -> None:
        self.text = text
        self.tag = tag
        self.element = element
        self.link_share = link_characters / len(text)
        # A character of Chinese, Japanese or Korean says about as much as three letters do.
        self.size = len(text) if text.isascii() else 3 * len(text) - 2 * len(_WIDE.sub("", text))


@dataclass(frozen=True)
class PageTree:
    """Elements in the order in which they open (the first is <html>) and blocks in the order of the page."""

    root: etree._Element | None
    elements: list[Element]
    blocks: list[Block]


def parse_page(html: bytes) -> PageTree:
    """Blocks and elements of a page in UTF-8; none for an empty one.

    libxml2 cuts what is nested more than 2,048 deep.
    """
    parser = etree.HTMLParser(
        remove_comments=True, remove_pis=True, collect_ids=False, huge_tree=True, encoding="utf-8"
    )
    try:
        root = etree.fromstring(html, parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        return PageTree(None, [], [])
    walk = _Walk()
    walk.through(root)  # not only the body: where its tag is left out, libxml2 leaves an <article> in the head
    return PageTree(root, walk.elements, walk.blocks)


def check_size(html: str, maximum_tags: int) -> None:
    """Raise PageRefused beyond 16 million characters or so many tags."""
    if len(html) > MAXIMUM_CHARACTERS:
        raise PageRefused(f"more than {MAXIMUM_CHARACTERS:,} characters")
    if html.count("<") > maximum_tags:
        raise PageRefused(f"more than {maximum_tags:,} tags")


class _Walk:
    """Collects blocks; the text of the open block waits in `pieces`."""

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.blocks: list[Block] = []
        self.open: list[int] = []
        self.pieces: list[str] = []
        self.link_characters = 0
        self.preformatted = 0

    def through(self, top: etree._Element) -> None:
        links = 0
        pieces = self.pieces
        kinds = _KINDS
        events = etree.iterwalk(top, events=("start", "end"))
        for event, element in events:
            tag = element.tag
            kind = kinds.get(tag) or (_BLOCK if "-" in tag else _INLINE)
            if event == "start":
                if kind is _BLOCK:
                    self.end_block()
                    self.enter(element, tag)
                elif kind is _SKIPPED:
                    events.skip_subtree()
                    continue
                elif kind is _LINK:
                    links += 1
                elif kind is _LINE_BREAK:
                    self.line_break()
                elif kind is _SPAN and (name := element.get("class")) and _is_unseen(name[:LONGEST_NAME]):
                    events.skip_subtree()
                    continue
                text = element.text
            else:
                if kind is _BLOCK:
                    self.end_block()
                    self.leave(tag)
                elif kind is _LINK:
                    links -= 1
                text = element.tail if self.open else None
            if text:
                pieces.append(text)
                if links:
                    self.link_characters += len(text.strip())

    def enter(self, element: etree._Element, tag: str) -> None:
        get = element.get
        name = get("class") or ""
        if identity := get("id"):
            name = f"{identity} {name}"
        says, body = _weigh_name(name[:LONGEST_NAME]) if name else (PLAIN, False)
        if tag in AWAY_TAGS or get("role") in AWAY_ROLES or _is_hidden(element):
            says = AWAY
        elif tag in ASIDE_TAGS:
            says = says or ASIDE
        elif tag == "body":
            says, body = PLAIN, False  # its classes tell of the page's every part
        if "articleBody" in (get("itemprop") or ""):
            body = True
        parent = self.open[-1] if self.open else -1
        self.open.append(len(self.elements))
        self.elements.append(Element(tag, parent, name, says, body and says < AWAY, len(self.blocks)))
        if tag == "pre":
            self.preformatted += 1

    def leave(self, tag: str) -> None:
        element = self.elements[self.open.pop()]
        element.last = len(self.blocks)
        element.end = len(self.elements)
        if tag == "pre":
            self.preformatted -= 1

    def line_break(self) -> None:
        """A second <br> in a row parts paragraphs."""
        pieces = self.pieces
        if not self.preformatted:
            position = len(pieces) - 1
            while position >= 0 and pieces[position].isspace():
                position -= 1
            if position >= 0 and pieces[position] == _BREAK:
                self.end_block()
                return
        pieces.append(_BREAK)

    def end_block(self) -> None:
        if not self.pieces:
            return
        text = "".join(self.pieces)
        self.pieces.clear()
        if not text.isspace():
            if self.preformatted:
                text = text.replace(_BREAK, "\n").strip("\n")
            elif _BREAK in text:
                text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split(_BREAK))))
            else:
                text = " ".join(text.split())
            if text:
                index = self.open[-1]
                self.blocks.append(Block(text, self.elements[index].tag, index, self.link_characters))
        self.link_characters = 0


_weigh_name = lru_cache(maxsize=20_000)(weigh_name)
_is_unseen = lru_cache(maxsize=20_000)(is_unseen)


def _is_hidden(element: etree._Element) -> bool:
    get = element.get
    if get("aria-hidden") == "true" or get("hidden") is not None:
        return True
    style = get("style")
    if not style:
        return False
    style = style[:LONGEST_NAME].replace(" ", "").lower()
    return "display:none" in style or "visibility:hidden" in style
