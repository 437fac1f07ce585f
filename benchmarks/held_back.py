"""Choices made on images that no network was trained on, and how far test images would flatter.

    python benchmarks/held_back.py          # three seeds: an hour on two cores; it resumes

All networks are trained on the first 55,000 training images of MNIST. The default recipe and its
two nearest contenders are compared by the objective at beta = 0.1, and several values of beta by
the FID of samples, each on the last 5,000 training images and on 5,000 test images. The book's
choices are those of the first set. Its networks are then trained on all 60,000.
"""

from __future__ import annotations

import argparse
import dataclasses

import machine

from vae_nb import data, runs
from vae_nb.metrics.classifier import classifier, features
from vae_nb.metrics.intervals import mean_ci
from vae_nb.metrics.samples import fid, from_prior
from vae_nb.objective import held_out
from vae_nb.recipe import recipe

TRAINED = 55_000
BETA = 0.1
CONTENDERS = {  # changes of the default recipe
    "default (width 16, 5 epochs)": {},
    "width 12, 7 epochs": {"width": 12, "epochs": 7},
    "width 20, 4 epochs": {"width": 20, "epochs": 4},
}
BETAS = (0.01, 0.03, 0.1, 0.2)


def main() -> None:
    """Train, measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    whole = data.load("MNIST")
    sets = {
        "held back": whole.train_images[TRAINED:],
        "test": whole.test_images[: len(whole.train_images) - TRAINED],
    }
    evaluator = classifier(whole)
    real = {name: features(evaluator, images) for name, images in sets.items()}
    print(machine.describe(), flush=True)

    def fitted(beta: float, seed: int, **changes: int) -> runs.Run:
        own = recipe("vae", beta, seed=seed, train_images=TRAINED)
        return runs.fit(dataclasses.replace(own, **changes), show_progress=False)

    print("\n| objective at β = 0.1 | " + " | ".join(sets) + " |\n| --- | ---: | ---: |")
    losses = {
        label: {
            name: [held_out(fitted(BETA, s, **changes).model, images, BETA)["loss"] for s in seeds]
            for name, images in sets.items()
        }
        for label, changes in CONTENDERS.items()
    }
    default = next(iter(losses.values()))
    for label, found in losses.items():
        cells = []
        for name, own in found.items():
            cell = f"{sum(own) / len(own):.5f}"
            if found is not default:
                gap = mean_ci([a - b for a, b in zip(own, default[name], strict=True)])
                cell += f" ({gap.value:+.5f} [{gap.low:+.5f}, {gap.high:+.5f}])"
            cells.append(cell)
        print(f"| {label} | {' | '.join(cells)} |", flush=True)

    print("\n| FID of samples | " + " | ".join(sets) + " |\n| --- | ---: | ---: |")
    for beta in BETAS:
        cells = []
        drawn = [
            features(evaluator, from_prior(fitted(beta, s), len(real["test"]), s)) for s in seeds
        ]
        for of_set in real.values():
            cells.append(f"{mean_ci([fid(of_set, own).value for own in drawn]):.1f}")
        print(f"| β = {beta:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
