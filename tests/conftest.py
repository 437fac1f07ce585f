"""What several tests share: a cache of their own, small data, and a small fitted run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """No test reads or writes the user's cache; all tests of a session share one."""
    given = {name: os.environ.get(name) for name in ("VAE_NB_CACHE", "VAE_NB_PROGRESS")}
    os.environ["VAE_NB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["VAE_NB_PROGRESS"] = "0"
    yield Path(os.environ["VAE_NB_CACHE"])
    for name, value in given.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def mnist():
    from vae_nb import data

    return data.load("MNIST", 2000)


@pytest.fixture(scope="session")
def run():
    """A small VAE, fitted in seconds."""
    from vae_nb import store
    from vae_nb.training import recipe

    return store.fit(recipe("vae", 0.01, width=8, epochs=2, images=2000))


@pytest.fixture
def noise():
    def make(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return make
