"""What do we say? The answer to each inline question, its prose chosen by what was measured.

A chapter that is run again with another beta must say nothing false, so every sentence that a
measurement could contradict has its alternatives here. Evidence is that of ``claims``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from IPython.display import display

from vae_nb.claims import (
    CLAIMS,
    FEW,
    GROWTH,
    SHARP,
    Claim,
    Evidence,
    difference,
    growth,
    mse_over_autoencoder,
    number,
    ratio,
)
from vae_nb.evaluation.interval import Measured
from vae_nb.figures import LiveFigure

CHAPTERS = {
    "Q1": "autoencoder",
    "Q2": "beta_zero",
    "Q3": "beta_ten",
    "Q4": "beta_tuned",
    "Q5": "interpolation",
}


class _Words:
    """Numbers as a template writes them: ``{ae.mse_mean}``, ``{ae.percent.same_label}``."""

    def __init__(self, measured: Mapping[str, Measured], in_percent: bool = False) -> None:
        self._measured, self._in_percent = measured, in_percent

    @property
    def percent(self) -> _Words:
        return _Words(self._measured, in_percent=True)

    def __getattr__(self, name: str) -> str:
        value = self._measured[name].value
        return f"{100 * value:.0f}\u00a0%" if self._in_percent else number(value)


def _fill(template: str, evidence: Evidence, **words: str) -> str:
    roles = {role: _Words(measured) for role, measured in evidence.items()}
    return template.strip().format(**roles, **words)


def _run_with(beta: float, of_report: float) -> str:
    same = "as in the report" if beta == of_report else f"the report has β = {of_report:g}"
    return f"β = {beta:g} ({same})"


def _by_sign(measured: Measured, positive: str, negative: str, unclear: str) -> str:
    return positive if measured.low > 0 else negative if measured.high < 0 else unclear


def q1(evidence: Evidence) -> str:
    """Q1: what do samples of the autoencoder look like, and why?"""
    ae = evidence["ae"]
    repaired = ratio(ae["fid_mixture"], ae["fid_prior"]).high < 0.5
    return _fill(
        """
**What we see.** The autoencoder reconstructs: {ae.percent.r_squared} of the pixel variance of
held-out images is explained, and {ae.percent.same_label} of the reconstructions are read as the
same class. Its samples from $z \\sim N(0, I)$ are {poor}: our classifier names
{ae.percent.confident_prior} of them with confidence (of real images {floor.percent.confident}).

**Why.** Nothing in its objective says *where* codes should lie. The encoder put them at a distance
of {ae.prior_gap} from $N(0, I)$ per latent (0 would be the prior), so that a random code may land
where no image was mapped, and nobody asked the decoder what to draw there.

**A test of this** is the right half of the figure. The decoder is the same; only the codes come
from a mixture of ten Gaussians that was fitted to the training codes. The Fréchet distance (FID) to
held-out images goes from {ae.fid_prior} to {ae.fid_mixture} and the share named with confidence to
{ae.percent.confident_mixture}: {proof}.
""",
        evidence,
        poor="poor" if ae["confident_prior"].high < FEW else "better than one would expect",
        proof="the decoder was not at fault, the prior did not match"
        if repaired
        else "the mismatched prior is not the whole reason",
    )


def q2(evidence: Evidence, beta: float) -> str:
    """Q2: what can be observed at beta = 0, and why?"""
    this = evidence["this"]
    over = mse_over_autoencoder(evidence)
    alike = over.low >= 0.9 and over.high <= 1.1
    return _fill(
        """
**What we see,** at {run}. The reconstructions are {alike} the autoencoder's: the held-out error is
{this.mse_mean} against {ae.mse_mean}. Samples from the prior are {poor}: the classifier names
{this.percent.confident_prior} of them with confidence (autoencoder: {ae.percent.confident_prior}).
The KL {rising}: the rate is {this.rate_at_half} nats at half-time and {this.rate_at_end} nats at
the end of the training.

**Why.** {price}. {lesson}: their distance to $N(0, I)$ is {this.prior_gap} per latent (autoencoder:
{ae.prior_gap}).
""",
        evidence,
        run=_run_with(beta, 0),
        alike="almost" if alike else "not quite",
        poor="poor" if this["confident_prior"].high < FEW else "not all poor",
        rising="keeps rising"
        if this["rate_slope"].low > 0 and growth(evidence, "this").low > GROWTH
        else "still rises"
        if this["rate_slope"].low > 0
        else "does not keep rising",
        price="With β = 0 only the reconstruction is left in the objective. Nothing pays for the "
        "KL, so the encoder turns its noise down and spreads its means until the noise no longer "
        "disturbs"
        if beta == 0
        else f"With β = {beta:g} every nat of the KL has a price, and the encoder weighs it "
        "against the error that it saves",
        lesson="A VAE without a price on its KL is an autoencoder with a little noise in its code, "
        "and its codes do not follow the prior either"
        if alike
        else "It is the objective that decides where the codes lie",
    )


def q3(evidence: Evidence, beta: float) -> str:
    """Q3: what can be observed at beta = 10, and why?"""
    this = evidence["this"]
    active = round(this["active_units"].value)
    collapsed = active == 0
    mean_image = 0.95 < ratio(this["mse_sample"], this["pixel_variance"]).value < 1.05
    return _fill(
        """
