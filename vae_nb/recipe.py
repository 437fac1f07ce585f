"""All that decides a fitted model: one entry for each kind of model, recipes, and profiles.

Importing this module does not import torch, which takes seconds: a recipe that is not allowed is
refused at once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from vae_nb.data import SPECIFICATIONS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vae_nb.objective import Terms


class Objective(Protocol):
    """What a training minimises; see :class:`vae_nb.objective.FixedBeta`."""

    def __call__(
        self,
        model: Any,
        images: Tensor,
        noise: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, Terms]:
        """The loss of a batch, and its terms image by image."""

    def held_out(self, model: Any, images: Tensor) -> dict[str, float]:
        """The values of ``objective.held_out`` over ``images``."""

    def fitted_beta(self, held_out: dict[str, float], latent_dim: int) -> float:
        """The weight of the KL in the end."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model: its title (a format of ``beta``), its network, and its objective.

    ``network_name`` is where its class is: "package.module:Class". ``epochs`` is by profile, and
    within one by beta; ``None`` stands for every other beta. A profile that is not there is the
    default one for this kind.
    """

    title: str
    network_name: str
    objective: Callable[[float], Objective]
    epochs: Mapping[str, Mapping[float | None, int]]
    takes_beta: bool = False

    @functools.cached_property
    def network(self) -> Any:
        """The class of its network, which is called with a width and a number of latents."""
        return pkgutil.resolve_name(self.network_name)


def _fixed_beta(beta: float) -> Objective:
    from vae_nb.objective import FixedBeta

    return FixedBeta(beta)


def _learned_variance(beta: float) -> Objective:
    from vae_nb.objective import LearnedVariance

    return LearnedVariance()


def _all_betas(beta: float) -> Objective:
    from vae_nb.multirate import BetaRange

    return BetaRange()


MODELS = {
    "ae": Kind(
        "autoencoder",
        "vae_nb.models:Autoencoder",
        _fixed_beta,
        {"default": {None: 5}, "course": {None: 11}},
    ),
    "vae": Kind(
        "VAE, β = {beta:g}",
        "vae_nb.models:VAE",
        _fixed_beta,
        {"default": {None: 5}, "course": {0.0: 5, 10.0: 5, None: 20}, "instant": {None: 1}},
        takes_beta=True,
    ),
    "sigma_vae": Kind(  # learns its decoder's variance instead of being given a beta
        "VAE, β learned",
        "vae_nb.models:VAE",
        _learned_variance,
        {"default": {None: 5}, "course": {None: 20}},
    ),
    "multi_rate": Kind(  # one for all betas of a range
        "VAE, every β",
        "vae_nb.multirate:MultiRateVAE",
        _all_betas,
        {"default": {None: 10}, "course": {None: 20}},
    ),
}

# "default" reaches a good model from nothing soonest (`benchmarks/time_to_quality.py`); "course" is
# the course's recipe to the letter; "instant" goes on from the network of all betas, taken at one
# (`benchmarks/rerun.py`).
PROFILES: dict[str, dict[str, Any]] = {
    "default": {
        "batch_size": 256,
        "learning_rate": 4e-3,
        "width": 16,
        "schedule": "one_cycle",
        "optimiser": "muon",
    },
    "course": {
        "batch_size": 64,
        "learning_rate": 1.5e-3,
        "width": 48,
        "schedule": "constant",
        "optimiser": "adam",
    },
    "instant": {
        "batch_size": 256,
        "learning_rate": 4e-3,
        "width": 16,
        "schedule": "linear",
        "optimiser": "muon",
        "start": "multi_rate",
    },
}
# From the network of all betas, half of the images are enough for most betas. Where the
# rate–distortion curve bends it takes an epoch, and where it bends most two.
BEND, SHARE_BESIDE_BEND = (0.02, 0.3), 0.5
SHARPEST, EPOCHS_AT_SHARPEST = (0.05, 0.15), 2


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise :class:`ValueError` that names the field, the value and what is allowed."""
    if not ok:
        raise ValueError(f"{field} = {value!r} is not allowed: {field} must be {allowed}")


