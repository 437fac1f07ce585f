"""Controls: pictures of which everybody knows beforehand what a measure should say of them.

None of them is a model's output, and the classifier was fitted to none of them. The held-out images
are divided at random: one half is what is compared with, the controls are made of the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import fft, ndimage
from torch import Tensor

from vae_nb.data import Dataset
from vae_nb.metrics.intervals import Estimate
from vae_nb.metrics.record import Record
from vae_nb.models import sample_prior
from vae_nb.objective import pixel_covariance

# What is known of a control, and what a measure may ask.
SHOWS = "shows the classes"  # each picture is one of some class
VARIED = "is varied"  # as real images are
LIKE = "is distributed like real images"
SHARP = "is as sharp as real images"
NEW = "is new"  # not copied from training images


@dataclasses.dataclass(frozen=True)
class Control:
    """A set of pictures, and how much of each thing is true of it; what is left out is open.

    A larger number of ``known`` is more: 1 and 0 are true and false; of likeness 2 are real images,
    1 are real images that are slightly changed, and 0 are sets without digits or without variety.
    ``make`` takes images and labels ``(n, ...)`` and the data set, and gives ``(n, 1, 28, 28)``.
    """

    title: str
    make: Callable[[Tensor, Tensor, Dataset], Tensor]
    known: dict[str, int]


def _each(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Tensor]:
    """Pictures of an operation on arrays ``(n, 1, 28, 28)``."""

    def make(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
        return torch.from_numpy(function(images.numpy())).float().clamp(0, 1).contiguous()

    return make


def _thin(images: np.ndarray) -> np.ndarray:
    return (images + ndimage.grey_erosion(images, size=(1, 1, 2, 2))) / 2


def _thick(images: np.ndarray) -> np.ndarray:
    return (images + ndimage.grey_dilation(images, size=(1, 1, 2, 2))) / 2


def _phases_shuffled(images: np.ndarray) -> np.ndarray:
    """The same power spectrum, with the phases of noise."""
    phases = np.angle(fft.fft2(np.random.default_rng(0).normal(size=images.shape)))
    return fft.ifft2(np.abs(fft.fft2(images)) * np.exp(1j * phases)).real


def _mean(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    return images.mean(0, keepdim=True).expand_as(images).contiguous()


def _class_means(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    means = {int(label): images[labels == label].mean(0) for label in labels.unique()}
    return torch.stack([means[int(label)] for label in labels])


def _components(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    """Samples of the Gaussian in the pixels' first 64 principal components."""
    train = dataset.train_images
    variances, directions = torch.linalg.eigh(pixel_covariance(train))
    scale = variances[-64:].clamp(min=0).sqrt().float()
    flat = (sample_prior(len(images), 64) * scale) @ directions[:, -64:].float().T
    return (train.mean(0) + flat.view_as(images)).clamp(0, 1)


def _halves(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    """Two images of different labels, joined along the diagonal (in training: rows, columns)."""
    order = labels.argsort(stable=True)
    partner = torch.empty_like(order)
    partner[order] = order.roll(len(order) // 2)
    row = torch.arange(images.shape[-1])
    return torch.where(row[:, None] + row < len(row), images, images[partner])


def _copies(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    return images[:1].expand_as(images).contiguous()


def _without_a_class(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    """Those of one class are replaced by repeating others."""
    others = (labels != labels.unique()[-1]).nonzero().flatten()
    return images[others.repeat(2)[: len(images)]]


def _training(images: Tensor, labels: Tensor, dataset: Dataset) -> Tensor:
    return (dataset.whole or dataset).train_images[: len(images)]


_REAL = {SHOWS: 1, VARIED: 1, LIKE: 2, SHARP: 1}
_STILL = {SHOWS: 1, LIKE: 1}
_NONE = {SHOWS: 0, VARIED: 0, LIKE: 0}
CONTROLS = {
    "real": Control("other real images", lambda images, *_: images, _REAL | {NEW: 1}),
    "training": Control("copies of training images", _training, _REAL | {NEW: 0}),
    "blurred": Control(
        "blurred (σ = 1 pixel)",
        _each(lambda images: ndimage.gaussian_filter(images, 1, axes=(2, 3))),
        _STILL | {SHARP: 0},
    ),
    "thin": Control("thinner", _each(_thin), _STILL),
    "thick": Control("thicker", _each(_thick), _STILL),
    "rotated": Control(
        "rotated by 10°",
        _each(lambda images: ndimage.rotate(images, 10, axes=(2, 3), reshape=False, order=1)),
        _STILL,
    ),
    "without_a_class": Control("one class left out", _without_a_class, _STILL | {VARIED: 0}),
    "copies": Control("one real image, repeated", _copies, {SHOWS: 1, VARIED: 0, LIKE: 0}),
    "class_means": Control("means of the classes", _class_means, {VARIED: 0, LIKE: 0, SHARP: 0}),
    "mean": Control("the mean image", _mean, _NONE | {SHARP: 0}),
    "components": Control("samples of a Gaussian in principal components", _components, _NONE),
    "phases": Control("phases shuffled", _each(_phases_shuffled), _NONE),
    "halves": Control("halves of two images, joined diagonally", _halves, _NONE),
}


class ControlRecord(Record):
    """A control in place of samples, compared with one half of the held-out images."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(dataset.test_images), generator=generator)
        half, rest = order.tensor_split(2)
        rest = rest[: len(half)]
        made_of = dataset.test_images[rest], dataset.test_labels[rest]
        super().__init__(
            dataset,
            given={("samples", "prior"): lambda: CONTROLS[name].make(*made_of, dataset)},
        )
        self.images = dataset.test_images[half[: len(rest)]]


# --- does a measure rank them right? ---


def ranks_right(asks: str, better: str, values: Mapping[str, Estimate]) -> bool:
    """Whether a measure ranks the controls as is known: every one above all those of less.

    ``values`` are the measure's by control, and ``better`` is "higher" or "lower".
    """
    sign = 1 if better == "higher" else -1
    known = [
        (CONTROLS[name].known[asks], sign * estimate.value)
        for name, estimate in values.items()
        if asks in CONTROLS[name].known
    ]
    return all(mine > theirs for more, mine in known for less, theirs in known if more > less)
