"""A measured number and the interval around it."""

from __future__ import annotations

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
    """The slope of ``y`` over ``x``, each ``(n,)``, with its interval.

    Neighbouring steps of a training are alike, so the line is fitted to the means of ``blocks``
    consecutive blocks, whose errors are nearly independent.
    """
    means = [
        [part.mean() for part in np.array_split(np.asarray(v, dtype=float), blocks)] for v in (x, y)
    ]
    line = stats.linregress(*means)
    half = line.stderr * stats.t.ppf(0.975, blocks - 2)
    return Measured(float(line.slope), float(line.slope - half), float(line.slope + half))


def by_bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, resamples: int = 100, seed: int = 0
) -> Measured:
    """A statistic of the rows 0..count-1 with its percentile interval over resampled rows."""
    generator = np.random.default_rng(seed)
    draws = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Measured(float(statistic(np.arange(count))), float(low), float(high))
