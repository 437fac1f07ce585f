"""How close is a reconstruction to its image, and how sharp is it?"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vae_nb.evaluation.interval import Measured, of_mean, of_ratio
from vae_nb.models import VAE, Autoencoder, Posterior, in_batches
from vae_nb.objective import squared_error


def reconstruct(model: Autoencoder | VAE, images: Tensor) -> Tensor:
    """Images decoded from the code (AE) or posterior mean (VAE): ``(n, 1, 28, 28)`` to the same."""
    return in_batches(model, lambda part: model.decode(model.code(part)), images)


def reconstruct_sampled(model: Autoencoder | VAE, images: Tensor, seed: int = 0) -> Tensor:
    """Images decoded from one posterior sample each; for an autoencoder, from its code."""
    return in_batches(model, model.decode, sampled_codes(model, images, seed))


def sampled_codes(model: Autoencoder | VAE, images: Tensor, seed: int = 0) -> Tensor:
    """One sample of q(z|x) for each image, ``(n, M)``: together they are the aggregate posterior.

    An autoencoder has no posterior: its codes are returned.
    """
    if isinstance(model, Autoencoder):
        return in_batches(model, model.code, images)
    posterior = Posterior(*in_batches(model, model.encoder, images).chunk(2, dim=1))
    generator = torch.Generator().manual_seed(seed)
    return posterior.sample(torch.randn(posterior.mean.shape, generator=generator))


def mse(images: Tensor, reconstructions: Tensor) -> Measured:
    """Mean squared error over pixels and images (grey level^2), with its interval over images."""
    return of_mean(squared_error(images, reconstructions).numpy())


def pixel_variance(images: Tensor) -> float:
    """The mean squared error of answering every image with the mean image."""
    return images.flatten(1).var(dim=0, unbiased=False).mean().item()


def r_squared(images: Tensor, reconstructions: Tensor) -> Measured:
    """The share of the pixel variance that is reconstructed: ``1 - MSE / variance``; 1 is perfect.

    Its interval is over images.
    """
    around_mean = squared_error(images, images.mean(0, keepdim=True))
    left = of_ratio(squared_error(images, reconstructions).numpy(), around_mean.numpy())
    return Measured(1 - left.value, 1 - left.high, 1 - left.low)


def ssim(images: Tensor, reconstructions: Tensor) -> Measured:
    """Structural similarity (Wang et al. 2004), 1 is perfect; its interval is over images."""
    values = [
        structural_similarity_index_measure(*parts, data_range=1.0, reduction="none")
        for parts in zip(reconstructions.split(500), images.split(500), strict=True)
    ]
    return of_mean(torch.cat(values).numpy())


def gradient_energy(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, mean over the image: ``(n,)``.

    Blur removes just this: the mean image has little of it, strokes have much.
    """
    down = images.diff(dim=2).square().flatten(1).mean(1)
    right = images.diff(dim=3).square().flatten(1).mean(1)
    return down + right


def sharpness(images: Tensor, real: Tensor) -> Measured:
    """Gradient energy of ``images`` relative to that of ``real``: 1 is as sharp as the data.

    Both are ``(n, 1, 28, 28)`` with the same n; if ``images`` reconstructs ``real`` in order, the
    interval uses the pairing, and for independent images it is right as well.
    """
    return of_ratio(gradient_energy(images).numpy(), gradient_energy(real).numpy())
