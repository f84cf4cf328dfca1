"""Languages of real and of hostile texts, offline, the same in every thread and process."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import BadOption
from gpt2lab.webtext.quality.language import UNKNOWN, check_languages, identify, wrong_language

# Sentences of our own.
TEXTS = {
    "en": "The children walked to the market in the morning and came home with bread, apples and a small black dog.",
    "fr": "Les enfants sont allés au marché le matin et sont rentrés avec du pain, des pommes et un petit chien noir.",
    "de": "Die Kinder gingen am Morgen zum Markt und kamen mit Brot, Äpfeln und einem kleinen schwarzen Hund zurück.",
    "es": "Los niños fueron al mercado por la mañana y volvieron a casa con pan, manzanas y un pequeño perro negro.",
    "it": "I bambini sono andati al mercato la mattina e sono tornati a casa con il pane, le mele e un cagnolino nero.",
    "ru": "Утром дети пошли на рынок и вернулись домой с хлебом, яблоками и маленькой чёрной собакой.",
    "zh": "孩子们早上去了市场，带着面包、苹果和一只黑色的小狗回家了。",
    "ja": "子どもたちは朝、市場へ行き、パンとりんごと小さな黒い犬を連れて帰ってきました。",
    "ko": "아이들은 아침에 시장에 가서 빵과 사과와 작은 검은 개를 데리고 집으로 돌아왔다.",
    "ar": "ذهب الأطفال إلى السوق في الصباح وعادوا إلى البيت مع الخبز والتفاح وكلب أسود صغير.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_a_sentence_is_enough(code):
    found = identify(TEXTS[code])
    assert found.code == code
    assert 0.65 < found.confidence <= 1


@pytest.mark.parametrize("text", ["", " \n", "1234 5678 " * 100, "!?" * 500, "Hi there", "\ud800" * 50, "\0" * 99])
def test_without_letters_or_with_few_the_language_is_unknown(text):
    assert identify(text) == UNKNOWN


@pytest.mark.parametrize(("language", "count"), [("en", 3003), ("fr", 3003)])
def test_news_of_ten_lines_is_told_without_an_error_and_lines_rarely_with_confidence(shared_data, language, count):
    lines = shared_data(f"newstest2014/newstest2014.{language}").read_text(encoding="utf-8").splitlines()
    assert len(lines) == count
    tens = [identify("\n".join(lines[k : k + 10])) for k in range(0, count, 10)]
    assert all(wrong_language(found, (language,)) is None for found in tens)
    singles = [identify(line) for line in lines]
    assert sum(found.code == language for found in singles) >= 0.99 * count
    assert all(found.code in (language, "") or found.confidence < 0.65 for found in singles)


@given(st.text(max_size=2000))
def test_any_text_has_a_language_or_none_with_a_probability(text):
    found = identify(text)
    assert 0 <= found.confidence <= 1
    assert bool(found.code) == bool(found.confidence)
    assert identify(text) == found


def test_all_of_a_long_text_counts_and_its_length_costs_nothing():
    menu = TEXTS["fr"] * 10
    assert identify(menu + TEXTS["en"] * 100).code == "en"
    started = time.process_time()
    identify("the " * 4_000_000)
    assert time.process_time() - started < 0.5


def test_threads_and_processes_agree_and_importing_costs_no_model():
    texts = list(TEXTS.values()) * 20
    alone = [identify(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(identify, texts)) == alone
    program = (
        "import sys, gpt2lab.webtext.quality.language as language; assert 'py3langid' not in sys.modules;"
        f"print(language.identify({TEXTS['de']!r}))"
    )
    printed = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == repr(identify(TEXTS["de"]))


def test_a_text_in_another_language_is_removed_with_its_confidence():
    german = identify(TEXTS["de"])
    assert wrong_language(german, ("en", "de")) is None
    removal = wrong_language(german, ("en", "fr"))
    assert removal is not None
    assert (removal.rule, removal.value) == ("language", german.confidence)
    assert wrong_language(german, ("de",), minimum_confidence=1.1) is not None
    assert wrong_language(UNKNOWN, ("en",)) is not None


def test_unknown_languages_are_refused_by_name():
    check_languages(("en", "fr"))
    check_languages(())
    with pytest.raises(BadOption, match=r"'english'.*, en, "):
        check_languages(("english",))
    with pytest.raises(BadOption, match="zxx"):
        check_languages(("zxx",))
