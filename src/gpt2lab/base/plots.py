"""Pictures for reports as inline SVG: the page's own font and colours, readable on light and dark, the same every time.

matplotlib takes a second to import, so it is imported where it is needed.
"""

import math
import re
import textwrap
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2lab.base.report import Picture, number, printable

References = Sequence[tuple[str, float]]
"""What to measure the picture against, as (label, value): a unigram model, the paper, a peer, a limit."""

WIDTH = 612  # in CSS pixels: the width of a report's column, so that text is drawn at its true size
LINE_HEIGHT = 17
PANEL_HEIGHT = 170  # of one of several small pictures
X_AXIS_HEIGHT = 56  # its numbers, its name and the room around
MOST_POINTS = 800  # of one curve; more can't be seen and would only make the file heavy
LABEL_CHARACTERS = 32

# Okabe and Ito (2008), "Color Universal Design": apart for every common kind of colour blindness. Drawn as CSS
# variables, which a page may set otherwise for the dark.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
INK = "#010203"  # stands for the page's own text colour until the SVG is finished

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gpt2lab",
    "text.parse_math": False,  # a label may hold dollars
    "font.size": 14,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 13,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.02,
}


def lines(
    title: str,
    series: Sequence[tuple[str, ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    references: References = (),
    log_y: bool = False,
    faint: Sequence[tuple[ArrayLike, ArrayLike]] = (),
) -> Picture:
    """Curves of (name, x, y), x ascending, each named at its end with its last value; references lie across as dashes.

    `faint` are further curves of (x, y), without names and behind the others. Values that are not finite leave a gap;
    with `log_y`, those that are not above 0, too.
    """
    behind = [_thinned(np.asarray(x, dtype=float), np.asarray(y, dtype=float)) for x, y in faint]
    curves = [(name, *_thinned(np.asarray(x, dtype=float), np.asarray(y, dtype=float))) for name, x, y in series]
    if log_y:
        curves = [(name, x, np.where(y > 0, y, np.nan)) for name, x, y in curves]
        references = [(label, value) for label, value in references if value > 0]
    with _drawing(height=300) as (figure, axes):
        _plain_axes(axes, x_label, y_label, grid="y")
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_tick)
            axes.yaxis.set_minor_formatter("")
        heights = [*(y for _, _, y in curves), *(y for _, y in behind)]
        axes.set_ylim(*_limits(heights, [value for _, value in references], log_y))
        for x, y in behind:
            axes.plot(x, y, color=INK, alpha=0.25, linewidth=1)
        ends = []  # (label, x, y, colour) of everything that is named at the right
        for (name, x, y), colour in zip(curves, _colours(len(curves)), strict=True):
            axes.plot(x, y, color=colour, linewidth=1.8)
            finite = np.flatnonzero(np.isfinite(y))
            if len(finite):
                ends.append((f"{name} {number(y[finite[-1]])}", x[finite[-1]], y[finite[-1]], colour))
        places = [*((x, y) for _, x, y in curves), *behind]
        drawn = np.concatenate([x[np.isfinite(y)] for x, y in places] or [np.zeros(0)])
        left, right = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 1.0)
        axes.set_xlim(left, right if right > left else left + 1)
        if not (drawn % 1).any():
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no step 1.5
        for label, value in references:
            axes.axhline(value, color=INK, alpha=0.6, linewidth=1, dashes=(5, 4))
            ends.append((f"{label} {number(value)}", axes.get_xlim()[1], value, INK))
        _name_ends(axes, ends, axes_height=230)
        return _finish(figure, title)


