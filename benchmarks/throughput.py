"""How many images a second does a training step take, and how many could it?

    python benchmarks/throughput.py

Interleaved rounds of: the course's loop, our loop at the course's width and at ours, and the bound:
the same multiplications as plain matrix products of the sizes that convolutions unfold to, by the
same library on the same threads. ``--profile`` prints where our step spends its time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import course
import machine
import torch
from torch import nn

from vae_nb import data
from vae_nb.models import VAE
from vae_nb.training import recipe, train


def products(width: int, batch: int) -> list[tuple[int, int, int]]:
    """The matrix products of a forward pass as (rows, inner, columns), one for each layer."""
    sizes: list[tuple[int, int, int]] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(layer, nn.Linear):
            sizes.append((batch, layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d):
            inner = layer.in_channels * layer.kernel_size[0] ** 2
            sizes.append((batch * output[0, 0].numel(), inner, layer.out_channels))
        elif isinstance(layer, nn.ConvTranspose2d):
            columns = layer.out_channels * layer.kernel_size[0] ** 2
            sizes.append((batch * inputs[0][0, 0].numel(), layer.in_channels, columns))

    model = VAE(width)
    hooks = [module.register_forward_hook(note) for module in model.modules()]
    posterior = model.posterior(torch.zeros(2, 1, 28, 28))
    model.decode(posterior.mean)
    for hook in hooks:
        hook.remove()
    return sizes


def bound(width: int, batch: int, repeats: int) -> float:
    """Images a second if a step were nothing but its matrix products, forward and backward.

    The backward pass has two products of the same size for each of the forward pass.
    """
    pairs = [(torch.randn(n, k), torch.randn(k, m)) for n, k, m in products(width, batch)]
    start = time.perf_counter()
    for _ in range(3 * repeats):
        for left, right in pairs:
            left @ right
    return batch * repeats / (time.perf_counter() - start)


def ours(width: int, batch: int, optimiser: str, steps: int) -> float:
    """Images a second of our training loop, without its evaluation."""
    every = data.load("MNIST", steps * batch)
    few = every.__class__(
        every.name,
        every.train_images,
        every.train_labels,
        every.test_images[:2],
        every.test_labels[:2],
    )
    found = recipe(
        "vae",
        0.1,
        width=width,
        batch_size=batch,
        epochs=1,
        images=steps * batch,
        optimiser=optimiser,
    )
    start = time.perf_counter()
    train(found, few, progress=False)
    return steps * batch / (time.perf_counter() - start)


def main() -> None:
    """Measure in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    print(machine.describe())
    narrow = recipe("vae").width
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        course_epochs = course.epochs(Path(folder), 0.1, steps=given.steps)
        next(course_epochs)  # warm
        for _ in range(given.rounds):
            seconds, _ = next(course_epochs)
            for name, rate in (
                ("course loop, width 48", 64 * given.steps / seconds),
                ("ours, width 48, Adam, batch 64", ours(48, 64, "adam", given.steps)),
                ("ours, width 48", ours(48, 256, "muon", given.steps // 2)),
                ("bound, width 48", bound(48, 256, 3)),
                (f"ours, width {narrow} (default)", ours(narrow, 256, "muon", given.steps)),
                (f"bound, width {narrow}", bound(narrow, 256, 6)),
            ):
                rates.setdefault(name, []).append(rate)
    base = statistics.median(rates["course loop, width 48"])
    print("| loop | images/s | over the course loop |\n| --- | ---: | ---: |")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:,.0f} | {middle / base:.2f} |")
    if given.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            ours(narrow, 256, "muon", 30)
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))


if __name__ == "__main__":
    main()
