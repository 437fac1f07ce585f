"""How useful is the code to a model that is fed with it?

What is probed are the autoencoder's codes or the VAE's *posterior means*, not samples and not a
hidden layer: published comparisons went wrong by mixing them up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean, of_share

COUNTS = {10: 20, 100: 10, 1000: 5}  # labelled images: draws of them
NOISE = (0.5, 1.0)  # of the standard deviation of each latent


def draws(labels: Tensor, count: int, times: int) -> Iterator[np.ndarray]:
    """``times`` random choices of ``count`` indices, with as many of each label as can be.

    ``labels`` is ``(n,)``. Where a label has too few, others fill the place.
    """
    labels = labels.numpy()
    for draw in range(times):
        order = np.random.default_rng(draw).permutation(len(labels))
        # Rank of each index among those of its label: the first of all labels come first.
        rank = np.empty(len(labels), dtype=int)
        for label in np.unique(labels):
            of_label = order[labels[order] == label]
            rank[of_label] = np.arange(len(of_label))
        yield order[np.argsort(rank[order], kind="stable")][:count]


def scaled(codes: Tensor, test_codes: Tensor) -> tuple[Tensor, Tensor]:
    """Both ``(n, M)``, centred and divided by *one* number, the spread over all training codes.

    The penalty of a probe depends on the scale of what it is given. One number for all latents
    leaves their relative spread alone: an inactive latent is not blown up to an active one's.
    (Where all latents are inactive, what little they vary is what is read.)
    """
    mean = codes.mean(dim=0)
    spread = (codes - mean).square().mean().sqrt().clamp(min=1e-12)
    return (codes - mean) / spread, (test_codes - mean) / spread


def linear_probe() -> ClassifierMixin:
    """Logistic regression with scikit-learn's default penalty, on :func:`scaled` codes."""
    return LogisticRegression(max_iter=2000)


def nearest_neighbours(count: int) -> ClassifierMixin:
    """k-NN by Euclidean distance; k is 5, or less where there are few of each of ten labels."""
    return KNeighborsClassifier(max(1, min(5, count // 20)), algorithm="brute")


def few_labels(
    kind: str, codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor, count: int
) -> Measured:
    """Held-out accuracy of a ``"probe"`` or ``"knn"`` fitted to ``count`` labelled codes.

    Where there are fewer, to all. ``codes`` is ``(n, M)``; the interval is over ``COUNTS[count]``
    draws of the labelled examples.
    """
    scores = []
    for chosen in draws(labels, count, COUNTS[count]):
        reader = linear_probe() if kind == "probe" else nearest_neighbours(len(chosen))
        reader.fit(codes[chosen].numpy(), labels[chosen].numpy())
        scores.append(reader.score(test_codes.numpy(), test_labels.numpy()))
    return of_mean(scores)


def all_labels(
    kind: str, codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor
) -> Measured:
    """The same with every label; nothing is drawn, so the interval is over held-out images."""
    reader = linear_probe() if kind == "probe" else nearest_neighbours(len(codes))
    reader.fit(codes.numpy(), labels.numpy())
    return of_share(reader.predict(test_codes.numpy()) == test_labels.numpy())


def under_noise(
    codes: Tensor,
    labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    noise: float,
    count: int = 1000,
) -> Measured:
    """Accuracy of a probe, fitted to ``count`` clean codes, when the codes that it reads are noisy.

    Each latent gets Gaussian noise of ``noise`` times its own standard deviation over the data, so
    that the scale of a code does not matter. The interval is over draws of labels and noise.
    """
    spread = test_codes.std(dim=0)
    scores = []
    for draw, chosen in enumerate(draws(labels, count, COUNTS[count])):
        probe = linear_probe().fit(codes[chosen].numpy(), labels[chosen].numpy())
        generator = torch.Generator().manual_seed(draw)
        disturbed = test_codes + noise * spread * torch.randn(test_codes.shape, generator=generator)
        scores.append(probe.score(disturbed.numpy(), test_labels.numpy()))
    return of_mean(scores)


def principal_components(images: Tensor, test_images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The linear baseline: both sets' first ``count`` principal components, ``(n, count)`` each.

    Fitted to ``images`` ``(n, 1, 28, 28)`` by scikit-learn.
    """
    components = PCA(count, svd_solver="covariance_eigh").fit(images.flatten(1).numpy())
    both = (components.transform(each.flatten(1).numpy()) for each in (images, test_images))
    return tuple(torch.from_numpy(part) for part in both)
