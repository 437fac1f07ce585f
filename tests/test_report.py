"""An answer says what its verdicts say, captions what was measured, and tables are whole."""

import dataclasses
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import torch
from test_claims import CASES, estimates, evidence

from vae_nb import archive, objective, report
from vae_nb.data import SPECIFICATIONS
from vae_nb.figures import Point
from vae_nb.metrics import METRICS
from vae_nb.metrics.intervals import Estimate
from vae_nb.recipe import recipe
from vae_nb.report import QUESTIONS, captions, display, tables, templates
from vae_nb.report.question import Verdict
from vae_nb.runs import Run

HOLDS, PART, FAILS, UNDECIDED = Verdict
TEMPLATES = Path(report.__file__).parent
CODES = {"AE": estimates(), "PCA": estimates(probe_100=0.4), "β = 0.1": estimates(probe_100=0.8)}


def around(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half)


def answer(question: str, found: dict | list, **given) -> str:
    """The answer on one line, at the report's own betas unless others are given."""
    asked = QUESTIONS[question]
    betas = {role: beta for role, (_, beta) in asked.models.items()} | given.pop("betas", {})
    given |= {"codes": CODES} if question == "Q6" else {}
    seeds = found if isinstance(found, list) else [found]
    return re.sub(r"[ \n]+", " ", asked.answer(seeds, betas, **given))


def unsure(found: dict) -> dict:
    """The same numbers with intervals that reach everywhere."""
    return {
        role: {name: around(each.value, 1e4) for name, each in numbers.items()}
        for role, numbers in found.items()
    }


# --- text and verdict agree ---

