"""Blocks of a page as readable text: blank lines between paragraphs, one line an item or table row."""

from gpt2lab.webtext.extraction.page_tree import Block, Element

LONGEST_CELL = 300
"""Characters; a table with a longer cell, or several blocks in one, is for layout: its cells are paragraphs."""

_CELLS = frozenset(["td", "th"])
_ITEMS = frozenset(["li", "dt", "dd"])


def render(blocks: list[Block], elements: list[Element]) -> str:
    """Text of some of a page's blocks, in order.

    Items of lists start with "- " and stand on lines of their own, cells are parted by tabs, code is kept as it is.
    Items of numbered lists have no number: the ground truths that we are measured by have none.
    """
    items, rows = _innermost(elements, _ITEMS), _innermost(elements, frozenset(["tr"]))
    tabular = _tabular_rows(blocks, elements, rows)
    parts: list[str] = []
    previous: Block | None = None
    for block in blocks:
        item, row = items[block.element], rows[block.element]
        if row not in tabular:
            row = -1
        if previous is not None:
            parts.append(_between(previous, item, row, items, rows, tabular))
        bullet = item >= 0 and elements[item].tag == "li" and row < 0
        if bullet and (previous is None or items[previous.element] != item):
            parts.append("- ")
        parts.append(block.text)
        previous = block
    return "".join(parts)


def _between(previous: Block, item: int, row: int, items: list[int], rows: list[int], tabular: set[int]) -> str:
    previous_row = rows[previous.element] if rows[previous.element] in tabular else -1
    if row >= 0 and previous_row >= 0:
        return "\t" if row == previous_row else "\n"
    if item >= 0 and items[previous.element] >= 0 and row < 0:
        return "\n"
    return "\n\n"


def _innermost(elements: list[Element], tags: frozenset[str]) -> list[int]:
    """For each element the innermost of these tags that it is or stands in, or -1."""
    innermost = [-1] * len(elements)
    for index, element in enumerate(elements):
        if element.tag in tags:
            innermost[index] = index
        elif index:
            innermost[index] = innermost[element.parent]
    return innermost


def _tabular_rows(blocks: list[Block], elements: list[Element], rows: list[int]) -> set[int]:
    """Rows of tables whose every cell is one short block."""
    cells = _innermost(elements, _CELLS)
    seen: set[int] = set()
    tabular: set[int] = set()
    layout: set[int] = set()
    for block in blocks:
        row, cell = rows[block.element], cells[block.element]
        if row < 0:
            continue
        tabular.add(row)
        if cell in seen or len(block.text) > LONGEST_CELL:
            layout.add(row)
        seen.add(cell)
    return tabular - layout
