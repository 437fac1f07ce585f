"""What is minimised? Reconstruction, KL divergence, and what beta means in other people's units.

The course's objective, which is this project's (N = 784 pixels, M latents):

    objective = SSE / N  +  beta * KL / M

with SSE the squared error summed over an image's pixels and KL the divergence of q(z|x) from the
prior, summed over the latents, in nats; both are averaged over the images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_nb.models import PIXELS, VAE, Autoencoder, MultiRateVAE, Posterior, evaluating


def squared_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error of each image, **mean over its pixels**: shape ``(B,)``, unit grey level^2."""
    return (images - reconstructions).square().flatten(1).mean(1)


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) of each image and latent, in nats: shape ``(B, M)``, never negative.

    Closed form for Gaussians (Kingma & Welling 2014, appendix B):
    ``(mean^2 + sigma^2 - log sigma^2 - 1) / 2``.
    """
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


class Terms(NamedTuple):
    """The two terms of the objective: of one batch, each a scalar; or of each image, ``(B,)``."""

    reconstruction: Tensor  # squared error, mean over pixels (and images)
    kl: Tensor  # nats, mean over latents (and images); zero for an autoencoder

    def total(self, beta: float | Tensor) -> Tensor:
        """``reconstruction + beta * kl``: what training makes small."""
        return self.reconstruction + beta * self.kl


def terms(model: Autoencoder | VAE, images: Tensor, noise: Tensor) -> Terms:
    """Both terms of one batch; a VAE is decoded from one posterior sample made of ``noise``.

    ``images`` is ``(B, 1, 28, 28)``, ``noise`` standard normal ``(B, M)`` (an autoencoder does not
    look at it).
    """
    if isinstance(model, Autoencoder):
        error = squared_error(images, model.decode(model.code(images))).mean()
        return Terms(error, torch.zeros_like(error))
    posterior = model.posterior(images)
    error = squared_error(images, model.decode(posterior.sample(noise))).mean()
    return Terms(error, kl_divergence(posterior).mean())


def terms_of_images(model: MultiRateVAE, images: Tensor, noise: Tensor, beta: Tensor) -> Terms:
    """Both terms of each image at a beta of its own, ``(B,)``; shapes as in :func:`terms`."""
    reconstructions, posterior = model(images, beta, noise)
    return Terms(squared_error(images, reconstructions), kl_divergence(posterior).mean(1))


def held_out(
    model: Autoencoder | VAE,
    images: Tensor,
    beta: float | None,
    seed: int = 0,
    batch_size: int = 1000,
) -> dict[str, float]:
    """The objective and its terms over the whole of ``images``, in eval mode.

    Returns ``objective``, ``mse_sample`` (decoded from one posterior sample per image, as the
    objective says), ``mse_mean`` (decoded from the posterior mean, as figures show) and ``kl``
    (nats per latent). ``beta=None`` is the calibrated one, that of a decoder variance equal to
    ``mse_sample``. The noise is drawn once for all images, so that the values do not depend on
    ``batch_size``; sums are divided by what was summed.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(images), model.latent_dim, generator=generator)
    totals = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode(), evaluating(model):
        for batch, its_noise in zip(images.split(batch_size), noise.split(batch_size), strict=True):
            batch = batch.to(device)
            sampled = terms(model, batch, its_noise.to(device))
            of_mean = squared_error(batch, model.decode(model.code(batch))).mean()
            values = torch.stack([sampled.reconstruction, sampled.kl, of_mean])
            totals += len(batch) * values.double().cpu()
    mse_sample, kl, mse_mean = (totals / len(images)).tolist()
    if beta is None:
        beta = beta_of_decoder_variance(mse_sample, model.latent_dim)
    objective = mse_sample + beta * kl
    return {"objective": objective, "mse_sample": mse_sample, "mse_mean": mse_mean, "kl": kl}


# What beta means elsewhere. Each follows from SSE/N + beta*KL/M by multiplying all of it with a
# constant, which moves no minimum.


def decoder_variance(beta: float, latent_dim: int = 64, pixels: int = PIXELS) -> float:
    """The variance sigma^2 of a Gaussian decoder for which this beta gives the negative ELBO.

    ``-ELBO = SSE / (2 sigma^2) + KL + constant``, so ``sigma^2 = beta * N / (2 M)`` (grey level^2).
    """
    return beta * pixels / (2 * latent_dim)


def beta_of_decoder_variance(
    variance: float | Tensor, latent_dim: int = 64, pixels: int = PIXELS
) -> float | Tensor:
    """The inverse of :func:`decoder_variance`: 0.1633 * sigma^2 for N = 784 and M = 64."""
    return 2 * latent_dim * variance / pixels


def beta_of_half_squared_error(beta: float, latent_dim: int = 64, pixels: int = PIXELS) -> float:
    """Our beta in the units of ``SSE / 2 + beta_H * KL`` (summed terms, as pythae has them)."""
    return beta * pixels / (2 * latent_dim)


def beta_of_squared_error(beta: float, latent_dim: int = 64, pixels: int = PIXELS) -> float:
    """Our beta in the units of ``SSE + beta_H * KL``.

    Read the other way this is Higgins et al. 2017 (section 4.2): their *normalised* beta is
    ``beta_H * M / N``, which is ours.
    """
    return beta * pixels / latent_dim


def nats(kl_per_latent: float, latent_dim: int = 64) -> float:
    """The rate: KL summed over the latents, in nats, from the mean over latents."""
    return kl_per_latent * latent_dim


def bits(rate_in_nats: float) -> float:
    """Nats to bits: divided by log 2."""
    return rate_in_nats / math.log(2)


def collapse_beta(images: Tensor, latent_dim: int = 64) -> float:
    """The beta above which a *linear* VAE ignores its latents: ``2 * lambda_1 * M / N``.

    ``lambda_1`` is the largest eigenvalue of the pixel covariance of ``images`` ``(n, 1, 28, 28)``:
    a latent direction is worth its rate only while the decoder variance is below the eigenvalue
    (Lucas et al. 2019, section 4).
    """
    covariance = pixel_covariance(images)
    top = torch.linalg.eigvalsh(covariance)[-1].item()
    return beta_of_decoder_variance(top, latent_dim, len(covariance))


def pixel_covariance(images: Tensor) -> Tensor:
    """The covariance of the pixels of ``images`` ``(n, ...)``, ``(N, N)`` in double precision.

    In parts, so that no second copy of the images is made.
    """
    mean = images.flatten(1).mean(0, dtype=torch.float64)
    parts = (part.flatten(1) - mean for part in images.split(5000))
    return sum(part.T @ part for part in parts) / (len(images) - 1)