NOT = "These trainings do not decide whether"
# By question and check or claim: the sentence of each outcome.
SENTENCES = {
    ("Q1", "C1.1"): {
        HOLDS: "The autoencoder copies well:",
        PART: "copies well by one measure",
        FAILS: "does not copy well",
        UNDECIDED: f"{NOT} the autoencoder copies well",
    },
    ("Q1", "recognised"): {
        HOLDS: "are scribbles",
        FAILS: "are better than one would expect",
        UNDECIDED: f"{NOT} that is hardly any",
    },
    ("Q1", "mixture"): {
        HOLDS: "So most of the fault was not the decoder's",
        FAILS: "is not the whole reason",
        UNDECIDED: "Whether the prior was most of the reason, these trainings do not decide",
    },
    ("Q2", "C2.1"): {
        HOLDS: "The reconstructions are almost the autoencoder's.",
        PART: "by some measures, but not by all",
        FAILS: "The reconstructions are worse",
        UNDECIDED: f"{NOT} the reconstructions are as good",
    },
    ("Q2", "C2.2"): {
        HOLDS: "Samples from the prior are poor:",
        PART: "are poor by one measure",
        FAILS: "Samples from the prior are not all poor:",
        UNDECIDED: f"{NOT} samples from the prior are poor",
    },
    ("Q2", "C2.3"): {
        HOLDS: "The KL keeps rising.",
        PART: "but hardly in the last epoch",
        FAILS: "The KL does not keep rising.",
        UNDECIDED: f"{NOT} the KL keeps rising",
    },
    ("Q3", "C3.1"): {
        HOLDS: "Reconstructions and samples are blurred.",
        PART: "Samples are blurred, but",
        FAILS: "are not both blurred",
        UNDECIDED: f"{NOT} both reconstructions and samples",
    },
    ("Q3", "collapsed"): {
        HOLDS: "The posterior has **collapsed**",
        FAILS: "The posterior has not collapsed",
        UNDECIDED: f"{NOT} the posterior has collapsed",
    },
    ("Q3", "active"): {
        HOLDS: "Whether they are disentangled was not measured",
        FAILS: "at least 2 active latents, and here there are 0",
        UNDECIDED: "and these trainings do not decide whether there are so many",
    },
    ("Q4", "C4.1"): {
        HOLDS: "Reconstructions look like the originals.",
        PART: "Reconstructions keep the class of their original, but not its edges.",
        FAILS: "Reconstructions do not look like the originals:",
        UNDECIDED: f"{NOT} reconstructions look like",
    },
    ("Q4", "recognised"): {
        HOLDS: "Most samples pass for digits",
        FAILS: "Too few samples pass for digits",
        UNDECIDED: f"{NOT} enough samples pass",
    },
    ("Q4", "sharp_samples"): {
        HOLDS: "They are sharp",
        FAILS: "They are visibly soft",
        UNDECIDED: "Whether they are sharp",
    },
    ("Q4", "error_low"): {
        HOLDS: "So it is here",
        FAILS: "Here it does not",
        UNDECIDED: "Here the error of sampled reconstructions at β = 0.01 does not differ",
    },
    ("Q4", "C6.1"): {
        HOLDS: "At the lower β (0.01) both are blurrier",
        PART: "At the lower β (0.01) one of the two is blurrier",
        FAILS: "At the lower β (0.01) both are sharper",
        UNDECIDED: f"{NOT} both are blurrier at the lower β",
    },
    ("Q4", "C6.2"): {
        HOLDS: "At the higher β (0.2) both are blurrier",
        PART: "At the higher β (0.2) one of the two is blurrier",
        FAILS: "At the higher β (0.2) both are sharper",
        UNDECIDED: f"{NOT} both are blurrier at the higher β",
    },
    ("Q4", "fid_low"): {
        HOLDS: "At the lower β it is larger",
        FAILS: "At the lower β it is smaller",
        UNDECIDED: "At the lower β it is not significantly different",
    },
    ("Q4", "fid_high"): {
        HOLDS: "at the higher β larger",
        FAILS: "at the higher β smaller",
        UNDECIDED: "at the higher β not significantly different",
    },
    ("Q5", "breaks_more"): {
        HOLDS: "The autoencoder's midpoints break more often",
        FAILS: "do **not** break more often",
        UNDECIDED: "do not differ significantly in how often",
    },
    ("Q5", "vae_extra_strokes_0.5"): {
        HOLDS: "The VAE's strokes stay whole",
        FAILS: "The VAE's strokes break",
        UNDECIDED: f"{NOT} the VAE's strokes stay whole",
    },
    ("Q5", "softer"): {
        HOLDS: "midpoints are softer",
        FAILS: "midpoints are sharper",
        UNDECIDED: "The sharpness of midpoints does not differ",
    },
    ("Q5", "follows_prior"): {
        HOLDS: "The KL draws the VAE's posteriors together",
        FAILS: "This VAE's codes do not follow",
        UNDECIDED: f"{NOT} the VAE's codes follow",
    },
    ("Q5", "uniform"): {
        HOLDS: "path is more uniform",
        FAILS: "path is less uniform",
        UNDECIDED: "do not differ significantly in how uniform",
    },
    ("Q5", "closer"): {
        HOLDS: "By FID, the VAE's are closer",
        FAILS: "By FID, the VAE's are further",
        UNDECIDED: "By FID, the two models do not differ",
    },
    ("Q5", "spherical"): {
        HOLDS: "the VAE's FID falls",
        FAILS: "the VAE's FID rises",
        UNDECIDED: "the VAE's FID does not change",
    },
    ("Q5", "probe"): {
        HOLDS: "labels is more accurate",
        FAILS: "labels is less accurate",
        UNDECIDED: "labels does not differ significantly",
    },
    ("Q6", "probe_100"): {
        HOLDS: "a linear probe is more accurate",
        FAILS: "a linear probe is less accurate",
        UNDECIDED: "a linear probe is not significantly",
    },
    ("Q6", "probe_all"): {
        HOLDS: "With all labels it is more accurate",
        FAILS: "With all labels it is less accurate",
        UNDECIDED: "With all labels it is not significantly",
    },
    ("Q6", "knn_1000"): {
        HOLDS: "1,000 labels are more accurate",
        FAILS: "1,000 labels are less accurate",
        UNDECIDED: "1,000 labels are not significantly",
    },
    ("Q6", "knn_all"): {
        HOLDS: "With all labels they are more accurate",
        FAILS: "With all labels they are less accurate",
        UNDECIDED: "With all labels they are not significantly",
    },
    ("Q6", "noise"): {
        HOLDS: "costs the VAE's probe less accuracy",
        FAILS: "costs the VAE's probe *more* accuracy",
        UNDECIDED: "an accuracy that does not differ significantly",
    },
}
# The evidence with which a check of no claim holds and fails. Those of claims are in CASES.
FURTHER = {
    ("Q2", "off_prior"): ({"this": {"fid_mixture": 0.1}}, {"this": {"fid_mixture": 0.45}}),
    ("Q4", "error_low"): ({"low": {"mse_sample": 0.01}}, {"low": {"mse_sample": 0.9}}),
    ("Q5", "breaks_more"): (
        {"ae": {"extra_strokes_0.5": 0.9}},
        {"ae": {"extra_strokes_0.5": 0.1}},
    ),
    ("Q5", "follows_prior"): (
        {"this": {"fid_mixture": 0.45}},
        {"this": {"fid_mixture": 0.1}},
    ),
    ("Q5", "spherical"): (
        {"this": {"midpoint_fid": 9.0, "midpoint_fid_spherical": 4.0}},
        {"this": {"midpoint_fid": 4.0, "midpoint_fid_spherical": 9.0}},
    ),
    ("Q5", "probe"): ({"this": {"probe_1000": 0.9}}, {"this": {"probe_1000": 0.1}}),
}
IN_PART = {  # the evidence with which a claim holds in part
    "C1.1": {"ae": {"r_squared": 0.8, "same_label": 0.99}},
    "C2.1": {"this": {"mse_mean": 0.7, "sharpness_reconstructions": 0.5}},
    "C2.2": {"this": {"recognised_prior": 0.4, "coverage_prior": 0.01}},
    "C2.3": {"this": {"rate_at_half": 700.0, "rate_at_end": 900.0, "rate_slope": -0.02}},
    "C3.1": {"this": {"sharpness_sampled": 0.9, "sharpness_prior": 0.1}},
    "C4.1": {"this": {"same_label": 0.99, "sharpness_reconstructions": 0.4}},
    "C6.1": {"low": {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.8}},
    "C6.2": {"high": {"sharpness_reconstructions": 0.3, "sharpness_prior": 0.8}},
}


def cases_of(question: str, name: str) -> tuple[dict, dict]:
    """The evidence with which a check or a claim holds, and fails."""
    if (question, name) in FURTHER:
        return FURTHER[question, name]
    return next(
        CASES[claim.name]
        for claim in QUESTIONS[question].claims
        if claim.name == name or name in [criterion.name for criterion in claim.criteria]
    )


