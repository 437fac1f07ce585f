"""The archive is whole, and a run of this build is joined with it and told from it."""

import dataclasses
import math
import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vae_nb import archive, metrics, report, runs
from vae_nb.archive import Row
from vae_nb.commands import sweep
from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import Estimate
from vae_nb.recipe import recipe
from vae_nb.runs import Run


@pytest.fixture
def kept() -> archive.Archive:
    return archive.load()


@pytest.fixture
def live(kept):
    """``live(seed, beta) -> (run, numbers)``: an archived run, as if it were this build's."""

    def take(seed: int = 0, beta: float = 0.1) -> tuple[Run, dict[str, Estimate]]:
        (row,) = (each for each in kept.of("vae", beta) if each.recipe.seed == seed)
        return Run(row.recipe, None, None, {}, ""), dict(row.measured)

    return take


def longer(run: Run) -> Run:
    return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, epochs=7))


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


# --- what is in it ---


def test_it_has_what_the_sweep_plans_at_the_defaults(kept):
    """A changed recipe wants a new sweep."""
    every, planned = archive.read(), sweep.plan()
    own = {row.recipe for row in every.rows}
    for row in every.rows:
        assert row.recipe in planned
        assert row.made["seconds"] > 1 and row.pictures.keys() == {"reconstructions", "samples"}
        assert row.code["weights"] and isinstance(row.code["measures"], dict)
    for each in sweep.grid():
        assert each in own


def test_its_controls_are_those_of_today():
    every = archive.read()
    assert list(every.controls) == list(metrics.CONTROLS)
    for measured in every.controls.values():
        assert list(measured) == list(metrics.JUDGED)
    assert every.claims["tests"].keys() == {claim.name for claim in report.CLAIMS}


def test_it_has_the_metrics_of_today(kept):
    """Each row has all that the sweep measures of it; strokes at one error where it is sharp."""
    soft = {"extra_strokes_0.5_matched"}
    for row in archive.read().rows:
        asked = sweep.measured_of(row.recipe)
        expected = {name for name in asked if METRICS[name].applies(row.recipe)}
        assert expected - soft <= row.measured.keys() <= expected


def test_it_holds_measurements(kept):
    """Nothing that cannot be, and no seed that is another one in disguise."""
    for row in kept.rows:
        for name, estimate in row.measured.items():
            value, low, high = estimate.interval
            assert low <= value <= high or math.isnan(value)
            least, most = METRICS[name].bounds
            assert math.isnan(value) or least <= value <= most, name
        assert row.measured["active_units"].value in range(65)
    for beta in kept.betas:
        rows = kept.of("vae", beta)
        assert len({row.pictures["samples"] for row in rows}) == len(rows)
        assert len({row.made["finished"] for row in rows}) == len(rows)
        first, second = (
            np.array([each.value for each in row.measured.values() if each.value])
            for row in rows[:2]
        )
        if beta <= 0.2:
            assert np.std(first[:20] / second[:20]) > 1e-3


def test_an_edited_archive_is_refused(tmp_path):
    edited = tmp_path / "archive.json"
    text = archive.ARCHIVE.read_text()
    edited.write_text(text.replace('"fid_prior": [', '"fid_prior": [1', 1))
    with pytest.raises(ValueError, match="damaged.*vae-nb sweep"):
        archive.read(edited)
    archive.read.cache_clear()
    edited.write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        archive.read(edited)


def test_it_is_in_the_package():
    assert archive.ARCHIVE.parent == Path(archive.__file__).parent
    assert archive.ARCHIVE.stat().st_size < 4 * 2**20


# --- what it says ---


