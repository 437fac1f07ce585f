"""Train and evaluate the rows of the chapter on likelihood, and archive them.

    python benchmarks/likelihood.py [--rows 1:0 1:1 5:0] [--epochs 100] [--from 1] [--samples 5000]
    python benchmarks/likelihood.py --rates --epochs 20   # rate and distortion at four betas

A row is k:seed. ``--from 1`` goes on with the network of the VAE of the same seed. What is trained
or evaluated already is not done again: networks are kept in the cache, values in
``vae_nb/likelihood.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vae_nb import cache, data, likelihood
from vae_nb.metrics.intervals import mean_ci
from vae_nb.metrics.latent import active_units

ARCHIVE = Path(likelihood.__file__).with_name("likelihood.json")
RATES = ARCHIVE.with_suffix(".rates.json")


def main() -> None:
    """Do the rows that are asked for."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", nargs="+", default=["1:0", "1:1", "1:2", "5:0", "5:1", "5:2"])
    asked.add_argument("--epochs", type=int, default=100)
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
        if archived().get(row, {}).get("images", 0) >= args.images:
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
        text = json.dumps(archived() | {row: made | found}, indent=1, sort_keys=True)
        cache.write_atomically(ARCHIVE, text + "\n")
        print(row, found, flush=True)


def rates(dataset: data.Dataset, args: argparse.Namespace) -> None:
    """Networks for one beta each, and one for all, trained twice as long; archived one by one."""
    images, betas = dataset.train_images, list(likelihood.RATES)
    generator = torch.Generator().manual_seed(0)
    pixels = likelihood.binarised(dataset.test_images, generator)
    noise = torch.randn(1, len(pixels), likelihood.LATENTS, generator=generator)
    jobs = {f"{beta:g}": (likelihood.BernoulliVAE, likelihood.weighted(beta), 1) for beta in betas}
    everything = likelihood.of_all_betas(min(betas), max(betas))
    jobs["all"] = (likelihood.AllBetaVAE, everything, 2)
    for name, (network, objective, times) in jobs.items():
        kept = json.loads(RATES.read_text()) if RATES.exists() else {}
        if name in kept:
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
        cache.write_atomically(RATES, json.dumps(kept | {name: row}, indent=1) + "\n")
        print(name, row, flush=True)


def archived() -> dict[str, dict]:
    """The rows by name."""
    return json.loads(ARCHIVE.read_text()) if ARCHIVE.exists() else {}


def place(row: str) -> Path:
    """Where a row's network is kept."""
    return cache.folder() / "likelihood" / f"{row.replace(':', '-')}.safetensors"


def trained(k: int, seed: int, args: argparse.Namespace, images: torch.Tensor):
    """The network of a row, and how it was made."""
    row = f"{k}:{seed}"
    model = likelihood.BernoulliVAE()
    record = place(row).with_suffix(".json")
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        if args.start:
            model.load_state_dict(load_file(place(f"{args.start}:{seed}")))
        begun, cpu = time.perf_counter(), time.process_time()
        bounds: list[float] = []

        def on_epoch(epoch: int, _: object, value: float) -> None:
            bounds.append(round(value, 3))
            print(row, epoch, round(value, 2), round(time.perf_counter() - begun), flush=True)

        start = model if args.start else None
        options = {"batch_size": args.batch_size, "learning_rate": args.learning_rate}
        model = likelihood.train(images, k, args.epochs, seed, start, on_epoch, **options)
        save_file(model.state_dict(), place(row))
        made = {
            "k": k,
            "seed": seed,
            "epochs": args.epochs,
            "continued": f"{args.start}:{seed}" if args.start else None,
            "batch_size": args.batch_size,
            "learning_rate": args.learning_rate,
            "training_bound": bounds,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
        }
        cache.write_atomically(record, json.dumps(made))
    model.load_state_dict(load_file(place(row)))
    return model.eval(), json.loads(record.read_text())


if __name__ == "__main__":
    main()