@pytest.mark.parametrize(("question", "name"), SENTENCES, ids="-".join)
def test_text_and_verdict_agree(question, name):
    asked, phrases = QUESTIONS[question], SENTENCES[question, name]
    holds, fails = (evidence(**roles) for roles in cases_of(question, name))
    found = {HOLDS: holds, FAILS: fails, UNDECIDED: unsure(holds)}
    if PART in phrases:
        found[PART] = evidence(**IN_PART[name])
    assert found.keys() == phrases.keys()
    for outcome, numbers in found.items():
        claims = {claim.name: claim.verdict([numbers]) for claim in asked.claims}
        checks = {key: each.check([numbers]).outcome for key, each in asked.criteria.items()}
        assert (claims | checks)[name] is outcome
        text = answer(question, numbers).replace("\u00a0", " ")
        assert [key for key, phrase in phrases.items() if phrase in text] == [outcome], text


def test_every_outcome_that_a_text_asks_for_is_in_this_table():
    asked = {
        (question.name, found)
        for question in QUESTIONS.values()
        for found in re.findall(
            r"""(?:checks\.|checks\["|claims\[")([\w.]+?)(?:"\]|(?=\.\w+ )|[,)])""",
            (TEMPLATES / question.template).read_text(),
        )
    }
    rest = {("Q3", name) for name in ("no_better", "no_worse", "mean_is_worse", "blurred_samples")}
    # Tested below, or part of a claim's case.
    rest |= {
        ("Q1", "large_mixture"),
        ("Q2", "slope"),
        ("Q2", "off_prior"),
        ("Q4", "same_label"),
    }
    rest |= {("Q4", f"fid_low{features}") for features in ("", "_components")}
    rest |= {("Q4", name) for name in ("settled", "settled_slope", "follows_prior")}
    assert asked == SENTENCES.keys() | rest


def test_no_text_compares_a_number():
    """A threshold is written once, in the question's module."""
    environment = jinja2.Environment()
    for path in TEMPLATES.glob("*.md"):
        tree = environment.parse(path.read_text())
        for operand in tree.find_all(jinja2.nodes.Operand):
            assert operand.op in ("eq", "ne") or path.name == "display.md", (path, operand.lineno)


def test_no_threshold_is_typed_into_a_text():
    for question in QUESTIONS.values():
        text = (TEMPLATES / question.template).read_text()
        prose = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", text, flags=re.S)
        numbers = set(re.findall(r"\d[\d,.]*\d|\d", prose))
        assert numbers <= {"0", "1", "100", "1,000"}, question.name  # labels of a probe


# --- answers ---


