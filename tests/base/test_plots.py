"""Pictures are SVG that can stand in any page beside any other, the same every time, true to their data."""

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from lxml import etree

from gpt2lab.base import plots
from gpt2lab.base.report import Picture, Report

STEPS = np.arange(0, 2001, 100)
LOSS = 4.1 + 4.2 * np.exp(-STEPS / 300)


def loss_curves() -> Picture:
    curves = [("training", STEPS, LOSS - 0.1), ("validation", STEPS, LOSS)]
    return plots.lines("Loss falls from 8.3 to 4.1", curves, "step", "loss (nats per token)", [("unigram model", 6.1)])


def removal_bars() -> Picture:
    pairs = [("kept", 855), ("too short", 181), ("near-duplicate", 94)]
    return plots.bars("Most pages were kept", pairs, "pages", [("pages in all", 1130)])


def lengths() -> Picture:
    values = np.exp(np.random.default_rng(0).normal(8, 1, 500))
    return plots.histogram("Half are short", values, "characters", "documents", [("median", 2981.0)], log_x=True)


def losses_by_rate() -> Picture:
    pairs = [(5e-4, 5.4), (1e-3, 5.2), (2e-3, 5.0), (8e-3, float("nan"))]
    return plots.points("0.002 is best", pairs, "rate", "loss", marked=(2, "best: 5.00"), log_x=True, joined=True)


def scores_by_size() -> Picture:
    theirs = [(124.0, 45.99), (1557.0, 63.24)]
    parts = [
        plots.Panel("LAMBADA, %", theirs, [(0.8, 3.0)], 59.23),
        plots.Panel("PTB, perplexity", [], [(0.8, 900.0), (124.0, 66.0)], log_y=True),
        plots.Panel("nothing yet", [], [(0.8, 0.0)]),
    ]
    return plots.panels("Larger ones score higher", parts, "parameters, millions")


KINDS = pytest.mark.parametrize("draw", [loss_curves, removal_bars, lengths, losses_by_rate, scores_by_size])


def texts_of(picture: Picture) -> list[str]:
    """Every text in the picture, lines of one label joined."""
    root = etree.fromstring(picture.svg)
    return [" ".join("".join(text.itertext()).split()) for text in root.iter("{*}text")]


@KINDS
def test_the_same_data_give_the_same_bytes(draw):
    assert draw() == draw()


@KINDS
def test_pictures_do_not_clash_in_one_page(draw):
    svg = draw().svg
    root = etree.fromstring(svg)
    assert not [element for element in root.iter() if element.get("id")]
    assert "url(" not in svg
    assert "href" not in svg
    assert "<style" not in svg
    assert "<?xml" not in svg
    assert "<!DOCTYPE" not in svg


@KINDS
def test_a_picture_fits_its_place_and_says_what_it_is(draw):
    picture = draw()
    root = etree.fromstring(picture.svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox").startswith("0 0 ")
    assert root.get("width") == "100%"
    assert root.get("height") is None
    assert root.get("role") == "img"
    assert root.get("aria-label") == picture.title


@KINDS
def test_a_picture_takes_the_colours_and_the_font_of_its_page(draw):
    svg = draw().svg
    assert "currentColor" in svg
    assert "font-family" not in svg
    assert "DejaVu" not in svg
    colours = set(re.findall(r"#[0-9a-f]{6}", svg))
    assert colours <= set(plots.SERIES_COLOURS)
    for colour in colours:  # never but as the default of a variable that the page may set
        assert svg.count(colour) == len(re.findall(rf"var\(--series-\d, {colour}\)", svg))
    assert colours


def test_a_page_in_the_dark_sets_every_colour():
    page = Report("Title", "Outcome.").html()
    for index in range(1, len(plots.SERIES_COLOURS) + 1):
        assert f"--series-{index}: #" in page


def test_curves_and_references_are_named_beside_their_ends_with_their_values():
    texts = texts_of(loss_curves())
    joined = " ".join(texts)
    assert "unigram model 6.10" in joined
    assert "validation 4.11" in joined
    assert "training 4.01" in joined
    assert "step" in texts
    assert "loss (nats per token)" in texts


def test_bars_carry_their_values_and_their_unit():
    texts = texts_of(removal_bars())
    assert {"kept", "855", "too short", "181", "pages", "pages in all 1,130"} <= set(texts)


def test_one_bar_has_room_for_every_reference():
    picture = plots.bars("One bar", [("kept", 3)], "pages", [("limit", 5.0), ("paper", 2.0), ("peer", 4.0)])
    assert {"limit 5.00", "paper 2.00", "peer 4.00", "kept"} <= set(texts_of(picture))


def test_bars_say_values_in_the_words_of_the_caller():
    picture = plots.bars("Time", [("train", 576.0)], "seconds", value_text=lambda value: f"{value / 60:.1f} min")
    assert "9.6 min" in texts_of(picture)


def test_a_histogram_names_its_axes_and_references():
    assert {"characters", "documents", "median 2,981"} <= set(texts_of(lengths()))


def test_names_at_the_ends_never_cover_each_other():
    places = plots._apart([0.5, 0.5, 0.51, 0.99, 0.99], [0.1] * 5)
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(places))
    assert places[-1] <= 0.95 + 1e-9
    assert plots._apart([0.2, 0.8], [0.1, 0.1]) == [0.2, 0.8]