def bars(
    title: str,
    pairs: Sequence[tuple[str, float]],
    x_label: str,
    references: References = (),
    value_text: Callable[[float], str] = number,
) -> Picture:
    """Horizontal bars of (label, value) from top to bottom as given, the value printed at the end of each."""
    values = [value for _, value in pairs]
    bars_height = 25 * max(len(pairs), 1)
    with _drawing(bars_height + X_AXIS_HEIGHT + LINE_HEIGHT * len(references)) as (figure, axes):
        _plain_axes(axes, x_label, "", grid="x")
        rows = range(len(pairs))
        axes.barh(rows, values, height=0.66, color=SERIES_COLOURS[0])
        axes.set_yticks(rows, [_shortened(label) for label, _ in pairs])
        axes.set_ylim(max(len(pairs), 1) - 0.5, -0.5)
        everything = [0.0, *values, *(value for _, value in references)]
        lowest, highest = min(everything), max(everything)
        room_for_text = 0.12 * (highest - lowest) if lowest < 0 else 0.0
        axes.set_xlim(lowest - room_for_text, highest if highest > lowest else 1)
        for row, value in zip(rows, values, strict=True):
            axes.annotate(
                printable(value_text(value)),
                (value, row),
                xytext=(-5 if value < 0 else 5, 0),
                textcoords="offset points",
                ha="right" if value < 0 else "left",
                va="center",
            )
        _stand_references(axes, references)
        return _finish(figure, title)


def histogram(
    title: str,
    values: ArrayLike,
    x_label: str,
    y_label: str,
    references: References = (),
    bins: int = 40,
    log_x: bool = False,
    weights: ArrayLike | None = None,
    edges: ArrayLike | None = None,
) -> Picture:
    """How often each size occurs (each of `values` once, or as often as its weight says).

    With `log_x` bins are equally wide in the logarithm, and only sizes above 0 count. `edges` gives the bins instead.
    """
    data = np.asarray(values, dtype=float)
    counted = np.isfinite(data) & (data > 0) if log_x else np.isfinite(data)
    data, times = data[counted], None if weights is None else np.asarray(weights)[counted]
    references = [(label, value) for label, value in references if value > 0 or not log_x]
    height = 250 + LINE_HEIGHT * len(references)
    with _drawing(height) as (figure, axes):
        _plain_axes(axes, x_label, y_label, grid="y", rows_above=len(references))
        everything = np.concatenate([data, [value for _, value in references]])
        low, high = (everything.min(), everything.max()) if len(everything) else (1.0, 2.0)
        if low == high:
            low, high = (low / 2, high * 2) if log_x else (low - 0.5, high + 0.5)
        if edges is None:
            edges = np.geomspace(low, high, bins + 1) if log_x else np.linspace(low, high, bins + 1)
            edges[0], edges[-1] = low, high  # geomspace may round past the ends
        edges = np.asarray(edges, dtype=float)
        low, high = edges[0], edges[-1]
        counts, _ = np.histogram(data, edges, weights=times)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(_tick)
            axes.xaxis.set_minor_formatter("")
        # One outline instead of many bars: neighbours leave no hairlines between them.
        axes.stairs(counts, edges, fill=True, color=SERIES_COLOURS[0], linewidth=0)
        axes.set_xlim(low, high)
        axes.set_ylim(0, max(counts.max(), 1) * 1.02)
        _stand_references(axes, references)
        return _finish(figure, title)


