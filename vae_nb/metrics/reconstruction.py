"""How close reconstructions are to their images, and how sharp they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vae_nb.metrics.classifier import features, probabilities
from vae_nb.metrics.intervals import (
    Estimate,
    difference,
    exactly,
    ratio_ci,
    shared_mean_ci,
    shared_proportion_ci,
)
from vae_nb.metrics.record import Record
from vae_nb.models import decode, encode, sampled_codes
from vae_nb.objective import squared_error


def reconstruct(model: Any, images: Tensor) -> Tensor:
    """Images decoded from the code (AE) or posterior mean (VAE): ``(n, 1, 28, 28)`` to the same."""
    return decode(model, encode(model, images))


def reconstruct_sampled(model: Any, images: Tensor, seed: int = 0) -> Tensor:
    """Images decoded from one posterior sample each; for an autoencoder, from its code."""
    return decode(model, sampled_codes(model, images, seed))


def mse(images: Tensor, reconstructions: Tensor) -> Estimate:
    """Mean squared error over pixels and images (grey level^2), with its interval over images."""
    return shared_mean_ci(squared_error(images, reconstructions).numpy())


def pixel_variance(images: Tensor) -> float:
    """The mean squared error of answering every image with the mean image (grey level^2)."""
    return images.flatten(1).var(dim=0, unbiased=False).mean().item()


def r_squared(images: Tensor, reconstructions: Tensor) -> Estimate:
    """The share of the pixel variance that is reconstructed: ``1 - MSE / variance``; 1 is perfect.

    Its interval is over images.
    """
    around_mean = squared_error(images, images.mean(0, keepdim=True))
    left = ratio_ci(squared_error(images, reconstructions).numpy(), around_mean.numpy())
    return difference(exactly(1.0), left)


def gradient_energy(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, mean over the image: ``(n,)``.

    Blur removes just this: the mean image has little of it, strokes have much.
    """
    down = images.diff(dim=2).square().flatten(1).mean(1)
    right = images.diff(dim=3).square().flatten(1).mean(1)
    return down + right


def sharpness(reconstructions: Tensor, images: Tensor) -> Estimate:
    """Gradient energy of reconstructions relative to that of their images, ``(n, 1, 28, 28)`` each.

    1 is as sharp as the data.
    """
    return ratio_ci(gradient_energy(reconstructions).numpy(), gradient_energy(images).numpy())


# --- of a record; decoded from the "mean" of the posterior (or the code), or a "sample" ---


def _reconstructions(record: Record, code: str) -> Tensor:
    return record.reconstructions() if code == "mean" else record.sampled_reconstructions()


def measure_pixel_variance(record: Record) -> Estimate:
    """:func:`pixel_variance` of the held-out images; not estimated."""
    return exactly(pixel_variance(record.images))


def measure_mse(record: Record, code: str) -> Estimate:
    """:func:`mse` of the reconstructions of the held-out images."""
    return mse(record.images, _reconstructions(record, code))


def measure_r_squared(record: Record) -> Estimate:
    """:func:`r_squared` of the reconstructions of the held-out images."""
    return r_squared(record.images, record.reconstructions())


def measure_sharpness(record: Record, code: str) -> Estimate:
    """:func:`sharpness` of the reconstructions of the held-out images."""
    return sharpness(_reconstructions(record, code), record.images)


def measure_same_label(record: Record) -> Estimate:
    """The share of reconstructions to which the classifier gives the label of the original."""
    classifier = record.classifier()
    labels = probabilities(classifier, features(classifier, record.reconstructions())).argmax(1)
    return shared_proportion_ci((labels == record.real_probabilities().argmax(1)).numpy())
