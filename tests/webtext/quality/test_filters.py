import pytest

from gpt2lab.webtext.extraction.extract import PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS, extract
from gpt2lab.webtext.quality.filters import judge, rules_of

WEB = rules_of("web", 128)
PAPER = rules_of("paper", 128)
NONE = rules_of("none", 128)

SENTENCES = [
    f"On day number {n} the people of the town walked down to the harbour, and some of them had bread with them."
    for n in ("one", "two", "three", "four", "five", "six")
]
PROSE = "\n".join(SENTENCES)


def rule_of(text: str, rules=WEB, title: str = "") -> str | None:
    removal = judge(text, title, rules)
    return removal.rule if removal else None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("empty", " \n\t"),
        ("too_short", "Hello there."),
        ("word_count", " ".join(SENTENCES[:2])),
        ("mean_word_length", "a of it to be " * 40),
        ("mean_word_length", "internationalisation " * 60 + " of the and"),
        ("symbol_to_word_ratio", PROSE + " #tag" * 25),
        ("symbol_to_word_ratio", PROSE.replace(" the ", " ... ") + " ..." * 20),
        ("bullet_lines", "\n".join(f"- {line}" for line in SENTENCES)),
        (
            "ellipsis_lines",
            "\n".join(line + ("..." if n < 2 else "…" if n < 3 else "") for n, line in enumerate(SENTENCES)),
        ),
        ("alphabetic_words", PROSE + " 1234" * 40),
        ("stop_words", "mountain river valley forest meadow glacier " * 20),
        ("duplicate_lines", PROSE + "\nBuy now" * 6),
        ("duplicate_line_characters", PROSE + "\n" + "\n".join(SENTENCES[:2])),
    ],
)
def test_each_rule_removes_what_it_is_for_and_nothing_removes_prose(rule, text):
    assert rule_of(PROSE) is None
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
    assert rule_of(f"{first}\n{PROSE}", PAPER, title) is None


def test_a_long_text_is_no_error_page_whatever_its_title():
    assert rule_of("\n".join(SENTENCES * 3), PAPER, "Error") is None


def test_pydoc_answers_200_to_anything_and_its_errors_are_removed(pydoc_page):
    for path in ("no_such_module.html", "robots.txt", "topic?key=NO-SUCH-TOPIC"):
        found = extract(pydoc_page(path), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS)
        assert rule_of(found.text, PAPER, found.title) == "error_page"
    found = extract(pydoc_page("topic?key=ASSIGNMENT"), PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS)
    assert rule_of(found.text, PAPER, found.title) is None
    assert rule_of(found.text, WEB, found.title) is None


def test_a_removal_carries_the_measurement():
    removal = judge("Hello there.", "", PAPER)
    assert removal is not None
    assert removal.value == 12
