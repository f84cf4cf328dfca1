"""Figures with their errors: what a score would have been on other items of the same kind."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
RESAMPLES = 2000
BLOCKS = 100
_Z95 = 1.959963984540054
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom."""
_LEAST_UNITS = 1e-9
"""Instead of none at all, as some windows of a text with many blank lines have."""
_MOST_NATS = 700.0
"""Of which exp is still a float. A rate above it is of a text that hardly has such units, such as words in Chinese."""


@dataclass(frozen=True)
class Metric:
    """A figure over `items` items, with its standard error and its 95 % interval (None where they are not known).

    Of one item there is no error; a share has an interval even so.
    """

    name: str
    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    items: int


def accuracy(name: str, correct: Sequence[bool]) -> Metric:
    """The share of right answers, 0 to 1: binomial standard error, Wilson's interval."""
    n = len(correct)
    share = sum(correct) / n
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    reach = _Z95 / (1 + _Z95**2 / n) * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n * n))
    error = math.sqrt(share * (1 - share) / n) if n > 1 else None
    return Metric(name, share, error, max(0.0, centre - reach), min(1.0, centre + reach), n)


def perplexity(name: str, nats: Sequence[float], units: Sequence[float]) -> Metric:
    """All nats over all units, exponentiated; bootstrap over up to BLOCKS blocks of neighbouring items."""
    rate, error, low, high = _rate(nats, units)
    value = float(exp_nats(np.array(rate)))
    if error is None or low is None or high is None or high > _MOST_NATS:
        return Metric(name, value, None, None, None, len(nats))
    return Metric(name, value, value * error, math.exp(low), math.exp(high), len(nats))


def exp_nats(rates: Numbers) -> Numbers:
    """Perplexities of nats a unit; at most exp(700), about 1e304, so that none is infinite."""
    perplexities: Numbers = np.exp(np.minimum(rates, _MOST_NATS))
    return perplexities


def bits_per(name: str, nats: Sequence[float], units: Sequence[float]) -> Metric:
    """All nats over all units, in bits; errors as those of `perplexity`."""
    rate, error, low, high = _rate(nats, units)
    scaled = [None if x is None else x / math.log(2) for x in (error, low, high)]
    return Metric(name, rate / math.log(2), scaled[0], scaled[1], scaled[2], len(nats))


def ratio(name: str, tops: Sequence[float], bottoms: Sequence[float]) -> Metric:
    """All of the one over all of the other, such as errors over words; errors as those of `perplexity`."""
    return Metric(name, *_rate(tops, bottoms), len(tops))


def _rate(nats: Sequence[float], units: Sequence[float]) -> tuple[float, float | None, float | None, float | None]:
    """A ratio of sums, its standard error and 95 % interval by a bootstrap over blocks of neighbouring items."""
    tops, bottoms = np.asarray(nats, np.float64), np.asarray(units, np.float64)
    rate = float(tops.sum() / max(bottoms.sum(), _LEAST_UNITS))
    if len(tops) < 2:
        return rate, None, None, None
    starts = np.linspace(0, len(tops), min(BLOCKS, len(tops)) + 1).astype(np.int64)[:-1]
    tops, bottoms = np.add.reduceat(tops, starts), np.add.reduceat(bottoms, starts)
    rates = resampled_rates(tops, bottoms)
    low, high = widened_interval(rate, rates, len(starts))
    if (tops >= 0).all():
        low = max(0.0, low)
    return rate, float(rates.std(ddof=1)) * math.sqrt(len(starts) / (len(starts) - 1)), low, high


def widened_interval(value: float, resampled: Numbers, blocks: int) -> tuple[float, float]:
    """The 95 % interval of a value by a bootstrap over a number of blocks (at least 2), with Student's t."""
    low, high = np.quantile(widened(value, resampled, blocks), [0.025, 0.975])
    return float(low), float(high)


def widened(value: float, resampled: Numbers, blocks: int) -> Numbers:
    """Resampled values as far from the value as their quantiles have to be for a 95 % interval.

    As they are they would do for as many blocks as one likes; of 3 they hold the true value in 76 % of cases.
    """
    freedom = blocks - 1
    student = _T95[freedom - 1] if freedom <= len(_T95) else _Z95 + (_Z95**3 + _Z95) / (4 * freedom)
    return value + student / _Z95 * math.sqrt(blocks / freedom) * (resampled - value)


def resampled_rates(tops: Numbers, bottoms: Numbers, resamples: int = RESAMPLES) -> Numbers:
    """The ratio of sums in each of many samples of the items, drawn with replacement: [resamples], always the same."""
    generator = np.random.default_rng(0)
    times = generator.multinomial(len(tops), np.full(len(tops), 1 / len(tops)), size=resamples)
    rates: Numbers = (times @ tops) / np.maximum(times @ bottoms, _LEAST_UNITS)
    return rates
