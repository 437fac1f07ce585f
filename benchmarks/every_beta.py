"""One model for every beta: how near to separate trainings, at what cost, and what each part pays.

    python benchmarks/every_beta.py                              # the default, beside one training
    python benchmarks/every_beta.py --levers "no gates" "range not raised" --seeds 0 1

Its held-out objective at each beta of the archive, over the median of the archived trainings, and
the ratio of the times, with a separate training (beta = 0.1) beside each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import machine
import torch

from vae_nb import archive, data, training
from vae_nb.models import BETA_RANGE, MultiRateVAE
from vae_nb.objective import held_out
from vae_nb.training import recipe, train


def _set(**values: object) -> Callable[[], AbstractContextManager]:
    return lambda: mock.patch.multiple(training, **values)


def _ones(self: MultiRateVAE, beta: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(beta), self.latent_dim)


def _nothing(self: MultiRateVAE, beta: torch.Tensor) -> list[torch.Tensor]:
    return [torch.zeros(len(beta), 2, each.out_features // 2) for each in self.responses]


def _own(self: object, objectives: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
    return objectives / objectives.detach()


LEVERS: dict[str, Callable[[], AbstractContextManager]] = {
    "default": nullcontext,
    "beta log-uniform": _set(BETA_PARTS=BETA_RANGE, BETA_SHARES=(1.0,)),
    "more of the middle": _set(BETA_SHARES=(0.18, 0.75, 0.07)),
    "range not raised": _set(RAISED_FROM=BETA_RANGE[1]),
    "range raised over 40 %": _set(RAISED_OVER=0.4),
    "no gates": lambda: mock.patch.object(MultiRateVAE, "gates", _ones),
    "no scales and shifts": lambda: mock.patch.object(MultiRateVAE, "_scales_and_shifts", _nothing),
    "each image by its own loss": lambda: mock.patch.object(training._EveryBeta, "relative", _own),
}


def main() -> None:
    """Train in turns, and print a row for each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levers", nargs="+", default=["default"], choices=list(LEVERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=0)
    given = parser.parse_args()
    dataset, kept = data.load("MNIST", given.images), archive.load()
    print(machine.describe())
    betas = [beta for beta in kept.betas if beta > 0]
    print("| lever | seed | time | " + " | ".join(f"{beta:g}" for beta in betas) + " | worst |")
    print("| --- | ---: | ---: |" + " ---: |" * (len(betas) + 1))
    for seed in given.seeds:
        for lever in given.levers:
            start = time.perf_counter()
            train(recipe("vae", 0.1, seed=seed), dataset, progress=False)
            separate, start = time.perf_counter() - start, time.perf_counter()
            with LEVERS[lever]():
                model, _ = train(recipe("multi_rate", seed=seed), dataset, progress=False)
                seconds = time.perf_counter() - start
                ratios = [
                    held_out(model.at(beta), dataset.test_images, beta)["objective"]
                    / statistics.median(row.objective for row in kept.of("vae", beta))
                    for beta in betas
                ]
            cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
            print(
                f"| {lever} | {seed} | {seconds / separate:.2f} | {cells} | {max(ratios):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
