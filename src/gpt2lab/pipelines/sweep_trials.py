"""What a sweep tries: `--over FIELD=VALUES` and a search become the settings of trials. No torch here.

optimizer.weight_decay=0,0.1              these values
optimizer.learning_rate=1e-4..1e-2        points or draws of a range: in equal factors where it spans a decade or
                                          more, else in equal steps
optimizer.weight_decay=0.02..0.1:log      in equal factors all the same; :linear in equal steps
"""

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gpt2lab.base.errors import BadOption
from gpt2lab.train.recipe import Recipe, recipe_from_json, recipe_to_json

Search = Literal["grid", "random", "geometric"]
Value = bool | int | float | str
Settings = dict[str, Value]
"""The swept fields, by their dotted names in recipe.json, with the values of one trial."""

POINTS_OF_A_RANGE = 5
RANDOM_TRIALS = 10
DRAWS_FOR_A_NEW_TRIAL = 200
DECADE = 10 * (1 - 1e-9)  # 1e-3..1e-2 is one, whatever its ends are in binary
SIGNIFICANT_DIGITS = 4  # of values between the ends of a range: a command that holds them can be read and typed
NOT_SWEPT = {
    "name": "it is only a name",
    **dict.fromkeys(
        ("watch.validation_sequences", "model.context_length", "data.document_mask"),
        "losses on different held-out text can't be compared",
    ),
}

_RANGE = re.compile(r"(?P<low>[^,]+?)\.\.(?P<high>[^,]+?)(:(?P<scale>log|linear))?")


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, of whole ones only where the field has them."""

    low: float
    high: float
    scale: Literal["log", "linear"]
    whole: bool

    def points(self, count: int) -> list[Value]:
        """`count` values from end to end, fewer where there are no more whole ones."""
        spaced = np.geomspace if self.scale == "log" else np.linspace
        return list(dict.fromkeys(self._settled(value) for value in spaced(self.low, self.high, count)))

    def draw(self, chooser: np.random.Generator) -> Value:
        """A value drawn uniformly, or uniformly in the logarithm."""
        room = 0.5 if self.whole else 0.0  # so that the whole numbers at the ends have their share
        low, high = self.low - room, self.high + room
        if self.scale == "log":
            return self._settled(math.exp(chooser.uniform(math.log(low), math.log(high))))
        return self._settled(chooser.uniform(low, high))

    def _settled(self, value: float) -> Value:
        rounded = round(value) if self.whole else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        return min(max(rounded, self.low), self.high)


def trials_of(recipe: Recipe, over: Sequence[str], search: Search, trials: int | None) -> list[Settings]:
    """The settings of each trial, every one of them a recipe that can be trained, none twice.

    grid and geometric take every combination of the values: as many points of each range as `trials` allows, 5 unless
    it is given. random draws `trials` (10) combinations; more trials begin with the same ones. Raises BadOption for a
    field or value that is none of the recipe's, and for too few or no trials.
    """
    if trials is not None and trials < 1:
        raise BadOption(f"--trials {trials}: must be at least 1.")
    values = _parsed(recipe, over, search)
    if search == "random":
        settings = _drawn(values, RANDOM_TRIALS if trials is None else trials, recipe.seed)
    else:
        settings = _combinations(values, trials)
    for each in settings:
        recipe_with(recipe, each)
    return settings


def recipe_with(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with some fields set; raises BadOption for values that it can't have."""
    json = recipe_to_json(recipe)
    for field, value in settings.items():
        *parents, name = field.split(".")
        group = json
        for parent in parents:
            group = group[parent]
        group[name] = value
    return recipe_from_json(json, "--over")


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """The last word of each field's name, or the whole name where another field has the same last word."""
    last = [field.rpartition(".")[2] for field in fields]
    return {field: word if last.count(word) == 1 else field for field, word in zip(fields, last, strict=True)}


