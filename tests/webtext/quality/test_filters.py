"""Each rule has a text that breaks it and one just inside; hostile texts are judged in linear time."""

import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.extraction.extract import PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS, extract
from gpt2lab.webtext.quality.filters import RULE_SETS, RULES, Rule, judge, rules_of, rules_table
from gpt2lab.webtext.quality.text import Text

WEB = rules_of(("web",))
PAPER = rules_of(("paper",))
NONE = rules_of(("none",))
BY_NAME = {rule.name: rule for rule in RULES}

SENTENCES = [
    f"On day number {n} the people of the town walked down to the harbour, and {k} of them had bread with them."
    for n, k in zip(
        ("one", "two", "three", "four", "five", "six"),
        ("some", "many", "few", "most", "nine", "ten"),
        strict=True,
    )
]
ESSAY = """The harbour was quiet in the morning, and nobody saw the boat leave.
An old man with a lantern stood at the end of the pier until the sun came up.
He told us later that three children had been on board, along with a dog.
Why they went has never been explained; their parents keep silent to this day.
In winter, when storms close the road, you can still hear people argue about it.
Some believe that smugglers paid for the trip. Others say it was only a game!"""


def words(count: int, letters: int = 5) -> str:
    """That many different words of that many letters."""
    digits = [[chr(97 + (n // 26**k) % 26) for k in range(letters)] for n in range(count)]
    return " ".join("".join(word) for word in digits)


def rule_of(text: str, rules: tuple[Rule, ...] = WEB, title: str = "") -> str | None:
    removal = judge(text, title, rules).removal
    return removal.rule if removal else None


def lines(*groups: tuple[int, str]) -> str:
    """Lines made of formats such as "line {}." filled with numbers."""
    return "\n".join(line.format(n) for count, line in groups for n in range(count))


def copies(n: int, count: int) -> str:
    """100 n words of equal length, in which one n-gram stands `count` times: count per cent of the characters."""
    distinct = words(100 * n).split()
    gram, others = " ".join(distinct[:n]), distinct[n:]
    return " ".join([f"{gram} {others[k]}" for k in range(count)] + others[count : 100 * n - n * count])


JUST_IN_AND_OUT = {
    "empty": ("x", " \n\t"),
    "error_page": ("Errors", "Error!"),
    "too_short": ("x" * 128, "x" * 127),
    "word_count": (words(50), words(49)),
    "mean_word_length": ("abc " * 60, "abc " * 59 + "ab"),
    "symbol_to_word_ratio": (words(9) + " #x", words(18) + " #x ##"),
    "bullet_lines": (lines((9, "- {}"), (1, "end")), lines((19, "• {}"), (1, "end"))),
    "ellipsis_lines": (lines((3, "{}..."), (7, "{}.")), lines((31, "{}…"), (69, "{}."))),
    "alphabetic_words": (words(8) + " 12 3%", words(79) + " 1" * 21),
    "stop_words": ("The cat and dog", "The cat, the dog"),
    "duplicate_lines": (lines((8, "l{}")) + "\nl0\nl1", lines((6, "l{}")) + "\nl0\nl1\nl2"),
    "duplicate_line_characters": (
        lines((8, "line{}")) + "\nline0\nline1",
        lines((7, "line{}")) + "\nline0\nline1",
    ),
    "duplicate_paragraphs": (
        "\n\n".join(["a", "b", "c", "d", "e", "f", "g", "a", "a", "a"]),
        "\n\n".join(["a", "b", "c", "d", "e", "f", "a", "a", "a"]),
    ),
    "duplicate_paragraph_characters": ("\n\n".join("abcdeeee"[:5] + "a"), "\n\n".join("abcaa")),
    "lorem_ipsum": ("lorem, ipsum", "This is Lorem Ipsum."),
    "curly_bracket": ("} end", "if {"),
    "sentences": (
        lines((5, "I see you.")),
        lines((4, "I see you.")) + "\nTwo words.\nWe use javascript. Do!\nSee the privacy policy.",
    ),
    "terminal_punctuation": (lines((5, 'I "see {}"')), lines((4, "I see you.")) + "\nand so on\nand so on..."),
    "line_punctuation": (lines((13, "He left.”"), (87, "{} x")), lines((12, "He left.”"), (88, "{} x"))),
    "short_lines": (lines((66, "{}"), (34, "x" * 30)), lines((67, "{}"), (33, "x" * 30))),
    "duplicate_line_characters_fineweb": (
        lines((9, "line{}")) + "\nlin0\nlin0",
        lines((9, "line{}")) + "\nline0",
    ),
    **{
        f"{kind}_{n}_gram{plural}": (copies(n, percent), copies(n, percent + 1))
        for kind, plural, n, percent in (
            ("top", "", 2, 20),
            ("top", "", 3, 18),
            ("top", "", 4, 16),
            # of its occurrences the first is not a duplicate
            ("duplicate", "s", 5, 15 + 1),
            ("duplicate", "s", 6, 14 + 1),
            ("duplicate", "s", 7, 13 + 1),
            ("duplicate", "s", 8, 12 + 1),
            ("duplicate", "s", 9, 11 + 1),
            ("duplicate", "s", 10, 10 + 1),
        )
    },
}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_each_rule_keeps_what_is_just_inside_its_bounds_and_removes_what_is_just_outside(rule):
    inside, outside = JUST_IN_AND_OUT[rule]
    alone = rules_of((rule,))
    assert rule_of(inside, alone) is None
    assert rule_of(outside, alone) == rule


@pytest.mark.parametrize(("rule", "above"), [("word_count", words(100_001)), ("mean_word_length", words(9, 11))])
def test_rules_with_two_bounds_hold_the_upper_one(rule, above):
    assert rule_of(above, rules_of((rule,))) == rule
    assert rule_of(above[: above.rindex(" ")].replace("a", "", 9), rules_of((rule,))) is None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("empty", " \n\t"),
        ("too_short", "Hello there."),
        ("word_count", " ".join(SENTENCES[:2])),
        ("mean_word_length", "a of it to be " * 40),
        ("mean_word_length", "internationalisation " * 60 + " of the and"),
        ("symbol_to_word_ratio", ESSAY + " #tag" * 25),
        ("symbol_to_word_ratio", ESSAY.replace(" the ", " ... ") + " ..." * 20),
        ("bullet_lines", "\n".join(f"- {line}" for line in ESSAY.split("\n"))),
        ("ellipsis_lines", ESSAY.replace(".\n", "...\n")),
        ("alphabetic_words", ESSAY + " 1234" * 40),
        ("stop_words", "mountain river valley forest meadow glacier " * 20),
        ("duplicate_lines", ESSAY + "\nBuy now" * 6),
        ("duplicate_line_characters", ESSAY + "\n" + "\n".join(ESSAY.split("\n")[:2])),
        ("curly_bracket", ESSAY + "\nif (x) { return }"),
        ("lorem_ipsum", ESSAY + "\nLorem ipsum dolor sit amet."),
        ("sentences", ESSAY.replace("\n", " ").replace(".", ",").replace("!", ",").replace(";", ",")),
        ("line_punctuation", re.sub("[.!]\n|!$", "\n", ESSAY)),
        ("short_lines", ESSAY + lines((20, "Item {}."))),
        ("duplicate_line_characters_fineweb", ESSAY + "\n" + ESSAY.split("\n")[0]),
        ("top_2_gram", ESSAY.replace("the", "harbour administration")),
        ("duplicate_5_grams", ESSAY + " " + " ".join(ESSAY.split("\n")[:2])),
    ],
)
def test_each_rule_removes_what_it_is_for_and_nothing_removes_prose(rule, text):
    assert rule_of(ESSAY) is None
    assert rule_of(text) == rule


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("404", "Sorry."),
        ("404 Not Found", "nginx"),
        ("Page not found | The Daily News", "The page you are looking for has moved."),
        ("Acme Ltd - Error 404", "Go home."),
        ("", "Page Not Found\nTry searching."),
        ("", "The requested URL was not found on this server."),
        ("503 Service Temporarily Unavailable", "503"),
        ("Access denied", "You don't have permission."),
        ("Just a moment...", "Checking your browser before accessing example.com"),
        ("Error", "Something went wrong, please come back later."),
    ],
)
def test_error_pages_go_from_paper_and_web_but_not_from_none(title, text):
    assert rule_of(text, PAPER, title) == rule_of(text, WEB, title) == "error_page"
    assert rule_of(text, NONE, title) is None