@pytest.mark.parametrize("beta", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_have_no_hole_and_no_heading(question, value, beta):
    found = evidence(this=dict.fromkeys(METRICS, value))
    for numbers in (found, unsure(found)):
        text = answer(question, numbers, betas={"this": beta})
        assert not re.search(r"[{}]|nan|None|Estimate|Shown| [.,;]", text), text
        assert not re.search(r"^#", text, re.M)


def test_an_undefined_name_is_an_error():
    found = evidence()
    del found["ae"]["fid_mixture"]
    with pytest.raises(KeyError, match="fid_mixture"):
        answer("Q1", found)
    found = evidence()
    del found["ae"]["midpoint_entropy"]  # no criterion reads it, the text does
    with pytest.raises(jinja2.UndefinedError, match="midpoint_entropy"):
        answer("Q5", found)


def test_seeds_decide_and_this_build_gives_the_numbers():
    shares = (0.02, 0.3, 0.2)
    live, *others = (evidence(ae={"recognised_prior": share}) for share in shares)
    assert "are scribbles. The classifier takes 2\u00a0% for digits" in answer("Q1", live)
    text = answer("Q1", [live, *others])
    assert "the classifier takes 2\u00a0% for digits. These trainings do not decide" in text
    assert "better than one would expect" in answer("Q1", others[:1])


def test_the_noun_is_that_of_the_data_set():
    for question in QUESTIONS:
        for found in (evidence(), unsure(evidence())):
            assert "digit" not in answer(question, found, noun="garment")
    assert "for garments" in answer("Q1", evidence(), noun="garment")


def test_sentences_follow_beta_and_the_kind_of_collapse():
    collapsed = {"rate": 0.001, "active_units": 0.0, "pixel_variance": 0.067}
    mean = evidence(this={**collapsed, "mse_sample": 0.067, "mse_mean": 0.06})
    text = answer("Q3", mean)
    assert "the best answer is the mean image" in text and "batch normal" not in text
    short = answer("Q3", evidence(this={**collapsed, "mse_sample": 0.9}))
    assert "too short" in short and "the best answer" not in short
    better = answer("Q3", evidence(this={**collapsed, "mse_sample": 0.05}))
    assert "nearly one picture" in better
    assert "*larger* than" in answer("Q3", evidence(this={"mse_mean": 0.08, "mse_sample": 0.07}))
    alive = answer("Q3", evidence(this={"rate": 12.0}), betas={"this": 0.5})
    assert "at β = 0.5 (the report has 10)" in alive and "worth its KL" in alive
    assert "Nothing penalises the KL" in answer("Q2", evidence())
    assert "is penalised" in answer("Q2", evidence(), betas={"this": 0.01})


@pytest.mark.parametrize(
    ("question", "roles", "phrase"),
    [
        ("Q1", {"ae": {"fid_mixture": 0.1, "fid_mixture_100": 0.01}}, "The better the prior"),
        (
            "Q1",
            {"ae": {"fid_mixture": 0.1, "fid_mixture_100": 0.01, "novelty_mixture_100": 0.9}},
            "They are not copied",
        ),
        (
            "Q1",
            {"ae": {"fid_mixture": 0.1, "fid_mixture_100": 0.01, "novelty_mixture_100": 0.2}},
            "But they may be copied",
        ),
        ("Q2", {"this": {"fid_mixture": 0.1}}, "Nothing makes the codes follow the prior."),
        ("Q2", {"this": {"fid_mixture": 0.49}}, "hardly helps the samples"),
        ("Q4", {"this": {"fid_mixture": 0.45}}, "The codes do follow the prior"),
        ("Q4", {"this": {"fid_mixture": 0.1}}, "The codes do not follow the prior"),
        (
            "Q4",
            {"this": {"fid_mixture": 0.45, "recognised_prior": 0.1}},
            "So that is not enough for good samples.",
        ),
        (
            "Q4",
            {"this": {"rate_at_half": 9.0, "rate_at_end": 9.1, "rate_slope": 0.001}},
            "The KL has settled by half",
        ),
        (
            "Q4",
            {"this": {"rate_at_half": 9.0, "rate_at_end": 12.0, "rate_slope": 0.001}},
            "The KL has settled at the end, but not yet by half",
        ),
        ("Q4", {"this": {"rate_slope": 0.1}}, "The KL has not settled"),
        ("Q4", {"low": {"fid_prior": 0.9, "fid_prior_components": 0.1}}, "*closer* to real images"),
        ("Q4", {"low": {"fid_prior": 0.1, "fid_prior_components": 0.9}}, "*further* from"),
    ],
)
def test_what_only_some_outcomes_have_a_sentence_for(question, roles, phrase):
    found = evidence(**roles)
    assert phrase in answer(question, found)
    assert phrase not in answer(question, unsure(found))


def test_the_autoencoder_is_set_beside_every_beta_only_where_the_archive_is_of_it():
    found = evidence(ae={"fid_mixture": 0.1, "fid_mixture_100": 0.01})
    assert "No VAE of this book" in answer("Q1", found, archived=True)
    assert "No VAE of this book" not in answer("Q1", found)


def test_what_rises_in_part_is_said():
    falls = evidence(this={"rate_at_half": 1.0, "rate_at_end": 2.0, "rate_slope": -0.1})
    assert "but hardly in the last epoch" in answer("Q2", falls)
    slow = evidence(this={"rate_at_half": 1.0, "rate_at_end": 1.0, "rate_slope": 1.0})
    assert "still rises in the last epoch" in answer("Q2", slow)


# --- captions ---


def swept(**names) -> archive.Archive:
    """An archive of three seeds, from functions of beta by metric."""
    rows = []
    for seed in range(3):
        for kind, beta in [("sigma_vae", 0.0), *(("vae", b) for b in (0.0, 0.001, 0.01, 0.1, 1.0))]:
            measured = {name: around(of(beta) + 1e-4 * seed, 1e-4) for name, of in names.items()}
            fitted = beta if kind == "vae" else 0.002 + 1e-5 * seed
            rows.append(archive.Row(recipe(kind, beta, seed=seed), fitted, measured, {}, {}, {}))
    return archive.Archive(rows, {}, "")


def test_the_lowest_fid_and_what_does_not_differ_from_it():
    valley = swept(fid_prior=lambda beta: abs(beta - 0.01))
    text = captions.lowest_fid(valley)
    assert "lowest at β = 0.01" in text and "Every other β is significantly worse" in text
    flat = swept(fid_prior=lambda beta: 0.5 if beta in (0.01, 0.1) else 2.0)
    assert "At β = 0.1 it is not significantly different" in captions.lowest_fid(flat)


@pytest.mark.parametrize(
    ("small_from", "words"), [(0.5, "predicts"), (0.05, "later than"), (3.0, "earlier than")]
)
def test_the_collapse_is_set_beside_its_prediction(small_from, words):
    text = captions.collapse(swept(rate=lambda b: 1.0 if b <= 0.1 else 0.0), 0.8, small_from)
    assert "between β = 0.1 and 1" in text and words in text


def of_three(best: float = 0.01, likely: float = 0.001, other_best: float = 0.01):
    """An archive for three_betas: where FID and likelihood are best, and FID in other features."""
    flat = {name: lambda b: 0.5 - b / 10 for name in ("sharpness_prior", "recall_prior")}
    others = {
        f"fid_prior_{space}": lambda b: abs(b - other_best) for space in captions.OTHER_SPACES
    }
    return swept(
        fid_prior=lambda b: abs(b - best) * 100,
        log_likelihood=lambda b: -abs(b - likely),
        **flat,
        **others,
    )


def test_the_best_beta_for_samples_is_set_beside_the_next_lower_one():
    text = captions.three_betas(of_three(), 0.1)
    assert "by FID:** β = 0.01, with" in text and "The next lower value, β = 0.001" in text
    assert "significantly worse" in text and "is 49.8 times as large" in text
    assert "the recall is 50\u00a0% at β = 0.001 and 50\u00a0% at β = 0.01" in text
    own = captions.three_betas(of_three(best=0.1), 0.1)
    assert "It is the report's choice, too." in own and "value, β = 0.01" in own
    flat = dict.fromkeys(("sharpness_prior", "recall_prior", "log_likelihood"), lambda b: 0.5)
    others = {f"fid_prior_{space}": lambda b: b for space in captions.OTHER_SPACES}
    lowest = swept(fid_prior=lambda b: b, **flat, **others)
    assert "next lower" not in captions.three_betas(lowest, 0.1)  # there is none


def test_the_best_beta_of_other_features_is_said_where_it_is_another():
    assert "Other features" not in captions.three_betas(of_three(), 0.1)
    text = captions.three_betas(of_three(other_best=0.1), 0.1)
    assert (
        "lowest at β = 0.1 in the principal components" in text and "depends on the judge" in text
    )


def test_a_likelihood_that_is_not_highest_where_it_is_calibrated_is_explained():
    assert "In theory" in captions.three_betas(of_three(likely=0.001), 0.1)
    assert "In theory" not in captions.three_betas(of_three(likely=0.0), 0.1)


def test_where_the_distortion_decreases_is_said():
    rate = {"rate": lambda b: 1 - b}
    rising = captions.rate_distortion(swept(mse_sample=lambda b: b, **rate))
    assert "never decreases significantly" in rising and "From β = 0.001 to 1 the rate" in rising
    dip = swept(mse_sample=lambda b: 0.0 if b == 0.1 else b + 1, **rate)
    assert "decreases significantly at β = 0.1." in captions.rate_distortion(dip)


def test_the_strip_says_from_which_beta_on_no_latent_is_active():
    some = swept(active_units=lambda b: 5.0)
    none = archive.Archive(
        [
            dataclasses.replace(row, measured={"active_units": around(0.0, 0.0)})
            if row.beta == 1.0
            else row
            for row in some.rows
        ],
        {},
        "",
    )
    assert "no latent is active" not in captions.strip(some)
    assert "From β = 1 on no latent is active" in captions.strip(none)


def test_what_is_left_of_the_extra_strokes_at_one_error():
    name = "extra_strokes_0.5_matched"
    models = {"AE": 0.3, "β = 0": 0.1, "β = 0.01": 0.2, "β = 0.1": 0.305, "β = 0.2": 0.5}
    text = captions.matched_strokes({n: {name: around(v, 0.01)} for n, v in models.items()})
    assert "more extra strokes than β = 0 and β = 0.01." in text
    assert "fewer extra strokes than β = 0.2." in text
    assert "does not differ significantly from β = 0.1." in text and "0.03" in text
    assert "No VAE here" in captions.matched_strokes({"AE": {name: around(0.3, 0.1)}, "VAE": {}})
    assert "No VAE here" in captions.matched_strokes({"AE": {}, "VAE": {name: around(0.3, 0.1)}})


@pytest.mark.parametrize(
    ("strokes", "words"), [(0.3, "fewer than"), (0.9, "not significantly"), (1.5, "more than")]
)
def test_models_of_similar_error_are_compared(strokes, words):
    points = [
        Point("AE", around(0.004, 1e-4), around(0.9, 0.1)),
        Point("β = 0", around(0.0041, 1e-4), around(strokes, 0.1), 0.0),
        Point("β = 1", around(0.07, 1e-4), around(0.0, 0.1), 1.0),
    ]
    text = captions.matched_mse(points)
    assert f"error, β = 0, has +{strokes:.2f} at 0.0041: {words}" in text


@pytest.mark.parametrize(
    ("this", "ae", "words"),
    [
        ((0.8, 0.7), (0.95, 0.75), "is more stable"),  # the loss counts, not what is left
        ((0.95, 0.6), (0.8, 0.7), "is less stable"),
        ((0.9, 0.7), (0.9, 0.7), "do not differ"),
    ],
)
def test_stability_follows_the_numbers(this, ae, words, monkeypatch):
    monkeypatch.setattr(archive, "join", lambda evidence, runs: [evidence])
    numbers = {
        role: {"probe_1000": around(clean, 0.001), "probe_noise_1": around(noisy, 0.001)}
        for role, (clean, noisy) in {"this": this, "ae": ae}.items()
    }
    text = captions.stability(numbers, {"this": SimpleNamespace(beta=0.1)})
    assert words in text and f"{100 * (this[0] - this[1]):.0f} percentage points" in text


def test_the_best_and_the_worst_code_are_named():
    assert captions.few_labels(CODES).startswith("With 100 labels a linear probe is most accurate")
    assert "on β = 0.1 (80.0\u00a0%) and least accurate on PCA (40.0" in captions.few_labels(CODES)


def test_monotonicity_names_the_steps_that_go_the_wrong_way():
    def point(mse_step, rate_step):
        return {"mse_step": Estimate(*mse_step), "rate_step": Estimate(*rate_step)}

    curve = {
        0.1: {},
        0.2: point((0.01, 0.009, 0.011), (-1.0, -1.1, -0.9)),
        0.5: point((-0.01, -0.011, -0.009), (0.5, 0.4, 0.6)),
        1.0: point((-0.01, -0.03, 0.01), (1e-6, 0.9e-6, 1.1e-6)),  # unsure, and rounding
    }
    text = captions.monotonicity(curve)
    assert "significantly, on the step to β = 0.5." in text
    assert "increases significantly on the step to β = 0.5." in text
    del curve[0.5]
    assert "never decreases significantly, and the rate never" in captions.monotonicity(curve)


def test_latents_that_become_active_again_are_counted():
    betas = [0.1, 0.2, 0.5, 1.0]
    rates = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.05, 0.0], [0.0, 0.0]])
    text = captions.inactive_latents(betas, rates)
    assert "2 at β = 0.1, 1 at β = 0.2, 0 at β = 0.5, 0 at β = 1." in text
    assert "None that has become inactive" in text
    rates[3, 1] = 0.5
    assert "1 of the 2 become active again" in captions.inactive_latents(betas, rates)


