"""What a chapter shows beside its figures: Markdown with a role, and numbers for programs.

The book lays outputs out by their role, which is in the metadata; a notebook shows them one under
the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from IPython.display import display
from torch import Tensor

from vae_nb import archive, cache, objective
from vae_nb.archive import Evidence, Numbers
from vae_nb.data import Dataset
from vae_nb.figures import LiveFigure
from vae_nb.metrics import METRICS
from vae_nb.multirate import BETA_RANGE
from vae_nb.report import templates
from vae_nb.report.templates import Shown
from vae_nb.runs import Run

TOLERANCE = 0.05  # of the mean image's error: a model that is worse has not learned yet
MEASURED = "application/vnd.vae-nb.measured+json"  # MIME type of the numbers of a run


def show(text: str, role: str) -> None:
    """Publish Markdown with a role: answer, claims, basis, outlier or text."""
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata={"vae_nb": role})


def show_figure(figure: LiveFigure) -> None:
    """Publish a figure with its caption."""
    display(figure)


def show_text(text: str) -> None:
    """Publish Markdown with numbers of the run."""
    show(text.strip(), "text")


def show_table(table: str) -> None:
    """Publish a table in its own container, which scrolls where the page is narrow."""
    show(table, "claims")


def show_basis(evidence: Evidence, runs: Mapping[str, Run]) -> None:
    """Publish on which trainings the intervals of a table rest, and which numbers are outliers.

    ``evidence`` and ``runs`` are those of this build, by role. An outlier is named on the page and
    in the output of the build.
    """
    seeds = len(archive.join(evidence, runs))
    rows = {role: archive.others(run.recipe) if seeds > 1 else [] for role, run in runs.items()}
    text = templates.macro(
        "display.md",
        "basis",
        seeds=seeds,
        stale=any(map(archive.stale, rows.values())),
        missing=any(
            name in METRICS and name not in row.measured
            for role in runs
            for name in evidence[role]
            for row in rows[role]
        ),
    )
    show(text, "basis")
    for role, run in runs.items():
        for name, (value, expected) in archive.outliers(run, evidence[role]).items():
            facts = {"title": METRICS[name].title, "value": Shown(name, value)}
            facts |= {"expected": Shown(name, expected), "recipe": run.recipe}
            show(templates.macro("display.md", "outlier", **facts), "outlier")


def unfinished(evidence: Evidence, runs: Mapping[str, Run]) -> str:
    """What to do where a model reconstructs worse than the mean image does; "" where none does.

    A collapsed VAE shows just the mean image, which is no fault of its training.
    """
    found = []
    for role, run in runs.items():
        numbers = evidence[role]
        error, mean_image = (numbers.get(name) for name in ("mse_sample", "pixel_variance"))
        if error and mean_image and error.value > (1 + TOLERANCE) * mean_image.value:
            facts = {"error": Shown("mse_sample", error), "mean_image": mean_image.value}
            found.append(templates.macro("display.md", "unfinished", recipe=run.recipe, **facts))
    return "\n\n".join(found)


def show_recipes(*runs: Run) -> None:
    """Print the recipe of each run, and publish what a reader should know of some of them.

    That is which began with the network of all betas, and which are expected to collapse.
    """
    sentences = []
    if betas := [run.beta for run in runs if run.recipe.start]:
        low, high = BETA_RANGE
        outside = {"below": [b for b in betas if b < low], "above": [b for b in betas if b > high]}
        facts = {"betas": betas, "low": low, "high": high, **outside}
        sentences.append(templates.macro("display.md", "instant", **facts))
    for run in runs:
        print(f"{run.recipe}{', archived' if run.made.get('archived') else ''}")
        if run.recipe.model == "vae":
            threshold = collapse_beta(run)
            facts = {"beta": run.beta, "latents": run.latent_dim, "threshold": threshold}
            if run.beta > threshold:
                sentences.append(templates.macro("display.md", "collapse_expected", **facts))
    if sentences:
        show_text("\n\n".join(sentences))


def collapse_beta(run: Run) -> float:
    """:func:`vae_nb.objective.collapse_beta` of the run's training images."""
    variances = pixel_eigenvalues(run.dataset)
    top = variances[-1].item()
    return objective.beta_of_decoder_variance(top, run.latent_dim, len(variances))


def pixel_eigenvalues(dataset: Dataset) -> Tensor:
    """Those of the pixel covariance of a set's training images, ``(784,)``, the largest last.

    They are kept in the cache: every page with a VAE asks for the largest.
    """
    code = cache.source_digest(Path(objective.__file__))[:16]
    name = f"eigenvalues-{dataset.digest}-{len(dataset.train_images)}-{code}"

    def compute(names: list[str]) -> dict[str, list[float]]:
        covariance = objective.pixel_covariance(dataset.train_images)
        return dict.fromkeys(names, torch.linalg.eigvalsh(covariance).tolist())

    kept = cache.values(cache.folder() / "measured" / name, ["eigenvalues"], compute)
    return torch.tensor(kept["eigenvalues"], dtype=torch.float64)


def publish(measured: Numbers, beta: float | None) -> None:
    """Publish the numbers of a run for programs (``vae-nb rerun`` compares runs by them).

    Pages and notebooks show nothing for it.
    """
    numbers = {  # JSON has no nan
        name: None if math.isnan(estimate.value) else estimate.value
        for name, estimate in measured.items()
    }
    display({MEASURED: {"beta": beta, **numbers}}, raw=True, metadata={"vae_nb": "measured"})