@pytest.mark.parametrize(
    ("title", "first"),
    [
        ("404 recipes for bread", ""),
        ("Error handling in Go", ""),
        ("Lost and not found: a story", ""),
        ("500 Days of Summer", ""),
        ("", "Errors were made."),
        ("Forbidden City travel guide to the palaces and gardens of the emperors of China", ""),
    ],
)
def test_short_articles_about_errors_stay(title, first):
    assert rule_of(f"{first}\n{ESSAY}", PAPER, title) is None


def test_a_long_text_is_no_error_page_whatever_its_title():
    assert rule_of(ESSAY * 4, PAPER, "Error") is None


def test_pydoc_answers_200_to_anything_and_its_errors_are_removed(pydoc_page):
    for path in ("no_such_module.html", "robots.txt", "topic?key=NO-SUCH-TOPIC"):
        found = extract(pydoc_page(path), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS)
        assert rule_of(found.text, PAPER, found.title) == "error_page"
    found = extract(pydoc_page("topic?key=ASSIGNMENT"), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS)
    assert rule_of(found.text, PAPER, found.title) is None
    assert rule_of(found.text, WEB, found.title) is None


def test_a_removal_carries_the_measurement_and_what_is_kept_its_scores():
    judged = judge("Hello there.", "", PAPER)
    assert judged.removal is not None
    assert judged.removal.value == 12
    assert judged.scores == {"empty": 12, "error_page": 0, "too_short": 12}
    kept = judge(ESSAY, "", WEB)
    assert kept.removal is None
    assert set(kept.scores) == {rule.name for rule in WEB}
    assert kept.scores["stop_words"] == 6
    assert kept.scores["line_punctuation"] == 1
    assert all(type(value) in (int, float) for value in kept.scores.values())