def test_one_network_is_compared_with_separate_trainings():
    names = {"rate": lambda b: 64.0, "pixel_variance": lambda b: 2.0}
    archived = swept(mse_sample=lambda b: 0.02 + b, **names)
    run = SimpleNamespace(recipe=recipe("multi_rate"), made={"seconds": 30.0}, latent_dim=64)
    separate = SimpleNamespace(recipe=recipe("vae"))
    curve = {
        beta: {
            "mse_sample": around(factor * (0.0201 + 2 * beta) - beta * rate / 64, 0),
            "rate": around(rate, 0),
        }
        for beta, factor, rate in (
            (0.001, 1.01, 64.0),
            (0.1, 0.95, 32.0),
            (0.2, 1.0, 64.0),
            (1.0, 1.1, 96.0),
        )
    }
    text = captions.separate_trainings(run, separate, curve, archived)
    assert text.startswith("At 2 of 3 archived values of β") and "2\u00a0% above" in text
    assert "at β = 0.1 it is 32 nats (separately 64), at β = 1 it is 96 (64)" in text
    assert "At β = 1 its objective is larger than that of the mean image" in text
    assert "from -5.0 % (β = 0.1) to +10.0 % (β = 1)" in text and "for 2.0 times" in text
    run.recipe = recipe("multi_rate", dataset="FashionMNIST")
    assert "no separate trainings" in captions.separate_trainings(run, separate, curve, archived)
    numbers = {b: estimates() | curve[b] for b in curve}
    assert "| – | – |" in tables.every_beta_table(run, numbers, archived)


