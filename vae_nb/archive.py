"""What did the sweep find? The table that is kept with the book, and how a live run compares.

``archive.json`` is written by ``python -m vae_nb.sweep`` at the defaults. A run of the present
build joins the archived runs that differ from it by the seed alone: its numbers then carry an
interval over seeds, and those that lie where another seed would hardly put them are named.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_nb.evaluation.interval import Measured, of_mean, of_next, over_seeds
from vae_nb.store import Run
from vae_nb.training import Recipe

Evidence = Mapping[str, Mapping[str, Measured]]  # numbers by role, see `claims`

ARCHIVE = Path(__file__).with_name("archive.json")
# Numbers whose place among the archived ones is checked in every build, and the difference in
# each that means nothing.
WATCHED = {"mse_sample": 0.0, "rate": 0.01, "fid_prior": 0.0, "confident_prior": 0.01}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of the sweep: its recipe, what was measured, and small pictures (PNG, base64).

    ``beta`` is the weight of the KL that it was fitted with; a sigma-VAE found its own.
    """

    recipe: Recipe
    beta: float
    measured: Mapping[str, Measured]
    pictures: Mapping[str, str]
    made: Mapping[str, Any]

    @property
    def objective(self) -> float:
        """The held-out objective at its beta."""
        kl = self.measured["rate"].value / self.recipe.latent_dim
        return self.measured["mse_sample"].value + self.beta * kl


@dataclasses.dataclass(frozen=True)
class Archive:
    """The rows of a sweep."""

    rows: Sequence[Row]
    versions: Mapping[str, str]
    digest: str

    @property
    def betas(self) -> list[float]:
        """The betas of its VAEs, ascending."""
        return sorted({row.beta for row in self.rows if row.recipe.model == "vae"})

    def of(self, model: str, beta: float = 0.0) -> list[Row]:
        """The rows of one model, a seed each."""
        return [row for row in self.rows if (row.recipe.model, row.recipe.beta) == (model, beta)]

    def alike(self, recipe: Recipe) -> list[Row]:
        """The rows whose recipe differs from this one by the seed alone, or not at all."""
        return [
            row for row in self.rows if dataclasses.replace(row.recipe, seed=recipe.seed) == recipe
        ]

    def over_seeds(self, model: str, beta: float, name: str) -> Measured:
        """One number of one model, with its interval over seeds and held-out images."""
        return over_seeds([row.measured[name] for row in self.of(model, beta)])

    def against_beta(self, name: str, at_least: float = 0.0) -> dict[float, Measured]:
        """One number of the VAEs by beta, from the smallest beta that is wanted."""
        betas = [beta for beta in self.betas if beta >= at_least]
        return {beta: self.over_seeds("vae", beta, name) for beta in betas}

    def best(self, name: str) -> float:
        """The beta with the smallest mean of a number."""
        values = self.against_beta(name)
        return min(values, key=lambda beta: values[beta].value)

    def relative_spread(self, name: str) -> tuple[float, int]:
        """Standard deviation over seeds relative to the mean, pooled over models; its freedom.

        Collapsed models are left out: what is left of their rate is noise.
        """
        squares, freedom = 0.0, 0
        for key in {(row.recipe.model, row.recipe.beta) for row in self.rows}:
            rows = [row for row in self.of(*key) if name in row.measured]
            if len(rows) < 2 or any(
                "rate" in r.measured and r.measured["rate"].value < 1 for r in rows
            ):
                continue
            values = np.array([row.measured[name].value for row in rows])
            squares += ((values / values.mean() - 1) ** 2).sum()
            freedom += len(values) - 1
        return math.sqrt(squares / max(freedom, 1)), freedom

    def learned(self) -> Measured:
        """The beta that the sigma-VAEs found, over seeds."""
        return of_mean([row.beta for row in self.of("sigma_vae")])

    def crossing(self, name: str, level: float) -> tuple[float, float]:
        """The neighbouring betas between which the mean of a falling number passes ``level``."""
        values = self.against_beta(name)
        above = max(beta for beta, value in values.items() if value.value >= level)
        return above, min(beta for beta in values if beta > above)


@functools.cache
def load(path: Path = ARCHIVE) -> Archive:
    """The archive in ``path``. Raises :class:`ValueError` if it is not what was written."""
    try:
        kept = json.loads(path.read_text())
        found, written = digest(kept["runs"]), kept["digest"]
    except (ValueError, KeyError, TypeError) as error:
        found, written = repr(error), "that of a table"
    if found != written:
        raise ValueError(
            f"{path} is damaged: its digest is {found}, not {written}; take it from the "
            "repository again, or write it anew with python -m vae_nb.sweep"
        )
    rows = [
        Row(
            Recipe(**row["recipe"]),
            row["beta"],
            {name: Measured(*values) for name, values in row["measured"].items()},
            row["pictures"],
            row["made"],
        )
        for row in kept["runs"]
    ]
    return Archive(rows, kept["versions"], found)


def digest(runs: list[dict[str, Any]]) -> str:
    """A name of the rows as they are kept in JSON."""
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()[:16]


def others(recipe: Recipe) -> list[Row]:
    """The archived runs of this recipe with other seeds."""
    return [row for row in load().alike(recipe) if row.recipe.seed != recipe.seed]


def seeds(evidence: Evidence, runs: Mapping[str, Run]) -> list[Evidence]:
    """``evidence`` (numbers by role) of this build, then that of every other seed in the archive.

    ``runs`` are this build's runs by role; a role without one is the same in all seeds. A seed
    counts if the archive has it for every role, so that models are compared within a seed: the
    same seed gives them the same order of images and the same initial weights where they agree.
    """
    archived = {
        role: {
            row.recipe.seed: row.measured
            for row in others(run.recipe)
            if evidence[role].keys() <= row.measured.keys()
        }
        for role, run in runs.items()
    }
    common = set.intersection(*map(set, archived.values())) if archived else set()
    return [
        evidence,
        *(
            {**evidence, **{role: rows[seed] for role, rows in archived.items()}}
            for seed in sorted(common)
        ),
    ]


def strays(run: Run, measured: Mapping[str, Measured]) -> dict[str, tuple[Measured, Measured]]:
    """The watched numbers of ``run`` that lie outside of where the archive expects one more run.

    By name: the live number, and the archived mean with the 99 % interval for one more seed. Three
    seeds alone say little about a spread; where the relative spread of all models is larger, that
    is taken. Of a collapsed model only error and rate are asked: it draws one picture, to which the
    classifier gives all its confidence or, after a rounding, none.
    """
    rows = load().alike(run.recipe)
    collapsed = any("rate" in row.measured and row.measured["rate"].value < 1 for row in rows)
    found = {}
    for name, negligible in WATCHED.items():
        if collapsed and name not in ("mse_sample", "rate"):
            continue
        archived = [row.measured[name].value for row in rows if name in row.measured]
        if len(archived) < 2 or name not in measured:
            continue
        expected = of_next(archived, 0.99, load().relative_spread(name))
        low, high = expected.low - negligible, expected.high + negligible
        if not low <= measured[name].value <= high:
            found[name] = measured[name], Measured(expected.value, low, high)
    return found
