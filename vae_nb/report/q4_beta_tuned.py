"""Q4: what is expected of a well-tuned VAE, and whether this one is."""

from vae_nb.objective import bits
from vae_nb.report.q1_autoencoder import AE, GAINS_NOTHING, SAME_LABEL, mixture_gain
from vae_nb.report.q2_beta_zero import GROWTH, SLOPE, growth
from vae_nb.report.q3_beta_ten import SHARP
from vae_nb.report.question import Claim, Question, Verdict, at_least, at_most, ratio, relative

MANY = 0.8  # of as many samples are recognised as of real images

NEIGHBOURS = {"low": ("vae", 0.01), "high": ("vae", 0.2)}
LOWER, HIGHER = (
    [
        at_most(f"{of}_{role}", ratio(f"{role}.sharpness_{of}", f"this.sharpness_{of}"), 1.0)
        for of in ("reconstructions", "prior")
    ]
    for role in NEIGHBOURS
)
FID = [
    at_least(f"fid_{role}", ratio(f"{role}.fid_prior", "this.fid_prior"), 1.0)
    for role in NEIGHBOURS
]
# They rank the controls wrongly and decide nothing, but the answer says where they disagree.
OTHER_FEATURES = [
    at_least(
        f"fid_{role}_{space}", ratio(f"{role}.fid_prior_{space}", f"this.fid_prior_{space}"), 1.0
    )
    for role in NEIGHBOURS
    for space in ("components", "untrained")
]
CLAIMS = (
    Claim(
        "C4.1",
        "Reconstructions of a well-tuned VAE look like the originals.",
        Verdict.FAILS,
        [
            at_least("same_label", "this.same_label", SAME_LABEL),
            at_least("sharp_reconstructions", "this.sharpness_reconstructions", SHARP),
        ],
    ),
    Claim(
        "C4.2",
        "Samples look like real data and are not blurry, because encodings follow the prior.",
        Verdict.PART,
        [
            at_least("recognised", relative("this.recognised_prior"), MANY),
            at_least("sharp_samples", "this.sharpness_prior", SHARP),
            at_least("follows_prior", mixture_gain("this"), GAINS_NOTHING),
        ],
    ),
    Claim(
        "C4.3",
        "β = 0.1 is the best value; both lower and higher β make **both** reconstructions and "
        "samples blurrier.",
        Verdict.PART,
        [*LOWER, *HIGHER, *FID],
    ),
    Claim(
        "C4.4",
        "The KL saturates after a few iterations (with β = 0 it keeps rising).",
        Verdict.UNDECIDED,
        [
            at_most("settled", growth("this"), GROWTH),
            at_most("settled_slope", "this.rate_slope", SLOPE),
            at_least("zero_grows", growth("zero"), GROWTH, "the first with β = 0"),
            at_least("zero_slope", "zero.rate_slope", SLOPE, "the second with β = 0"),
        ],
    ),
    Claim(
        "C6.1",
        "Very low β (0.01) gives blurry reconstructions and samples (blurrier than β = 0.1).",
        Verdict.FAILS,
        LOWER,
    ),
    Claim(
        "C6.2",
        "Higher β (0.2) gives blurry reconstructions and samples (blurrier than β = 0.1).",
        Verdict.HOLDS,
        HIGHER,
    ),
)
QUESTION = Question(
    "Q4",
    "beta_tuned",
    "q4_beta_tuned.md",
    {"this": ("vae", 0.1), **NEIGHBOURS, "zero": ("vae", 0.0), "ae": AE},
    CLAIMS,
    further=[
        at_most("error_low", ratio("low.mse_sample", "this.mse_sample"), 1.0),
        *OTHER_FEATURES,
    ],
    facts=lambda seeds: {"bits": bits(seeds[0]["this"]["rate_at_end"].value)},
)
