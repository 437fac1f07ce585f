"""What lies on the way from one image to another?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean
from vae_nb.models import VAE, Autoencoder, in_batches

THRESHOLDS = (0.3, 0.5, 0.7)


def pairs(
    labels: Tensor, count: int, different: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """``count`` random pairs of indices of images, with different (or equal) labels.

    ``labels`` is ``(n,)``; returns two index tensors ``(count,)``.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(len(labels), (8 * count + 1000,), generator=generator)
    end = torch.randint(len(labels), start.shape, generator=generator)
    fits = ((labels[start] != labels[end]) if different else (labels[start] == labels[end])) & (
        start != end
    )
    start, end = start[fits][:count], end[fits][:count]
    if len(start) < count:
        raise ValueError(f"only {len(start)} of {count} pairs found: ask for fewer pairs")
    return start, end


def with_labels(labels: Tensor, wanted: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Indices of one start and one end image for each wanted pair of labels, no image twice.

    ``labels`` is ``(n,)``; the images are the first ones of their labels that are not used yet.
    """
    unused = {label: (labels == label).nonzero().flatten().tolist() for label in range(10)}
    chosen = [(unused[start].pop(0), unused[end].pop(0)) for start, end in wanted]
    start, end = torch.tensor(chosen).T
    return start, end


def interpolate(model: Autoencoder | VAE, start: Tensor, end: Tensor, steps: int = 11) -> Tensor:
    """Images decoded along the straight line between the codes of two images, both ends included.

    ``start`` and ``end`` are ``(n, 1, 28, 28)``; returns ``(n, steps, 1, 28, 28)``, whose first and
    last are the reconstructions of start and end. A VAE's code is its posterior mean.
    """
    first, last = in_batches(model, model.code, start), in_batches(model, model.code, end)
    weight = torch.linspace(0, 1, steps)[None, :, None]
    codes = torch.lerp(first[:, None], last[:, None], weight)
    return in_batches(model, model.decode, codes.flatten(0, 1)).unflatten(0, (-1, steps))


def strokes(images: Tensor, threshold: float) -> np.ndarray:
    """How many separate strokes (8-connected components above ``threshold``) each image has.

    ``(n, 1, 28, 28)`` to ``(n,)``. Specks of fewer than 3 pixels do not count.
    """
    eight = np.ones((3, 3), dtype=int)
    counts = []
    for image in images[:, 0].numpy() > threshold:
        found, count = ndimage.label(image, structure=eight)
        sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
        counts.append(int((sizes >= 3).sum()))
    return np.array(counts)


def extra_strokes(paths: Tensor, threshold: float = 0.5) -> Measured:
    """How many more strokes the midpoint of each path has than its ends have on average.

    ``paths`` is ``(n, steps, 1, 28, 28)`` with an odd number of steps. 0: nothing breaks; 1: every
    midpoint falls apart into one piece more. Interval over pairs.
    """
    middle = strokes(paths[:, paths.shape[1] // 2], threshold)
    ends = (strokes(paths[:, 0], threshold) + strokes(paths[:, -1], threshold)) / 2
    return of_mean(middle - ends)


def evenness(path_features: Tensor) -> Measured:
    """How even the steps of each path are in a feature space ``(n, steps, F)``: 1 is even.

    The mean step over the longest step of each path; a path that stays and then jumps is near
    ``1 / (steps - 1)``. Interval over pairs.
    """
    lengths = path_features.diff(dim=1).norm(dim=2)
    return of_mean((lengths.mean(1) / lengths.max(1).values.clamp(min=1e-12)).numpy())
