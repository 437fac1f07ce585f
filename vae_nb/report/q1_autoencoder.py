"""Q1: what samples of the autoencoder look like, and why."""

from vae_nb.metrics import samples
from vae_nb.report.question import Claim, Question, Verdict, at_least, at_most, ratio

AE = ("ae", 0.0)

# Thresholds are choices, and a reader may choose others.
GOOD_R2 = 0.9  # of the pixel variance
SAME_LABEL = 0.95  # of the reconstructions are classified as their image is
FEW = 0.5  # of the samples are classified with confidence
HARDLY_ANY = 0.1  # of the real images have a sample that resembles them
FOLLOWS_PRIOR = 0.1  # Fréchet distance of the codes to the prior, per latent

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
        [at_most("confident", "ae.confident_prior", FEW)],
    ),
    Claim(
        "C1.3",
        "The reason: the codes follow no given distribution, and a random code lies where no image "
        "is mapped.",
        Verdict.HOLDS,
        [
            at_least("off_prior", "ae.prior_distance", FOLLOWS_PRIOR),
            at_most("mixture", ratio("ae.fid_mixture", "ae.fid_prior"), 0.5),
        ],
    ),
)
QUESTION = Question(
    "Q1",
    "autoencoder",
    "q1_autoencoder.md",
    {"ae": AE},
    CLAIMS,
    further=[at_most("recall", "ae.recall_prior", HARDLY_ANY)],
    facts=lambda seeds: {"components": samples.COMPONENTS},
)
