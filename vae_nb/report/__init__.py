"""The report: its questions, claims and verdicts, and what chapters say and show of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_nb import archive, data
from vae_nb.archive import Evidence, Numbers
from vae_nb.figures import LiveFigure
from vae_nb.report import captions as captions
from vae_nb.report import (
    display,
    q1_autoencoder,
    q2_beta_zero,
    q3_beta_ten,
    q4_beta_tuned,
    q5_interpolation,
    q6_probes,
    templates,
)
from vae_nb.report import published as published
from vae_nb.report import repairs as repairs
from vae_nb.report import tables as tables
from vae_nb.report.display import collapse_beta as collapse_beta
from vae_nb.report.display import pixel_eigenvalues as pixel_eigenvalues
from vae_nb.report.display import publish as publish
from vae_nb.report.display import show, show_basis, show_figure, show_table
from vae_nb.report.display import show_recipes as show_recipes
from vae_nb.report.display import show_text as show_text
from vae_nb.report.q6_probes import label_panels as label_panels
from vae_nb.report.q6_probes import noise_series as noise_series
from vae_nb.report.question import Seeds
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
RULE = "\n***\n"  # in the template of an answer


def answer(
    question: str, figure: LiveFigure, evidence: Evidence, runs: Mapping[str, Run], **facts: Any
) -> None:
    """Publish an answer beside its live figure, and below both its evidence and the claims.

    Beside the figure stands what its template has above the rule.

    ``question`` is its name, such as "Q1"; ``evidence`` is that of this build and ``runs`` are its
    runs, by role; ``facts`` are what this question's ``facts`` take besides. A model that has
    learned less than the mean image gets neither answer nor verdicts, but a word on what to do.
    """
    asked = QUESTIONS[question]
    if untrained := display.unfinished(evidence, runs):
        show(untrained, "outlier")
        show_figure(figure)
        return
    seeds = archive.join(evidence, runs)
    betas = {role: run.beta for role, run in runs.items()}
    (noun,) = {data.SPECIFICATIONS[run.recipe.dataset].noun for run in runs.values()}
    archived = any(archive.others(run.recipe) for run in runs.values())
    beside, _, below = asked.answer(seeds, betas, noun, archived, **facts).partition(RULE)
    show(beside.strip(), "answer")
    show_figure(figure)
    if below:
        show_text(below)
    show_table(tables.claims_table(asked.claims, columns(question, evidence, runs)))
    show_basis(evidence, runs)


def answer_beside(text: str, figure: LiveFigure) -> None:
    """Publish the answer to a question that the report does not ask, beside its live figure."""
    show(text, "answer")
    show_figure(figure)


def columns(question: str, evidence: Evidence, runs: Mapping[str, Run]) -> dict[str, Seeds]:
    """The evidence of each column of a table of claims, every seed; the first one decides.

    The report's recipe comes first, where this build has the report's models and data set.
    """
    asked = QUESTIONS[question]
    found: dict[str, Seeds] = {}
    own = all(
        (run.recipe.dataset, run.recipe.train_images, run.recipe.latent_dim) == ("MNIST", None, 64)
        and (run.recipe.model, run.recipe.beta) == asked.models[role]
        for role, run in runs.items()
    )
    if own and (archived := archive.replication(asked.models, evidence["real"])):
        found[tables.REPORT] = archived
    return found | {tables.BUILD: archive.join(evidence, runs)}


def models() -> list[Key]:
    """The report's models: all that its claims are about."""
    return sorted({key for question in QUESTIONS.values() for key in question.models.values()})


def reads(model: str, beta: float) -> set[str]:
    """The metrics of a model that the criteria of all questions read."""
    return {
        name
        for question in QUESTIONS.values()
        for role, key in question.models.items()
        if key == (model, beta)
        for name in question.reads(role)
    }


def shows(question: str, role: str) -> set[str]:
    """The metrics of a role that the question's answer and evidence show, to be measured."""
    return QUESTIONS[question].shows(role)


def tests() -> dict[str, list[Any]]:
    """The tests of all claims, by claim: what is read, and from where, relation and threshold."""
    return {
        claim.name: [
            [each.read.what, list(each.read.reads), each.relation, each.threshold]
            for each in claim.criteria
        ]
        for claim in CLAIMS
    }


# Claims whose tests were changed after the archive had been made, and why: the page of all claims
# prints it, and ``vae-nb verify`` fails for a change that is not listed.
CHANGED: dict[str, str] = {}


def show_changes() -> None:
    """Publish which tests were changed after the archive had been made, and why."""
    for name, why in CHANGED.items():
        show(templates.macro("display.md", "changed", claim=name, why=why), "basis")


def columns_of(
    runs: Mapping[Key, Run], measured: Mapping[Key, Numbers], real: Numbers
) -> dict[str, dict[str, Seeds]]:
    """By question, :func:`columns` of the report's models.

    ``runs`` and ``measured``, this build's, are by model and beta; ``real`` is the baseline.
    """
    found = {}
    for name, question in QUESTIONS.items():
        evidence = {role: measured[key] for role, key in question.models.items()}
        runs_by_role = {role: runs[key] for role, key in question.models.items()}
        found[name] = columns(name, evidence | {"real": real}, runs_by_role)
    return found
