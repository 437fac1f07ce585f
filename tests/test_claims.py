"""Verdicts follow the intervals, and every claim can hold and can fail."""

import math

import pytest

from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import Estimate
from vae_nb.report import CLAIMS, QUESTIONS, columns_of, models, tables
from vae_nb.report.question import Check, Claim, Criterion, Reading, Verdict, difference, ratio

ROLES = ("this", "ae", "zero", "low", "high", "real")


def estimates(**values: float) -> dict[str, Estimate]:
    """All metrics at 0.5 or at what is given, with intervals that are next to nothing."""
    given = dict.fromkeys(METRICS, 0.5) | values
    return {name: Estimate(value, value - 1e-9, value + 1e-9) for name, value in given.items()}


def evidence(**roles: dict[str, float]) -> dict[str, dict[str, Estimate]]:
    return {role: estimates(**roles.get(role, {})) for role in ROLES}


def named(name: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.name == name)


def criterion(relation: str, name: str = "x", of: str = "this.mse_mean") -> Criterion:
    return Criterion(relation, name, of, 0.5)


@pytest.mark.parametrize(
    ("low", "high", "relation", "verdict"),
    [
        (0.6, 0.8, "≥", Verdict.HOLDS),
        (0.2, 0.4, "≥", Verdict.FAILS),
        (0.4, 0.6, "≥", Verdict.UNDECIDED),
        (0.6, 0.8, "≤", Verdict.FAILS),
        (0.2, 0.4, "≤", Verdict.HOLDS),
        (0.4, 0.6, "≤", Verdict.UNDECIDED),
        (math.nan, math.nan, "≥", Verdict.UNDECIDED),
    ],
)
def test_an_outcome_says_on_which_side_of_the_threshold_the_interval_lies(
    low, high, relation, verdict
):
    check = Check(criterion(relation), Estimate((low + high) / 2, low, high))
    assert check.outcome is verdict
    assert check.holds is (verdict is Verdict.HOLDS)
    assert check.fails is (verdict is Verdict.FAILS)
    mark = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.UNDECIDED: "?"}[verdict]
    assert str(check).startswith(mark)


def test_a_check_is_written_with_unit_interval_and_threshold():
    share = Criterion("≥", "share", "this.same_label", 0.95)
    check = Check(share, Estimate(0.996, 0.994, 0.997))
    text = (
        "classified as the original: **99.6 %** [99.4, 99.7], "
        "threshold: ≥ 95 (unchanged up to 99.4)"
    )
    assert str(check).replace("\u00a0", " ") == f"✓ {text}"
    assert check.threshold == "95\u00a0%"
    rate = Check(Criterion("≤", "rate", "this.rate", 1.0), Estimate(3e-5, 1e-5, 5e-5))
    text = (
        "✓ rate: **< 0.0001 nats** [< 0.0001, < 0.0001], "
        "threshold: ≤ 1 (unchanged down to < 0.0001)"
    )
    assert str(rate).replace("\u00a0", " ") == text


def test_what_is_compared_is_said():
    assert ratio("low.rate", "this.rate").what == "rate (lower β over this VAE)"
    assert ratio("this.mse_mean", "this.mse_sample").what == "MSE of the mean over MSE of a sample"
    shares = difference("this.probe_100", "ae.probe_100")
    assert (shares.unit, ratio("this.rate", "ae.rate").unit) == ("percentage points", "")
    assert difference("this.rate", "ae.rate").unit == "nats"
    with pytest.raises(KeyError, match="no_such_metric"):
        Criterion("≥", "x", "this.no_such_metric", 0.0).check([{}])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.9, 0.8), Verdict.HOLDS),
        ((0.9, 0.1), Verdict.PART),
        ((0.1, 0.2), Verdict.FAILS),
        ((0.9, 0.5), Verdict.UNDECIDED),
        ((0.1, 0.5), Verdict.UNDECIDED),
        ((0.9, 0.1, 0.5), Verdict.PART),
    ],
)
def test_a_claim_joins_its_checks(values, verdict):
    criteria = [
        Criterion("≥", f"x{i}", Reading(lambda e, v=v: Estimate(v, v - 0.05, v + 0.05), "x"), 0.5)
        for i, v in enumerate(values)
    ]
    assert Claim("C", "says", Verdict.HOLDS, criteria).verdict([{}]) is verdict


# --- the claims of the report ---

