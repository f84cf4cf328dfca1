"""How figures are said: accuracies in percent, perplexities and bits as they are, differences with their sign."""

from gpt2lab.evaluate.statistics import Metric

LARGE = 1e5
"""From here on a perplexity says no more than its order: that of a model that does not know the words at all."""


def is_share(name: str) -> bool:
    """Whether a metric is a share from 0 to 1, which is said in percent."""
    return name.startswith("accuracy")


def lower_is_better(name: str) -> bool:
    """Whether a smaller value is a better one: perplexities and bits, not accuracies."""
    return name.endswith("perplexity") or name.startswith("bits")


def metric_words(name: str) -> str:
    """A metric's name for readers, with its unit: `accuracy_norm` is "accuracy norm, %"."""
    return name.replace("_", " ") + (", %" if is_share(name) else "")


def scaled(name: str, value: float) -> float:
    """A value as it is said: in percent if it is a share."""
    return 100 * value if is_share(name) else value


def value_text(name: str, value: float) -> str:
    """A value as it is said, without its unit."""
    return _digits(name, scaled(name, value), scaled(name, value))


def metric_text(metric: Metric) -> str:
    """A value with its standard error, "45.99 ± 0.69"; alone where there is none."""
    value = value_text(metric.name, metric.value)
    if metric.standard_error is None:
        return value
    error = _digits(metric.name, scaled(metric.name, metric.standard_error), scaled(metric.name, metric.value))
    return f"{value} ± {error}"


def difference_text(name: str, difference: float, beside: float) -> str:
    """A difference with its sign and as many decimals as the value `beside` it has."""
    text = _digits(name, scaled(name, abs(difference)), scaled(name, beside))
    return ("−" if difference < 0 else "+") + text


def interval_text(name: str, low: float | None, high: float | None, beside: float) -> str:
    """A difference's 95 % interval, "−1.20 to +0.35"; a dash where it is not known."""
    if low is None or high is None:
        return "–"
    return f"{difference_text(name, low, beside)} to {difference_text(name, high, beside)}"


def range_text(name: str, low: float | None, high: float | None, beside: float) -> str:
    """A value's own 95 % interval, "44.63 to 47.35"; a dash where it is not known."""
    if low is None or high is None:
        return "–"
    return " to ".join(_digits(name, scaled(name, end), scaled(name, beside)) for end in (low, high))


def _digits(name: str, number: float, beside: float) -> str:
    """`number` with the decimals that suit the value `beside` it; from LARGE on as 1.92e9."""
    if name.startswith("bits"):
        return f"{number:,.3f}"
    if max(abs(number), abs(beside)) >= LARGE and number:
        digits, exponent = f"{number:.2e}".split("e")
        return f"{digits}e{int(exponent)}" if abs(number) >= 1000 else f"{number:.2f}"
    if abs(beside) >= 1e12:
        return f"{number:.3g}"
    decimals = 2 if abs(beside) < 100 else 1 if abs(beside) < 1000 else 0
    return f"{number:,.{decimals}f}"
