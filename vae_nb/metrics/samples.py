"""How much samples look like held-out images, as a set and one by one.

Distances are taken between as many samples as held-out images, because the Fréchet distance depends
on their number (its bias falls as 1/n). The held-out images are the same for every model: intervals
are those of drawing the samples again.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_nb.metrics.classifier import probabilities, recognised
from vae_nb.metrics.intervals import (
    Estimate,
    jackknife_ci,
    jackknife_half_width,
    mean_ci,
    proportion_ci,
)
from vae_nb.metrics.reconstruction import gradient_energy
from vae_nb.metrics.record import Record, part
from vae_nb.models import decode, network, sample_prior, sampled_codes

COMPONENTS = 10  # of the Gaussian mixture
MIXTURE_IMAGES = 10_000  # training images whose codes it is fitted to
MANY_COMPONENTS = 100  # of the mixture that is fitted to the codes of all training images
NEAREST = 500  # samples whose nearest training image is looked for
GROUPS = 20  # of samples, of which one is left out at a time


def from_prior(model: Any, count: int, seed: int = 0) -> Tensor:
    """Images decoded from z ~ N(0, I), for AE and VAE alike: ``(count, 1, 28, 28)``."""
    return decode(model, sample_prior(count, network(model).latent_dim, seed))


def from_mixture(
    model: Any, images: Tensor, count: int, components: int = COMPONENTS, seed: int = 0
) -> Tensor:
    """Images decoded from a Gaussian mixture that is fitted to the codes of (training) ``images``.

    Nothing of the model changes, only where the codes come from (Ghosh et al. 2020, section 4:
    "ex-post density estimation"). Shape ``(count, 1, 28, 28)``. Raises :class:`ValueError` for
    fewer images than components.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(images) < components:
        raise ValueError(
            f"{components} Gaussians cannot be fitted to {len(images)} codes: take fewer of them"
        )
    codes = sampled_codes(model, images, seed).numpy()
    centre, scale = codes.mean(0), codes.std(0).mean() or 1.0
    mixture = GaussianMixture(
        components, init_params="k-means++", max_iter=10, reg_covar=1e-3, random_state=seed
    )
    with warnings.catch_warnings():  # a fit that has not quite converged samples well enough
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit((codes - centre) / scale)
    draw = np.random.default_rng(seed)
    of = draw.choice(components, count, p=mixture.weights_ / mixture.weights_.sum())
    new_codes = draw.standard_normal((count, codes.shape[1]))
    for component, root in enumerate(np.linalg.cholesky(mixture.covariances_.astype(float))):
        rows = of == component
        new_codes[rows] = mixture.means_[component] + new_codes[rows] @ root.T
    return decode(model, torch.from_numpy(new_codes * scale + centre).float())


class _Features(nn.Module):
    """Features instead of images go into torchmetrics, so that they are computed once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: Tensor, samples: Tensor) -> Estimate:
    """Fréchet distance of two sets of features, each ``(n, F)`` (Heusel et al. 2017); 0 is best.

    Unit: squared feature length; comparable only for one classifier and one n. The interval is that
    of drawing the samples again.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]), reset_real_features=False)
    metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)

    def distance(rows: np.ndarray) -> float:
        metric.reset()
        metric.update(samples[rows].double(), real=False)
        return metric.compute().item()

    return jackknife_ci(distance, len(samples))


def neighbourhoods(
    real: Tensor, samples: Tensor, radii: dict[int, Tensor] | None = None, chunk: int = 1000
) -> dict[str, Estimate]:
    """Precision, recall, density and coverage of samples, from features ``(n, F)`` of both.

    A ball reaches from a point to its third nearest neighbour in its own set (its fifth for density
    and coverage). ``precision`` is the share of samples within the ball of some real image, and
    ``recall`` that of real images within the ball of some sample (Kynkäänniemi et al. 2019, eq. 1
    and 2). ``density`` is in how many fifths of a real ball a sample lies on average, so that an
    outlier's large ball counts once, and ``coverage`` the share of real images with a sample in
    their ball (Naeem et al. 2020, eq. 4 and 5). ``radii`` are :func:`ball_radii` of the real
    images, where they are known already.
    """
    group = torch.arange(len(samples)) % GROUPS
    radii = radii or ball_radii(real, chunk)
    of_samples, without = _radii_without(samples, 3, group, chunk)
    hit = torch.zeros(len(samples), dtype=torch.bool)
    balls = torch.zeros(len(samples))
    recalled, covered = [], []  # whether each real image is, by all samples and without each group
    for place, some in enumerate(real.split(chunk)):
        rows = slice(place * chunk, place * chunk + len(some))
        distances = torch.cdist(some, samples)
        hit |= (distances <= radii[3][rows, None]).any(0)
        ball = radii[5][rows, None]
        balls += (distances <= ball).sum(0)
        covered.append(_hits(distances, ball, ball.expand(GROUPS, -1, -1), group))
        recalled.append(_hits(distances, of_samples, without[:, None], group))
    return {
        "precision": proportion_ci(hit.numpy()),
        "recall": _left_out(torch.cat(recalled)),
        "density": mean_ci((balls / 5).numpy()),
        "coverage": _left_out(torch.cat(covered)),
    }


def ball_radii(points: Tensor, chunk: int = 1000) -> dict[int, Tensor]:
    """How far each point's third and fifth nearest neighbour is: ``(n,)`` each, by number."""
    # The distance 0 of a point to itself is one of the k + 1 smallest.
    parts = [
        torch.cdist(some, points).topk(6, largest=False).values for some in points.split(chunk)
    ]
    return {k: torch.cat(parts)[:, k] for k in (3, 5)}