def test_the_classifier_is_described_with_the_data_set_s_noun():
    images = SimpleNamespace(noun="garment", test_images=range(10_000))
    text = captions.classifier(estimates(accuracy=0.991), images)
    assert "99.1\u00a0% [99.1\u00a0%, 99.1\u00a0%] of the held-out garments" in text
    assert "one half of the held-out images and the other" in text


# --- tables ---


def columns(table: str) -> set[int]:
    return {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}


def test_the_table_of_verdicts_has_a_row_and_a_link_for_each_claim():
    seeds = {tables.REPORT: [evidence(), evidence()], tables.BUILD: [evidence()]}
    table = tables.verdicts_table(QUESTIONS, dict.fromkeys(QUESTIONS, seeds))
    names = re.findall(r"\| \[(C\d\.\d)\]\((\w+)\.ipynb\)", table)
    assert [name for name, _ in names] == list(CASES)
    assert dict(names)["C5.3"] == "representations" and dict(names)["C6.1"] == "beta_tuned"
    assert columns(table) == {5} and len(table.splitlines()) == 20
    assert table.count("●") + table.count("○") == 2 * len(CASES)  # of more than one training


FINDINGS = [  # question, and a change of one role's numbers by which its finding is not borne
    ("Q1", "ae", "r_squared", 0.1),
    ("Q1", "ae", "recognised_prior", 0.5),
    ("Q1", "ae", "fid_mixture", 450.0),
    ("Q2", "this", "same_label", 0.9),
    ("Q2", "this", "recognised_prior", 0.5),
    ("Q2", "this", "fid_mixture", 0.45),
    ("Q3", "this", "rate", 5.0),
    ("Q3", "this", "mse_sample", 0.4),
    ("Q3", "this", "mse_sample", 0.6),
    ("Q4", "this", "sharpness_prior", 0.9),
    ("Q4", "low", "mse_sample", 0.9),
    ("Q4", "low", "fid_prior", 0.1),
    ("Q5", "ae", "extra_strokes_0.5", 0.0),
    ("Q5", "ae", "midpoint_sharpness", 0.1),
]
BORNE = {
    "ae": CASES["C1.1"][0]["ae"]
    | CASES["C1.2"][0]["ae"]
    | CASES["C1.3"][0]["ae"]
    | {"extra_strokes_0.5": 0.9, "midpoint_sharpness": 0.9},
    "low": {"mse_sample": 0.01, "fid_prior": 0.9},
    "high": {"fid_prior": 0.9},
}


@pytest.mark.parametrize(("question", "role", "name", "value"), FINDINGS)
def test_a_finding_is_said_only_where_the_checks_bear_it(question, role, name, value):
    this = {
        "Q2": CASES["C2.2"][0]["this"] | {"fid_mixture": 0.1, "mse_mean": 0.5, "same_label": 0.99},
        "Q3": {"rate": 0.001},
        "Q4": {"recognised_prior": 0.1, "sharpness_prior": 0.3},
        "Q5": {"extra_strokes_0.5": 0.1, "midpoint_sharpness": 0.5},
    }.get(question, {})

    def found(**changes):
        roles = BORNE | {"this": this} | changes
        columns = {question: {tables.BUILD: [evidence(**roles)]}}
        return tables.findings({question: QUESTIONS[question]}, columns).splitlines()[2]

    borne = found()
    changed = found(**{role: (BORNE | {"this": this})[role] | {name: value}})
    assert ".<br>C" in borne and "?](" in borne
    assert "<br>" not in changed and changed.count("verdict-") == len(QUESTIONS[question].claims)


@pytest.mark.parametrize(
    ("question", "this", "said"),
    [
        ("Q2", {"mse_mean": 0.9, "same_label": 0.99}, "easy to read, if with a larger error"),
        ("Q4", {"recognised_prior": 0.97, "sharpness_prior": 0.3}, "Most samples pass for digits"),
    ],
)
def test_findings_by_the_reports_recipe(question, this, said):
    if question == "Q2":
        this = CASES["C2.2"][0]["this"] | {"fid_mixture": 0.1} | this
    columns = {question: {tables.BUILD: [evidence(**BORNE | {"this": this})]}}
    assert said in tables.findings({question: QUESTIONS[question]}, columns)


def test_what_the_report_argues_in_words_only_is_no_question_of_its():
    columns = {"Q6": {tables.BUILD: [evidence()]}}
    assert len(tables.findings({"Q6": QUESTIONS["Q6"]}, columns).splitlines()) == 2


