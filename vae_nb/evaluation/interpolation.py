"""What lies on the way from one image to another?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage, optimize
from skimage.measure import euler_number
from torch import Tensor

from vae_nb.evaluation.interval import Measured, of_mean
from vae_nb.evaluation.reconstruction import reconstruct
from vae_nb.models import VAE, Autoencoder, in_batches
from vae_nb.objective import squared_error

THRESHOLDS = (0.3, 0.5, 0.7)


def pairs(
    labels: Tensor, count: int, different: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """``count`` random pairs of indices of images, with different (or equal) labels.

    ``labels`` is ``(n,)``; returns two index tensors ``(count,)``.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(len(labels), (16 * count + 1000,), generator=generator)
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


def interpolate(
    model: Autoencoder | VAE, start: Tensor, end: Tensor, steps: int = 11, spherical: bool = False
) -> Tensor:
    """Images decoded along the way between the codes of two images, both ends included.

    ``start`` and ``end`` are ``(n, 1, 28, 28)``; returns ``(n, steps, 1, 28, 28)``, whose first and
    last are the reconstructions of start and end. A VAE's code is its posterior mean. The way is
    the straight line, or :func:`slerp`.
    """
    first, last = in_batches(model, model.code, start), in_batches(model, model.code, end)
    return between(model, first, last, torch.linspace(0, 1, steps), spherical)


def between(
    model: Autoencoder | VAE, first: Tensor, last: Tensor, weights: Tensor, spherical: bool = False
) -> Tensor:
    """Images decoded at ``weights`` ``(steps,)`` of the way between codes, each ``(n, M)``.

    Returns ``(n, steps, 1, 28, 28)``; weight 0 is the first code, 1 the last.
    """
    mix = slerp if spherical else torch.lerp
    codes = mix(first[:, None], last[:, None], weights[None, :, None])
    return in_batches(model, model.decode, codes.flatten(0, 1)).unflatten(0, (-1, len(weights)))


def slerp(first: Tensor, last: Tensor, weight: Tensor) -> Tensor:
    """Spherical interpolation along the last dimension (Shoemake 1985; White 2016, eq. 1).

    It keeps to the shell on which nearly all of N(0, I) lies in many dimensions, where a straight
    line cuts through the inside. Codes in one direction are joined straight.
    """
    norms = first.norm(dim=-1, keepdim=True) * last.norm(dim=-1, keepdim=True)
    cosine = (first * last).sum(-1, keepdim=True) / norms.clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    curved = (torch.sin((1 - weight) * angle) * first + torch.sin(weight * angle) * last) / (
        torch.sin(angle).clamp(min=1e-12)
    )
    return torch.where(torch.sin(angle) < 1e-4, torch.lerp(first, last, weight), curved)


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


def euler_numbers(images: Tensor, threshold: float) -> np.ndarray:
    """The Euler number (components minus holes) of what is brighter than ``threshold``.

    ``(n, 1, 28, 28)`` to ``(n,)``, with diagonal neighbours connected: a closed loop has 0, a loop
    that is torn open 1, a stroke in two pieces 2. Counted by scikit-image.
    """
    inked = images[:, 0].numpy() > threshold
    return np.array([euler_number(image, connectivity=2) for image in inked])


def beyond_ends(paths: Tensor, count: Callable[[Tensor], np.ndarray]) -> Measured:
    """A count at the midpoint minus its mean over both decoded ends, with interval over pairs.

    ``paths`` is ``(n, steps, 1, 28, 28)`` with an odd number of steps; ``count`` takes images
    ``(n, 1, 28, 28)`` to ``(n,)``.
    """
    ends = (count(paths[:, 0]) + count(paths[:, -1])) / 2
    return of_mean(count(paths[:, paths.shape[1] // 2]) - ends)


def extra_strokes(paths: Tensor, threshold: float = 0.5) -> Measured:
    """How many more strokes midpoints have than their ends: 0, nothing breaks; 1, one piece more.

    Paths as in :func:`beyond_ends`, strokes as in :func:`strokes`.
    """
    return beyond_ends(paths, lambda images: strokes(images, threshold))


def extra_euler(paths: Tensor, threshold: float = 0.5) -> Measured:
    """How much higher the Euler number of midpoints is than that of their ends.

    It counts torn loops too, which leave the number of strokes as it was.
    """
    return beyond_ends(paths, lambda images: euler_numbers(images, threshold))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over the last two dimensions, ``sigma`` in pixels."""
    if sigma == 0:
        return images
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), sigma, axes=(-2, -1)))


def blur_to_error(model: Autoencoder | VAE, images: Tensor, error: float) -> float:
    """The blur (sigma in pixels) that brings the model's reconstructions to a squared error.

    Blur hides breaks, so that a sharp and a soft model are only compared fairly at one error.
    Returns nan for a model whose error is above ``error`` without any blur.
    """
    decoded = reconstruct(model, images)

    def excess(sigma: float) -> float:
        return squared_error(images, blur(decoded, sigma)).mean().item() - error

    if excess(0) > 0 or excess(8) < 0:
        return float("nan")
    return optimize.brentq(excess, 0, 8, xtol=1e-3)


def evenness(path_features: Tensor) -> Measured:
    """How even the steps of each path are in a feature space ``(n, steps, F)``: 1 is even.

    The mean step over the longest step of each path; a path that stays and then jumps is near
    ``1 / (steps - 1)``. Interval over pairs.
    """
    lengths = path_features.diff(dim=1).norm(dim=2)
    return of_mean((lengths.mean(1) / lengths.max(1).values.clamp(min=1e-12)).numpy())
