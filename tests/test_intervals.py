"""Intervals: that they cover, and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vae_nb.metrics import intervals
from vae_nb.metrics.intervals import Estimate


def test_interval_of_a_mean_is_student_s():
    values = np.random.default_rng(0).normal(3.0, 2.0, 12)
    library = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert intervals.mean_ci(values).interval == pytest.approx(
        (values.mean(), library.low, library.high)
    )
    with pytest.raises(ValueError, match="n >= 2"):
        intervals.mean_ci([1.0])


def test_interval_of_a_ratio_covers_it():
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(800):
        bottom = generator.normal(5.0, 1.0, 400)
        top = 0.4 * bottom + generator.normal(0.0, 0.5, 400)
        estimate = intervals.ratio_ci(top, bottom)
        covered.append(estimate.low <= 0.4 <= estimate.high)
    assert 0.925 < np.mean(covered) < 0.975


def test_interval_of_a_proportion_is_wilson_s():
    hits = np.arange(50) < 10
    z = stats.norm.ppf(0.975)
    centre = (0.2 + z**2 / 100) / (1 + z**2 / 50)
    half = z / (1 + z**2 / 50) * np.sqrt(0.2 * 0.8 / 50 + z**2 / (4 * 50**2))
    assert intervals.proportion_ci(hits).interval == pytest.approx(
        (0.2, centre - half, centre + half)
    )


def test_interval_of_a_slope_covers_it_where_neighbours_are_correlated():
    """Autoregressive noise, whose effect least squares over all points underestimates."""
    generator = np.random.default_rng(2)
    x, covered, naive = np.linspace(0, 1, 1000), [], []
    for _ in range(300):
        shocks = generator.normal(0, 0.1, 1000)
        for i in range(1, 1000):
            shocks[i] += 0.8 * shocks[i - 1]
        estimate = intervals.slope_ci(x, 3 * x + shocks)
        covered.append(estimate.low <= 3 <= estimate.high)
        line = stats.linregress(x, 3 * x + shocks)
        naive.append(abs(line.slope - 3) <= 1.96 * line.stderr)
    assert 0.9 < np.mean(covered) < 0.98
    assert np.mean(naive) < 0.8


def test_a_slope_needs_three_points():
    assert intervals.slope_ci([0, 1, 2], [0, 2, 4]).value == pytest.approx(2)
    assert all(np.isnan(intervals.slope_ci([0, 1], [0, 2]).interval))


def test_jackknife_of_a_mean_is_the_t_interval_of_its_groups_means():
    draws = np.random.default_rng(3).normal(3.0, 2.0, 400)
    groups = [draws[group::20].mean() for group in range(20)]
    estimate = intervals.jackknife_ci(lambda rows: draws[rows].mean(), 400)
    assert estimate.interval == pytest.approx(intervals.mean_ci(groups).interval)


@pytest.mark.parametrize(
    ("seeds", "parts", "of_seeds", "of_parts", "rest"),
    [
        (3, 50, 0.5, 0.2, 1.0),  # seeds differ most
        (5, 50, 0.1, 1.0, 1.0),  # images do
        (10, 50, 0.3, 1.0, 0.5),
        (3, 50, 0.02, 1.0, 0.3),  # what all seeds share is counted once
        (3, 20, 0.3, 1.0, 0.5),  # few draws of labelled images
    ],
)
def test_interval_over_seeds_that_share_images_covers(seeds, parts, of_seeds, of_parts, rest):
    generator = np.random.default_rng(4)
    covered = []
    for _ in range(1500):
        values = (
            3 + generator.normal(0, of_seeds, (seeds, 1)) + generator.normal(0, of_parts, parts)
        )
        values = values + generator.normal(0, rest, (seeds, parts))
        estimates = [Estimate(row.mean(), 0, 0, tuple(row)) for row in values]
        estimate = intervals.pool_seeds(estimates)
        covered.append(estimate.low <= 3 <= estimate.high)
    assert 0.93 < np.mean(covered) < 0.97


def test_interval_over_seeds_that_draw_their_own_covers():
    """The error of each seed's draws is in the spread between seeds already."""
    generator = np.random.default_rng(4)
    covered = []
    for _ in range(3000):
        values = 3 + generator.normal(0, 0.5, 3) + generator.normal(0, 0.2, 3)
        estimate = intervals.pool_seeds([Estimate(v, v - 0.4, v + 0.4) for v in values])
        covered.append(estimate.low <= 3 <= estimate.high)
    assert 0.93 < np.mean(covered) < 0.97
    same = intervals.pool_seeds([Estimate(2.0, 1.9, 2.2)] * 3)
    assert same == (2.0, 1.9, 2.2, ())
    assert intervals.pool_seeds([Estimate(2.0, 1.9, 2.2)]) == (2.0, 1.9, 2.2, ())


