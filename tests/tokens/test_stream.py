"""The stream: any piece of it, wherever shards meet, and ids that can't be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tokens.raw_shards import raw_stream

from gpt2lab.base.errors import BadInput


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The numbers 1 to 99 in shards of 40, 1, 2 and 56."""
    ids = list(range(1, 100))
    return raw_stream(tmp_path_factory.mktemp("s") / "t", [ids[:40], ids[40:41], [], ids[41:43], ids[43:]])


@given(st.lists(st.tuples(st.integers(0, 98), st.integers(0, 98)), min_size=1, max_size=5))
def test_pieces_are_what_stands_there_across_any_shards(stream, spans):
    pieces = [(min(span), max(span) - min(span)) for span in spans]
    starts, counts = np.array([p[0] for p in pieces], int), np.array([p[1] for p in pieces], int)
    wanted = [number for start, count in pieces for number in range(start + 1, start + 1 + count)]
    assert stream.pieces(starts, counts).tolist() == wanted


def test_reading_past_the_end_gives_what_is_there(stream):
    assert stream.read(95, 10).tolist() == [96, 97, 98, 99]
    assert stream.read(99, 10).tolist() == []


def test_document_starts_are_the_places_of_end_of_text(tmp_path):
    stream = raw_stream(tmp_path, [[5, 0, 1, 2, 0], [0, 3], [4, 0]])
    assert stream.document_starts.tolist() == [1, 4, 5, 8]
    assert stream.document_starts.dtype == np.int64


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_an_id_beyond_the_vocabulary_is_named_with_its_file_and_place(tmp_path, dtype):
    stream = raw_stream(tmp_path, [[1, 2, 3], [4, 5, 100, 6]], vocab_size=100, dtype=dtype)
    assert stream.read(0, 5).tolist() == [1, 2, 3, 4, 5]
    for reading in (
        lambda: stream.read(2, 5),
        lambda: stream.pieces(np.array([0, 3]), np.array([3, 3])),
        stream.counts,
    ):
        with pytest.raises(BadInput, match=r"train_00001\.bin: token 2 is 100, beyond the vocabulary of 100"):
            reading()
