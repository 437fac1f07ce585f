"""The same again: bit for bit with as many threads, within a tolerance otherwise."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from faults import ROOT, Campaign, Child, Tried, store_folder, toys
from vae_nb import archive, cache, metrics, runs

# Relative; book/colophon.ipynb says what was measured at the defaults. Two threads add up in
# another order; a processor with other instructions rounds otherwise.
TOLERANCE = {"loss": 0.01, "reconstruction": 0.05, "kl": 0.05}
ARCHIVED = {"mse_sample": 0.05, "rate": 0.05}  # what no classifier decides


def group(campaign: Campaign) -> Iterator[Tried]:
    """Small trainings in several ways, and one row of the archive by its whole recipe."""
    place = campaign.new("reproduced")
    data = str(toys.small_set(place / "data", train=1000, test=200))
    usual = _fitted(place, data, "usual", "1")
    again = _fitted(place, data, "again", "1")
    yield Tried("the same fit twice, bit for bit", "" if usual == again else f"{usual} {again}")
    ways = {"2 threads": ("2", {}), "AVX2": ("1", {"ONEDNN_MAX_CPU_ISA": "AVX2"})}
    for name, (threads, environment) in ways.items():
        other = _fitted(place, data, name.replace(" ", "-"), threads, **environment)
        apart = {key: abs(other.get(key, 9) / usual[key] - 1) for key in TOLERANCE if key in usual}
        wrong = [f"{key}: {apart[key]:.2g}" for key in apart if apart[key] > TOLERANCE[key]]
        yield Tried(f"a fit with {name}", ", ".join(wrong) if apart else f"{usual} {other}")
    if campaign.share >= 1:
        rows = [row for row in archive.load().rows if row.recipe.model != "multi_rate"]
        row = campaign.rng.choice(rows)
        child = Child(
            functools.partial(_row, row, place / "row.json"),
            place / "log",
            **store_folder(place / "row"),
        )
        code = child.wait(1800)
        yield Tried(f"an archived row, {row.recipe}", f"{code}: {child.said}" if code else "")


def _fitted(place: Path, data: str, name: str, threads: str, **environment: str) -> dict[str, Any]:
    """What a process of its own measures at the end of a small fit."""
    code = "import sys; from faults import reproduced; reproduced.one(int(sys.argv[1]))"
    process = subprocess.run(
        [sys.executable, "-c", code, threads],
        env=os.environ
        | store_folder(place / name)
        | {"VAE_NB_DATA": data, "OMP_NUM_THREADS": threads}
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return json.loads(process.stdout.splitlines()[-1]) if not process.returncode else {}


def one(threads: int) -> None:
    """Print the held-out values and a digest of the weights of a small fit."""
    torch.set_num_threads(threads)
    run = runs.fit(toys.tiny(0, width=8, epochs=3), show_progress=False)
    weights = b"".join(tensor.numpy().tobytes() for tensor in run.model.state_dict().values())
    print(json.dumps(run.history.held_out[-1] | {"weights": cache._digest(weights)}))


def _row(row: archive.Row, out: Path) -> None:
    torch.set_num_threads(1)
    found = metrics.of(runs.fit(row.recipe, show_progress=False), ARCHIVED)
    apart = {
        name: abs(found[name].value / row.measured[name].value - 1)
        for name in ARCHIVED
        if name in found and name in row.measured
    }
    out.write_text(json.dumps(apart))
    assert apart and all(apart[name] <= ARCHIVED[name] for name in apart), apart
