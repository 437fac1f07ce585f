"""What does the code carry, and does it follow the prior?"""

from __future__ import annotations

import torch
from scipy import linalg
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean
from vae_nb.models import VAE, Posterior, in_batches
from vae_nb.objective import kl_divergence

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