def test_numbers_over_seeds_are_those_of_the_rows(kept):
    values = [row.measured["fid_prior"].value for row in kept.of("vae", 0.1)]
    over = kept.pooled("vae", 0.1, "fid_prior")
    assert len(values) >= 3 and over.value == pytest.approx(np.mean(values))
    assert over.high - over.value >= 0.99 * stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    curve = kept.against_beta("fid_prior")
    assert list(curve) == kept.betas == sorted(kept.betas)
    assert curve[kept.best("fid_prior")].value == min(each.value for each in curve.values())
    likely = kept.against_beta("log_likelihood")
    assert likely[kept.best("log_likelihood")].value == max(e.value for e in likely.values())
    low, high = kept.crossing("rate", 1.0)
    rate = kept.against_beta("rate", at_least=low)
    assert min(rate) == low and rate[low].value >= 1.0 > rate[high].value
    assert kept.learned().low < 0.00075 < kept.learned().high


def test_distortion_rises_and_rate_falls_with_beta(kept):
    """What no trained model may contradict by much, if it is near its optimum."""
    betas = [beta for beta in kept.betas if beta > 0]
    rates = [kept.pooled("vae", beta, "rate").value for beta in betas]
    errors = [kept.pooled("vae", beta, "mse_sample").value for beta in betas]
    assert rates == sorted(rates, reverse=True)
    assert all(high > 0.98 * low for low, high in pairwise(errors))


def rows_of(values: dict[float, list[float]]) -> archive.Archive:
    """An archive of VAEs with one metric, by beta and seed."""
    rows = [
        Row(recipe("vae", beta, seed=seed), beta, {"fid_prior": exactly(value)}, {}, {}, {})
        for beta, by_seed in values.items()
        for seed, value in enumerate(by_seed)
    ]
    return archive.Archive(rows, {}, "")


def test_betas_are_compared_within_a_seed():
    """Seeds that are good or bad for all betas do not hide which beta is better."""
    paired = rows_of({0.1: [1.0, 2.0, 3.0], 0.2: [1.1, 2.1, 3.1], 0.5: [1.0, 2.5, 2.8]})
    assert paired.best("fid_prior") == 0.1
    assert paired.rivals("fid_prior") == [0.5]
    step = paired.step("fid_prior", 0.1, 0.2)
    assert step.interval == pytest.approx((0.1, 0.1, 0.1))


def test_a_falling_number_passes_a_level_between_neighbours():
    falling = rows_of({0.1: [3.0, 3.0], 0.2: [2.0, 2.2], 0.5: [0.9, 1.0], 1.0: [0.1, 0.2]})
    assert falling.crossing("fid_prior", 2.1) == (0.2, 0.5)
    assert falling.crossing("fid_prior", 2.2) == (0.1, 0.2)


def test_a_multi_rate_vae_is_compared_with_the_median_of_separate_trainings(kept):
    expected = statistics.median(
        row.measured["mse_sample"].value + 0.1 * row.measured["rate"].value / 64
        for row in kept.of("vae", 0.1)
    )
    point = {"mse_sample": exactly(0.03), "rate": exactly(6.4)}
    ratios = kept.over_separate({0.1: point, 0.12: point}, recipe("multi_rate"))
    assert ratios == {0.1: pytest.approx((0.03 + 0.1 * 6.4 / 64) / expected)}
    for change in ({"latent_dim": 2}, {"dataset": "KMNIST"}):
        assert kept.over_separate({0.1: point}, recipe("multi_rate", **change)) == {}


# --- a run of this build ---


def test_a_live_run_stands_for_its_own_seed(kept, live):
    run, measured = live(seed=1)
    evidence = {"this": measured | {"fid_prior": exactly(0.0)}, "real": {}}
    first, *others = archive.join(evidence, {"this": run})
    found = [each["this"]["fid_prior"] for each in others]
    rows = {row.recipe.seed: row.measured["fid_prior"] for row in kept.of("vae", 0.1)}
    assert first is evidence and found == [rows[seed] for seed in sorted(rows) if seed != 1]


def test_a_seed_counts_if_it_is_there_for_every_role(kept, live):
    run, measured = live()
    evidence = {"this": measured, "ae": measured}
    assert len(archive.join(evidence, {"this": run, "ae": run})) == len(kept.of("vae", 0.1))
    assert archive.join(evidence, {"this": longer(run), "ae": run}) == [evidence]
    assert archive.join(evidence, {}) == [evidence]


