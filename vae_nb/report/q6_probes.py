"""Q6: what the codes are good for downstream."""

from collections.abc import Mapping
from typing import Any

from vae_nb.archive import Numbers
from vae_nb.figures import Panel, Series
from vae_nb.metrics import probes
from vae_nb.report.q1_autoencoder import AE
from vae_nb.report.question import (
    Claim,
    Question,
    Reading,
    Seeds,
    Verdict,
    at_least,
    at_most,
    difference,
)
from vae_nb.report.templates import Shown

COMPARED = ("probe_100", "probe_all", "knn_1000", "knn_all")


def noise_loss(role: str) -> Reading:
    """The accuracy that a probe loses where each latent gets noise as large as its own spread."""
    return difference(f"{role}.probe_1000", f"{role}.probe_noise_1")


STABLE = at_most(
    "noise",
    difference(noise_loss("this"), noise_loss("ae")),
    0.0,
    "accuracy lost to noise as large as each latent's own spread (this VAE minus autoencoder)",
)
CLAIMS = (
    Claim(
        "C5.3",
        "The VAE's representation is more stable, so a model fed with it is more reliable.",
        Verdict.PART,
        [
            *(at_least(name, difference(f"this.{name}", f"ae.{name}"), 0.0) for name in COMPARED),
            STABLE,
        ],
    ),
)


def extremes(codes: Mapping[str, Numbers]) -> dict[str, Any]:
    """The codes on which a probe with 100 labels is most and least accurate, and how accurate."""
    accuracy = {label: Shown("probe_100", its["probe_100"]) for label, its in codes.items()}
    order = sorted(accuracy, key=lambda label: accuracy[label].value)
    best, worst = order[-1], order[0]
    top, bottom = accuracy[best], accuracy[worst]
    return {"codes": len(codes), "best": best, "top": top, "worst": worst, "bottom": bottom}


def _facts(seeds: Seeds, codes: Mapping[str, Numbers]) -> dict[str, Any]:
    """``codes`` has the numbers of every code in the figure, by label; PCA is one of them."""
    return extremes(codes) | {"pca": Shown("probe_100", codes["PCA"]["probe_100"])}


def label_panels(
    codes: Mapping[str, Numbers], betas: Mapping[str, float], train_images: int
) -> list[Panel]:
    """Accuracies for ``figures.label_dots``: a panel for each probe, a row for each code.

    ``betas`` has the beta of a code by its label, where it has one.
    """
    names = {count: str(count) for count in probes.COUNTS if count <= train_images}
    names[train_images] = "all"

    def line(label: str, probe: str) -> Series:
        of_code = codes[label]
        values = {float(n): of_code[f"{probe}_{name}"] for n, name in names.items()}
        return Series(label, values, betas.get(label))

    titles = {"linear probe": "probe", "nearest neighbours": "knn"}
    return [Panel(title, [line(code, probe) for code in codes]) for title, probe in titles.items()]


def noise_series(codes: Mapping[str, Numbers], betas: Mapping[str, float]) -> list[Series]:
    """Accuracy of a probe with 1,000 labels by noise, for ``figures.noise_curves``.

    Codes that were not probed under noise (pixels) are left out.
    """
    names = {0.0: "probe_1000"} | {noise: f"probe_noise_{noise:g}" for noise in probes.NOISE}
    return [
        Series(label, {noise: numbers[name] for noise, name in names.items()}, betas.get(label))
        for label, numbers in codes.items()
        if numbers.keys() >= set(names.values())
    ]


QUESTION = Question(
    "Q6",
    "representations",
    "q6_probes.md",
    {"this": ("vae", 0.1), "ae": AE},
    CLAIMS,
    facts=_facts,
)
