"""Estimates: values with their 95 % intervals.

Two models that are measured on the same images have errors in common: where an image is hard, it is
hard for both. So an estimate keeps its value over disjoint :attr:`~Estimate.parts` of what all
models share (held-out images, or draws of labelled examples), and differences are taken part by
part. What each seed draws anew (its samples) is in the spread between seeds already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

PARTS = 50  # of the held-out images


class Estimate(NamedTuple):
    """A value with its 95 % interval, and its values over the parts that all models share.

    ``parts`` is empty where nothing is shared.
    """

    value: float
    low: float
    high: float
    parts: tuple[float, ...] = ()

    @classmethod
    def read(cls, kept: Sequence[Any]) -> Estimate:
        """From what JSON keeps of it."""
        value, low, high, *parts = kept
        return cls(value, low, high, tuple(parts[0]) if parts else ())

    def __format__(self, spec: str) -> str:
        """``value [low, high]``, each in the given format."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @property
    def interval(self) -> tuple[float, float, float]:
        """``value, low, high``."""
        return self[:3]

    @property
    def is_exact(self) -> bool:
        """Whether it is not estimated."""
        return self.low == self.value == self.high

    def within(self, least: float, most: float) -> Estimate:
        """The same with an interval that does not leave what is possible."""
        return self._replace(low=max(self.low, least), high=min(self.high, most))


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


def shared_mean_ci(values: ArrayLike) -> Estimate:
    """:func:`mean_ci` of values that every model has for the same images or draws, with parts."""
    values = np.asarray(values, dtype=float)
    return mean_ci(values)._replace(parts=_parts(values))


def proportion_ci(hits: ArrayLike) -> Estimate:
    """The share of true values, shape ``(n,)``, with its Wilson score interval."""
    hits = np.asarray(hits, dtype=bool)
    test = stats.binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(method="wilson")
    return Estimate(float(hits.mean()), float(interval.low), float(interval.high))


def shared_proportion_ci(hits: ArrayLike) -> Estimate:
    """:func:`proportion_ci` of what every model has for the same images, with parts."""
    return proportion_ci(hits)._replace(parts=_parts(np.asarray(hits, dtype=float)))


def _parts(values: np.ndarray) -> tuple[float, ...]:
    """Means over every fiftieth value, from the first to the fiftieth; of few, themselves."""
    if len(values) < 2 * PARTS:
        return tuple(map(float, values))
    return tuple(float(f"{values[start::PARTS].mean():.6g}") for start in range(PARTS))


def _of_parts(value: float, parts: np.ndarray) -> Estimate:
    half = mean_ci(parts)
    return Estimate(
        float(value),
        float(value - half.value + half.low),
        float(value + half.high - half.value),
        tuple(map(float, parts)),
    )


def _paired(one: Estimate, other: Estimate) -> tuple[np.ndarray, np.ndarray] | None:
    """The parts of both, if both have the same; an exact value is the same in each."""
    count = max(len(one.parts), len(other.parts))
    if not count or any(
        len(each.parts) != count and not (each.is_exact and not each.parts) for each in (one, other)
    ):
        return None
    first, second = (np.array(e.parts or [e.value] * count) for e in (one, other))
    return first, second


def ratio_ci(numerator: ArrayLike, denominator: ArrayLike) -> Estimate:
    """The ratio of two means of *paired* values, each ``(n,)``, with its interval and parts.

    Delta method: the residual ``numerator - ratio * denominator`` has mean zero, and its standard
    error over the mean of the denominator is that of the ratio (Casella & Berger, section 5.5.4).
    """
    top, bottom = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    ratio = top.mean() / bottom.mean()
    influence = ratio + (top - ratio * bottom) / bottom.mean()
    return shared_mean_ci(influence)


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
    value, half = float(statistic(rows)), jackknife_half_width(left_out)
    return Estimate(value, value - half, value + half)


def jackknife_half_width(left_out: Sequence[float]) -> float:
    """Half of a jackknife's interval, from the statistic without each of the groups."""
    groups = len(left_out)
    error = math.sqrt((groups - 1) * np.var(left_out))
    return float(error * stats.t.ppf(0.975, groups - 1))


