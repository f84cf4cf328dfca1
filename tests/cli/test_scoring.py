"""`gpt2lab score` as it is called, on files and lists."""

import io
import json
import sys

import pytest
import tyro

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.cli.scoring import score_verb


@pytest.fixture(scope="module")
def model_folder(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model_folder(folder, small_model.network, small_model.tokenizer, {})
    return folder


@pytest.fixture
def score(model_folder):
    def call(*arguments):
        tyro.cli(score_verb(), args=[str(model_folder), *map(str, arguments)])

    return call


def test_lines_come_out_as_json_lines_or_tsv(score, tmp_path, capsys, monkeypatch):
    (tmp_path / "lines.txt").write_text("The cat\n\nThe dog\n")
    score(tmp_path / "lines.txt")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in rows] == [["line", "log_likelihood", "tokens", "bytes"]] * 3
    assert rows[0]["log_likelihood"] < 0
    assert rows[1] == {"line": 2, "log_likelihood": None, "tokens": 0, "bytes": 0}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat\n\n")))
    score("-", "--format", "tsv", "--out", tmp_path / "scores.tsv")
    table = (tmp_path / "scores.tsv").read_text().splitlines()
    assert (table[0], table[2]) == ("line\tlog_likelihood\ttokens\tbytes", "2\t\t0\t0")
    assert float(table[1].split("\t")[1]) == pytest.approx(rows[0]["log_likelihood"], abs=1e-4)


@pytest.fixture
def lists(tmp_path):
    rows = [
        {
            "id": f"u{number}",
            "hypotheses": [{"text": "The cat hides", "score": -1.0}, {"text": "The cat x", "score": -1.5}],
            "reference": "The cat hides",
        }
        for number in range(6)
    ]
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "lists.jsonl"


def test_the_best_hypotheses_come_out_and_the_figures_are_told(score, lists, tmp_path, capsys):
    score("--nbest", lists)
    told = capsys.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["id"] for row in rows] == [f"u{number}" for number in range(6)]
    assert list(rows[0]) == ["id", "text", "rank", "score", "log_likelihood", "total"]
    assert "tuned on 2 utterances." in told.err
    assert "word error rate of 4 other utterances:\n  before    0.00%" in told.err
    score("--nbest", lists, "--weight", 0, "--json", "--out", tmp_path / "best.jsonl")
    found = json.loads(capsys.readouterr().out)
    assert (found["weight"], found["tuned_on"], found["best"]) == (0.0, 0, [])
    assert len((tmp_path / "best.jsonl").read_text().splitlines()) == 6


def test_options_that_do_not_go_together_are_named(score, lists, tmp_path):
    with pytest.raises(BadOption, match=r"give a text file \(or - for standard input\), or --nbest"):
        score()
    with pytest.raises(BadOption, match=r"give a text file \(or - for standard input\), or --nbest"):
        score(lists, "--nbest", lists)
    with pytest.raises(BadOption, match=r"--weight --json: only with --nbest\."):
        score(lists, "--json", "--weight", 1)
    with pytest.raises(BadOption, match=r"--weight nan: give a number\."):
        score("--nbest", lists, "--weight", "nan")
    (tmp_path / "references").write_text("elsewhere a word\n")
    with pytest.raises(BadInput, match=r"has none of the ids of .*: 'elsewhere' there, 'u0' here"):
        score("--nbest", lists, "--references", tmp_path / "references")
    with pytest.raises(BadInput, match=r"gone\.txt: no such file"):
        score(tmp_path / "gone.txt")