def test_labels_are_text_not_markup_nor_formulas():
    label = "<script>$x^2$ & price $5 \0 #010203 url(#a)"
    for picture in (
        plots.lines(label, [(label, [0, 1], [1, 2])], label, label, [(label, 1.5)]),
        plots.bars(label, [(label, 2)], label, [(label, 1.5)]),
        plots.histogram(label, [1, 2, 3], label, label, [(label, 1.5)]),
    ):
        root = etree.fromstring(picture.svg)
        assert {etree.QName(element).localname for element in root.iter()} <= {"svg", "g", "path", "text", "tspan"}
        assert label.replace("\0", "\ufffd") in texts_of(picture)


def test_letters_that_the_measuring_font_lacks_are_drawn_without_a_warning():
    assert "茶 🍵" in texts_of(plots.bars("Tea", [("茶 🍵", 3)], "杯"))


@pytest.mark.parametrize(
    "curves",
    [
        [],
        [("empty", [], [])],
        [("one point", [5], [2.0])],
        [("flat", [0, 1], [3.0, 3.0])],
        [("diverged", [0, 1, 2], [3.0, np.inf, np.nan])],
        [("nothing finite", [0, 1], [np.nan, np.nan])],
    ],
)
def test_curves_that_are_hardly_there_are_drawn_all_the_same(curves):
    etree.fromstring(plots.lines("Loss", curves, "step", "loss").svg)


@pytest.mark.parametrize("pairs", [[], [("nothing", 0)], [("loss", -2.0), ("gain", 3.0)], [("x" * 500, 1)]])
def test_bars_that_are_hardly_there_are_drawn_all_the_same(pairs):
    etree.fromstring(plots.bars("Bars", pairs, "pages").svg)


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("values", [[], [7], [7, 7, 7], [0, -1, np.nan], [1, 1e9]])
def test_histograms_that_are_hardly_there_are_drawn_all_the_same(values, log_x):
    etree.fromstring(plots.histogram("Sizes", values, "size", "items", [("none", 0.0)], log_x=log_x).svg)


def test_a_long_curve_is_a_small_file_that_keeps_its_spikes():
    y = np.random.default_rng(0).normal(4, 0.1, 200_000)
    y[123_456] = 9.0
    x, kept = plots._thinned(np.arange(200_000.0), y)
    assert len(x) <= plots.MOST_POINTS + 2
    assert kept.max() == 9.0
    assert kept.min() == y.min()
    assert x[np.argmax(kept)] == 123_456
    assert (np.diff(x) > 0).all()
    assert len(plots.lines("Loss", [("training", np.arange(200_000), y)], "step", "loss").svg) < 60_000


def test_settings_of_the_user_change_nothing_and_are_not_changed():
    import matplotlib as mpl

    expected = loss_curves()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert loss_curves() == expected
        assert mpl.rcParams["font.size"] == 30


def test_matplotlib_is_imported_only_when_something_is_drawn():
    script = "import sys, gpt2lab.base.plots, gpt2lab.base.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=200).returncode == 0
    script = (
        "import sys, gpt2lab.base.plots as plots; plots.bars('Title', [('a', 1)], 'x');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=200).returncode == 0


def test_every_point_is_drawn_and_what_has_no_value_is_a_cross():
    texts = texts_of(losses_by_rate())
    assert {"best: 5.00", "×", "0.001", "0.002"} <= set(texts)
    discs = losses_by_rate().svg.count("var(--series-1, #0072b2)") - 1  # one is the line through them
    assert discs == 3
    named = texts_of(plots.points("adafactor is best", [("adamw", 5.1), ("adafactor", 5.0)], "optimizer", "loss"))
    assert {"adamw", "adafactor"} <= set(named)


def test_faint_curves_have_no_names_and_set_the_limits_too():
    picture = plots.lines("two", [("named", [0, 1], [5.0, 4.0])], "step", "loss", faint=[([0, 2], [9.0, 8.0])])
    texts = texts_of(picture)
    assert [text for text in texts if "named" in text] == ["named 4.00"]
    assert {"2", "9"} <= set(texts)


def test_every_panel_has_its_name_its_dots_and_one_x_axis_with_the_others():
    texts = texts_of(scores_by_size())
    assert {"LAMBADA, %", "PTB, perplexity", "nothing yet"} <= set(texts)
    assert texts.count("parameters, millions") == 2, "at the foot of each column"
    assert texts.count("1,000") == 4, "on every x axis, and on the y axis of perplexity"
    ours = scores_by_size().svg.count(f"fill: var(--series-1, {plots.SERIES_COLOURS[0]})")
    assert ours == 4


def test_one_panel_of_one_dot_is_drawn():
    assert plots.panels("Alone", [plots.Panel("one", [], [(124.0, 5.0)], log_y=True)], "parameters").svg