CASES = {  # by claim: numbers by role with which it holds, and with which it fails
    "C1.1": (
        {"ae": {"r_squared": 0.95, "same_label": 0.99}},
        {"ae": {"r_squared": 0.8, "same_label": 0.9}},
    ),
    "C1.2": (
        {"ae": {"recognised_prior": 0.02, "coverage_prior": 0.01}},
        {"ae": {"recognised_prior": 0.4, "coverage_prior": 0.3}},
    ),
    "C1.3": (
        {"ae": {"recognised_mixture": 0.4, "fid_mixture": 40.0, "fid_prior": 500.0}},
        {"ae": {"recognised_mixture": 0.1, "fid_mixture": 400.0, "fid_prior": 500.0}},
    ),
    "C2.1": (
        {
            "this": {"mse_mean": 0.0034, "sharpness_reconstructions": 0.8, "same_label": 0.995},
            "ae": {"mse_mean": 0.0033, "sharpness_reconstructions": 0.81, "same_label": 0.996},
        },
        {
            "this": {"mse_mean": 0.005, "sharpness_reconstructions": 0.6, "same_label": 0.9},
            "ae": {"mse_mean": 0.0033, "sharpness_reconstructions": 0.81, "same_label": 0.996},
        },
    ),
    "C2.2": (
        {"this": {"recognised_prior": 0.02, "coverage_prior": 0.01}},
        {"this": {"recognised_prior": 0.4, "coverage_prior": 0.3}},
    ),
    "C2.3": (
        {"this": {"rate_at_half": 700.0, "rate_at_end": 900.0, "rate_slope": 0.05}},
        {"this": {"rate_at_half": 700.0, "rate_at_end": 710.0, "rate_slope": -0.02}},
    ),
    "C3.1": (
        {"this": {"sharpness_sampled": 0.1, "sharpness_prior": 0.1}},
        {"this": {"sharpness_sampled": 0.9, "sharpness_prior": 0.9}},
    ),
    "C3.2": ({"this": {"rate": 0.01}}, {"this": {"rate": 60.0}}),
    "C3.3": (
        {
            "this": {"mse_mean": 0.07, "fid_mixture": 0.49, "active_units": 5.0},
            "ae": {"mse_mean": 0.003},
        },
        {
            "this": {"mse_mean": 0.003, "fid_mixture": 0.1, "active_units": 0.0},
            "ae": {"mse_mean": 0.003},
        },
    ),
    "C4.1": (
        {"this": {"same_label": 0.99, "sharpness_reconstructions": 0.8}},
        {"this": {"same_label": 0.9, "sharpness_reconstructions": 0.4}},
    ),
    "C4.2": (
        {"this": {"recognised_prior": 0.45, "sharpness_prior": 0.8, "fid_mixture": 0.45}},
        {"this": {"recognised_prior": 0.3, "sharpness_prior": 0.4, "fid_mixture": 0.1}},
    ),
    "C4.3": (
        {
            "this": {"sharpness_reconstructions": 0.8, "sharpness_prior": 0.8, "fid_prior": 50.0},
            "low": {"sharpness_reconstructions": 0.6, "sharpness_prior": 0.6, "fid_prior": 90.0},
            "high": {"sharpness_reconstructions": 0.6, "sharpness_prior": 0.6, "fid_prior": 90.0},
        },
        {
            "this": {"sharpness_reconstructions": 0.4, "sharpness_prior": 0.4, "fid_prior": 90.0},
            "low": {"sharpness_reconstructions": 0.6, "sharpness_prior": 0.6, "fid_prior": 50.0},
            "high": {"sharpness_reconstructions": 0.6, "sharpness_prior": 0.6, "fid_prior": 50.0},
        },
    ),
    "C4.4": (
        {
            "this": {"rate_at_half": 9.0, "rate_at_end": 9.1, "rate_slope": 0.001},
            "zero": {"rate_at_half": 700.0, "rate_at_end": 900.0, "rate_slope": 0.05},
        },
        {
            "this": {"rate_at_half": 9.0, "rate_at_end": 12.0, "rate_slope": 0.04},
            "zero": {"rate_at_half": 700.0, "rate_at_end": 710.0, "rate_slope": 0.002},
        },
    ),
    "C5.1": (
        {
            "ae": {
                "extra_strokes_0.3": 0.5,
                "extra_strokes_0.5": 0.7,
                "extra_strokes_0.7": 0.9,
                "extra_strokes_0.5_matched": 0.3,
                "midpoint_sharpness": 0.3,
            },
            "this": {"extra_strokes_0.5_matched": 0.1, "midpoint_sharpness": 0.5},
        },
        {
            "ae": {
                "extra_strokes_0.3": 0.0,
                "extra_strokes_0.5": 0.01,
                "extra_strokes_0.7": 0.02,
                "extra_strokes_0.5_matched": 0.1,
                "midpoint_sharpness": 0.6,
            },
            "this": {"extra_strokes_0.5_matched": 0.3, "midpoint_sharpness": 0.5},
        },
    ),
    "C5.2": (
        {
            "this": {
                "extra_strokes_0.3": 0.0,
                "extra_strokes_0.5": 0.01,
                "extra_strokes_0.7": 0.02,
                "uniformity": 0.6,
                "midpoint_fid": 90.0,
            },
            "ae": {"uniformity": 0.5, "midpoint_fid": 150.0},
        },
        {
            "this": {
                "extra_strokes_0.3": 0.5,
                "extra_strokes_0.5": 0.7,
                "extra_strokes_0.7": 0.9,
                "uniformity": 0.4,
                "midpoint_fid": 190.0,
            },
            "ae": {"uniformity": 0.5, "midpoint_fid": 150.0},
        },
    ),
    "C5.3": (
        {
            "this": {
                "probe_100": 0.8,
                "probe_all": 0.95,
                "knn_1000": 0.93,
                "knn_all": 0.98,
                "probe_1000": 0.9,
                "probe_noise_1": 0.8,
            },
            "ae": {
                "probe_100": 0.7,
                "probe_all": 0.92,
                "knn_1000": 0.91,
                "knn_all": 0.97,
                "probe_1000": 0.88,
                "probe_noise_1": 0.6,
            },
        },
        {
            "this": {
                "probe_100": 0.6,
                "probe_all": 0.9,
                "knn_1000": 0.9,
                "knn_all": 0.95,
                "probe_1000": 0.9,
                "probe_noise_1": 0.5,
            },
            "ae": {
                "probe_100": 0.7,
                "probe_all": 0.92,
                "knn_1000": 0.91,
                "knn_all": 0.97,
                "probe_1000": 0.88,
                "probe_noise_1": 0.6,
            },
        },
    ),
    "C6.1": (
        {"low": {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.3}},
        {"low": {"sharpness_reconstructions": 0.8, "sharpness_prior": 0.8}},
    ),
    "C6.2": (
        {"high": {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.3}},
        {"high": {"sharpness_reconstructions": 0.8, "sharpness_prior": 0.8}},
    ),
}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_can_hold_and_can_fail(claim):
    holds, fails = (evidence(**roles) for roles in CASES[claim.name])
    assert {check.outcome for check in claim.checks([holds])} == {Verdict.HOLDS}
    assert {check.outcome for check in claim.checks([fails])} == {Verdict.FAILS}
    assert claim.verdict([holds]) is Verdict.HOLDS
    assert claim.verdict([fails]) is Verdict.FAILS


