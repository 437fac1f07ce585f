"""How much do samples look like held-out images, all together and one by one?

All distances are taken in the features of our own classifier, between as many samples as held-out
images, because the Fréchet distance depends on their number (its bias falls as 1/n).
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from vae_nb.evaluation.interval import Measured, by_jackknife, of_share
from vae_nb.evaluation.reconstruction import sampled_codes
from vae_nb.models import VAE, Autoencoder, in_batches, sample_prior


def from_prior(model: Autoencoder | VAE, count: int, seed: int = 0) -> Tensor:
    """Images decoded from z ~ N(0, I), for AE and VAE alike: ``(count, 1, 28, 28)``."""
    return in_batches(model, model.decode, sample_prior(count, model.latent_dim, seed))


def from_mixture(
    model: Autoencoder | VAE, images: Tensor, count: int, components: int = 10, seed: int = 0
) -> Tensor:
    """Images decoded from a Gaussian mixture that is fitted to the codes of (training) ``images``.

    Nothing of the model changes, only where the codes come from (Ghosh et al. 2020, section 4:
    "ex-post density estimation"). Shape ``(count, 1, 28, 28)``.
    """
    codes = sampled_codes(model, images, seed).double().numpy()
    mixture = GaussianMixture(
        components, init_params="k-means++", max_iter=25, reg_covar=1e-4, random_state=seed
    )
    with warnings.catch_warnings():  # a fit that has not quite converged samples well enough
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(codes)
    drawn, _ = mixture.sample(count)
    generator = torch.Generator().manual_seed(seed)  # sample() returns them sorted by component
    order = torch.randperm(count, generator=generator)
    return in_batches(model, model.decode, torch.from_numpy(drawn).float()[order])


class _Features(nn.Module):
    """Features instead of images go into torchmetrics, so that they are computed once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: Tensor, samples: Tensor) -> Measured:
    """Fréchet distance of two sets of features, each ``(n, F)`` (Heusel et al. 2017); 0 is best.

    Unit: squared feature length; comparable only for one classifier and one n. The interval is that
    of drawing the samples again.
    """
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]), reset_real_features=False)
    metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)

    def distance(rows: np.ndarray) -> float:
        metric.reset()
        metric.update(samples[rows].double(), real=False)
        return metric.compute().item()

    return by_jackknife(distance, len(samples))


def kid(real: Tensor, samples: Tensor, subset: int = 1000, subsets: int = 20) -> Measured:
    """Kernel distance (MMD^2, cubic kernel; Bińkowski et al. 2018) of two sets of features.

    It has no bias from n, so that its floor is 0. The interval is over random subsets.
    """
    with warnings.catch_warnings():  # that it keeps all features; here they are small
        warnings.simplefilter("ignore", UserWarning)
        metric = KernelInceptionDistance(
            feature=_Features(real.shape[1]), subsets=subsets, subset_size=min(subset, len(real))
        )
    metric.update(real, real=True)
    metric.update(samples, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean, spread = (number.item() for number in metric.compute())
    half = spread / math.sqrt(subsets) * stats.t.ppf(0.975, subsets - 1)
    return Measured(mean, mean - half, mean + half)


def precision_and_recall(
    real: Tensor, samples: Tensor, neighbours: int = 3
) -> tuple[Measured, Measured]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2), each in [0, 1].

    Precision: the share of samples within the k-nearest-neighbour ball of some real image. Recall:
    the share of real images within such a ball of some sample. Features are ``(n, F)``.
    """
    return of_share(_within(samples, real, neighbours)), of_share(
        _within(real, samples, neighbours)
    )


def _within(points: Tensor, manifold: Tensor, neighbours: int, chunk: int = 1000) -> list[bool]:
    # Distance 0 of a point to itself is one of the k + 1 smallest.
    radii = torch.cat(
        [
            torch.cdist(part, manifold).kthvalue(neighbours + 1, dim=1).values
            for part in manifold.split(chunk)
        ]
    )
    hits = [(torch.cdist(part, manifold) <= radii).any(1) for part in points.split(chunk)]
    return torch.cat(hits).tolist()


def confident_share(probabilities: Tensor, at_least: float = 0.95) -> Measured:
    """The share of images ``(n, 10)`` to which the classifier gives one label with confidence."""
    return of_share(probabilities.max(1).values.numpy() >= at_least)


def class_balance(probabilities: Tensor) -> float:
    """Entropy of the labels given to ``(n, 10)``, relative to log 10: 1 is all labels alike."""
    shares = probabilities.argmax(1).bincount(minlength=10) / len(probabilities)
    return (torch.special.entr(shares).sum() / torch.tensor(10.0).log()).item()