**What we see,** at {run}. Sampled reconstructions have {this.percent.sharpness_sampled} of the
sharpness of real images, samples {this.percent.sharpness_prior}. The rate is {this.rate} nats.
{story}. The error of a sampled reconstruction is {this.mse_sample}; always answering with the mean
image gives {this.pixel_variance}{same}.

**Why.** {why}.{trap}
""",
        evidence,
        run=_run_with(beta, 10),
        story="“Blurred” is too kind: the posterior has **collapsed**. Every image gets the same "
        "posterior, the prior itself, and the code carries nothing"
        if collapsed
        else f"{active} of the latents vary with the image",
        same=", which is the same" if mean_image else "",
        why=f"At β = {beta:g} no latent is worth its price. The best answer that needs no code is "
        "the mean image, which is what every sampled reconstruction and every sample shows"
        if collapsed and mean_image
        else f"Either no latent is worth its price at β = {beta:g}, or this training was too short "
        "for one to be. A code that carries nothing leaves the decoder with one picture for all"
        if collapsed
        else f"At β = {beta:g} a latent is kept only while the error that it saves is worth its "
        "KL. What is too expensive to say is left out, and what is left out looks blurred"
        if beta > 0
        else "At β = 0 the code is free, so nothing is left out for its price",
        trap="\n\n*Mind the batch normalisation:* in training the decoder has only seen noisy "
        f"codes. Decoding the posterior mean has an error of {number(this['mse_mean'].value)}, "
        f"*worse* than the {number(this['mse_sample'].value)} of decoding a sample."
        if this["mse_mean"].low > this["mse_sample"].high
        else "",
    )


def q4(evidence: Evidence, beta: float, low: float, high: float) -> str:
    """Q4: what is expected of a well-tuned VAE, and is this one?"""
    this = evidence["this"]
    models = {low: evidence["low"], beta: this, high: evidence["high"]}
    fids = {b: measured["fid_prior"].value for b, measured in models.items()}
    errors = {b: measured["mse_sample"].value for b, measured in models.items()}
    named = {b: measured["confident_prior"].value for b, measured in models.items()}
    best = min(fids, key=fids.__getitem__)
    rivals = [b for b in models if models[b]["fid_prior"].low <= models[best]["fid_prior"].high]
    return _fill(
        """
**What we expect.** A well-tuned VAE reconstructs what matters and lets samples from $N(0, I)$ pass
for data, because its codes fill the prior. The two wishes pull against each other.

**What we see,** at {run}. {this.percent.same_label} of the reconstructions keep their class, with
{this.percent.sharpness_reconstructions} of the sharpness of real images. The classifier names
{this.percent.confident_prior} of the samples with confidence; their sharpness is
{this.percent.sharpness_prior}{soft}. The codes are {this.prior_gap} per latent away from $N(0, I)$
(autoencoder: {ae.prior_gap}). The KL {settled}: the rate is {this.rate_at_half} nats at half-time
and {this.rate_at_end} at the end.

**Is it the best β?** That depends on what is asked. Of the three here sampled reconstructions are
closest at β = {closest}; they must be at the lowest if training finds the optimum. Samples are
nearest to the data, by FID, at β = {best} ({listed}); the largest share of them is named with
confidence at β = {named}.
""",
        evidence,
        run=_run_with(beta, 0.1),
        soft="" if this["sharpness_prior"].low >= SHARP else ", visibly soft",
        settled="has settled" if growth(evidence, "this").high <= GROWTH else "has not settled",
        closest=f"{min(errors, key=errors.__getitem__):g}",
        best=" and ".join(f"{b:g}" for b in rivals)
        + (", which are not told apart" if len(rivals) > 1 else ""),
        named=f"{max(named, key=named.__getitem__):g}",
        listed=", ".join(f"{number(fid)} at {b:g}" for b, fid in fids.items()),
    )


def q5(evidence: Evidence, beta: float) -> str:
    """Q5: how do interpolations of autoencoder and VAE differ?"""
    this, ae = evidence["this"], evidence["ae"]
    breaks = difference(ae["extra_strokes_0.5"], this["extra_strokes_0.5"])
    return _fill(
        """
**What we see,** with {run}, at the midpoints of 1,000 pairs with different labels. {torn}: they
have {ae_strokes} strokes beyond those of their ends, the VAE's {vae_strokes}. Their sharpness,
relative to real images, is {ae.percent.midpoint_sharpness} for the autoencoder and
{this.percent.midpoint_sharpness} for the VAE. The classifier is in doubt by {ae.midpoint_entropy}
nats at the autoencoder's midpoints and by {this.midpoint_entropy} at the VAE's.

