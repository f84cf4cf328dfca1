"""Streaming: the same text wherever token borders fall, never a broken character, nothing held back needlessly."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.generate.text_stream import TextStream


def streamed(pieces: list[bytes], stops: tuple[str, ...]) -> list[str]:
    stream, found = TextStream(pieces, stops), []
    for token in range(len(pieces)):
        found.append(stream.push(token))
        if stream.stopped:
            break
    return [*found, stream.finish()]


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[a:b] for a, b in pairwise(places)]


def plain(text: str, stops: tuple[str, ...]) -> str:
    """What the text is when it comes character by character."""
    for end in range(len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, complete))]
    return text


@given(
    st.text(alphabet="abé🙂\n", max_size=30),
    st.lists(st.text(alphabet="abé\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 200), max_size=20),
)
def test_the_text_does_not_depend_on_where_tokens_end(text, stops, borders):
    pieces = streamed(cut(text.encode(), borders), tuple(stops))
    assert "".join(pieces) == plain(text, tuple(stops))
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("stops", "pieces", "wanted"),
    [
        (("\n\n", "\n\nQ:"), [b"one\n", b"\nQ: two"], "one"),
        (("END", "ENDING"), [b"the EN", b"DING"], "the "),
        (("ENDING",), [b"the EN", b"D"], "the END"),
        (("aab",), [b"a", b"a", b"a", b"b"], "a"),
    ],
)
def test_stop_strings_across_tokens(stops, pieces, wanted):
    assert "".join(streamed(pieces, stops)) == wanted


def test_only_what_may_become_a_stop_string_is_held_back():
    assert streamed([b"one E", b"N", b"d. ", b"END"], ("END",)) == ["one ", "", "ENd. ", "", ""]


def test_a_character_cut_short_at_the_end_is_marked():
    assert streamed(["é".encode()[:1]], ()) == ["", "\ufffd"]
    assert streamed([b"\xff", b"a"], ()) == ["\ufffd", "a", ""]
