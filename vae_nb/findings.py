"""What does a figure show? A sentence for each, chosen by what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from vae_nb.archive import Archive
from vae_nb.claims import number
from vae_nb.evaluation.interval import Measured
from vae_nb.store import Run

Curve = Mapping[float, Mapping[str, Measured]]  # numbers of a multi-rate VAE by beta


def objective(point: Mapping[str, Measured], beta: float, latent_dim: int) -> float:
    """The held-out objective at one beta of a curve."""
    return point["mse_sample"].value + beta * point["rate"].value / latent_dim


def over_separate(run: Run, curve: Curve, sweep: Archive) -> dict[float, float]:
    """The objective of a multi-rate run over the median of separate trainings, by archived beta."""
    return {
        beta: objective(curve[beta], beta, run.recipe.latent_dim)
        / statistics.median(row.objective for row in sweep.of("vae", beta))
        for beta in sweep.betas
        if beta in curve
    }


def one_for_all(run: Run, separate: Run, curve: Curve, sweep: Archive) -> str:
    """How near one model comes to separate ones, and at what cost."""
    ratios = over_separate(run, curve, sweep)
    worst, best = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    within = sum(value <= 1.02 for value in ratios.values())
    cost = run.made["seconds"] / separate.made["seconds"]
    return (
        f"At {within} of {len(ratios)} archived β the one model's objective is at most 2 % above "
        f"the median of separate trainings; the largest difference is {ratios[worst] - 1:+.1%} at "
        f"β = {worst:g}, the smallest {ratios[best] - 1:+.1%} at {best:g}. In this build its "
        f"training took {cost:.1f} times as long as a separate one."
    )


def course_of(curve: Curve, negligible: float = 0.01) -> str:
    """Whether rate and distortion go one way only along a curve, beyond their intervals.

    A rate that rises by ``negligible`` nats or less, next to none, is rounding.
    """
    steps = list(pairwise(curve))
    wrong = {
        "distortion": [high for _, high in steps if curve[high]["mse_step"].high < 0],
        "rate": [b for _, b in steps if curve[b]["rate_step"].low > negligible],
    }
    parts = [
        f"the {name} {verb} at no step"
        if not wrong[name]
        else f"the {name} {verb} on the way to {', '.join(f'{beta:g}' for beta in wrong[name])}"
        for name, verb in (("distortion", "falls"), ("rate", "rises"))
    ]
    return f"From one of its {len(curve)} β to the next {parts[0]}, and {parts[1]}."


def every_beta_table(run: Run, curve: Curve, sweep: Archive) -> str:
    """A multi-rate model at each beta of its curve, beside separate trainings where there are."""
    ratios = over_separate(run, curve, sweep)
    lines = [
        "| β | rate, nats | MSE of a sample | MSE of the mean | active units | objective "
        "| separate | ratio |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for beta, point in curve.items():
        own = objective(point, beta, run.recipe.latent_dim)
        separate = f"{own / ratios[beta]:.4f} | {ratios[beta]:.3f}" if beta in ratios else "– | –"
        rate = max(0.0, point["rate"].value)  # below it lies rounding alone
        lines.append(
            f"| {beta:g} | {number(rate)} | {point['mse_sample'].value:.4f} "
            f"| {point['mse_mean'].value:.4f} | {point['active_units'].value:.0f} | {own:.4f} "
            f"| {separate} |"
        )
    return "\n".join(lines)


def film_of(curve: Curve) -> str:
    """What changes from the first to the last beta of a film."""
    first, last = list(curve)[0], list(curve)[-1]
    return (
        f"From β = {first:g} to {last:g} the code goes from "
        f"{number(curve[first]['rate'].value)} to {number(curve[last]['rate'].value)} nats."
    )


def switched_off(betas: Sequence[float], rates: Tensor, silent: float = 0.1) -> str:
    """When the latents fall silent, one after another; ``rates`` is ``(len(betas), M)``."""
    speaking = (rates > silent).sum(1).tolist()
    back = sum(((rates[1:] > silent) & (rates[:-1] <= silent)).any(0).tolist())
    places = [0, len(betas) // 3, 2 * len(betas) // 3, len(betas) - 1]
    counts = ", ".join(f"{speaking[i]} at β = {betas[i]:g}" for i in places)
    return f"Latents with more than {silent:g} nats: {counts}. " + (
        "None that has fallen silent speaks again at a larger β."
        if not back
        else f"{back} of {rates.shape[1]} are silent at some β and speak again at a larger one."
    )


def beside_separate(one: Mapping[str, Measured], separate: Mapping[str, Measured]) -> str:
    """A multi-rate model at one beta and a VAE trained for it, number by number."""
    names = {
        "mse_mean": "MSE of the mean",
        "mse_sample": "MSE of a sample",
        "rate": "rate, nats",
        "active_units": "active units",
        "sharpness_reconstructions": "sharpness of reconstructions",
        "fid_prior": "FID of samples",
        "log_likelihood": "log-likelihood, nats (bound)",
    }
    rows = [
        f"| {label} | {_cell(one[name])} | {_cell(separate[name])} |"
        for name, label in names.items()
    ]
    return "\n".join(
        ["| number | one model for every β | trained for it |", "| --- | ---: | ---: |", *rows]
    )


def _cell(measured: Measured) -> str:
    return f"{number(measured.value)} [{number(measured.low)}, {number(measured.high)}]"
