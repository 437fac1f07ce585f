"""What figures and tables show: the facts of the sentences in ``captions.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from vae_nb import archive
from vae_nb.archive import Archive, Evidence, Numbers
from vae_nb.data import Dataset
from vae_nb.figures import Point
from vae_nb.metrics import paths
from vae_nb.metrics.intervals import Estimate, difference
from vae_nb.report import templates
from vae_nb.report.q4_beta_tuned import QUESTION as TUNED
from vae_nb.report.q6_probes import STABLE, extremes, noise_loss
from vae_nb.report.templates import Shown, shown
from vae_nb.runs import Run

SMALL_RATE = 0.1  # nats: a code, or a latent, that carries less counts as inactive
NEAR = 0.02  # of the objective: a network for every beta is that near to separate ones
OTHER_SPACES = ("components", "untrained")  # of features; they decide no claim
ROUNDING = 0.01  # nats: a rate that increases by less has not increased

Curve = Mapping[float, Numbers]  # by beta


def _text(macro: str, **facts: Any) -> str:
    return templates.macro("captions.md", macro, **facts)


def columns_of_claims(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """What the columns of the table of all claims are; ``columns`` are by question."""
    return _text("columns_of_claims", archived=all(len(each) > 1 for each in columns.values()))


def classifier(real: Numbers, dataset: Dataset) -> str:
    """How good the classifier is that evaluates samples, and what it says of real images."""
    return _text("classifier", real=shown(real), noun=dataset.noun)


def range_of_beta(vaes: Curve) -> str:
    """Rates and errors at the lowest and at the highest beta."""
    low, high = min(vaes), max(vaes)
    ends = {"at_low": shown(vaes[low]), "at_high": shown(vaes[high])}
    return _text("range_of_beta", low=low, high=high, **ends)


def rate_distortion(archived: Archive) -> str:
    """What the archived rate-distortion curve shows."""
    names = ("rate", "mse_sample")
    vaes = {
        beta: {name: archived.pooled("vae", beta, name) for name in names}
        for beta in archived.betas
        if beta > 0
    }
    steps = {high: archived.step("mse_sample", low, high) for low, high in pairwise(vaes)}
    falls = [beta for beta, step in steps.items() if step.high < 0]
    return f"{range_of_beta(vaes)} {_text('decreases', falls=falls)}"


def lowest_fid(archived: Archive) -> str:
    """At which beta the samples are closest to the data."""
    best, rivals = archived.best("fid_prior"), archived.rivals("fid_prior")
    fid = _pooled(archived, "vae", best, "fid_prior")["fid_prior"]
    return _text("lowest_fid", best=best, fid=fid, rivals=rivals)


def three_betas(archived: Archive, own: float) -> str:
    """The best beta for samples beside the next lower one, the calibrated one, and the likeliest.

    ``own`` is the page's.
    """
    best, report = archived.best("fid_prior"), TUNED.models["this"][1]
    lower = max((beta for beta in archived.betas if beta < best), default=best)
    names = ("fid_prior", "sharpness_prior", "recall_prior", "log_likelihood")
    at = {beta: _pooled(archived, "vae", beta, *names) for beta in archived.betas}
    likely = archived.best("log_likelihood")
    of_learned = _pooled(archived, "sigma_vae", 0.0, "log_likelihood")
    return _text(
        "three_betas",
        best=best,
        report=report,
        own=own,
        lower=lower,
        alike=lower in archived.rivals("fid_prior"),
        report_alike=report in archived.rivals("fid_prior"),
        by_features=[archived.best(f"fid_prior_{space}") for space in OTHER_SPACES],
        likely=likely,
        learned=archived.learned(),
        learned_likelihood=of_learned,
        below=of_learned["log_likelihood"].value < at[likely]["log_likelihood"].value,
        at=at,
    )


def collapse(archived: Archive, zero_from: float, small_from: float) -> str:
    """Between which betas the code becomes inactive, beside the linear VAE.

    The linear VAE's rate is zero from ``zero_from`` on, below SMALL_RATE from ``small_from`` on.
    """
    above, below = archived.crossing("rate", SMALL_RATE)
    linear = {"zero_from": zero_from, "small_from": small_from, "rate": SMALL_RATE}
    when = {"earlier": below < small_from, "later": above > small_from}
    return _text("collapse", above=above, below=below, **linear, **when)


def strip(archived: Archive) -> str:
    """What the strip of archived images shows, and from which beta on they are all alike."""
    active = archived.against_beta("active_units")
    return _text("strip", inactive=[beta for beta, units in active.items() if units.value == 0])


def matched_strokes(measured: Mapping[str, Numbers]) -> str:
    """Whether the autoencoder has extra strokes left when all models are blurred to one error.

    ``measured`` has the numbers by label, the autoencoder first.
    """
    name = "extra_strokes_0.5_matched"
    matched = {label: numbers[name] for label, numbers in measured.items() if name in numbers}
    own = matched.pop(next(iter(measured)), None)
    gaps = {label: difference(own, its) for label, its in matched.items()} if own else {}
    return _text("matched_strokes", error=paths.MATCHED_ERROR, **_by_sign(gaps))


def matched_mse(points: Sequence[Point]) -> str:
    """The autoencoder, the first point, beside the VAE that is nearest to it in error.

    Points have the squared error as x and the extra strokes at midpoints as y.
    """
    own, *others = points
    vae = min(others, key=lambda point: abs(point.x.value - own.x.value))
    its, their = (shown({"mse_mean": p.x, "extra_strokes_0.5": p.y}) for p in (own, vae))
    signs = _by_sign({vae.label: difference(own.y, vae.y)})
    return _text("matched_mse", own=its, nearest=their, label=vae.label, **signs)


def few_labels(codes: Mapping[str, Numbers]) -> str:
    """On which codes a probe with 100 labels is most and least accurate."""
    return _text("few_labels", **extremes(codes))


def stability(evidence: Evidence, runs: Mapping[str, Run]) -> str:
    """Whether noise in the codes costs the VAE's probe less than the autoencoder's."""
    losses = {role: noise_loss(role).of(evidence) for role in ("this", "ae")}
    check = STABLE.check(archive.join(evidence, runs))
    return _text("stability", check=check, beta=runs["this"].beta, **losses)


# --- one network for every beta ---


def separate_trainings(run: Run, separate: Run, curve: Curve, archived: Archive) -> str:
    """How close a multi-rate VAE comes to separate trainings, and at what cost."""
    ratios = archived.over_separate(curve, run.recipe)
    return _text(
        "separate_trainings",
        count=len(ratios),
        near=sum(ratio <= 1 + NEAR for ratio in ratios.values()),
        tolerance=NEAR,
        gaps=sorted((ratio - 1, beta) for beta, ratio in ratios.items()),
        rates=_far_rates(curve, archived, list(ratios)),
        wasted=[
            beta
            for beta in ratios
            if archive.objective(curve[beta], beta, run.latent_dim)
            > archived.pooled("vae", beta, "pixel_variance").value
        ],
        cost=run.recipe.epochs / separate.recipe.epochs,
    )


def _far_rates(
    curve: Curve, archived: Archive, betas: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Where the rate is furthest below and above that of separate trainings: beta and both rates.

    Rates of collapsed models are left out: any two of them are far apart, relatively.
    """
    rates = [(b, curve[b]["rate"].value, archived.pooled("vae", b, "rate").value) for b in betas]
    some = [each for each in rates if max(each[1:]) > SMALL_RATE]
    some.sort(key=lambda each: each[1] / max(each[2], 1e-9))  # a rate may be rounded below 0
    return [some[0], some[-1]] if len(some) > 1 else []


