"""Images a second of training, and what Muon costs, on this processor and on one with AVX2 only.

    python benchmarks/throughput.py

The rounds of one processor are interleaved; the numbers are medians. `ONEDNN_MAX_CPU_ISA=AVX2`
makes oneDNN, which computes what is slow here, do without AVX-512 and AMX, as on most laptops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import course
import machine
import torch

from vae_nb import data
from vae_nb.optim import Muon
from vae_nb.recipe import Recipe, recipe
from vae_nb.training import new_model, train

PROCESSORS = {"as it is": {}, "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
RECIPES = {
    "default (width 16, batch 256, Muon)": recipe("vae", 0.1),
    "default with Adam": recipe("vae", 0.1, optimiser="adam"),
    "width 48, batch 256, Muon": recipe("vae", 0.1, width=48),
    "width 48, batch 64, Adam": recipe("vae", 0.1, profile="course"),
}


WITH_TORCH_S = ("default (width 16, batch 256, Muon)", "width 48, batch 64, Adam")  # as well


def images_a_second(recipe: Recipe, steps: int, torch_s: bool = False) -> float:
    """Of our training loop, without its evaluation; ``torch_s``: with torch's own convolutions."""
    dataset = data.load("MNIST", steps * recipe.batch_size)
    few = dataclasses.replace(
        dataset, test_images=dataset.test_images[:2], test_labels=dataset.test_labels[:2]
    )
    model = new_model(recipe)
    model = course.with_torch_s_convolutions(model) if torch_s else model
    start = time.perf_counter()
    train(dataclasses.replace(recipe, epochs=1), few, start=model)
    return steps * recipe.batch_size / (time.perf_counter() - start)


def muon_milliseconds(kind: type[torch.optim.Optimizer], steps: int) -> float:
    """Of a step of ``kind`` for the matrices of the default recipe."""
    kernels = [p for p in new_model(recipe("vae")).parameters() if p.ndim > 1]
    matrices = [torch.nn.Parameter(p.detach().flatten(1)) for p in kernels if min(p.shape[:2]) > 1]
    optimiser = kind(matrices, lr=0.02)
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    optimiser.step()  # warm
    start = time.perf_counter()
    for _ in range(steps):
        optimiser.step()
    return 1000 * (time.perf_counter() - start) / steps


def measure(rounds: int, steps: int) -> dict[str, float]:
    """All numbers of this process, medians over ``rounds``."""
    values: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        loop = course.epochs(Path(folder), 0.1, steps=steps)
        next(loop)  # warm
        for _ in range(rounds):
            seconds, _ = next(loop)
            values["the course's loop"].append(64 * steps / seconds)
            for name, each in RECIPES.items():
                values[name].append(images_a_second(each, steps))
                if name in WITH_TORCH_S:
                    other = images_a_second(each, steps, torch_s=True)
                    values[f"{name}, torch's convolutions"].append(other)
            values["Muon, float32 (ours), ms a step"].append(muon_milliseconds(Muon, steps))
            bfloat16 = muon_milliseconds(torch.optim.Muon, steps)
            values["Muon, bfloat16 (torch's), ms a step"].append(bfloat16)
    return {name: statistics.median(found) for name, found in values.items()}


def main() -> None:
    """Measure in a process for each kind of processor, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--one", action="store_true", help="this process only, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.rounds, given.steps)))
        return
    found = {}
    for name, settings in PROCESSORS.items():
        command = [sys.executable, __file__, "--one"]
        command += ["--rounds", str(given.rounds), "--steps", str(given.steps)]
        done = subprocess.run(
            command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True
        )
        found[name] = json.loads(done.stdout)
    print(machine.describe())
    print(f"\n| images a second | {' | '.join(found)} |\n| --- |{' ---: |' * len(found)}")
    for row in next(iter(found.values())):
        form = ".1f" if "ms" in row else ",.0f"
        print(f"| {row} | {' | '.join(f'{numbers[row]:{form}}' for numbers in found.values())} |")


if __name__ == "__main__":
    main()
