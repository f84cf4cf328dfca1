"""One self-contained HTML file: an outcome, the figures that matter, pictures, tables, texts, and how it was made.

It needs no script and no network to be read, and forbids both to itself: a report shows texts of the open web.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.files import whole_file

Cell = str | float | None
"""What a table shows: words, a number, or nothing known (a dash)."""


@dataclass(frozen=True)
class Picture:
    """An inline SVG and the sentence that says what it shows; made by `gpt2lab.base.plots`."""

    title: str
    svg: str


class Report:
    """Collects blocks from top to bottom, then gives or writes the page. Every text is escaped; pictures are ours."""

    def __init__(self, title: str, outcome: str) -> None:
        self.title, self.outcome = title, outcome
        self._blocks: list[str] = []
        self._foot: list[tuple[str, str]] = []
        self.reload_seconds: int | None = None
        """How often a browser that shows the page reads it again: for pages that are written anew meanwhile."""

    def figures(self, pairs: Sequence[tuple[str, str]]) -> None:
        """The row of the (label, value) pairs that matter most; five fit beside each other."""
        self._blocks.append(f'<dl class="figures">{_definitions(pairs)}</dl>')

    def heading(self, text: str) -> None:
        """The name of what follows."""
        self._blocks.append(f"<h2>{_escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Plain prose."""
        self._blocks.append(f"<p>{_escape(text)}</p>")

    def picture(self, picture: Picture, caption: str = "") -> None:
        """A picture under its title, with an optional remark below it."""
        remark = f'<p class="remark">{_escape(caption)}</p>' if caption else ""
        self._blocks.append(
            f"<figure><figcaption>{_escape(picture.title)}</figcaption>"
            f"{_scrollable(picture.svg, picture.title)}{remark}</figure>"
        )

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> None:
        """A table whose first column names the rows. Columns of numbers are right-aligned.

        Numbers are shown with three significant digits; give a string to say it otherwise ("34.1 ± 0.6").
        """
        numeric = [_is_numeric([row[index] for row in rows], names_rows=index == 0) for index in range(len(columns))]
        classes = [' class="number"' if yes else "" for yes in numeric]
        head = "".join(f'<th scope="col"{c}>{_escape(name)}</th>' for name, c in zip(columns, classes, strict=True))
        body = "".join(
            "<tr>"
            + "".join(
                f'<th scope="row"{c}>{_shown(cell)}</th>' if index == 0 else f"<td{c}>{_shown(cell)}</td>"
                for index, (cell, c) in enumerate(zip(row, classes, strict=True))
            )
            + "</tr>\n"
            for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        # Not a <caption>: that would scroll away sideways with a wide table.
        words = f"<figcaption>{_escape(caption)}</figcaption>" if caption else ""
        self._blocks.append(f"<figure>{words}{_scrollable(table, caption or 'Table')}</figure>")

    def passage(self, text: str, label: str = "") -> None:
        """A sample or an example as it is, line breaks kept; scrolls by itself when long."""
        words = f"<figcaption>{_escape(label)}</figcaption>" if label else ""
        self._blocks.append(f'<figure class="passage">{words}{_preformatted(text, label or "Text")}</figure>')

    def details(self, summary: str, text: str) -> None:
        """A text that is folded away until its summary is clicked."""
        self._blocks.append(f"<details><summary>{_escape(summary)}</summary>{_preformatted(text, summary)}</details>")

    def foot(self, pairs: Sequence[tuple[str, str]]) -> None:
        """How the report was made: command, recipe, versions, machine, date. Always stands at the end."""
        self._foot.extend(pairs)

    def html(self) -> str:
        """The whole page."""
        # No line may end within an option, as in "-" and "-minutes".
        made = _OPTION.sub(r'<span class="option">\g<0></span>', _definitions(self._foot))
        reload = f'<meta http-equiv="refresh" content="{self.reload_seconds}">\n' if self.reload_seconds else ""
        foot = f"<footer><h2>How this was made</h2>\n<dl>{made}</dl></footer>\n"
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{_META}{reload}<title>{_escape(self.title)}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            f'<h1>{_escape(self.title)}</h1>\n<p class="outcome">{_escape(self.outcome)}</p>\n'
            + "".join(f"{block}\n" for block in self._blocks)
            + f"</main>\n{foot if self._foot else ''}</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page to `path`, whole or not at all."""
        with whole_file(path, "w") as handle:
            handle.write(self.html())


def number(value: float) -> str:
    """A number as a reader wants it: whole ones in full with commas, others with three significant digits."""
    if hasattr(value, "__index__"):  # int and NumPy's integers
        text = f"{int(value):,}"
    elif not math.isfinite(value):
        text = f"{float(value)}"
    elif abs(value) >= 999.5:
        text = f"{float(value):,.0f}"
    else:
        text = f"{float(value):#.3g}".rstrip(".") if value else "0"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def printable(text: str) -> str:
    """`text` without what no page can hold: control characters and lone surrogates become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]{1,30}(?!\S)")

_NUMBER = r"(?:<\s?)?[+\-−]?\d[\d,]*(\.\d+)?(e[+\-−]?\d+)?"
_NUMERIC_CELL = re.compile(rf"{_NUMBER}(\s?(±|to)\s?{_NUMBER})?(\s?(%|×|[A-Za-zµ]+(/[A-Za-z]+)?))?")


def _is_numeric(cells: Sequence[Cell], names_rows: bool) -> bool:
    filled = [cell for cell in cells if cell not in (None, "", "–")]
    return bool(filled) and all(
        not names_rows and _NUMERIC_CELL.fullmatch(cell) is not None if isinstance(cell, str) else True
        for cell in filled
    )


def _escape(text: str) -> str:
    return html.escape(printable(text))


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    return _escape(cell) if isinstance(cell, str) else number(cell)


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{_escape(label)}</dt><dd>{_escape(value)}</dd></div>\n" for label, value in pairs)


def _scrollable(content: str, name: str) -> str:
    """A block that scrolls sideways by itself on a narrow screen, by keyboard too."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{_escape(name)}">{content}</div>'


def _preformatted(text: str, name: str) -> str:
    # HTML drops one line break right after <pre>, so one more keeps a text that starts with its own.
    return f'<pre dir="auto" role="region" tabindex="0" aria-label="{_escape(name)}">\n{_escape(text)}</pre>'


_META = """\
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""

# The colours of series are Okabe and Ito's (2008); in the dark their lighter ones take the place of their darker ones.
_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --ink: #1d1e20; --quiet: #5b6067; --rule: #dfe0e2; --block: #f4f4f2; --focus: #0072b2;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #17191c; --ink: #e3e4e6; --quiet: #a2a7ae; --rule: #373a40; --block: #202327; --focus: #56b4e9;
    --series-1: #56b4e9; --series-2: #e69f00; --series-3: #1fb88f; --series-4: #dd9cc0; --series-5: #f0e442;
  }
}
html { font-size: 106.25%; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  box-sizing: border-box; max-width: 39rem; margin: 0 auto; padding: 4rem 1.5rem 5rem;
  background: var(--paper); color: var(--ink);
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  line-height: 1.55; overflow-wrap: break-word;
}
h1 { margin: 0 0 .75rem; font-size: 1.8rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; }
h2 { margin: 3.25rem 0 .75rem; font-size: 1.2rem; line-height: 1.3; font-weight: 650; break-after: avoid; }
p { margin: 0 0 1rem; }
.outcome { margin-bottom: 2rem; font-size: 1.15rem; line-height: 1.5; }
dl, dd { margin: 0; }
.figures {
  display: flex; flex-wrap: wrap; gap: 1.25rem 1.25rem;
  margin: 0 0 2.5rem; padding: 1.1rem 0; border: solid var(--rule); border-width: 1px 0;
}
.figures div {
  display: flex; flex: 1 1 5rem; flex-direction: column-reverse; justify-content: flex-end; max-width: 100%;
}
.figures dd { font-size: 1.2rem; line-height: 1.35; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures dt { color: var(--quiet); font-size: .8rem; line-height: 1.35; }
figure { margin: 2rem 0 2.25rem; break-inside: avoid; }
figcaption { margin-bottom: .75rem; font-weight: 600; line-height: 1.4; }
.remark { margin: .5rem 0 0; color: var(--quiet); font-size: .875rem; line-height: 1.5; }
.wide { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; }
svg text {
  font-variant-numeric: tabular-nums;
  paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; /* lines pass behind words */
}
table { width: 100%; border-collapse: collapse; font-size: .9rem; line-height: 1.4; }
th, td {
  padding: .45rem 0 .45rem 1.25rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
}
th:first-child { padding-left: 0; }
thead th { color: var(--quiet); font-size: .8rem; font-weight: 400; vertical-align: bottom; }
tbody th { font-weight: 400; }
tr { break-inside: avoid; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody .number { white-space: nowrap; }
pre, footer dd {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .75rem;
}
pre { /* stands out by its padding, so that its text is in line with the page's and holds 79 characters */
  margin: 0 -.85rem; padding: .85rem; max-height: 26rem; overflow: auto; border-radius: 4px; background: var(--block);
  line-height: 1.55; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4;
}
.passage { margin: 1.25rem 0; break-inside: auto; }
.passage figcaption { margin-bottom: .4rem; color: var(--quiet); font-size: .875rem; font-weight: 400; }
details { margin: 1.25rem 0; }
summary { cursor: pointer; }
details pre { margin-top: .6rem; }
footer { margin-top: 4rem; border-top: 1px solid var(--rule); color: var(--quiet); }
footer h2 { margin: 1.5rem 0 .9rem; font-size: .875rem; }
footer div {
  display: grid; grid-template-columns: 6rem 1fr; gap: 0 1rem; align-items: baseline; margin-bottom: .45rem;
}
footer dt { font-size: .8rem; }
footer dd { white-space: pre-wrap; overflow-wrap: anywhere; }
.option { white-space: nowrap; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 3px; }
@media (max-width: 30rem) {
  body { padding: 2rem 1.1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .wide:has(svg) { margin: 0 -.75rem; }
  footer div { grid-template-columns: 1fr; margin-bottom: .75rem; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; }
  html { font-size: 10.5pt; }
  body { max-width: none; padding: 0; }
  pre { max-height: none; margin: 0; }
  .wide { overflow: visible; }
  svg { max-width: 36rem; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