def test_sets_are_what_their_papers_name_and_web_is_all_that_fineweb_uses():
    assert RULE_SETS["none"] == ()
    assert [rule.name for rule in NONE] == ["empty"]
    assert set(RULE_SETS["gopher"]) == {*RULE_SETS["gopher-quality"], *RULE_SETS["gopher-repetition"]}
    assert len(RULE_SETS["gopher-quality"]) == 7
    assert len(RULE_SETS["gopher-repetition"]) == 13
    parts = {name for part in ("paper", "gopher", "c4", "fineweb") for name in RULE_SETS[part]}
    assert set(RULE_SETS["web"]) == parts
    assert "terminal_punctuation" not in parts


@given(st.lists(st.sampled_from([*RULE_SETS, *BY_NAME])), st.lists(st.sampled_from([*RULE_SETS, *BY_NAME])))
def test_a_choice_holds_each_rule_once_in_one_order_and_empty_always(chosen, without):
    names = [rule.name for rule in rules_of(tuple(chosen), tuple(without))]
    assert names == [rule.name for rule in RULES if rule.name in names]
    assert names[0] == "empty"
    assert names == [rule.name for rule in rules_of(tuple(reversed(chosen)), tuple(without))]
    assert not set(names[1:]) & {*without}


def test_rules_are_chosen_and_left_out_by_name():
    assert [rule.name for rule in rules_of(("c4", "stop_words"), ("curly_bracket",))] == [
        "empty",
        "stop_words",
        "lorem_ipsum",
        "sentences",
    ]
    assert rule_of("short", rules_of(("paper",), minimum_characters=5)) is None
    assert rule_of("shor", rules_of(("paper",), minimum_characters=5)) == "too_short"


