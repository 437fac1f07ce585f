"""The models that the package carries: what a default build shows, and what was measured of it.

They are of seed 0, in half precision: a small cache of its own, named like any cache by recipe,
data and code. It is unpacked into a cache beside the user's, so that no trained model is mixed with
it. What other code made has another name; it is left out, said, and computed anew.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vae_nb import cache, data, likelihood, report, runs
from vae_nb.recipe import Recipe, recipe

CARRIED = runs.CARRIED
WEIGHTS = "weights.safetensors"
BERNOULLI = "the Bernoulli VAE of the chapter on likelihood"
KINDS = ("real", "pixels", "components", "eigenvalues")  # of what is measured without a model


def shown() -> list[Recipe]:
    """The recipes of all models that the book shows at its defaults."""
    return [recipe(*key) for key in [*report.models(), ("sigma_vae", 0.0), ("multi_rate", 0.0)]]


def archive(target: Path = CARRIED) -> int:
    """Carry this cache's models of a default build in ``target``; returns the bytes of all.

    Raises :class:`FileNotFoundError` that names a model which was not trained here.
    """
    source, dataset = cache.folder(), data.load("MNIST")
    folders = {str(each): runs.folder() / runs.digest(each, dataset) for each in shown()}
    digests = [folder.name for folder in folders.values()]
    folders[BERNOULLI] = likelihood.place(dataset)
    for name, folder in folders.items():
        if not cache.is_cached(folder):
            raise FileNotFoundError(f"{name} was not trained here: build the book first")
    folders |= {path.name: path for path in (source / "classifiers").iterdir() if path.is_dir()}
    with_name = [*digests, *(f"{digest}-" for digest in digests)]
    kinds = [f"{kind}-{dataset.digest}" for kind in KINDS]
    measured = [
        path
        for path in sorted((source / "measured").iterdir())
        if path.suffix != ".lock" and path.name.startswith(tuple([*with_name, *kinds]))
    ]
    shutil.rmtree(target, ignore_errors=True)
    for folder in folders.values():
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
            elif path.name != "checksums.json":  # a history, of which pages draw the curves
                history = json.loads(path.read_text(), parse_float=_rounded)
                (place / path.name).write_text(json.dumps(history))

    return write


def _rounded(text: str) -> float:
    return float(f"{float(text):.5g}")


def unpack(target: Path, carried: Path = CARRIED) -> list[str]:
    """Put what is carried into the cache ``target``; returns the names of models that are not.

    What is there already stays. Damaged models count as not carried.
    """
    dataset = data.load("MNIST")
    places = {str(each): f"runs/{runs.digest(each, dataset)}" for each in shown()}
    places[BERNOULLI] = f"likelihood/{likelihood.place(dataset).name}"
    missing = []
    for model, place in places.items():
        if cache.is_cached(carried / place):
            _copy([carried / place], (target / place).parent)
        else:
            missing.append(model)
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
    if runs.is_fitted(model) or str(model) in unpack(target):
        return {}  # made here, or archived by other code
    return {"VAE_NB_CACHE": str(target)}
