import io
import math
import sys

import pytest
import torch

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate import line_scores
from gpt2lab.evaluate.line_scores import score_file, score_lines


def one_by_one(model, line):
    """The log-likelihood of a short line by a plain forward pass."""
    ids = model.tokenizer.encode(line)
    tokens = torch.tensor([[model.tokenizer.end_of_text, *ids]])
    with torch.inference_mode():
        log_probs = model.network(tokens[:, :-1])[0].log_softmax(-1)
    return float(log_probs[range(len(ids)), tokens[0, 1:]].sum())


def test_lines_are_scored_alone_after_end_of_text_and_in_order(small_model):
    lines = ["The cat in the garden", "", " ", "caf\xe9 \u732b", "The cat in the garden"]
    found = score_lines(small_model, lines)
    assert [each.line for each in found] == [1, 2, 3, 4, 5]
    assert [each.bytes for each in found] == [21, 0, 1, 9, 21]
    assert (found[1].log_likelihood, found[1].tokens) == (None, 0)
    for line, each in zip(lines, found, strict=True):
        assert each.tokens == len(small_model.tokenizer.encode(line))
        if line:
            assert each.log_likelihood == pytest.approx(one_by_one(small_model, line), abs=1e-4)


def test_a_line_longer_than_the_context_is_scored_whole(small_model, sentences):
    line = sentences[0].replace("\n", " ")
    ids = small_model.tokenizer.encode(line)
    window = small_model.network.config.context_length
    assert len(ids) > 3 * window
    (found,) = score_lines(small_model, [line])
    document = [small_model.tokenizer.end_of_text, *ids]
    wanted, scored = 0.0, 1
    while scored < len(document):
        end = min(len(document), scored + (window if scored == 1 else window // 2))
        tokens = torch.tensor([document[max(0, end - window - 1) : end]])
        with torch.inference_mode():
            log_probs = small_model.network(tokens[:, :-1])[0].log_softmax(-1)
        wanted += float(log_probs.gather(1, tokens[0, 1:, None])[scored - end :].sum())
        scored = end
    assert (found.tokens, found.log_likelihood) == (len(ids), pytest.approx(wanted, abs=1e-3))


def test_files_and_standard_input_give_the_same_in_any_batches(small_model, tmp_path, monkeypatch):
    content = "\ufeffThe cat\r\n\nThe dog\u2028sleeps\nlast".encode()
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    found = list(score_file(small_model, path))
    assert [each.bytes for each in found] == [7, 0, 16, 4]
    monkeypatch.setattr(line_scores, "LINES_AT_ONCE", 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    again = list(score_file(small_model, None))
    assert [(each.line, each.tokens) for each in again] == [(each.line, each.tokens) for each in found]
    assert math.isclose(again[2].log_likelihood, found[2].log_likelihood, abs_tol=1e-4)


def test_what_is_no_text_is_named_by_line(small_model, tmp_path):
    (tmp_path / "zero.txt").write_bytes(b"\0")
    with pytest.raises(BadInput, match=r"zero\.txt: line 1 holds a zero byte: binary"):
        list(score_file(small_model, tmp_path / "zero.txt"))
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(BadInput, match=r"latin\.txt: line 2 is not UTF-8"):
        list(score_file(small_model, tmp_path / "latin.txt"))