@pytest.mark.parametrize(
    ("option", "arguments", "nearest"),
    [
        ("filters", (("gofer",),), "gopher"),
        ("filters", (("web", "stopwords"),), "stop_words"),
        ("without-rules", (("web",), ("curly_brackets",)), "curly_bracket"),
        ("filters", (("#!",),), "web"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_in_one_line(option, arguments, nearest):
    with pytest.raises(BadOption, match=rf"^{option}: .*nearest: .*\b{nearest}\b[^\n]*$"):
        rules_of(*arguments)


def plain_repetition(text: str, n: int) -> tuple[float, float]:
    """The shares of the n-gram rules, as plainly as the paper says them."""
    split = text.split()
    grams = [tuple(split[k : k + n]) for k in range(len(split) - n + 1)]
    total = sum(map(len, split))
    most = max(map(grams.count, grams), default=1)

    def characters(starts):
        return sum(len(split[k]) for k in {start + offset for start in starts for offset in range(n)})

    if most == 1:
        return 0, 0
    commonest = {gram for gram in grams if grams.count(gram) == most}
    longest = max(sum(map(len, gram)) for gram in commonest)
    tops = {
        characters(k for k, other in enumerate(grams) if other == gram) / total
        for gram in commonest
        if sum(map(len, gram)) == longest
    }
    again = [k for k, gram in enumerate(grams) if gram in grams[:k]]
    return tops, characters(again) / total


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "a b a", "x y z u v w"]), max_size=60).map(" ".join))
def test_repeated_ngrams_equal_the_plain_count(text):
    repeated = Text(text).repeated
    for n in range(2, 11):
        tops, duplicates = plain_repetition(text, n)
        assert repeated[n].duplicate_share == pytest.approx(duplicates)
        assert any(repeated[n].top_share == pytest.approx(top) for top in (tops or {0}))


@given(st.text(max_size=300))
def test_any_text_is_measured_without_an_error_and_shares_are_shares(text):
    looked_at = Text(text)
    for rule in RULES:
        value = rule.measure(looked_at)
        assert value is None or (math.isfinite(value) and value >= 0)
        if value is not None and rule.maximum < 1:
            assert value <= 1 or rule.name == "symbol_to_word_ratio"


CHINESE = """清晨的港口十分安静，没有人看见那条船离开。一位穿着旧大衣的老人提着灯站在码头尽头，直到太阳升起。
后来他告诉我们大家，船上一共有三个孩子和一只狗！他们为什么要走，至今无人知晓；家长们也不愿意谈起。
冬天暴风雪封路的时候，大家还会为此争论不休。有些人说那只是游戏。"""


def test_languages_without_spaces_are_measured_by_letters_and_only_english_rules_remove_them():
    assert Text(CHINESE).words[:3] == ["清", "晨", "的"]
    assert judge(CHINESE, "", WEB).removal == judge(CHINESE, "", rules_of(("stop_words",))).removal
    english = tuple(rule.name for rule in RULES if rule.english)
    judged = judge(CHINESE, "", rules_of(("web",), english))
    assert judged.removal is None
    assert judged.scores["sentences"] == 6
    assert "mean_word_length" not in judged.scores


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("He said that it was so (twice!). Then he left.", 2),
        ("Version 3.14 of it is out at example.com now", 1),
        ("What?! No... well. And then", 4),
        ("她说：“好。”然后走了。他来了", 3),
        ("هل هذا صحيح؟ نعم هذا صحيح.", 2),
    ],
)
def test_sentences_are_counted_at_their_final_marks(text, count):
    assert judge(text, "", rules_of(("sentences",))).scores["sentences"] == count


HOSTILE = {
    "one word again and again": "spam " * 3_300_000,
    "one line without spaces": "x" * 16_000_000,
    "blank lines": "\n" * 1_000_000,
    "blank lines around": "a" + "\n" * 16_000_000 + "b",
    "no letters": "123 456. " * 1_800_000,
    "full stops": "." * 16_000_000,
    "closing brackets after full stops": ".)" * 8_000_000,
    "brackets": ")" * 16_000_000,
    "unspaced": "。」" * 3_000_000,
    "short lines": "ab\n" * 2_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_time_in_proportion_to_its_length(name):
    text = HOSTILE[name]

    def seconds(size: int) -> float:
        started = time.process_time()
        looked_at = Text(text[:size])
        for rule in RULES:
            rule.measure(looked_at)
        return time.process_time() - started

    sixteenth = seconds(len(text) // 16)
    whole = seconds(len(text))
    assert whole < 60 * sixteenth + 1  # a square would be 256 times


def test_the_documentation_holds_the_table_of_all_rules_and_their_sets():
    page = (Path(__file__).parents[3] / "docs" / "filters.md").read_text(encoding="utf-8")
    assert rules_table() in page, "docs/filters.md: put what rules_table() returns there"