def _radii_without(
    points: Tensor, neighbours: int, group: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """The radius of each point, ``(n,)``, and as if one group at a time were away, ``(G, n)``."""
    near = [
        torch.cdist(some, points).topk(min(len(points), neighbours + 9), largest=False)
        for some in points.split(chunk)
    ]
    distances = torch.cat([each.values for each in near])
    groups = group[torch.cat([each.indices for each in near])]
    without = []
    for g in range(GROUPS):
        others = distances.masked_fill(groups == g, math.inf).sort(dim=1).values
        without.append(others[:, neighbours].minimum(distances[:, -1]))
    return distances[:, neighbours], torch.stack(without)


def _hits(distances: Tensor, radii: Tensor, without: Tensor, group: Tensor) -> Tensor:
    """Whether each real image has a sample in a ball: of all, and of those without each group.

    ``distances`` is ``(real, samples)``, to which the radii broadcast, ``without`` with one for
    each group; returns ``(real, 1 + GROUPS)``.
    """
    near = (distances <= without.amax(0)).nonzero(as_tuple=True)  # few of all
    found = torch.zeros(len(distances), 1 + GROUPS, dtype=torch.bool)
    found[:, 0] = (distances <= radii).any(1)
    for g in range(GROUPS):
        inside = distances[near] <= without[g].expand_as(distances)[near]
        found[near[0][inside & (group[near[1]] != g)], 1 + g] = True
    return found


def _left_out(hits: Tensor) -> Estimate:
    """The share of all, with the jackknife's interval from those without each group."""
    share, *without = hits.double().mean(0).tolist()
    half = jackknife_half_width(without)
    return Estimate(share, share - half, share + half).within(0, 1)


def sharpness(images: Tensor, real: Tensor) -> Estimate:
    """Gradient energy of ``images`` over the mean of that of ``real``: 1 is as sharp as the data.

    Both are ``(n, 1, 28, 28)``; ``real`` is given, the interval is that of ``images``.
    """
    return mean_ci((gradient_energy(images) / gradient_energy(real).mean()).numpy())


def distance_to_nearest(images: Tensor, others: Tensor, chunk: int = 500) -> Tensor:
    """How far each image is from the nearest of ``others``, in grey levels: ``(n,)``."""
    flat = others.flatten(1)
    parts = [torch.cdist(some.flatten(1), flat).amin(1) for some in images.split(chunk)]
    return torch.cat(parts)


# --- of a record; its samples come from the "prior", a "mixture", or one of "mixture_100" ---


@part
def samples(record: Record, source: str) -> Tensor:
    """As many samples as there are held-out images, ``(n, 1, 28, 28)``, by the run's own seed."""
    run, count = record.run, len(record.images)
    if source == "prior":
        return from_prior(run, count, seed=run.recipe.seed)
    images, components = record.dataset.train_images, MANY_COMPONENTS
    if source == "mixture":
        images, components = images[:MIXTURE_IMAGES], COMPONENTS
    return from_mixture(run, images, count, min(components, len(images)), seed=run.recipe.seed)


@part
def sample_features(record: Record, source: str, space: str) -> Tensor:
    """Features of :func:`samples`, ``(n, F)``; see ``classifier.SPACES``."""
    return record.space(space)(samples(record, source))


@part
def real_radii(record: Record) -> dict[int, Tensor]:
    """:func:`ball_radii` of the held-out images, in the classifier's features."""
    return ball_radii(record.real_features("classifier"))


@part
def sample_neighbourhoods(record: Record, source: str) -> dict[str, Estimate]:
    """:func:`neighbourhoods` of the samples, in the classifier's features."""
    real, features = (
        record.real_features("classifier"),
        sample_features(record, source, "classifier"),
    )
    return neighbourhoods(real, features, real_radii(record))


def measure_fid(record: Record, source: str, space: str = "classifier") -> Estimate:
    """:func:`fid` of the samples."""
    return fid(record.real_features(space), sample_features(record, source, space))


def measure_recognised(record: Record, source: str) -> Estimate:
    """The share of samples that the classifier takes for one of the classes."""
    of_samples = sample_features(record, source, "classifier")
    return proportion_ci(recognised(probabilities(record.classifier(), of_samples)).numpy())


def measure_sharpness(record: Record, source: str) -> Estimate:
    """:func:`sharpness` of the samples."""
    return sharpness(samples(record, source), record.images)


def measure_neighbourhood(record: Record, source: str, which: str) -> Estimate:
    """One of :func:`neighbourhoods`."""
    return sample_neighbourhoods(record, source)[which]


def measure_novelty(record: Record, source: str) -> Estimate:
    """How far samples are from the nearest training image, over that of held-out images."""
    train = (record.dataset.whole or record.dataset).train_images
    usual = distance_to_nearest(record.images[:: max(1, len(record.images) // NEAREST)], train)
    distances = distance_to_nearest(samples(record, source)[:NEAREST], train)
    return mean_ci((distances / usual.mean()).numpy())


def measure_accuracy(record: Record) -> Estimate:
    """The share of held-out images to which the classifier gives their label."""
    images, labels = record.dataset.test_images, record.dataset.test_labels
    predicted = probabilities(record.classifier(), record.space("classifier")(images)).argmax(1)
    return proportion_ci((predicted == labels).numpy())
