"""All that the book compares of one run, as numbers with intervals; computed once and stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_nb import store
from vae_nb.data import Dataset, load
from vae_nb.evaluation import downstream, interpolation, latent, reconstruction, samples
from vae_nb.evaluation.classifier import Classifier, classifier, features, probabilities
from vae_nb.evaluation.interval import (
    Measured,
    by_jackknife,
    of_mean,
    of_share,
    of_slope,
)
from vae_nb.models import Autoencoder, in_batches
from vae_nb.objective import kl_divergence, squared_error
from vae_nb.store import Run

PAIRS = 1000  # of images, whose whole paths are looked at
MATCHED_ERROR = 0.03  # grey level^2: sharper models are blurred to it before breaks are counted
LIKELIHOODS = 250  # images whose likelihood is bounded
# Of a multi-rate VAE's curve: those of the sweep, and more where the curve bends.
CURVE = (1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.07)
CURVE += (0.1, 0.14, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0)
COMPONENTS = 64  # of the linear baseline: as many as the models have latents


def measure(run: Run, dataset: Dataset) -> dict[str, Measured]:
    """What is measured of ``run`` on the held-out images of ``dataset``, by name.

    Keys and units are described on the book's page on metrics. The numbers are kept in the store
    under the run's digest and that of the evaluation's source.
    """
    values = store.remembered(
        f"run-{run.digest}-{source()}", lambda: _as_lists(_measure(run, dataset))
    )
    return _from(values)


def measure_curve(
    run: Run, dataset: Dataset, betas: Sequence[float] = CURVE
) -> dict[float, dict[str, Measured]]:
    """Rate and distortion of a multi-rate run at each of ``betas``, ascending; kept in the store.

    By name: ``mse_mean``, ``mse_sample``, ``rate`` and ``active_units`` as in :func:`measure`, and
    from the second beta on ``mse_step`` and ``rate_step``, the differences from the beta before,
    image by image with the same noise, so that their intervals are those of the curve's slope.
    """
    name = hashlib.sha256(repr(list(betas)).encode()).hexdigest()[:16]
    kept = store.remembered(
        f"curve-{run.digest}-{name}-{source()}", lambda: {"points": _curve(run, dataset, betas)}
    )
    return {beta: _from(values) for beta, values in zip(betas, kept["points"], strict=True)}


def _curve(run: Run, dataset: Dataset, betas: Sequence[float]) -> list[dict[str, list[float]]]:
    images = dataset.test_images
    noise = torch.randn(
        len(images), run.recipe.latent_dim, generator=torch.Generator().manual_seed(0)
    )
    points, before = [], None
    for beta in betas:
        model = run.model.at(beta).to(memory_format=torch.channels_last)
        posterior = latent.posterior(model, images)
        of_mean_code = in_batches(model, model.decode, posterior.mean)
        sampled = in_batches(model, model.decode, posterior.sample(noise))
        errors = squared_error(images, sampled).numpy()
        rates = kl_divergence(posterior).sum(1).numpy()
        values = {
            "mse_mean": reconstruction.mse(images, of_mean_code),
            "mse_sample": of_mean(errors),
            "rate": of_mean(rates),
            "active_units": by_jackknife(
                lambda rows, q=posterior: latent.active_units(q.mean[rows]), len(images)
            ),
        }
        if before is not None:
            values["mse_step"] = of_mean(errors - before[0])
            values["rate_step"] = of_mean(rates - before[1])
        before = errors, rates
        points.append(_as_lists(values))
    return points


def measure_floor(dataset: Dataset) -> dict[str, Measured]:
    """The same distances between real and real: as many training images against held-out ones.

    No model can be expected below (above, for precision and recall) these.
    """
    name = f"floor-{dataset.name}-{source()}"
    values = store.remembered(name, lambda: _as_lists(_measure_floor(dataset)))
    return _from(values)


def source() -> str:
    """A name of the source of all that measures: where it changes, all is measured anew."""
    digests = [store.source_digest(file) for file in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]


def _from(values: dict[str, list[float]]) -> dict[str, Measured]:
    return {name: Measured(*value) for name, value in values.items()}


def _as_lists(values: dict[str, Measured]) -> dict[str, list[float]]:
    return {name: [float(number) for number in value] for name, value in values.items()}


def _measure(run: Run, dataset: Dataset) -> dict[str, Measured]:
    judge = classifier(dataset)
    real = features(judge, dataset.test_images)
    return {
        **_reconstructions(run, dataset, judge, real),
        **_samples(run, dataset, judge, real),
        **_latents(run, dataset),
        **_interpolations(run, dataset, judge, real),
    }


def _reconstructions(
    run: Run, dataset: Dataset, judge: Classifier, real: Tensor
) -> dict[str, Measured]:
    images = dataset.test_images
    of_mean_code = reconstruction.reconstruct(run.model, images)
    seen = features(judge, of_mean_code)
    same = probabilities(judge, seen).argmax(1) == probabilities(judge, real).argmax(1)
    sampled = reconstruction.reconstruct_sampled(run.model, images)
    variance = reconstruction.pixel_variance(images)
    return {
        "pixel_variance": Measured(variance, variance, variance),  # of the data, not estimated
        "mse_mean": reconstruction.mse(images, of_mean_code),
        "mse_sample": reconstruction.mse(images, sampled),
        "r_squared": reconstruction.r_squared(images, of_mean_code),
        "ssim": reconstruction.ssim(images, of_mean_code),
        "sharpness_reconstructions": reconstruction.sharpness(of_mean_code, images),
        "sharpness_sampled": reconstruction.sharpness(sampled, images),
        "same_label": of_share(same.numpy()),
    }


def _samples(run: Run, dataset: Dataset, judge: Classifier, real: Tensor) -> dict[str, Measured]:
    count = len(dataset.test_images)
    values = {}
    for source in ("prior", "mixture"):
        if source == "prior":
            drawn = samples.from_prior(run.model, count, seed=run.recipe.seed)
        else:
            drawn = samples.from_mixture(
                run.model, dataset.train_images[:10000], count, seed=run.recipe.seed
            )
        seen = features(judge, drawn)
        named = probabilities(judge, seen)
        values |= {
            f"fid_{source}": samples.fid(real, seen),
            f"kid_{source}": samples.kid(real, seen),
            f"confident_{source}": samples.confident_share(named),
            f"balance_{source}": by_jackknife(
                lambda rows, named=named: samples.class_balance(named[rows]), count
            ),
            f"sharpness_{source}": reconstruction.sharpness(drawn, dataset.test_images),
        }
        if source == "prior":
            precision, recall = samples.precision_and_recall(real, seen)
            values |= {"precision_prior": precision, "recall_prior": recall}
    return values


def _latents(run: Run, dataset: Dataset) -> dict[str, Measured]:
    images = dataset.test_images
    codes = in_batches(run.model, run.model.code, images)
    drawn = reconstruction.sampled_codes(run.model, images)
    values = {
        "active_units": by_jackknife(lambda rows: latent.active_units(codes[rows]), len(codes)),
        "prior_gap": by_jackknife(lambda rows: latent.distance_to_prior(drawn[rows]), len(codes)),
    }
    if isinstance(run.model, Autoencoder):
        return values
    values["rate"] = latent.rate(latent.posterior(run.model, images))
    # The variance at which the decoder's likelihood is highest (Rybkin et al. 2021, eq. 6).
    variance = run.history.held_out[-1]["mse_sample"]
    elbo, weighted = latent.log_likelihood(run.model, images[:LIKELIHOODS], variance)
    values |= {"elbo": elbo, "log_likelihood": weighted}
    if not run.history.kl:  # a multi-rate VAE at one beta: none of the training's steps was its own
        return values
    steps = run.history.steps_per_epoch
    rate = np.array(run.history.kl) * run.recipe.latent_dim
    half = len(rate) // 2
    return values | {
        # Nats an epoch, over the last epoch.
        "rate_slope": of_slope(np.arange(steps) / steps, rate[-steps:]),
        "rate_at_half": _window(rate, half - steps // 20, steps // 10 + 2),
        "rate_at_end": _window(rate, len(rate) - steps // 10 - 2, steps // 10 + 2),
    }


def _window(values: np.ndarray, start: int, length: int) -> Measured:
    """The mean of ``length`` neighbouring values, as many as there are; nan of fewer than two."""
    start = max(0, min(start, len(values) - length))
    few = values[start : start + length]
    return of_mean(few) if len(few) > 1 else Measured(math.nan, math.nan, math.nan)


def _interpolations(
    run: Run, dataset: Dataset, judge: Classifier, real: Tensor
) -> dict[str, Measured]:
    images = dataset.test_images
    codes = in_batches(run.model, run.model.code, images)
    steps = torch.linspace(0, 1, 11)
    values = {}
    for suffix, different in (("", True), ("_equal", False)):
        start, end = interpolation.pairs(dataset.test_labels, len(images), different)
        first, last = codes[start], codes[end]
        paths = interpolation.between(run.model, first[:PAIRS], last[:PAIRS], steps)
        seen = features(judge, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
        for threshold in interpolation.THRESHOLDS:
            name = f"{threshold:g}{suffix}"
            values[f"extra_strokes_{name}"] = interpolation.extra_strokes(paths, threshold)
            values[f"extra_euler_{name}"] = interpolation.extra_euler(paths, threshold)
        values[f"evenness{suffix}"] = interpolation.evenness(seen)
        middle = interpolation.between(run.model, first, last, steps[5:6])[:, 0]
        values |= _midpoints(judge, real, middle, images[start], suffix)
        if different:
            middle = interpolation.between(run.model, first, last, steps[5:6], spherical=True)
            values |= _midpoints(judge, real, middle[:, 0], images[start], "_spherical")
            values |= _at_one_error(run, images[:1000], paths)
    return values


def _midpoints(
    judge: Classifier, real: Tensor, middle: Tensor, images: Tensor, suffix: str
) -> dict[str, Measured]:
    """Of as many midpoints as there are held-out images: FID depends on their number."""
    seen = features(judge, middle)
    doubt = torch.special.entr(probabilities(judge, seen)).sum(1)
    return {
        f"midpoint_fid{suffix}": samples.fid(real, seen),
        f"midpoint_entropy{suffix}": of_mean(doubt.numpy()),
        f"midpoint_sharpness{suffix}": reconstruction.sharpness(middle, images),
    }


def _at_one_error(run: Run, images: Tensor, paths: Tensor) -> dict[str, Measured]:
    """Breaks after blurring to MATCHED_ERROR; nothing for a model that is softer than that."""
    sigma = interpolation.blur_to_error(run.model, images, MATCHED_ERROR)
    if math.isnan(sigma):
        return {}
    blurred = interpolation.blur(paths[:, [0, paths.shape[1] // 2, -1]], sigma)
    return {
        "extra_strokes_0.5_matched": interpolation.extra_strokes(blurred),
        "extra_euler_0.5_matched": interpolation.extra_euler(blurred),
    }


def represent(run: Run, dataset: Dataset) -> dict[str, Measured]:
    """How useful the code of ``run`` is downstream, by name; kept in the store like ``measure``."""

    values = store.remembered(
        f"represent-{run.digest}-{source()}", lambda: _as_lists(_represent(run, dataset))
    )
    return _from(values)


def _represent(run: Run, dataset: Dataset) -> dict[str, Measured]:
    both = (dataset.train_images, dataset.test_images)
    codes = (in_batches(run.model, run.model.code, images) for images in both)
    return _readings(*codes, dataset, noisy=True)


def evaluate(run: Run, dataset: Dataset) -> dict[str, Measured]:
    """All that :func:`measure` and :func:`represent` know, measured now and not kept."""
    return _measure(run, dataset) | _represent(run, dataset)


def represent_baseline(dataset: Dataset, pixels: bool) -> dict[str, Measured]:
    """The same for raw pixels, or for their first 64 principal components."""

    def compute() -> dict[str, list[float]]:
        both = dataset.train_images.flatten(1), dataset.test_images.flatten(1)
        if not pixels:
            both = downstream.principal_components(
                dataset.train_images, dataset.test_images, COMPONENTS
            )
        return _as_lists(_readings(*both, dataset, noisy=not pixels))

    kind = "pixels" if pixels else "components"
    name = f"{kind}-{dataset.name}-{len(dataset.train_images)}-{source()}"
    return _from(store.remembered(name, compute))


def _readings(
    codes: Tensor, test_codes: Tensor, dataset: Dataset, noisy: bool
) -> dict[str, Measured]:
    codes, test_codes = downstream.scaled(codes, test_codes)
    given = codes, dataset.train_labels, test_codes, dataset.test_labels
    values = {}
    for kind in ("probe", "knn"):
        for count in downstream.COUNTS:
            values[f"{kind}_{count}"] = downstream.few_labels(kind, *given, count)
        values[f"{kind}_all"] = downstream.all_labels(kind, *given)
    if noisy:
        for noise in downstream.NOISE:
            values[f"probe_noise_{noise:g}"] = downstream.under_noise(*given, noise)
    return values


def _measure_floor(dataset: Dataset) -> dict[str, Measured]:
    judge = classifier(dataset)
    real = features(judge, dataset.test_images)
    others = features(judge, load(dataset.name).train_images[: len(real)])
    named = probabilities(judge, real)
    precision, recall = samples.precision_and_recall(real, others)
    return {
        "fid": samples.fid(real, others),
        "kid": samples.kid(real, others),
        "precision": precision,
        "recall": recall,
        "confident": samples.confident_share(named),
        "accuracy": of_share((named.argmax(1) == dataset.test_labels).numpy()),
    }
