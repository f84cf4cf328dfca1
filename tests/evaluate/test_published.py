"""What the paper and others published: the figures are those printed, and their protocols are ones our tasks have."""

import dataclasses

import pytest

from gpt2lab.evaluate.explain import VARIANTS, variant_tasks
from gpt2lab.evaluate.published import (
    MEASUREMENTS,
    PAPER,
    PAPER_OPTIONS,
    SIZES,
    has_options,
    is_same_size,
    measurements,
    nearest_size,
    paper_figure,
    set_of,
)
from gpt2lab.evaluate.tasks import (
    arc,
    boolq,
    cbt,
    enwik8,
    hellaswag,
    lambada,
    one_billion_words,
    piqa,
    ptb,
    text8,
    wikitext,
    winograd,
    winogrande,
)

PAPERS = [lambada, cbt, wikitext, ptb, one_billion_words, enwik8, text8, winograd]
CHOICES = [hellaswag, piqa, arc, winogrande, boolq]
TASKS = {label: task for module in PAPERS for label, task in module.PAPER.items()} | {
    label: task for module in CHOICES for label, task in module.LM_EVAL.items()
}
FAST_TASKS = {
    label: task for module in (wikitext, ptb, one_billion_words, enwik8, text8) for label, task in module.FAST.items()
}
OF_SET = {set_of(label): task for label, task in reversed(TASKS.items())}


def test_every_figure_of_table_3_is_there():
    printed = [column for column in PAPER.values() if column.where == "table 3"]
    assert len(printed) == 10
    for column in printed:
        assert list(column.values) == [size.name for size in SIZES]
        assert column.prior is not None
    assert paper_figure("wikitext103-roundtrip", "perplexity", SIZES[3]).value == 17.48
    assert paper_figure("lambada", "accuracy", SIZES[3]).value == 0.5266
    assert paper_figure("lambada", "accuracy", SIZES[0]) is None
    assert paper_figure("winograd", "accuracy", SIZES[0]).certainty == "read off a picture"
    assert paper_figure("piqa", "accuracy", SIZES[0]) is None


def test_the_papers_cbt_figures_are_counts_out_of_2000():
    """So each is a whole number of answers, which is how the validation set was found out to be theirs."""
    for name in ("cbt-cn", "cbt-ne"):
        for share in PAPER[name, "accuracy"].values.values():
            assert share * 2000 == pytest.approx(round(share * 2000), abs=1e-6)


def test_the_nearest_size_is_so_many_times_larger_or_smaller():
    assert nearest_size(803_840).name == "117M"
    assert nearest_size(367_419_392).name == "345M"
    assert nearest_size(10**12).name == "1542M"
    assert is_same_size(124_439_808, SIZES[0])
    assert is_same_size(124_475_904, SIZES[0])  # a vocabulary padded to 50,304
    assert not is_same_size(367_419_392, SIZES[1])


def test_measurements_are_found_by_any_label_of_their_set():
    raw = [one for one in measurements("wikitext103-roundtrip", "perplexity", SIZES[0]) if one.options]
    assert {one.values["117M"] for one in raw} == {37.5, 48.4}
    assert measurements("wikitext2-none", "perplexity", SIZES[1])[0].values["345M"] == 31.80


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda one: f"{one.set} {one.metric} {one.values}")
def test_every_measurements_options_are_a_tasks(measurement):
    task = OF_SET[measurement.set]
    assert measurement.values.keys() <= {size.name for size in SIZES}
    if measurement.options:
        changed = dataclasses.replace(task, **measurement.options)
        assert has_options(dataclasses.asdict(changed), measurement.options)


def test_the_papers_options_are_its_tasks():
    for name, options in PAPER_OPTIONS.items():
        assert has_options(dataclasses.asdict(OF_SET[name]), options), name


@pytest.mark.parametrize("tasks", [TASKS, FAST_TASKS], ids=["paper", "fast"])
def test_every_variant_is_an_option_of_its_task(tasks):
    for label, task in tasks.items():
        if set_of(label) in VARIANTS:
            changed = variant_tasks(set_of(label), task)
            assert len(changed) >= 3
            assert all(type(other) is type(task) for _, other in changed)


def test_every_set_of_the_paper_is_explained_by_its_own_protocol_too():
    """Each measurement whose protocol our options can say is among the variants of its set."""
    for measurement in MEASUREMENTS:
        if measurement.options is None or measurement.set not in VARIANTS:
            continue
        changed = [dataclasses.asdict(task) for _, task in variant_tasks(measurement.set, OF_SET[measurement.set])]
        assert any(has_options(options, measurement.options) for options in changed), measurement


def test_every_set_of_the_paper_has_variants():
    assert {name for name, _ in PAPER} <= set(VARIANTS)
