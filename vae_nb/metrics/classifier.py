"""A small classifier of a data set's images that can also answer "none of these", and features.

A classifier that must choose one of the classes chooses one for a scribble as well, and often with
confidence. This one is fitted beside the real images to made pictures that are none: halves of two
images put together, mixtures, shuffled tiles, noise. No picture of any model is among them. What it
says of pictures of other kinds is tried in :mod:`vae_nb.metrics.controls`.

FID and its relatives ask for features in which similar images are near. Those of Inception are made
for photographs. What is near depends on the features, so there are three kinds of them; see SPACES.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from vae_nb import cache
from vae_nb.data import Dataset
from vae_nb.models import in_batches
from vae_nb.objective import pixel_covariance

FEATURES = 128
COMPONENTS = 64  # principal components of the pixels
LEAST_STEPS = 100  # of its training, on a small set
BLURRED = 0.3  # of the pictures that the classifier is fitted to, real and made


class Classifier(nn.Module):
    """Three strided convolutions, two linear layers: ``(B, 1, 28, 28)`` to ``(B, classes + 1)``.

    The last output stands for "none of the classes".
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=5, stride=2, padding=2),  # 28x28 => 14x14
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),  # => 7x7
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 128, kernel_size=3, stride=2),  # => 3x3
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * 9, FEATURES),
            nn.ReLU(),
        )
        self.logits = nn.Linear(FEATURES, classes + 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.logits(self.features(images))


def features(classifier: Classifier, images: Tensor) -> Tensor:
    """The last hidden layer for each image: ``(n, FEATURES)``."""
    return in_batches(classifier, classifier.features, images)


def probabilities(classifier: Classifier, features: Tensor) -> Tensor:
    """Of features ``(n, FEATURES)``: the probability of each label and, last, of none of them."""
    return in_batches(classifier, classifier.logits, features).softmax(dim=1)


def recognised(probabilities: Tensor) -> Tensor:
    """Whether each image, ``(n, classes + 1)``, is taken for one of some class: ``(n,)``, bool."""
    return probabilities.argmax(1) < probabilities.shape[1] - 1


def classifier(dataset: Dataset) -> Classifier:
    """The classifier of a data set: fitted once to all of its training images, then cached.

    Raises :class:`ValueError` for a set that it cannot be fitted to: one with fewer training images
    than a batch has, or without an image of some class.
    """
    name = f"{dataset.digest} {cache.source_digest(Path(__file__))}"
    folder = hashlib.sha256(name.encode()).hexdigest()[:24]

    def write(place: Path) -> None:
        fitted = _fit(dataset.whole or dataset)
        save_file(fitted.state_dict(), place / "weights.safetensors")

    place = cache.compute_once(cache.folder() / "classifiers" / folder, write)
    model = Classifier(len(dataset.classes))
    model.load_state_dict(load_file(place / "weights.safetensors"))
    return model.to(memory_format=torch.channels_last).eval()


def _fit(dataset: Dataset, epochs: int = 3, batch_size: int = 128) -> Classifier:
    images, labels = dataset.train_images, dataset.train_labels
    counts = labels.bincount(minlength=len(dataset.classes))
    missing = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if missing or len(images) < batch_size:
        raise ValueError(
            f"no classifier can be fitted to {dataset.name}, and without one its samples cannot be "
            f"measured: it needs {batch_size} training images or more and one of each class; got "
            f"{len(images)}, none of {', '.join(missing) or 'too few in all'}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(len(dataset.classes))
    model = model.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    epochs = max(epochs, math.ceil(LEAST_STEPS / (len(images) // batch_size)))
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    none = torch.full((batch_size,), len(dataset.classes))
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order.split(batch_size)[: len(images) // batch_size]:
            made = made_pictures(images, labels, batch_size, generator)
            pictures = _varied(torch.cat([images[chosen], made]), generator)
            optimiser.zero_grad(set_to_none=True)
            answers = torch.cat([labels[chosen], none])
            functional.cross_entropy(model(pictures), answers).backward()
            optimiser.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


# --- pictures that are none of a set's classes, made of its images ---


def made_pictures(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` pictures that show none of the classes, ``(count, 1, 28, 28)``, made of ``images``.

    As many of each way of MADE. Where several images are put together, the first two have different
    labels.
    """
    ways = torch.arange(count) % len(MADE)
    pictures = images.new_empty(count, *images.shape[1:])
    for way, make in enumerate(MADE):
        some = (ways == way).nonzero().flatten()
        pictures[some] = make(_of_different_labels(images, labels, len(some), generator), generator)
    return pictures


def _of_different_labels(
    images: Tensor, labels: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Four images for each of ``count`` pictures: ``(4, count, 1, 28, 28)``."""
    drawn = torch.randint(len(images), (8, count), generator=generator)
    differs = (labels[drawn[1:]] != labels[drawn[0]]).to(torch.uint8)
    second = drawn[1:].gather(0, differs.argmax(0, keepdim=True))  # the first that differs
    return images[torch.cat([drawn[:1], second, drawn[-2:]])]


def _cut(images: Tensor, generator: torch.Generator, dim: int) -> Tensor:
    at = torch.randint(8, 20, (images.shape[1], 1, 1, 1), generator=generator)
    place = torch.arange(images.shape[-1]).view((-1, 1) if dim == 2 else (1, -1))
    return torch.where(place < at, images[0], images[1])


def _mixed(images: Tensor, generator: torch.Generator) -> Tensor:
    weight = 0.3 + 0.4 * torch.rand(images.shape[1], 1, 1, 1, generator=generator)
    return torch.lerp(images[0], images[1], weight)


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Sixteen tiles of 7x7 pixels in another order."""
    tiles = functional.unfold(images[0], 7, stride=7)  # (count, 49, 16)
    order = torch.rand(len(tiles), 1, 16, generator=generator).argsort(dim=2)
    shuffled = tiles.gather(2, order.expand_as(tiles))
    return functional.fold(shuffled, images.shape[-2:], 7, stride=7)


def _smooth_noise(count: int, generator: torch.Generator) -> Tensor:
    """Blobs of a few pixels, mean 0 and variance 1: ``(count, 1, 28, 28)``."""
    noise = torch.randn(count, 1, 32, 32, generator=generator)
    smooth = functional.avg_pool2d(functional.avg_pool2d(noise, 3, stride=1), 3, stride=1)
    return smooth / smooth.std()


def _blobs(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(8 * (_smooth_noise(images.shape[1], generator) - 1))


def _with_holes(images: Tensor, generator: torch.Generator) -> Tensor:
    return images[0] * torch.sigmoid(8 * _smooth_noise(images.shape[1], generator))


MADE: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (
    lambda images, generator: _cut(images, generator, 2),  # the top of one on the bottom of another
    lambda images, generator: _cut(images, generator, 3),  # left and right
    _mixed,
    lambda images, generator: torch.maximum(images[0], images[1]),
    lambda images, generator: images.mean(0),
    _shuffled,
    _blobs,
    _with_holes,
)


def _varied(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Some blurred by a mean of 3x3, each with a gamma of its own, from 1/e to e.

    So that neither blur nor the weight of a stroke says anything by itself.
    """
    blurred = functional.avg_pool2d(pictures, 3, stride=1, padding=1)
    chosen = torch.rand(len(pictures), 1, 1, 1, generator=generator) < BLURRED
    gamma = torch.exp(2 * torch.rand(len(pictures), 1, 1, 1, generator=generator) - 1)
    return torch.where(chosen, blurred, pictures) ** gamma


# --- three kinds of features ---


def _own(dataset: Dataset) -> Callable[[Tensor], Tensor]:
    model = classifier(dataset)
    return lambda images: features(model, images)


def _components(dataset: Dataset) -> Callable[[Tensor], Tensor]:
    images = (dataset.whole or dataset).train_images
    _, directions = torch.linalg.eigh(pixel_covariance(images))
    mean, directions = images.mean(0).flatten(), directions[:, -COMPONENTS:].float()
    return lambda pictures: (pictures.flatten(1) - mean) @ directions


def _untrained(dataset: Dataset) -> Callable[[Tensor], Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(len(dataset.classes)).eval()
    spread = features(model, dataset.test_images).var(0).mean().sqrt()
    return lambda images: features(model, images) / spread


# By name: features ``(n, F)`` of images ``(n, 1, 28, 28)`` for a data set. Those of the classifier,
# the principal components of the pixels, and those of the same network before any training (in
# units of their spread over held-out images).
SPACES: dict[str, Callable[[Dataset], Callable[[Tensor], Tensor]]] = {
    "classifier": _own,
    "components": _components,
    "untrained": _untrained,
}
