"""How does everything depend on beta? A grid of models, fitted, measured, put in one table.

    python -m vae_nb.sweep --dry-run
    python -m vae_nb.sweep
    python -m vae_nb.sweep --scheduler                    # an embedded dask cluster
    python -m vae_nb.sweep --scheduler tcp://head:8786    # a dask cluster of many machines

Finished runs are kept in the store, so that a sweep that was stopped goes on where it was. On a
cluster the workers need no shared disk: each sends its row back, and a row whose worker died is
made again by another one. The table is one JSON file with a row for each run: recipe, every
measured number with its interval, two small pictures, and how the run was made.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vae_nb import archive, data, store, training
from vae_nb.evaluation import measure, reconstruction, samples
from vae_nb.store import Run
from vae_nb.training import Recipe, recipe

BETAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.0, 10.0)
SEEDS = (0, 1, 2)
SHOWN = 6  # images in each picture

# dask may give one process several tasks at once, and trainings would fight for its cores.
_one_at_a_time = threading.Lock()


def grid(
    betas: Sequence[float] = BETAS, seeds: Sequence[int] = SEEDS, **changes: Any
) -> list[Recipe]:
    """The autoencoder, the sigma-VAE and a VAE for each beta; all of them for each seed.

    ``changes`` are further arguments of :func:`vae_nb.training.recipe`.
    """
    models = [("ae", 0.0), ("sigma_vae", 0.0), *(("vae", beta) for beta in betas)]
    return [recipe(model, beta, seed=seed, **changes) for seed in seeds for model, beta in models]


def row(recipe: Recipe) -> dict[str, Any]:
    """One run, fitted and measured (both from the store if they are there): a row of the table."""
    with _one_at_a_time:
        run = store.fit(recipe, progress=False)
        start = time.perf_counter()
        measured = measure.measure(run, run.dataset) | measure.represent(run, run.dataset)
        made = run.made | {"measuring": round(time.perf_counter() - start, 2)}
        return {
            "recipe": recipe.as_dict(),
            "beta": run.beta,
            "measured": {name: _rounded(values) for name, values in measured.items()},
            "pictures": pictures(run),
            "made": made,
            "code": code(recipe),
        }


def code(recipe: Recipe) -> str:
    """A name of all that decides a row: recipe, data, and the source that fits and measures."""
    sources = [store.digest(recipe), measure.source()]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:16]


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def pictures(run: Run, count: int = SHOWN) -> dict[str, str]:
    """Reconstructions and samples of a run as small pictures, by what they show."""
    images = run.dataset.test_images[:count]
    drawn = samples.from_prior(run.model, count, seed=run.recipe.seed)
    decoded = reconstruction.reconstruct_sampled(run.model, images, seed=run.recipe.seed)
    return {"reconstructions": png(decoded), "samples": png(drawn)}


def png(images: Tensor) -> str:
    """Images ``(n, 1, 28, 28)`` in [0, 1] side by side, as a grey PNG in base64."""
    side_by_side = torch.cat(list(images[:, 0]), dim=1)
    grey = (side_by_side * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


# --- running it ---


def _name(recipe: Recipe) -> str:
    return f"row-{code(recipe)}"


def _left(recipes: Sequence[Recipe]) -> list[Recipe]:
    return [each for each in recipes if not store.is_remembered(_name(each))]


def sweep(recipes: Sequence[Recipe], cluster: Any = None) -> Iterator[dict[str, Any]]:
    """The row of each recipe, the kept ones first; each new one is kept before it is given.

    ``cluster`` is a ``dask.distributed.Client``; without one the rows are made here, one by one.
    """
    left = _left(recipes)
    for each in recipes:
        if each not in left:
            yield store.remembered(_name(each), lambda each=each: row(each))
    new = ((each, row(each)) for each in left) if cluster is None else _on(cluster, left)
    for each, made in new:
        yield store.remembered(_name(each), lambda made=made: made)


def _on(cluster: Any, recipes: Iterable[Recipe]) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    from dask.distributed import KilledWorker, as_completed

    # A row whose worker is lost is made again elsewhere; how often is dask's `allowed-failures`.
    futures = {cluster.submit(row, each, pure=False): each for each in recipes}
    for future in as_completed(futures):
        each = futures[future]
        try:
            made = future.result()
        except KilledWorker as error:
            raise RuntimeError(
                f"the workers that were given {each} died, one after the other: {error}. Do they "
                "have memory enough (2 GiB each)? The rows that came in are kept"
            ) from error
        if made["code"] != code(each):
            raise RuntimeError(
                f"a worker has another version of vae_nb, or other data: its row of {each} is "
                f"{made['code']}, not {code(each)}; install this version on every worker"
            )
        future.release()
        yield each, made


@contextlib.contextmanager
def connect(address: str, workers: int) -> Iterator[Any]:
    """A client of the scheduler at ``address``, or of a cluster of ``workers`` processes here."""
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            "--scheduler needs dask.distributed: pip install 'vae_nb[cluster]'"
        ) from error
    if address != "local":
        with Client(address, timeout="20s") as client:
            yield client
        return
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    # In place of dask's own, which are one thread, and to give freed memory back at once: in a
    # training, which asks for the same again in the next step, that was a quarter of the time.
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    given = {"distributed.nanny.pre-spawn-environ": dict.fromkeys(libraries, threads)}
    with (
        dask.config.set(given),
        LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


def seconds_needed(recipe: Recipe) -> float:
    """How long one run will take here, from two short trainings and the evaluation of one."""
    dataset = data.load(recipe.dataset, recipe.images)
    seconds = []
    for steps in (20, 60):
        few = dataclasses.replace(recipe, images=steps * recipe.batch_size, epochs=1)
        start = time.perf_counter()
        model, history = training.train(few, dataset, progress=False)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    measure.evaluate(Run(few, model, history, {}, ""), dataset)
    measuring = time.perf_counter() - start
    steps = recipe.epochs * len(dataset.train_images) // recipe.batch_size
    return seconds[0] + (seconds[1] - seconds[0]) / 40 * steps + measuring


def table(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The rows in order of model, beta and seed, with a digest, versions and the time they took."""
    order = {name: place for place, name in enumerate(training.MODELS)}

    def place(row: dict[str, Any]) -> tuple[int, float, int]:
        made_by = row["recipe"]
        return order[made_by["model"]], made_by["beta"], made_by["seed"]

    runs = sorted(rows, key=place)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("vae_nb", "torch", "torchmetrics", "scikit-learn", "scikit-image", "scipy")
    }
    return {
        "digest": archive.digest(runs),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(run["made"]["seconds"] + run["made"]["measuring"] for run in runs)),
        "versions": versions,
        "runs": runs,
    }


