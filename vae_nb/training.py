"""The training loop: a :class:`Recipe` in, a fitted model and its history out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vae_nb.data import Dataset
from vae_nb.optim import Optimiser
from vae_nb.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class History:
    """What was recorded while fitting.

    ``reconstruction`` and ``kl`` have one value a step (training mode, the batch of that step, the
    units of the objective); ``held_out`` has one dictionary an epoch (see ``objective.held_out``).
    """

    reconstruction: list[float]
    kl: list[float]
    held_out: list[dict[str, float]]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return len(self.reconstruction) // len(self.held_out)


def new_model(recipe: Recipe) -> Any:
    """The untrained network of a recipe; its weights depend on the seed alone.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return recipe.kind.network(recipe.width, recipe.latent_dim)


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Batches in an epoch of ``images``.

    The last batch may be small, but not one image: BatchNorm needs a variance.
    """
    return math.ceil((images - 1) / recipe.batch_size)


def train(
    recipe: Recipe,
    dataset: Dataset,
    device: str | None = None,
    on_step: Callable[[], object] | None = None,
    start: nn.Module | None = None,
) -> tuple[nn.Module, History]:
    """Fit the model of ``recipe`` to the first ``recipe.train_images`` images of ``dataset``.

    Returns the model, on the CPU and in eval mode, and its :class:`History`. The same recipe on the
    same machine gives the same weights. ``on_step`` is called after each step. ``start`` is the
    network to begin with (None: a new one); it is trained in place. Raises
    :class:`FloatingPointError` if the loss stops being a number.
    """
    where = choose_device(device)
    images = dataset.train_images[: recipe.train_images].to(where)
    model: Any = start or new_model(recipe)
    model = model.to(where, memory_format=torch.channels_last).train()
    objective = recipe.objective()
    generator = torch.Generator().manual_seed(recipe.seed)
    per_epoch = steps_per_epoch(recipe, len(images))
    steps = recipe.epochs * per_epoch
    optimiser = Optimiser(model, recipe.optimiser, recipe.learning_rate, recipe.schedule, steps)

    recorded = torch.empty(steps, 2, device=where)  # on the device: no step waits for the host
    held_out: list[dict[str, float]] = []
    deterministic = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, benchmark=False, allow_tf32=False
    )
    with deterministic:
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(images), generator=generator).to(where)
            batches = order.split(recipe.batch_size)[:per_epoch]
            for step, batch in enumerate(batches, epoch * per_epoch):
                noise = torch.randn(len(batch), recipe.latent_dim, generator=generator).to(where)
                loss, terms = objective(model, images[batch], noise, generator, step / steps)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                recorded[step] = torch.stack(terms).detach().mean(1)
                if on_step is not None:
                    on_step()
            held_out.append(objective.held_out(model, dataset.test_images))
            if not all(map(math.isfinite, held_out[-1].values())):
                raise FloatingPointError(
                    f"the loss is {held_out[-1]['loss']} after epoch {epoch + 1} of {recipe}: "
                    f"lower learning_rate (it is {recipe.learning_rate:g})"
                )
    reconstruction, kl = recorded.cpu().T.tolist()
    return model.cpu().eval(), History(reconstruction, kl, held_out)


def choose_device(name: str | None = None) -> torch.device:
    """The device by name ("cpu", "cuda", "cuda:1", "mps"), or the best that this machine has.

    Raises :class:`ValueError` for a device that is unknown or not there.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name is None:
        return torch.device("cuda" if "cuda" in available else available[-1])
    if name not in available:
        raise ValueError(
            f"device = {name!r} is not allowed: device must be one of {', '.join(available)} on "
            "this machine"
        )
    return torch.device(name)