def test_every_claim_of_the_report_is_there_once():
    assert sorted(claim.name for claim in CLAIMS) == list(CASES)
    assert len(CASES) == 18


def test_names_of_criteria_are_unique_in_a_question():
    """Or stand for the same criterion, as where two claims share one."""
    for question in QUESTIONS.values():
        criteria = [each for claim in question.claims for each in claim.criteria]
        for each in (*criteria, *question.further):
            assert question.criteria[each.name] is each


def test_a_tie_with_the_wrong_sign_is_no_best_beta():
    """C4.3: sharper at lower beta, blurrier at higher beta: in part."""
    roles = {
        "low": {"sharpness_reconstructions": 0.7, "sharpness_prior": 0.7},
        "high": {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.3},
    }
    assert named("C4.3").verdict([evidence(**roles)]) is Verdict.PART


# --- several seeds ---


def test_models_are_compared_within_a_seed():
    """A seed that is bad for both says nothing about which is better."""
    seeds = [
        evidence(this={"mse_mean": 1.05 * level}, ae={"mse_mean": level})
        for level in (0.5, 0.9, 1.7)
    ]
    check = named("C2.1").checks(seeds)[0]
    assert check.estimate.interval == pytest.approx((1.05, 1.05, 1.05), abs=1e-4)
    assert check.holds
    uneven = [evidence(this={"mse_mean": ratio}, ae={"mse_mean": 1.0}) for ratio in (0.8, 1.0, 1.3)]
    check = named("C2.1").checks(uneven)[0]
    assert check.outcome is named("C2.1").verdict(uneven) is Verdict.UNDECIDED


