"""How the rate grew in a training, and rate and distortion along the betas of a multi-rate VAE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vae_nb.metrics.intervals import (
    NOT_AVAILABLE,
    Estimate,
    exactly,
    mean_ci,
    shared_mean_ci,
    slope_ci,
)
from vae_nb.metrics.latent import active_units, rate
from vae_nb.metrics.reconstruction import mse
from vae_nb.metrics.record import Record
from vae_nb.models import decode, posterior, sample_prior
from vae_nb.objective import kl_divergence, squared_error
from vae_nb.runs import Run

# Of a multi-rate VAE: the betas of the archive, and more where the curve bends.
CURVE = (
    *(1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.14, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0),
)


def window_mean(values: np.ndarray, start: int, length: int) -> Estimate:
    """The mean of ``length`` neighbouring values, as many as there are; nan of fewer than two."""
    start = max(0, min(start, len(values) - length))
    few = values[start : start + length]
    return mean_ci(few) if len(few) > 1 else NOT_AVAILABLE


def rate_distortion(run: Run, betas: Sequence[float]) -> list[dict[str, Estimate]]:
    """Rate and distortion of a multi-rate run at each of ``betas``.

    ``mse_step`` and ``rate_step`` are the differences from the beta before, image by image with the
    same noise, so that their intervals are those of the curve's slope.
    """
    images = run.dataset.test_images
    noise = sample_prior(len(images), run.latent_dim)
    points: list[dict[str, Estimate]] = []
    before = None
    for beta in betas:
        model = run.model.at(beta).to(memory_format=torch.channels_last)
        q = posterior(model, images)
        errors = squared_error(images, decode(model, q.sample(noise))).numpy()
        rates = kl_divergence(q).sum(1).numpy()
        point = {
            "mse_mean": mse(images, decode(model, q.mean)),
            "mse_sample": shared_mean_ci(errors),
            "rate": rate(q),
            "active_units": exactly(active_units(q.mean)),
        }
        if before is not None:
            point["mse_step"] = mean_ci(errors - before[0])
            point["rate_step"] = mean_ci(rates - before[1])
        before = errors, rates
        points.append(point)
    return points


# --- of a record; None where the run has no training curve of its own, as one beta of many ---


def _rates(record: Record) -> np.ndarray:
    """The rate at each step of the training, in nats."""
    return np.array(record.run.history.kl) * record.run.latent_dim


def measure_rate_slope(record: Record) -> Estimate | None:
    """The slope of the rate over the last epoch, as a share of the rate, per epoch."""
    if not record.run.history.kl:
        return None
    steps = record.run.history.steps_per_epoch
    rates = _rates(record)[-steps:]
    return slope_ci(np.arange(steps) / steps, rates / rates.mean())


def measure_rate_at(record: Record, when: str) -> Estimate | None:
    """The mean rate over a tenth of an epoch, at "half" or at the "end" of the training."""
    rates = _rates(record)
    if not len(rates):
        return None
    steps = record.run.history.steps_per_epoch
    length = steps // 10 + 2
    half, end = len(rates) // 2 - steps // 20, len(rates) - length
    return window_mean(rates, half if when == "half" else end, length)
