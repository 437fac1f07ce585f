"""Verdicts follow the intervals, and no sentence of an answer contradicts its numbers."""

import itertools
import math
import re
from dataclasses import replace

import pytest

from vae_nb import answers, archive, claims, parameters
from vae_nb.claims import CLAIMS, Check, Verdict
from vae_nb.evaluation.interval import Measured
from vae_nb.training import recipe


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
        found = (Measured(v, v - 0.05, v + 0.05) for v in values)
        return [Check(f"x{i}", each, "at least", 0.5) for i, each in enumerate(found)]

    assert claims.Claim("C", "Q", "says", Verdict.HOLDS, checks).verdict([{}]) is verdict


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
    assert found == [
        "0",
        "0.00504",
        "0.0005",
        "0.5",
        "12.3",
        "470",
        "12,300",
        "<\u00a00.0001",
        "-0.22",
    ]


NAMES = [
    *("mse_mean", "mse_sample", "r_squared", "ssim", "same_label", "pixel_variance"),
    *("sharpness_reconstructions", "sharpness_sampled", "sharpness_prior", "sharpness_mixture"),
    *("fid_prior", "fid_mixture", "confident_prior", "confident_mixture", "confident", "fid"),
    *("accuracy", "precision", "recall", "recall_prior"),
    *("active_units", "prior_gap", "rate", "rate_slope", "rate_at_half", "rate_at_end"),
    *(
        "extra_strokes_0.3",
        "extra_strokes_0.5",
        "extra_strokes_0.7",
        "evenness",
        "midpoint_entropy",
        "midpoint_sharpness",
        "midpoint_fid",
        "midpoint_fid_spherical",
        "extra_strokes_0.5_matched",
    ),
    *("probe_10", "knn_10", "knn_100", "knn_all"),
    *("probe_100", "probe_1000", "probe_all", "knn_1000", "probe_noise_0.5", "probe_noise_1"),
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
    assert all(claim.verdict([evidence()]) in Verdict for claim in CLAIMS)


def named(name: str):
    return next(claim for claim in CLAIMS if claim.name == name)


@pytest.mark.parametrize(
    ("claim", "role", "holds", "fails"),
    [
        ("C1.2", "ae", {"confident_prior": 0.2}, {"confident_prior": 0.9}),
        ("C2.2", "this", {"recall_prior": 0.01}, {"recall_prior": 0.4}),
        ("C3.2", "this", {"rate": 0.01}, {"rate": 60.0}),
        (
            "C3.1",
            "this",
            {"sharpness_sampled": 0.1, "sharpness_prior": 0.1},
            {"sharpness_sampled": 0.9, "sharpness_prior": 0.9},
        ),
        (
            "C5.3",
            "this",
            dict.fromkeys(("probe_100", "probe_all", "knn_1000", "knn_all", "probe_noise_1"), 0.9),
            dict.fromkeys(("probe_100", "probe_all", "knn_1000", "knn_all", "probe_noise_1"), 0.3),
        ),
        (
            "C6.1",
            "low",
            {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.3},
            {"sharpness_reconstructions": 0.8, "sharpness_prior": 0.8},
        ),
    ],
)
def test_a_claim_can_hold_and_can_fail(claim, role, holds, fails):
    assert named(claim).verdict([evidence(**{role: model(**holds)})]) is Verdict.HOLDS
    assert named(claim).verdict([evidence(**{role: model(**fails)})]) is Verdict.FAILS


def test_a_tie_with_the_wrong_sign_is_no_best_beta():
    """C4.3: sharper at lower beta, blurrier at higher beta: in part."""
    roles = {
        "low": model(sharpness_reconstructions=0.7, sharpness_prior=0.7),
        "high": model(sharpness_reconstructions=0.3, sharpness_prior=0.3),
    }
    found = named("C4.3").verdict([evidence(**roles)])
    assert found is Verdict.PART


def every_answer(found: dict, beta: float):
    yield answers.q1([found])
    yield answers.q2([found], beta)
    yield answers.q3([found], beta)
    yield answers.q4([found], beta, beta / 10, beta * 2)
    yield answers.q5([found], beta)


@pytest.mark.parametrize("beta", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 50.0])
def test_answers_have_no_hole_and_no_heading(beta, value):
    for text in every_answer(evidence(this=model(**dict.fromkeys(NAMES, value))), beta):
        assert not re.search(r"[{}]|nan|None|Measured", text), text
        assert not re.search(r"^#", text, re.M)