def is_integer(value: Any, at_least: int) -> bool:
    """Whether it is a whole number (no bool) from ``at_least``."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= at_least


def is_number(value: Any) -> bool:
    """Whether it is a real, finite number (no bool)."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a fitted model, checked when it is made.

    ``model`` names an entry of MODELS. ``beta`` weighs the KL in the course's units (see
    ``objective``); ``train_images`` is how many training images are used (None: all of them);
    ``learning_rate`` is the peak of the schedule, or the rate of the constant one;
    ``optimiser`` is Adam for all weights, or Muon for those that are matrices and Adam for the
    rest; ``start`` names the kind of network for all betas that this one begins as (None: new
    weights), see :attr:`begins_as`; an epoch goes over this ``share`` of the images, the first ones
    (None: all of them). Raises :class:`ValueError` that names the field, the value and what is
    allowed.
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
    train_images: int | None = None
    start: str | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        for field, entries in (("model", MODELS), ("dataset", SPECIFICATIONS)):
            value = getattr(self, field)
            require(value in tuple(entries), field, value, f"one of {', '.join(entries)}")
        for field, where in (("schedule", "SCHEDULES"), ("optimiser", "OPTIMISERS")):
            value = getattr(self, field)
            if value not in [profile[field] for profile in PROFILES.values()]:  # else it is one
                entries = pkgutil.resolve_name(f"vae_nb.optim:{where}")
                require(value in tuple(entries), field, value, f"one of {', '.join(entries)}")
        ok = is_number(self.beta) and self.beta >= 0
        require(ok, "beta", self.beta, "a finite number, zero or more")
        ok = self.kind.takes_beta or self.beta == 0
        others = [name for name, kind in MODELS.items() if kind.takes_beta]
        require(ok, "beta", self.beta, f"0 for every model but {', '.join(others)}")
        ok = is_number(self.learning_rate) and self.learning_rate > 0
        require(ok, "learning_rate", self.learning_rate, "a finite number above 0")
        for field, least in (("epochs", 1), ("width", 1), ("latent_dim", 1), ("seed", 0)):
            value = getattr(self, field)
            require(is_integer(value, least), field, value, f"a whole number, {least} or more")
        require(self.seed < 2**63, "seed", self.seed, "less than 2^63")
        require(
            is_integer(self.batch_size, 2),
            "batch_size",
            self.batch_size,
            "a whole number, 2 or more (BatchNorm needs two images to have a variance)",
        )
        require(
            self.train_images is None or is_integer(self.train_images, self.batch_size),
            "train_images",
            self.train_images,
            f"None (all) or a whole number, at least one batch of {self.batch_size} (the parameter "
            "`images` of a chapter)",
        )
        ok = self.start is None or (
            self.start == "multi_rate" and self.kind.takes_beta and self.beta > 0
        )
        ok_share = self.share is None or (is_number(self.share) and 0 < self.share < 1)
        require(ok, "start", self.start, "None, or multi_rate for a VAE with a beta above 0")
        require(ok_share, "share", self.share, "None (all) or a number between 0 and 1")
        # One number has one spelling, so that one recipe has one digest.
        for field, kind in (("beta", float), ("learning_rate", float)):
            object.__setattr__(self, field, kind(getattr(self, field)))
        for field in ("epochs", "batch_size", "width", "latent_dim", "seed"):
            object.__setattr__(self, field, int(getattr(self, field)))
        if self.train_images is not None:
            object.__setattr__(self, "train_images", int(self.train_images))

    @property
    def kind(self) -> Kind:
        """The entry of MODELS."""
        return MODELS[self.model]

    @property
    def begins_as(self) -> Recipe | None:
        """The recipe of the network for all betas that training goes on from, at this beta."""
        if self.start is None:
            return None
        same = {name: getattr(self, name) for name in ("width", "latent_dim", "seed", "dataset")}
        return recipe(self.start, train_images=self.train_images, **same)

    def objective(self) -> Objective:
        """What is minimised: a new object for each training, since some keep a state."""
        return self.kind.objective(self.beta)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values; without ``start`` and ``share`` where they are None.

        So a recipe that begins with new weights is named as it was before these were thought of.
        """
        fields = dataclasses.asdict(self)
        late = ("start", "share")
        return {k: v for k, v in fields.items() if k not in late or v is not None}

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        if self.share is not None:
            epochs += f" of {self.share:.0%} of the images"
        parts = [f"width {self.width}", epochs, f"seed {self.seed}"]
        if self.latent_dim != 64:
            parts.insert(1, f"{self.latent_dim} latents")
        if self.train_images is not None:
            parts.append(f"{self.train_images:,} images")
        if self.dataset != "MNIST":
            parts.append(self.dataset)
        if self.start is not None:
            parts.append("from the network of every β")
        return f"{self.kind.title.format(beta=self.beta)} ({', '.join(parts)})"


def recipe(
    model: str, beta: float = 0.0, profile: str = "default", epochs: int = 0, **changes: Any
) -> Recipe:
    """A recipe of a profile; ``changes`` are any other fields of :class:`Recipe`.

    ``epochs=0`` keeps the profile's own number. With the profile "instant", models that cannot
    go on from a network for all betas (others than VAEs, and beta = 0) are those of the default.
    Raises :class:`ValueError` as :class:`Recipe` does.
    """
    require(profile in tuple(PROFILES), "profile", profile, f"one of {', '.join(PROFILES)}")
    require(model in tuple(MODELS), "model", model, f"one of {', '.join(MODELS)}")
    require(is_integer(epochs, 0), "epochs", epochs, "a whole number; 0 for the profile's own")
    known = {field.name for field in dataclasses.fields(Recipe)}
    for name in changes:
        require(name in known, "the recipe field", name, f"one of {', '.join(sorted(known))}")
    if profile not in MODELS[model].epochs or (profile == "instant" and beta == 0):
        profile = "default"
    own = MODELS[model].epochs[profile]
    usual = own.get(beta if is_number(beta) else None, own[None])
    own_epochs: dict[str, Any] = {"epochs": epochs or usual}
    if profile == "instant" and is_number(beta) and not epochs:
        if SHARPEST[0] <= beta <= SHARPEST[1]:
            own_epochs = {"epochs": EPOCHS_AT_SHARPEST}
        elif not BEND[0] < beta < BEND[1]:
            own_epochs["share"] = SHARE_BESIDE_BEND
    return Recipe(model=model, beta=beta, **own_epochs | PROFILES[profile] | changes)
