"""One model for every beta: exact at each, gates, drawn betas, an objective that weighs alike."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from vae_nb import multirate
from vae_nb.models import VAE
from vae_nb.multirate import BETA_RANGE, BetaRange, MultiRateVAE, draw_betas
from vae_nb.objective import held_out
from vae_nb.recipe import recipe
from vae_nb.runs import Run
from vae_nb.training import train


@pytest.fixture
def conditioned(noise):
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
        model(torch.rand(32, 1, 28, 28), noise(32, 6), torch.full((32,), 0.1))
    return model


def features(vae, images):
    """The inputs of the encoder's last layer, which no gate touches."""
    return torch.nn.Sequential(*list(vae.encoder)[:-1])(images).detach()


@pytest.mark.parametrize("beta", [1e-4, 0.03, 1.0, 10.0])
def test_at_one_beta_a_multi_rate_vae_is_an_ordinary_vae(conditioned, noise, beta):
    images, codes = torch.rand(5, 1, 28, 28), noise(5, 6)
    conditioned.eval()
    decoded, posterior = conditioned(images, codes, torch.full((5,), beta))
    vae = conditioned.at(beta)
    assert type(vae) is VAE and not vae.training
    assert torch.allclose(vae.posterior(images).mean, posterior.mean, atol=1e-6)
    assert torch.allclose(vae.posterior(images).log_variance, posterior.log_variance, atol=1e-6)
    assert torch.allclose(vae(images, codes)[0], decoded, atol=1e-6)


def test_images_of_one_batch_are_each_at_their_own_beta(conditioned, noise):
    images, codes, betas = torch.rand(3, 1, 28, 28), noise(3, 6), torch.tensor([1e-3, 0.1, 5.0])
    decoded, _ = conditioned.eval()(images, codes, betas)
    for i, beta in enumerate(betas.tolist()):
        alone, _ = conditioned.at(beta)(images[i : i + 1], codes[i : i + 1])
        assert torch.allclose(decoded[i : i + 1], alone, atol=1e-6)


def test_a_copy_at_one_beta_leaves_the_model_alone(conditioned):
    before = {name: tensor.clone() for name, tensor in conditioned.state_dict().items()}
    vae = conditioned.at(0.1)
    for parameter in vae.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], now) for name, now in conditioned.state_dict().items())
    assert conditioned.training


@pytest.mark.parametrize("ends", [(1e-4, 1e-3), (0.05, 0.1), (3.0, 10.0)])
def test_beta_changes_encoder_and_decoder_everywhere_in_the_range(conditioned, noise, ends):
    low, high = (conditioned.at(beta) for beta in ends)
    images, codes = torch.rand(5, 1, 28, 28), noise(5, 6)
    # By the features' scales and shifts, whatever the gates do.
    assert not torch.allclose(features(low, images), features(high, images), atol=1e-3)
    assert not torch.allclose(low.decode(codes), high.decode(codes), atol=1e-3)


def test_a_gate_is_the_response_of_a_linear_vae_with_its_corner_rounded(conditioned):
    conditioned.log_threshold.data = torch.tensor([1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0]).log()
    for beta in (1e-4, 0.05, 0.2, 2.0):
        linear = (1 - beta / conditioned.log_threshold.exp()).clamp(min=0)
        gates = conditioned.gates(torch.tensor([beta]))[0]
        assert (gates - linear).abs().max() < 0.07  # log(2) / 10 at the corner
        assert gates.min() >= 0 and gates.max() <= 1
    closed = conditioned.gates(torch.tensor([10.0]))[0]
    assert closed[:5].max() < 1e-4


def test_gradients_reach_gates_and_embedding(conditioned, noise):
    # Beside one threshold, so that its gate is neither open nor closed.
    beta = 0.8 * conditioned.log_threshold[2].exp().detach()
    decoded, posterior = conditioned(torch.rand(8, 1, 28, 28), noise(8, 6), beta.expand(8))
    decoded.square().sum().backward(retain_graph=True)
    assert conditioned.log_threshold.grad[2].abs() > 1e-6
    assert all(p.grad.abs().sum() > 0 for p in conditioned.embedding.parameters())
    assert all(response.weight.grad.abs().sum() > 0 for response in conditioned.responses)
    conditioned.zero_grad()
    posterior.mean.sum().backward()
    assert conditioned.log_threshold.grad[2].abs() > 1e-6


def test_a_new_multi_rate_vae_has_no_changes_by_beta_but_its_gates():
    model = MultiRateVAE(4, 6)
    low, high = model.at(1e-3), model.at(1.0)
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(features(low, images), features(high, images))


def test_beyond_its_range_a_multi_rate_vae_is_what_it_is_at_the_end(conditioned):
    images = torch.rand(3, 1, 28, 28)
    for beyond, end in zip((0.0, 1e3), BETA_RANGE, strict=True):
        assert torch.equal(
            conditioned.at(beyond).encode(images), conditioned.at(end).encode(images)
        )


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_beta_that_is_none_is_named(conditioned, beta):
    with pytest.raises(ValueError, match=f"beta = {beta!r}"):
        conditioned.at(beta)


# --- training ---


