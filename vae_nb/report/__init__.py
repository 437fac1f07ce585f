"""The report: its questions, claims and verdicts, and what chapters say and show of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_nb import archive, data
from vae_nb.archive import Evidence, Numbers
from vae_nb.figures import LiveFigure
from vae_nb.report import captions as captions
from vae_nb.report import (
    q1_autoencoder,
    q2_beta_zero,
    q3_beta_ten,
    q4_beta_tuned,
    q5_interpolation,
    q6_probes,
)
from vae_nb.report import tables as tables
from vae_nb.report.display import publish as publish
from vae_nb.report.display import show, show_basis, show_figure, show_table
from vae_nb.report.display import show_recipes as show_recipes
from vae_nb.report.display import show_text as show_text
from vae_nb.report.q6_probes import label_panels as label_panels
from vae_nb.report.q6_probes import noise_series as noise_series
from vae_nb.report.question import Verdict as Verdict
from vae_nb.runs import Run

QUESTIONS = {
    module.QUESTION.name: module.QUESTION
    for module in (
        *(q1_autoencoder, q2_beta_zero, q3_beta_ten, q4_beta_tuned, q5_interpolation),
        q6_probes,
    )
}
CLAIMS = tuple(claim for question in QUESTIONS.values() for claim in question.claims)
Key = tuple[str, float]  # a model and its beta


def answer(
    question: str, figure: LiveFigure, evidence: Evidence, runs: Mapping[str, Run], **facts: Any
) -> None:
    """Publish an answer beside its live figure, and below both the report's claims.

    ``question`` is its name, such as "Q1"; ``evidence`` is that of this build and ``runs`` are its
    runs, by role; ``facts`` are what this question's ``facts`` take besides.
    """
    asked, seeds = QUESTIONS[question], archive.join(evidence, runs)
    betas = {role: run.beta for role, run in runs.items()}
    (noun,) = {data.SPECIFICATIONS[run.recipe.dataset].noun for run in runs.values()}
    show(asked.answer(seeds, betas, noun, **facts), "answer")
    show_figure(figure)
    show_table(tables.claims_table(asked.claims, seeds))
    show_basis(evidence, runs)


def models() -> list[Key]:
    """The report's models: all that its claims are about."""
    return sorted({key for question in QUESTIONS.values() for key in question.models.values()})


def seeds_of(
    runs: Mapping[Key, Run], measured: Mapping[Key, Numbers], real: Numbers
) -> dict[str, list[Evidence]]:
    """By question: the evidence of the report's models in this build and in all other seeds.

    ``runs`` and ``measured``, this build's, are by model and beta; ``real`` is the baseline.
    """
    seeds = {}
    for name, question in QUESTIONS.items():
        evidence = {role: measured[key] for role, key in question.models.items()}
        runs_by_role = {role: runs[key] for role, key in question.models.items()}
        seeds[name] = archive.join(evidence | {"real": real}, runs_by_role)
    return seeds
