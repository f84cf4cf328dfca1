import json
import random

import pytest

from gpt2lab.webtext.overlap.contamination import Contamination, read_evaluation_grams


def text_of(chooser, words):
    return " ".join(f"w{chooser.randrange(5000)}" for _ in range(words))


@pytest.fixture
def sets(tmp_path):
    chooser = random.Random(3)
    passages = [text_of(chooser, 80) for _ in range(30)]
    passages.append("only seven words are in this passage")
    questions = [
        f"question which of the following is it answer with one letter {text_of(chooser, 9)}" for _ in range(20)
    ]
    article = text_of(chooser, 3000)
    for name, texts in (("lambada", passages), ("quiz", questions), ("wiki", [article])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("lambada", "quiz", "wiki")}
    return read_evaluation_grams(paths), passages, questions, article


def test_a_copy_of_a_piece_of_a_set_goes(sets):
    grams, _, _, article = sets
    found = grams.share(article)
    assert (found.share, found.set, found.verdict(0.5)) == (1, "wiki", ("wiki", 1.0))
    piece = " ".join(article.split()[1000:1050])
    assert grams.share(piece).verdict(0.9) == ("wiki", 1.0)


def test_a_long_document_with_one_whole_test_item_goes(sets):
    grams, passages, _, article = sets
    chooser = random.Random(4)
    document = f"{text_of(chooser, 20_000)} {passages[7]} {text_of(chooser, 20_000)}"
    found = grams.share(document)
    assert found.share == pytest.approx(73 / 40_073, rel=0.01)
    assert (found.item_set, found.item, found.item_share) == ("lambada", 7, 1)
    assert found.verdict(0.9) == ("lambada", 1.0)
    part = " ".join(article.split()[500:1200])  # a quarter of an article, whole passages of it
    assert grams.share(f"{text_of(chooser, 20_000)} {part}").verdict(0.9) == ("wiki", 1.0)


def test_a_quotation_stays(sets):
    grams, passages, _, _ = sets
    chooser = random.Random(4)
    quoted = " ".join(passages[3].split()[:14])  # seven grams
    for document in (quoted, f"{text_of(chooser, 100)} {quoted}", "", "few words", passages[-1]):
        assert grams.share(document).verdict(0.01) is None
    half = " ".join(passages[3].split()[:30])
    document = f"{text_of(chooser, 500)} {half}"
    assert grams.share(document).verdict(0.5) is None
    assert grams.share(document).verdict(0.3) == ("lambada", 23 / 73)


def test_the_words_that_every_question_begins_with_are_no_evidence(sets):
    grams, _, questions, _ = sets
    assert grams.share(" ".join(questions[0].split()[:11])) == Contamination()
    found = grams.share(questions[7])  # 13 grams, of which four are every question's
    assert found == Contamination(9 / 13, 9, "quiz", 1.0, "quiz", 7)
    assert found.verdict(0.9) == ("quiz", 1.0)


def test_an_empty_set_removes_nothing(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    assert read_evaluation_grams({"e": tmp_path / "empty.txt"}).share("one two " * 50) == Contamination()
