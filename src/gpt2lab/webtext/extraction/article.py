"""Where in a page the article is: the element that holds its prose, less what stands aside inside it.

1. Prose is text that is neither heading nor mostly links; what is not in a paragraph of its own counts half.
2. Elements whose name or tag says that they are no part of the article are believed, unless they hold so much of the
   prose that they must be a wrapper around it (`content-with-sidebar`, `post tag-news author-jane`).
3. From the top, go down to the child that holds at least 80 % of the prose, as long as there is one; stop where an
   element holds paragraphs itself, or several boxes of one name, as these are the pieces of one text.
4. An element that calls itself the article's body (`entry-content`, `itemprop="articleBody"`) and holds half of the
   prose found is taken instead.
5. Inside: drop what step 2 tells of, sections headed "Related" and the like, links that stand alone, labels of
   buttons, the title, and appeals and notes at the end.

The thresholds are few and flat: `docs/extraction.md` has what each is worth and what happens when it is moved.
"""

from gpt2lab.webtext.extraction.boilerplate import ASIDE, AWAY, PLAIN, is_noise, is_tail, offers_other_pages
from gpt2lab.webtext.extraction.page_tree import HEADINGS, Block, Element, PageTree

PARAGRAPH_SIZE = 60
"""Shorter texts, such as labels and cells, count a fifth as much a character."""
SHORT_WEIGHT = 0.2
LOOSE_WEIGHT = 0.5
"""What a text that is in no paragraph, but in a list, a table or a plain box, counts."""
PROSE_LINK_SHARE = 0.5
LINK_SHARE = 0.7
"""A block with a larger share of its characters in links is no part of the text."""
WRAPPER_SHARE = {AWAY: 0.7, ASIDE: 0.5}
"""An element that holds this share of the prose is a wrapper, whatever its name says."""
ANCHORED_WRAPPER_SHARE = {AWAY: 0.5, ASIDE: 0.25}
"""The same when it holds the page's <h1> or an element that calls itself the article's body."""
MAIN_SHARE = 0.8
LIST_MAIN_SHARE = 0.95
"""A list or table must hold nearly everything to be gone down into."""
PIECE_SHARE = 0.05
"""The share of prose in paragraphs of its own, or in boxes of one name, that makes an element the article."""
BODY_SHARE = 0.5
SECTION_SHARE = 0.25
"""A section under a heading such as "Related" with more than this share of the prose is not dropped."""

_PARAGRAPHS = frozenset(["p", "pre", "blockquote"])
_TEXT_ELEMENTS = _PARAGRAPHS | HEADINGS
_LISTS = frozenset("ul ol dl li tbody thead table tr td".split())


def find_article(page: PageTree) -> list[Block]:
    """The blocks of the article in the order of the page; of everything but navigation where there is no article."""
    elements, blocks = page.elements, page.blocks
    if not blocks:
        return []
    weights = [_weight(block) for block in blocks]
    everything = _sums(elements, blocks, weights, None)
    anchored = _anchored(elements)
    away = _boilerplate(elements, everything, anchored, 0)
    prose = _sums(elements, blocks, weights, away)
    if not prose[0]:
        prose = everything
    root = _main_element(elements, blocks, weights, away, prose)
    root = _named_body(elements, away, prose, root)
    aside = _boilerplate(elements, everything, anchored, root)
    first, last = elements[root].first, elements[root].last
    dropped = [aside[block.element] != PLAIN for block in blocks]
    _drop_sections(elements, blocks, weights, dropped, first, last, SECTION_SHARE * prose[root])
    article = [
        block
        for block, drop in zip(blocks[first:last], dropped[first:last], strict=True)
        if not drop and block.link_share <= LINK_SHARE and block.tag != "h1" and not is_noise(block.text)
    ]
    while article and (article[-1].tag in HEADINGS or is_tail(article[-1].text)):
        article.pop()
    return article or [block for block in blocks if away[block.element] == PLAIN] or blocks


def _weight(block: Block) -> float:
    if block.tag in HEADINGS or block.link_share > PROSE_LINK_SHARE:
        return 0
    weight = block.size if block.size >= PARAGRAPH_SIZE else block.size * SHORT_WEIGHT
    return weight if block.tag in _PARAGRAPHS else weight * LOOSE_WEIGHT


def _sums(elements: list[Element], blocks: list[Block], weights: list[float], away: list[int] | None) -> list[float]:
    """The weight of all blocks inside each element, without those in elements that are `away`."""
    sums = [0.0] * len(elements)
    for block, weight in zip(blocks, weights, strict=True):
        if weight and not (away and away[block.element]):
            sums[block.element] += weight
    for index in range(len(elements) - 1, 0, -1):
        sums[elements[index].parent] += sums[index]
    return sums


