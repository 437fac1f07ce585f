"""What would a reader of digits say? A small classifier of our own, and its features.

FID and its relatives ask for features in which alike images are near. Those of Inception are made
for photographs; these are made for the data set at hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vae_nb import data, store
from vae_nb.data import Dataset
from vae_nb.models import in_batches

FEATURES = 128


class Classifier(nn.Module):
    """Three strided convolutions, two linear layers: ``(B, 1, 28, 28)`` to logits ``(B, 10)``."""

    def __init__(self) -> None:
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
        self.logits = nn.Linear(FEATURES, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images))


def features(classifier: Classifier, images: Tensor) -> Tensor:
    """The last hidden layer for each image: ``(n, FEATURES)``."""
    return in_batches(classifier, classifier.features, images)


def probabilities(classifier: Classifier, features: Tensor) -> Tensor:
    """The probability of each label, from features ``(n, FEATURES)``: ``(n, 10)``."""
    return in_batches(classifier, classifier.logits, features).softmax(dim=1)


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images ``(n, 1, 28, 28)`` that are given their label ``(n,)``."""
    named = probabilities(classifier, features(classifier, images)).argmax(1)
    return (named == labels).double().mean().item()


def classifier(dataset: Dataset) -> Classifier:
    """The classifier of this data set: fitted once to all of its training images, then stored."""
    source = store.source_digest(Path(__file__))
    name = hashlib.sha256(f"{data.digest(dataset.name)} {source}".encode()).hexdigest()[:24]

    def make() -> dict[str, Callable[[Path], None]]:
        everything = data.load(dataset.name)
        fitted = _fit(everything.train_images, everything.train_labels)
        score = accuracy(fitted, everything.test_images, everything.test_labels)
        return {
            "weights.safetensors": lambda path: save_file(fitted.state_dict(), path),
            "accuracy.json": lambda path: path.write_text(json.dumps({"held_out": score})),
        }

    folder = store.once(data.cache_folder() / "classifiers" / name, make)
    model = Classifier()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.to(memory_format=torch.channels_last).eval()


def _fit(images: Tensor, labels: Tensor, epochs: int = 3, batch_size: int = 128) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier()
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
