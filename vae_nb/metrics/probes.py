"""How useful a code is to a model that reads it.

What is read are the autoencoder's codes or the VAE's *posterior means*, not samples and not a
hidden layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_nb.data import Dataset
from vae_nb.metrics.intervals import Estimate, shared_mean_ci, shared_proportion_ci
from vae_nb.metrics.record import Record, part

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

COUNTS = {10: 20, 100: 10, 1000: 5}  # labelled images: draws of them
NOISE = (0.5, 1.0)  # of the standard deviation of each latent
NOISE_LABELS = 1000  # of the probe that reads noisy codes
NEIGHBOURS = 5
COMPONENTS = 64  # of the linear baseline: as many as the models have latents


def draws(labels: Tensor, count: int, times: int) -> Iterator[np.ndarray]:
    """``times`` random choices of ``count`` indices, with as many of each label as can be.

    ``labels`` is ``(n,)``. Where a label has too few, others fill the place.
    """
    by_index = labels.numpy()
    for draw in range(times):
        order = np.random.default_rng(draw).permutation(len(by_index))
        # Rank of each index among those of its label: the first of all labels come first.
        rank = np.empty(len(by_index), dtype=int)
        for label in np.unique(by_index):
            of_label = order[by_index[order] == label]
            rank[of_label] = np.arange(len(of_label))
        yield order[np.argsort(rank[order], kind="stable")][:count]


def scaled(codes: Tensor, test_codes: Tensor) -> tuple[Tensor, Tensor]:
    """Both ``(n, M)``, centred and divided by *one* number, the spread over all training codes.

    The penalty of a probe depends on the scale of its inputs. One number for all latents leaves
    their relative spread alone: an inactive latent is not scaled up to an active one's. (Where all
    latents are inactive, what little they vary is what is read.)
    """
    mean = codes.mean(dim=0)
    spread = (codes - mean).square().mean().sqrt().clamp(min=1e-12)
    return (codes - mean) / spread, (test_codes - mean) / spread


def linear_probe() -> LogisticRegression:
    """Logistic regression with scikit-learn's default penalty, for :func:`scaled` codes."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000)


def nearest_neighbours(count: int, classes: int) -> KNeighborsClassifier:
    """k-NN by Euclidean distance: k is half of the labels of each class, from 1 to NEIGHBOURS."""
    from sklearn.neighbors import KNeighborsClassifier

    k = max(1, min(NEIGHBOURS, count // (2 * classes)))
    return KNeighborsClassifier(k, algorithm="brute")


def _reader(kind: str, count: int, classes: int) -> LogisticRegression | KNeighborsClassifier:
    return linear_probe() if kind == "probe" else nearest_neighbours(count, classes)


def few_labels(
    kind: str, codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor, count: int
) -> Estimate:
    """Held-out accuracy of a ``"probe"`` or ``"knn"`` fitted to ``count`` labelled codes.

    Where there are fewer, to all. ``codes`` is ``(n, M)``; the interval is over ``COUNTS[count]``
    draws of the labelled examples.
    """
    scores = []
    classes = len(labels.unique())
    for chosen in draws(labels, count, COUNTS[count]):
        reader = _reader(kind, len(chosen), classes)
        reader.fit(codes[chosen].numpy(), labels[chosen].numpy())
        scores.append(reader.score(test_codes.numpy(), test_labels.numpy()))
    return shared_mean_ci(scores)


def all_labels(
    kind: str, codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor
) -> Estimate:
    """The same with every label; nothing is drawn, so the interval is over held-out images."""
    reader = _reader(kind, len(labels), len(labels.unique()))
    reader.fit(codes.numpy(), labels.numpy())
    return shared_proportion_ci(reader.predict(test_codes.numpy()) == test_labels.numpy())


def under_noise(
    codes: Tensor,
    labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    noise: float,
    count: int = NOISE_LABELS,
) -> Estimate:
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
    return shared_mean_ci(scores)


def principal_components(images: Tensor, test_images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The linear baseline: both sets' first ``count`` principal components, ``(n, count)`` each.

    Fitted to ``images`` ``(n, 1, 28, 28)`` by scikit-learn.
    """
    from sklearn.decomposition import PCA

    components = PCA(count, svd_solver="covariance_eigh").fit(images.flatten(1).numpy())
    codes, test_codes = (
        torch.from_numpy(components.transform(each.flatten(1).numpy()))
        for each in (images, test_images)
    )
    return codes, test_codes


def baseline(dataset: Dataset, kind: str) -> Record:
    """A record whose codes are grey levels ("pixels") or principal components ("components")."""
    codes, test_codes = dataset.train_images.flatten(1), dataset.test_images.flatten(1)
    if kind == "components":
        images = dataset.train_images, dataset.test_images
        codes, test_codes = principal_components(*images, COMPONENTS)
    elif kind != "pixels":
        raise ValueError(f"kind must be pixels or components; got {kind!r}")
    given = {("train_codes",): lambda: codes, ("codes",): lambda: test_codes}
    return Record(dataset, given=given)


# --- of a record ---


@part
def readings(record: Record) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaled codes and labels of training and held-out images, as :func:`few_labels` takes them."""
    codes, test_codes = scaled(record.train_codes(), record.codes())
    return codes, record.dataset.train_labels, test_codes, record.dataset.test_labels


def measure_accuracy(record: Record, kind: str, count: int | str) -> Estimate:
    """:func:`few_labels` of the codes, or :func:`all_labels` where ``count`` is "all"."""
    if count == "all":
        return all_labels(kind, *readings(record))
    return few_labels(kind, *readings(record), count=int(count))


def measure_under_noise(record: Record, noise: float) -> Estimate:
    """:func:`under_noise` of the codes."""
    return under_noise(*readings(record), noise)
