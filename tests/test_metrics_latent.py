"""Codes against the prior, and bounds of a likelihood that is known."""

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from toys import noise

from vae_nb.metrics import latent
from vae_nb.models import Posterior


def test_distance_to_the_prior():
    assert latent.distance_to_prior(noise(50_000, 4)) == pytest.approx(0, abs=1e-3)
    assert latent.distance_to_prior(noise(50_000, 4) + 2) == pytest.approx(4, rel=0.02)
    assert latent.distance_to_prior(3 * noise(50_000, 4)) == pytest.approx(4, rel=0.02)
    mixed = noise(50_000, 3) @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 0.5]])
    covariance = np.cov(mixed.T.double())
    expected = np.trace(covariance + np.eye(3) - 2 * linalg.sqrtm(covariance).real) / 3
    assert latent.distance_to_prior(mixed) == pytest.approx(expected, rel=0.01)


def test_active_units_are_counted_by_variance():
    codes = noise(5000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert latent.active_units(codes) == 2  # variances 1, 0.04, 0.0025, 0
    assert latent.active_units(codes) == 2


def test_rate_is_the_sum_over_latents():
    posterior = Posterior(torch.ones(10, 3), torch.zeros(10, 3))
    assert latent.rate(posterior).value == pytest.approx(1.5)  # 3 latents of mean^2 / 2
    assert latent.rate_of_each_latent(posterior).tolist() == [0.5, 0.5, 0.5]


class Linear(torch.nn.Module):
    """A model whose likelihood is known: x = W z + noise of variance s^2, in 784 dimensions."""

    latent_dim = 2

    def __init__(self, variance):
        super().__init__()
        weight = 0.1 * noise(784, 2)
        # With orthogonal columns the exact posterior has no correlations.
        weight[:, 1] -= weight[:, 0] * (weight[:, 0] @ weight[:, 1] / weight[:, 0].square().sum())
        self.weight = torch.nn.Parameter(weight)
        self.variance = variance

    def posterior(self, images):
        weight = self.weight.detach()
        precision = weight.square().sum(0) / self.variance + 1
        mean = images.flatten(1) @ (weight / self.variance / precision)
        return Posterior(mean, -precision.log().expand_as(mean))

    def decode(self, codes):
        return (codes @ self.weight.T).unflatten(1, (1, 28, 28))


def test_likelihood_bounds_of_a_model_whose_likelihood_is_known():
    variance, model = 0.5, Linear(0.5)
    weight = model.weight.detach()
    images = noise(40, 2) @ weight.T + variance**0.5 * noise(40, 784, seed=1)
    covariance = (weight @ weight.T + variance * torch.eye(784)).double().numpy()
    exact = stats.multivariate_normal(np.zeros(784), covariance).logpdf(images.double()).mean()
    pictures = images.unflatten(1, (1, 28, 28))
    posterior = model.posterior(pictures)
    # With the exact posterior every weight is p(x): both bounds are tight.
    for bound in latent.log_likelihood(model, pictures, posterior, variance):
        assert bound.value == pytest.approx(exact, abs=0.05)
    wrong = Posterior(posterior.mean + 0.3, posterior.log_variance)
    elbo, weighted = latent.log_likelihood(model, pictures, wrong, variance)
    assert elbo.value < weighted.value - 0.1 and weighted.value < exact + 0.05