def test_tables_of_metrics_have_a_dash_where_a_model_has_none():
    soft = estimates(**{"extra_strokes_0.5": 0.25})
    del soft["extra_strokes_0.5_matched"], soft["rate"]
    table = tables.midpoints_table({"AE": estimates(), "β = 0.2": soft})
    assert [line.split(" | ")[1:3] for line in table.splitlines()[2:]] == [
        ["+0.50", "+0.50"],
        ["+0.25", "–"],
    ]
    models = tables.models_table(
        {"AE": soft, "real images": {"fid_prior": around(5.2, 0)}}, {"AE": {"samples": "PNG"}}
    )
    assert "base64,PNG" in models and 'alt="samples of AE"' in models and "rate, nats" in models
    assert "5.2 |" in models.splitlines()[3]
    closer = tables.closer_look_table({"one": estimates(), "separate": estimates()})
    assert "| FID of samples | 0.5 [0.5, 0.5] | 0.5 [0.5, 0.5] |" in closer
    assert all(len(columns(each)) == 1 for each in (table, models, closer))


def test_columns_have_names_where_a_phone_has_them_one_below_the_other():
    seeds = {tables.REPORT: [evidence()], tables.BUILD: [evidence()]}
    claims = QUESTIONS["Q1"].claims
    both = tables.claims_table(claims, seeds)
    for title in seeds:
        assert both.count(f'<span data-column="{title}"></span>') == len(claims)
    assert "data-column" not in tables.claims_table(claims, {tables.BUILD: [evidence()]})


def test_it_is_said_which_models_the_columns_are_about():
    both, one = {"Q1": {tables.REPORT: [], tables.BUILD: []}}, {"Q1": {tables.BUILD: []}}
    assert "It decides." in captions.columns_of_claims(both)
    assert "It decides." not in captions.columns_of_claims(one)


def test_probes_become_panels_and_lines():
    panels = report.label_panels(CODES, {"β = 0.1": 0.1}, 512)
    assert [panel.title for panel in panels] == ["linear probe", "nearest neighbours"]
    assert [list(line.values) for line in panels[0].series] == [[10, 100, 512]] * 3
    assert [line.beta for line in panels[1].series] == [None, None, 0.1]
    pixels = {"pixels": {"probe_1000": around(0.9, 0)}}  # are not probed under noise
    lines = report.noise_series(CODES | pixels, {})
    assert [line.label for line in lines] == list(CODES)
    assert list(lines[0].values) == [0.0, 0.5, 1.0]


# --- what is shown ---


@pytest.fixture
def published(monkeypatch):
    """The outputs of this test: (role, text) of Markdown, data of others."""
    outputs = []

    def keep(shown, raw=False, metadata=None):
        data = shown.get("text/markdown", shown) if raw else shown
        outputs.append(((metadata or {}).get("vae_nb"), data))

    monkeypatch.setattr(display, "display", keep)
    return outputs


@pytest.fixture
def archived_run():
    """``archived_run(beta, seed) -> (run, numbers)``: an archived run, as if this build had it."""

    def take(beta: float = 0.1, seed: int = 0, **changes):
        (row,) = (r for r in archive.load().of("vae", beta) if r.recipe.seed == seed)
        fitted = dataclasses.replace(row.recipe, **changes)
        return Run(fitted, None, None, {}, ""), dict(row.measured)

    return take


def test_an_answer_is_shown_with_figure_claims_and_basis(published, archived_run):
    roles = {"this": (0.1, {}), "low": (0.01, {}), "high": (0.2, {}), "zero": (0.0, {})}
    runs, found = {}, {"real": estimates()}
    for role, (beta, changes) in roles.items():
        runs[role], found[role] = archived_run(beta, **changes)
    (row, *_) = archive.load().of("ae")
    runs["ae"], found["ae"] = Run(row.recipe, None, None, {}, ""), row.measured
    runs = {
        role: SimpleNamespace(recipe=run.recipe, beta=run.recipe.beta) for role, run in runs.items()
    }
    report.answer("Q4", "the figure", found, runs)
    assert [role for role, _ in published] == ["answer", None, "text", "claims", "basis"]
    text, figure, below, table, basis = (data for _, data in published)
    assert "at β = 0.1 (the report's own)" in text and figure == "the figure"
    assert below.startswith("**Is it the best β?**") and "***" not in text + below
    assert len(table.splitlines()) == 2 + len(QUESTIONS["Q4"].claims)
    keys = QUESTIONS["Q4"].models.values()
    seeds = [{row.recipe.seed for row in archive.load().of(*key)} for key in keys]
    assert f"over {len(set.intersection(*seeds))} trainings" in basis


