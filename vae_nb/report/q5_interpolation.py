"""Q5: how interpolations of autoencoder and VAE differ."""

from vae_nb.metrics import paths
from vae_nb.report.q1_autoencoder import AE, GAINS_NOTHING, mixture_gain
from vae_nb.report.question import Claim, Question, Verdict, at_least, at_most, difference, ratio

BROKEN = 0.1  # of a stroke: every tenth midpoint falls apart
STROKES = [f"extra_strokes_{threshold:g}" for threshold in paths.THRESHOLDS]
MATCHED = "extra_strokes_0.5_matched"

CLAIMS = (
    Claim(
        "C5.1",
        "The autoencoder's interpolations have broken strokes and less pronounced edges.",
        Verdict.PART,
        [
            *(at_least(f"ae_{name}", f"ae.{name}", BROKEN) for name in STROKES),
            # Optional: a model that is softer than that error cannot be compared.
            at_least("matched", difference(f"ae.{MATCHED}", f"this.{MATCHED}"), 0.0, optional=True),
            at_most("softer", ratio("ae.midpoint_sharpness", "this.midpoint_sharpness"), 1.0),
        ],
    ),
    Claim(
        "C5.2",
        "The VAE's interpolations have continuous strokes and a smooth transition.",
        Verdict.PART,
        [
            *(at_most(f"vae_{name}", f"this.{name}", BROKEN) for name in STROKES),
            at_least("uniform", ratio("this.uniformity", "ae.uniformity"), 1.0),
            at_most("closer", ratio("this.midpoint_fid", "ae.midpoint_fid"), 1.0),
        ],
    ),
)
QUESTION = Question(
    "Q5",
    "interpolation",
    "q5_interpolation.md",
    {"this": ("vae", 0.1), "ae": AE},
    CLAIMS,
    further=[
        at_least("breaks_more", difference("ae.extra_strokes_0.5", "this.extra_strokes_0.5"), 0.0),
        at_least("probe", difference("this.probe_1000", "ae.probe_1000"), 0.0),
        at_least("follows_prior", mixture_gain("this"), GAINS_NOTHING),
        at_most("spherical", ratio("this.midpoint_fid_spherical", "this.midpoint_fid"), 1.0),
    ],
    facts=lambda seeds: {"pairs": paths.PAIRS},
)
