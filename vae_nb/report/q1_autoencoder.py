"""Q1: what samples of the autoencoder look like, and why."""

from collections.abc import Mapping
from typing import Any

from vae_nb import archive
from vae_nb.metrics import samples
from vae_nb.report.question import (
    Claim,
    Question,
    Reading,
    Seeds,
    Verdict,
    at_least,
    at_most,
    ratio,
    relative,
)
from vae_nb.report.templates import shown

AE = ("ae", 0.0)

# Thresholds are choices, and a reader may choose others.
GOOD_R2 = 0.9  # of the pixel variance
SAME_LABEL = 0.95  # of the reconstructions are classified as their image is
HARDLY_ANY = 0.1  # of the samples are recognised, of the real images have a sample that is near
# The FID of mixture samples over that of samples from the prior: where the codes follow the prior,
# a mixture that is fitted to them gains next to nothing.
GAINS, GAINS_NOTHING = 0.5, 0.8
NOT_COPIED = 0.8  # as far from the nearest training image as held-out images are


def mixture_gain(role: str) -> Reading:
    """What a mixture that is fitted to the codes gains over the prior; 1 is nothing."""
    return ratio(f"{role}.fid_mixture", f"{role}.fid_prior")


CLAIMS = (
    Claim(
        "C1.1",
        "The autoencoder reconstructs images from the data well.",
        Verdict.HOLDS,
        [
            at_least("explained", "ae.r_squared", GOOD_R2),
            at_least("same_label", "ae.same_label", SAME_LABEL),
        ],
    ),
    Claim(
        "C1.2",
        "Samples from random codes are not well-defined digits.",
        Verdict.HOLDS,
        [
            at_most("recognised", relative("ae.recognised_prior"), HARDLY_ANY),
            at_most("coverage", relative("ae.coverage_prior"), HARDLY_ANY),
        ],
    ),
    Claim(
        "C1.3",
        "The reason: the codes follow no given distribution, and a random code lies where no image "
        "is mapped.",
        Verdict.HOLDS,
        [
            at_most("mixture", mixture_gain("ae"), GAINS),
            at_least("mixture_recognised", relative("ae.recognised_mixture"), 0.25),
        ],
    ),
)


# Of the answer alone, and not among what every archived training is measured for.
NEW = at_least("new", "ae.novelty_mixture_100", NOT_COPIED, optional=True)


def _facts(seeds: Seeds) -> Mapping[str, Any]:
    archived = archive.load()
    best = archived.best("fid_prior")
    return {
        "components": samples.COMPONENTS,
        "many": samples.MANY_COMPONENTS,
        "new": NEW.check(seeds),
        "best_beta": best,
        "best": shown({"fid_prior": archived.pooled("vae", best, "fid_prior")}),
    }


QUESTION = Question(
    "Q1",
    "autoencoder",
    "q1_autoencoder.md",
    {"ae": AE},
    CLAIMS,
    further=[
        at_most(
            "large_mixture",
            ratio("ae.fid_mixture_100", "ae.fid_mixture"),
            GAINS,
            optional=True,
        )
    ],
    facts=_facts,
)
