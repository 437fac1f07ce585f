"""What does the code carry, and does it follow the prior?"""

from __future__ import annotations

import math

import torch
from scipy import linalg
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean
from vae_nb.models import PIXELS, VAE, Posterior, in_batches
from vae_nb.objective import kl_divergence, squared_error

ACTIVE_VARIANCE = 0.01


def posterior(model: VAE, images: Tensor) -> Posterior:
    """q(z|x) of every image: mean and log-variance, each ``(n, M)``."""
    return Posterior(*in_batches(model, model.encoder, images).chunk(2, dim=1))


def rate(posterior: Posterior) -> Measured:
    """KL(q(z|x) || p(z)) in nats, summed over the latents, with its interval over images."""
    return of_mean(kl_divergence(posterior).sum(1).numpy())


def rate_of_each_latent(posterior: Posterior) -> Tensor:
    """KL of each latent in nats, mean over images: ``(M,)``."""
    return kl_divergence(posterior).mean(0)


def active_units(codes: Tensor) -> int:
    """How many latents of the codes or posterior means ``(n, M)`` vary with the image.

    A latent is active if its variance over the data is above 0.01 (Burda et al. 2016, section 5).
    """
    return int((codes.var(dim=0) > ACTIVE_VARIANCE).sum())


def distance_to_prior(codes: Tensor) -> float:
    """Fréchet distance between the codes ``(n, M)`` and N(0, I), per latent.

    With the codes' mean m and covariance C it is ``(|m|^2 + tr(C + I - 2 C^(1/2))) / M``: 0 if
    they have the prior's first two moments.
    """
    codes = codes.double()
    mean, covariance = codes.mean(0), torch.cov(codes.T)
    eigenvalues = torch.from_numpy(linalg.eigvalsh(covariance.numpy())).clamp(min=0)
    gap = mean.square().sum() + (eigenvalues.sqrt() - 1).square().sum()
    return (gap / codes.shape[1]).item()


def log_likelihood(
    model: VAE, images: Tensor, variance: float, draws: int = 50, seed: int = 0
) -> tuple[Measured, Measured]:
    """Two lower bounds of log p(x) in nats per image, for a Gaussian decoder of this ``variance``.

    The ELBO, and the importance-weighted bound of ``draws`` samples, which is never below it in
    expectation and reaches log p(x) as the samples grow (Burda et al. 2016, eq. 8). Intervals are
    over the images ``(n, 1, 28, 28)``.
    """
    generator = torch.Generator().manual_seed(seed)
    log_weights = []
    for image in images.split(1000 // draws):
        q = posterior(model, image)
        noise = torch.randn(draws, *q.mean.shape, generator=generator)
        codes = q.sample(noise)
        decoded = in_batches(model, model.decode, codes.flatten(0, 1))
        error = squared_error(image.repeat(draws, 1, 1, 1), decoded).unflatten(0, (draws, -1))
        log_p = -PIXELS / 2 * (error / variance + math.log(2 * math.pi * variance))
        # log p(z) - log q(z | x): the constants of the two Gaussians cancel.
        log_ratio = 0.5 * (noise.square() - codes.square() + q.log_variance).sum(-1)
        log_weights.append((log_p + log_ratio).double())
    log_weight = torch.cat(log_weights, dim=1)  # (draws, n)
    weighted = log_weight.logsumexp(0) - math.log(draws)
    return of_mean(log_weight.mean(0).numpy()), of_mean(weighted.numpy())
