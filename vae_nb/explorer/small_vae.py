"""The playground: a small VAE that is trained in the reader's browser.

``vae.js`` trains it there, ``playground.js`` shows it. Here is what the page carries: images, and a
recorded run of the same network, trained by PyTorch, that plays until the reader takes over.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vae_nb import figures, objective
from vae_nb.data import SIDE, Dataset
from vae_nb.explorer.widgets import LiveWidget, packaged
from vae_nb.figures import Moment
from vae_nb.models import PIXELS, Posterior, sample_prior

HIDDEN, BATCH, RATE = 128, 64, 0.002  # as in vae.js
TRAINED, HELD_OUT = 2500, 250  # images that the page carries
COLUMNS = 50  # of images in its picture
GRID, SAMPLES = 9, 24  # codes a side of the plane, and samples, that the page shows
FRAMES = 6  # of each phase of the recorded run
# Values of beta, one after the other in one network, and what to see.
PHASES = (
    (0.002, "β = 0.002. The network learns to copy, and its codes fill the circles of N(0, I)."),
    (0.0, "β = 0: nothing holds the codes. See them leave the circles of N(0, I)."),
    (
        1.0,
        "β = 1: no nat is worth its price. The codes fall into one point, all pictures into one.",
    ),
)


class SmallNetwork(nn.Module):
    """Two linear layers to the code and two back, with ReLU between: a VAE, or an autoencoder."""

    def __init__(self, latent_dim: int, variational: bool = True) -> None:
        super().__init__()
        self.latent_dim, self.variational = latent_dim, variational
        outputs = 2 * latent_dim if variational else latent_dim
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, PIXELS),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, SIDE, SIDE)),
        )

    def posterior(self, images: Tensor) -> Posterior:
        """q(z|x) of a VAE: mean and log-variance, each ``(B, M)``."""
        return Posterior(*self.encoder(images).chunk(2, dim=1))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Posterior | None]:
        """Reconstructions of one posterior sample each, and q(z|x); of an autoencoder without."""
        if not self.variational:
            return self.decoder(self.encoder(images)), None
        posterior = self.posterior(images)
        return self.decoder(posterior.sample(noise)), posterior


def train(
    model: SmallNetwork,
    images: Tensor,
    beta: Callable[[int], float],
    steps: int,
    seed: int = 0,
    rate: float = RATE,
) -> Iterator[float]:
    """Train as ``vae.js`` does: the squared error of each batch, when its step is done.

    ``images`` is ``(n, 1, 28, 28)``; ``beta`` is that of a step. What is left of an epoch when it
    is less than a batch is not used.
    """
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    size = min(BATCH, len(images))
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < size:
            order = torch.randperm(len(images), generator=generator)
        batch, order = images[order[:size]], order[size:]
        noise = torch.randn(size, model.latent_dim, generator=generator)
        terms = objective.terms(model, batch, noise)
        adam.zero_grad()
        terms.loss(beta(step)).mean().backward()
        adam.step()
        yield terms.reconstruction.mean().item()


def new_network(latent_dim: int, variational: bool = True, seed: int = 0) -> SmallNetwork:
    """A network that is not trained yet; ``seed`` decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNetwork(latent_dim, variational)


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recorded run: what the page shows of it, frame by frame.

    ``pictures`` are grey levels ``(frames, images, 28, 28)``: of each frame the reconstructions of
    ``shown``, samples, and the plane.
    """

    dataset: Dataset
    seed: int
    shown: list[int]  # held-out images
    frames: list[dict[str, Any]]
    pictures: Tensor


def record(dataset: Dataset, seed: int = 0, epochs: int = 0) -> Recording:
    """Train two latents through all PHASES, each for ``epochs`` (0: twelve), and record it."""
    images = dataset.train_images[:TRAINED]
    first = [(dataset.test_labels == x).nonzero()[:1] for x in range(len(dataset.classes))]
    places = [int(each) for each in first if len(each)]
    shown = sorted(place for place in places if place < HELD_OUT)[:6]
    model = new_network(2, seed=seed)
    steps = (epochs or 12) * max(1, len(images) // BATCH)
    every = [
        phase * steps + round(steps * (frame / FRAMES) ** 2)
        for phase in range(len(PHASES))
        for frame in range(1, FRAMES + 1)
    ]
    taken = [(0, _frame(model, dataset, shown, seed, 0, []))]
    recent: list[float] = []
    run = train(model, images, lambda step: PHASES[step // steps][0], every[-1], seed)
    for step, error in enumerate(run, 1):
        recent = [*recent[-49:], error]
        if step in every:
            phase = (step - 1) // steps
            taken.append((step, _frame(model, dataset, shown, seed, phase, recent)))
    frames = [
        frame | {"steps": step, "epochs": round(step * BATCH / len(images), 2)}
        for step, (frame, _) in taken
    ]
    return Recording(dataset, seed, shown, frames, torch.stack([each for _, (_, each) in taken]))


@torch.no_grad()
def _frame(
    model: SmallNetwork,
    dataset: Dataset,
    shown: list[int],
    seed: int,
    phase: int,
    recent: list[float],
) -> tuple[dict[str, Any], Tensor]:
    images = dataset.test_images[:HELD_OUT]
    posterior = model.posterior(images)
    noise = sample_prior(len(images), 2, seed + 1)
    error = objective.squared_error(images, model.decoder(posterior.sample(noise))).mean()
    far = max(3.0, float(posterior.mean.abs().quantile(0.98)))
    places = far * ((torch.arange(GRID) + 0.5) * 2 / GRID - 1)
    plane = torch.stack(torch.meshgrid(places, -places, indexing="xy"), dim=-1).flatten(0, 1)
    codes = torch.cat([posterior.mean[shown], sample_prior(SAMPLES, 2, seed + 2), plane])
    frame = {
        "phase": phase,
        "beta": PHASES[phase][0],
        "error": round(error.item(), 5),
        "trainError": round(sum(recent) / len(recent), 5) if recent else None,
        "rates": [round(x, 4) for x in objective.kl_divergence(posterior).mean(0).tolist()],
        "codes": [round(x, 2) for x in posterior.mean.flatten().tolist()],
        "reach": round(far, 2),
    }
    return frame, model.decoder(codes)[:, 0]


def playground(recording: Recording, name: str) -> LiveWidget:
    """Train a small VAE on this page, on the recording's data set, and move its beta meanwhile."""
    dataset, shown = recording.dataset, recording.shown
    images = dataset.train_images[:TRAINED]
    labels = [*dataset.train_labels[:TRAINED].tolist(), *dataset.test_labels[:HELD_OUT].tolist()]
    number = len(recording.pictures[0])
    pictures = {"reconstructions": len(shown), "samples": SAMPLES, "plane": GRID * GRID}
    both = torch.cat([images, dataset.test_images[:HELD_OUT]])[:, 0]
    part = json.dumps(
        {
            "images": _picture(both, COLUMNS, "PNG", optimize=True),
            "columns": COLUMNS,
            "labels": labels,
            "train": len(images),
            "film": _picture(
                recording.pictures.flatten(0, 1), number, "WEBP", quality=35, method=6
            ),
            "pictures": pictures,
            "frames": recording.frames,
        }
    )
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    classes = dataset.classes
    # A long name of a class does not fit into the plane: then its number.
    marks = classes if max(map(len, classes)) <= 3 else list(map(str, range(len(classes))))
    spec = {
        "widget": "playground",
        "noun": dataset.noun,
        "marks": list(marks),
        "digest": digest,
        "beta": PHASES[0][0],
        "seed": recording.seed,
        "digits": [*(n for n in (100, 500) if n < len(images)), len(images)],
        "shown": shown,
        "grid": GRID,
        "phases": [words for _, words in PHASES],
    }
    figure = figures.training_moments(list(_moments(recording)), name)
    live = dataclasses.replace(
        figure,
        caption="A VAE of two linear layers each way, trained on this page as you look on. Until "
        "you take over, a recorded training plays. *Coverage*: the share of held-out images that "
        "have a sample nearer than their fifth neighbour among held-out images. It counts grey "
        "levels, so that blurred samples do well by it: it says little of a collapsed model.",
    )
    code = packaged("vae.js") + packaged("playground.js")
    return LiveWidget(live, spec, {digest: part}, figure.caption, code)


