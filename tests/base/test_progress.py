"""Progress lines where output is no terminal."""

import gpt2lab.base.progress as progress
from gpt2lab.base.progress import duration, progress_bar, say


def test_a_long_stage_prints_plain_lines_and_its_end_once(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    with progress_bar("fetch", total=3, unit="pages") as bar:
        for _ in range(3):
            bar.advance(1, "1 MB")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("fetch: 3 of 3 pages, ")
    assert lines[-1].endswith("pages/s, 1 MB")


def test_a_short_stage_prints_nothing(capsys):
    with progress_bar("fetch", total=3) as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""


def test_skipped_work_counts_as_done_but_not_for_the_speed(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    with progress_bar("train", total=10) as bar:
        bar.skip(10)
    assert capsys.readouterr().err.splitlines() == ["train: 10 of 10 items, 0 items/s"]


def test_what_is_said_cannot_steer_the_terminal(capfd):
    say("tensor \x1b]0;owned\x07 is unknown\nnext line")
    assert capfd.readouterr().err == "tensor \ufffd]0;owned\ufffd is unknown\nnext line\n"


def test_a_pace_that_is_known_better_is_shown_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    with progress_bar("train", total=10, unit="tokens") as bar:
        bar.pace(12_345.6, 4000.0)
        bar.advance(5, "loss 2.500")
    assert capsys.readouterr().err.splitlines() == [
        "train: 5 of 10 tokens, 12,346 tokens/s, 1 h 7 min left, loss 2.500"
    ]


def test_lengths_of_time_are_said_in_two_units_at_most():
    said = [duration(seconds) for seconds in (0, 59.4, 59.6, 3570, 3599, 80_000, 90_000)]
    assert said == ["0 s", "59 s", "1 min", "1 h 0 min", "1 h 0 min", "22 h 13 min", "1 d 1 h"]