def _fields(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a recipe in JSON by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _fields(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _parsed(recipe: Recipe, over: Sequence[str], search: Search) -> dict[str, Range | list[Value]]:
    """What each field is to be, in the order given."""
    if not over:
        raise BadOption("nothing to sweep over: give --over FIELD=VALUES, as in optimizer.learning_rate=1e-4..1e-2.")
    # Through JSON, so that a field of floats has one, whatever was put there.
    known = _fields(recipe_to_json(recipe_from_json(recipe_to_json(recipe), recipe.name)))
    found: dict[str, Range | list[Value]] = {}
    for text in over:
        name, equals, given = text.partition("=")
        field = name.strip().replace("-", "_")
        if not equals:
            raise BadOption(f"--over {text}: write it as FIELD=VALUES, as in optimizer.learning_rate=1e-4..1e-2.")
        if field not in known:
            raise BadOption(f"--over {text}: no field {field!r} in a recipe{_near(field, known)}.")
        if field in NOT_SWEPT:
            raise BadOption(f"--over {text}: {field} can't be swept: {NOT_SWEPT[field]}.")
        if isinstance(known[field], list):
            raise BadOption(f"--over {text}: {field} is a list in itself and can't be swept.")
        if field in found:
            raise BadOption(f"--over {text}: {field} is there twice; put all of its values into one --over.")
        found[field] = _values(given, type(known[field]), search, text)
    return found


def _near(field: str, known: dict[str, Any]) -> str:
    last = field.rpartition(".")[2]
    near = [name for name in known if name.rpartition(".")[2] == last]
    near += [name for name in difflib.get_close_matches(field, known, n=3, cutoff=0.6) if name not in near]
    groups = ", ".join(dict.fromkeys(name.partition(".")[0] for name in known))
    return f"; near it are {', '.join(near)}" if near else f"; it begins with {groups}"


def _values(given: str, kind: type, search: Search, text: str) -> Range | list[Value]:
    """The range or the values that stand behind a field's name."""
    if match := _RANGE.fullmatch(given.strip()):
        return _range(match, kind, search, text)
    if ".." in given:
        raise BadOption(f"--over {text}: either one range A..B or values with commas between them.")
    values = [_value(word.strip(), kind) for word in given.split(",")]
    if "" in values:
        raise BadOption(f"--over {text}: a value is missing.")
    if repeated := [value for n, value in enumerate(values) if value in values[:n]]:
        raise BadOption(f"--over {text}: {repeated[0]} is there twice.")
    if len(values) < 2:
        option = "--" + text.partition("=")[0].strip().replace("_", "-")
        raise BadOption(f"--over {text}: one value leaves no choice; set it with {option} instead.")
    return values


def _range(match: re.Match[str], kind: type, search: Search, text: str) -> Range:
    low, high = (_value(match[end].strip(), kind) for end in ("low", "high"))
    if kind not in (int, float):
        raise BadOption(f"--over {text}: only numbers have ranges; give the values with commas between them.")
    for end in (low, high):
        if not isinstance(end, int | float) or not math.isfinite(end) or (kind is int and not isinstance(end, int)):
            raise BadOption(f"--over {text}: {end} is no {'whole ' if kind is int else ''}number.")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low >= high:
        raise BadOption(f"--over {text}: an empty range; its start must be below its end.")
    asked = match["scale"]
    if search == "geometric" and asked == "linear":
        raise BadOption(f"--over {text}: :linear and --search geometric exclude each other; take --search grid.")
    if search == "geometric" or asked == "log" or (asked is None and low > 0 and high / low >= DECADE):
        if low <= 0:
            raise BadOption(f"--over {text}: equal factors need a start above 0.")
        return Range(kind(low), kind(high), "log", kind is int)
    return Range(kind(low), kind(high), "linear", kind is int)


def _value(word: str, kind: type) -> Value:
    """What a word means; whether the field can be that is the recipe's to say."""
    if kind is bool and word in ("true", "false"):
        return word == "true"
    if kind in (int, float):
        try:
            value = float(word)
        except ValueError:
            return word
        return int(word) if re.fullmatch(r"[+-]?\d+", word) else int(value) if kind is int and value % 1 == 0 else value
    return word


def _combinations(values: dict[str, Range | list[Value]], trials: int | None) -> list[Settings]:
    ranges = sum(isinstance(each, Range) for each in values.values())
    listed = math.prod(len(each) for each in values.values() if not isinstance(each, Range))
    points = POINTS_OF_A_RANGE
    if trials is not None:
        least = listed * 2**ranges
        if trials < least:
            raise BadOption(f"--trials {trials}: what --over says makes {least} at least; sweep over less.")
        points = int((trials / listed) ** (1 / ranges) + 1e-9) if ranges else 0
    choices = [each.points(points) if isinstance(each, Range) else each for each in values.values()]
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*choices)]


def _drawn(values: dict[str, Range | list[Value]], trials: int, seed: int) -> list[Settings]:
    chooser = np.random.default_rng(seed)
    found: list[Settings] = []
    while len(found) < trials:
        for _ in range(DRAWS_FOR_A_NEW_TRIAL):
            # By name, so that the order of the options makes no other sweep.
            settings = {
                field: each.draw(chooser) if isinstance(each, Range) else each[chooser.integers(len(each))]
                for field, each in sorted(values.items())
            }
            if settings not in found:
                found.append(settings)
                break
        else:
            return found  # all there are, as far as can be told
    return found