def points(
    title: str,
    pairs: Sequence[tuple[float | str, float]],
    x_label: str,
    y_label: str,
    marked: tuple[int, str] | None = None,
    log_x: bool = False,
    joined: bool = False,
) -> Picture:
    """A dot for each (x, y), one of them (its index) marked with words; x are all numbers or all names.

    A y that is not finite is a cross at the top. `joined` draws a line through the dots from left to right.
    """
    names = list(dict.fromkeys(x for x, _ in pairs if isinstance(x, str)))
    x = np.array([names.index(x) if isinstance(x, str) else x for x, _ in pairs], dtype=float)
    y = np.array([y for _, y in pairs], dtype=float)
    finite = np.isfinite(y)
    with _drawing(height=280) as (figure, axes):
        _plain_axes(axes, x_label, y_label, grid="y")
        low, high = _limits([y], [], log=False)
        axes.set_ylim(low - 0.12 * (high - low), high + 0.08 * (high - low))  # room for the words and the crosses
        if log_x:
            _log_axis(axes, float(x.min()), float(x.max()))
        if names:
            axes.set_xticks(range(len(names)), [_shortened(name) for name in names])
        axes.set_xlim(*_around(x, log_x, 0.3 if names else 0.06))
        if joined:
            order = [index for index in np.argsort(x) if finite[index]]
            axes.plot(x[order], y[order], color=SERIES_COLOURS[0], alpha=0.5, linewidth=1.2)
        for index in np.flatnonzero(finite):
            _dot(figure, axes, x[index], y[index], 3.5, SERIES_COLOURS[0])
        for index in np.flatnonzero(~finite):
            top = (x[index], axes.get_ylim()[1])
            axes.annotate("×", top, ha="center", va="center", color=SERIES_COLOURS[1], fontsize=18)
        if marked is not None:
            place = (float(x[marked[0]]), float(y[marked[0]]))
            _dot(figure, axes, *place, 6, SERIES_COLOURS[1])
            across = (axes.transScale + axes.transLimits).transform(place)[0]
            axes.annotate(
                printable(marked[1]),
                place,
                xytext=(-4 if across < 0.5 else 4, -9),
                textcoords="offset points",
                ha="left" if across < 0.5 else "right",
                va="top",
            )
        return _finish(figure, title)


@dataclass(frozen=True)
class Panel:
    """One of several small pictures: somebody else's curve with its dots, our dots (x, y), a dashed reference."""

    name: str
    curve: Sequence[tuple[float, float]]
    dots: Sequence[tuple[float, float]]
    reference: float | None = None
    log_y: bool = False


def panels(title: str, parts: Sequence[Panel], x_label: str) -> Picture:
    """Small pictures beside and below each other over one logarithmic x axis, each with its own y axis.

    Curves are in the text's colour, our dots larger and in the first colour of series.
    """
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    every_x = np.array([x for part in parts for x, _ in (*part.curve, *part.dots)], dtype=float)
    with _figure(PANEL_HEIGHT * rows + X_AXIS_HEIGHT // 2) as figure:
        figure.get_layout_engine().set(hspace=0.1)
        grid = figure.subplots(rows, columns, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(parts):
                axes.set_axis_off()
                continue
            part = parts[place]
            lowest_of_column = place + columns >= len(parts)
            _plain_axes(axes, x_label if lowest_of_column else "", part.name, grid="y")
            _log_axis(axes, float(every_x.min()), float(every_x.max()), most_numbers=4)
            axes.set_xlim(*_around(every_x, True, 0.08))
            _panel_heights(axes, part)
            if part.reference is not None:
                axes.axhline(part.reference, color=INK, alpha=0.6, linewidth=1, dashes=(5, 4))
            axes.plot(*zip(*part.curve, strict=True) if part.curve else ((), ()), color=INK, alpha=0.5, linewidth=1.2)
            for x, y in part.curve:
                _dot(figure, axes, x, y, 2.5, INK)
            for x, y in part.dots:
                _dot(figure, axes, x, y, 5, SERIES_COLOURS[0])
        return _finish(figure, title)


def _panel_heights(axes: Any, part: Panel) -> None:
    """A y axis with a little room around everything; a logarithmic one with round numbers on it."""
    heights = np.array([y for _, y in (*part.curve, *part.dots)], dtype=float)
    if part.reference is not None:
        heights = np.append(heights, part.reference)
    if not part.log_y:
        low, high = _limits([heights], [], log=False)
        axes.set_ylim(low, high + 0.05 * (high - low))
        axes.yaxis.get_major_locator().set_params(nbins=4)
        return
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.set_ylim(*_around(heights, True, 0.12))
    spread = heights.max() / heights.min()
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1,) if spread > 100 else (1, 2, 5) if spread > 4 else (1, 2, 3, 5, 7))
    )
    axes.yaxis.set_major_formatter(_tick)
    axes.yaxis.set_minor_formatter("")


