"""Which lever pays? One default training after another, each with one thing changed.

    python benchmarks/ablation.py --levers default "batch 128" --models ae 0.1 --seeds 0 1 2

Every line of the output file is one training: lever, beta, seed, seconds of the training loop
(evaluation not included), and the held-out objective. Runs of different levers take turns, so that
a slow minute of the machine does not fall on one lever alone. ``--table`` prints the table.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_nb import data, training
from vae_nb.models import VAE, Autoencoder
from vae_nb.objective import held_out, terms
from vae_nb.training import recipe


@dataclass(frozen=True)
class Lever:
    """One training: the default recipe's numbers, and what may be tried in their place."""

    batch_size: int = 256
    epochs: float = 5
    width: int = 16
    learning_rate: float = 4e-3
    schedule: str = "one_cycle"
    rise: float = 0.3  # the share of the steps in which the rate of one-cycle rises
    optimiser: str = "muon"
    muon_rate: float = 0.02
    newton_schulz: int = 5
    muon_momentum: float = 0.95
    half: bool = False  # forward and backward in bfloat16 where torch's autocast allows it
    second_moment: float = 0.999
    norm_momentum: float = 0.1
    warm_up: float = 0.0  # the share of the steps over which beta is raised from 0
    average: float = 0.0  # decay of an exponential moving average of the weights; 0: none
    channels_last: bool = True
    fused: bool = True
    compiled: bool = False
    init: str = "torch"


ADAM = Lever(optimiser="adam", batch_size=128)
LEVERS = {
    "default": Lever(),
    "Muon's rate 0.01": Lever(muon_rate=0.01),
    "Muon's rate 0.03": Lever(muon_rate=0.03),
    "Adam's rate 8e-3": Lever(learning_rate=8e-3),
    "batch 128": Lever(batch_size=128),
    "batch 512, rates doubled": Lever(batch_size=512, muon_rate=0.04, learning_rate=8e-3),
    "3 Newton-Schulz steps": Lever(newton_schulz=3),
    "Muon's momentum 0.9": Lever(muon_momentum=0.9),
    "rise 0.1": Lever(rise=0.1),
    "rise 0.2": Lever(rise=0.2),
    "linear decay": Lever(schedule="linear"),
    "cosine rate": Lever(schedule="cosine"),
    "constant rate": Lever(schedule="constant"),
    "BatchNorm momentum 0.02": Lever(norm_momentum=0.02),
    "KL warm-up 0.3": Lever(warm_up=0.3),
    "EMA 0.99": Lever(average=0.99),
    "contiguous": Lever(channels_last=False),
    "Adam not fused": Lever(fused=False),
    "bfloat16": Lever(half=True),
    "torch.compile": Lever(compiled=True),
    "orthogonal": Lever(init="orthogonal"),
    "Kaiming": Lever(init="kaiming"),
    "width 8, 9 epochs": Lever(width=8, epochs=9),
    "width 12, 7 epochs": Lever(width=12, epochs=7),
    "width 24, 3 epochs": Lever(width=24, epochs=3),
    "width 32, 2 epochs": Lever(width=32, epochs=2),
    "Adam, batch 128": ADAM,
    "Adam, batch 128, rate 8e-3": replace(ADAM, learning_rate=8e-3),
    "Adam, batch 128, constant rate 1.5e-3": replace(
        ADAM, schedule="constant", learning_rate=1.5e-3
    ),
    "Adam, batch 64": replace(ADAM, batch_size=64),
    "Adam, batch 128, beta2 0.99": replace(ADAM, second_moment=0.99),
}


