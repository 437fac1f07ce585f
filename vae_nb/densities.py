"""Densities that are fitted to a model's codes: where its samples come from instead of N(0, I).

Nothing of the model changes; only the draw of the code does. Codes are ``(n, M)``. To add a
density, add an entry to DENSITIES.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_nb import cache, metrics
from vae_nb.data import Dataset
from vae_nb.metrics import samples
from vae_nb.metrics.intervals import Estimate
from vae_nb.metrics.record import Record
from vae_nb.models import Posterior, decode, sampled_codes
from vae_nb.objective import kl_divergence
from vae_nb.optim import Optimiser
from vae_nb.runs import Run

Sampler = Callable[[int, int], Tensor]  # of a count and a seed: codes (count, M)
CLUSTERS, STRENGTH = 1000, 30  # local Gaussians; codes that the covariance of all counts for
HIDDEN, EPOCHS, BATCH = 256, 30, 500  # of the second VAE and of the flow
STEPS = 20  # of the flow's path from noise to code, two evaluations each
# What a page shows of each: the names of metrics, which are those of samples from the prior.
SHOWN = (
    *("fid_prior", "recognised_prior", "precision_prior", "recall_prior"),
    *("density_prior", "coverage_prior", "novelty_prior"),
)
ARCHIVE = Path(__file__).with_name("densities.json")


@dataclasses.dataclass(frozen=True)
class Density:
    """A density: its title, and how it is fitted to codes ``(n, M)``.

    ``fit`` takes codes in units of their spread (the prior: as they are) and a seed, and returns a
    :data:`Sampler`.
    """

    title: str
    fit: Callable[[Tensor, int], Sampler]


def fit(name: str, codes: Tensor, seed: int = 0) -> Sampler:
    """The density ``name`` of DENSITIES, fitted to codes ``(n, M)``.

    Raises :class:`ValueError` for an unknown name, for codes that are not finite or all the same,
    and for fewer codes than the density has components.
    """
    known(name)
    if not codes.isfinite().all():
        raise ValueError("codes hold values that are not finite: train the model again")
    centre, scale = codes.mean(0), codes.std(0).mean()
    if not scale > 0:
        raise ValueError(f"all {len(codes)} codes are the same: no density can be fitted to them")
    if name == "prior":
        return DENSITIES[name].fit(codes, seed)
    sampler = DENSITIES[name].fit((codes - centre) / scale, seed)
    return lambda count, draw: sampler(count, draw) * scale + centre


def known(name: Any) -> None:
    """Raise :class:`ValueError` unless ``name`` is one of DENSITIES."""
    if name not in tuple(DENSITIES):
        raise ValueError(f"density = {name!r} is not allowed: one of {', '.join(DENSITIES)}")


def _prior(codes: Tensor, seed: int) -> Sampler:
    return lambda count, draw: _noise(count, codes.shape[1], draw)


def _noise(count: int, latents: int, seed: int) -> Tensor:
    return torch.randn(count, latents, generator=torch.Generator().manual_seed(seed))


def _mixture(components: int) -> Callable[[Tensor, int], Sampler]:
    """A Gaussian mixture with full covariances, by expectation maximisation."""

    def fitted(codes: Tensor, seed: int) -> Sampler:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        _require(len(codes), components)
        options = {"init_params": "k-means++", "max_iter": 10, "reg_covar": 1e-3}
        mixture = GaussianMixture(components, random_state=seed, **options)
        with warnings.catch_warnings():  # a fit that has not quite converged samples well enough
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(codes.numpy())
        return _gaussians(mixture.weights_, mixture.means_, mixture.covariances_)

    return fitted


def _clusters(codes: Tensor, seed: int) -> Sampler:
    """A Gaussian for each of many clusters (k-means), with a covariance that borrows from all.

    A cluster has about as many codes as a code has latents, too few for a covariance of its own.
    So it is shrunk towards the mean covariance within clusters, which counts for STRENGTH more
    codes (as in regularised discriminant analysis, Friedman 1989).
    """
    from sklearn.cluster import MiniBatchKMeans

    count = min(CLUSTERS, len(codes) // STRENGTH)
    _require(len(codes), max(count, STRENGTH))
    options = {"batch_size": 8192, "max_iter": 20, "n_init": 1, "init": "random"}
    label = MiniBatchKMeans(count, random_state=seed, **options).fit_predict(codes.numpy())
    of, sizes = (
        torch.from_numpy(label).long(),
        torch.from_numpy(np.bincount(label, minlength=count)),
    )
    means = torch.zeros(count, codes.shape[1]).index_add_(0, of, codes) / sizes[:, None].clamp(
        min=1
    )
    centred = (codes - means[of])[of.argsort()]
    scatter = torch.stack([part.T @ part for part in centred.split(sizes.tolist())])
    shared = scatter.sum(0) / len(codes)
    covariances = (scatter + STRENGTH * shared) / (sizes + STRENGTH)[:, None, None]
    return _gaussians(sizes.numpy(), means.numpy(), covariances.numpy())


def _gaussians(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> Sampler:
    roots = torch.from_numpy(np.linalg.cholesky(covariances.astype(float))).float()
    centres = torch.from_numpy(means).float()
    shares = torch.from_numpy(weights / weights.sum())

    def sample(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        of = torch.multinomial(shares, count, replacement=True, generator=generator)
        noise = torch.randn(count, centres.shape[1], generator=generator)
        for component in of.unique():
            rows = of == component
            noise[rows] = centres[component] + noise[rows] @ roots[component].T
        return noise

    return sample


def _require(codes: int, components: int) -> None:
    if codes < components:
        raise ValueError(
            f"{components} Gaussians cannot be fitted to {codes} codes: take fewer of them, or "
            "more images"
        )


# --- networks; both are fitted to whitened codes ---


class SecondVAE(nn.Module):
    """A VAE of codes, with as many latents, whose decoder learns its variance.

    Dai & Wipf 2019, section 4: the codes of a first VAE fill their space, so a second one can
    match N(0, I).
    """

    def __init__(self, latents: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.encoder = _layers(latents, hidden, 2 * latents)
        self.decoder = _layers(latents, hidden, latents)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """The negative ELBO of codes ``(B, M)``, in nats per latent, without its constant."""
        q = Posterior(*self.encoder(codes).chunk(2, dim=1))
        decoded = self.decoder(q.sample(torch.randn(codes.shape, generator=generator)))
        error = (codes - decoded).square() / self.log_variance.exp() + self.log_variance
        return (error / 2 + kl_divergence(q)).mean()

    def sample(self, noise: Tensor) -> Tensor:
        """Codes of noise ``(n, M)``: the decoder's mean, and its own noise."""
        generator = torch.Generator().manual_seed(len(noise))
        own = torch.randn(noise.shape, generator=generator)
        return self.decoder(noise) + own * (self.log_variance / 2).exp()


