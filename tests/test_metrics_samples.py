"""Distances of sets of samples, on sets with known distances and against other libraries."""

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.neighbors import NearestNeighbors
from toys import noise

from vae_nb.metrics import samples


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


def test_precision_and_recall_of_known_sets():
    real, other = noise(600, 2), noise(600, 2, seed=1)
    assert samples.precision(real, other).value > 0.9 and samples.recall(real, other).value > 0.9
    far = samples.precision(real, other + 100), samples.recall(real, other + 100)
    assert [each.value for each in far] == [0, 0]
    # One mode of two: the samples are right (precision), half is missing (recall).
    modes = torch.cat([noise(300, 2), noise(300, 2, seed=2) + 100])
    assert samples.precision(modes, other).value > 0.9
    assert samples.recall(modes, other).value == pytest.approx(0.5, abs=0.05)


def test_precision_is_that_of_scikit_learn_s_neighbours():
    real, other = noise(200, 3), 1.5 * noise(200, 3, seed=1)
    search = NearestNeighbors().fit(real.numpy())
    radii = search.kneighbors(real.numpy(), 4)[0][:, 3]  # itself and three neighbours
    distances = np.linalg.norm(other.numpy()[:, None] - real.numpy()[None], axis=2)
    expected = (distances <= radii).any(1).mean()
    estimate = samples.precision(real, other, chunk=70)
    assert estimate.value == pytest.approx(expected)


def test_confidence_is_in_one_label():
    sure, unsure = torch.eye(10).repeat(3, 1), torch.full((30, 10), 0.1)
    assert samples.confident_share(torch.cat([sure, unsure])).value == 0.5
    almost = torch.tensor([[0.94, 0.06], [0.96, 0.04]])
    assert samples.confident_share(almost).value == 0.5


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


def test_prior_samples_are_standard_normal_codes_decoded():
    made = samples.from_prior(Shows(), 5000, seed=3)[:, :, 0, 0]
    assert made.mean().item() == pytest.approx(0, abs=0.05)
    assert torch.cov(made.T).flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=0.06)
    assert not torch.equal(made, samples.from_prior(Shows(), 5000, seed=4)[:, :, 0, 0])