**Why.** A straight line between two codes of the autoencoder may cross a region to which no image
was mapped. {drawn} And mind the price: blur may hide breaks, and the VAE's reconstructions have an
error of {this.mse_mean} against {ae.mse_mean}.

**Is the code more useful?** A linear probe with 1,000 labels {useful}: {vae_probe} against
{ae_probe} for the autoencoder.
""",
        evidence,
        run=_run_with(beta, 0.1),
        torn=_by_sign(
            breaks,
            "The autoencoder's midpoints fall apart more often",
            "The autoencoder's midpoints do **not** fall apart more often",
            "The autoencoder's midpoints fall apart no more often than the VAE's",
        ),
        ae_strokes=f"{ae['extra_strokes_0.5'].value:+.2f}",
        vae_strokes=f"{this['extra_strokes_0.5'].value:+.2f}",
        drawn="The KL draws the VAE's posteriors together around the origin until they overlap, so "
        "that the line stays where the decoder has been trained."
        if this["prior_gap"].high < 0.1
        else "This VAE's codes do not follow the prior either, so its lines may do the same.",
        useful=_by_sign(
            difference(this["probe"], ae["probe"]),
            "reads the VAE's code better",
            "reads the VAE's code worse",
            "does not tell the two apart",
        ),
        vae_probe=f"{100 * this['probe'].value:.1f}\u00a0%",
        ae_probe=f"{100 * ae['probe'].value:.1f}\u00a0%",
    )


def show(answer: str, figure: LiveFigure, question: str, evidence: Evidence) -> None:
    """Publish an answer beside its live figure, and below both the report's claims.

    The book lays them out by the metadata; a notebook shows them one under the other.
    """
    _markdown(answer, "answer")
    display(figure)
    show_table(table([claim for claim in CLAIMS if claim.question == question], evidence))


def show_table(text: str) -> None:
    """Publish a table in its own container, which scrolls where the page is narrow."""
    _markdown(text, "claims")


def table(claims: Iterable[Claim], evidence: Evidence, chapter: str = "") -> str:
    """Claims, what was measured for each (with 95 % interval and threshold), and the verdicts.

    With ``chapter``, each name is a link to that chapter.
    """
    lines = ["| | the report says | measured here | verdict |", "| --- | --- | --- | --- |"]
    for claim in claims:
        name = f"[{claim.name}]({chapter}.ipynb)" if chapter else claim.name
        tests = "<br>".join(map(str, claim.tests(evidence)))
        lines.append(f"| {name} | {claim.says} | {tests} | {claim.verdict(evidence).pill} |")
    return "\n".join(lines)


def verdicts(evidence: Mapping[str, Evidence]) -> str:
    """All claims with their verdicts; ``evidence`` is by question."""
    head, rows = [], []
    for question, chapter in CHAPTERS.items():
        claims = [claim for claim in CLAIMS if claim.question == question]
        lines = table(claims, evidence[question], chapter).splitlines()
        head, rows = lines[:2], rows + lines[2:]
    return "\n".join(head + rows)


def runs_table(models: Mapping[str, Mapping[str, Measured]]) -> str:
    """The measured figures of several models, a row each."""
    columns = {
        "MSE of the mean": "mse_mean",
        "MSE of a sample": "mse_sample",
        "rate, nats": "rate",
        "active units": "active_units",
        "sharp recon\u00adstructions": "sharpness_reconstructions",
        "sharp samples": "sharpness_prior",
        "FID of samples": "fid_prior",
        "samples named": "confident_prior",
    }
    shares = ("sharpness_reconstructions", "sharpness_prior", "confident_prior")
    lines = ["| model | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for label, measured in models.items():
        words = _Words(measured)
        cells = [
            getattr(words.percent if key in shares else words, key) if key in measured else "–"
            for key in columns.values()
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rate_and_error(measured: Mapping[str, Measured]) -> str:
    """The rate and the squared error (of a sample) of a model, as two short lines."""
    rate = f"{number(measured['rate'].value)} nats" if "rate" in measured else "no KL"
    return f"{rate}\n{measured['mse_sample'].value:.4f}"


def what_beta_does(models: Mapping[str, Mapping[str, Measured]]) -> str:
    """One sentence on the range of rates and errors over models."""
    rates = [measured["rate"].value for measured in models.values() if "rate" in measured]
    errors = [measured["mse_sample"].value for measured in models.values()]
    return (
        f"Over these models the rate goes from {number(max(rates))} to {number(min(rates))} nats, "
        f"the squared error from {min(errors):.4f} to {max(errors):.4f}."
    )


def publish(measured: Mapping[str, Measured], beta: float | None) -> None:
    """Publish the numbers of a run for programs (``vae_nb.rerun`` compares runs by them).

    MIME type ``application/vnd.vae-nb.measured+json``; pages and notebooks show nothing for it.
    """
    numbers = {name: value.value for name, value in measured.items()}
    display(
        {"application/vnd.vae-nb.measured+json": {"beta": beta, **numbers}},
        raw=True,
        metadata={"vae_nb": "measured"},
    )


def _markdown(text: str, role: str) -> None:
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata={"vae_nb": role})