def optimisers_of(lever: Lever, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Those of the package, with the lever's numbers."""
    found = recipe("vae", 0.1, optimiser=lever.optimiser, learning_rate=lever.learning_rate)
    *muon, adam = training._optimisers(found, model)
    for group in adam.param_groups:
        group.update(betas=(0.9, lever.second_moment), fused=lever.fused)
    for each in muon:
        for group in each.param_groups:
            group.update(
                lr=lever.muon_rate,
                ns_steps=lever.newton_schulz,
                momentum=lever.muon_momentum,
            )
    return [*muon, adam]


def train(lever: Lever, model_name: str, beta: float, seed: int, images: Tensor, held: Tensor):
    """``(seconds, held-out values)`` of one training."""
    torch.manual_seed(seed)
    model = (Autoencoder if model_name == "ae" else VAE)(lever.width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = lever.norm_momentum
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if lever.init == "orthogonal":
                nn.init.orthogonal_(module.weight)
            if lever.init == "kaiming":
                nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu")
    if lever.channels_last:
        model = model.to(memory_format=torch.channels_last)
    model.train()
    steps_per_epoch = math.ceil((len(images) - 1) / lever.batch_size)
    steps = round(lever.epochs * steps_per_epoch)
    optimisers = optimisers_of(lever, model)
    schedules = [_schedule(lever, each, steps) for each in optimisers]
    average = None
    if lever.average:
        average = torch.optim.swa_utils.AveragedModel(
            model,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(lever.average),
            use_buffers=True,
        )
    losses_of: Callable = torch.compile(terms) if lever.compiled else terms
    generator = torch.Generator().manual_seed(seed)
    start, order = time.perf_counter(), []
    for step in range(steps):
        if not order:
            order = list(torch.randperm(len(images), generator=generator).split(lever.batch_size))
            order = order[:steps_per_epoch][::-1]
        chosen = order.pop()
        noise = torch.randn(len(chosen), 64, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=lever.half):
            losses = losses_of(model, images[chosen], noise)
        weight = beta * min(1.0, step / (lever.warm_up * steps)) if lever.warm_up else beta
        model.zero_grad(set_to_none=True)
        losses.total(weight).backward()
        for each in (*optimisers, *schedules):
            each.step()
        if average is not None:
            average.update_parameters(model)
    seconds = time.perf_counter() - start
    final = model if average is None else average.module
    return seconds, held_out(final, held, beta)


def _schedule(lever: Lever, optimiser: torch.optim.Optimizer, steps: int):
    schedulers = torch.optim.lr_scheduler
    if lever.schedule == "one_cycle":
        rates = [group["lr"] for group in optimiser.param_groups]
        return schedulers.OneCycleLR(
            optimiser,
            max_lr=rates,
            total_steps=steps,
            pct_start=lever.rise,
            cycle_momentum=False,
        )

    def factor(step: int) -> float:
        left = 1 - step / steps
        cosine = 0.5 * (1 - math.cos(math.pi * left))
        return {"constant": 1.0, "linear": min(1.0, left / 0.8), "cosine": cosine}[lever.schedule]

    return schedulers.LambdaLR(optimiser, factor)


def table(path: Path) -> str:
    """Medians over seeds, a row for each lever; ratios to the base of the same file."""
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    models = list(dict.fromkeys(run["model"] for run in runs))
    levers = list(dict.fromkeys(run["lever"] for run in runs))

    def median(lever: str, model: str, key: str) -> float:
        found = [run[key] for run in runs if run["lever"] == lever and run["model"] == model]
        return statistics.median(found) if found else math.nan

    lines = [
        "| lever | time | " + " | ".join(models) + " |",
        "| --- |" + " ---: |" * (1 + len(models)),
    ]
    for lever in levers:
        pace = statistics.median(
            run["seconds"] / median("default", run["model"], "seconds")
            for run in runs
            if run["lever"] == lever
        )
        cells = [
            f"{median(lever, model, 'objective'):.5f} "
            f"({median(lever, model, 'objective') / median('default', model, 'objective'):.3f})"
            for model in models
        ]
        lines.append(f"| {lever} | {pace:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the levers that are asked for, and append a line for each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levers", nargs="+", default=list(LEVERS), choices=list(LEVERS))
    parser.add_argument("--models", nargs="+", default=["0.1"], help="ae, or a beta")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("ablation.jsonl"))
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    given = parser.parse_args()
    if given.table:
        print(table(given.output))
        return
    dataset = data.load("MNIST", given.images)
    for seed in given.seeds:
        for name in given.models:
            for lever in given.levers:
                beta = 0.0 if name == "ae" else float(name)
                seconds, values = train(
                    LEVERS[lever], name, beta, seed, dataset.train_images, dataset.test_images
                )
                line = {"lever": lever, "model": name, "seed": seed, "seconds": seconds} | values
                print(f"{lever:28} {name:>5} {seed} {seconds:6.1f} s {values['objective']:.5f}")
                with given.output.open("a") as out:
                    out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