def test_sentences_follow_the_measurements():
    def answer(question, *arguments, **roles) -> str:
        found = evidence(**roles)
        return " ".join(answers.ANSWERS[question]([found], *arguments).split())

    collapsed = answer("Q3", 10.0, this=model(active_units=0))
    alive = answer("Q3", 0.5, this=model(active_units=12))
    assert "collapsed" in collapsed and "collapsed" not in alive
    unfinished = answer("Q3", 0.5, this=model(active_units=0, mse_sample=0.9))
    assert "mean image, which" in collapsed and "too short" in unfinished
    assert "12 of the latents" in alive and "the report has β = 10" in alive

    def torn(ae: float, vae: float) -> str:
        name = "extra_strokes_0.5"
        return answer("Q5", 0.1, ae=model(**{name: ae}), this=model(**{name: vae}))

    assert "autoencoder's midpoints fall apart more often" in torn(0.8, 0.1)
    assert "do **not** fall apart" in torn(0.1, 0.8)
    assert "not told apart" in torn(0.4, 0.4)
    round_ = answer("Q5", 0.1, this=model(midpoint_fid=9.0, midpoint_fid_spherical=4.0))
    assert "mostly shortens" in round_ and "shortens" not in torn(0.8, 0.1)

    roles = {"low": model(fid_prior=9.0, mse_sample=0.1), "this": model(fid_prior=20.0)}
    assert "closest at β = 0.01" in answer("Q4", 0.1, 0.01, 0.2, **roles)
    nan = model(rate_slope=math.nan)
    for measured, words in (
        (model(rate_slope=3.0, rate_at_half=400, rate_at_end=470), "The KL keeps rising"),
        (model(rate_slope=3.0, rate_at_half=400, rate_at_end=400), "The KL still rises"),
        (model(rate_slope=-3.0), "The KL falls at the end"),
        (nan, "The KL neither clearly rises nor falls"),
    ):
        assert words in answer("Q2", 0.0, this=measured)
    for end, words in ((101, "has settled"), (140, "has not settled"), (80, "The KL falls")):
        measured = model(rate_at_half=100, rate_at_end=end)
        assert words in answer("Q4", 0.1, 0.01, 0.2, this=measured)


def test_seeds_decide_and_the_live_run_gives_the_numbers():
    live, *others = (evidence(ae=model(confident_prior=share)) for share in (0.12, 0.9, 0.8))
    assert "are poor" in answers.q1([live])
    text = answers.q1([live, *others])
    assert "neither clearly poor nor clearly better" in text and "12\u00a0% of them" in text
    assert "better than one would expect" in answers.q1(others[:1])


def test_models_are_compared_within_a_seed():
    """A seed that is bad for both says nothing about which is better."""
    seeds = [
        evidence(this=model(mse_mean=1.05 * level), ae=model(mse_mean=level))
        for level in (0.5, 0.9, 1.7)
    ]
    checks = {check.what: check for check in named("C2.1").checks(seeds)}
    check = checks["MSE over the autoencoder's"]
    assert check.measured == pytest.approx((1.05, 1.05, 1.05), abs=1e-4)
    assert check.verdict() is Verdict.HOLDS
    uneven = [
        evidence(this=model(mse_mean=ratio), ae=model(mse_mean=1.0)) for ratio in (0.8, 1.0, 1.3)
    ]
    checks = {check.what: check for check in named("C2.1").checks(uneven)}
    assert checks["MSE over the autoencoder's"].verdict() is Verdict.UNDECIDED
    assert named("C2.1").verdict(uneven) is Verdict.UNDECIDED


def test_the_use_of_codes_follows_the_numbers():
    names = ("probe_100", "probe_all", "knn_1000", "knn_all")
    for mine, other, words in ((0.9, 0.5, "better"), (0.3, 0.5, "worse"), (0.5, 0.5, "told apart")):
        found = evidence(
            this=model(**dict.fromkeys(names, mine)), ae=model(**dict.fromkeys(names, other))
        )
        read = {
            "AE": (None, found["ae"]),
            "β = 0.1": (0.1, found["this"]),
            "PCA": (None, model(probe_100=0.4)),
        }
        text = " ".join(answers.downstream([found], read, 0.1).split())
        assert text.count(words) >= 3 and "best of the 3 in the figure" in text
    assert answers.by_noise(model(probe_1000=0.9, **{"probe_noise_0.5": 0.7})).keys() == {0, 0.5, 1}
    panels = dict(answers.by_labels(read, 512))
    assert [list(values) for *_, values in panels["linear probe"]] == [[10, 100, 512]] * 3


