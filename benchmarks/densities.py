"""Fit densities to the codes of the book's default models, measure their samples, archive both.

    python benchmarks/densities.py [--models ae learned 0.1 0.01] [--densities flow clusters ...]

Rows that are there already are not made again (delete them from ``vae_nb/densities.json``).
Those of the autoencoder have a picture, too: unchosen samples.
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import torch

from vae_nb import cache, densities, metrics, runs, thumbnails
from vae_nb.models import sampled_codes
from vae_nb.recipe import recipe
from vae_nb.report.repairs import OWN, REAL, TRAIN

MODELS = {
    "ae": ("ae", 0.0),
    "learned": ("sigma_vae", 0.0),
    "0.01": ("vae", 0.01),
    "0.1": ("vae", 0.1),
}
PICTURED, SAMPLES, LINES = "ae", 24, 2  # the model with pictures, and how many samples they have


def main() -> None:
    """Do the rows that are asked for."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    asked.add_argument("--densities", nargs="+", default=[REAL, OWN, TRAIN, *densities.DENSITIES])
    args = asked.parse_args()
    torch.set_num_threads(1)
    for name in args.densities:
        for model in args.models:
            row = dict(archived().get(model, {}).get(name, {}))
            wanted = {"measured", "picture"} if model == PICTURED else {"measured"}
            if wanted <= row.keys() or (name == REAL and model != PICTURED):
                continue
            run, cpu = runs.fit(recipe(*MODELS[model])), time.process_time()
            source = None if name == REAL else source_of(run, name)
            if "measured" not in row:
                row["seconds"] = time.process_time() - cpu if name in densities.DENSITIES else 0.0
                row["measured"] = {k: list(v.interval) for k, v in measured(run, name, source)}
            if model == PICTURED:
                images = source.samples(SAMPLES) if source else run.dataset.test_images
                row["picture"] = thumbnails.png(images[:SAMPLES], LINES)
            with cache.locked(cache.folder() / densities.ARCHIVE.name):  # others may add theirs
                rows = archived()
                rows.setdefault(model, {})[name] = row
                text = json.dumps(rows, indent=1, sort_keys=True) + "\n"
                cache.write_atomically(densities.ARCHIVE, text)
            print(model, name, row["measured"], flush=True)


def measured(run: runs.Run, name: str, source: densities.Repair | None):
    """The names and values of a row."""
    if source is None:
        real = metrics.of_real(run.dataset)
        return [(name, real[name]) for name in densities.SHOWN]
    found = densities.own_codes(run) if name == OWN else densities.measure(source)
    return found.items()


def source_of(run: runs.Run, name: str) -> densities.Repair:
    """The density of this name, or what stands in its place."""
    if name == OWN:
        codes = sampled_codes(run, run.dataset.test_images)
        return densities.Repair(run, "prior", lambda *_: codes, 0.0)
    if name == TRAIN:
        return densities.Repair(run, "prior", functools.partial(train_codes, run), 0.0)
    return densities.repair(run, name)


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
