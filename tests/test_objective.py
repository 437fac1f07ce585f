"""The objective against torch.distributions, numerical integration and its own algebra."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Normal
from torch.distributions import kl_divergence as library_kl

from vae_nb import objective
from vae_nb.models import VAE, Autoencoder, Posterior
from vae_nb.objective import FixedBeta, LearnedVariance


def test_kl_is_that_of_torch_distributions(noise):
    posterior = Posterior(noise(50, 4), noise(50, 4, seed=1))
    library = library_kl(
        Normal(posterior.mean, (0.5 * posterior.log_variance).exp()), Normal(0.0, 1.0)
    )
    ours = objective.kl_divergence(posterior)
    assert torch.allclose(ours, library, atol=1e-6)
    assert (ours >= 0).all()


def test_kl_is_the_integral_that_defines_it():
    q, p = stats.norm(0.7, 0.4), stats.norm(0, 1)
    integral, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -5, 5)
    posterior = Posterior(torch.tensor([[0.7]]), torch.tensor([[2 * math.log(0.4)]]))
    assert objective.kl_divergence(posterior).item() == pytest.approx(integral, abs=1e-5)


def test_kl_of_the_prior_is_zero():
    prior = Posterior(torch.zeros(1, 3), torch.zeros(1, 3))
    assert objective.kl_divergence(prior).abs().max() == 0


def test_squared_error_is_a_mean_over_pixels():
    images = torch.zeros(2, 1, 28, 28)
    other = images.clone()
    other[1, 0, 0, :7] = 0.5  # 7 pixels off by a half
    assert objective.squared_error(images, other).tolist() == pytest.approx([0, 7 * 0.25 / 784])


def test_terms_are_means_over_pixels_and_latents_of_each_image(noise):
    model, images, drawn = VAE(8, 4).eval(), noise(5, 1, 28, 28).sigmoid(), noise(5, 4, seed=1)
    found = objective.terms(model, images, drawn)
    mean, log_variance = model.encoder(images).chunk(2, 1)
    decoded = model.decoder(mean + (log_variance / 2).exp() * drawn)
    error = torch.nn.functional.mse_loss(decoded, images, reduction="none").mean((1, 2, 3))
    kl = library_kl(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean(1)
    assert found.reconstruction.shape == found.kl.shape == (5,)
    assert torch.allclose(found.reconstruction, error)
    assert torch.allclose(found.kl, kl, rtol=1e-4)
    assert torch.allclose(found.loss(0.25), error + 0.25 * kl)
    loss, same = FixedBeta(0.25)(model, images, drawn, torch.Generator(), 0.5)
    assert loss.item() == pytest.approx((error + 0.25 * kl).mean().item(), rel=1e-5)
    assert torch.equal(same.kl, found.kl)


def test_an_autoencoder_has_no_kl_and_ignores_the_noise(noise):
    model, images = Autoencoder(8, 4).eval(), noise(5, 1, 28, 28).sigmoid()
    one, two = (objective.terms(model, images, noise(5, 4, seed=seed)) for seed in (1, 2))
    assert one.kl.tolist() == [0] * 5
    assert torch.equal(one.reconstruction, two.reconstruction)


def test_the_learned_variance_minimises_the_likelihood_of_the_best_one(mnist, noise):
    """Its gradient is that of N/2 log MSE + KL (Rybkin et al. 2021, eq. 7), up to a constant."""
    torch.manual_seed(0)
    model = VAE(4, 8).train()
    loss, terms = LearnedVariance()(
        model, mnist.train_images[:64], noise(64, 8), torch.Generator(), 0.0
    )
    error, kl = terms.reconstruction.mean(), terms.kl.mean()
    weights = list(model.parameters())
    ours = torch.autograd.grad(loss, weights, retain_graph=True)
    theirs = torch.autograd.grad(784 / 2 * error.log() + 8 * kl, weights)
    scale = 784 / (2 * error.item())
    for mine, other in zip(ours, theirs, strict=True):
        # A bias before a batch normalisation has no gradient but rounding errors, which grow too.
        assert torch.allclose(scale * mine, other, rtol=1e-3, atol=1e-6 * scale)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    model = VAE(8, 6).train()
    model.encoder[-1].bias.data[6:] += 4  # a wide posterior, of which samples decode differently
    return model


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_held_out_does_not_depend_on_the_batch_size(vae, mnist, batch_size):
    images = mnist.test_images[:100]
    whole = objective.held_out(vae, images, beta=0.1, batch_size=100)
    parts = objective.held_out(vae, images, 0.1, batch_size=batch_size)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_held_out_is_a_mean_over_images_in_eval_mode(vae, mnist):
    images = mnist.test_images[:50]
    values = objective.held_out(vae, images, beta=2.0, seed=3)
    assert vae.training  # as before
    vae.eval()
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images))
        drawn = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
        terms = objective.terms(vae, images, drawn)
    vae.train()
    assert values["mse_mean"] == pytest.approx(((decoded - images) ** 2).mean().item(), rel=1e-5)
    assert values["reconstruction"] == pytest.approx(terms.reconstruction.mean().item(), rel=1e-5)
    assert values["kl"] == pytest.approx(terms.kl.mean().item(), rel=1e-5)
    assert values["loss"] == pytest.approx(values["reconstruction"] + 2 * values["kl"])


def test_every_held_out_image_has_noise_of_its_own(vae, mnist):
    same = mnist.test_images[:1].expand(40, 1, 28, 28)
    vae.eval()
    one = objective.held_out(vae, same[:1], 0.1)
    many = objective.held_out(vae, same, 0.1, batch_size=1)
    vae.train()
    assert many["mse_mean"] == pytest.approx(one["mse_mean"], rel=1e-5)
    assert many["reconstruction"] != pytest.approx(one["reconstruction"], rel=1e-4)


def test_held_out_without_a_beta_takes_the_calibrated_one(vae, mnist):
    values = objective.held_out(vae, mnist.test_images[:20], None)
    beta = 2 * 6 / 784 * values["reconstruction"]
    assert values["loss"] == pytest.approx(values["reconstruction"] + beta * values["kl"])
    assert LearnedVariance().fitted_beta(values, 6) == pytest.approx(beta)
    assert FixedBeta(0.3).fitted_beta(values, 6) == 0.3
    again = LearnedVariance().held_out(vae, mnist.test_images[:20])
    assert again == values
    at = FixedBeta(0.3).held_out(vae, mnist.test_images[:20])
    assert at["loss"] == pytest.approx(values["reconstruction"] + 0.3 * values["kl"])


def test_units_of_beta():
    # The numbers of the checked algebra for N = 784 and M = 64.
    assert objective.decoder_variance(0.1633) == pytest.approx(1.0, rel=1e-3)
    assert objective.beta_of_half_squared_error(1.0) == 6.125
    assert objective.beta_of_squared_error(1.0) == 12.25
    assert objective.beta_of_decoder_variance(objective.decoder_variance(0.3)) == pytest.approx(0.3)
    assert objective.bits(16) == pytest.approx(16 / math.log(2))


def test_our_objective_is_the_negative_elbo_of_the_implied_variance(noise):
    """-ELBO by torch.distributions differs from ours by one factor and one constant only."""
    beta, latents = 0.3, 4
    variance = objective.decoder_variance(beta, latents)
    found = []
    for seed in (0, 1):
        posterior = Posterior(noise(1, latents, seed=seed), noise(1, latents, seed=seed + 5))
        images, decoded = (noise(1, 1, 28, 28, seed=seed + s).sigmoid() for s in (10, 20))
        likelihood = Normal(decoded, variance**0.5).log_prob(images).sum()
        negative_elbo = objective.kl_divergence(posterior).sum() - likelihood
        ours = objective.Terms(
            objective.squared_error(images, decoded), objective.kl_divergence(posterior).mean(1)
        ).loss(beta)
        found.append((negative_elbo.item(), ours.item()))
    (elbo_a, ours_a), (elbo_b, ours_b) = found
    assert (elbo_a - elbo_b) / (ours_a - ours_b) == pytest.approx(latents / beta, rel=1e-3)


def test_linear_collapse_threshold_is_that_of_the_largest_eigenvalue(noise):
    scale = torch.full((784,), 0.1)
    scale[5] = 3.0
    images = (noise(4000, 784) * scale).reshape(-1, 1, 28, 28)
    expected = 2 * 9.0 * 64 / 784
    assert objective.collapse_beta(images, 64) == pytest.approx(expected, rel=0.06)


def test_the_covariance_of_pixels_is_numpys():
    images = torch.rand(12_000, 1, 4, 5) * torch.linspace(0, 1, 20).view(1, 1, 4, 5)
    expected = np.cov(images.flatten(1).double().numpy().T)
    assert np.allclose(objective.pixel_covariance(images).numpy(), expected, rtol=1e-6, atol=1e-9)
