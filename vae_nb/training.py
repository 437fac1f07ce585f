"""How is a model fitted? A :class:`Recipe` goes in, a fitted model and its history come out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vae_nb.data import DATASETS, Dataset
from vae_nb.models import BETA_RANGE, VAE, Autoencoder, MultiRateVAE
from vae_nb.objective import (
    Terms,
    beta_of_decoder_variance,
    held_out,
    terms,
    terms_of_images,
)

MODELS = ("ae", "vae", "sigma_vae", "multi_rate")
OPTIMISERS = ("adam", "muon")
SCHEDULES = ("one_cycle", "constant")
PROFILES = ("default", "course")

MUON = 5  # Muon's rate over Adam's

# A multi-rate VAE sees betas from BETA_RANGE, most of them in the middle, where the curve bends
# most: this share of the images in each part of the range.
BETA_PARTS = (BETA_RANGE[0], 0.03, 0.3, BETA_RANGE[1])
BETA_SHARES = (0.32, 0.61, 0.07)
# Latents that a large beta has switched off do not come back for a small one. So the largest beta
# is raised from the first of these to the range's end, over the second as a share of the steps.
RAISED_FROM, RAISED_OVER = 3e-3, 0.25
WATCHED_BETA = 0.1  # at which the history of a multi-rate VAE has its held-out values

# The course's numbers of epochs: the AE, beta = 0, beta = 10, and the tuned beta.
_COURSE_EPOCHS = {("ae", 0): 11, ("vae", 0): 5, ("vae", 10): 5}
_COURSE_TUNED_EPOCHS = 20


def _require(ok: bool, field: str, value: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{field} = {value!r} is not allowed: {field} must be {allowed}")


def _is_integer(value: object, at_least: int) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= at_least


def _is_finite(value: object) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a fitted model, checked when it is made.

    ``model`` is an autoencoder, a VAE, a sigma-VAE (a VAE that learns its decoder's variance
    instead of being given a beta, Rybkin et al. 2021), or a multi-rate VAE: one for all betas of a
    range (Bae et al. 2023). ``beta`` weighs the KL in the course's units
    (see ``objective``); ``images`` is how many training images are used (0: all of them);
    ``learning_rate`` is the peak of the one-cycle schedule or the rate of the constant one.
    ``optimiser`` is Adam for all weights, or Muon (Jordan et al. 2024) for those that are
    matrices, at MUON times the rate, and Adam for the rest. Raises :class:`ValueError` that names
    the field, the value and what is allowed.
    """

    model: str
    beta: float
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    optimiser: str
    width: int
    latent_dim: int = 64
    seed: int = 0
    dataset: str = "MNIST"
    images: int = 0

    def __post_init__(self) -> None:
        _require(self.model in MODELS, "model", self.model, f"one of {MODELS}")
        _require(
            _is_finite(self.beta) and self.beta >= 0,
            "beta",
            self.beta,
            "a finite number, zero or more",
        )
        _require(
            self.model == "vae" or self.beta == 0,
            "beta",
            self.beta,
            "0 for an autoencoder, which has no KL, a sigma-VAE, which finds its own, and a "
            "multi-rate VAE, which has all",
        )
        rate = self.learning_rate
        _require(_is_finite(rate) and rate > 0, "learning_rate", rate, "a finite number above 0")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {SCHEDULES}")
        _require(self.optimiser in OPTIMISERS, "optimiser", self.optimiser, f"one of {OPTIMISERS}")
        for field, least in (("epochs", 1), ("width", 1), ("latent_dim", 1), ("seed", 0)):
            value = getattr(self, field)
            _require(_is_integer(value, least), field, value, f"a whole number, {least} or more")
        _require(
            _is_integer(self.batch_size, 2),
            "batch_size",
            self.batch_size,
            "a whole number, 2 or more (BatchNorm needs two images to have a variance)",
        )
        _require(
            self.images == 0 or _is_integer(self.images, self.batch_size),
            "images",
            self.images,
            f"0 (all) or a whole number, at least one batch of {self.batch_size}",
        )
        _require(self.dataset in DATASETS, "dataset", self.dataset, f"one of {DATASETS}")
        # One number has one spelling, so that one recipe has one digest.
        object.__setattr__(self, "beta", float(self.beta))
        object.__setattr__(self, "learning_rate", float(rate))
        for field in ("epochs", "batch_size", "width", "latent_dim", "seed", "images"):
            object.__setattr__(self, field, int(getattr(self, field)))

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """A hexadecimal name of this recipe: equal recipes, equal digests."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        vae = f"VAE, β = {self.beta:g}"
        others = {"ae": "autoencoder", "sigma_vae": "VAE, β learned", "multi_rate": "VAE, every β"}
        name = others.get(self.model, vae)
        return f"{name} (width {self.width}, {self.epochs} epochs, seed {self.seed})"


def recipe(
    model: str, beta: float = 0.0, profile: str = "default", epochs: int = 0, **changes: Any
) -> Recipe:
    """A recipe of a profile; ``changes`` are any other fields of :class:`Recipe`.

    ``"default"`` reaches a good model soonest (see ``benchmarks/``); ``"course"`` is the course's
    recipe to the letter: width 48, batch 64, Adam at a constant 1.5e-3, and 11, 5, 5 or 20 epochs
    for the AE, beta = 0, beta = 10 or any other beta. ``epochs=0`` keeps the profile's own number.
    """
    _require(profile in PROFILES, "profile", profile, f"one of {PROFILES}")
    _require(_is_integer(epochs, 0), "epochs", epochs, "a whole number; 0 for the profile's own")
    if profile == "course":
        course_epochs = _COURSE_EPOCHS.get((model, beta), _COURSE_TUNED_EPOCHS)
        fields = dict(epochs=course_epochs, batch_size=64, learning_rate=1.5e-3, width=48)
        fields |= dict(schedule="constant", optimiser="adam")
    else:
        fields = dict(epochs=5, batch_size=256, learning_rate=4e-3, width=16)
        if model == "multi_rate":
            fields["epochs"] = 10  # for all betas together
        fields |= dict(schedule="one_cycle", optimiser="muon")
    if epochs:
        fields["epochs"] = epochs
    known = {field.name for field in dataclasses.fields(Recipe)}
    for name in changes:
        _require(name in known, "the recipe field", name, f"one of {sorted(known)}")
    return Recipe(model=model, beta=beta, **(fields | changes))


@dataclasses.dataclass(frozen=True)
class History:
    """What was seen while fitting.

    ``reconstruction`` and ``kl`` have one value a step (training mode, the batch of that step, the
    units of the objective); ``held_out`` has one dictionary an epoch (see ``objective.held_out``;
    of a multi-rate VAE at WATCHED_BETA).
    """

    reconstruction: list[float]
    kl: list[float]
    held_out: list[dict[str, float]]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.reconstruction) // len(self.held_out)


def new_model(recipe: Recipe) -> Autoencoder | VAE | MultiRateVAE:
    """The untrained model of a recipe; its weights depend on the seed alone.

    The global random state is left as it was.
    """
    kind = {"ae": Autoencoder, "multi_rate": MultiRateVAE}.get(recipe.model, VAE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return kind(recipe.width, recipe.latent_dim)


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
    _require(name in available, "device", name, f"one of {available} on this machine")
    return torch.device(name)


# What JupyterLab, VS Code and Colab set for the kernel of a notebook that somebody looks at.
_LIVE_NOTEBOOK = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")


def _progress_wanted() -> bool:
    """In a terminal and in a live notebook, but not where output is kept: a book, papermill.

    ``VAE_NB_PROGRESS=0`` turns it off everywhere, and any other value on.
    """
    if wanted := os.environ.get("VAE_NB_PROGRESS"):
        return wanted != "0"
    if "ipykernel" in sys.modules:
        return any(name in os.environ for name in _LIVE_NOTEBOOK)
    return sys.stderr.isatty()


def train(
    recipe: Recipe,
    dataset: Dataset,
    device: str | None = None,
    progress: bool | None = None,
) -> tuple[Autoencoder | VAE | MultiRateVAE, History]:
    """Fit the model of ``recipe`` to ``dataset`` (whose first ``recipe.images`` images are used).

    Returns the model, on the CPU and in eval mode, and its :class:`History`. The same recipe on
    the same machine gives the same weights. Raises :class:`FloatingPointError` if the loss stops
    being a number.
    """
    images = dataset.train_images[: recipe.images or None]
    where = choose_device(device)
    model = new_model(recipe).to(where, memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(recipe.seed)
    images = images.to(where)

    # The last batch of an epoch may be small, but not one image: BatchNorm needs a variance.
    steps_per_epoch = math.ceil((len(images) - 1) / recipe.batch_size)
    steps = recipe.epochs * steps_per_epoch
    optimisers = _optimisers(recipe, model)
    schedules = [_schedule(recipe, optimiser, steps) for optimiser in optimisers]

    every_beta = _EveryBeta(where) if recipe.model == "multi_rate" else None

    seen = torch.empty(steps, 2, device=where)  # kept on the device: no step waits for the host
    held_out_values: list[dict[str, float]] = []
    show = _progress_wanted() if progress is None else progress
    bar = tqdm(total=steps, desc=str(recipe), unit="step", disable=not show, leave=False)
    deterministic = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, benchmark=False, allow_tf32=False
    )
    with bar, deterministic:
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(images), generator=generator).to(where)
            for step, chosen in enumerate(
                order.split(recipe.batch_size)[:steps_per_epoch], epoch * steps_per_epoch
            ):
                noise = torch.randn(len(chosen), recipe.latent_dim, generator=generator)
                batch, noise = images[chosen], noise.to(where, non_blocking=True)
                if every_beta:
                    betas = draw_betas(len(chosen), step / steps, generator).to(where)
                    of_images = terms_of_images(model, batch, noise, betas)
                    objective = every_beta.relative(of_images.total(betas), betas).mean()
                    losses = Terms(of_images.reconstruction.mean(), of_images.kl.mean())
                else:
                    losses = terms(model, batch, noise)
                    objective = losses.total(_beta(recipe, losses))
                model.zero_grad(set_to_none=True)
                objective.backward()
                for each in (*optimisers, *schedules):
                    each.step()
                seen[step] = torch.stack(losses).detach()
                bar.update()
            values = _held_out(recipe, model, dataset)
            if not all(map(math.isfinite, values.values())):
                raise FloatingPointError(
                    f"the objective is {values['objective']} after epoch {epoch + 1} of "
                    f"{recipe}: lower learning_rate (it is {recipe.learning_rate:g})"
                )
            held_out_values.append(values)
    reconstruction, kl = seen.cpu().T.tolist()
    return model.cpu().eval(), History(reconstruction, kl, held_out_values)


def _beta(recipe: Recipe, losses: Terms) -> float | Tensor:
    """The weight of the KL in this step; a sigma-VAE's follows from the error of its batch."""
    if recipe.model != "sigma_vae":
        return recipe.beta
    return beta_of_decoder_variance(losses.reconstruction.detach(), recipe.latent_dim)


