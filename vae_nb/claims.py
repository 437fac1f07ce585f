"""Does it hold? The report's claims, what decides each of them, and the verdict.

A claim is the report's, in our words. Its verdict comes from tests: a measured number with its
95 % interval against a threshold that is written down here.

Evidence is a dictionary of roles: ``"this"`` is the chapter's own model, ``"ae"`` the autoencoder,
``"zero"``, ``"low"`` and ``"high"`` the VAEs with beta = 0, with a lower and with a higher beta;
``"floor"`` compares real images with real ones. Each maps names of ``evaluation.measure`` to
values. ``ROLES`` says who plays them at the defaults.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping, Sequence

from vae_nb.evaluation.interpolation import THRESHOLDS
from vae_nb.evaluation.interval import Measured, over_seeds

Evidence = Mapping[str, Mapping[str, Measured]]


class Verdict(enum.Enum):
    """What the measurement says of a claim; the value is its name on the page."""

    HOLDS = "holds"
    PART = "holds in part"
    FAILS = "does not hold"
    UNDECIDED = "undecided"

    @property
    def pill(self) -> str:
        """The verdict as HTML: a coloured pill in the book, the plain word in a notebook."""
        return f'<span class="verdict-{self.name.lower()}">{self.value}</span>'


@dataclasses.dataclass(frozen=True)
class Check:
    """A measured number against a threshold; ``unit`` is written behind the numbers."""

    what: str
    measured: Measured
    relation: str  # "at least" or "at most"
    threshold: float
    unit: str = ""

    def verdict(self) -> Verdict:
        """Holds or not where the whole interval lies on one side of the threshold."""
        low, high = self.measured.low, self.measured.high
        if self.relation == "at most":
            low, high, threshold = -high, -low, -self.threshold
        else:
            threshold = self.threshold
        if math.isnan(self.measured.value):
            return Verdict.UNDECIDED
        if low >= threshold:
            return Verdict.HOLDS
        return Verdict.FAILS if high < threshold else Verdict.UNDECIDED

    def __str__(self) -> str:
        mark = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗"}.get(self.verdict(), "?")
        return (
            f"{mark}\u00a0{self.what}: **{number(self.measured.value)}**{self.unit} "
            f"[{number(self.measured.low)}, {number(self.measured.high)}], "
            f"asked:\u00a0{'≥' if self.relation == 'at least' else '≤'}\u00a0"
            f"{number(self.threshold)}"
        )


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of the report, and how it is tested."""

    name: str
    question: str
    says: str
    expected: Verdict  # what the prose was written for; `gate` asks whether it is still so
    tests: Callable[[Evidence], list[Check]]

    def checks(self, seeds: Sequence[Evidence]) -> list[Check]:
        """The tests over several trainings: each is made within a seed, then joined over seeds.

        Two models of one seed have more in common than two of different seeds, so that comparing
        them within the seed tells more (a paired comparison).
        """
        first, *others = ({check.what: check for check in self.tests(e)} for e in seeds)
        return [
            dataclasses.replace(
                check, measured=over_seeds([check.measured, *(o[what].measured for o in others)])
            )
            for what, check in first.items()
            if all(what in other for other in others)
        ]

    def verdict(self, seeds: Sequence[Evidence]) -> Verdict:
        """Holds if all tests hold, in part if some hold and some fail, fails if none holds."""
        found = {check.verdict() for check in self.checks(seeds)}
        if found == {Verdict.HOLDS}:
            return Verdict.HOLDS
        if Verdict.FAILS in found:
            return Verdict.PART if Verdict.HOLDS in found else Verdict.FAILS
        return Verdict.UNDECIDED


