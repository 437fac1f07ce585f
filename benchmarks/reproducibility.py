"""Which numbers move when nothing but the machine differs, and by how much.

    python benchmarks/reproducibility.py fit OUT.json       # once for each way (see below)
    python benchmarks/reproducibility.py write ONE.json TWO.json AVX2.json

``fit`` trains and measures the VAE at the report's best-known beta by the default recipe, with a
cache of its own, in the environment that it is given: ``OMP_NUM_THREADS=1``, ``OMP_NUM_THREADS=2``,
or one thread and ``ONEDNN_MAX_CPU_ISA=AVX2``. ``write`` puts the changes against the first of them
into ``vae_nb/archive.reproduced.json``, beside those of the archived row, made on another machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from vae_nb import archive, cache, metrics, runs
from vae_nb.recipe import recipe

RECIPE = recipe("vae", 0.1)
NAMES = ("mse_sample", "mse_mean", "rate", "active_units", "fid_prior", "recognised_prior")
NAMES += ("recall_prior", "coverage_prior")


def fit(out: Path) -> None:
    """Train, measure, and write the values with their intervals."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAE_NB_CACHE"] = folder
        run = runs.fit(RECIPE, show_progress=False)
        found = {name: each.interval for name, each in metrics.of(run, NAMES).items()}
    out.write_text(json.dumps({"measured": found}))


def write(one: Path, two: Path, avx2: Path) -> None:
    """The relative changes against ``one``, and half the width of its intervals."""
    ways = {"two threads": two, "AVX2": avx2}
    found = {way: json.loads(path.read_text())["measured"] for way, path in ways.items()}
    (row,) = (row for row in archive.load().alike(RECIPE) if row.recipe == RECIPE)
    found["another machine"] = {name: row.measured[name].interval for name in NAMES}
    kept = {}
    for name in NAMES:
        value, low, high = json.loads(one.read_text())["measured"][name]
        changes = {way: each[name][0] / value - 1 for way, each in found.items() if name in each}
        rounded = {way: float(f"{change:.2g}") for way, change in changes.items()}
        kept[name] = rounded | {"interval": float(f"{(high - low) / 2 / value:.2g}")}
    place = archive.ARCHIVE.with_name("archive.reproduced.json")
    cache.write_atomically(place, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"fit": fit, "write": write}[command](*map(Path, paths))
