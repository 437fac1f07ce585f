"""What do we say? The answer to each inline question, its prose chosen by what was measured.

A chapter that is run again with another beta must say nothing false, so every sentence that a
measurement could contradict has its alternatives here. ``seeds`` is the evidence (see ``claims``)
of this build, then that of every other seed. All of them decide what is said; the numbers that are
written are those of this build, which the figure beside the answer shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from IPython.display import display

from vae_nb import archive
from vae_nb.archive import Archive
from vae_nb.claims import (
    CLAIMS,
    FEW,
    GROWTH,
    HARDLY_ANY,
    MANY,
    ROLES,
    SHARP,
    Claim,
    Evidence,
    difference,
    growth_of,
    mse_over_autoencoder,
    noise_costs,
    number,
    ratio,
)
from vae_nb.evaluation.downstream import COUNTS, NOISE
from vae_nb.evaluation.interval import Measured, over_seeds
from vae_nb.figures import LiveFigure
from vae_nb.objective import bits
from vae_nb.store import Run

CHAPTERS = {
    "Q1": "autoencoder",
    "Q2": "beta_zero",
    "Q3": "beta_ten",
    "Q4": "beta_tuned",
    "Q5": "interpolation",
}

# Claims with a chapter of their own.
MEASURED_IN = {"C5.3": "representations"}


Seeds = Sequence[Evidence]


def _over(seeds: Seeds, role: str, name: str) -> Measured:
    return over_seeds([evidence[role][name] for evidence in seeds])


def _across(seeds: Seeds, compare: Callable[[Evidence], Measured]) -> Measured:
    """What compares models, compared within every seed and joined over the seeds."""
    return over_seeds([compare(evidence) for evidence in seeds])


class _Words:
    """Numbers as a template writes them: ``{ae.mse_mean}``, ``{ae.percent.same_label}``."""

    def __init__(self, measured: Mapping[str, Measured], in_percent: bool = False) -> None:
        self._measured, self._in_percent = measured, in_percent

    @property
    def percent(self) -> _Words:
        return _Words(self._measured, in_percent=True)

    def __getattr__(self, name: str) -> str:
        value = self._measured[name].value
        if not self._in_percent:
            return number(value)
        return f"{100 * value:.{1 if 0.99 < value < 1 else 0}f}\u00a0%"


def _fill(template: str, seeds: Seeds, **words: str) -> str:
    roles = {role: _Words(measured) for role, measured in seeds[0].items()}
    return template.strip().format(**roles, **words)


def _run_with(beta: float, of_report: float) -> str:
    same = "as in the report" if beta == of_report else f"the report has β = {of_report:g}"
    return f"β = {beta:g} ({same})"


def _in_percent(share: Measured) -> str:
    return f"{100 * share.value:.1f}\u00a0%"


def _by_sign(measured: Measured, positive: str, negative: str, unclear: str) -> str:
    return positive if measured.low > 0 else negative if measured.high < 0 else unclear


def _by_level(measured: Measured, level: float, below: str, above: str, unclear: str) -> str:
    return below if measured.high < level else above if measured.low > level else unclear


def q1(seeds: Seeds) -> str:
    """Q1: what do samples of the autoencoder look like, and why?"""
    repaired = _across(seeds, lambda e: ratio(e["ae"]["fid_mixture"], e["ae"]["fid_prior"]))
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
held-out images goes from {ae.fid_prior} to {ae.fid_mixture} (real images have {floor.fid}) and the
share named with confidence to {ae.percent.confident_mixture}: {proof}.
""",
        seeds,
        poor=_by_level(
            _over(seeds, "ae", "confident_prior"),
            FEW,
            "poor",
            "better than one would expect",
            "by this measure neither clearly poor nor clearly better",
        ),
        proof="most of the fault was the prior's, which did not match. What is left to real images "
        "is the decoder's, or the mixture's"
        if repaired.high < 0.5
        else "the mismatched prior is not the whole reason",
    )


