"""Mojibake is put right, everything else stays as it was."""

import subprocess
import sys
import time

import pytest
from ftfy import fix_text
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.webtext.extraction.extract import clean_text
from gpt2lab.webtext.quality.repair import _config, repair


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("Iâ€™m here", "I’m here"),
        ("Iâ\x80\x99m here", "I’m here"),
        ("â€œquotedâ€\x9d", "“quoted”"),
        ("cafÃ© crÃ¨me", "café crème"),
        ("cafÃƒÂ© twice", "café twice"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет"),
        ("a line\nÃ la carte, dÃ©jÃ  vu\nand another", "a line\nà la carte, déjà vu\nand another"),
        ("price: 5 \x80", "price: 5 €"),
        ("of\ufb01ce", "office"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\ud83d\ude00", "😀"),
        ("Voilà: itâ€™s both", "Voilà: it’s both"),
    ],
)
def test_mojibake_and_its_like_are_repaired(broken, whole):
    assert repair(broken) == whole


@pytest.mark.parametrize(
    "text",
    [
        "“Curly” ‘quotes’ stay — and dashes…",
        "你好，世界！（全角）ＡＢＣ　",
        "Write &amp;lt; for &lt;, &eacute; for é.",
        "def f(x):\n\tif x:\n\t\treturn  'é'  # two  spaces",
        "CLÁUDIO, ÃO, Ângela, Œuvre, naïve Ÿ",
        "10³ m² ½ µ ﷺ Å",
        "São João, irmã, ÃÕ.",
    ],
)
def test_what_is_right_stays_as_it_is(text):
    assert repair(text) == text


def mojibake(text: str) -> str:
    return text.encode("utf-8").decode("sloppy-windows-1252")


BROKEN = st.text(alphabet="aéz.,! ’“€Ãâ™œ \n\x80\x99\x9d\xa0ÂĽĂ\u0301\ufb01\x1b[m", max_size=60)


@given(st.text(max_size=80) | BROKEN)
def test_repairing_twice_is_repairing_once_and_the_result_is_clean(text):
    once = repair(text)
    assert repair(once) == once == clean_text(once)


@given(st.text(max_size=200) | BROKEN | st.text(alphabet=st.characters(max_codepoint=255), max_size=100))
def test_short_cuts_change_nothing(text):
    config = _config()
    whole = text
    while (repaired := clean_text("\n".join(fix_text(line, config) for line in whole.split("\n")))) != whole:
        whole = repaired
    assert repair(text) == whole


@given(st.lists(st.sampled_from(["It’s “fine” – really…", "Ça été naïf, à Noël.", "Größe für Übung"]), max_size=5))
def test_what_was_read_in_the_wrong_charset_comes_back(lines):
    text = "\n".join(lines)
    assert repair(mojibake(text)) == text


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["spam ", "café ", "Iâ€™m ", "\n", "Ã", "é\n", "\x80", "\ud800", "\u0301"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(unit):
    text = unit * (2_000_000 // len(unit))

    def seconds(size: int) -> float:
        started = time.process_time()
        repair(text[:size])
        return time.process_time() - started

    sixteenth = seconds(len(text) // 16)
    assert seconds(len(text)) < 60 * sixteenth + 1  # a square would be 256 times


def test_importing_costs_no_ftfy():
    program = "import sys, gpt2lab.webtext.quality.repair as r; r.repair('plain'); assert 'ftfy' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