def _held_out(
    recipe: Recipe, model: Autoencoder | VAE | MultiRateVAE, dataset: Dataset
) -> dict[str, float]:
    if recipe.model == "multi_rate":
        return held_out(model.at(WATCHED_BETA), dataset.test_images, WATCHED_BETA)
    beta = None if recipe.model == "sigma_vae" else recipe.beta
    return held_out(model, dataset.test_images, beta)


def draw_betas(count: int, progress: float, generator: torch.Generator) -> Tensor:
    """``count`` betas of BETA_RANGE for a batch, ``(count,)``, at ``progress`` in [0, 1].

    Log-uniform within each of BETA_PARTS, up to the largest beta of that moment (see RAISED_FROM);
    stratified, so that every batch has the whole range.
    """
    knots = np.log(BETA_PARTS)
    shares = np.concatenate([[0.0], np.cumsum(BETA_SHARES)])
    raised = min(1.0, progress / RAISED_OVER)
    top = (1 - raised) * math.log(RAISED_FROM) + raised * knots[-1]
    strata = (torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(count)) / count
    drawn = np.interp(strata * np.interp(top, knots, shares), shares, knots)
    return torch.from_numpy(np.exp(drawn)).float()[torch.randperm(count, generator=generator)]


class _EveryBeta:
    """The objective relative to what it usually is at about the same beta.

    It is twenty times larger at one end of the range than at the other; divided by its own running
    mean, every beta counts alike.
    """

    def __init__(self, device: torch.device, bins: int = 20) -> None:
        self._edges = torch.linspace(*map(math.log, BETA_RANGE), bins + 1, device=device)[1:-1]
        self._usual = torch.full((bins,), 0.05, device=device)  # a usual value to begin with

    def relative(self, objectives: Tensor, betas: Tensor) -> Tensor:
        """``objectives`` of images, ``(B,)``, divided by the usual one at their ``betas``."""
        bins = torch.bucketize(betas.log(), self._edges)
        of_bin = nn.functional.one_hot(bins, len(self._usual)).to(objectives.dtype)
        counts = of_bin.sum(0)
        mean = (objectives.detach() @ of_bin) / counts.clamp(min=1)
        self._usual = torch.where(counts > 0, 0.9 * self._usual + 0.1 * mean, self._usual)
        return objectives / self._usual[bins]