def test_a_seed_counts_for_a_check_if_it_has_the_numbers_that_are_read():
    """A new metric, which the archive lacks, leaves the other checks as they are."""
    seeds = [evidence(this={"sharpness_prior": v, "sharpness_sampled": v}) for v in (0.1, 0.5, 0.6)]
    both = named("C3.1").checks(seeds)
    for seed in seeds[1:]:
        del seed["this"]["sharpness_prior"]
    alone, pooled = named("C3.1").checks(seeds)[::-1]
    assert pooled == both[0]
    assert alone.estimate == seeds[0]["this"]["sharpness_prior"]
    del seeds[0]["this"]["sharpness_prior"]
    with pytest.raises(KeyError, match="sharpness_prior"):
        named("C3.1").checks(seeds)


def test_strokes_are_compared_at_one_error_where_they_can_be():
    sharp, soft = (evidence(**CASES["C5.1"][0]) for _ in range(2))
    del soft["this"]["extra_strokes_0.5_matched"]  # a model that is softer than the error
    names = [[c.criterion.name for c in named("C5.1").checks([e])] for e in (sharp, soft)]
    assert set(names[0]) - set(names[1]) == {"matched"}
    (matched,) = (c for c in named("C5.1").checks([sharp, soft]) if c.criterion.name == "matched")
    assert matched.estimate.value == pytest.approx(0.2)


def test_each_column_has_its_own_trainings(monkeypatch):
    """The report's recipe first, where this build has the report's models."""
    from types import SimpleNamespace

    from vae_nb import archive, recipe

    monkeypatch.setattr(archive, "join", lambda evidence, runs: [evidence, runs])
    monkeypatch.setattr(archive, "replication", lambda models, real: [models, real])
    numbers = {key: estimates(rate=place) for place, key in enumerate(models())}
    runs = {key: SimpleNamespace(recipe=recipe.recipe(*key)) for key in models()}
    columns = columns_of(runs, numbers, real=estimates())
    assert columns.keys() == QUESTIONS.keys()
    assert list(columns["Q4"]) == [tables.REPORT, tables.BUILD]
    live, by_role = columns["Q4"][tables.BUILD]
    assert by_role["high"].recipe.beta == 0.2
    assert live["high"] is numbers["vae", 0.2] and "real" in live
    assert columns["Q4"][tables.REPORT] == [dict(QUESTIONS["Q4"].models), estimates()]
    assert len(models()) == 6
    other = runs | {("vae", 0.1): SimpleNamespace(recipe=recipe.recipe("vae", 0.15))}
    assert list(columns_of(other, numbers, real=estimates())["Q4"]) == [tables.BUILD]


def test_what_a_student_with_one_training_would_have_concluded():
    seeds = [evidence(ae={"r_squared": v, "same_label": v}) for v in (0.97, 0.98, 0.5)]
    claim = named("C1.1")
    assert claim.alone(seeds) == [Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS]
    del seeds[1]["ae"]["r_squared"]
    assert claim.alone(seeds) == [Verdict.HOLDS, Verdict.FAILS]
    said = tables.dots(Verdict.HOLDS, claim.alone(seeds))
    assert said.replace("\u00a0", " ") == "●○ 1 of 2 alone would say otherwise"
    assert "each says the same" in tables.dots(Verdict.FAILS, [Verdict.FAILS] * 2)


@pytest.mark.parametrize(
    ("value", "relation", "said"),
    [
        (0.8, "≥", "unchanged up to 79"),
        (0.3, "≥", "unchanged down to 31"),
        (0.3, "≤", "unchanged down to 31"),
        (0.8, "≤", "unchanged up to 79"),
        (0.5, "≥", ""),
    ],
)
def test_for_which_thresholds_a_verdict_would_be_the_same(value, relation, said):
    """Moved to the end that is named, the verdict holds; a little further, it does not."""
    estimate = Estimate(value, value - 0.01, value + 0.01)
    check = Check(Criterion(relation, "x", "this.same_label", 0.5), estimate)
    assert check.robust == said
    if said:
        end = float(said.split()[-1]) / 100
        outward = 1e-6 if "up" in said else -1e-6
        at, beyond = (
            Check(Criterion(relation, "x", "this.same_label", threshold), estimate).outcome
            for threshold in (end - outward, end + outward)
        )
        assert at is check.outcome and beyond is Verdict.UNDECIDED


def test_a_share_of_what_real_images_have_is_compared_by_that_set():
    """Where the classifier takes only 80 % of real images for a class, 80 % is all of it."""
    found = evidence(real={"recognised_prior": 0.8}, this={"recognised_prior": 0.72})
    (check,) = (c for c in named("C4.2").checks([found]) if c.criterion.name == "recognised")
    assert check.estimate.value == pytest.approx(0.9) and check.holds
    assert "relative to real images" in str(check)
