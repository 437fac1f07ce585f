"""The objective: reconstruction, KL divergence, and the units of beta.

The course's objective, which is this project's (N = 784 pixels, M latents):

    objective = SSE / N  +  beta * KL / M

with SSE the squared error summed over an image's pixels and KL the divergence of q(z|x) from the
prior, summed over the latents, in nats; both are averaged over the images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from vae_nb.models import PIXELS, Posterior, evaluating, sample_prior


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
    """The two terms of the objective, of each image: ``(B,)``."""

    reconstruction: Tensor  # squared error, mean over pixels
    kl: Tensor  # nats, mean over latents; zero for an autoencoder

    def loss(self, beta: float | Tensor) -> Tensor:
        """``reconstruction + beta * kl`` of each image: its mean is what training minimises."""
        return self.reconstruction + beta * self.kl


Error = Callable[[Tensor, Tensor], Tensor]  # of images and reconstructions, of each image


def terms(model: Any, images: Tensor, noise: Tensor, error: Error = squared_error) -> Terms:
    """Both terms of each image; a VAE is decoded from one posterior sample made of ``noise``.

    ``images`` is ``(B, 1, 28, 28)``, ``noise`` standard normal ``(B, M)`` (an autoencoder does not
    use it).
    """
    reconstructions, posterior = model(images, noise)
    reconstruction = error(images, reconstructions)
    if posterior is None:
        return Terms(reconstruction, torch.zeros_like(reconstruction))
    return Terms(reconstruction, kl_divergence(posterior).mean(1))


@dataclasses.dataclass(frozen=True)
class FixedBeta:
    """The course's objective at one beta; an autoencoder's is that at 0.

    A subclass with another ``error`` has another likelihood.
    """

    beta: float

    @staticmethod
    def error(images: Tensor, reconstructions: Tensor) -> Tensor:
        """What the reconstruction costs, of each image; see :func:`squared_error`."""
        return squared_error(images, reconstructions)

    def __call__(
        self,
        model: Any,
        images: Tensor,
        noise: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, Terms]:
        """The loss of a batch, and its terms image by image.

        ``generator`` and ``progress`` (the share of the training that is done) are for objectives
        that draw something of their own.
        """
        found = terms(model, images, noise, self.error)
        return found.loss(self.beta).mean(), found

    def held_out(self, model: Any, images: Tensor) -> dict[str, float]:
        """See :func:`held_out`."""
        return held_out(model, images, self.beta, error=self.error)

    def fitted_beta(self, held_out: dict[str, float], latent_dim: int) -> float:
        """The weight of the KL in the end; ``held_out`` are the values after the last epoch."""
        return self.beta


@dataclasses.dataclass(frozen=True)
class LearnedVariance:
    """The likelihood of a Gaussian decoder that learns its variance (Rybkin et al. 2021).

    The variance that fits best is the batch's own error, and beta follows from it in every step.
    """

    def __call__(
        self,
        model: Any,
        images: Tensor,
        noise: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, Terms]:
        """See :class:`FixedBeta`."""
        found = terms(model, images, noise)
        variance = found.reconstruction.detach().mean()
        return found.loss(beta_of_decoder_variance(variance, noise.shape[1])).mean(), found

    def held_out(self, model: Any, images: Tensor) -> dict[str, float]:
        """See :func:`held_out`, at the calibrated beta."""
        return held_out(model, images, None)

    def fitted_beta(self, held_out: dict[str, float], latent_dim: int) -> float:
        """The beta that belongs to the variance in the end."""
        return beta_of_decoder_variance(held_out["reconstruction"], latent_dim)


def held_out(
    model: Any,
    images: Tensor,
    beta: float | None,
    seed: int = 0,
    batch_size: int = 1000,
    error: Error = squared_error,
) -> dict[str, float]:
    """The objective and its terms over the whole of ``images``, in eval mode.

    Returns ``loss``, ``reconstruction`` (of one posterior sample per image, as the objective says),
    ``mse_mean`` (decoded from the posterior mean, as figures show) and ``kl`` (nats per latent).
    ``beta=None`` is the calibrated one, that of a decoder variance equal to ``reconstruction``. The
    noise is drawn once for all images, so that the values do not depend on ``batch_size``; sums are
    divided by what was summed.
    """
    device = next(model.parameters()).device
    noise = sample_prior(len(images), model.latent_dim, seed)
    sums = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode(), evaluating(model):
        for part, its_noise in zip(images.split(batch_size), noise.split(batch_size), strict=True):
            batch = part.to(device)
            sampled = terms(model, batch, its_noise.to(device), error)
            mean = squared_error(batch, model.decode(model.encode(batch)))
            sums += torch.stack([*sampled, mean]).sum(1, dtype=torch.float64).cpu()
    reconstruction, kl, mse_mean = (sums / len(images)).tolist()
    if beta is None:
        beta = beta_of_decoder_variance(reconstruction, model.latent_dim)
    loss = reconstruction + beta * kl
    return {"loss": loss, "reconstruction": reconstruction, "mse_mean": mse_mean, "kl": kl}


# What beta means elsewhere. Each follows from SSE/N + beta*KL/M by multiplying all of it with a
# constant, which moves no minimum.


def decoder_variance(beta: float, latent_dim: int = 64, pixels: int = PIXELS) -> float:
    """The variance sigma^2 of a Gaussian decoder for which this beta gives the negative ELBO.

    ``-ELBO = SSE / (2 sigma^2) + KL + constant``, so ``sigma^2 = beta * N / (2 M)`` (grey level^2).
    """
    return beta * pixels / (2 * latent_dim)


Number = TypeVar("Number", float, Tensor)


def beta_of_decoder_variance(
    variance: Number, latent_dim: int = 64, pixels: int = PIXELS
) -> Number:
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
