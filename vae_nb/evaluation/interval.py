"""A measured number and the interval around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Measured(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """``value [low, high]``, each in the given format."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def of_mean(values: Sequence[float] | np.ndarray) -> Measured:
    """The mean of independent values, shape ``(n,)``, with its Student t interval.

    Raises :class:`ValueError` for fewer than two values: one value has no interval.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values has shape {values.shape}: an interval needs (n,) with n >= 2")
    mean = values.mean()
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return Measured(float(mean), float(mean - half), float(mean + half))


def over_seeds(values: Sequence[Measured]) -> Measured:
    """The mean of one number over trainings with different seeds; of one training, itself.

    Its interval covers both what the seed changes (Student's t over the seeds) and what the
    held-out images or draws do (the mean half-width of the single intervals); the two add in
    quadrature, since they are independent.
    """
    if len(values) == 1:
        return values[0]
    seeds = of_mean([each.value for each in values])
    within = np.array([[each.value - each.low, each.high - each.value] for each in values])
    below, above = within.mean(axis=0)
    low = math.hypot(seeds.value - seeds.low, below)
    high = math.hypot(seeds.high - seeds.value, above)
    return Measured(seeds.value, seeds.value - low, seeds.value + high)


def of_next(
    values: Sequence[float], confidence: float = 0.95, pooled: tuple[float, int] | None = None
) -> Measured:
    """The mean of values, and the interval in which *one more* value is expected (prediction).

    Two values or more, taken as normal (Hahn & Meeker 1991, section 4.7). ``pooled`` is a standard
    deviation relative to the mean, and its degrees of freedom, from other values alike; the larger
    of the two spreads counts.
    """
    values = np.asarray(values, dtype=float)
    mean, spread, freedom = values.mean(), values.std(ddof=1), len(values) - 1
    if pooled is not None:
        spread, freedom = max(spread, abs(mean) * pooled[0]), freedom + pooled[1]
    half = spread * math.sqrt(1 + 1 / len(values)) * stats.t.ppf(0.5 + confidence / 2, freedom)
    return Measured(float(mean), float(mean - half), float(mean + half))


def of_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Measured:
    """The ratio of two means of *paired* values, each ``(n,)``, with its interval.

    Delta method: the residual ``numerator - ratio * denominator`` has mean zero, and its standard
    error over the mean of the denominator is that of the ratio (Casella & Berger, section 5.5.4).
    """
    top, bottom = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    ratio = top.mean() / bottom.mean()
    residual = of_mean((top - ratio * bottom) / bottom.mean())
    return Measured(float(ratio), float(ratio + residual.low), float(ratio + residual.high))


def of_share(hits: Sequence[bool] | np.ndarray) -> Measured:
    """The share of true values, shape ``(n,)``, with its Wilson score interval."""
    hits = np.asarray(hits, dtype=bool)
    test = stats.binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(method="wilson")
    return Measured(float(hits.mean()), float(interval.low), float(interval.high))


def of_slope(x: Sequence[float], y: Sequence[float], blocks: int = 20) -> Measured:
    """The slope of ``y`` over ``x``, each ``(n,)``, with its interval; nan for fewer than 3 points.

    Neighbouring steps of a training are alike, so the line is fitted to the means of ``blocks``
    consecutive blocks, whose errors are nearly independent.
    """
    blocks = min(blocks, len(x))
    if blocks < 3:
        return Measured(math.nan, math.nan, math.nan)
    means = [
        [part.mean() for part in np.array_split(np.asarray(values, dtype=float), blocks)]
        for values in (x, y)
    ]
    line = stats.linregress(*means)
    half = line.stderr * stats.t.ppf(0.975, blocks - 2)
    return Measured(float(line.slope), float(line.slope - half), float(line.slope + half))


def by_jackknife(
    statistic: Callable[[np.ndarray], float], count: int, groups: int = 20
) -> Measured:
    """A statistic of the rows 0 to count - 1 with its interval, by leaving out one group at a time.

    The delete-a-group jackknife (Efron & Tibshirani 1993, section 11.5). Unlike the bootstrap it
    puts no row in twice, which a Fréchet distance would mistake for a narrower distribution.
    """
    rows = np.arange(count)
    left_out = [statistic(rows[rows % groups != group]) for group in range(groups)]
    error = math.sqrt((groups - 1) * np.var(left_out))
    value, half = float(statistic(rows)), error * stats.t.ppf(0.975, groups - 1)
    return Measured(value, float(value - half), float(value + half))
