"""A grid of models, fitted and measured, in one table: how everything depends on beta.

    vae-nb sweep --dry-run
    vae-nb sweep                                # the archive of the book
    vae-nb sweep --finished                     # write what is finished so far
    vae-nb sweep --betas 0.1 1 --seeds 0 1      # a grid of your own
    vae-nb sweep --scheduler                    # an embedded dask cluster
    vae-nb sweep --scheduler tcp://head:8786    # a dask cluster of many machines

Finished rows are cached, so that a sweep that was stopped resumes; rows of the book's archive that
today's code made are taken from there. On a cluster the workers need no
shared disk: each sends its row back, and a row whose worker died is computed again by another one.
The table is one JSON file with a row for each run: recipe, every measured number with its interval,
two small pictures, how the run was made, and digests of the code behind weights and measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vae_nb import archive, cache, data, metrics, report, runs, thumbnails, training
from vae_nb.data import SIDE, Dataset
from vae_nb.metrics.intervals import Estimate
from vae_nb.recipe import MODELS, Recipe, recipe

BETAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.0, 10.0)
SEEDS = (0, 1, 2)
# Of the report's models: trainings at the defaults, and by the report's own recipe.
DEFAULT_SEEDS, REPORT_SEEDS = 10, 5

# dask may give one process several tasks at once, and trainings would fight for its cores.
_one_at_a_time = threading.Lock()


def grid(
    betas: Sequence[float] = BETAS, seeds: Sequence[int] = SEEDS, **changes: Any
) -> list[Recipe]:
    """The autoencoder, the sigma-VAE and a VAE for each beta; all of them for each seed.

    ``changes`` are further arguments of :func:`vae_nb.recipe.recipe`.
    """
    models = [("ae", 0.0), ("sigma_vae", 0.0), *(("vae", beta) for beta in betas)]
    return [recipe(model, beta, seed=seed, **changes) for seed in seeds for model, beta in models]


def plan() -> list[Recipe]:
    """The recipes of the book's archive, seed by seed, so that one that is stopped has whole ones.

    At the defaults three seeds of :func:`grid` and more of the report's models, and these by the
    report's recipe.
    """
    recipes = []
    for seed in range(DEFAULT_SEEDS):
        recipes += [recipe(*key, seed=seed) for key in report.models()]
        if seed in SEEDS:
            recipes += [each for each in grid(seeds=[seed]) if each not in recipes]
        if seed < REPORT_SEEDS:
            recipes += [recipe(*key, archive.REPORT, seed=seed) for key in report.models()]
    return recipes


def measured_of(recipe: Recipe) -> list[str]:
    """The metrics of a row: all for the first seeds, for more of them those that claims read.

    Probes take long, and large mixtures longest: these are fitted to the report's models and to the
    one whose decoder learned its variance.
    """
    read = report.reads(recipe.model, recipe.beta)
    slow = {"densities", "probes"}
    if recipe.seed in SEEDS:
        key = (recipe.model, recipe.beta)
        slow = set() if key in [*report.models(), ("sigma_vae", 0.0)] else {"densities"}
    return [n for n, metric in metrics.METRICS.items() if n in read or metric.section not in slow]


def row(recipe: Recipe) -> dict[str, Any]:
    """One run, fitted and measured (both cached): a row of the table."""
    with _one_at_a_time:
        run = runs.fit(recipe, show_progress=False)
        start = time.perf_counter()
        measured = metrics.of(run, measured_of(recipe))
        made = run.made | {"measuring": round(time.perf_counter() - start, 2)}
        return {
            "recipe": recipe.as_dict(),
            "beta": run.beta,
            "measured": {name: _rounded(values) for name, values in measured.items()},
            "pictures": thumbnails.pictures(run),
            "made": made,
            "code": archive.code(recipe),
        }


def _rounded(estimate: Estimate) -> list[Any]:
    *interval, parts = estimate
    kept: list[Any] = [float(f"{value:.6g}") for value in interval]
    return [*kept, [float(f"{value:.5g}") for value in parts]] if parts else kept


def _place(recipe: Recipe) -> Path:
    """Where a row is cached: named by recipe, data, and all code that decides it."""
    code = json.dumps(archive.code(recipe), sort_keys=True)
    parts = f"{runs.digest(recipe, _held(recipe.dataset))}\n{code}"
    name = hashlib.sha256(parts.encode()).hexdigest()[:24]
    return cache.folder() / "rows" / name


_held = functools.cache(data.load)  # a set is asked for with every recipe: read once


def unfinished(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Those whose row is neither archived nor cached; changes nothing."""
    kept = _archived()
    return [e for e in recipes if e not in kept and not cache.is_cached(_place(e), ["row"])]