def test_a_new_metric_leaves_the_other_seeds(live):
    run, measured = live()
    more = measured | {"new": exactly(1.0)}
    seeds = archive.join({"this": more}, {"this": run})
    assert ["new" in seed["this"] for seed in seeds[:3]] == [True, False, False]


def test_an_outlier_is_found(live, monkeypatch):
    run, measured = live()
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    assert archive.outliers(run, measured) == {}
    far = exactly(3 * measured["fid_prior"].value)
    found = archive.outliers(run, measured | {"fid_prior": far})
    assert list(found) == ["fid_prior"] and found["fid_prior"][1].high < far.value
    assert archive.outliers(longer(run), measured | {"fid_prior": far}) == {}


def test_rows_of_other_code_predict_nothing(live, monkeypatch):
    run, measured = live()
    monkeypatch.setattr(archive, "stale", list)
    far = exactly(3 * measured["fid_prior"].value)
    assert archive.outliers(run, measured | {"fid_prior": far}) == {}


def test_of_a_collapsed_model_only_error_and_rate_are_compared(live, monkeypatch):
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    run, measured = live(beta=10.0)
    flipped = measured | {"recognised_prior": exactly(0.5)}
    assert archive.outliers(run, flipped) == {}
    assert list(archive.outliers(run, flipped | {"rate": exactly(3.0)})) == ["rate"]


def test_rows_of_other_code_are_stale(kept, monkeypatch):
    monkeypatch.setattr(runs, "code", lambda recipe: "weights")
    monkeypatch.setattr(metrics, "code", lambda recipe: {"paths": "1"})
    row = kept.rows[0]
    codes = [
        {"weights": "weights", "measures": {"paths": "1"}},
        {"weights": "others", "measures": {"paths": "1"}},
        {"weights": "weights", "measures": {"paths": "2"}},
        {"weights": "weights", "measures": {}},
    ]
    rows = [dataclasses.replace(row, code=code) for code in codes]
    assert archive.stale(rows) == rows[1:]
    assert archive.code(row.recipe) == codes[0]


# --- the report's recipe ---


def test_the_replication_has_the_seeds_that_every_model_has(monkeypatch):
    def row(beta: float, seed: int) -> Row:
        measured = {"rate": exactly(10 * beta + seed)}
        return Row(recipe("vae", beta, "course", seed=seed), beta, measured, {}, {}, {})

    rows = [row(0.1, seed) for seed in (0, 2, 1, 3)] + [row(0.2, seed) for seed in (2, 0, 7, 3)]
    rows.append(dataclasses.replace(rows[0], recipe=recipe("vae", 0.2, seed=1)))  # the defaults
    monkeypatch.setattr(archive, "read", lambda: archive.Archive(rows, {}, ""))
    found = archive.replication({"this": ("vae", 0.1), "high": ("vae", 0.2)}, {"of": "real"})
    rates = [[each[role]["rate"].value for role in ("this", "high")] for each in found]
    assert rates == [[1.0, 2.0], [3.0, 4.0], [4.0, 5.0]]
    assert all(each["real"] == {"of": "real"} for each in found)
    assert archive.load().rows == rows[-1:]
    del rows[0]  # two seeds are left, whose interval would reach everywhere
    assert archive.replication({"this": ("vae", 0.1), "high": ("vae", 0.2)}, {}) == []


def test_what_moves_between_machines_is_of_metrics_and_within_reason():
    moved = archive.reproduced()
    assert moved.keys() <= METRICS.keys()
    for name in ("mse_sample", "rate"):  # what no classifier decides: the processor hardly counts
        assert abs(moved[name]["another machine"]) < 1e-5
        assert 0 < abs(moved[name]["two threads"]) < 0.05
    assert abs(moved["fid_prior"]["another machine"]) > moved["fid_prior"]["interval"]
