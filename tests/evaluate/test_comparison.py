"""Two runs compared: the tests are the right ones, and only what can be compared is."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tests.evaluate.made_results import MODEL, found_file, write_run

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.comparison import compare_metric, compare_runs, comparison_text, mcnemar
from gpt2lab.evaluate.statistics import Metric


def answers(*right):
    return [{"item": str(number), "accuracy": bool(answer)} for number, answer in enumerate(right)]


def rates(nats, units=None):
    return [
        {"item": str(number), "nats": float(nat), "units": 10 if units is None else units[number]}
        for number, nat in enumerate(nats)
    ]


@pytest.fixture
def compared(tmp_path):
    """A function from the rows of two runs of one task, and what else differs, to the comparison of that task."""

    def compare(rows_a, rows_b, label="lambada", a=None, b=None):
        write_run(tmp_path / "a", {label: rows_a}, **(a or {}))
        write_run(tmp_path / "b", {label: rows_b}, **(b or {}))
        return compare_runs(tmp_path / "a", tmp_path / "b").tasks[0]

    return compare


@pytest.mark.parametrize("counts", [(0, 0), (5, 0), (3, 11), (40, 61), (700, 300), (400, 430)])
def test_mcnemars_p_is_that_of_the_binomial_test(counts):
    tosses = sum(counts)
    tail = sum(math.comb(tosses, k) for k in range(min(counts) + 1))
    expected = min(1, 2 * Fraction(tail, 2**tosses))
    assert mcnemar(*counts) == pytest.approx(float(expected), rel=1e-12)


def test_mcnemars_p_is_scipys():
    """As scipy.stats.binomtest(5, 25, 0.5) gives it."""
    assert mcnemar(20, 5) == pytest.approx(0.0040773153305053, rel=1e-12)


def test_accuracies_are_compared_on_the_items_that_one_model_alone_gets_right(compared):
    right_in_both = [1] * 60 + [0] * 20
    task = compared(answers(*right_in_both, *[1] * 3, *[0] * 17), answers(*right_in_both, *[0] * 3, *[1] * 17))
    (metric,) = task.metrics
    assert (metric.test, metric.items, metric.only_a, metric.only_b) == ("McNemar", 100, 3, 17)
    assert metric.p == pytest.approx(2 * sum(math.comb(20, k) for k in range(4)) / 2**20)
    assert metric.difference.value == pytest.approx(0.14)
    error = math.sqrt(0.2 - 0.14**2) / 10  # of a mean of 100 differences, 20 of them 1 or -1
    assert metric.difference.low == pytest.approx(0.14 - 1.96 * error, abs=0.012)
    assert metric.difference.high == pytest.approx(0.14 + 1.96 * error, abs=0.012)
    assert metric.better == "b"


def test_a_small_steady_gain_is_seen_in_noise_that_both_share(compared):
    chooser = np.random.default_rng(5)
    hard = chooser.gamma(2.0, 20.0, 400)
    gains = chooser.normal(0.3, 0.5, 400)
    metric = compared(rates(hard), rates(hard - gains)).metrics[0]
    assert metric.test == "paired blocks"
    assert metric.better == "b"
    assert metric.p < 0.001
    assert metric.a == pytest.approx(math.exp(hard.sum() / 4000))
    per_unit = metric.log_likelihood
    assert per_unit.value == pytest.approx(gains.sum() / 4000)
    error = gains.std(ddof=1) / math.sqrt(400) / 10
    assert per_unit.low == pytest.approx(per_unit.value - 1.96 * error, abs=0.3 * error)
    assert per_unit.high == pytest.approx(per_unit.value + 1.96 * error, abs=0.3 * error)


def test_equal_models_differ_by_chance_as_often_as_p_says():
    """Of many pairs of equal models about one in twenty has p < 0.05."""
    chooser = np.random.default_rng(2)
    seen = 0
    for _ in range(40):
        hard = chooser.gamma(2.0, 20.0, 300)
        pair = [rates(hard + chooser.normal(0, 2, 300)) for _ in "ab"]
        value = math.exp(sum(row["nats"] for row in pair[0]) / 3000)
        metric = Metric("perplexity", value, None, None, None, 300)
        seen += compare_metric(metric, metric, *pair).p < 0.05
    assert seen <= 6


def test_the_same_run_twice_does_not_differ(compared):
    rows = [row | {"accuracy": number % 3 == 0} for number, row in enumerate(rates(range(10, 60)))]
    for metric in compared(rows, rows).metrics:
        assert metric.difference.value == 0
        assert metric.p == 1
        assert metric.better == "neither"


def test_bits_are_compared_in_bits(compared):
    metric = compared(rates([10.0] * 50), rates([9.0] * 50), label="text8").metrics[0]
    assert metric.difference.value == pytest.approx(-0.1 / math.log(2))
    assert metric.log_likelihood.value == pytest.approx(0.1)


def test_items_of_one_run_alone_are_left_out_and_told(compared):
    task = compared(answers(1, 0, 1, 1), answers(1, 1, 1))
    assert task.metrics[0].items == 3
    assert "1 items that one run alone has are left out" in task.notes


def test_other_units_are_not_paired(compared):
    """With another tokenizer the same item has another number of tokens."""
    metric = compared(rates([30, 31, 29, 33]), rates([30, 31, 29, 33], [9, 10, 11, 12])).metrics[0]
    assert metric.test == "not paired"
    assert "units" in metric.why_not_paired


def test_what_is_counted_a_token_is_not_compared_between_tokenizers(compared):
    rows = rates([30, 31, 29, 33])
    other = {"model": replace(MODEL, tokenizer_sha256="e" * 64), "options": {"unit": "bpe"}}
    task = compared(rows, rows, label="ptb", a={"options": {"unit": "bpe"}}, b=other)
    assert task.metrics == ()
    assert "perplexity is not compared: the models have other tokens" in task.notes


def test_a_metric_that_rows_say_nothing_of_is_compared_by_its_errors(tmp_path):
    for name, least in (("a", 20.0), ("b", 26.0)):
        write_run(tmp_path / name, {"ptb": rates([least + number % 7 for number in range(40)])})
        bare = "".join(json.dumps({"item": str(number)}) + "\n" for number in range(40))
        (tmp_path / name / "items" / "ptb.jsonl").write_text(bare)
    metric = compare_runs(tmp_path / "a", tmp_path / "b").tasks[0].metrics[0]
    assert metric.test == "not paired"
    assert (metric.p < 0.001, metric.better) == (True, "a")
    assert "ptb: perplexity: not paired" in comparison_text(compare_runs(tmp_path / "a", tmp_path / "b"))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"version": 2}, "version 1 and lambada version 2"),
        ({"options": {"stride": 1024}}, "options: stride 32 and 1024"),
        ({"files": [found_file("e" * 64)]}, "data: not the same test.txt"),
    ],
)
def test_runs_of_other_questions_are_not_compared_and_the_reason_is_told(compared, tmp_path, other, words):
    usual = {"options": {"stride": 32}, "files": [found_file()]}
    task = compared(answers(1, 0), answers(0, 0), a=usual, b=usual | other)
    assert task.metrics == ()
    assert words in task.differs
    text = comparison_text(compare_runs(tmp_path / "a", tmp_path / "b"))
    assert f"lambada: not compared: {task.differs}." in text


def test_runs_without_a_common_task_are_refused(tmp_path):
    write_run(tmp_path / "a", {"lambada": answers(1, 0)})
    write_run(tmp_path / "b", {"piqa": answers(1, 0)})
    with pytest.raises(BadInput, match="no task in common \\(lambada and piqa\\)"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(BadInput, match="no such file"):
        compare_runs(tmp_path / "a", tmp_path / "absent")


def test_lost_rows_are_told(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, {"lambada": answers(1, 0)})
    (tmp_path / "b" / "items" / "lambada.jsonl").unlink()
    with pytest.raises(BadInput, match=r"lambada\.jsonl is absent"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_the_report_and_the_table_show_both_runs(tmp_path):
    from gpt2lab.pipelines.comparison_report import write_comparison_report

    write_run(tmp_path / "a", {"lambada": answers(*[0] * 30, *[1] * 10), "ptb": rates(range(20, 60))})
    better = replace(MODEL, source="models/better")
    write_run(
        tmp_path / "b", {"lambada": answers(*[1] * 40), "ptb": rates(range(20, 60)), "piqa": answers(1)}, model=better
    )
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    text = comparison_text(found)
    assert "models/better" in text
    assert "Of 2 figures, 0 are better in A, 1 in B, and 1 differs by no more than chance may" in text
    assert "only B has piqa." in text
    write_comparison_report(tmp_path / "out", found, "gpt2lab compare a b")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "lambada, accuracy,\u00a0%" in page
    assert "+75.00" in page
