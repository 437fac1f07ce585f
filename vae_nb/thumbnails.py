"""Small pictures of a run, as text: what the archive keeps and the first page shows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_nb import models

if TYPE_CHECKING:
    from vae_nb.runs import Run

SHOWN = 6  # images in each picture


def pictures(run: Run, count: int = SHOWN) -> dict[str, str]:
    """Reconstructions (of posterior samples) and samples of N(0, I), by what they show."""
    seed = run.recipe.seed
    codes = {
        "reconstructions": models.sampled_codes(run, run.dataset.test_images[:count], seed),
        "samples": models.sample_prior(count, run.latent_dim, seed),
    }
    return {name: png(run.decode(each)) for name, each in codes.items()}


def png(images: Tensor, lines: int = 1) -> str:
    """Images ``(n, 1, 28, 28)`` in [0, 1], in equal ``lines``, as a grey PNG in base64."""
    from PIL import Image

    side_by_side = [torch.cat(list(line[:, 0]), dim=1) for line in images.chunk(lines)]
    grey = (torch.cat(side_by_side) * 255).round().clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(grey.contiguous().numpy()).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