def _moments(recording: Recording) -> Iterator[Moment]:
    dataset, shown = recording.dataset, recording.shown
    last = {frame["phase"]: index for index, frame in enumerate(recording.frames)}
    titles = ["untrained", *(f"β = {beta:g}" for beta, _ in PHASES)]
    for title, index in zip(titles, [0, *last.values()], strict=True):
        frame, pictures = recording.frames[index], recording.pictures[index][:, None]
        yield Moment(
            title,
            torch.tensor(frame["codes"]).view(-1, 2),
            dataset.test_labels[:HELD_OUT],
            dataset.test_images[shown],
            pictures[: len(shown)],
            pictures[len(shown) :][:SAMPLES],
            frame["error"],
            sum(frame["rates"]),
        )


def _picture(images: Tensor, columns: int, kind: str, **options: Any) -> str:
    """Images ``(n, 28, 28)`` in rows, in one picture; in base64."""
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, SIDE, SIDE), np.uint8)
    cells[: len(images)] = (images * 255).round().to(torch.uint8).numpy()
    tiled = cells.reshape(rows, columns, SIDE, SIDE).swapaxes(1, 2)
    content = io.BytesIO()
    picture = Image.fromarray(tiled.reshape(rows * SIDE, columns * SIDE))
    picture.save(content, kind, **options)
    return base64.b64encode(content.getvalue()).decode()