def _dot(figure: Any, axes: Any, x: float, y: float, radius: float, colour: str) -> None:
    """A disc of `radius` pixels; not matplotlib's marker, which refers to a definition that `_finish` takes away."""
    from matplotlib.patches import Circle
    from matplotlib.transforms import ScaledTranslation

    place = figure.dpi_scale_trans + ScaledTranslation(x, y, axes.transData)
    axes.add_artist(Circle((0, 0), radius / 72, transform=place, color=colour, linewidth=0, zorder=3))


def _log_axis(axes: Any, low: float, high: float, most_numbers: int = 10) -> None:
    """A logarithmic x axis with ticks at 1, 2 and 5 times the powers of ten, or at 1 and 3, or at these alone."""
    from matplotlib.ticker import LogLocator

    decades = math.log10(high / low)
    subs = next((some for some in ((1, 2, 5), (1, 3)) if len(some) * decades < most_numbers), (1,))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_major_formatter(_tick)
    axes.xaxis.set_minor_formatter("")


def _around(x: NDArray[np.float64], log: bool, share: float) -> tuple[float, float]:
    """Limits with a share of the width as room left and right of all of x."""
    ends = np.log([x.min(), x.max()]) if log else np.array([x.min(), x.max()])
    room = share * (ends[1] - ends[0]) or 0.5
    low, high = ends[0] - room, ends[1] + room
    return (float(np.exp(low)), float(np.exp(high))) if log else (float(low), float(high))


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of WIDTH times `height` CSS pixels and its axes."""
    with _figure(height) as figure:
        yield figure, figure.add_subplot()


@contextmanager
def _figure(height: float) -> Iterator[Any]:
    """A figure of WIDTH times `height` CSS pixels, in our settings whatever the user's are."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # The font that measures text may lack a letter that the reader's font has.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")


