"""How much samples look like held-out images, as a set and one by one.

All distances are taken in the features of our own classifier, between as many samples as held-out
images, because the Fréchet distance depends on their number (its bias falls as 1/n).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_nb.metrics.classifier import features, probabilities
from vae_nb.metrics.intervals import Estimate, jackknife_ci, proportion_ci
from vae_nb.metrics.reconstruction import sharpness
from vae_nb.metrics.record import Record, part
from vae_nb.models import decode, network, sample_prior, sampled_codes

COMPONENTS = 10  # of the Gaussian mixture
MIXTURE_IMAGES = 10_000  # training images whose codes it is fitted to
CONFIDENT = 0.95  # probability of a label


def from_prior(model: Any, count: int, seed: int = 0) -> Tensor:
    """Images decoded from z ~ N(0, I), for AE and VAE alike: ``(count, 1, 28, 28)``."""
    return decode(model, sample_prior(count, network(model).latent_dim, seed))


def from_mixture(
    model: Any, images: Tensor, count: int, components: int = COMPONENTS, seed: int = 0
) -> Tensor:
    """Images decoded from a Gaussian mixture that is fitted to the codes of (training) ``images``.

    Nothing of the model changes, only where the codes come from (Ghosh et al. 2020, section 4:
    "ex-post density estimation"). Shape ``(count, 1, 28, 28)``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    codes = sampled_codes(model, images, seed).double().numpy()
    mixture = GaussianMixture(
        components, init_params="k-means++", max_iter=25, reg_covar=1e-4, random_state=seed
    )
    with warnings.catch_warnings():  # a fit that has not quite converged samples well enough
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(codes)
    new_codes, _ = mixture.sample(count)
    generator = torch.Generator().manual_seed(seed)  # sample() returns them sorted by component
    order = torch.randperm(count, generator=generator)
    return decode(model, torch.from_numpy(new_codes).float()[order])


class _Features(nn.Module):
    """Features instead of images go into torchmetrics, so that they are computed once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: Tensor, samples: Tensor) -> Estimate:
    """Fréchet distance of two sets of features, each ``(n, F)`` (Heusel et al. 2017); 0 is best.

    Unit: squared feature length; comparable only for one classifier and one n. The interval is that
    of drawing the samples again.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]), reset_real_features=False)
    metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)

    def distance(rows: np.ndarray) -> float:
        metric.reset()
        metric.update(samples[rows].double(), real=False)
        return metric.compute().item()

    return jackknife_ci(distance, len(samples))


def precision(real: Tensor, samples: Tensor, neighbours: int = 3, chunk: int = 1000) -> Estimate:
    """The share of samples within the k-nearest-neighbour ball of some real image, in [0, 1].

    Improved precision (Kynkäänniemi et al. 2019, eq. 1 and 2). Features are ``(n, F)``.
    """
    # The distance 0 of a point to itself is one of the k + 1 smallest.
    radii = torch.cat(
        [
            torch.cdist(some, real).kthvalue(neighbours + 1, dim=1).values
            for some in real.split(chunk)
        ]
    )
    hits = [(torch.cdist(some, real) <= radii).any(1) for some in samples.split(chunk)]
    return proportion_ci(torch.cat(hits).numpy())


def recall(real: Tensor, samples: Tensor, neighbours: int = 3) -> Estimate:
    """The share of real images within such a ball of some sample: precision with roles swapped."""
    return precision(samples, real, neighbours)


def confident_share(probabilities: Tensor, at_least: float = CONFIDENT) -> Estimate:
    """The share of images ``(n, classes)`` that the classifier classifies with confidence."""
    return proportion_ci(probabilities.max(1).values.numpy() >= at_least)


# --- of a record; the source of its samples is "prior" or "mixture" ---


@part
def samples(record: Record, source: str) -> Tensor:
    """As many samples as there are held-out images, ``(n, 1, 28, 28)``, by the run's own seed."""
    run, count = record.run, len(record.images)
    if source == "prior":
        return from_prior(run, count, seed=run.recipe.seed)
    some = record.dataset.train_images[:MIXTURE_IMAGES]
    return from_mixture(run, some, count, seed=run.recipe.seed)


@part
def sample_features(record: Record, source: str) -> Tensor:
    """The classifier's features of :func:`samples`, ``(n, F)``."""
    return features(record.classifier(), samples(record, source))


@part
def sample_probabilities(record: Record, source: str) -> Tensor:
    """The classifier's probabilities for :func:`samples`, ``(n, classes)``."""
    return probabilities(record.classifier(), sample_features(record, source))


def measure_fid(record: Record, source: str) -> Estimate:
    """:func:`fid` of the samples."""
    return fid(record.real_features(), sample_features(record, source))


def measure_confident(record: Record, source: str) -> Estimate:
    """:func:`confident_share` of the samples."""
    return confident_share(sample_probabilities(record, source))


def measure_sharpness(record: Record, source: str) -> Estimate:
    """:func:`sharpness` of the samples."""
    return sharpness(samples(record, source), record.images)


def measure_precision(record: Record, source: str) -> Estimate:
    """:func:`precision` of the samples."""
    return precision(record.real_features(), sample_features(record, source))


def measure_recall(record: Record, source: str) -> Estimate:
    """:func:`recall` of the samples."""
    return recall(record.real_features(), sample_features(record, source))


def measure_accuracy(record: Record) -> Estimate:
    """The share of held-out images to which the classifier gives their label."""
    labels = record.real_probabilities().argmax(1)
    return proportion_ci((labels == record.dataset.test_labels).numpy())
