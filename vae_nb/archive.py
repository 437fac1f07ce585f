"""The archived trainings of the book, and how a run of this build joins them.

``archive.json`` is written by ``vae-nb sweep``: trainings at the defaults, and the report's models
by the report's own recipe (the profile "course"). A run of this build joins the archived runs that
differ from it by the seed alone: its numbers then have an interval over seeds, and numbers outside
of the interval that the archive predicts for one more seed are reported.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_nb import metrics, runs
from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import (
    Estimate,
    difference,
    differs,
    mean_ci,
    pool_seeds,
    prediction_interval,
)
from vae_nb.recipe import Recipe, recipe
from vae_nb.runs import Run

Numbers = Mapping[str, Estimate]  # of one run, by metric
Evidence = Mapping[str, Numbers]  # of several runs, by role; "real" has those of real images

ARCHIVE = Path(__file__).with_name("archive.json")
COLLAPSED_RATE = 1.0  # nats: a VAE whose rate is at most this carries next to nothing
# Numbers that every build compares with the archive, and the tolerance of each.
COMPARED = {"mse_sample": 0.0, "rate": 0.01, "fid_prior": 0.0, "recognised_prior": 0.01}
REPORT = "course"  # the profile that is the report's own recipe
LEAST_SEEDS = 3  # of the report's recipe: with fewer, an interval over seeds decides nothing


@dataclasses.dataclass(frozen=True)
class Row:
    """An archived run: its recipe, its measures, and small pictures (PNG in base64).

    ``beta`` is the weight of the KL that it was fitted with; a sigma-VAE found its own. ``code``
    has the digests of the code that trained ("weights") and measured ("measures") it.
    """

    recipe: Recipe
    beta: float
    measured: Numbers
    pictures: Mapping[str, str]
    made: Mapping[str, Any]
    code: Mapping[str, Any]

    def is_of(self, profile: str) -> bool:
        """Whether it was made by a profile, with nothing changed but the seed."""
        own = self.recipe
        return own == recipe(own.model, own.beta, profile, seed=own.seed)

    @property
    def objective(self) -> float:
        """The held-out objective at its beta."""
        return objective(self.measured, self.beta, self.recipe.latent_dim)

    @property
    def collapsed(self) -> bool:
        """Whether it is a VAE whose code carries next to nothing."""
        return "rate" in self.measured and self.measured["rate"].value <= COLLAPSED_RATE


@dataclasses.dataclass(frozen=True)
class Archive:
    """The rows of a sweep.

    ``controls`` has the measures of samples by control (see ``metrics.controls``), ``claims`` the
    tests of all claims as they were when the sweep was made, and the commit that has them.
    """

    rows: Sequence[Row]
    versions: Mapping[str, str]
    digest: str
    controls: Mapping[str, Numbers] = dataclasses.field(default_factory=dict)
    claims: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def of_profile(self, profile: str) -> Archive:
        """The same with the rows of one profile."""
        return dataclasses.replace(self, rows=[row for row in self.rows if row.is_of(profile)])

    @property
    def betas(self) -> list[float]:
        """The betas of its VAEs, ascending."""
        return sorted({row.beta for row in self.rows if row.recipe.model == "vae"})

    def of(self, model: str, beta: float = 0.0) -> list[Row]:
        """The rows of one model, one for each seed."""
        return [row for row in self.rows if (row.recipe.model, row.recipe.beta) == (model, beta)]

    def alike(self, recipe: Recipe) -> list[Row]:
        """The rows whose recipe differs from this one by the seed alone, or not at all."""
        return [
            row for row in self.rows if dataclasses.replace(row.recipe, seed=recipe.seed) == recipe
        ]

    def pooled(self, model: str, beta: float, name: str) -> Estimate:
        """One number of one model, with its interval over seeds and held-out images.

        Raises :class:`KeyError` where a row lacks it.
        """
        pooled = pool_seeds([row.measured[name] for row in self.of(model, beta)])
        return pooled.within(*METRICS[name].bounds)

    def against_beta(self, name: str, at_least: float = 0.0) -> dict[float, Estimate]:
        """One number of the VAEs by beta, from the beta ``at_least`` on."""
        betas = [beta for beta in self.betas if beta >= at_least]
        return {beta: self.pooled("vae", beta, name) for beta in betas}

    def best(self, name: str) -> float:
        """The beta of the VAEs with the best mean of a metric."""
        values = self.against_beta(name)
        choose = max if METRICS[name].better == "higher" else min
        return choose(values, key=lambda beta: values[beta].value)

    def rivals(self, name: str) -> list[float]:
        """The betas whose metric does not differ significantly from that of the best beta.

        VAEs are compared within each seed.
        """
        best = self.best(name)
        others = [beta for beta in self.betas if beta != best]
        return [beta for beta in others if not differs(self.step(name, best, beta))]

    def step(self, name: str, start: float, end: float) -> Estimate:
        """By how much a number of the VAEs changes from one beta to another, within each seed."""
        by_seed = {row.recipe.seed: row.measured[name] for row in self.of("vae", start)}
        return pool_seeds(
            [
                difference(row.measured[name], by_seed[row.recipe.seed])
                for row in self.of("vae", end)
                if row.recipe.seed in by_seed
            ]
        )

    def relative_spread(self, name: str) -> tuple[float, int]:
        """The standard deviation over seeds relative to the mean, and its degrees of freedom.

        Pooled over models. Collapsed ones are left out: what is left of their rate is noise.
        """
        squares, freedom = 0.0, 0
        for key in {(row.recipe.model, row.recipe.beta) for row in self.rows}:
            rows = [row for row in self.of(*key) if name in row.measured]
            if len(rows) < 2 or any(row.collapsed for row in rows):
                continue
            values = np.array([row.measured[name].value for row in rows])
            squares += ((values / values.mean() - 1) ** 2).sum()
            freedom += len(values) - 1
        return math.sqrt(squares / max(freedom, 1)), freedom

    def learned(self) -> Estimate:
        """The beta that the sigma-VAEs found, over seeds."""
        return mean_ci([row.beta for row in self.of("sigma_vae")])

    def crossing(self, name: str, level: float) -> tuple[float, float]:
        """The neighbouring betas between which the mean of a falling number passes ``level``."""
        values = self.against_beta(name)
        above = max(beta for beta, value in values.items() if value.value >= level)
        return above, min(beta for beta in values if beta > above)

    def over_separate(self, curve: Mapping[float, Numbers], recipe: Recipe) -> dict[float, float]:
        """The objective along the curve of a multi-rate VAE over that of separate trainings.

        By archived beta; of the separate ones, the median. ``recipe`` is that of the multi-rate
        VAE: of another data set or number of latents, nothing is comparable.
        """
        ratios, kind = {}, (recipe.dataset, recipe.latent_dim)
        for beta in self.betas:
            rows = self.of("vae", beta)
            if beta in curve and {(r.recipe.dataset, r.recipe.latent_dim) for r in rows} == {kind}:
                separate = statistics.median(row.objective for row in rows)
                ratios[beta] = objective(curve[beta], beta, recipe.latent_dim) / separate
        return ratios


def objective(numbers: Numbers, beta: float, latent_dim: int) -> float:
    """The held-out objective: squared error of a sample, and beta times the KL per latent."""
    return numbers["mse_sample"].value + beta * numbers["rate"].value / latent_dim


def load() -> Archive:
    """The archived trainings at the defaults."""
    return read().of_profile("default")


@functools.cache
def read(path: Path = ARCHIVE) -> Archive:
    """All of the archive in ``path``. Raises :class:`ValueError` if it is not what was written."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise ValueError("no file")
        kept = json.loads(path.read_text())
        found, written = digest(kept), kept["digest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found, written = repr(error), "that of a table"
    if found != written:
        raise ValueError(
            f"{path} is damaged: its digest is {found}, not {written}; take it from the "
            "repository again, or write it anew with `vae-nb sweep`"
        )
    rows = [
        Row(**row | {"recipe": Recipe(**row["recipe"]), "measured": _numbers(row["measured"])})
        for row in kept["runs"]
    ]
    controls = {name: _numbers(measured) for name, measured in kept["controls"].items()}
    return Archive(rows, kept["versions"], found, controls, kept["claims"])


def reproduced() -> dict[str, dict[str, float]]:
    """By how much numbers of one recipe moved, relative, where only the machine differed.

    By metric, then by what differed; "interval" is half the width of the metric's 95 % interval.
    ``benchmarks/reproducibility.py`` measures it.
    """
    return json.loads(ARCHIVE.with_name("archive.reproduced.json").read_text())


def _numbers(kept: Mapping[str, Any]) -> Numbers:
    return {name: Estimate.read(values) for name, values in kept.items()}


def digest(kept: Mapping[str, Any]) -> str:
    """A name of all that is measured or decided in it, as it is written in JSON."""
    parts = [kept[name] for name in ("runs", "controls", "claims")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def code(recipe: Recipe) -> dict[str, Any]:
    """The digests of today's code that trains ("weights") and measures ("measures") a recipe."""
    return {"weights": runs.code(recipe), "measures": metrics.code(recipe)}


def stale(rows: Iterable[Row]) -> list[Row]:
    """The rows that were trained or measured by other code than today's."""
    return [
        row
        for row in rows
        if row.code["weights"] != runs.code(row.recipe)
        or row.code["measures"] != metrics.code(row.recipe)
    ]


def others(recipe: Recipe) -> list[Row]:
    """The archived runs of this recipe with other seeds."""
    return [row for row in read().alike(recipe) if row.recipe.seed != recipe.seed]


def join(evidence: Evidence, runs: Mapping[str, Run]) -> list[Evidence]:
    """``evidence`` of this build, then that of every other seed in the archive.

    ``runs`` are this build's runs by role; a role without one is the same in all seeds. A seed
    counts if the archive has it for every role, so that models are compared within a seed: the
    same seed gives them the same order of images and the same initial weights where they agree.
    An archived row may lack a number that is measured since; what needs it leaves that seed out
    (see ``report.question.Criterion``).
    """
    by_seed = {
        role: {row.recipe.seed: row.measured for row in others(run.recipe)}
        for role, run in runs.items()
    }
    common = set.intersection(*(set(rows) for rows in by_seed.values())) if by_seed else set()
    return [
        evidence,
        *(
            {**evidence, **{role: rows[seed] for role, rows in by_seed.items()}}
            for seed in sorted(common)
        ),
    ]


def replication(models: Mapping[str, tuple[str, float]], real: Numbers) -> list[Evidence]:
    """The evidence of every seed of the report's models by the report's recipe.

    ``models`` are a question's by role. A seed counts if the archive has all of them; fewer seeds
    than LEAST_SEEDS are none.
    """
    archived = read().of_profile(REPORT)
    by_role = {
        role: {row.recipe.seed: row.measured for row in archived.of(*key)}
        for role, key in models.items()
    }
    common = set.intersection(*map(set, by_role.values()))
    if len(common) < LEAST_SEEDS:
        return []
    return [
        {"real": real, **{role: rows[seed] for role, rows in by_role.items()}}
        for seed in sorted(common)
    ]


def outliers(run: Run, measured: Numbers) -> dict[str, tuple[Estimate, Estimate]]:
    """The compared numbers of ``run`` outside of the interval that the archive predicts for them.

    By name: the number of this build, and the archived mean with the 99 % prediction interval for
    one more seed. Three seeds alone say little about a spread; where the relative spread of all
    models is larger, that is taken. Of a collapsed model only error and rate are compared: it draws
    one picture, which the classifier classifies with confidence or, after a rounding, does not.
    Rows that other code made predict nothing.
    """
    rows = read().alike(run.recipe)
    if stale(rows):
        return {}
    found = {}
    for name, tolerance in COMPARED.items():
        if name not in ("mse_sample", "rate") and any(row.collapsed for row in rows):
            continue
        archived = [row.measured[name].value for row in rows if name in row.measured]
        if len(archived) < 2 or name not in measured:
            continue
        expected = prediction_interval(archived, 0.99, load().relative_spread(name))
        low, high = expected.low - tolerance, expected.high + tolerance
        if not low <= measured[name].value <= high:
            found[name] = measured[name], Estimate(expected.value, low, high)
    return found