def test_models_are_compared_image_by_image():
    """What both find hard cancels: the interval is that of the difference of each image."""
    generator = np.random.default_rng(7)
    covered = {"difference": [], "ratio": []}
    for _ in range(1500):
        hard = generator.normal(0, 1, 1000)
        one, other = (level + hard + generator.normal(0, 0.3, 1000) for level in (7, 6))
        left, right = map(intervals.shared_mean_ci, (one, other))
        for name, truth in (("difference", 1.0), ("ratio", 7 / 6)):
            estimate = getattr(intervals, name)(left, right)
            covered[name].append(estimate.low <= truth <= estimate.high)
    assert all(0.93 < np.mean(hits) < 0.97 for hits in covered.values())
    gap = intervals.difference(left, right)
    direct = intervals.mean_ci(one - other)
    assert gap.value == pytest.approx(direct.value)
    assert gap.high - gap.low == pytest.approx(direct.high - direct.low, rel=0.25)
    apart = intervals.difference(*(Estimate(*each.interval) for each in (left, right)))
    assert gap.high - gap.low < 0.4 * (apart.high - apart.low)
    scaled = intervals.ratio(left, intervals.exactly(2.0))
    assert scaled.value == pytest.approx(left.value / 2) and len(scaled.parts) == intervals.PARTS


def test_intervals_do_not_leave_what_is_possible_and_0_decides_what_differs():
    share = intervals.pool_seeds([Estimate(v, v, v + 0.1) for v in (0.0, 0.01, 0.05)])
    assert share.low < 0 and share.within(0, 1).low == 0 and share.within(0, 1).value == share.value
    assert intervals.differs(Estimate(0.2, 0.1, 0.3)) and intervals.differs(Estimate(-2, -3, -1))
    assert not intervals.differs(Estimate(0.2, -0.1, 0.5))


def test_jackknife_of_a_frechet_distance_covers():
    """Its mean over many sets of samples, the real set given."""
    from vae_nb.metrics.samples import fid

    generator = torch.Generator().manual_seed(0)
    real = torch.randn(400, 3, generator=generator)
    sets = [1.2 * torch.randn(400, 3, generator=generator) + 0.3 for _ in range(150)]
    found = [fid(real, each) for each in sets]
    truth = np.mean([each.value for each in found])
    assert 0.9 < np.mean([each.low <= truth <= each.high for each in found]) < 0.99


def test_prediction_interval_holds_one_more_value_in_95_of_100_cases():
    draws = np.random.default_rng(5).normal(1.0, 3.0, (4000, 4))
    estimates = [intervals.prediction_interval(draw[:3]) for draw in draws]
    held = [e.low <= draw[3] <= e.high for e, draw in zip(estimates, draws, strict=True)]
    assert 0.935 < np.mean(held) < 0.965


def test_prediction_interval_takes_the_pooled_spread_with_its_own_degrees_of_freedom():
    half = 10 * 0.2 * math.sqrt(1.5) * stats.t.ppf(0.995, 8)
    estimate = intervals.prediction_interval([9.9, 10.1], confidence=0.99, pooled=(0.2, 8))
    assert estimate.interval == pytest.approx((10, 10 - half, 10 + half))
    draws = np.random.default_rng(5).normal(10.0, 1.0, (3000, 5, 4))  # five models, four seeds
    held = []
    for draw in draws:
        spread = np.sqrt((draw[:, :3] / draw[:, :3].mean(1, keepdims=True)).var(1, ddof=1).mean())
        estimate = intervals.prediction_interval(draw[0, :3], pooled=(spread, 10))
        held.append(estimate.low <= draw[0, 3] <= estimate.high)
    assert 0.935 < np.mean(held) < 0.965


def test_difference_and_ratio_of_independent_estimates_cover():
    """Coverage of what they are said to be, for estimates of normal values with known errors."""
    generator = np.random.default_rng(6)
    covered = {"difference": [], "ratio": []}
    for top, bottom in generator.normal((20.0, 10.0), (1.0, 0.3), (4000, 2)):
        left = Estimate(top, top - 1.96 * 1.0, top + 1.96 * 1.0)
        right = Estimate(bottom, bottom - 1.96 * 0.3, bottom + 1.96 * 0.3)
        for name, truth in (("difference", 10.0), ("ratio", 2.0)):
            estimate = getattr(intervals, name)(left, right)
            covered[name].append(estimate.low <= truth <= estimate.high)
    assert all(0.94 < np.mean(hits) < 0.96 for hits in covered.values())


def test_each_side_of_a_comparison_takes_the_sides_that_move_it_there():
    left, right = Estimate(10.0, 9.0, 14.0), Estimate(5.0, 4.0, 5.5)
    assert intervals.difference(left, right).interval == pytest.approx(
        (5.0, 5 - math.hypot(1, 0.5), 5 + math.hypot(4, 1))
    )
    assert intervals.ratio(left, right).interval == pytest.approx(
        (2.0, 2 * (1 - math.hypot(0.1, 0.1)), 2 * (1 + math.hypot(0.4, 0.2)))
    )
    assert np.isnan(intervals.ratio(left, intervals.exactly(0.0)).value)
