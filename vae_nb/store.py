"""Have we fitted it before? Recipe to run on disk, exactly once, whoever asks.

One folder per run under ``cache_folder()/"runs"``, named by a digest of the recipe, of the data
set, and of the source of the rooms that decide the weights. It holds ``weights.safetensors``,
``history.json``, ``recipe.json`` and ``checksums.json``. It is written beside its place and renamed
into it, so that a killed process leaves no half run; a lock makes a second process wait for the
first; a folder that does not verify is set aside with a warning and its run is fitted again.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from vae_nb import data, models, objective, training
from vae_nb.data import Dataset
from vae_nb.models import VAE, Autoencoder, MultiRateVAE
from vae_nb.training import History, Recipe

# An edit of one of these re-trains; an edit of any other room, of prose or of a figure never does.
_ROOMS_THAT_DECIDE_THE_WEIGHTS = (models, objective, training)


@dataclasses.dataclass(frozen=True)
class Run:
    """A fitted model (on the CPU, in eval mode), how it was made, and what was seen on the way.

    ``made`` says when, where and how long: seconds, device, threads, versions. ``at_beta`` is the
    beta at which a multi-rate VAE is looked at (see :meth:`at`).
    """

    recipe: Recipe
    model: Autoencoder | VAE | MultiRateVAE
    history: History
    made: dict[str, Any]
    digest: str
    at_beta: float | None = None

    def at(self, beta: float) -> Run:
        """What a multi-rate VAE is at one beta: a run of an ordinary VAE, to be measured as such.

        Its history has no curves, since all betas were trained at once.
        """
        model = self.model.at(beta).to(memory_format=torch.channels_last)
        values = objective.held_out(model, self.dataset.test_images, beta)
        name = f"{self.digest}-{beta:g}"
        return Run(self.recipe, model, History([], [], [values]), self.made, name, beta)

    @property
    def beta(self) -> float:
        """The weight of the KL that it was fitted with; for a sigma-VAE, the one that it found."""
        if self.at_beta is not None:
            return self.at_beta
        if self.recipe.model != "sigma_vae":
            return self.recipe.beta
        error = self.history.held_out[-1]["mse_sample"]
        return objective.beta_of_decoder_variance(error, self.recipe.latent_dim)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set that it was fitted to and is held against."""
        return data.load(self.recipe.dataset, self.recipe.images)


def runs_folder() -> Path:
    """Where runs are kept; ``VAE_NB_CACHE`` moves it."""
    return data.cache_folder() / "runs"


def digest(recipe: Recipe) -> str:
    """The name of a recipe's run: changes with recipe, data, or code that decides the weights."""
    parts = [recipe.digest(), data.digest(recipe.dataset)]
    parts += [source_digest(Path(room.__file__)) for room in _ROOMS_THAT_DECIDE_THE_WEIGHTS]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@functools.cache
def source_digest(path: Path) -> str:
    """A name of what a source file does: a comment, a docstring or the layout do not change it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def fit(recipe: Recipe, device: str | None = None, progress: bool | None = None) -> Run:
    """The run of ``recipe``: read from the store, or fitted now and kept there.

    Raises :class:`OSError` that names the folder and the remedy if the store cannot be written;
    it is raised before any training, so that no work is lost to it.
    """
    name = digest(recipe)

    def make() -> dict[str, Callable[[Path], None]]:
        start = time.perf_counter()
        model, history = training.train(
            recipe, data.load(recipe.dataset, recipe.images), device, progress
        )
        made = _provenance(time.perf_counter() - start, device)
        record = {"recipe": recipe.as_dict(), "made": made}
        return {
            "weights.safetensors": lambda path: save_file(dict(training.weights(model)), path),
            "history.json": lambda path: path.write_text(json.dumps(dataclasses.asdict(history))),
            "recipe.json": lambda path: path.write_text(json.dumps(record, indent=1)),
        }

    folder = once(runs_folder() / name, make)
    record = json.loads((folder / "recipe.json").read_text())
    model = training.new_model(recipe)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    history = History(**json.loads((folder / "history.json").read_text()))
    model = model.to(memory_format=torch.channels_last).eval()  # a quarter faster on the CPU
    return Run(recipe, model, history, record["made"], name)


def once(folder: Path, make: Callable[[], dict[str, Callable[[Path], None]]]) -> Path:
    """``folder``, verified; filled from ``make()`` (file name to writer) if it is not there.

    Of several processes that ask at once, one makes it and the others wait. Raises
    :class:`OSError` that names the folder and the remedy if it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{folder.name}.lock")
        with lock:
            if folder.exists() and _verified(folder):
                return folder
            _ensure_writable(folder.parent)
            writers = make()
            _write(folder, writers)
    except OSError as error:
        if error.errno is None or "VAE_NB_CACHE" in str(error):  # the data's own, clear already
            raise
        raise OSError(
            error.errno,
            f"cannot keep a run in {folder.parent}: {error.strerror or error}. Free some space "
            "there or set the environment variable VAE_NB_CACHE to a folder that can be written",
        ) from error
    return folder


def remembered(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON values of ``compute()``, computed once under this ``name``."""

    def make() -> dict[str, Callable[[Path], None]]:
        values = compute()
        return {"values.json": lambda path: path.write_text(json.dumps(values))}

    folder = once(data.cache_folder() / "measured" / name, make)
    return json.loads((folder / "values.json").read_text())


def is_remembered(name: str) -> bool:
    """Whether :func:`remembered` has values under this ``name``, undamaged."""
    folder = data.cache_folder() / "measured" / name
    return folder.exists() and _verified(folder)


def _ensure_writable(folder: Path, needed: int = 64 * 2**20) -> None:
    """Fail before the training rather than after it."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(28, f"only {free / 2**20:.0f} MiB free, {needed / 2**20:.0f} needed")


def _write(folder: Path, writers: dict[str, Callable[[Path], None]]) -> None:
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, write in writers.items():
            write(beside / name)
        sums = {name: hashlib.sha256((beside / name).read_bytes()).hexdigest() for name in writers}
        (beside / "checksums.json").write_text(json.dumps(sums, indent=1))
        os.replace(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _verified(folder: Path) -> bool:
    """Whether every file is what was written; if not, the folder is set aside with a warning."""
    try:
        sums = json.loads((folder / "checksums.json").read_text())
        damaged = [
            name
            for name, digest in sums.items()
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest
        ]
    except (OSError, ValueError, AttributeError) as error:
        damaged = [str(error)]
    if not damaged:
        return True
    aside = Path(tempfile.mkdtemp(prefix=f"damaged-{folder.name}-", dir=folder.parent))
    os.replace(folder, aside)
    warnings.warn(
        f"the stored run {folder} is damaged ({', '.join(damaged)}); it is set aside as "
        f"{aside.name} and fitted again",
        stacklevel=4,
    )
    return False


def _provenance(seconds: float, device: str | None) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": str(training.choose_device(device)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
