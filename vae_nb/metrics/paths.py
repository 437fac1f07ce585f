"""What lies on the path from one image to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage, optimize
from torch import Tensor

from vae_nb.metrics.classifier import features, probabilities, recognised
from vae_nb.metrics.intervals import Estimate, shared_mean_ci, shared_proportion_ci
from vae_nb.metrics.reconstruction import sharpness
from vae_nb.metrics.record import Record, part
from vae_nb.metrics.samples import fid
from vae_nb.models import decode, encode
from vae_nb.objective import squared_error

THRESHOLDS = (0.3, 0.5, 0.7)  # grey level above which a pixel is ink
PAIRS = 1000  # of images, whose whole paths are decoded
STEPS = 11  # of a path
MATCHED_ERROR = 0.03  # grey level^2: sharper models are blurred to it before strokes are counted


def pairs(
    labels: Tensor, count: int, different: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """``count`` random pairs of indices of images, with different (or equal) labels.

    ``labels`` is ``(n,)``; returns two index tensors ``(count,)``. Raises :class:`ValueError` if
    there are too few such pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(0, 2, dtype=torch.int64)
    for _ in range(64):  # a set of many classes has few pairs with equal labels
        start = torch.randint(len(labels), (16 * count + 1000,), generator=generator)
        end = torch.randint(len(labels), start.shape, generator=generator)
        fits = (labels[start] != labels[end]) == different
        found = torch.cat([found, torch.stack([start, end], 1)[fits & (start != end)]])
        if len(found) >= count:
            return found[:count, 0], found[:count, 1]
    raise ValueError(f"only {len(found)} of {count} pairs found: ask for fewer pairs")


def with_labels(labels: Tensor, wanted: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Indices of one start and one end image for each wanted pair of labels, no image twice.

    ``labels`` is ``(n,)``; the images are the first ones of their labels that are not used yet.
    Raises :class:`ValueError` where no image of a label is left.
    """
    unused = {label: (labels == label).nonzero().flatten().tolist() for label in sum(wanted, ())}
    chosen = []
    for pair in wanted:
        for label in pair:
            if not unused[label]:
                raise ValueError(f"too few images have the label {label}")
            chosen.append(unused[label].pop(0))
    return torch.tensor(chosen[::2]), torch.tensor(chosen[1::2])


def interpolate(
    model: Any, start: Tensor, end: Tensor, steps: int = STEPS, spherical: bool = False
) -> Tensor:
    """Images decoded along the path between the codes of two images, both ends included.

    ``start`` and ``end`` are ``(n, 1, 28, 28)``; returns ``(n, steps, 1, 28, 28)``, whose first and
    last are the reconstructions of start and end. A VAE's code is its posterior mean. The path is
    the straight line, or :func:`slerp`.
    """
    first, last = encode(model, start), encode(model, end)
    return between(model, first, last, torch.linspace(0, 1, steps), spherical)


def between(
    model: Any, first: Tensor, last: Tensor, weights: Tensor, spherical: bool = False
) -> Tensor:
    """Images decoded at ``weights`` ``(steps,)`` of the path between codes, each ``(n, M)``.

    Returns ``(n, steps, 1, 28, 28)``; weight 0 is the first code, 1 the last.
    """
    mix = slerp if spherical else torch.lerp
    codes = mix(first[:, None], last[:, None], weights[None, :, None])
    return decode(model, codes.flatten(0, 1)).unflatten(0, (-1, len(weights)))


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
    for ink in images[:, 0].numpy() > threshold:
        labelled, count = ndimage.label(ink, structure=eight)
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
        counts.append(int((sizes >= 3).sum()))
    return np.array(counts)


def euler_numbers(images: Tensor, threshold: float) -> np.ndarray:
    """The Euler number (components minus holes) of what is brighter than ``threshold``.

    ``(n, 1, 28, 28)`` to ``(n,)``, with diagonal neighbours connected: a closed loop has 0, a loop
    that is torn open 1, a stroke in two pieces 2. Counted by scikit-image.
    """
    from skimage.measure import euler_number

    return np.array([euler_number(ink, connectivity=2) for ink in images[:, 0].numpy() > threshold])


def extra_at_midpoint(paths: Tensor, count: Callable[[Tensor], np.ndarray]) -> Estimate:
    """A count at the midpoint minus its mean over both decoded ends, with interval over pairs.

    ``paths`` is ``(n, steps, 1, 28, 28)`` with an odd number of steps; ``count`` takes images
    ``(n, 1, 28, 28)`` to ``(n,)``.
    """
    ends = (count(paths[:, 0]) + count(paths[:, -1])) / 2
    return shared_mean_ci(count(paths[:, paths.shape[1] // 2]) - ends)


def extra_strokes(paths: Tensor, threshold: float = 0.5) -> Estimate:
    """How many more strokes midpoints have than their ends: 0, nothing breaks; 1, one piece more.

    Paths as in :func:`extra_at_midpoint`, strokes as in :func:`strokes`.
    """
    return extra_at_midpoint(paths, lambda images: strokes(images, threshold))


def extra_euler(paths: Tensor, threshold: float = 0.5) -> Estimate:
    """How much higher the Euler number of midpoints is than that of their ends.

    It counts torn loops too, which leave the number of strokes as it was.
    """
    return extra_at_midpoint(paths, lambda images: euler_numbers(images, threshold))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over the last two dimensions, ``sigma`` in pixels."""
    if sigma == 0:
        return images
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), sigma, axes=(-2, -1)))