def test_the_basis_says_what_is_old_and_what_is_missing(published, archived_run, monkeypatch):
    run, numbers = archived_run()
    everywhere = [row.measured.keys() for row in archive.load().of("vae", 0.1)]
    numbers = {name: numbers[name] for name in numbers if all(name in each for each in everywhere)}
    monkeypatch.setattr(archive, "stale", lambda rows: list(rows))
    display.show_basis({"this": numbers}, {"this": run})
    assert "by earlier code" in published[-1][1] and "Not all" not in published[-1][1]
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    display.show_basis({"this": numbers | {"accuracy": around(1.0, 0)}}, {"this": run})
    assert "earlier" not in published[-1][1] and "Not all of them" in published[-1][1]
    longer, _ = archived_run(epochs=7)
    display.show_basis({"this": numbers}, {"this": longer})
    assert "for one training of each model" in published[-1][1]
    assert {role for role, _ in published} == {"basis"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_stands_beside_a_figure_is_short(question):
    """At most 120 words and four numbers, of what the archive has (counts and betas aside)."""
    asked, archived = QUESTIONS[question], archive.load()
    numbers = {
        role: next(row.measured for row in archived.of(*key)) for role, key in asked.models.items()
    }
    text = answer(question, numbers | {"real": estimates()}).partition("***")[0]
    prose = re.sub(r"\$[^$]*\$|β = [\d.]+|\d+(,\d+)* (pairs|labels)|[*_]", "", text)
    assert len(prose.split()) <= 120, text
    assert len(re.findall(r"\d[\d.,]*", prose)) <= 4, text


def test_an_outlier_is_on_the_page(published, archived_run, monkeypatch):
    monkeypatch.setattr(archive, "stale", lambda rows: [])
    run, numbers = archived_run()
    far = numbers | {"rate": around(500.0, 0)}
    display.show_basis({"this": far}, {"this": run})
    assert [role for role, _ in published] == ["basis", "outlier"]
    assert re.search(r"rate is 500, an outlier\. The archive predicts 9\.\d+ \[", published[1][1])
    longer, _ = archived_run(epochs=7)
    display.show_basis({"this": far}, {"this": longer})
    assert [role for role, _ in published] == ["basis", "outlier", "basis"]


def test_a_recipe_that_will_collapse_is_announced(published, monkeypatch, capsys):
    variances = torch.full((objective.PIXELS,), 0.2 * objective.PIXELS / 64)
    monkeypatch.setattr(display, "pixel_eigenvalues", lambda _: variances)
    recipes = [recipe("ae"), recipe("vae", 0.3), recipe("vae", 0.3, latent_dim=2)]
    facts = [
        {"recipe": r, "beta": r.beta, "latent_dim": r.latent_dim, "dataset": None} for r in recipes
    ]
    made = [{}, {"archived": True}, {}]
    report.show_recipes(*(SimpleNamespace(made=m, **f) for m, f in zip(made, facts, strict=True)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith(", archived") for line in lines] == [False, True, False]
    ((role, text),) = published
    assert role == "text"
    assert text == (
        "At β = 0.3 a linear VAE with 2 latents loses its whole code (from β = 0.0125 on): expect "
        "a collapsed model."
    )


def test_an_instant_model_says_how_it_was_made(published, monkeypatch):
    monkeypatch.setattr(display, "pixel_eigenvalues", lambda _: torch.full((784,), 1e6))
    recipes = [recipe("vae", beta, "instant") for beta in (1e-5, 0.3, 20)]
    same = {"latent_dim": 64, "made": {}, "dataset": None}
    show = [SimpleNamespace(recipe=r, beta=r.beta, **same) for r in recipes]
    report.show_recipes(*show)
    ((_, text),) = published
    assert "at β = 1e-05, 0.3 and 20, training began with the [network of all β]" in text
    assert "β = 1e-05 lies outside of that network’s range" in text and "β = 0.0001." in text
    assert "β = 20 lies outside" in text and text.endswith("β = 10.")
    published.clear()
    report.show_recipes(*show[1:2])
    assert "outside" not in published[0][1]


def test_a_role_shows_what_criteria_and_answer_read():
    shown = report.shows("Q3", "this")
    assert {"rate", "sharpness_sampled", "pixel_variance"} <= shown  # criteria
    assert "mse_mean" in shown and "elbo" not in shown
    assert report.shows("Q2", "real") >= {"recognised_prior"}  # the template alone


def test_the_threshold_of_collapse_is_that_of_the_data(mnist, monkeypatch):
    run = SimpleNamespace(dataset=mnist, latent_dim=2)
    expected = pytest.approx(objective.collapse_beta(mnist.train_images, 2))
    assert report.collapse_beta(run) == expected
    monkeypatch.setattr(objective, "pixel_covariance", None)  # not computed twice
    assert report.collapse_beta(run) == expected
    other = SimpleNamespace(dataset=mnist.first(500), latent_dim=2)
    with pytest.raises(TypeError):
        report.collapse_beta(other)


def test_numbers_are_published_for_programs(published):
    report.publish({"rate": around(9.5, 1), "elbo": around(1.0, 1)}, 0.1)
    ((role, data),) = published
    assert role == "measured"
    assert json.dumps(data[display.MEASURED]) == '{"beta": 0.1, "rate": 9.5, "elbo": 1.0}'


def test_a_test_that_was_changed_afterwards_is_on_the_page(published, monkeypatch):
    report.show_changes()
    assert published == []
    monkeypatch.setattr(report, "CHANGED", {"C4.4": "the slope was read in the wrong unit."})
    report.show_changes()
    ((role, text),) = published
    assert role == "basis" and text.startswith("The tests of C4.4 were changed after")
    assert text.endswith("wrong unit.")


def test_lists_and_numbers_read_well():
    assert templates.listing([0.1]) == "0.1" and templates.listing(["a", "b"]) == "a and b"
    assert templates.listing([1e-4, 0.5, 10]) == "0.0001, 0.5 and 10"
    shown = templates.shown({"mse_mean": around(0.00331, 1e-5), "not a metric": around(1, 0)})
    assert list(shown) == ["mse_mean"]
    assert (str(shown["mse_mean"]), shown["mse_mean"].range) == ("0.00331", "[0.0033, 0.00332]")


def test_every_data_set_has_words_for_the_texts():
    assert all(each.noun for each in SPECIFICATIONS.values())
    assert len(set(itertools.chain(*(q.models for q in QUESTIONS.values())))) == 5
