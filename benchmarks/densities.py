"""Fit densities to the codes of the book's default models, measure their samples, archive both.

    python benchmarks/densities.py [--models ae learned 0.1 0.01] [--densities flow clusters ...]

Rows that are there already are not made again (delete them from ``vae_nb/densities.json``).
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import torch

from vae_nb import cache, densities, metrics, runs
from vae_nb.models import sampled_codes
from vae_nb.recipe import recipe

MODELS = {
    "ae": ("ae", 0.0),
    "learned": ("sigma_vae", 0.0),
    "0.01": ("vae", 0.01),
    "0.1": ("vae", 0.1),
}
# Rows that are no density: what a decoder can do, what a perfect density would do, and real images.
OWN, TRAIN, REAL = "own_codes", "train_codes", "real"


def main() -> None:
    """Do the rows that are asked for."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--models", nargs="+", default=list(MODELS))
    asked.add_argument("--densities", nargs="+", default=[REAL, OWN, TRAIN, *densities.DENSITIES])
    args = asked.parse_args()
    torch.set_num_threads(1)
    for name in args.densities:
        for model in args.models:
            if name in archived().get(model, {}) or (name == REAL and model != "ae"):
                continue
            run, cpu = runs.fit(recipe(*MODELS[model])), time.process_time()
            if name == REAL:
                real = metrics.of_real(run.dataset)
                row = {"measured": {k: real[k] for k in densities.SHOWN}, "seconds": 0.0}
            elif name == OWN:
                row = {"measured": densities.own_codes(run), "seconds": 0.0}
            elif name == TRAIN:
                perfect = densities.Repair(run, "prior", functools.partial(train_codes, run), 0.0)
                row = {"measured": densities.measure(perfect), "seconds": 0.0}
            else:
                repaired = densities.repair(run, name)
                row = {"seconds": time.process_time() - cpu}  # of one processor, others beside it
                row["measured"] = densities.measure(repaired)
            row["measured"] = {k: list(v.interval) for k, v in row["measured"].items()}
            rows = archived()
            rows.setdefault(model, {})[name] = row
            text = json.dumps(rows, indent=1, sort_keys=True) + "\n"
            cache.write_atomically(densities.ARCHIVE, text)
            print(model, name, row, flush=True)


def train_codes(run: runs.Run, count: int, seed: int) -> torch.Tensor:
    """The codes of so many training images: what a density that fits perfectly would draw."""
    images = run.dataset.train_images
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return sampled_codes(run, images[chosen], seed)


def archived() -> dict[str, dict[str, dict]]:
    """The rows by model and density."""
    if not densities.ARCHIVE.exists():
        return {}
    return json.loads(densities.ARCHIVE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