def q2(seeds: Seeds, beta: float) -> str:
    """Q2: what can be observed at beta = 0, and why?"""
    over = _across(seeds, mse_over_autoencoder)
    alike = over.low >= 0.9 and over.high <= 1.1
    slope, rising = _over(seeds, "this", "rate_slope"), _across(seeds, growth_of("this"))
    return _fill(
        """
**What we see,** at {run}. The reconstructions are {alike} the autoencoder's: the held-out error is
{this.mse_mean} against {ae.mse_mean}. Samples from the prior are {poor}: of the real images,
{this.percent.recall_prior} have a sample that resembles them (autoencoder:
{ae.percent.recall_prior}, other real images: {floor.percent.recall}). That the classifier names
{this.percent.confident_prior} of the samples with confidence (autoencoder:
{ae.percent.confident_prior}) says little: they may be one picture many times. The KL {rising}: the
rate is {this.rate_at_half} nats at half of the training and {this.rate_at_end} nats at its end (a
curve may flatten there because the learning rate falls to zero).

**Why.** {price}. {lesson}: their distance to $N(0, I)$ is {this.prior_gap} per latent (autoencoder:
{ae.prior_gap}).
""",
        seeds,
        run=_run_with(beta, 0),
        alike="almost" if alike else "not quite",
        poor=_by_level(
            _over(seeds, "this", "recall_prior"),
            HARDLY_ANY,
            "poor",
            "not all poor",
            "by this measure neither clearly poor nor clearly better",
        ),
        rising="keeps rising"
        if slope.low > 0 and rising.low > GROWTH
        else "still rises"
        if slope.low > 0
        else "falls at the end"
        if slope.high < 0
        else "neither clearly rises nor falls at the end",
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


def q3(seeds: Seeds, beta: float) -> str:
    """Q3: what can be observed at beta = 10, and why?"""
    this = seeds[0]["this"]
    active = round(this["active_units"].value)
    collapsed = active == 0
    mean_image = 0.99 < ratio(this["mse_sample"], this["pixel_variance"]).value < 1.01
    return _fill(
        """
**What we see,** at {run}. Sampled reconstructions have {this.percent.sharpness_sampled} of the
sharpness of real images, samples {this.percent.sharpness_prior}. The rate is {this.rate} nats.
{story}. The error of a sampled reconstruction is {this.mse_sample}; always answering with the mean
image gives {this.pixel_variance}{same}.

**Why.** {why}.{trap}
""",
        seeds,
        run=_run_with(beta, 10),
        story="“Blurred” is too kind: the posterior has **collapsed**. Every image gets almost the "
        "same posterior, the prior, and the decoder ignores the code"
        if collapsed
        else f"{active} of the latents vary with the image",
        same=", nearly the same" if mean_image else "",
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


def q4(seeds: Seeds, beta: float, low: float, high: float) -> str:
    """Q4: what is expected of a well-tuned VAE, and is this one?"""
    roles = {low: "low", beta: "this", high: "high"}
    fids = {b: _over(seeds, role, "fid_prior") for b, role in roles.items()}
    errors = {b: _over(seeds, role, "mse_sample").value for b, role in roles.items()}
    named = {b: _over(seeds, role, "confident_prior").value for b, role in roles.items()}
    best = min(fids, key=lambda b: fids[b].value)
    rivals = [
        b
        for b, role in roles.items()
        if b == best
        or _across(
            seeds, lambda e, r=role: difference(e[r]["fid_prior"], e[roles[best]]["fid_prior"])
        ).low
        <= 0
    ]
    rising = _across(seeds, growth_of("this"))
    gap, confident = (_over(seeds, "this", name) for name in ("prior_gap", "confident_prior"))
    return _fill(
        """
**What we expect.** A well-tuned VAE reconstructs what matters and lets samples from $N(0, I)$ pass
for data, if its codes fill the prior and carry enough to draw with. The two wishes pull against
each other.

**What we see,** at {run}. {this.percent.same_label} of the reconstructions keep their class, with
{this.percent.sharpness_reconstructions} of the sharpness of real images. The classifier names
{this.percent.confident_prior} of the samples with confidence; their sharpness is
{this.percent.sharpness_prior}{soft}. The codes are {this.prior_gap} per latent away from $N(0, I)$
(autoencoder: {ae.prior_gap}){enough}. The KL {settled}: the rate is {this.rate_at_half} nats at
half of the training and {this.rate_at_end} ({bits} bits) at its end.

**Is it the best β?** That depends on what is asked. Of the three here sampled reconstructions are
closest at β = {closest}; they must be at the lowest if training finds the optimum. Samples are
nearest to the data, by FID, at β = {best} (in this build {listed}; real images {floor.fid}); the
largest share of them is named with confidence at β = {named}.
""",
        seeds,
        run=_run_with(beta, 0.1),
        soft="" if _over(seeds, "this", "sharpness_prior").low >= SHARP else ", visibly soft",
        enough=": to follow the prior is not enough for good samples"
        if gap.high <= 0.1 and confident.high < MANY
        else "",
        settled="falls"
        if rising.high < 1 / GROWTH
        else "has settled"
        if rising.high <= GROWTH
        else "has not settled"
        if rising.low > GROWTH
        else "has nearly settled",
        closest=f"{min(errors, key=errors.__getitem__):g}",
        best=" and ".join(f"{b:g}" for b in rivals)
        + (", which are not told apart" if len(rivals) > 1 else ""),
        named=f"{max(named, key=named.__getitem__):g}",
        listed=", ".join(
            f"{number(seeds[0][role]['fid_prior'].value)} at {b:g}" for b, role in roles.items()
        ),
        bits=number(bits(seeds[0]["this"]["rate_at_end"].value)),
    )


def q5(seeds: Seeds, beta: float) -> str:
    """Q5: how do interpolations of autoencoder and VAE differ?"""
    live = seeds[0]

    def more(name: str) -> Measured:
        return _across(seeds, lambda e: difference(e["this"][name], e["ae"][name]))

    spherical, straight = (
        _over(seeds, "this", name) for name in ("midpoint_fid_spherical", "midpoint_fid")
    )
    return _fill(
        """
**What we see,** with {run}, at the midpoints of pairs with different labels. {torn}: they have
{ae_strokes} strokes beyond those of their ends, the VAE's {vae_strokes} (1,000 pairs). Their
sharpness, relative to real images, is {ae.percent.midpoint_sharpness} for the autoencoder and
{this.percent.midpoint_sharpness} for the VAE. The classifier's doubt (the entropy of its label) is
{ae.midpoint_entropy} nats at the autoencoder's midpoints and {this.midpoint_entropy} at the VAE's.

**Why.** A straight line between two codes of the autoencoder may cross a region to which no image
was mapped. {drawn} But a soft model has an advantage: the VAE's reconstructions have an error of
{errors}. Further below, models are compared at similar errors.

**Is the way smooth?** The mean step over the longest is {this.evenness} (autoencoder:
{ae.evenness}; 1 is even). **Are midpoints digits?** Their FID is {this.midpoint_fid} (autoencoder:
{ae.midpoint_fid}); along the sphere, which keeps the codes' length, {this.midpoint_fid_spherical}
({ae.midpoint_fid_spherical}). {round}

**Is the code more useful?** A linear probe with 1,000 labels {useful}: {vae_probe} against
{ae_probe} for the autoencoder. [](representations.ipynb) asks further.
""",
        seeds,
        run=_run_with(beta, 0.1),
        torn=_by_sign(
            more("extra_strokes_0.5"),
            "The autoencoder's midpoints do **not** fall apart more often",
            "The autoencoder's midpoints fall apart more often",
            "Whose midpoints fall apart more often is not told apart",
        ),
        ae_strokes=f"{live['ae']['extra_strokes_0.5'].value:+.2f}",
        vae_strokes=f"{live['this']['extra_strokes_0.5'].value:+.2f}",
        drawn="The KL draws the VAE's posteriors together around the origin until they overlap."
        if _over(seeds, "this", "prior_gap").high < 0.1
        else "This VAE's codes do not follow the prior either, so its lines may do the same.",
        errors=" against ".join(number(live[role]["mse_mean"].value) for role in ("this", "ae")),
        round="Averaging two codes mostly shortens them; perhaps the decoder has seen few codes "
        "that short."
        if spherical.high < straight.low
        else "The straight line is not clearly worse.",
        useful=_by_sign(
            more("probe_1000"),
            "reads the VAE's code better",
            "reads the VAE's code worse",
            "does not tell the two apart",
        ),
        vae_probe=_in_percent(live["this"]["probe_1000"]),
        ae_probe=_in_percent(live["ae"]["probe_1000"]),
    )


def show(
    question: str,
    figure: LiveFigure,
    evidence: Evidence,
    runs: Mapping[str, Run],
    *arguments: object,
) -> None:
    """Publish an answer beside its live figure, and below both the report's claims.

    ``question`` is the question's name, or that of a claim with a chapter of its own; ``evidence``
    is that of this build and ``runs`` are its runs, by role; ``arguments`` are further ones of the
    answer. The book lays them out by the metadata; a notebook shows them one under the other.
    """
    seeds = archive.seeds(evidence, runs)
    _markdown(ANSWERS[question](seeds, *arguments), "answer")
    display(figure)
    show_table(table([c for c in CLAIMS if question in (c.question, c.name)], seeds))
    show_basis(evidence, runs)


def show_basis(evidence: Evidence, runs: Mapping[str, Run]) -> None:
    """Publish on how many trainings the intervals of a table rest, and what strays from them.

    A run whose numbers lie where the archive does not expect them is named on the page, and in the
    output of the build.
    """
    count = len(archive.seeds(evidence, runs))
    _markdown(
        f"Intervals: 95 %, over {count} trainings with different seeds (models are compared within "
        "a seed) and over the held-out images. The trainings of this build are one seed; the "
        "others are archived (`python -m vae_nb.sweep`)."
        if count > 1
        else "Intervals: 95 %, over the held-out images, for one training of each model. The "
        "archive has no other seeds of these recipes.",
        "basis",
    )
    for role, run in runs.items():
        for name, (live, expected) in archive.strays(run, evidence[role]).items():
            _markdown(
                f"{run.recipe}: {name} is {number(live.value)}, outside of what the archive "
                f"expects of one more seed, {number(expected.low)} to {number(expected.high)}.",
                "stray",
            )


def show_text(text: str) -> None:
    """Publish Markdown with numbers of the run."""
    _markdown(text.strip(), "text")


def show_table(text: str) -> None:
    """Publish a table in its own container, which scrolls where the page is narrow."""
    _markdown(text, "claims")


def table(claims: Iterable[Claim], seeds: Seeds, chapter: str = "") -> str:
    """Claims, what was measured for each (with 95 % interval and threshold), and the verdicts.

    With ``chapter``, each name is a link to that chapter.
    """
    lines = ["| claim | the report says | measured here | verdict |", "| --- | --- | --- | --- |"]
    for claim in claims:
        name = f"[{claim.name}]({chapter}.ipynb)" if chapter else claim.name
        tests = "<br>".join(map(str, claim.checks(seeds)))
        lines.append(f"| {name} | {claim.says} | {tests} | {claim.verdict(seeds).pill} |")
    return "\n".join(lines)


def seeds_of(
    runs: Mapping[tuple[str, float], Run],
    measured: Mapping[tuple[str, float], Mapping[str, Measured]],
    floor: Mapping[str, Measured],
) -> dict[str, list[Evidence]]:
    """By question: the report's models in this build and in all other seeds.

    ``runs`` are by model and beta. ``measured`` has the numbers of this build, ``floor`` those of
    real images.
    """
    found = {}
    for question, roles in ROLES.items():
        players = {role: runs[key] for role, key in roles.items()}
        live = {role: measured[key] for role, key in roles.items()}
        found[question] = archive.seeds(live | {"floor": floor}, players)
    return found


def verdicts(seeds: Mapping[str, Seeds]) -> str:
    """All claims with their verdicts and links; ``seeds`` is by question."""
    head, rows = [], []
    for claim in sorted(CLAIMS, key=lambda claim: claim.name):
        chapter = MEASURED_IN.get(claim.name, CHAPTERS[claim.question])
        lines = table([claim], seeds[claim.question], chapter).splitlines()
        head, rows = lines[:2], rows + lines[2:]
    return "\n".join(head + rows)


def runs_table(
    models: Mapping[str, Mapping[str, Measured]], pictures: Mapping[str, Mapping[str, str]]
) -> str:
    """The measured figures of several models, a row each.

    ``pictures`` has, for some of them, small PNGs in base64 by what they show.
    """
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
    shown = list(next(iter(pictures.values()), {}))
    head = ["model", *(name.replace("nstr", "n\u00adstr") for name in shown), *columns]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " :---: |" * len(shown)]
    lines[1] += " ---: |" * len(columns)
    for label, measured in models.items():
        words = _Words(measured)
        cells = [
            f'<img class="vae-thumbnail dark-light" alt="{what} of {label}" '
            f'src="data:image/png;base64,{pictures[label][what]}">'
            if label in pictures
            else ""
            for what in shown
        ]
        cells += [
            getattr(words.percent if key in shares else words, key) if key in measured else "–"
            for key in columns.values()
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def judge(floor: Mapping[str, Measured]) -> str:
    """How good the classifier is that judges samples, and what it says of real images."""
    return (
        f"The judge: our classifier reads {_in_percent(floor['accuracy'])} "
        f"[{100 * floor['accuracy'].low:.1f}, {100 * floor['accuracy'].high:.1f}] of the held-out "
        f"digits right. Between real images and real images it finds a FID of "
        f"{number(floor['fid'].value)}, a precision of {number(floor['precision'].value)} and a "
        f"recall of {number(floor['recall'].value)}."
    )


def rate_and_error(measured: Mapping[str, Measured]) -> str:
    """The rate and the squared error (of a sample) of a model, as two short lines."""
    rate = f"{number(measured['rate'].value)} nats" if "rate" in measured else "no KL"
    return f"{rate}\n{measured['mse_sample'].value:.4f}"


def what_beta_does(vaes: Mapping[float, Mapping[str, Measured]]) -> str:
    """One sentence on rates and errors from the lowest to the highest beta."""
    low, high = min(vaes), max(vaes)
    rates, errors = (
        [vaes[beta][name].value for beta in (low, high)] for name in ("rate", "mse_sample")
    )
    return (
        f"From β = {low:g} to {high:g} the rate goes from {number(rates[0])} to {number(rates[1])} "
        f"nats and the squared error from {errors[0]:.4f} to {errors[1]:.4f}."
    )


def _range(measured: Measured) -> str:
    return f"[{number(measured.low)}, {number(measured.high)}]"


def exchange(sweep: Archive) -> str:
    """What the rate-distortion curve shows, in a sentence."""
    betas = [beta for beta in sweep.betas if beta > 0]
    first, last = (
        {name: sweep.over_seeds("vae", beta, name) for name in ("rate", "mse_sample")}
        for beta in (betas[0], betas[-1])
    )
    errors = sweep.against_beta("mse_sample")
    falls = [high for low, high in pairwise(errors) if errors[high].high < errors[low].low]
    rising = "rises or stays" if not falls else f"falls at {', '.join(f'{b:g}' for b in falls)}"
    return (
        f"From β = {betas[0]:g} to {betas[-1]:g} the rate falls from {number(first['rate'].value)} "
        f"to {number(last['rate'].value)} nats; the distortion goes from "
        f"{first['mse_sample'].value:.4f} to {last['mse_sample'].value:.4f} and {rising} from one "
        "β to the next."
    )


def _rivals(sweep: Archive, name: str) -> list[float]:
    """The betas that are not told apart from the best one."""
    values = sweep.against_beta(name)
    return [beta for beta, value in values.items() if value.low <= values[sweep.best(name)].high]


def best_for_samples(sweep: Archive) -> str:
    """Where samples are nearest to the data, in a sentence."""
    best = sweep.best("fid_prior")
    fid = sweep.over_seeds("vae", best, "fid_prior")
    rivals = [f"{beta:g}" for beta in _rivals(sweep, "fid_prior") if beta != best]
    return f"The FID of samples is lowest at β = {best:g}: {number(fid.value)} {_range(fid)}" + (
        f"; not told apart from it: {', '.join(rivals)}." if rivals else "."
    )


def which_beta(sweep: Archive, own: float) -> str:
    """The best beta for samples, the report's, and the calibrated one; why they may differ."""
    best, learned, rivals = sweep.best("fid_prior"), sweep.learned(), _rivals(sweep, "fid_prior")
    likely = max(sweep.betas, key=lambda b: sweep.over_seeds("vae", b, "log_likelihood").value)

    def of(beta: float, name: str, model: str = "vae") -> str:
        return number(sweep.over_seeds(model, beta, name).value)

    alike = [f"{beta:g}" for beta in rivals if beta != best]
    apart = f"; not told apart from it: {', '.join(alike)}" if alike else ""
    ranges = {beta: _range(sweep.over_seeds("vae", beta, "fid_prior")) for beta in (best, 0.1)}
    return f"""
All of these are means over the archive.

- **Lowest FID of samples**: β = {best:g}, with {of(best, "fid_prior")} {ranges[best]}{apart}.
- **The report's choice**: 0.1, with a FID of {of(0.1, "fid_prior")} {ranges[0.1]}. Beside β =
  {best:g} the sharpness of its samples is {of(0.1, "sharpness_prior")} against
  {of(best, "sharpness_prior")}, their recall (how much of the data they cover)
  {of(0.1, "recall_prior")} against {of(best, "recall_prior")}.
- **Calibrated as a likelihood**: {learned.value:.2g} [{learned.low:.2g}, {learned.high:.2g}]. A
  Gaussian decoder that learns its variance {{cite:p}}`rybkin2021` sets
  $\\beta^* = 2 \\, \\mathrm{{MSE}} \\, M / N$ in every step, and this is where that ends. This
  page's β = {own:g} is {number(own / learned.value)} times that β. Of the sweep's, the likelihood
  is highest at β = {likely:g}: {of(likely, "log_likelihood")} nats
  ({of(0.0, "log_likelihood", "sigma_vae")} where the variance was learned).

They need not agree, because they ask different things. The likelihood pays for every pixel of
every image and spends a great many nats on them; then the codes do not fill the prior, and samples
from it suffer. A larger β gives pixels up for codes that follow the prior.
"""


def collapse(sweep: Archive, silent: float, quiet: float) -> str:
    """Between which betas the code falls silent, beside the linear VAE.

    That one's rate is zero from ``silent`` on, and below 0.1 nats from ``quiet`` on.
    """
    above, below = sweep.crossing("rate", 0.1)
    beside = (
        "as the linear VAE has it"
        if above <= quiet <= below
        else "earlier than the linear VAE"
        if below < quiet
        else "later than the linear VAE"
    )
    return (
        f"The linear VAE's rate is zero from β = {silent:.3f} on and below 0.1 nats from "
        f"{quiet:.3f} on. Measured: below 0.1 nats somewhere between β = {above:g} and {below:g}, "
        f"{beside}."
    )


def exactly(value: float) -> Measured:
    """A computed number, which has no interval."""
    return Measured(value, value, value)


def strip_of(sweep: Archive) -> str:
    """What the strip of pictures shows, and from where on they are all alike."""
    active = sweep.against_beta("active_units")
    silent = [beta for beta, units in active.items() if units.value == 0]
    return "Sampled reconstructions (left) and samples from N(0, I) (right), a row for each β." + (
        f" From β = {min(silent):g} on no latent is active: all are one picture." if silent else ""
    )


def blurred_to_one_error(measures: Mapping[float | None, Mapping[str, Measured]]) -> str:
    """What is left of the autoencoder's extra strokes when all are blurred alike, in words."""
    names = ("extra_strokes_0.5", "extra_strokes_0.5_matched")
    parts = []
    for beta, measured in measures.items():
        if beta is not None and names[1] in measured:
            gaps = [difference(measures[None][name], measured[name]) for name in names]
            sure = _by_sign(gaps[1], "still more", "fewer", "not told apart")
            parts.append(f"β = {beta:g} from {gaps[0].value:+.2f} to {gaps[1].value:+.2f} ({sure})")
    return (
        "Blurred to one error of 0.03, the autoencoder's extra strokes beyond a VAE's go, for "
        + "; for ".join(parts)
        + ". These intervals are over pairs, for one training."
        if parts
        else "No VAE here is sharp enough to be blurred to an error of 0.03."
    )


def at_one_error(points: Sequence[tuple[str, float | None, Measured, Measured]]) -> str:
    """The first model (the autoencoder) beside that which is nearest to it in error."""
    (_, _, own, breaks), *others = points
    label, _, error, its = min(others, key=lambda point: abs(point[2].value - own.value))
    fewer = _by_sign(difference(breaks, its), "fewer", "more", "not told apart")
    return (
        f"Compare models at similar errors: the autoencoder has {breaks.value:+.2f} at "
        f"{own.value:.4f}; nearest to it is {label} with {its.value:+.2f} at {error.value:.4f}: "
        f"{fewer}."
    )


def midpoints(measures: Mapping[float | None, Mapping[str, Measured]]) -> str:
    """A table of midpoints by model: unequal and equal labels, straight and spherical ways."""
    columns = {
        "extra strokes": "extra_strokes_0.5",
        "at one error": "extra_strokes_0.5_matched",
        "equal labels": "extra_strokes_0.5_equal",
        "Euler number": "extra_euler_0.5",
        "FID": "midpoint_fid",
        "FID, spherical": "midpoint_fid_spherical",
        "FID, equal labels": "midpoint_fid_equal",
        "doubt, nats": "midpoint_entropy",
    }
    lines = ["| midpoints of | " + " | ".join(columns) + " |"]
    lines += ["| --- |" + " ---: |" * len(columns)]
    for beta, measured in measures.items():
        cells = [
            number(measured[name].value) if name in measured else "–" for name in columns.values()
        ]
        label = "AE" if beta is None else f"β = {beta:g}"
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


Readings = Mapping[str, tuple[float | None, Mapping[str, Measured]]]


def by_labels(read: Readings, images: int) -> list[tuple[str, list]]:
    """Accuracies for ``figures.label_curves``: a panel for each reader, a line for each code."""
    counts = {**{count: str(count) for count in COUNTS if count <= images}, images: "all"}
    return [
        (
            title,
            [
                (name, beta, {count: numbers[f"{kind}_{key}"] for count, key in counts.items()})
                for name, (beta, numbers) in read.items()
            ],
        )
        for title, kind in (("linear probe", "probe"), ("nearest neighbours", "knn"))
    ]


def by_noise(numbers: Mapping[str, Measured]) -> dict[float, Measured]:
    """Accuracy of a probe with 1,000 labels by noise, for ``figures.noise_curves``."""
    return {0.0: numbers["probe_1000"]} | {n: numbers[f"probe_noise_{n:g}"] for n in NOISE}


def downstream(seeds: Seeds, read: Readings, beta: float) -> str:
    """R8: what are the codes good for? ``read`` has all codes of the figure."""
    live = seeds[0]

    def verdict(name: str) -> str:
        more = _across(seeds, lambda e: difference(e["this"][name], e["ae"][name]))
        return _by_sign(more, "better", "worse", "not told apart from the other")

    def pair(name: str) -> str:
        return f"{_in_percent(live['this'][name])} against {_in_percent(live['ae'][name])}"

    few = {name: numbers["probe_100"] for name, (_, numbers) in read.items()}
    best, worst = (choose(few, key=lambda name: few[name].value) for choose in (max, min))
    rivals = [name for name in few if few[name].high >= few[best].low and name != best]
    return f"""
**What we see,** at β = {beta:g} against the autoencoder. With 100 labels the VAE's code is
{verdict("probe_100")} for a linear probe ({pair("probe_100")}), with all labels it is
{verdict("probe_all")} ({pair("probe_all")}).

**Not for every reader.** For nearest neighbours with 1,000 labels it is {verdict("knn_1000")}
({pair("knn_1000")}), with all labels {verdict("knn_all")} ({pair("knn_all")}).

**Nor for every code.** With 100 labels a linear probe reads {best} best of the {len(read)} in the
figure, {_in_percent(few[best])}{" (not told apart: " + ", ".join(rivals) + ")" if rivals else ""},
and {worst} worst, {_in_percent(few[worst])}. The principal components, for which no network was
trained, reach {_in_percent(few["PCA"])}.
"""


def few_labels(read: Readings) -> str:
    """Whose code a probe with 100 labels reads best and worst, in a sentence."""
    few = {name: numbers["probe_100"] for name, (_, numbers) in read.items()}
    best, worst = (choose(few, key=lambda name: few[name].value) for choose in (max, min))
    return (
        f"With 100 labels a probe reads {best} best ({_in_percent(few[best])}), {worst} worst "
        f"({_in_percent(few[worst])})."
    )


def stability(evidence: Evidence, runs: Mapping[str, Run], beta: float) -> str:
    """Whether noise in the code costs the VAE's reader less, in a sentence."""

    def more(evidence: Evidence) -> Measured:
        return difference(noise_costs(evidence["ae"]), noise_costs(evidence["this"]))

    stable = _by_sign(
        _across(archive.seeds(evidence, runs), more), "more", "less", "neither more nor less"
    )
    return (
        "Noise as large as the code's own spread costs the probe of the VAE (β = "
        f"{beta:g}) {_points(noise_costs(evidence['this']))}, that of the autoencoder "
        f"{_points(noise_costs(evidence['ae']))}: the VAE's code is {stable} stable."
    )


def _points(difference: Measured) -> str:
    return f"{100 * difference.value:.0f} points"


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


ANSWERS = {"Q1": q1, "Q2": q2, "Q3": q3, "Q4": q4, "Q5": q5, "C5.3": downstream}
