"""The whole book from archived models: none of the report's is trained or measured.

    vae-nb preview             # build it, into build/preview/
    vae-nb preview --archive   # archive the models of this machine's default build

The package carries the models that a default build shows (seed 0, in half precision), with what was
measured of them: a small cache of its own, named like any cache by recipe, data and code. It is
unpacked into a cache beside the user's, so that no trained model is mixed with it. What other code
made has another name; it is left out, said, and computed anew. Two chapters train a small network
of their own all the same, the playground and the one on likelihood.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vae_nb import cache, data, report, runs
from vae_nb.commands import book_folder, build_command
from vae_nb.recipe import Recipe, recipe

CARRIED = runs.CARRIED
WEIGHTS = "weights.safetensors"
KINDS = ("real", "pixels", "components", "eigenvalues")  # of what is measured without a model
PREVIEW = "VAE_NB_PREVIEW"  # in the environment of a build: what its pages say of their models


def shown() -> list[Recipe]:
    """The recipes of all models that the book shows at its defaults."""
    return [recipe(*key) for key in [*report.models(), ("sigma_vae", 0.0), ("multi_rate", 0.0)]]


def archive_models(target: Path = CARRIED) -> int:
    """Carry this cache's models of a default build in ``target``; returns the bytes of all.

    Raises :class:`FileNotFoundError` that names a model which was not trained here.
    """
    source, dataset = cache.folder(), data.load("MNIST")
    digests = [runs.digest(each, dataset) for each in shown()]
    for each in shown():
        if not runs.is_fitted(each):
            raise FileNotFoundError(f"{each} was not trained here: build the book first")
    with_name = [*digests, *(f"{digest}-" for digest in digests)]
    kinds = [f"{kind}-{dataset.digest}" for kind in KINDS]
    measured = [
        path
        for path in sorted((source / "measured").iterdir())
        if path.suffix != ".lock" and path.name.startswith(tuple([*with_name, *kinds]))
    ]
    shutil.rmtree(target, ignore_errors=True)
    folders = [source / "runs" / digest for digest in digests]
    folders += [path for path in (source / "classifiers").iterdir() if path.is_dir()]
    for folder in folders:
        cache.compute_once(target / folder.parent.name / folder.name, _halved(folder))
    (target / "measured").mkdir()
    for path in measured:
        shutil.copy(path, target / "measured" / path.name)
    for lock in target.rglob("*.lock"):
        lock.unlink()
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _halved(folder: Path) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        halves = {k: t.half() if t.dtype == torch.float32 else t for k, t in tensors.items()}
        save_file(halves, place / WEIGHTS)
        for path in folder.glob("*.json"):
            if path.name == "recipe.json":
                record = json.loads(path.read_text())
                record["made"]["archived"] = True
                (place / path.name).write_text(json.dumps(record, indent=1))
            elif path.name != "checksums.json":
                shutil.copy(path, place)

    return write


def unpack(target: Path, carried: Path = CARRIED) -> list[Recipe]:
    """Put what is carried into the cache ``target``; returns the recipes that are not carried.

    What is there already stays. Damaged models count as not carried.
    """
    dataset = data.load("MNIST")
    missing = []
    for each in shown():
        name = runs.digest(each, dataset)
        if cache.is_cached(carried / "runs" / name):
            _copy([carried / "runs" / name], target / "runs")
        else:
            missing.append(each)
    _copy((carried / "classifiers").glob("*"), target / "classifiers")
    _copy((carried / "measured").glob("*"), target / "measured")
    return missing


def _copy(sources: Iterable[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        place = target / source.name
        if not cache.is_cached(source, None if source.is_dir() else []):
            continue  # damaged; a copy would have checksums that are right for it
        if source.is_dir():
            cache.compute_once(place, functools.partial(_copy_files, source))
            continue
        with cache.locked(place):
            if not place.exists():
                cache.write_atomically(place, source.read_text(encoding="utf-8"))


def _copy_files(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.name != "checksums.json":  # written anew
            shutil.copy(path, target)


def environment() -> dict[str, str]:
    """For kernels: where no book was built on this machine, the archived models are their cache."""
    target = cache.folder() / "preview"
    model = recipe("ae")
    if runs.is_fitted(model) or model in unpack(target):  # made here, or archived by other code
        return {}
    return {"VAE_NB_CACHE": str(target)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb preview``."""
    parser.add_argument("--book", help="the book's folder, if not beside the package")
    parser.add_argument("--output", type=Path, default=Path("build/preview"))
    parser.add_argument(
        "--archive",
        action="store_true",
        help="keep the models of this machine's default build as the archived ones",
    )


def run(given: argparse.Namespace) -> int:
    """Unpack and build, or keep the models of this machine."""
    if given.archive:
        print(f"{CARRIED}: {archive_models() / 1e6:.1f} MB")
        return 0
    book, target = book_folder(given.book), cache.folder() / "preview"
    for each in unpack(target):
        print(f"{each}: the archived model is of other code; it is trained now", flush=True)
    environment = os.environ | {"VAE_NB_CACHE": str(target), PREVIEW: "1"}
    command = build_command(book, "--path-output", str(given.output))
    code = subprocess.run(command, env=environment, check=False).returncode
    if code == 0:
        print(f"The preview: {given.output.resolve() / '_build' / 'html' / 'index.html'}")
    return code
