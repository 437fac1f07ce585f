"""From a recipe to a fitted run, fitted once and kept.

A run lies in a folder of the cache, named by its recipe, the content of its data set, and the code
that decides its weights. It holds ``weights.safetensors``, ``history.json`` and ``recipe.json``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vae_nb import cache, convolutions, data, models, objective, optim, progress, training
from vae_nb.data import Dataset
from vae_nb.recipe import Recipe
from vae_nb.training import History


@dataclasses.dataclass(frozen=True)
class Run:
    """A fitted model (on the CPU, in eval mode), how it was made, and its history.

    ``made`` says when, where and how long: seconds, device, threads, versions. ``at_beta`` is the
    beta at which a multi-rate VAE is taken (see :meth:`at`).
    """

    recipe: Recipe
    model: Any
    history: History
    made: dict[str, Any]
    digest: str
    at_beta: float | None = None

    def at(self, beta: float) -> Run:
        """What a multi-rate VAE is at one beta: a run of an ordinary VAE, measured as such.

        Its history has no curves, since all betas were trained at once.
        """
        model = self.model.at(beta).to(memory_format=torch.channels_last)
        values = objective.held_out(model, self.dataset.test_images, beta)
        name = f"{self.digest}-{beta:g}"
        return Run(self.recipe, model, History([], [], [values]), self.made, name, beta)

    @property
    def beta(self) -> float:
        """The weight of the KL that it was fitted with, or that it found; nan where it has all."""
        if self.at_beta is not None:
            return self.at_beta
        return self.recipe.objective().fitted_beta(self.history.held_out[-1], self.latent_dim)

    @property
    def latent_dim(self) -> int:
        """M, the number of latents."""
        return self.recipe.latent_dim

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set that it was fitted to and is held against."""
        return data.load(self.recipe.dataset, self.recipe.train_images)

    def encode(self, images: Tensor) -> Tensor:
        """Codes or posterior means of any number of images; see :func:`vae_nb.models.encode`."""
        return models.encode(self.model, images)

    def decode(self, codes: Tensor) -> Tensor:
        """Images of any number of codes; see :func:`vae_nb.models.decode`."""
        return models.decode(self.model, codes)


def folder() -> Path:
    """Where runs are kept."""
    return cache.folder() / "runs"


def code(recipe: Recipe) -> str:
    """A digest of the code that decides the weights of this recipe (16 hex digits)."""
    objective_class = type(recipe.objective())
    parts = (recipe.kind.network, objective_class, convolutions, models, objective, optim, training)
    return cache.source_digest(*sorted({Path(inspect.getfile(part)) for part in parts}))[:16]


def digest(recipe: Recipe, dataset: Dataset | None = None) -> str:
    """The name of a recipe's run: changes with recipe, data, and the code behind its weights."""
    dataset = dataset or data.load(recipe.dataset, recipe.train_images)
    named = {"network": recipe.kind.network.__qualname__, "objective": repr(recipe.objective())}
    if recipe.begins_as:
        named["start"] = digest(recipe.begins_as, dataset)
    parts = [json.dumps(recipe.as_dict() | named, sort_keys=True), dataset.digest, code(recipe)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


CARRIED = Path(__file__).parent / "carried"  # models that the package brings with it


def is_carried(recipe: Recipe, dataset: Dataset | None = None) -> bool:
    """Whether the package brings the run of ``recipe``, undamaged and made by this code."""
    return cache.is_cached(CARRIED / "runs" / digest(recipe, dataset))


def is_fitted(recipe: Recipe) -> bool:
    """Whether the run of ``recipe`` is kept, undamaged; changes nothing."""
    return cache.is_cached(folder() / digest(recipe))


def is_being_fitted(recipe: Recipe) -> bool:
    """Whether somebody is at it: :func:`fit` would wait for them."""
    return cache.is_busy(folder() / digest(recipe))


def fit(recipe: Recipe, device: str | None = None, show_progress: bool | None = None) -> Run:
    """The run of ``recipe``: read from the cache, or fitted now and kept there.

    Raises :class:`vae_nb.cache.CacheError` that names the folder and the remedy if it cannot be
    written; it is raised before any training.
    """
    dataset = data.load(recipe.dataset, recipe.train_images)
    name = digest(recipe, dataset)

    def write(place: Path) -> None:
        network = _start(recipe, device, show_progress)
        start = time.perf_counter()
        seen = dataset
        if recipe.share is not None:  # at least one batch
            part = round(recipe.share * len(dataset.train_images))
            seen = dataset.first(max(recipe.batch_size, part))
        steps = recipe.epochs * training.steps_per_epoch(recipe, len(seen.train_images))
        with progress.bar(steps, str(recipe), show=show_progress) as advance:
            model, history = training.train(recipe, seen, device, advance, network)
        made = _provenance(time.perf_counter() - start, device)
        record = {"recipe": recipe.as_dict(), "made": made}
        weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        save_file(weights, place / "weights.safetensors")
        (place / "history.json").write_text(json.dumps(dataclasses.asdict(history)))
        (place / "recipe.json").write_text(json.dumps(record, indent=1))

    read = functools.partial(_read, recipe)
    model, history, made = cache.compute_once(folder() / name, write, read)
    return Run(recipe, model, history, made, name)


def _start(recipe: Recipe, device: str | None, show_progress: bool | None) -> Any:
    """The network to begin with, None for a new one.

    One that is kept here comes first, then the archived one; without either it is trained now.
    """
    begins_as = recipe.begins_as
    if begins_as is None:
        return None
    name = digest(begins_as)
    if not cache.is_cached(folder() / name) and cache.is_cached(CARRIED / "runs" / name):
        with contextlib.suppress(Exception):  # whatever a wrong file leads to
            return _read(begins_as, CARRIED / "runs" / name)[0].at(recipe.beta)
    return fit(begins_as, device, show_progress).model.at(recipe.beta)


def _read(recipe: Recipe, place: Path) -> tuple[Any, History, dict[str, Any]]:
    """Model, history, and how they were made; raises if one of them is not what it has to be."""
    record = json.loads((place / "recipe.json").read_text())
    if record["recipe"] != recipe.as_dict():
        raise ValueError(f"it is another recipe's: {record['recipe']}")
    model = training.new_model(recipe)
    weights = load_file(place / "weights.safetensors")
    model.load_state_dict(weights)
    if broken := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        raise ValueError(f"weights that are not finite: {', '.join(broken)}")
    history = History(**json.loads((place / "history.json").read_text()))
    model = model.to(memory_format=torch.channels_last).eval()  # a quarter faster on the CPU
    return model, history, record["made"]


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