class _Muon(torch.optim.Muon):
    """torch's Muon, which takes matrices only, for the kernels of convolutions as well.

    What it is given are views: a step on a view moves the kernel, whose memory it shares.
    """

    def __init__(self, kernels: list[Tensor], rate: float) -> None:
        self._kernels = kernels
        views = [_channels_last(k.detach()) for k in kernels]
        super().__init__(
            [v.view(len(v), -1) for v in views],  # a copy would be an error
            lr=rate,
            weight_decay=0.0,
        )

    def step(self) -> None:
        for view, kernel in zip(self.param_groups[0]["params"], self._kernels, strict=True):
            view.grad = _channels_last(kernel.grad).reshape(len(kernel), -1)
        super().step()


def _channels_last(kernel: Tensor) -> Tensor:
    """A kernel ``(out, in, h, w)`` as ``(out, h, w, in)``; a matrix as it is."""
    return kernel.permute(0, 2, 3, 1) if kernel.ndim == 4 else kernel


def _optimisers(recipe: Recipe, model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = []
    if recipe.optimiser == "muon":
        # A kernel to or from a single channel is a list of numbers more than a matrix. What beta
        # changes in a multi-rate VAE is left to Adam.
        networks = (*model.encoder.parameters(), *model.decoder.parameters())
        matrices = [p for p in networks if p.ndim >= 2 and min(p.shape[:2]) > 1]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    adam = torch.optim.Adam(rest, lr=recipe.learning_rate, fused=True)
    return [_Muon(matrices, MUON * recipe.learning_rate), adam] if matrices else [adam]


def _schedule(
    recipe: Recipe, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    rate = optimiser.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=rate, total_steps=steps, cycle_momentum=False
    )


def weights(model: nn.Module) -> Mapping[str, Tensor]:
    """The model's parameters and buffers, contiguous, as a file wants them."""
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