def write(path: Path, kept: dict[str, Any]) -> None:
    """The table as JSON, a line for each run; written beside its place and moved into it."""
    head = {name: value for name, value in kept.items() if name != "runs"}
    lines = ",\n".join(json.dumps(run) for run in kept["runs"])
    text = json.dumps(head, indent=1).removesuffix("\n}") + f',\n "runs": [\n{lines}\n]}}\n'
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vae_nb.sweep", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--betas", nargs="+", type=float, default=BETAS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=0, help="0: the profile's own number")
    parser.add_argument("--images", type=int, default=0, help="training images; 0: all")
    parser.add_argument("--dataset", default="MNIST")
    parser.add_argument("--profile", default="default")
    parser.add_argument(
        "--scheduler",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run on a dask cluster; without an address, on an embedded one on this machine",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes of the embedded cluster"
    )
    parser.add_argument("--output", type=Path, default=Path("sweep.json"))
    parser.add_argument("--dry-run", action="store_true", help="say what is left, and how long")
    given = parser.parse_args(arguments)
    shared = {name: getattr(given, name) for name in ("epochs", "images", "dataset", "profile")}
    try:
        recipes = grid(given.betas, given.seeds, **shared)
        if given.workers < 1:
            raise ValueError(f"--workers {given.workers} is not allowed: it must be 1 or more")
        if not given.output.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {given.output.parent} for --output")
        if given.dry_run:
            return _dry_run(recipes)
        rows = []
        cluster = contextlib.nullcontext()
        if given.scheduler:
            cluster = connect(given.scheduler, given.workers)
        left = _left(recipes)
        bar = tqdm(total=len(recipes), initial=len(recipes) - len(left), unit="run", smoothing=0)
        with cluster as client, bar:
            for each in sweep(recipes, client):
                rows.append(each)
                if Recipe(**each["recipe"]) in left:
                    bar.update()
                    bar.set_postfix_str(str(Recipe(**each["recipe"])))
        write(given.output, table(rows))
        print(f"{len(rows)} runs: {given.output}")
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, the same command goes on", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError, ArithmeticError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    return 0


def _dry_run(recipes: Sequence[Recipe]) -> int:
    left = _left(recipes)
    print(f"{len(recipes)} runs, {len(recipes) - len(left)} of them finished")
    if left:
        print("timing a short run ...", flush=True)
        each = seconds_needed(left[-1])
        print(
            f"about {each:.0f} s each with {torch.get_num_threads()} threads, "
            f"{len(left) * each / 60:.0f} min for the {len(left)} that are left, one by one"
        )
    return 0


if __name__ == "__main__":
    # By its name: what lives in __main__ would be sent to dask's workers as code.
    sys.exit(importlib.import_module("vae_nb.sweep").main())
