"""Distances of sets of samples, on sets with known distances and against other libraries."""

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.neighbors import NearestNeighbors
from toys import noise

from vae_nb.metrics import intervals, samples


def test_fid_of_identical_sets_is_zero_and_of_shifted_gaussians_the_shift():
    first, second = noise(4000, 6), noise(4000, 6, seed=1)
    assert samples.fid(first, first).value == pytest.approx(0, abs=1e-6)
    # Equal covariances: only the distance of the means counts.
    shifted = samples.fid(first, second + 2.0)
    assert shifted.value == pytest.approx(6 * 4.0, rel=0.05)


def test_fid_is_the_closed_form():
    first = noise(500, 4)
    second = noise(500, 4, seed=1) @ torch.diag(torch.tensor([1.0, 2, 3, 4]))
    a, b = np.cov(first.T.double()), np.cov(second.T.double())
    gap = (first.mean(0) - second.mean(0)).square().sum().item()
    expected = gap + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert samples.fid(first, second).value == pytest.approx(expected, rel=1e-3)


def test_neighbourhoods_of_known_sets():
    real, other = noise(600, 2), noise(600, 2, seed=1)
    same = samples.neighbourhoods(real, other)
    assert all(each.value > 0.9 for each in same.values())
    far = samples.neighbourhoods(real, other + 100)
    assert all(each.value == 0 for each in far.values())
    # One mode of two: the samples are right, half of the variety is missing.
    modes = torch.cat([noise(300, 2), noise(300, 2, seed=2) + 100])
    half = samples.neighbourhoods(modes, other)
    assert half["precision"].value > 0.9 and half["density"].value > 0.9
    assert half["recall"].value == pytest.approx(0.5, abs=0.05)
    assert half["coverage"].value == pytest.approx(0.5, abs=0.05)


def by_definition(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Kynkäänniemi et al. 2019 (k = 3) and Naeem et al. 2020 (k = 5), with scikit-learn."""

    def radii(points, k):
        return NearestNeighbors().fit(points).kneighbors(points, k + 1)[0][:, k]

    distances = np.linalg.norm(real[:, None] - made[None], axis=2)
    inside = distances <= radii(real, 5)[:, None]
    return {
        "precision": (distances <= radii(real, 3)[:, None]).any(0).mean(),
        "recall": (distances <= radii(made, 3)[None]).any(1).mean(),
        "density": inside.sum() / (5 * len(made)),
        "coverage": inside.any(1).mean(),
    }


def test_neighbourhoods_are_those_of_their_papers():
    real, other = noise(200, 3), 1.5 * noise(240, 3, seed=1)
    found = samples.neighbourhoods(real, other, chunk=70)
    expected = by_definition(real.numpy(), other.numpy())
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected)


def test_recall_and_coverage_have_the_jackknife_s_interval_over_groups_of_samples():
    real, other = noise(200, 3), 1.5 * noise(240, 3, seed=1)
    found = samples.neighbourhoods(real, other, chunk=70)
    rows = np.arange(240)
    left_out = [
        by_definition(real.numpy(), other[rows % samples.GROUPS != g].numpy())
        for g in range(samples.GROUPS)
    ]
    for name in ("recall", "coverage"):
        half = intervals.jackknife_half_width([each[name] for each in left_out])
        assert found[name].value - found[name].low == pytest.approx(half)
        assert found[name].high == min(1, found[name].value + half)


def test_distance_to_the_nearest_and_sharpness():
    images = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    near = images[:3] + 0.1 / 28  # 784 pixels, each off by as much: 0.1 in all
    assert samples.distance_to_nearest(near, images, chunk=2).tolist() == pytest.approx(
        [0.1] * 3, rel=0.02
    )
    flat = samples.sharpness(0.5 * images, images)
    assert flat.value == pytest.approx(0.25, rel=1e-5)


class Shows(torch.nn.Module):
    """An autoencoder whose images are its codes."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        return images[:, :, 0, 0]

    def decode(self, codes):
        return codes[:, :, None, None]


def test_mixture_samples_follow_the_codes():
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(0, 2, (1000, 1), generator=generator) * 20.0
    codes = side + torch.randn(1000, 2, generator=generator)
    images = codes[:, :, None, None]
    made = samples.from_mixture(Shows(), images, 1000, components=2)[:, :, 0, 0]
    near = (made.abs().max(1).values < 5) | ((made - 20).abs().max(1).values < 5)
    assert near.all() and 0.4 < (made[:, 0] > 10).float().mean() < 0.6
    assert 0.3 < (made[:500, 0] > 10).float().mean() < 0.7  # not sorted by component
    state = torch.random.get_rng_state()
    again = samples.from_mixture(Shows(), images, 1000, components=2)[:, :, 0, 0]
    assert torch.equal(again, made) and torch.equal(torch.random.get_rng_state(), state)


def test_a_mixture_needs_as_many_codes_as_components():
    with pytest.raises(ValueError, match="3 Gaussians cannot be fitted to 2 codes"):
        samples.from_mixture(Shows(), torch.rand(2, 2, 1, 1), 10, components=3)


def test_prior_samples_are_standard_normal_codes_decoded():
    made = samples.from_prior(Shows(), 5000, seed=3)[:, :, 0, 0]
    assert made.mean().item() == pytest.approx(0, abs=0.05)
    assert torch.cov(made.T).flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=0.06)
    assert not torch.equal(made, samples.from_prior(Shows(), 5000, seed=4)[:, :, 0, 0])
