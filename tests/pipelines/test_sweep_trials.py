"""What a sweep tries follows from the command alone; what no recipe can have is refused before anything is trained."""

from dataclasses import replace

import pytest

from gpt2lab.base.errors import BadOption
from gpt2lab.pipelines.sweep_trials import recipe_with, short_names, trials_of
from gpt2lab.train.recipes import laptop

RECIPE = laptop("nano", 320)
RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"


def values_of(over: str, search="grid", trials=None) -> list:
    return [next(iter(settings.values())) for settings in trials_of(RECIPE, [over], search, trials)]


def test_a_range_of_a_decade_is_taken_in_equal_factors_and_a_shorter_one_in_equal_steps():
    assert values_of(f"{RATE}=5e-4..8e-3") == [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    assert values_of(f"{RATE}=1e-3..1e-2", trials=3) == [1e-3, 0.003162, 1e-2]
    assert values_of(f"{DECAY}=0.1..0.5") == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert values_of(f"{DECAY}=0.1..0.4", "geometric", 3) == [0.1, 0.2, 0.4]
    assert values_of(f"{DECAY}=0.1..0.4:log", trials=3) == [0.1, 0.2, 0.4]
    assert values_of(f"{DECAY}=0.1..10.1:linear", trials=3) == [0.1, 5.1, 10.1]


def test_whole_numbers_stay_whole_and_come_once():
    assert values_of("model.n_layer=2..4") == [2, 3, 4]
    assert values_of("batch.sequences=1e1,2e1") == [10, 20]
    drawn = values_of("model.n_layer=1..4", "random", 50)
    assert sorted(drawn) == [1, 2, 3, 4]


def test_a_grid_is_every_combination_and_at_most_as_many_as_asked_for():
    settings = trials_of(RECIPE, [f"{RATE}=1e-4..1e-2", f"{DECAY}=0,0.1", "compile=false,true"], "grid", 14)
    assert len(settings) == 12
    assert settings[0] == {RATE: 1e-4, DECAY: 0, "compile": False}
    assert len({tuple(each.items()) for each in settings}) == 12
    assert recipe_with(RECIPE, settings[-1]).optimizer.weight_decay == 0.1
    assert recipe_with(RECIPE, settings[-1]).compile is True


def test_the_same_command_draws_the_same_trials_and_more_of_them_begin_alike():
    over = [f"{RATE}=1e-4..1e-2", "optimizer.name=adamw,adafactor,muon"]
    drawn = trials_of(RECIPE, over, "random", 40)
    assert trials_of(RECIPE, list(reversed(over)), "random", 40) == drawn
    assert trials_of(RECIPE, over, "random", None) == drawn[:10]
    assert trials_of(replace(RECIPE, seed=1), over, "random", 40) != drawn
    rates = [each[RATE] for each in drawn]
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-2
    assert 10 <= sum(rate < 1e-3 for rate in rates) <= 30, "half of the draws lie in each decade"


def test_names_are_as_short_as_they_can_be():
    assert short_names([RATE, DECAY]) == {RATE: "learning_rate", DECAY: "weight_decay"}
    both = [RATE, "optimizer.muon.learning_rate"]
    assert short_names(both) == {field: field for field in both}


@pytest.mark.parametrize(
    ("over", "search", "trials", "said"),
    [
        ([], "grid", None, "nothing to sweep over: give --over FIELD=VALUES"),
        ([RATE], "grid", None, "write it as FIELD=VALUES"),
        (["learning_rate=1,2"], "grid", None, "near it are optimizer.learning_rate, optimizer.muon.learning_rate"),
        (["optimizer.wieght_decay=0,1"], "grid", None, "near it are optimizer.weight_decay"),
        (["zzz=0,1"], "grid", None, "it begins with name, model, optimizer"),
        (["optimizer=0,1"], "grid", None, "no field 'optimizer' in a recipe"),
        ([f"{RATE}=1e-2..1e-4"], "grid", None, "an empty range; its start must be below its end"),
        ([f"{RATE}=1e-2..1e-2"], "grid", None, "an empty range"),
        ([f"{RATE}=1e-4..1e-3", f"{RATE}=5e-4..1e-2"], "grid", None, f"{RATE} is there twice"),
        ([f"{RATE}=1e-4..1e-3,1e-2"], "grid", None, "either one range"),
        ([f"{RATE}=1e-4..nan"], "grid", None, "nan is no number"),
        ([f"{RATE}=1e-4..fast"], "grid", None, "fast is no number"),
        (["model.n_layer=1.5..4"], "grid", None, "1.5 is no whole number"),
        (["compile=false..true"], "grid", None, "only numbers have ranges"),
        ([f"{DECAY}=0..0.1"], "geometric", None, "equal factors need a start above 0"),
        ([f"{DECAY}=0.1..0.2:linear"], "geometric", None, ":linear and --search geometric exclude each other"),
        ([f"{DECAY}=0.1,,0.2"], "grid", None, "a value is missing"),
        ([f"{DECAY}=0.1,0.2,1e-1"], "grid", None, "0.1 is there twice"),
        ([f"{RATE}=1e-3"], "grid", None, "one value leaves no choice; set it with --optimizer.learning-rate"),
        (["optimizer.name=adamw,sgd"], "grid", None, "'sgd' must be one of adamw, adafactor, muon"),
        (["compile=true,yes"], "grid", None, "compile = 'yes' must be of type bool"),
        (["batch.sequences=1.5,2"], "grid", None, "batch.sequences = 1.5 must be of type int"),
        ([f"{RATE}=-1,1e-3"], "grid", None, "must be above 0"),
        (["model.n_embd=250,256"], "grid", None, "can't be divided"),
        (["name=a,b"], "grid", None, "it is only a name"),
        (["watch.validation_sequences=1,2"], "grid", None, "can't be compared"),
        (["data.weights=1,2"], "grid", None, "a list in itself"),
        ([f"{RATE}=1e-4..1e-2"], "random", 0, "--trials 0: must be at least 1"),
        ([f"{RATE}=1e-4..1e-2", f"{DECAY}=0,0.1"], "grid", 3, "--trials 3: what --over says makes 4 at least"),
    ],
)
def test_what_no_recipe_can_have_is_refused(over, search, trials, said):
    with pytest.raises(BadOption) as refused:
        trials_of(RECIPE, over, search, trials)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
