"""`gpt2lab evaluate` and `compare` as they are called: what does not go together is said before anything is done."""

import pytest
import tyro

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.cli.comparing import compare_verb
from gpt2lab.cli.evaluating import evaluate_verb


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("docs --limit 5 --predict", "--limit --predict: only with tasks"),
        ("docs --suite table3", "give documents, or tasks"),
        ("--suite table3 --held-out-share 0.1", "--held-out-share: only with a folder of documents"),
        ("--suite table3 --predict --explain", "give --predict or --explain"),
        ("--suite table3 --explain --beside other", "--beside: not with --explain"),
        ("--set lambada.filter=none", "nothing to evaluate on: name --suite table3"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments, words):
    with pytest.raises(BadOption, match=words):
        tyro.cli(evaluate_verb(), args=["model", *arguments.split()])


def test_a_comparison_does_not_replace_the_report_of_an_evaluation(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(BadOption, match=r"holds an evaluation, whose report\.html would be lost"):
        tyro.cli(compare_verb(), args=[str(tmp_path), str(tmp_path), "--out", str(tmp_path)])


def test_a_folder_without_results_is_told_how_to_get_them(tmp_path):
    with pytest.raises(BadInput, match=r"no results\.json in it; make one with `gpt2lab evaluate"):
        tyro.cli(compare_verb(), args=[str(tmp_path), str(tmp_path)])