@functools.cache
def _archived() -> dict[Recipe, dict[str, Any]]:
    """The rows of the book's archive that were made by today's code, as they are written there."""
    stale = {row.recipe for row in archive.stale(archive.read().rows)}
    rows = {Recipe(**row["recipe"]): row for row in json.loads(archive.ARCHIVE.read_text())["runs"]}
    return {recipe: row for recipe, row in rows.items() if recipe not in stale}


def sweep(recipes: Sequence[Recipe], cluster: Any = None) -> Iterator[dict[str, Any]]:
    """The row of each recipe, the finished ones first; each new one is cached before it is given.

    ``cluster`` is a ``dask.distributed.Client``; without one the rows are computed here, in order.
    """
    missing = unfinished(recipes)
    for each in recipes:
        if each not in missing:
            yield _cached(each, lambda each=each: row(each))
    new = ((each, row(each)) for each in missing) if cluster is None else _on(cluster, missing)
    for each, made in new:
        yield _cached(each, lambda made=made: made)


def _cached(recipe: Recipe, compute: Any) -> dict[str, Any]:
    if archived := _archived().get(recipe):
        return archived

    def read(kept: Any) -> Any:
        if kept["recipe"] != recipe.as_dict():
            raise ValueError(f"it is another recipe's: {kept['recipe']}")
        return kept

    return cache.values(_place(recipe), ["row"], lambda _: {"row": compute()}, read)["row"]


def _on(cluster: Any, recipes: Iterable[Recipe]) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    from dask.distributed import KilledWorker, as_completed

    # A row whose worker is lost is computed elsewhere; how often is dask's `allowed-failures`.
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
        if made["code"] != archive.code(each):
            raise RuntimeError(
                f"a worker has another version of vae_nb: its row of {each} was made by "
                f"{made['code']}, not {archive.code(each)}; install this version on every worker"
            )
        future.release()
        yield each, made


