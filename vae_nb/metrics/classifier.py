"""A small classifier of a data set's images, and its features.

FID and its relatives ask for features in which similar images are near. Those of Inception are made
for photographs; these are made for the data set at hand.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vae_nb import cache
from vae_nb.data import Dataset
from vae_nb.models import in_batches

FEATURES = 128


class Classifier(nn.Module):
    """Three strided convolutions, two linear layers: ``(B, 1, 28, 28)`` to ``(B, classes)``."""

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
        self.logits = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.logits(self.features(images))


def features(classifier: Classifier, images: Tensor) -> Tensor:
    """The last hidden layer for each image: ``(n, FEATURES)``."""
    return in_batches(classifier, classifier.features, images)


def probabilities(classifier: Classifier, features: Tensor) -> Tensor:
    """The probability of each label, from features ``(n, FEATURES)``: ``(n, classes)``."""
    return in_batches(classifier, classifier.logits, features).softmax(dim=1)


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
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order.split(batch_size)[: len(images) // batch_size]:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()
