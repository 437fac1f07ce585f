"""Shapes, sizes and the reparametrised sample."""

import pytest
import torch

from vae_nb.models import (
    BETA_RANGE,
    VAE,
    Autoencoder,
    MultiRateVAE,
    Posterior,
    evaluating,
    in_batches,
    sample_prior,
)


@pytest.mark.parametrize("model", [Autoencoder(8, 5), VAE(8, 5)], ids=["ae", "vae"])
def test_shapes_and_range(model):
    images = torch.rand(3, 1, 28, 28)
    codes = model.code(images)
    decoded = model.decode(codes)
    assert codes.shape == (3, 5)
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
    model.decode(model.code(torch.rand(2, 1, 28, 28)))
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
    one, many = (in_batches(model, model.code, images, size) for size in (1, 7))
    assert torch.allclose(one, many, atol=1e-6)
    assert model.training


def test_evaluating_restores_the_mode_after_an_error():
    model = VAE(8).train()
    with pytest.raises(RuntimeError, match="inside"), evaluating(model):
        assert not model.training
        raise RuntimeError("inside")
    assert model.training


# --- one model for every beta ---


@pytest.fixture
def told_beta(noise):
    """A multi-rate VAE with everything that beta can change set to something, in training mode."""
    torch.manual_seed(0)
    model = MultiRateVAE(4, 6).train()
    for response in model.responses:
        torch.nn.init.normal_(response.weight, std=0.1)
        torch.nn.init.normal_(response.bias, std=0.1)
    for layer in (*model.encoder, *model.decoder):
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):  # new ones are 1 and 0
            torch.nn.init.normal_(layer.weight, 1.0, 0.3)
            torch.nn.init.normal_(layer.bias)
    for _ in range(3):  # statistics for the batch normalisation that are not those of a new layer
        model(torch.rand(32, 1, 28, 28), torch.full((32,), 0.1), noise(32, 6))
    return model


def features(vae, images):
    """What the encoder's last layer sees, which no gate touches."""
    return torch.nn.Sequential(*list(vae.encoder)[:-1])(images).detach()


@pytest.mark.parametrize("beta", [1e-4, 0.03, 1.0, 10.0])
def test_at_one_beta_a_multi_rate_vae_is_an_ordinary_vae(told_beta, noise, beta):
    images, codes = torch.rand(5, 1, 28, 28), noise(5, 6)
    told_beta.eval()
    decoded, posterior = told_beta(images, torch.full((5,), beta), codes)
    vae = told_beta.at(beta)
    assert type(vae) is VAE and not vae.training
    assert torch.allclose(vae.posterior(images).mean, posterior.mean, atol=1e-6)
    assert torch.allclose(vae.posterior(images).log_variance, posterior.log_variance, atol=1e-6)
    assert torch.allclose(vae.decode(posterior.sample(codes)), decoded, atol=1e-6)


def test_a_copy_at_one_beta_leaves_the_model_alone(told_beta):
    before = {name: tensor.clone() for name, tensor in told_beta.state_dict().items()}
    vae = told_beta.at(0.1)
    for parameter in vae.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], now) for name, now in told_beta.state_dict().items())
    assert told_beta.training


@pytest.mark.parametrize("ends", [(1e-4, 1e-3), (0.05, 0.1), (3.0, 10.0)])
def test_beta_changes_encoder_and_decoder_everywhere_in_the_range(told_beta, noise, ends):
    low, high = (told_beta.at(beta) for beta in ends)
    images, codes = torch.rand(5, 1, 28, 28), noise(5, 6)
    # By the features' scales and shifts, whatever the gates do.
    assert not torch.allclose(features(low, images), features(high, images), atol=1e-3)
    assert not torch.allclose(low.decode(codes), high.decode(codes), atol=1e-3)


def test_a_gate_is_the_response_of_a_linear_vae_with_its_corner_rounded(told_beta):
    told_beta.log_threshold.data = torch.tensor([1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0]).log()
    for beta in (1e-4, 0.05, 0.2, 2.0):
        linear = (1 - beta / told_beta.log_threshold.exp()).clamp(min=0)
        gates = told_beta.gates(torch.tensor([beta]))[0]
        assert (gates - linear).abs().max() < 0.07  # log(2) / 10 at the corner
        assert gates.min() >= 0 and gates.max() <= 1
    closed = told_beta.gates(torch.tensor([10.0]))[0]
    assert closed[:5].max() < 1e-4


def test_gradients_reach_gates_and_embedding(told_beta, noise):
    # Beside one threshold, so that its gate is neither open nor closed.
    beta = 0.8 * told_beta.log_threshold[2].exp().detach()
    decoded, posterior = told_beta(torch.rand(8, 1, 28, 28), beta.expand(8), noise(8, 6))
    decoded.square().sum().backward(retain_graph=True)
    assert told_beta.log_threshold.grad[2].abs() > 1e-6
    assert all(p.grad.abs().sum() > 0 for p in told_beta.embedding.parameters())
    assert all(response.weight.grad.abs().sum() > 0 for response in told_beta.responses)
    told_beta.zero_grad()
    posterior.mean.sum().backward()
    assert told_beta.log_threshold.grad[2].abs() > 1e-6


def test_a_new_multi_rate_vae_has_no_changes_by_beta_but_its_gates():
    model = MultiRateVAE(4, 6)
    low, high = model.at(1e-3), model.at(1.0)
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(features(low, images), features(high, images))


def test_beyond_its_range_a_multi_rate_vae_is_what_it_is_at_the_end(told_beta):
    images = torch.rand(3, 1, 28, 28)
    for beyond, end in zip((0.0, 1e3), BETA_RANGE, strict=True):
        assert torch.equal(told_beta.at(beyond).code(images), told_beta.at(end).code(images))


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_beta_that_is_none_is_named(told_beta, beta):
    with pytest.raises(ValueError, match=f"beta = {beta!r}"):
        told_beta.at(beta)