def pool_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one number over trainings with different seeds; of one training, itself.

    Where the seeds share images, both vary: the variance is that of the mean of a crossed layout of
    seeds and parts, ``(MS_seeds + MS_parts - MS_rest) / (S n)``, with Satterthwaite's degrees of
    freedom (Searle, Casella & McCulloch 1992, section 4.7). Where each seed draws its own, it is
    Student's t over the seeds.
    """
    if len(estimates) == 1:
        return estimates[0]
    values = np.array([each.value for each in estimates])
    parts = {len(each.parts) for each in estimates}
    if parts == {0} or len(parts) > 1:
        if len(set(values.tolist())) == 1:  # no spread: what a single one knows
            return Estimate(
                float(values[0]),
                min(each.low for each in estimates),
                max(each.high for each in estimates),
            )
        return mean_ci(values)
    table = np.array([each.parts for each in estimates])
    seeds, count = table.shape
    of_parts = table.mean(0)
    rest = table - table.mean(1, keepdims=True) - of_parts + table.mean()
    freedom = (seeds - 1, count - 1, (seeds - 1) * (count - 1))
    within = (rest**2).sum() / freedom[2]
    squares = (
        max(count * values.var(ddof=1), within),
        max(seeds * of_parts.var(ddof=1), within),
        -within,
    )
    variance = sum(squares) / (seeds * count)
    if variance == 0:
        return exactly(float(values.mean()))._replace(parts=tuple(map(float, of_parts)))
    spread = sum(
        (square / (seeds * count)) ** 2 / df for square, df in zip(squares, freedom, strict=True)
    )
    mean = float(values.mean())
    half = float(math.sqrt(variance) * stats.t.ppf(0.975, variance**2 / spread))
    return Estimate(mean, mean - half, mean + half, tuple(map(float, of_parts)))


def prediction_interval(
    values: ArrayLike, confidence: float = 0.95, pooled: tuple[float, int] | None = None
) -> Estimate:
    """The mean of values, ``(n,)`` with n >= 2, and the interval in which *one more* is expected.

    The values are taken as normal (Hahn & Meeker 1991, section 4.7). ``pooled`` is a standard
    deviation relative to the mean, and its degrees of freedom, from these and other values of the
    same kind; it takes the place of the values' own, which few values know badly.
    """
    values = np.asarray(values, dtype=float)
    mean, spread, freedom = values.mean(), values.std(ddof=1), len(values) - 1
    if pooled is not None:
        spread, freedom = abs(mean) * pooled[0], pooled[1]
    half = spread * math.sqrt(1 + 1 / len(values)) * stats.t.ppf(0.5 + confidence / 2, freedom)
    return Estimate(float(mean), float(mean - half), float(mean + half))


def ratio(top: Estimate, bottom: Estimate) -> Estimate:
    """The ratio of two estimates, part by part where they share parts; nan over zero.

    Of independent ones the relative half-widths add in quadrature.
    """
    if bottom.value == 0:
        return NOT_AVAILABLE
    value = top.value / bottom.value
    if both := _paired(top, bottom):
        return _of_parts(value, value + (both[0] - value * both[1]) / bottom.value)

    def width(end_of_top: float, end_of_bottom: float) -> float:
        of_top = (end_of_top - top.value) / top.value if top.value else 0.0
        of_bottom = (end_of_bottom - bottom.value) / bottom.value
        return abs(value) * math.hypot(of_top, of_bottom)

    return Estimate(value, value - width(top.low, bottom.high), value + width(top.high, bottom.low))


def difference(left: Estimate, right: Estimate) -> Estimate:
    """The difference of two estimates, part by part where they share parts.

    Of independent ones the half-widths add in quadrature.
    """
    value = left.value - right.value
    if both := _paired(left, right):
        return _of_parts(value, both[0] - both[1])
    low = math.hypot(left.value - left.low, right.high - right.value)
    high = math.hypot(left.high - left.value, right.value - right.low)
    return Estimate(value, value - low, value + high)


def differs(gap: Estimate) -> bool:
    """Whether a difference is significant: its interval leaves out 0. The book's only rule."""
    return not gap.low <= 0 <= gap.high
