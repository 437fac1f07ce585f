"""Q2: what can be observed at beta = 0, and why."""

from vae_nb.report.q1_autoencoder import AE, GAINS, HARDLY_ANY, mixture_gain
from vae_nb.report.question import (
    Claim,
    Question,
    Reading,
    Verdict,
    at_least,
    at_most,
    difference,
    ratio,
    relative,
)

# Above either, the rate still rises: the rate at the end over that at half of the training, and its
# slope over the last epoch, as a share of it.
GROWTH, SLOPE = 1.05, 0.01
MSE_OVER_AE = ratio("this.mse_mean", "ae.mse_mean")
SHARPNESS = "sharpness_reconstructions"


def growth(role: str) -> Reading:
    """The rate at the end of the training over that at half of it."""
    return ratio(f"{role}.rate_at_end", f"{role}.rate_at_half")


CLAIMS = (
    Claim(
        "C2.1",
        "With β = 0 the VAE behaves almost like the autoencoder: the reconstructions are the same.",
        Verdict.PART,
        [
            at_most("mse", MSE_OVER_AE, 1.1),
            at_least("sharpness", ratio(f"this.{SHARPNESS}", f"ae.{SHARPNESS}"), 0.9),
            at_least("same_label", difference("this.same_label", "ae.same_label"), -0.01),
        ],
    ),
    Claim(
        "C2.2",
        "Samples are poor: there is no good generative process.",
        Verdict.HOLDS,
        [
            at_most("recognised", relative("this.recognised_prior"), HARDLY_ANY),
            at_most("coverage", relative("this.coverage_prior"), HARDLY_ANY),
        ],
    ),
    Claim(
        "C2.3",
        "The KL, which is not trained, keeps increasing through training.",
        Verdict.HOLDS,
        [
            at_least("growth", growth("this"), GROWTH),
            at_least("slope", "this.rate_slope", SLOPE),
        ],
    ),
)
QUESTION = Question(
    "Q2",
    "beta_zero",
    "q2_beta_zero.md",
    {"this": ("vae", 0.0), "ae": AE},
    CLAIMS,
    further=[at_most("off_prior", mixture_gain("this"), GAINS)],
)
