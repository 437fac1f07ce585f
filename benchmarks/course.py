"""The course's training loop, to the letter: what every speed is compared with.

DataLoader over torchvision's MNIST with ToTensor, batches of 64, Adam at a constant 1.5e-3, width
48. Only the model and the objective are the package's, and the model has torch's own convolutions.
"""

from __future__ import annotations

import functools
import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

import vae_nb
from vae_nb.models import VAE
from vae_nb.objective import terms


def images(folder: Path) -> MNIST:
    """torchvision's MNIST, from the files that the package carries."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for packed in (Path(vae_nb.__file__).parent / "mnist").glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return MNIST(str(folder), train=True, transform=transforms.ToTensor())


def with_torch_s_convolutions(model: VAE) -> VAE:
    """The model without the matrix products of ``vae_nb.convolutions``, which the course lacks."""
    for layer in (*model.encoder, *model.decoder):
        for kind in (nn.Conv2d, nn.ConvTranspose2d):
            if isinstance(layer, kind):
                layer.forward = functools.partial(kind.forward, layer)
    return model


def epochs(
    folder: Path, beta: float, width: int = 48, seed: int = 0, steps: int = 0
) -> Iterator[tuple[float, VAE]]:
    """Train for ever; after each epoch its seconds and the model.

    With ``steps`` an epoch ends after so many batches.
    """
    torch.manual_seed(seed)
    loader = DataLoader(images(folder), batch_size=64, shuffle=True)
    model = with_torch_s_convolutions(VAE(width))
    optimiser = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    while True:
        start = time.perf_counter()
        model.train()
        for step, (batch, _) in enumerate(loader):
            if steps and step == steps:
                break
            losses = terms(model, batch, torch.randn(len(batch), model.latent_dim))
            optimiser.zero_grad()
            losses.loss(beta).mean().backward()
            optimiser.step()
            losses.reconstruction.mean().item(), losses.kl.mean().item()  # its loop logs both
        yield time.perf_counter() - start, model
