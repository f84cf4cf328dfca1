from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.webtext.overlap.grams import normalise
from gpt2lab.webtext.overlap.overlap import DocumentOverlap, overlap


def test_normalisation_is_the_papers():
    assert normalise("  Don't—stop: the_END, at 3.5%! Ärger\n") == "don t stop the end at 3 5 ärger"


def test_worked_example():
    train = ["a b c d e f g h i", "Q r s t; u v w x y z"]
    tests = [
        "A, b c d e f g h! x y",  # abcdefgh is in train; bcdefghx and cdefghxy are not
        "q r s t u v w x y q r s t u v w x",  # 10 grams: qrstuvwx (twice) and rstuvwxy
        "too short to have any",
    ]
    found = overlap(tests, train)
    assert found.per_document == (DocumentOverlap(3, 1), DocumentOverlap(10, 3), DocumentOverlap(0, 0))
    assert (found.grams, found.overlapping) == (13, 4)
    assert found.share == 4 / 13
    assert [document.share for document in found.per_document] == [1 / 3, 0.3, 0.0]


def test_grams_do_not_reach_over_the_end_of_a_document():
    assert overlap(["a b c d e f g h"], ["a b c d", "e f g h"]).overlapping == 0


def test_no_texts_have_no_overlap():
    assert overlap([], []).share == overlap(["a"], ["b"]).share == 0.0


words = st.lists(st.sampled_from("abc"), max_size=25).map(" ".join)


@given(st.lists(words, max_size=4), st.lists(words, max_size=4))
def test_agrees_with_sets_of_strings(tests, trains):
    def grams(text):
        split = text.split()
        return [" ".join(split[n : n + 8]) for n in range(len(split) - 7)]

    in_train = {gram for text in trains for gram in grams(text)}
    found = overlap(iter(tests), iter(trains))
    assert found.grams == sum(len(grams(text)) for text in tests)
    assert [document.overlapping for document in found.per_document] == [
        sum(gram in in_train for gram in grams(text)) for text in tests
    ]
