"""All that the book compares of one run, as numbers with intervals; computed once and stored."""

from __future__ import annotations

import hashlib
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
from vae_nb.store import Run

PAIRS = 1000  # of images, for interpolations


def measure(run: Run, dataset: Dataset) -> dict[str, Measured]:
    """What is measured of ``run`` on the held-out images of ``dataset``, by name.

    Keys and units are described on the book's page on metrics. The numbers are kept in the store
    under the run's digest and that of the evaluation's source.
    """
    values = store.remembered(
        f"run-{run.digest}-{_source()}", lambda: _as_lists(_measure(run, dataset))
    )
    return {name: Measured(*value) for name, value in values.items()}


def measure_floor(dataset: Dataset) -> dict[str, Measured]:
    """The same distances between real and real: as many training images against held-out ones.

    No model can be expected below (above, for precision and recall) these.
    """
    name = f"floor-{dataset.name}-{_source()}"
    values = store.remembered(name, lambda: _as_lists(_measure_floor(dataset)))
    return {name: Measured(*value) for name, value in values.items()}


def _source() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\n".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _as_lists(values: dict[str, Measured]) -> dict[str, list[float]]:
    return {name: [float(number) for number in value] for name, value in values.items()}


def _measure(run: Run, dataset: Dataset) -> dict[str, Measured]:
    judge = classifier(dataset)
    real = features(judge, dataset.test_images)
    return {
        **_reconstructions(run, dataset, judge),
        **_samples(run, dataset, judge, real),
        **_latents(run, dataset),
        **_interpolations(run, dataset, judge, real),
        **_downstream(run, dataset),
    }


def _reconstructions(run: Run, dataset: Dataset, judge: Classifier) -> dict[str, Measured]:
    images = dataset.test_images
    of_mean_code = reconstruction.reconstruct(run.model, images)
    same = probabilities(judge, of_mean_code).argmax(1) == probabilities(judge, images).argmax(1)
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
        seen, named = features(judge, drawn), probabilities(judge, drawn)
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
    steps = run.history.steps_per_epoch
    rate = np.array(run.history.kl) * run.recipe.latent_dim
    half = len(rate) // 2
    return values | {
        "rate": latent.rate(latent.posterior(run.model, images)),
        # Nats an epoch, over the last epoch, relative to the rate that it has there.
        "rate_slope": of_slope(np.arange(steps) / steps, rate[-steps:]),
        "rate_at_half": of_mean(rate[half - steps // 20 : half + steps // 20 + 2]),
        "rate_at_end": of_mean(rate[-(steps // 10 + 2) :]),
    }


def _interpolations(
    run: Run, dataset: Dataset, judge: Classifier, real: Tensor
) -> dict[str, Measured]:
    images, labels = dataset.test_images, dataset.test_labels
    start, end = interpolation.pairs(labels, PAIRS)
    paths = interpolation.interpolate(run.model, images[start], images[end])
    seen = features(judge, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
    midpoints = paths[:, paths.shape[1] // 2]
    entropy = torch.special.entr(probabilities(judge, midpoints)).sum(1)
    values = {
        f"extra_strokes_{threshold:g}": interpolation.extra_strokes(paths, threshold)
        for threshold in interpolation.THRESHOLDS
    }
    return values | {
        "evenness": interpolation.evenness(seen),
        "midpoint_entropy": of_mean(entropy.numpy()),
        "midpoint_sharpness": reconstruction.sharpness(midpoints, images[start]),
    }


def _downstream(run: Run, dataset: Dataset) -> dict[str, Measured]:
    codes = in_batches(run.model, run.model.code, dataset.train_images[:20000])
    test_codes = in_batches(run.model, run.model.code, dataset.test_images)
    probe = downstream.linear_probe(
        codes,
        dataset.train_labels[:20000],
        test_codes,
        dataset.test_labels,
        count=min(1000, len(codes)),
    )
    return {"probe": probe}


def _measure_floor(dataset: Dataset) -> dict[str, Measured]:
    judge = classifier(dataset)
    real = features(judge, dataset.test_images)
    others = features(judge, load(dataset.name).train_images[: len(real)])
    named = probabilities(judge, dataset.test_images)
    precision, recall = samples.precision_and_recall(real, others)
    return {
        "fid": samples.fid(real, others),
        "kid": samples.kid(real, others),
        "precision": precision,
        "recall": recall,
        "confident": samples.confident_share(named),
        "accuracy": of_share((named.argmax(1) == dataset.test_labels).numpy()),
    }
