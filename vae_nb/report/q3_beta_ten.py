"""Q3: what can be observed at beta = 10, and why."""

from vae_nb.archive import COLLAPSED_RATE
from vae_nb.report.q1_autoencoder import AE, GAINS_NOTHING, mixture_gain
from vae_nb.report.q2_beta_zero import MSE_OVER_AE
from vae_nb.report.question import Claim, Question, Verdict, at_least, at_most, difference, ratio

SHARP = 0.7  # of the gradient energy of real images: with less, blur is plain to see
TOLERANCE = 0.01  # of an error that is called that of the mean image
OVER_MEAN_IMAGE = ratio("this.mse_sample", "this.pixel_variance")

CLAIMS = (
    Claim(
        "C3.1",
        "Reconstructions and samples are blurred.",
        Verdict.HOLDS,
        [
            at_most("blurred_reconstructions", "this.sharpness_sampled", SHARP),
            at_most("blurred_samples", "this.sharpness_prior", SHARP),
        ],
    ),
    Claim(
        "C3.2",
        "The KL is very low.",
        Verdict.HOLDS,
        [at_most("collapsed", "this.rate", COLLAPSED_RATE)],
    ),
    Claim(
        "C3.3",
        "A strong constraint trades reconstruction quality against regularity (“disentanglement”).",
        Verdict.PART,
        [
            at_least("paid", MSE_OVER_AE, 1.5),
            at_least("gained", mixture_gain("this"), GAINS_NOTHING),
            at_least("active", "this.active_units", 2.0),
        ],
    ),
)
QUESTION = Question(
    "Q3",
    "beta_ten",
    "q3_beta_ten.md",
    {"this": ("vae", 10.0), "ae": AE},
    CLAIMS,
    further=[
        at_least("no_better", OVER_MEAN_IMAGE, 1 - TOLERANCE),
        at_most("no_worse", OVER_MEAN_IMAGE, 1 + TOLERANCE),
        at_least("mean_is_worse", difference("this.mse_mean", "this.mse_sample"), 0.0),
    ],
)