@contextlib.contextmanager
def connect(address: str, workers: int) -> Iterator[Any]:
    """A client of the scheduler at ``address``, or ("local") of ``workers`` processes here."""
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
    environment = {"distributed.nanny.pre-spawn-environ": dict.fromkeys(libraries, threads)}
    with (
        dask.config.set(environment),
        LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


# --- how long it takes, and the table ---


def seconds_needed(recipe: Recipe) -> float:
    """How long a run will take here, from short trainings on noise; nothing is read or written.

    The measuring takes what it took when the archive was made, scaled by how much faster or slower
    this machine trains the archived run.
    """
    rows = archive.read().rows
    archived = max(rows, key=lambda row: (row.recipe.model == recipe.model, row.recipe == recipe))
    per_step = archived.made["seconds"] / _steps(archived.recipe)
    measuring = statistics.median(row.made["measuring"] for row in rows)
    scale = _seconds_per_step(archived.recipe) / per_step
    return _steps(recipe) * _seconds_per_step(recipe) + scale * measuring


def _steps(recipe: Recipe) -> int:
    """Of the whole training; all sets have 60,000 training images."""
    return recipe.epochs * training.steps_per_epoch(recipe, recipe.train_images or 60_000)


def _seconds_per_step(recipe: Recipe) -> float:
    """Of a training, without its start and its evaluation: the difference of a long and a short."""
    return _timed(dataclasses.replace(recipe, seed=0, epochs=1, train_images=None))


@functools.cache
def _timed(recipe: Recipe, few: int = 20, many: int = 60) -> float:
    seconds = []
    for steps in (few, many):
        images = torch.rand(steps * recipe.batch_size, 1, SIDE, SIDE)
        labels = torch.zeros(len(images), dtype=torch.int64)
        noise = Dataset(recipe.dataset, images, labels, images[:2], labels[:2], digest="")
        start = time.perf_counter()
        training.train(recipe, noise)
        seconds.append(time.perf_counter() - start)
    return max(0.0, seconds[1] - seconds[0]) / (many - few)


def table(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The rows in order of model, beta, recipe and seed, and what belongs to them.

    That is a digest, versions, the time they took, the controls, and the tests of the claims.
    """
    order = list(MODELS)

    def place(row: dict[str, Any]) -> tuple[int, float, int, int]:
        made_by = row["recipe"]
        kind = order.index(made_by["model"]), made_by["beta"]
        return *kind, made_by["width"], made_by["seed"]

    ordered = sorted(rows, key=place)
    packages = ("vae_nb", "torch", "torchmetrics", "scikit-learn", "scikit-image", "scipy")
    kept = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(row["made"]["seconds"] + row["made"]["measuring"] for row in ordered)),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "claims": claims(),
        "controls": controls(),
        "runs": ordered,
    }
    return {"digest": archive.digest(kept)} | kept


def controls() -> dict[str, Any]:
    """The measures of samples, of every control on MNIST."""
    dataset = _held("MNIST", None)
    return {
        name: {m: _rounded(value) for m, value in metrics.of_control(dataset, name).items()}
        for name in metrics.CONTROLS
    }


def claims() -> dict[str, Any]:
    """The tests of all claims, and the commit in which they were written down.

    As long as they are those of the archive, its commit is: rows that are measured later were
    measured after it.
    """
    tests = report.tests()
    archived = archive.read().claims
    if archived["tests"] == tests:
        return dict(archived)
    return {"commit": _last_commit_of_claims(), "tests": tests}


def _last_commit_of_claims() -> str:
    """The commit that last changed a module of claims, "" outside of a clone."""
    folder = Path(report.__file__).parent
    files = sorted(path.name for path in folder.glob("q*.py"))
    command = ["git", "log", "-1", "--format=%h", "--", *files]
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def write(path: Path, kept: dict[str, Any]) -> None:
    """The table as JSON, a line for each run, atomically."""
    head = {name: value for name, value in kept.items() if name != "runs"}
    lines = ",\n".join(json.dumps(run) for run in kept["runs"])
    text = json.dumps(head, indent=1).removesuffix("\n}") + f',\n "runs": [\n{lines}\n]}}\n'
    cache.write_atomically(path, text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb sweep``."""
    parser.add_argument("--betas", nargs="+", type=float)
    parser.add_argument("--seeds", nargs="+", type=int)
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
    parser.add_argument(
        "--finished", action="store_true", help="write the rows that are finished, and no more"
    )


def run(given: argparse.Namespace) -> int:
    """Sweep and write the table, or say what that would take."""
    from tqdm import tqdm

    changes: dict[str, Any] = {
        "epochs": given.epochs,
        "train_images": given.images or None,
        "dataset": given.dataset,
        "profile": given.profile,
    }
    own = (given.betas, given.seeds, given.epochs, given.images)
    if any(own) or (given.dataset, given.profile) != ("MNIST", "default"):
        recipes = grid(given.betas or BETAS, given.seeds or SEEDS, **changes)
    else:
        recipes = plan()
    if given.workers < 1:
        raise ValueError(f"--workers {given.workers} is not allowed: it must be 1 or more")
    if not given.output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {given.output.parent} for --output")
    missing = unfinished(recipes)
    if given.dry_run:
        _report(recipes, missing)
        return 0
    if given.finished:
        recipes, missing = [each for each in recipes if each not in missing], []
    cluster: Any = contextlib.nullcontext()
    if given.scheduler:
        cluster = connect(given.scheduler, given.workers)
    bar = tqdm(total=len(recipes), initial=len(recipes) - len(missing), unit="run", smoothing=0)
    rows = []
    try:
        with cluster as client, bar:
            for each in sweep(recipes, client):
                rows.append(each)
                if (done := Recipe(**each["recipe"])) in missing:
                    bar.update()
                    bar.set_postfix_str(str(done))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished runs are kept, the same command resumes") from None
    write(given.output, table(rows))
    print(f"{len(rows)} runs: {given.output}")
    return 0


def _report(recipes: Sequence[Recipe], missing: Sequence[Recipe]) -> None:
    print(f"{len(recipes)} runs, {len(recipes) - len(missing)} of them finished")
    if missing:
        print("timing short trainings ...", flush=True)
        each = seconds_needed(missing[-1])
        print(
            f"about {each:.0f} s each with {torch.get_num_threads()} threads, "
            f"{len(missing) * each / 60:.0f} min for the {len(missing)} that are left, one by one"
        )
