"""The replication's sampling: one window in each group of joined documents, as his code takes it."""

import numpy as np
import pytest
from tests.tokens.raw_shards import raw_stream

from gpt2lab.base.errors import BadInput
from gpt2lab.tokens.connor_windows import ConnorWindows


def folder_of_documents(tmp_path, lengths):
    """Document n (from 1) has the tokens 1000 n + 0, 1, 2, ... so that each token tells where it is from."""
    ids: list[int] = []
    borders = []
    for number, length in enumerate(lengths, 1):
        ids += [0, *range(1000 * number, 1000 * number + length)]
        borders.append(len(ids))
    middle = borders[len(borders) // 2]
    return raw_stream(tmp_path, [ids[:middle], ids[middle:]], vocab_size=2**16, dtype="uint32")


def joined(batch, windows, places):
    """Each window with the text it must be a part of, joined by hand: text, end of text, text, ..."""
    inputs, targets = batch
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    for row, place in zip(np.column_stack([inputs, targets[:, -1]]), places, strict=True):
        text: list[int] = []
        for document in place[1:]:
            start = windows._starts[document]
            ids = windows.stream.read(int(start) + 1, int(windows._sizes[document]) - 1).tolist()
            text += [0, *ids] if text else ids
        yield row.tolist(), text, int(place[0])


def test_a_window_is_a_stretch_of_its_documents_joined_by_end_of_text(tmp_path):
    windows = ConnorWindows(folder_of_documents(tmp_path, [30, 12, 7, 50, 21, 33, 18, 9, 40, 25]), 20, 3, 7)
    assert windows.sequences == 3
    places = windows.places(np.arange(300, dtype=np.uint64), b"k")
    for row, text, start in joined(windows.read(places), windows, places):
        assert row == text[start : start + 21]


def test_each_pass_has_each_document_once_and_drops_the_remainder(tmp_path):
    windows = ConnorWindows(folder_of_documents(tmp_path, [30] * 11), 20, 2, 25)
    places = windows.places(np.arange(15, dtype=np.uint64), b"k")
    passes = places[:, 1:].reshape(3, 10)
    assert all(len(set(documents)) == 10 for documents in passes.tolist())
    assert len({tuple(documents) for documents in passes.tolist()}) == 3


def test_short_documents_are_dropped(tmp_path):
    stream = folder_of_documents(tmp_path, [24, 25, 26, 3, 60, 24])
    windows = ConnorWindows(stream, 20, 2, 25)
    inputs, _ = windows.read(windows.places(np.arange(100, dtype=np.uint64), b"k"))
    assert set((inputs[inputs > 0] // 1000).tolist()) == {2, 3, 5}


def test_the_window_begins_at_each_place_but_the_last_possible_one(tmp_path):
    """r is uniform in [0, size - (n_ctx + 1)), so that the last token of a text is never read."""
    windows = ConnorWindows(folder_of_documents(tmp_path, [25]), 20, 1, 25)
    places = windows.places(np.arange(4000, dtype=np.uint64), b"k")
    assert abs(np.bincount(places[:, 0]) - 1000).max() < 120
    assert len(np.bincount(places[:, 0])) == 25 - 21


def test_where_the_texts_are_too_short_the_next_documents_are_joined_on(tmp_path):
    """Two documents of half a context each are the case that the replication's "long" part can't cut."""
    windows = ConnorWindows(folder_of_documents(tmp_path, [10] * 9), 20, 2, 10)
    places = windows.places(np.arange(40, dtype=np.uint64), b"k")
    for row, text, start in joined(windows.read(places), windows, places):
        assert row == text[start : start + 21]
        assert start + 21 < 10 * 3 + 2


def test_the_share_of_tokens_predicted_is_that_of_an_epoch(tmp_path):
    stream = folder_of_documents(tmp_path, [30] * 12)
    assert ConnorWindows(stream, 20, 3, 25).share_predicted == 4 * 20 / (12 * 31)


def test_too_few_documents_are_refused(tmp_path):
    stream = folder_of_documents(tmp_path, [30] * 5)
    for arguments in ((20, 6, 25), (20, 2, 31), (200, 2, 25)):
        with pytest.raises(BadInput, match="are too few to join"):
            ConnorWindows(stream, *arguments)
