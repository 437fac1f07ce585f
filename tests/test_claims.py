"""Verdicts follow the intervals, and no sentence of an answer contradicts its numbers."""

import itertools
import math
import re

import pytest

from vae_nb import answers, claims, parameters
from vae_nb.claims import CLAIMS, Check, Verdict
from vae_nb.evaluation.interval import Measured


@pytest.mark.parametrize(
    ("low", "high", "relation", "verdict"),
    [
        (0.6, 0.8, "at least", Verdict.HOLDS),
        (0.2, 0.4, "at least", Verdict.FAILS),
        (0.4, 0.6, "at least", Verdict.UNDECIDED),
        (0.6, 0.8, "at most", Verdict.FAILS),
        (0.2, 0.4, "at most", Verdict.HOLDS),
        (0.4, 0.6, "at most", Verdict.UNDECIDED),
    ],
)
def test_a_check_asks_where_its_interval_lies(low, high, relation, verdict):
    assert Check("x", Measured((low + high) / 2, low, high), relation, 0.5).verdict() is verdict


def test_no_number_is_undecided():
    nan = Measured(math.nan, math.nan, math.nan)
    assert Check("x", nan, "at least", 0.5).verdict() is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.9, 0.8), Verdict.HOLDS),
        ((0.9, 0.1), Verdict.PART),
        ((0.1, 0.2), Verdict.FAILS),
        ((0.9, 0.5), Verdict.UNDECIDED),
        ((0.1, 0.5), Verdict.FAILS),
    ],
)
def test_a_claim_joins_its_checks(values, verdict):
    def checks(_):
        return [Check("x", Measured(v, v - 0.05, v + 0.05), "at least", 0.5) for v in values]

    assert claims.Claim("C", "Q", "says", checks).verdict({}) is verdict


def test_ratio_and_difference_of_exact_and_uncertain_numbers():
    exact = claims.ratio(Measured(6, 6, 6), Measured(3, 3, 3))
    assert exact == Measured(2, 2, 2)
    found = claims.ratio(Measured(10, 9, 11), Measured(5, 5, 5))
    assert found == pytest.approx((2, 1.8, 2.2))
    both = claims.ratio(Measured(10, 9, 11), Measured(5, 4.5, 5.5))
    assert both.high - 2 == pytest.approx(2 * math.hypot(0.1, 0.1))
    assert math.isnan(claims.ratio(Measured(1, 1, 1), Measured(0, 0, 0)).value)
    assert claims.difference(Measured(3, 0, 6), Measured(1, -3, 5)) == pytest.approx((2, -3, 7))


def test_numbers_read_well():
    found = [
        claims.number(x) for x in (0.0, 0.00504, 0.00051, 0.5, 12.345, 469.8, 12345.6, 3e-6, -0.22)
    ]
    assert found == ["0", "0.00504", "0.0005", "0.5", "12.3", "470", "12,300", "< 0.0001", "-0.22"]


NAMES = [
    *("mse_mean", "mse_sample", "r_squared", "ssim", "same_label", "pixel_variance"),
    *("sharpness_reconstructions", "sharpness_sampled", "sharpness_prior", "sharpness_mixture"),
    *("fid_prior", "fid_mixture", "confident_prior", "confident_mixture", "confident"),
    *("active_units", "prior_gap", "rate", "rate_slope", "rate_at_half", "rate_at_end"),
    *(
        "extra_strokes_0.3",
        "extra_strokes_0.5",
        "extra_strokes_0.7",
        "evenness",
        "midpoint_entropy",
        "midpoint_sharpness",
        "probe",
    ),
]


def model(**values: float) -> dict[str, Measured]:
    given = dict.fromkeys(NAMES, 0.5) | values
    return {name: Measured(v, v - 1e-6, v + 1e-6) for name, v in given.items()}


def evidence(**roles) -> dict:
    return {role: model() for role in ("this", "ae", "zero", "low", "high", "floor")} | roles


def test_every_claim_of_the_report_is_there_once_and_has_a_verdict():
    expected = [
        "1.1",
        "1.2",
        "1.3",
        "2.1",
        "2.2",
        "2.3",
        "3.1",
        "3.2",
        "3.3",
        "4.1",
        "4.2",
        "4.3",
        "4.4",
        "5.1",
        "5.2",
        "5.3",
        "6.1",
        "6.2",
    ]
    assert sorted(claim.name for claim in CLAIMS) == [f"C{number}" for number in expected]
    assert all(claim.verdict(evidence()) in Verdict for claim in CLAIMS)


def named(name: str):
    return next(claim for claim in CLAIMS if claim.name == name)


