"""Shapes, sizes, the reparametrised sample, and networks over any number of inputs."""

from types import SimpleNamespace

import pytest
import torch

from vae_nb import models
from vae_nb.models import VAE, Autoencoder, Posterior, evaluating, in_batches, sample_prior


@pytest.mark.parametrize("model", [Autoencoder(8, 5), VAE(8, 5)], ids=["ae", "vae"])
def test_shapes_and_range(model):
    images = torch.rand(3, 1, 28, 28)
    codes = model.encode(images)
    decoded = model.decode(codes)
    assert model.latent_dim == 5 and codes.shape == (3, 5)
    assert decoded.shape == images.shape
    assert decoded.min() > 0 and decoded.max() < 1


def test_course_model_has_the_course_size():
    # 2.1 million weights at width 48 (the course's handout).
    weights = sum(parameter.numel() for parameter in VAE(48, 64).parameters())
    assert 2.10e6 < weights < 2.20e6


def test_intermediate_sizes_are_the_course_sizes():
    sizes = []
    model = VAE(8)
    for part in (model.encoder, model.decoder):
        for layer in part:
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    model.decode(model.encode(torch.rand(2, 1, 28, 28)))
    assert sizes == [13, 6, 2, 1, 2, 6, 13, 28]


def test_vae_and_autoencoder_share_the_classes_of_their_parts():
    vae, ae = VAE(8), Autoencoder(8)
    assert type(vae.encoder) is type(ae.encoder) and type(vae.decoder) is type(ae.decoder)


def test_sample_has_the_posterior_s_moments(noise):
    posterior = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    samples = posterior.sample(noise(200_000, 2))
    assert torch.allclose(samples.mean(0), posterior.mean[0], atol=0.03)
    assert torch.allclose(samples.var(0), posterior.log_variance[0].exp(), rtol=0.02)


def test_gradient_of_the_sample_matches_finite_differences(noise):
    parameters = torch.tensor([[0.3, -1.0], [0.5, -0.7]], dtype=torch.float64, requires_grad=True)
    fixed = noise(1, 2).double()

    def sample(both):
        return Posterior(both[:1], both[1:]).sample(fixed)

    assert torch.autograd.gradcheck(sample, parameters)
    # d/dmean = 1 and d/dlogvar = sigma * noise / 2: neither is cut off.
    (gradient,) = torch.autograd.grad(sample(parameters).sum(), parameters)
    assert torch.allclose(gradient[0], torch.ones(2, dtype=torch.float64))
    sigma = (0.5 * parameters[1]).exp()
    assert torch.allclose(gradient[1], (sigma * fixed[0] / 2).detach())


def test_prior_samples_are_standard_normal_and_seeded():
    codes = sample_prior(100_000, 2, seed=3)
    assert codes.mean().abs() < 0.02 and (codes.std() - 1).abs() < 0.02
    assert torch.equal(codes, sample_prior(100_000, 2, seed=3))
    assert not torch.equal(codes, sample_prior(100_000, 2, seed=4))


def test_in_batches_does_not_depend_on_the_batch_size_and_leaves_the_mode(noise):
    model = VAE(8).train()
    images = noise(7, 1, 28, 28).sigmoid()
    one, many = (in_batches(model, model.encode, images, size) for size in (1, 7))
    assert torch.allclose(one, many, atol=1e-6)
    assert model.training and not one.requires_grad


def test_a_network_and_a_run_that_holds_it_are_the_same_to_the_functions(noise):
    network = VAE(8, 4).train()  # its batches would change what it says, were it not in eval mode
    run = SimpleNamespace(model=network)
    images, codes = noise(5, 1, 28, 28).sigmoid(), noise(5, 4)
    for function, inputs in ((models.encode, images), (models.decode, codes)):
        assert torch.equal(function(run, inputs), function(network, inputs))
    q = models.posterior(run, images)
    assert torch.equal(q.mean, models.encode(network, images))
    with torch.no_grad():
        assert torch.equal(q.log_variance, network.eval().posterior(images).log_variance)


def test_sampled_codes_are_posterior_samples_or_an_autoencoder_s_codes(noise):
    vae, ae, images = VAE(8, 4), Autoencoder(8, 4), noise(500, 1, 28, 28).sigmoid()
    q = models.posterior(vae, images)
    standard = (models.sampled_codes(vae, images) - q.mean) / (q.log_variance / 2).exp()
    assert standard.mean().abs() < 0.07 and (standard.std() - 1).abs() < 0.05
    assert torch.equal(models.sampled_codes(vae, images), models.sampled_codes(vae, images, 0))
    assert not torch.equal(models.sampled_codes(vae, images), models.sampled_codes(vae, images, 1))
    assert torch.equal(models.sampled_codes(ae, images), models.encode(ae, images))


def test_evaluating_restores_the_mode_after_an_error():
    model = VAE(8).train()
    with pytest.raises(RuntimeError, match="inside"), evaluating(model):
        assert not model.training
        raise RuntimeError("inside")
    assert model.training