def number(value: float) -> str:
    """Three significant digits, as a reader wants them: no powers of ten, no noise behind zero."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 1e-4:
        return "<\u00a00.0001" if value > 0 else ">\u00a0-0.0001"  # never on two lines
    rounded = float(f"{value:.3g}") if abs(value) >= 1e-3 else round(value, 4)
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.12f}".rstrip("0").rstrip(".")


def ratio(top: Measured, bottom: Measured) -> Measured:
    """The ratio of two measured numbers; relative half-widths add in quadrature."""
    if bottom.value == 0:
        return Measured(math.nan, math.nan, math.nan)
    value = top.value / bottom.value

    def relative(side: str) -> float:
        other = "low" if side == "high" else "high"
        parts = [
            (getattr(top, side) - top.value) / top.value if top.value else 0.0,
            (getattr(bottom, other) - bottom.value) / bottom.value,
        ]
        return abs(value) * math.hypot(*parts)

    return Measured(value, value - relative("low"), value + relative("high"))


def difference(left: Measured, right: Measured) -> Measured:
    """The difference of two measured numbers; half-widths add in quadrature."""
    value = left.value - right.value
    low = math.hypot(left.value - left.low, right.high - right.value)
    high = math.hypot(left.high - left.value, right.value - right.low)
    return Measured(value, value - low, value + high)


# The report's models: role by question, each a model and its beta.
_AE = ("ae", 0.0)
ROLES = {
    "Q1": {"ae": _AE},
    "Q2": {"this": ("vae", 0.0), "ae": _AE},
    "Q3": {"this": ("vae", 10.0), "ae": _AE},
    "Q4": {
        "this": ("vae", 0.1),
        "low": ("vae", 0.01),
        "high": ("vae", 0.2),
        "zero": ("vae", 0.0),
        "ae": _AE,
    },
    "Q5": {"this": ("vae", 0.1), "ae": _AE},
}

# --- The claims. Thresholds are choices, and a reader may choose others. ---

SHARP = 0.7  # of the data's gradient energy: with less, blur is plain to see
GOOD_R2 = 0.9  # of the pixel variance
SAME_DIGIT = 0.95  # of the reconstructions are read as their image is
BROKEN = 0.1  # of a stroke: every tenth midpoint falls apart
FEW, MANY = 0.5, 0.8  # of the samples are named with confidence
HARDLY_ANY = 0.1  # of the real images have a sample that resembles them
GROWTH = 1.05  # the rate at the end over the rate at half of the training: above, it still rises


def _sharpness_ratio(evidence: Evidence, role: str, of: str) -> Measured:
    name = f"sharpness_{of}"
    return ratio(evidence[role][name], evidence["this"][name])


def _blurrier(evidence: Evidence, role: str, word: str) -> list[Check]:
    return [
        Check(
            f"sharpness of {kind} at the {word} β over that at this β",
            _sharpness_ratio(evidence, role, of),
            "at most",
            1.0,
        )
        for kind, of in (("reconstructions", "reconstructions"), ("samples", "prior"))
    ]


def _worse(evidence: Evidence, role: str, word: str) -> list[Check]:
    fid = ratio(evidence[role]["fid_prior"], evidence["this"]["fid_prior"])
    return [Check(f"FID of samples at the {word} β over that at this β", fid, "at least", 1.0)]


def growth(evidence: Evidence, role: str) -> Measured:
    """The rate at the end of the training over that at half of it."""
    return ratio(evidence[role]["rate_at_end"], evidence[role]["rate_at_half"])


def growth_of(role: str) -> Callable[[Evidence], Measured]:
    """:func:`growth` of one role."""
    return lambda evidence: growth(evidence, role)


def mse_over_autoencoder(evidence: Evidence) -> Measured:
    """The error of this model's reconstructions over that of the autoencoder's."""
    return ratio(evidence["this"]["mse_mean"], evidence["ae"]["mse_mean"])


def _extra_strokes(measured: Mapping[str, Measured], relation: str) -> list[Check]:
    return [
        Check(
            f"strokes that midpoints have beyond their ends, ink above {threshold:g}",
            measured[f"extra_strokes_{threshold:g}"],
            relation,
            BROKEN,
        )
        for threshold in THRESHOLDS
    ]


def _at_one_error(evidence: Evidence) -> list[Check]:
    """Breaks with both models blurred to the same error, where both can be."""
    name = "extra_strokes_0.5_matched"
    if name not in evidence["ae"] or name not in evidence["this"]:
        return []
    more = difference(evidence["ae"][name], evidence["this"][name])
    what = "ink above 0.5, both blurred to an error of 0.03: strokes beyond the VAE's"
    return [Check(what, more, "at least", 0.0)]


def noise_costs(measured: Mapping[str, Measured]) -> Measured:
    """The accuracy that a probe loses if each latent is disturbed by its own spread."""
    return difference(measured["probe_1000"], measured["probe_noise_1"])


def _useful_and_stable(evidence: Evidence) -> list[Check]:
    this, ae = evidence["this"], evidence["ae"]
    return [
        *(
            Check(
                f"accuracy of {what}, minus the AE's",
                difference(this[name], ae[name]),
                "at least",
                0.0,
            )
            for what, name in (
                ("a linear probe, 100 labels", "probe_100"),
                ("a linear probe, all labels", "probe_all"),
                ("the five nearest neighbours, 1,000 labels", "knn_1000"),
                ("the five nearest neighbours, all labels", "knn_all"),
            )
        ),
        Check(
            "accuracy lost where each latent is disturbed by its own spread, minus the AE's",
            difference(noise_costs(this), noise_costs(ae)),
            "at most",
            0.0,
        ),
    ]


CLAIMS = (
    Claim(
        "C1.1",
        "Q1",
        "The autoencoder reconstructs images from the data well.",
        Verdict.HOLDS,
        lambda e: [
            Check(
                "share of the pixel variance explained", e["ae"]["r_squared"], "at least", GOOD_R2
            ),
            Check(
                "reconstructions read as the same digit",
                e["ae"]["same_label"],
                "at least",
                SAME_DIGIT,
            ),
        ],
    ),
    Claim(
        "C1.2",
        "Q1",
        "Samples from random codes are not well-defined digits.",
        Verdict.HOLDS,
        lambda e: [
            Check(
                "share of samples that the classifier names with confidence",
                e["ae"]["confident_prior"],
                "at most",
                FEW,
            )
        ],
    ),
    Claim(
        "C1.3",
        "Q1",
        "The reason: the codes follow no given distribution, and a random code lies where no image "
        "is mapped.",
        Verdict.HOLDS,
        lambda e: [
            Check("distance of the codes to N(0, I)", e["ae"]["prior_gap"], "at least", 0.1),
            Check(
                "FID of samples from a mixture fitted to the codes, over that of N(0, I) samples",
                ratio(e["ae"]["fid_mixture"], e["ae"]["fid_prior"]),
                "at most",
                0.5,
            ),
        ],
    ),
    Claim(
        "C2.1",
        "Q2",
        "With β = 0 the VAE behaves almost like the autoencoder: the reconstructions are the same.",
        Verdict.HOLDS,
        lambda e: [
            Check("MSE over the autoencoder's", mse_over_autoencoder(e), "at most", 1.1),
            Check(
                "sharpness of reconstructions over the autoencoder's",
                ratio(e["this"]["sharpness_reconstructions"], e["ae"]["sharpness_reconstructions"]),
                "at least",
                0.9,
            ),
            Check(
                "share read as the same digit, minus the autoencoder's",
                difference(e["this"]["same_label"], e["ae"]["same_label"]),
                "at least",
                -0.01,
            ),
        ],
    ),
    Claim(
        "C2.2",
        "Q2",
        "Samples are poor: there is no good generative process.",
        Verdict.HOLDS,
        lambda e: [
            Check(
                # Not the share that is named: many copies of one blob may all be named.
                "share of real images that some sample resembles (recall)",
                e["this"]["recall_prior"],
                "at most",
                HARDLY_ANY,
            )
        ],
    ),
    Claim(
        "C2.3",
        "Q2",
        "The KL, which is not trained, keeps increasing through training.",
        Verdict.HOLDS,
        lambda e: [
            Check("rate at the end over that at half-time", growth(e, "this"), "at least", GROWTH),
            Check("slope in the last epoch", e["this"]["rate_slope"], "at least", 0, " nats/epoch"),
        ],
    ),
    Claim(
        "C3.1",
        "Q3",
        "Reconstructions and samples are blurred.",
        Verdict.HOLDS,
        lambda e: [
            Check(
                "sharpness of sampled reconstructions",
                e["this"]["sharpness_sampled"],
                "at most",
                SHARP,
            ),
            Check("sharpness of samples", e["this"]["sharpness_prior"], "at most", SHARP),
        ],
    ),
    Claim(
        "C3.2",
        "Q3",
        "The KL is very low.",
        Verdict.HOLDS,
        lambda e: [Check("rate", e["this"]["rate"], "at most", 1.0, " nats")],
    ),
    Claim(
        "C3.3",
        "Q3",
        "A strong constraint trades reconstruction quality against regularity (“disentanglement”).",
        Verdict.PART,
        lambda e: [
            Check("paid: MSE over the autoencoder's", mse_over_autoencoder(e), "at least", 1.5),
            Check(
                "gained: distance of the codes to N(0, I)", e["this"]["prior_gap"], "at most", 0.1
            ),
            Check("latents left to be disentangled", e["this"]["active_units"], "at least", 2),
        ],
    ),
    Claim(
        "C4.1",
        "Q4",
        "Reconstructions of a well-tuned VAE look like the originals.",
        Verdict.FAILS,
        lambda e: [
            Check(
                "reconstructions read as the same digit",
                e["this"]["same_label"],
                "at least",
                SAME_DIGIT,
            ),
            Check(
                "sharpness of reconstructions",
                e["this"]["sharpness_reconstructions"],
                "at least",
                SHARP,
            ),
        ],
    ),
    Claim(
        "C4.2",
        "Q4",
        "Samples look like real data and are not blurry, because encodings follow the prior.",
        Verdict.PART,
        lambda e: [
            Check(
                "share of samples that the classifier names with confidence",
                e["this"]["confident_prior"],
                "at least",
                MANY,
            ),
            Check("sharpness of samples", e["this"]["sharpness_prior"], "at least", SHARP),
            Check("distance of the codes to N(0, I)", e["this"]["prior_gap"], "at most", 0.1),
        ],
    ),
    Claim(
        "C4.3",
        "Q4",
        "β = 0.1 is the best value; both lower and higher β make **both** reconstructions and "
        "samples blurrier.",
        Verdict.PART,
        lambda e: [
            *_blurrier(e, "low", "lower"),
            *_blurrier(e, "high", "higher"),
            *_worse(e, "low", "lower"),
            *_worse(e, "high", "higher"),
        ],
    ),
    Claim(
        "C4.4",
        "Q4",
        "The KL saturates after a few iterations (with β = 0 it keeps rising).",
        Verdict.PART,
        lambda e: [
            Check("rate at the end over that at half-time", growth(e, "this"), "at most", GROWTH),
            Check("the same with β = 0", growth(e, "zero"), "at least", GROWTH),
            Check(
                "the one over the other",
                ratio(growth(e, "this"), growth(e, "zero")),
                "at most",
                1.0,
            ),
        ],
    ),
    Claim(
        "C5.1",
        "Q5",
        "The autoencoder's interpolations have broken strokes and less pronounced edges.",
        Verdict.PART,
        lambda e: [
            *_extra_strokes(e["ae"], "at least"),
            *_at_one_error(e),
            Check(
                "midpoints: sharpness over the VAE's",
                ratio(e["ae"]["midpoint_sharpness"], e["this"]["midpoint_sharpness"]),
                "at most",
                1.0,
            ),
        ],
    ),
    Claim(
        "C5.2",
        "Q5",
        "The VAE's interpolations have continuous strokes and a smooth transition.",
        Verdict.PART,
        lambda e: [
            *_extra_strokes(e["this"], "at most"),
            Check(
                "evenness of the steps over the autoencoder's",
                ratio(e["this"]["evenness"], e["ae"]["evenness"]),
                "at least",
                1.0,
            ),
            Check(
                "FID of midpoints over the autoencoder's",
                ratio(e["this"]["midpoint_fid"], e["ae"]["midpoint_fid"]),
                "at most",
                1.0,
            ),
        ],
    ),
    Claim(
        "C5.3",
        "Q5",
        "The VAE's representation is more stable, so a model fed with it is more reliable.",
        Verdict.PART,
        _useful_and_stable,
    ),
    Claim(
        "C6.1",
        "Q4",
        "Very low β (0.01) gives blurry reconstructions and samples (blurrier than β = 0.1).",
        Verdict.FAILS,
        lambda e: _blurrier(e, "low", "lower"),
    ),
    Claim(
        "C6.2",
        "Q4",
        "Higher β (0.2) gives blurry reconstructions and samples (blurrier than β = 0.1).",
        Verdict.HOLDS,
        lambda e: _blurrier(e, "high", "higher"),
    ),
)