@pytest.mark.parametrize(
    ("claim", "role", "holds", "fails"),
    [
        ("C1.2", "ae", {"confident_prior": 0.2}, {"confident_prior": 0.9}),
        ("C2.2", "this", {"confident_prior": 0.2}, {"confident_prior": 0.9}),
        ("C3.2", "this", {"rate": 0.01}, {"rate": 60.0}),
        (
            "C3.1",
            "this",
            {"sharpness_sampled": 0.1, "sharpness_prior": 0.1},
            {"sharpness_sampled": 0.9, "sharpness_prior": 0.9},
        ),
        ("C5.3", "this", {"probe": 0.9}, {"probe": 0.3}),
        (
            "C6.1",
            "low",
            {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.3},
            {"sharpness_reconstructions": 0.8, "sharpness_prior": 0.8},
        ),
    ],
)
def test_a_claim_can_hold_and_can_fail(claim, role, holds, fails):
    assert named(claim).verdict(evidence(**{role: model(**holds)})) is Verdict.HOLDS
    assert named(claim).verdict(evidence(**{role: model(**fails)})) is Verdict.FAILS


def test_a_tie_with_the_wrong_sign_is_no_best_beta():
    """C4.3: sharper at lower beta, blurrier at higher beta: in part."""
    found = named("C4.3").verdict(
        evidence(
            low=model(sharpness_reconstructions=0.7, sharpness_prior=0.7),
            high=model(sharpness_reconstructions=0.3, sharpness_prior=0.3),
        )
    )
    assert found is Verdict.PART


def every_answer(found: dict, beta: float):
    yield answers.q1(found)
    yield answers.q2(found, beta)
    yield answers.q3(found, beta)
    yield answers.q4(found, beta, beta / 10, beta * 2)
    yield answers.q5(found, beta)


@pytest.mark.parametrize("beta", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 50.0])
def test_answers_have_no_hole_and_no_heading(beta, value):
    for text in every_answer(evidence(this=model(**dict.fromkeys(NAMES, value))), beta):
        assert not re.search(r"[{}]|nan|None|Measured", text), text
        assert not re.search(r"^#", text, re.M)


def test_sentences_follow_the_measurements():
    collapsed = answers.q3(evidence(this=model(active_units=0)), 10.0)
    alive = answers.q3(evidence(this=model(active_units=12)), 0.5)
    assert "collapsed" in collapsed and "collapsed" not in alive
    unfinished = answers.q3(evidence(this=model(active_units=0, mse_sample=0.9)), 0.5)
    assert "mean image, which" in collapsed and "too short" in unfinished
    assert "12 of the latents" in alive and "the report has β = 10" in alive

    def torn(ae: float, vae: float) -> str:
        roles = {
            "ae": model(**{"extra_strokes_0.5": ae}),
            "this": model(**{"extra_strokes_0.5": vae}),
        }
        return answers.q5(evidence(**roles), 0.1)

    assert "fall apart more often" in torn(0.8, 0.1)
    assert "do **not** fall apart" in torn(0.1, 0.8)

    tuned = answers.q4(
        evidence(low=model(fid_prior=9.0, mse_mean=0.1), this=model(fid_prior=20.0)), 0.1, 0.01, 0.2
    )
    assert "closest at β = 0.01" in " ".join(tuned.split())
    rising = answers.q2(
        evidence(this=model(rate_slope=3.0, rate_at_half=400, rate_at_end=470)), 0.0
    )
    falling = answers.q2(evidence(this=model(rate_slope=-3.0)), 0.0)
    assert "keeps rising" in rising and "does not keep rising" in falling


def test_tables_have_a_row_for_each_claim_and_a_link():
    found = {question: evidence() for question in answers.CHAPTERS}
    table = answers.verdicts(found)
    for claim in CLAIMS:
        assert f"[{claim.name}]({answers.CHAPTERS[claim.question]}.ipynb)" in table
    widths = {line.count("|") for line in table.splitlines()}
    assert widths == {5}


# --- parameters ---

GIVEN = {"epochs": 0, "images": 0, "seed": 0, "dataset": "MNIST", "profile": "default"}


def test_known_parameters_pass_and_an_unknown_one_is_named():
    hidden = {"_": 1, "In": [], "Out": {}, "torch": math, "f": len}
    assert parameters.checked({**GIVEN, **hidden, "beta": 1.0}, "beta") == GIVEN
    with pytest.raises(ValueError, match="'bta'.*this chapter takes beta, epochs"):
        parameters.checked({**GIVEN, "bta": 1.0}, "beta")


def test_label_pairs():
    assert parameters.label_pairs([1, 2], [3, 4]) == [(1, 3), (2, 4)]
    assert parameters.label_pairs(7, 7) == [(7, 7)]
    bad = [([1], [2, 3]), ([], []), (10, 1), ("3", 1), ([1.5], [2]), ([True], [2]), (-1, 0)]
    for start, end in bad:
        with pytest.raises(ValueError, match="labels"):
            parameters.label_pairs(start, end)


def test_neighbours():
    assert parameters.neighbours(0.1, 0.1, 2.0) == (0.01, 0.2)
    bad = itertools.chain(
        ((beta, 0.1, 2.0) for beta in (0, -1, math.nan, math.inf, "0.1")),
        ((0.1, low, 2.0) for low in (0, 1, 2, "x", math.nan)),
        ((0.1, 0.1, high) for high in (1, 0.5, math.inf, None)),
    )
    for arguments in bad:
        with pytest.raises(ValueError, match="must be"):
            parameters.neighbours(*arguments)
