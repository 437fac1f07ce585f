"""`vae-nb verify` fails on a contradiction and on an outlier, and on nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from vae_nb import archive, report
from vae_nb.__main__ import main
from vae_nb.commands import verify
from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import Estimate
from vae_nb.report import Verdict
from vae_nb.runs import Run

REAL = {name: Estimate(0.5, 0.4, 0.6) for name in METRICS}


@pytest.fixture
def models():
    """The archived runs of seed 0, as if they were this build's: ``(runs, numbers, real)``."""
    rows = {
        key: next(row for row in archive.load().of(*key) if row.recipe.seed == 0)
        for key in report.models()
    }
    runs = {key: Run(row.recipe, None, None, {}, "") for key, row in rows.items()}
    for run in runs.values():
        run.__dict__["beta"] = run.recipe.beta
    return runs, {key: dict(row.measured) for key, row in rows.items()}, REAL


@pytest.fixture
def expect(models, monkeypatch):
    """``expect(name, verdict)``: all claims written for what is found, but one for ``verdict``."""
    seeds = report.seeds_of(*models)
    found = {claim.name: claim.verdict(each) for claim, each in verify.seeds_by_claim(seeds)}
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
        assert f"{name}: {verdict.value}\n" in out
    assert out.count("threshold") >= len(expect.found) and err == ""


def test_a_contradiction_fails(expect, capsys):
    expect("C1.1", Verdict.FAILS)
    assert expect.found["C1.1"] is Verdict.HOLDS
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == "C1.1: holds, written for: does not hold\n"


def test_an_undecided_verdict_is_reported_and_fails_nothing(expect, models, capsys):
    numbers = models[1]["ae", 0.0]
    value = numbers["r_squared"].value
    numbers["r_squared"] = Estimate(value, 0.0, 1.0)
    expect("C1.1", Verdict.HOLDS)
    assert main(["verify"]) == 0
    assert capsys.readouterr().err == "C1.1: undecided, written for: holds\n"


def test_an_outlier_is_named_and_fails(expect, models, capsys, monkeypatch):
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    low, value, high = (3 * x for x in models[1]["vae", 0.1]["mse_sample"])
    models[1]["vae", 0.1]["mse_sample"] = Estimate(low, value, high)
    assert len(verify.outliers(*models[:2])) == 1
    expect()
    assert main(["verify"]) == 1
    error = capsys.readouterr().err
    assert "VAE, β = 0.1" in error and "MSE of a sample is" in error and "outside of" in error


@pytest.mark.parametrize("stale", [0, 5])
def test_rows_of_other_code_are_counted(stale, expect, monkeypatch, capsys):
    expect()
    monkeypatch.setattr(archive, "stale", lambda rows: list(rows)[:stale])
    assert main(["verify"]) == 0
    assert (f"{stale} of the" in capsys.readouterr().out) is bool(stale)


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
    every = {key for key, names in asked.items() if names is None}
    assert every == set(report.QUESTIONS["Q6"].models.values())
    assert not [name for names in asked.values() for name in names or () if "probe" in name]
