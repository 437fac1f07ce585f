"""`vae-nb verify` fails on a contradiction and on an outlier, and on nothing else."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vae_nb import archive, report
from vae_nb.__main__ import main
from vae_nb.commands import verify
from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import Estimate
from vae_nb.report import Verdict, tables
from vae_nb.runs import Run

REAL = {name: Estimate(0.5, 0.4, 0.6) for name in METRICS}


@pytest.fixture
def models(monkeypatch):
    """The archived runs of seed 0, as if they were this build's: ``(runs, numbers, real)``.

    And three seeds of the same stand for those by the report's recipe.
    """
    by_seed = {
        key: {row.recipe.seed: row for row in archive.load().of(*key)} for key in report.models()
    }
    rows = {key: of_key[0] for key, of_key in by_seed.items()}

    def replication(models, real):
        return [
            {"real": real, **{role: by_seed[key][seed].measured for role, key in models.items()}}
            for seed in range(3)
        ]

    monkeypatch.setattr(archive, "replication", replication)
    runs = {key: Run(row.recipe, None, None, {}, "") for key, row in rows.items()}
    for run in runs.values():
        run.__dict__["beta"] = run.recipe.beta
    return runs, {key: dict(row.measured) for key, row in rows.items()}, REAL


@pytest.fixture
def expect(models, monkeypatch):
    """``expect(name, verdict)``: all claims written for what is found, but one for ``verdict``."""
    columns = report.columns_of(*models)
    found = {
        claim.name: claim.verdict(each[tables.REPORT])
        for claim, each in verify.columns_by_claim(columns)
    }
    monkeypatch.setattr(verify, "measured_models", lambda: models)

    def claims(name: str = "", verdict: Verdict | None = None) -> None:
        expected = found | ({name: verdict} if verdict else {})
        changed = [
            dataclasses.replace(claim, expected=expected[claim.name]) for claim in report.CLAIMS
        ]
        monkeypatch.setattr(verify, "CLAIMS", changed)

    claims.found = found
    return claims


def test_verdicts_and_checks_are_printed(expect, capsys):
    expect()
    assert main(["verify"]) == 0
    out, err = capsys.readouterr()
    for name, verdict in expect.found.items():
        of_column = f"{name}, {re.escape(tables.REPORT)}, \\d+ seeds: {verdict.value}\\n"
        assert re.search(of_column, out) and f"{name}, {tables.BUILD}, " in out
    assert out.count("threshold") >= len(expect.found) and err == ""


def test_a_contradiction_fails(expect, capsys):
    expect("C1.1", Verdict.FAILS)
    assert expect.found["C1.1"] is Verdict.HOLDS
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == "C1.1: holds, written for: does not hold\n"


def test_an_undecided_verdict_fails_where_the_page_was_written_for_another(
    expect, capsys, monkeypatch
):
    expect("C1.1", Verdict.HOLDS)
    whole = archive.replication

    def unsure(models, real):
        (first, *_) = whole(models, real)
        value = first["ae"]["r_squared"].value if "ae" in first else 0.0
        unsure_of = {"r_squared": Estimate(value, 0.0, 1.0)}
        return [first | {"ae": dict(first["ae"]) | unsure_of}] if "ae" in first else [first]

    monkeypatch.setattr(archive, "replication", unsure)
    assert main(["verify"]) == 1
    assert "C1.1: undecided, written for: holds\n" in capsys.readouterr().err


def test_the_verdict_is_that_of_the_report_s_recipe(models):
    """This build may say something else: the page says so, and nothing fails."""
    numbers = models[1]["ae", 0.0]
    for name in ("r_squared", "same_label"):
        numbers[name] = Estimate(0.5, 0.4, 0.6)
    columns = report.columns_of(*models)
    found = {claim.name: verdict for claim, verdict in verify.differences(columns)}
    assert "C1.1" not in found
    only = {name: {tables.BUILD: each[tables.BUILD][:1]} for name, each in columns.items()}
    assert {c.name: v for c, v in verify.differences(only)}["C1.1"] is Verdict.FAILS


@pytest.mark.parametrize(
    "change",
    [
        (0.8, 0.4),
        ("≥", "≤"),
        (["this.recognised_prior", "real.recognised_prior"], ["this.recognised_mixture"]),
    ],
    ids=["threshold", "relation", "what is read"],
)
def test_a_test_that_was_changed_after_the_archive_was_made_fails(
    change, expect, monkeypatch, capsys
):
    expect()
    tests = report.tests()
    assert change[0] in tests["C4.2"][0]
    tests["C4.2"][0] = [change[1] if each == change[0] else each for each in tests["C4.2"][0]]
    monkeypatch.setattr(report, "tests", lambda: tests)
    assert main(["verify"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("C4.2: its tests were changed after") and "CHANGED" in line
    monkeypatch.setattr(report, "CHANGED", {"C4.2": "an example"})
    assert main(["verify"]) == 0


def test_an_outlier_is_named_and_fails(expect, models, capsys, monkeypatch):
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    value, low, high = (3 * x for x in models[1]["vae", 0.1]["mse_sample"].interval)
    models[1]["vae", 0.1]["mse_sample"] = Estimate(value, low, high)
    assert len(verify.outliers(*models[:2])) == 1
    expect()
    assert main(["verify"]) == 1
    error = capsys.readouterr().err
    assert "VAE, β = 0.1" in error and "MSE of a sample is" in error and "outside of" in error


@pytest.mark.parametrize("stale", [0, 5])
def test_a_row_of_other_code_fails(stale, expect, monkeypatch, capsys):
    expect()
    monkeypatch.setattr(archive, "stale", lambda rows: list(rows)[:stale])
    assert main(["verify"]) == int(bool(stale))
    assert capsys.readouterr().err.count("made by other code\n") == stale


def test_probes_are_measured_for_their_question_only(monkeypatch):
    asked = {}
    run = Run(None, None, None, {}, "")
    run.__dict__["dataset"] = None
    monkeypatch.setattr(verify, "recipe", lambda *key: key)
    monkeypatch.setattr(verify.runs, "fit", lambda key: dataclasses.replace(run, recipe=key))
    monkeypatch.setattr(Run, "dataset", None)
    monkeypatch.setattr(verify.metrics, "of_real", lambda dataset: {})
    monkeypatch.setattr(
        verify.metrics, "of", lambda run, names: asked.update({run.recipe: names}) or {}
    )
    verify.measured_models()
    assert asked.keys() == set(report.models())
    probed = {key for key, names in asked.items() if "probe_100" in names}
    assert probed == set(report.QUESTIONS["Q6"].models.values())
    assert all(set(archive.COMPARED) <= names for names in asked.values())