def monotonicity(curve: Curve) -> str:
    """At which steps of a curve the distortion decreases, or the rate increases, significantly."""
    steps = list(curve)[1:]
    falls = [beta for beta in steps if curve[beta]["mse_step"].high < 0]
    rises = [beta for beta in steps if curve[beta]["rate_step"].low > ROUNDING]
    return _text("monotonicity", count=len(curve), falls=falls, rises=rises)


def inactive_latents(betas: Sequence[float], rates: Tensor) -> str:
    """How the latents become inactive, one after another; ``rates`` is ``(len(betas), M)``."""
    active = rates > SMALL_RATE
    places = [0, len(betas) // 3, 2 * len(betas) // 3, len(betas) - 1]
    counts = [(betas[place], int(active[place].sum())) for place in places]
    again = int((active[1:] & ~active[:-1]).any(0).sum())
    of_all = {"again": again, "latents": rates.shape[1]}
    return _text("inactive_latents", rate=SMALL_RATE, counts=counts, **of_all)


def _pooled(archived: Archive, model: str, beta: float, *names: str) -> dict[str, Shown]:
    return shown({name: archived.pooled(model, beta, name) for name in names})


def _by_sign(gaps: Mapping[str, Estimate]) -> dict[str, list[str]]:
    """The labels by the sign of their estimate: "more", "fewer", and "alike" where it is unsure."""
    return {
        "more": [label for label, gap in gaps.items() if gap.low > 0],
        "fewer": [label for label, gap in gaps.items() if gap.high < 0],
        "alike": [label for label, gap in gaps.items() if gap.low <= 0 <= gap.high],
    }
