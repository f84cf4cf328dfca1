"""The report of an evaluation: the paper's figures beside ours for any model, however small or large."""

import html
import re
from dataclasses import replace

import pytest
from tests.evaluate.made_results import MODEL, found_file, made_suite, made_task

from gpt2lab.evaluate.results import ItemOverlap, read_results, write_results
from gpt2lab.evaluate.statistics import accuracy
from gpt2lab.pipelines.evaluation_report import evaluation_text, write_evaluation_report

SMALLEST = replace(MODEL, source="gpt2", parameters=124_439_808, context_length=1024)


def rows(right=920, items=2000):
    return [{"item": str(n), "accuracy_filtered": n < right, "nats": 3.5591, "units": 1} for n in range(items)]


def streams(nats=3.6243):
    return [{"item": str(n), "nats": nats * 10 + n % 2 - 0.5, "units": 10} for n in range(40)]


AS_IT_IS = {"text": "v1", "detokenizer": "none", "stride": 32, "unit": "words+eos", "bos": "none", "scope": "stream"}


@pytest.fixture
def page(tmp_path):
    """A function from a result to the text of its report, as a reader sees it."""

    def read(result, others=()):
        write_evaluation_report(tmp_path, result, others)
        text = (tmp_path / "report.html").read_text()
        return " ".join(html.unescape(re.sub("<[^>]*>", " ", text.partition("</style>")[2])).split())

    return read


def test_a_model_of_a_published_size_stands_beside_the_papers(page):
    result = made_suite(made_task("lambada", rows()), made_task("wikitext103", streams(), AS_IT_IS), model=SMALLEST)
    text = page(result)
    assert "beside the paper's 117M, all 3 figures differ by no more than their errors." in text
    assert "lambada, accuracy filtered, % 45.99 46.00 ± 1.11 +0.01 −2.16 to +2.20" in text
    assert "In-Context RALM, arXiv 2302.00083, table 1" in text
    assert "Nearest size" not in text
    assert "sha256 " + "a" * 64 in text


def test_a_small_model_is_told_how_far_it_is_from_any_size_of_the_paper(page):
    result = made_suite(made_task("wikitext103", streams(6.5), AS_IT_IS | {"stride": 1024}))
    text = page(result)
    assert "the nearest size and 155 times larger, all 1 figure is worse" not in text
    assert "beside the paper's 117M, the nearest size and 155 times larger, its 1 figure is worse." in text
    assert "The model sees 32 tokens, GPT-2 1,024" in text
    assert "stride: 1,024 (paper: 32)" in text
    assert "In-Context RALM" not in text, "the released weights' figures say nothing of another size"


def test_what_was_not_as_in_the_paper_is_told(page):
    changed = made_task("lambada", rows(), {"prefix": "none", "limit": 60}, [found_file(official=False)])
    text = page(
        replace(
            made_suite(replace(changed, truncated=3)),
            absent={"ptb": "It is nowhere.", "x": "Gone.", "ptb-none": "It is nowhere."},
        )
    )
    assert "Sets that were left out ptb, ptb-none: It is nowhere. x: Gone." in text
    assert (
        "test.txt is not the published file; prefix: none (paper: newline); the first 60 items only; 3 items cut to"
        " the model's context" in text
    )


def test_overlapping_items_and_the_scores_without_them_are_shown(page):
    without = (accuracy("accuracy_filtered", [True] * 40 + [False] * 60),)
    task = replace(made_task("lambada", rows()), overlap=ItemOverlap(("build",), 20_000, 240, 2_000, 1_900, without))
    text = page(made_suite(task, model=SMALLEST))
    assert "lambada 20,000 1.20 1.20 1,900 2,000" in text
    assert "lambada, accuracy filtered, % 46.00 ± 1.11 40.00 ± 4.90 −6.00 100" in text
    assert "lambada, perplexity 35.13 ± 0.00 – – 0" in text
    assert "Training documents: build." in text


def test_other_runs_are_drawn_and_listed_by_size(page, tmp_path):
    larger = made_suite(
        made_task("lambada", rows(1265)), model=replace(SMALLEST, source="xl", parameters=1_557_611_200)
    )
    text = page(made_suite(made_task("lambada", rows()), model=SMALLEST), [larger])
    assert "figure gpt2 (124.4 M) xl (1.56 B)" in text
    drawn = (tmp_path / "report.html").read_text()
    assert drawn.count("<svg") == 2
    assert "Scores over the size of the model (higher is better)" in drawn


def test_sets_that_the_paper_has_not_make_a_report_too(page):
    text = page(made_suite(made_task("piqa", [{"item": str(n), "accuracy": n % 2 == 0} for n in range(50)])))
    assert "was measured on 1 set with 50 items; the paper has no figures for these." in text
    assert "figure ours 95 % piqa, accuracy, % 50.00 ± 7.07 36.64 to 63.36" in text


def test_texts_of_the_open_web_stay_texts(tmp_path):
    result = made_suite(made_task("lambada", rows()), model=replace(SMALLEST, source="<script>alert(1)</script>"))
    write_evaluation_report(tmp_path, result)
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_a_result_is_read_back_whole(tmp_path):
    task = made_task("lambada", rows(), {"prefix": "newline"}, [found_file()])
    task = replace(task, overlap=ItemOverlap(("build",), 20, 2, 10, 1, task.metrics))
    result = made_suite(task, model=SMALLEST)
    write_results(tmp_path, result)
    assert read_results(tmp_path) == result


def test_the_terminal_has_the_same_table():
    text = evaluation_text(made_suite(made_task("enwik8", streams(0.8041)), model=SMALLEST))
    head, row, _, outcome = text.splitlines()
    assert head.split() == "set metric paper 117M ours difference its 95 % items not as in the paper".split()
    assert row.split()[:6] == ["enwik8", "bits", "per", "byte", "1.160", "1.160"]
    assert outcome.endswith("its 1 figure differs by no more than its error.")


def test_a_limit_is_told_where_it_left_items_out():
    short = made_task("lambada", rows(), {"limit": 10_000})
    assert "items only" not in evaluation_text(made_suite(short))


def test_perplexities_of_a_model_that_knows_nothing_stay_readable():
    text = evaluation_text(made_suite(made_task("wikitext2", streams(21.374))))
    assert "1.92e9 ± " in text
    assert "+1.92e9" in text
    assert len(text.splitlines()[0]) < 120


def test_the_overlap_stands_in_the_terminal_too():
    task = made_task("lambada", rows())
    overlap = ItemOverlap(("build",), 20_000, 240, 2_000, 1_900, (accuracy("accuracy_filtered", [True] * 4),))
    text = evaluation_text(made_suite(replace(task, overlap=overlap)))
    assert ["lambada", "20,000", "1.20", "1.20", "1,900", "2,000"] in [line.split() for line in text.splitlines()]
