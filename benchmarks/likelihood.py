r"""Train and evaluate the rows of the chapter on likelihood, and archive them.

    python benchmarks/likelihood.py --rows 1:0 1:1 1:2 --epochs 150
    python benchmarks/likelihood.py --rows 5:0 5:1 5:2 --from 1 --epochs 30 --learning-rate 4e-3
    python benchmarks/likelihood.py --rows 50:0 50:1 50:2 --from 5 --epochs 5 \
        --batch-size 256 --learning-rate 2e-3
    python benchmarks/likelihood.py --rates --epochs 20   # rate and distortion at four betas

A row is k:seed. ``--from 1`` goes on with the network of the VAE of the same seed. What is trained
or evaluated already is not done again: networks are kept in the cache, values in
``vae_nb/likelihood.json`` (delete a row to have it made again).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vae_nb import cache, data, likelihood
from vae_nb.metrics.intervals import mean_ci
from vae_nb.metrics.latent import active_units
from vae_nb.report.published import ARCHIVE, RATES

MADE_BY = ("epochs", "batch_size", "learning_rate")  # options that decide a network


def main() -> None:
    """Do the rows that are asked for."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", nargs="+", default=["1:0", "1:1", "1:2"])
    asked.add_argument("--epochs", type=int, default=150)
    asked.add_argument("--from", dest="start", type=int, help="go on with the network of this k")
    asked.add_argument("--samples", type=int, default=5000)
    asked.add_argument("--batch-size", type=int, default=likelihood.BATCH)
    asked.add_argument("--learning-rate", type=float, default=likelihood.LEARNING_RATE)
    asked.add_argument("--images", type=int, default=10_000, help="test images, the first ones")
    asked.add_argument("--rates", action="store_true", help="the table of rates and distortions")
    args = asked.parse_args()
    torch.set_num_threads(1)
    dataset = data.load()
    if args.rates:
        rates(dataset, args)
        return
    for row in args.rows:
        if row in rows_of(ARCHIVE):
            print(f"{row} is archived already: delete it there to have it made again", flush=True)
            continue
        k, seed = map(int, row.split(":"))
        model, made = trained(k, seed, args, dataset.train_images)
        test = dataset.test_images[: args.images]
        pixels = likelihood.binarised(test, torch.Generator().manual_seed(seed))
        begun = time.perf_counter()
        values = likelihood.log_likelihood(model, pixels, args.samples, seed)
        with torch.inference_mode():
            q = model.posterior(pixels)
            noise = torch.randn(1, *q.mean.shape, generator=torch.Generator().manual_seed(seed))
            bound = likelihood.elbo(model, pixels, noise).mean().item()
        found = {
            "log_likelihood": list(mean_ci(values.numpy()).interval),
            "elbo": bound,
            "active_units": active_units(q.mean),
            "images": len(pixels),
            "samples": args.samples,
            "evaluation_seconds": time.perf_counter() - begun,
        }
        archive(ARCHIVE, row, made | found)


def rates(dataset: data.Dataset, args: argparse.Namespace) -> None:
    """Networks for one beta each, and one for all, trained twice as long; archived one by one."""
    images, betas = dataset.train_images, list(likelihood.RATES)
    generator = torch.Generator().manual_seed(0)
    pixels = likelihood.binarised(dataset.test_images, generator)
    noise = torch.randn(1, len(pixels), likelihood.LATENTS, generator=generator)
    jobs = {f"{beta:g}": (likelihood.BernoulliVAE, likelihood.weighted(beta), 1) for beta in betas}
    everything = likelihood.of_all_betas(min(betas), max(betas))
    jobs["all"] = (likelihood.MultiRateBernoulliVAE, everything, 2)
    for name, (network, objective, times) in jobs.items():
        if name in rows_of(RATES):
            continue
        start, epochs = time.process_time(), args.epochs * times
        model = likelihood.new(images, 0, network)
        options = {"batch_size": args.batch_size, "learning_rate": args.learning_rate}
        options |= {"objective": objective, "start": model}
        likelihood.train(images, 1, epochs, **options)
        row = {"epochs": epochs, "cpu_seconds": time.process_time() - start, "images": len(pixels)}
        with torch.inference_mode():
            for beta in betas if name == "all" else [float(name)]:
                at = model.at(torch.tensor([beta])) if name == "all" else model
                terms = likelihood.distortion_and_rate(at, pixels, noise)
                distortion, rate = (mean_ci(each.numpy()).interval for each in terms)
                row[f"{beta:g}"] = {"rate": list(rate), "distortion": list(distortion)}
        archive(RATES, name, row)


def rows_of(file: Path) -> dict[str, dict[str, Any]]:
    """The archived rows by name."""
    return json.loads(file.read_text()) if file.exists() else {}


def archive(file: Path, name: str, row: dict[str, Any]) -> None:
    """Add a row; others may add theirs meanwhile."""
    with cache.locked(cache.folder() / file.name):
        rows = rows_of(file) | {name: row}
        cache.write_atomically(file, json.dumps(rows, indent=1, sort_keys=True) + "\n")
    print(name, row, flush=True)


def place(row: str, made_by: Mapping[str, Any]) -> Path:
    """Where a row's network is kept: its name has all that decides it."""
    parts = [row.replace(":", "-"), *(f"{made_by[name]:g}" for name in MADE_BY)]
    if made_by["continued"]:
        start, _ = made_by["continued"].split(":")
        parts.append(f"from-{start}")
    return cache.folder() / "likelihood" / f"{'_'.join(parts)}.safetensors"


def start_of(k: int, seed: int) -> Path:
    """The network of an archived row."""
    row = f"{k}:{seed}"
    if row not in rows_of(ARCHIVE):
        raise SystemExit(f"{row} is not archived, and this row goes on from it: make {row} first")
    weights = place(row, rows_of(ARCHIVE)[row])
    if not weights.exists():
        raise SystemExit(
            f"the network of {row} is not in the cache ({weights}): delete {row} in {ARCHIVE.name} "
            "and make it again"
        )
    return weights


def trained(k: int, seed: int, args: argparse.Namespace, images: torch.Tensor):
    """The network of a row, and how it was made."""
    row, model = f"{k}:{seed}", likelihood.BernoulliVAE()
    options = {name: getattr(args, name) for name in MADE_BY}
    continued = f"{args.start}:{seed}" if args.start else None
    weights = place(row, options | {"continued": continued})
    record = weights.with_suffix(".json")  # written last: without it the weights may be half a file
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        start = None
        if args.start:
            model.load_state_dict(load_file(start_of(args.start, seed)))
            start = model
        begun, cpu = time.perf_counter(), time.process_time()
        bounds: list[float] = []

        def on_epoch(epoch: int, _: object, value: float) -> None:
            bounds.append(round(value, 3))
            print(row, epoch, round(value, 2), round(time.perf_counter() - begun), flush=True)

        model = likelihood.train(images, k, seed=seed, start=start, on_epoch=on_epoch, **options)
        save_file(model.state_dict(), weights)
        made = options | {
            "k": k,
            "seed": seed,
            "continued": continued,
            "training_bound": bounds,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
        }
        cache.write_atomically(record, json.dumps(made))
    model.load_state_dict(load_file(weights))
    return model.eval(), json.loads(record.read_text())


if __name__ == "__main__":
    main()