def test_drawn_betas_cover_what_the_schedule_has_raised_the_range_to():
    def drawn(progress):
        return draw_betas(4096, progress, torch.Generator().manual_seed(0)).double()

    low, high = BETA_RANGE
    for progress in (0.0, 0.1, 0.2, 1.0):
        betas = drawn(progress).log()
        raised = min(1, progress / multirate.BETA_MAX_RISE)
        top = (1 - raised) * math.log(multirate.BETA_MAX_START) + raised * math.log(high)
        assert betas.min() == pytest.approx(math.log(low), abs=0.02)
        assert betas.max() == pytest.approx(top, abs=0.05) and betas.max() <= top + 1e-6
    assert drawn(0.0).max() < 3.0001e-3 and drawn(1.0).max() > 9
    assert torch.equal(drawn(0.3), drawn(0.3))


def test_drawn_betas_have_their_shares_and_are_log_uniform_between():
    betas = draw_betas(100_000, 1.0, torch.Generator().manual_seed(0)).log().numpy()
    knots = np.log(multirate.BETA_PARTS)
    for low, high, share in zip(knots, knots[1:], multirate.BETA_SHARES, strict=False):
        part = betas[(betas >= low) & (betas < high)]
        assert len(part) / len(betas) == pytest.approx(share, abs=0.001)
        assert part.mean() == pytest.approx((low + high) / 2, abs=0.01)
        assert part.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.01)
    # And in no order: neighbours in a batch are not neighbours in beta.
    assert abs(np.corrcoef(betas[1:], betas[:-1])[0, 1]) < 0.02


def test_relative_losses_are_about_one_at_every_beta():
    objective, generator = BetaRange(), torch.Generator().manual_seed(0)
    for _ in range(200):
        betas = draw_betas(256, 1.0, generator)
        losses = betas.sqrt() * (0.5 + torch.rand(256, generator=generator))
        relative = objective.relative(losses, betas)
    for low, high in ((1e-4, 1e-3), (1e-3, 0.1), (0.1, 1.0), (1.0, 10.0)):
        part = relative[(betas >= low) & (betas < high)]
        assert part.mean() == pytest.approx(1, abs=0.25)


def test_the_running_mean_carries_no_gradient_and_is_kept_from_batch_to_batch():
    objective = BetaRange()
    losses, betas = torch.full((8,), 0.1, requires_grad=True), torch.full((8,), 0.1)
    objective.relative(losses, betas).sum().backward()
    # 0.9 of the mean to begin with and 0.1 of the batch's own: what is minimised is the loss itself
    assert torch.allclose(losses.grad, torch.full((8,), 1 / (0.9 * 0.05 + 0.1 * 0.1)))
    again = objective.relative(losses.detach(), betas)
    assert torch.allclose(again, torch.full((8,), 0.1 / (0.9 * 0.055 + 0.1 * 0.1)))


def test_the_loss_of_a_batch_is_each_image_s_at_its_own_beta(noise):
    torch.manual_seed(0)
    model, images, codes = MultiRateVAE(4, 6).train(), torch.rand(16, 1, 28, 28), noise(16, 6)
    loss, terms = BetaRange()(model, images, codes, torch.Generator().manual_seed(3), 1.0)
    betas = draw_betas(16, 1.0, torch.Generator().manual_seed(3))
    expected = BetaRange().relative(terms.reconstruction + betas * terms.kl, betas).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # a tolerance for the statistics of the batch normalisation, which the first call has moved
    decoded, _ = model(images, codes, betas)
    error = (decoded - images).square().flatten(1).mean(1)
    assert torch.allclose(terms.reconstruction, error, atol=1e-5)


@pytest.fixture(scope="module")
def trained(mnist):
    """A small multi-rate run, as :func:`vae_nb.runs.fit` makes one, with 500 held-out images."""
    few = dataclasses.replace(mnist, test_images=mnist.test_images[:500])
    given = recipe("multi_rate", width=8, epochs=8, batch_size=64, train_images=2000)
    run = Run(given, *train(given, few), made={}, digest="x")
    run.__dict__["dataset"] = few
    return run


def test_one_training_gives_a_curve_that_goes_one_way(trained):
    betas = [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    points = [trained.at(beta).history.held_out[-1] for beta in betas]
    for before, after in pairwise(points):
        assert after["kl"] < 0.9 * before["kl"]
        assert after["reconstruction"] > 0.98 * before["reconstruction"]
    assert points[0]["reconstruction"] < 0.6 * points[-1]["reconstruction"]
    assert 64 * points[-1]["kl"] < 0.5 < 10 < 64 * points[0]["kl"]


def test_a_multi_rate_run_at_one_beta_is_a_run_like_others(trained):
    here = trained.at(0.05)
    assert math.isnan(trained.beta) and here.beta == 0.05
    assert here.digest != trained.at(0.06).digest
    values = held_out(trained.model.at(0.05), trained.dataset.test_images, 0.05)
    assert here.history.held_out == [pytest.approx(values, rel=1e-5)]
    # The limit of a free code: what is left of the objective is the error alone.
    free = trained.at(0.0).history.held_out[-1]
    assert free["loss"] == free["reconstruction"] <= values["reconstruction"]
    # The history of the training has the values at one beta.
    watched = trained.at(multirate.WATCHED_BETA).history.held_out[-1]
    assert trained.history.held_out[-1] == pytest.approx(watched, rel=1e-5)