def test_a_table_of_midpoints_has_a_dash_where_a_model_is_too_soft():
    soft = model()
    del soft["extra_strokes_0.5_matched"]
    lines = answers.midpoints({None: model(), 0.2: soft}).splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["0.5", "–"]
    assert len({line.count("|") for line in lines}) == 1


def test_models_are_compared_at_one_error():
    error, breaks = (
        (lambda v: Measured(v, v - 1e-4, v + 1e-4)),
        (lambda v: Measured(v, v - 0.1, v + 0.1)),
    )
    points = [("AE", None, error(0.004), breaks(0.9)), ("β = 0", 0.0, error(0.0041), breaks(0.3))]
    points.append(("β = 1", 1.0, error(0.07), breaks(0.0)))
    text = answers.at_one_error(points)
    assert "nearest to it is β = 0 with +0.30 at 0.0041: fewer." in text


def test_tables_have_a_row_for_each_claim_and_a_link():
    found = {question: [evidence()] for question in answers.CHAPTERS}
    table = answers.verdicts(found)
    for claim in CLAIMS:
        chapter = "representations" if claim.name == "C5.3" else answers.CHAPTERS[claim.question]
        assert f"[{claim.name}]({chapter}.ipynb)" in table
    widths = {line.count("|") for line in table.splitlines()}
    assert widths == {5}


def test_breaks_are_compared_at_one_error_where_they_can_be():
    name = "extra_strokes_0.5_matched"
    whole = evidence(ae=model(**{name: 0.6}), this=model(**{name: 0.1}))
    checks = {check.what: check for check in named("C5.1").checks([whole])}
    (check,) = (check for what, check in checks.items() if "blurred" in what)
    assert check.measured.value == pytest.approx(0.5) and check.verdict() is Verdict.HOLDS
    del whole["this"][name]  # a model that is softer than the error
    assert len(named("C5.1").checks([whole])) == len(checks) - 1
    # Nor is it compared where only some seeds are sharp enough.
    sharp = evidence(ae=model(**{name: 0.6}), this=model(**{name: 0.1}))
    assert len(named("C5.1").checks([sharp, whole])) == len(checks) - 1


# --- what is said of the sweep ---


def swept(**names) -> archive.Archive:
    """An archive of three seeds, from functions of beta by the name of a number."""
    betas = (0.0, 0.001, 0.01, 0.1, 1.0)
    rows = []
    for seed in range(3):
        for kind, beta in (("sigma_vae", 0.0), *(("vae", b) for b in betas)):
            values = {name: of(beta) + 1e-4 * seed for name, of in names.items()}
            measured = {n: Measured(v, v - 1e-4, v + 1e-4) for n, v in values.items()}
            found = recipe(kind, beta, seed=seed)
            rows.append(archive.Row(found, beta or 0.002, measured, {}, {}))
    rows = [r if r.recipe.model != "vae" else replace(r, beta=r.recipe.beta) for r in rows]
    return archive.Archive(rows, {}, "")


def test_the_best_beta_is_found_and_its_rivals_are_named():
    valley = swept(fid_prior=lambda beta: abs(beta - 0.01))
    assert valley.best("fid_prior") == 0.01
    assert "lowest at β = 0.01" in answers.best_for_samples(valley)
    flat = swept(fid_prior=lambda beta: 0.5 if beta in (0.01, 0.1) else 2.0)
    assert flat.best("fid_prior") == 0.01
    assert answers.best_for_samples(flat).endswith("not told apart from it: 0.1.")


@pytest.mark.parametrize(
    ("quiet", "words"), [(0.5, "as the linear"), (0.05, "later than"), (3.0, "earlier than")]
)
def test_the_collapse_is_set_beside_its_prediction(quiet, words):
    falling = swept(rate=lambda beta: 1.0 if beta <= 0.1 else 0.0)
    text = answers.collapse(falling, 0.8, quiet)
    assert "between β = 0.1 and 1" in text and words in text


def test_the_three_betas_stand_beside_each_other():
    flat = dict.fromkeys(("sharpness_prior", "recall_prior"), lambda b: 0.5)
    found = swept(
        fid_prior=lambda b: abs(b - 0.01) * 100, log_likelihood=lambda b: -abs(b - 0.001), **flat
    )
    text = " ".join(answers.which_beta(found, 0.1).split())
    assert "samples**: β = 0.01, with" in text and "is 50 times that β" in text
    assert "likelihood is highest at β = 0.001" in text and "not told apart" not in text
    two = swept(
        fid_prior=lambda b: 1.0 if b in (0.01, 0.1) else 9.0, log_likelihood=lambda b: b, **flat
    )
    assert "not told apart from it: 0.1" in " ".join(answers.which_beta(two, 0.1).split())