def _anchored(elements: list[Element]) -> list[bool]:
    anchored = [element.body or element.tag == "h1" for element in elements]
    for index in range(len(elements) - 1, 0, -1):
        if anchored[index]:
            anchored[elements[index].parent] = True
    return anchored


def _boilerplate(elements: list[Element], prose: list[float], anchored: list[bool], root: int) -> list[int]:
    """For each element inside `root`: AWAY or ASIDE when it or an element around it is boilerplate, else PLAIN."""
    verdicts = [PLAIN] * len(elements)
    for index in range(root + 1, elements[root].end):
        element = elements[index]
        verdict = verdicts[element.parent]
        if verdict == ASIDE and element.tag == "blockquote":
            verdict = PLAIN  # a quoted message stands in boxes that are named like those of videos
        elif element.says > verdict and element.tag != "blockquote":
            share = prose[index] / prose[root] if prose[root] else 0.0
            wrapper = share >= WRAPPER_SHARE[element.says] or (
                anchored[index] and share >= ANCHORED_WRAPPER_SHARE[element.says]
            )
            if not wrapper:
                verdict = element.says
        verdicts[index] = verdict
    return verdicts


def _main_element(
    elements: list[Element], blocks: list[Block], weights: list[float], away: list[int], prose: list[float]
) -> int:
    """The element that holds the paragraphs (step 3)."""
    own = [0.0] * len(elements)
    for block, weight in zip(blocks, weights, strict=True):
        if weight and not away[block.element]:
            index = block.element
            own[elements[index].parent if elements[index].tag in _TEXT_ELEMENTS and index else index] += weight
    children: list[list[int]] = [[] for _ in elements]
    for index in range(1, len(elements)):
        children[elements[index].parent].append(index)
    root, total = 0, prose[0]
    while children[root] and own[root] < PIECE_SHARE * total:
        best = max(children[root], key=prose.__getitem__)
        chosen = elements[best]
        share = LIST_MAIN_SHARE if chosen.tag in _LISTS else MAIN_SHARE
        if prose[best] < share * total or chosen.tag in _TEXT_ELEMENTS or not total:
            break
        twins = [n for n in children[root] if elements[n].tag == chosen.tag and elements[n].name == chosen.name]
        if sum(prose[n] for n in twins) - prose[best] >= PIECE_SHARE * total:
            break
        root = best
    return root


def _named_body(elements: list[Element], away: list[int], prose: list[float], root: int) -> int:
    """The element inside `root` that calls itself the article's body, if it is the only one or the first article's."""
    bodies = []
    index = root + 1
    while index < elements[root].end:
        if elements[index].body and not away[index] and prose[index] >= PIECE_SHARE * prose[root]:
            bodies.append(index)
            index = elements[index].end
        else:
            index += 1
    if not bodies:
        return root
    best = max(bodies, key=prose.__getitem__)
    if prose[best] < BODY_SHARE * prose[root]:
        return root
    name = _without_digits(elements[best].name)
    others = [n for n in bodies if n != best and _without_digits(elements[n].name) == name]
    if others and _article_around(elements, best) == _article_around(elements, others[0]):
        return root  # pieces of one text
    return best


def _without_digits(name: str) -> str:
    return "".join(character for character in name if not character.isdigit())


def _article_around(elements: list[Element], index: int) -> int:
    while index > 0 and elements[index].tag != "article":
        index = elements[index].parent
    return index


def _drop_sections(
    elements: list[Element],
    blocks: list[Block],
    weights: list[float],
    dropped: list[bool],
    first: int,
    last: int,
    most: float,
) -> None:
    """Drop headings over related pages and the like, with what follows up to the next heading of their rank.

    Where that would be `most` of the prose or more, it is only what stands before the next paragraph.
    """
    for position in range(first, last):
        block = blocks[position]
        if dropped[position] or block.tag not in HEADINGS or not offers_other_pages(block.text):
            continue
        around = elements[block.element].parent
        while around > 0 and elements[around].last - elements[around].first <= 1:
            around = elements[around].parent
        end = min(last, elements[around].last)
        found, weight = position + 1, weights[position]
        while found < end and not (blocks[found].tag in HEADINGS and blocks[found].tag <= block.tag) and weight < most:
            weight += weights[found]
            found += 1
        if weight >= most:  # the article goes on behind the links
            found = position + 1
            while found < end and blocks[found].tag not in _PARAGRAPHS:
                found += 1
        if weight < most or found > position + 1:
            dropped[position:found] = [True] * (found - position)
