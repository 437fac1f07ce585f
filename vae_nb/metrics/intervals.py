"""Estimates: values with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """``value [low, high]``, each in the given format."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


NOT_AVAILABLE = Estimate(math.nan, math.nan, math.nan)


def exactly(value: float) -> Estimate:
    """A value that is not estimated, such as one computed from a formula."""
    return Estimate(value, value, value)


def mean_ci(values: ArrayLike) -> Estimate:
    """The mean of independent values, shape ``(n,)``, with its Student t interval.

    Raises :class:`ValueError` for fewer than two values: one value has no interval.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values has shape {values.shape}: an interval needs (n,) with n >= 2")
    mean = values.mean()
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return Estimate(float(mean), float(mean - half), float(mean + half))


def proportion_ci(hits: ArrayLike) -> Estimate:
    """The share of true values, shape ``(n,)``, with its Wilson score interval."""
    hits = np.asarray(hits, dtype=bool)
    test = stats.binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(method="wilson")
    return Estimate(float(hits.mean()), float(interval.low), float(interval.high))


def ratio_ci(numerator: ArrayLike, denominator: ArrayLike) -> Estimate:
    """The ratio of two means of *paired* values, each ``(n,)``, with its interval.

    Delta method: the residual ``numerator - ratio * denominator`` has mean zero, and its standard
    error over the mean of the denominator is that of the ratio (Casella & Berger, section 5.5.4).
    """
    top, bottom = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    ratio = top.mean() / bottom.mean()
    residual = mean_ci((top - ratio * bottom) / bottom.mean())
    return Estimate(float(ratio), float(ratio + residual.low), float(ratio + residual.high))


def slope_ci(x: ArrayLike, y: ArrayLike, blocks: int = 20) -> Estimate:
    """The slope of ``y`` over ``x``, each ``(n,)``, with its interval; nan for fewer than 3 points.

    Neighbouring steps of a training are correlated, so the line is fitted to the means of
    ``blocks`` consecutive blocks, whose errors are nearly independent.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    blocks = min(blocks, len(x))
    if blocks < 3:
        return NOT_AVAILABLE
    line = stats.linregress(
        *([part.mean() for part in np.array_split(values, blocks)] for values in (x, y))
    )
    half = line.stderr * stats.t.ppf(0.975, blocks - 2)
    return Estimate(float(line.slope), float(line.slope - half), float(line.slope + half))


def jackknife_ci(
    statistic: Callable[[np.ndarray], float], count: int, groups: int = 20
) -> Estimate:
    """A statistic of the rows 0 to count - 1 with its interval, leaving out one group at a time.

    The delete-d jackknife over disjoint groups (Efron & Tibshirani 1993, section 11.7). Unlike the
    bootstrap it repeats no row, which a Fréchet distance would mistake for a narrower distribution.
    """
    rows = np.arange(count)
    left_out = [statistic(rows[rows % groups != group]) for group in range(groups)]
    error = math.sqrt((groups - 1) * np.var(left_out))
    value, half = float(statistic(rows)), error * stats.t.ppf(0.975, groups - 1)
    return Estimate(value, float(value - half), float(value + half))


def pool_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one number over trainings with different seeds; of one training, itself.

    Its interval covers both what the seed changes (Student's t over the seeds) and what the
    held-out images or draws do (the mean half-width of the single intervals); the two add in
    quadrature, since they are independent.
    """
    if len(estimates) == 1:
        return estimates[0]
    seeds = mean_ci([each.value for each in estimates])
    within = np.array([[each.value - each.low, each.high - each.value] for each in estimates])
    below, above = within.mean(axis=0)
    low = math.hypot(seeds.value - seeds.low, below)
    high = math.hypot(seeds.high - seeds.value, above)
    return Estimate(seeds.value, seeds.value - low, seeds.value + high)


def prediction_interval(
    values: ArrayLike, confidence: float = 0.95, pooled: tuple[float, int] | None = None
) -> Estimate:
    """The mean of values, ``(n,)`` with n >= 2, and the interval in which *one more* is expected.

    The values are taken as normal (Hahn & Meeker 1991, section 4.7). ``pooled`` is a standard
    deviation relative to the mean, and its degrees of freedom, from other values of the same kind;
    the larger of the two spreads counts.
    """
    values = np.asarray(values, dtype=float)
    mean, spread, freedom = values.mean(), values.std(ddof=1), len(values) - 1
    if pooled is not None:
        spread, freedom = max(spread, abs(mean) * pooled[0]), freedom + pooled[1]
    half = spread * math.sqrt(1 + 1 / len(values)) * stats.t.ppf(0.5 + confidence / 2, freedom)
    return Estimate(float(mean), float(mean - half), float(mean + half))


def ratio(top: Estimate, bottom: Estimate) -> Estimate:
    """The ratio of two estimates; relative half-widths add in quadrature. nan over zero."""
    if bottom.value == 0:
        return NOT_AVAILABLE
    value = top.value / bottom.value

    def width(end_of_top: float, end_of_bottom: float) -> float:
        of_top = (end_of_top - top.value) / top.value if top.value else 0.0
        of_bottom = (end_of_bottom - bottom.value) / bottom.value
        return abs(value) * math.hypot(of_top, of_bottom)

    return Estimate(value, value - width(top.low, bottom.high), value + width(top.high, bottom.low))


def difference(left: Estimate, right: Estimate) -> Estimate:
    """The difference of two estimates; half-widths add in quadrature."""
    value = left.value - right.value
    low = math.hypot(left.value - left.low, right.high - right.value)
    high = math.hypot(left.high - left.value, right.value - right.low)
    return Estimate(value, value - low, value + high)