def test_what_is_left_of_the_breaks_at_one_error():
    name, matched = "extra_strokes_0.5", "extra_strokes_0.5_matched"
    sharp, vae = model(**{name: 0.9, matched: 0.3}), model(**{name: 0.2, matched: 0.1})
    text = answers.blurred_to_one_error({None: sharp, 0.1: vae})
    assert "for β = 0.1 from +0.70 to +0.20 (still more)" in text
    soft = model()
    del soft[matched]
    assert "No VAE here" in answers.blurred_to_one_error({None: sharp, 0.2: soft})


def test_a_check_is_marked():
    marks = [
        str(Check("x", Measured(v, v - 0.1, v + 0.1), "at least", 0.5))[0] for v in (0.9, 0.1, 0.5)
    ]
    assert marks == ["✓", "✗", "?"]


def test_the_exchange_says_where_distortion_falls():
    rising = answers.exchange(swept(rate=lambda b: 1 - b, mse_sample=lambda b: b))
    assert "rises or stays from one β to the next" in rising
    bent = swept(rate=lambda b: 1 - b, mse_sample=lambda b: 0.5 if b == 0.1 else b)
    assert "falls at" not in answers.exchange(bent)
    dip = swept(rate=lambda b: 1 - b, mse_sample=lambda b: 0.0 if b == 0.1 else b + 1)
    assert "falls at 0.1 " in answers.exchange(dip)


def test_stability_follows_the_numbers():
    def text(this: tuple[float, float], ae: tuple[float, float]) -> str:
        roles = [model(probe_1000=clean, probe_noise_1=noisy) for clean, noisy in (this, ae)]
        return answers.stability(evidence(this=roles[0], ae=roles[1]), {}, 0.1)

    # What counts is the loss, not the accuracy that is left.
    assert "is more stable" in text((0.8, 0.7), (0.95, 0.75))
    assert "is less stable" in text((0.95, 0.6), (0.8, 0.7))
    assert "neither more nor less" in text((0.9, 0.7), (0.9, 0.7))


# --- the gate ---


def test_the_gate_names_what_differs():
    from vae_nb import gate

    poor = evidence(ae=model(confident_prior=0.1, r_squared=0.1, same_label=0.1))
    wrong = dict(gate.differences({question: [poor] for question in claims.ROLES}))
    assert wrong[named("C1.1")] is Verdict.FAILS  # it was written for one that holds
    assert named("C1.2") not in wrong


@pytest.mark.parametrize(
    ("confident", "code", "said"), [(0.1, 0, ""), (0.9, 1, "does not hold"), (0.5, 0, "undecided")]
)
def test_the_gate_fails_where_a_verdict_contradicts_the_prose(
    confident, code, said, monkeypatch, capsys
):
    from types import SimpleNamespace

    from vae_nb import gate

    claim = replace(named("C1.2"), expected=Verdict.HOLDS)
    numbers = model(confident_prior=confident)
    runs = dict.fromkeys(k for r in claims.ROLES.values() for k in r.values())
    runs = {key: SimpleNamespace(dataset=None, recipe=None) for key in runs}
    monkeypatch.setattr(gate, "CLAIMS", (claim,))
    monkeypatch.setattr(gate, "runs_of_report", lambda: runs)
    monkeypatch.setattr(gate, "measure", lambda *_: dict(numbers))
    monkeypatch.setattr(gate, "represent", lambda *_: {})
    monkeypatch.setattr(gate, "measure_floor", lambda _: {})
    monkeypatch.setattr(archive, "seeds", lambda evidence, _: [evidence])
    monkeypatch.setattr(archive, "strays", lambda *_: {})
    assert gate.main() == code
    assert (f"C1.2: {said}, but" in capsys.readouterr().err) is bool(said)


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


def test_further_betas():
    assert parameters.betas("compared", [0, 0.01]) == [0.0, 0.01]
    for bad in (0.1, "0.1", [-1], [math.nan], ["x"], [True], None):
        with pytest.raises(ValueError, match="compared = .* must be a list"):
            parameters.betas("compared", bad)


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
