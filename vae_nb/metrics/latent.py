"""What the code carries, and whether it follows the prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy import linalg
from torch import Tensor

from vae_nb.metrics.intervals import Estimate, exactly, jackknife_ci, shared_mean_ci
from vae_nb.metrics.record import Record, part
from vae_nb.models import PIXELS, Posterior, decode, sampled_codes
from vae_nb.objective import kl_divergence, squared_error

ACTIVE_VARIANCE = 0.01
HELD_BACK = 5000  # last training images, on which the decoder's variance is chosen
LIKELIHOOD_IMAGES = 500  # whose likelihood is bounded
LIKELIHOOD_DRAWS = 50


def rate(posterior: Posterior) -> Estimate:
    """KL(q(z|x) || p(z)) in nats, summed over the latents, with its interval over images."""
    return shared_mean_ci(kl_divergence(posterior).sum(1).numpy())


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
    distance = mean.square().sum() + (eigenvalues.sqrt() - 1).square().sum()
    return (distance / codes.shape[1]).item()


def log_likelihood(
    model: Any,
    images: Tensor,
    posterior: Posterior,
    variance: float,
    draws: int = LIKELIHOOD_DRAWS,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    """Two lower bounds of log p(x) in nats per image, for a Gaussian decoder of this ``variance``.

    The ELBO, and the importance-weighted bound of ``draws`` samples of the ``posterior``, which is
    never below it in expectation and reaches log p(x) as the samples grow (Burda et al. 2016, eq.
    8). Intervals are over the images ``(n, 1, 28, 28)``.
    """
    generator = torch.Generator().manual_seed(seed)
    log_weights = []
    size = 1000 // draws
    parts = zip(images.split(size), *(of.split(size) for of in posterior), strict=True)
    for part_of_images, *part_of_posterior in parts:
        q = Posterior(*part_of_posterior)
        noise = torch.randn(draws, *q.mean.shape, generator=generator)
        codes = q.sample(noise)
        decoded = decode(model, codes.flatten(0, 1))
        error = squared_error(part_of_images.repeat(draws, 1, 1, 1), decoded)
        error = error.unflatten(0, (draws, -1))
        log_p = -PIXELS / 2 * (error / variance + math.log(2 * math.pi * variance))
        # log p(z) - log q(z | x): the constants of the two Gaussians cancel.
        log_ratio = 0.5 * (noise.square() - codes.square() + q.log_variance).sum(-1)
        log_weights.append((log_p + log_ratio).double())
    log_weight = torch.cat(log_weights, dim=1)  # (draws, n)
    weighted = log_weight.logsumexp(0) - math.log(draws)
    return shared_mean_ci(log_weight.mean(0).numpy()), shared_mean_ci(weighted.numpy())


# --- of a record ---


def measure_rate(record: Record) -> Estimate:
    """:func:`rate` of the held-out images."""
    return rate(record.posterior())


def measure_active_units(record: Record) -> Estimate:
    """:func:`active_units` of the held-out images' codes: counted, not estimated."""
    return exactly(active_units(record.codes()))


def measure_distance_to_prior(record: Record) -> Estimate:
    """:func:`distance_to_prior` of the held-out images' codes, one posterior sample each."""
    codes = record.sampled_codes()
    return jackknife_ci(lambda rows: distance_to_prior(codes[rows]), len(codes))


@part
def likelihood_bounds(record: Record) -> tuple[Estimate, Estimate]:
    """:func:`log_likelihood` of LIKELIHOOD_IMAGES held-out images, spread over all of them.

    The variance is that at which the likelihood of the last training images is highest: their mean
    squared error as sampled reconstructions (Rybkin et al. 2021, eq. 6).
    """
    images = record.dataset.train_images[-HELD_BACK:]
    errors = squared_error(images, decode(record.run, sampled_codes(record.run, images)))
    variance = errors.mean(dtype=torch.float64).item()
    every = max(1, len(record.images) // LIKELIHOOD_IMAGES)
    some = Posterior(*(of[::every][:LIKELIHOOD_IMAGES] for of in record.posterior()))
    images = record.images[::every][:LIKELIHOOD_IMAGES]
    return log_likelihood(record.run, images, some, variance)


def measure_elbo(record: Record) -> Estimate:
    """The ELBO of :func:`likelihood_bounds`."""
    return likelihood_bounds(record)[0]


def measure_log_likelihood(record: Record) -> Estimate:
    """The importance-weighted bound of :func:`likelihood_bounds`."""
    return likelihood_bounds(record)[1]