def _plain_axes(axes: Any, x_label: str, y_label: str, grid: str, rows_above: int = 0) -> None:
    """Faint grid, few round ticks, units under the x axis and, lying flat, above the y axis."""
    from matplotlib.ticker import MaxNLocator

    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=INK, alpha=0.14, linewidth=0.8)
    axes.spines["bottom"].set_alpha(0.5)
    axes.tick_params(bottom=False, left=False, pad=6)
    axes.tick_params(which="minor", bottom=False, left=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(_tick)
    axes.set_xlabel(printable(x_label), labelpad=6)
    if y_label:
        axes.set_title(printable(y_label), loc="left", x=0, pad=10 + LINE_HEIGHT * rows_above, fontsize=13)


def _tick(value: float, _position: int | None = None) -> str:
    return f"{value + 0.0:,.10g}".replace("-", "−")


def _colours(count: int) -> list[str]:
    return [SERIES_COLOURS[index % len(SERIES_COLOURS)] for index in range(count)]


def _limits(curves: Sequence[NDArray[np.float64]], others: Sequence[float], log: bool) -> tuple[float, float]:
    """The smallest and largest finite value with a little room around; on a logarithmic axis whole powers of ten."""
    everything = np.concatenate([*curves, np.asarray(others, dtype=float)])
    everything = everything[np.isfinite(everything)]
    if log:
        powers = np.log10(everything) if len(everything) else np.zeros(1)
        low, high = math.floor(powers.min()), math.ceil(powers.max())
        return 10.0**low, 10.0 ** max(high, low + 1)
    if not len(everything):
        return 0.0, 1.0
    low, high = float(everything.min()), float(everything.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most about MOST_POINTS points: the lowest and the highest of each stretch, so that no spike is lost."""
    y = np.where(np.isfinite(y), y, np.nan)
    if len(y) <= MOST_POINTS:
        return x, y
    kept = {0, len(y) - 1}
    for stretch in np.array_split(np.arange(len(y)), MOST_POINTS // 2):
        if np.isnan(y[stretch]).all():
            kept.add(int(stretch[0]))
        else:
            kept |= {int(stretch[np.nanargmin(y[stretch])]), int(stretch[np.nanargmax(y[stretch])])}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def _name_ends(axes: Any, ends: Sequence[tuple[str, float, float, str]], axes_height: float) -> None:
    """Write each label right of the axes at the height of its line, moved just enough that none cover each other."""
    ordered = sorted(ends, key=lambda end: end[2])
    labels = [textwrap.fill(printable(label), 18) for label, *_ in ordered]
    wanted = [float(axes.transLimits.transform(axes.transScale.transform((0, y)))[1]) for _, _, y, _ in ordered]
    heights = [(label.count("\n") + 1) * LINE_HEIGHT / axes_height for label in labels]
    for (_, x, y, colour), label, place in zip(ordered, labels, _apart(wanted, heights), strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 4,
                "shrinkB": 0,
            },
        )


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Centres near the `wanted` ascending ones (0 to 1) such that blocks of these heights don't overlap."""
    places = list(wanted)
    for index in range(1, len(places)):
        gap = (heights[index - 1] + heights[index]) / 2
        places[index] = max(places[index], places[index - 1] + gap)
    ceiling = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling - heights[index] / 2)
        ceiling = places[index] - heights[index] / 2
    return places


def _stand_references(axes: Any, references: References) -> None:
    """Dashed upright lines, each named above the axes on its own row, towards the middle, the outermost highest."""
    from matplotlib.transforms import ScaledTranslation

    middle = axes.transData.inverted().transform(axes.transAxes.transform((0.5, 0)))[0]
    left = [reference for reference in references if reference[1] <= middle]
    right = [reference for reference in references if reference[1] > middle]
    rows = sorted(right, key=lambda reference: reference[1]) + sorted(left, key=lambda reference: -reference[1])
    across = axes.get_xaxis_transform()  # x in data, y from 0 at the bottom of the axes to 1 at their top
    for row, (label, value) in enumerate(rows):
        above = across + ScaledTranslation(0, (row + 0.9) * LINE_HEIGHT / 72, axes.figure.dpi_scale_trans)
        axes.annotate(
            "",
            (value, 0),
            xycoords=across,
            xytext=(value, 1),
            textcoords=above,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": INK,
                "alpha": 0.6,
                "linestyle": (0, (5, 4)),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
        axes.annotate(
            _shortened(f"{label} {number(value)}"),
            (value, 1),
            xycoords=above,
            xytext=(5 if value <= middle else -5, 1),
            textcoords="offset points",
            ha="left" if value <= middle else "right",
            va="top",
        )


def _shortened(label: str) -> str:
    label = " ".join(printable(label).split())
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"


def _finish(figure: Any, title: str) -> Picture:
    """The figure as an SVG element that can stand in any page, beside any other."""
    import io

    # Everything lies within its axes, so nothing need be clipped; without clip paths no ids are left to clash.
    for artist in figure.findobj():
        artist.set_clip_on(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 (we wrote it a line above)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "defs"):
                parent.remove(child)
    for element in root.iter():
        element.attrib.pop("id", None)
        for name, value in element.attrib.items():
            element.attrib[name] = _themed(value)
        element.tail = None if not (element.tail or "").strip() else element.tail
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": "100%",
        "role": "img",
        "aria-label": printable(title),
    }
    return Picture(title, ElementTree.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    """Our stand-in colours as the page's colours, and no font but the page's own."""
    style = style.replace(INK, "currentColor")
    for index, colour in enumerate(SERIES_COLOURS, start=1):
        style = style.replace(colour, f"var(--series-{index}, {colour})")
    style = re.sub(r"font: (?:\w+ )*([\d.]+px) [^;]*", r"font-size: \1", style)  # matplotlib's shorthand before 3.10
    return re.sub(r"font-family: [^;]*;? ?", "", style)