def blur_to_error(images: Tensor, reconstructions: Tensor, error: float) -> float | None:
    """The blur (sigma in pixels) that brings reconstructions to a mean squared error.

    Blur hides breaks, so that a sharp and a soft model are only compared fairly at one error.
    Returns None if the error is above ``error`` without any blur.
    """

    def excess(sigma: float) -> float:
        return squared_error(images, blur(reconstructions, sigma)).mean().item() - error

    if excess(0) > 0 or excess(8) < 0:
        return None
    return optimize.brentq(excess, 0, 8, xtol=1e-3)


def uniformity(path_features: Tensor) -> Estimate:
    """How uniform the steps of each path are in a feature space ``(n, steps, F)``: 1 is best.

    The mean step over the longest step of each path; a path that stays and then jumps is near
    ``1 / (steps - 1)``. Interval over pairs.
    """
    lengths = path_features.diff(dim=1).norm(dim=2)
    return shared_mean_ci((lengths.mean(1) / lengths.max(1).values.clamp(min=1e-12)).numpy())


# --- of a record: as many pairs as held-out images, `different` labels or equal ones; the midpoints
# of all (a Fréchet distance depends on their number), and the whole paths of the first PAIRS ---


@part
def pairs_of_images(record: Record, different: bool) -> tuple[Tensor, Tensor]:
    """Indices of the start and end images."""
    return pairs(record.dataset.test_labels, len(record.images), different)


def _between(record: Record, different: bool, spherical: bool, weights: Tensor, n: int) -> Tensor:
    start, end = (record.codes()[indices[:n]] for indices in pairs_of_images(record, different))
    return between(record.run, start, end, weights, spherical)


@part
def paths(record: Record, different: bool) -> Tensor:
    """Whole paths, ``(PAIRS, STEPS, 1, 28, 28)``."""
    return _between(record, different, False, torch.linspace(0, 1, STEPS), PAIRS)


@part
def midpoints(record: Record, different: bool, spherical: bool) -> Tensor:
    """The image halfway of each pair, ``(n, 1, 28, 28)``."""
    half = torch.tensor([0.5])
    return _between(record, different, spherical, half, len(record.images))[:, 0]


@part
def midpoint_features(record: Record, different: bool, spherical: bool, space: str) -> Tensor:
    """Features of :func:`midpoints`, ``(n, F)``; see ``classifier.SPACES``."""
    return record.space(space)(midpoints(record, different, spherical))


@part
def midpoint_probabilities(record: Record) -> Tensor:
    """The classifier's probabilities for midpoints of different labels, ``(n, classes + 1)``."""
    of_midpoints = midpoint_features(record, True, False, "classifier")
    return probabilities(record.classifier(), of_midpoints)


def measure_extra_strokes(record: Record, threshold: float, different: bool = True) -> Estimate:
    """:func:`extra_strokes` of the paths."""
    return extra_strokes(paths(record, different), threshold)


def measure_extra_euler(record: Record, threshold: float) -> Estimate:
    """:func:`extra_euler` of the paths."""
    return extra_euler(paths(record, True), threshold)


def measure_matched_strokes(record: Record, threshold: float, error: float) -> Estimate | None:
    """:func:`extra_strokes` after blurring to an error; None for a model that is softer than it."""
    some = slice(None, None, max(1, len(record.images) // 1000))
    sigma = blur_to_error(record.images[some], record.reconstructions()[some], error)
    if sigma is None:
        return None
    ends_and_midpoint = paths(record, True)[:, [0, STEPS // 2, -1]]
    return extra_strokes(blur(ends_and_midpoint, sigma), threshold)


def measure_uniformity(record: Record) -> Estimate:
    """:func:`uniformity` of the paths in the classifier's features."""
    images = paths(record, True)
    of_images = features(record.classifier(), images.flatten(0, 1))
    return uniformity(of_images.unflatten(0, images.shape[:2]))


def measure_midpoint_fid(
    record: Record, different: bool = True, spherical: bool = False, space: str = "classifier"
) -> Estimate:
    """:func:`fid` of the midpoints."""
    of_midpoints = midpoint_features(record, different, spherical, space)
    return fid(record.real_features(space), of_midpoints)


def measure_midpoint_recognised(record: Record) -> Estimate:
    """The share of midpoints that the classifier takes for one of the classes."""
    return shared_proportion_ci(recognised(midpoint_probabilities(record)).numpy())


def measure_midpoint_entropy(record: Record) -> Estimate:
    """The entropy of the classifier's label at the midpoints, given that it is one, in nats."""
    of_classes = midpoint_probabilities(record)[:, :-1].clamp(min=1e-12)
    of_classes = of_classes / of_classes.sum(1, keepdim=True)
    return shared_mean_ci(torch.special.entr(of_classes).sum(1).numpy())


def measure_midpoint_sharpness(record: Record) -> Estimate:
    """:func:`sharpness` of the midpoints, relative to the images that their paths start from."""
    start, _ = pairs_of_images(record, True)
    return sharpness(midpoints(record, True, False), record.images[start])