class Flow(nn.Module):
    """A continuous normalising flow, fitted by flow matching (Lipman et al. 2023, eq. 22).

    It learns the velocity v(x, t) of points on straight lines from noise (t = 0) to codes (t = 1).
    """

    def __init__(self, latents: int, hidden: int = HIDDEN, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies = math.pi * torch.arange(1, frequencies + 1)
        self.encoder = nn.Linear(latents + 2 * frequencies, hidden)
        blocks = [
            nn.Sequential(nn.LayerNorm(hidden), *_layers(hidden, hidden, hidden)[:-2])
            for _ in range(2)
        ]
        self.blocks, self.decoder = nn.ModuleList(blocks), nn.Linear(hidden, latents)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """The velocity at points ``(B, M)`` and times ``(B, 1)``, ``(B, M)``."""
        angles = time * self.frequencies
        hidden = self.encoder(torch.cat([points, angles.cos(), angles.sin()], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.decoder(hidden)

    def loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of the velocity at a random time of each code's line."""
        noise = torch.randn(codes.shape, generator=generator)
        time = torch.rand(len(codes), 1, generator=generator)
        velocity = self(noise + time * (codes - noise), time)
        return (velocity - (codes - noise)).square().mean()

    def sample(self, noise: Tensor) -> Tensor:
        """Codes of noise ``(n, M)``: the path is followed by the midpoint rule."""
        points, step = noise, 1 / STEPS
        for start in torch.arange(STEPS) / STEPS:
            time = start.expand(len(points), 1)
            middle = points + step / 2 * self(points, time)
            points = points + step * self(middle, time + step / 2)
        return points


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()),
        nn.Linear(hidden, outputs),
    )


def _network(make: Callable[[int], Any], codes: Tensor, seed: int) -> Sampler:
    values, directions = torch.linalg.eigh(torch.cov(codes.T))
    centre, roots = codes.mean(0), values.clamp(min=1e-6).sqrt()
    white = (codes - centre) @ directions / roots
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(codes.shape[1])
    generator = torch.Generator().manual_seed(seed)
    steps = EPOCHS * math.ceil(len(white) / BATCH)
    optimiser = Optimiser(network, "adam", 2e-3, "linear", steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(white), generator=generator).split(BATCH):
            loss = network.loss(white[batch], generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of {make.__name__} is {loss.item()}: it diverged")

    def sample(count: int, draw: int) -> Tensor:
        with torch.inference_mode():
            new = network.sample(_noise(count, codes.shape[1], draw))
        return (new * roots) @ directions.T + centre

    return sample


DENSITIES = {
    "prior": Density("N(0, I)", _prior),
    "gaussian": Density("one Gaussian", _mixture(1)),
    **{
        f"mixture_{count}": Density(f"mixture of {count}", _mixture(count))
        for count in (10, 100, 300)
    },
    "clusters": Density("local Gaussians", _clusters),
    "second_vae": Density("a second VAE", functools.partial(_network, SecondVAE)),
    "flow": Density("a flow", functools.partial(_network, Flow)),
}


# --- how good the samples are ---


@dataclasses.dataclass(frozen=True)
class Repair:
    """A model with a density: codes, samples ``(count, 1, 28, 28)``, seconds of the fit.

    ``place`` is the name under which its measures are kept, "" where they are not.
    """

    run: Run
    name: str
    sampler: Sampler
    seconds: float
    place: str = ""

    def samples(self, count: int, seed: int = 0) -> Tensor:
        """Images of ``count`` codes of the density; raises where it has diverged."""
        codes = self.sampler(count, seed)
        if not codes.isfinite().all():
            raise FloatingPointError(f"{DENSITIES[self.name].title} has diverged: take another")
        return decode(self.run, codes)


def repair(run: Run, name: str) -> Repair:
    """A density fitted to the codes of the run's training images by its seed; see :func:`fit`."""
    start = time.perf_counter()
    codes = sampled_codes(run, run.dataset.train_images, run.recipe.seed)
    sampler = fit(name, codes, run.recipe.seed)
    return Repair(run, name, sampler, time.perf_counter() - start, place(run.digest, name))


def place(digest: str, name: str) -> str:
    """The name under which measures of a density are kept, for the run of this ``digest``."""
    local = f"{CLUSTERS}-{STRENGTH}-" if name == "clusters" else ""
    return f"{digest}-{name}-{local}{cache.source_digest(Path(__file__))[:16]}"


def measure(repaired: Repair, names: Sequence[str] = SHOWN) -> dict[str, Estimate]:
    """The measures of samples, as :mod:`vae_nb.metrics` has them, of a repair's samples.

    They are kept in the cache, if the repair has a place there.
    """
    run = repaired.run

    def drawn() -> Tensor:
        return repaired.samples(len(run.dataset.test_images), run.recipe.seed)

    real = _real(run.dataset)  # the same for every repair
    shared = {
        ("real_features", "classifier"): lambda: real.real_features("classifier"),
        ("real_radii",): lambda: samples.real_radii(real),
    }
    record = Record(run.dataset, run, shared | {("samples", "prior"): drawn})
    if repaired.place:
        what = f"{DENSITIES[repaired.name].title}, {run.recipe}"
        return metrics.kept(repaired.place, names, lambda: record, what)
    found = metrics.measure(record, names)
    return {name: value for name, value in found.items() if value is not None}


@functools.lru_cache(1)
def _real(dataset: Dataset) -> Record:
    return Record(dataset)


def own_codes(run: Run, names: Sequence[str] = SHOWN) -> dict[str, Estimate]:
    """The same of the held-out images' own codes, decoded: what the decoder loses of them."""
    return measure(
        Repair(run, "prior", lambda *_: sampled_codes(run, run.dataset.test_images), 0.0), names
    )


@functools.cache
def archived() -> Mapping[str, Mapping[str, Any]]:
    """The archived rows by model and density, made by ``benchmarks/densities.py``."""
    rows = json.loads(ARCHIVE.read_text(encoding="utf-8"))
    for by_density in rows.values():
        for row in by_density.values():
            row["measured"] = {k: Estimate.read(v) for k, v in row["measured"].items()}
    return rows
