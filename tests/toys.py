"""A toy data set and toy runs, for tests of what is measured: made in no time."""

import torch

from vae_nb.data import Dataset
from vae_nb.objective import held_out
from vae_nb.recipe import recipe
from vae_nb.runs import Run
from vae_nb.training import History, new_model


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dataset(
    train: int = 400, test: int = 200, classes: int = 10, name: str = "MNIST", seed: int = 0
) -> Dataset:
    """Each class is a vertical bar at a place of its own, on noise."""

    def images(labels: torch.Tensor, seed: int) -> torch.Tensor:
        left = 2 + 24 * labels[:, None] // classes
        across = torch.arange(28)
        bars = (
            ((across >= left) & (across < left + 3)).float()[:, None, None, :].repeat(1, 1, 28, 1)
        )
        bars[:, :, :5] = 0
        return (0.8 * bars + 0.1 * noise(*bars.shape, seed=seed).abs()).clamp(0, 1)

    of_train, of_test = torch.arange(train) % classes, torch.arange(test) % classes
    digest = f"toy-{train}-{test}-{classes}-{seed}"
    train_images, test_images = images(of_train, 2 * seed), images(of_test, 2 * seed + 1)
    return Dataset(name, train_images, of_train, test_images, of_test, digest)


def run(data: Dataset, model: str = "vae", digest: str = "toy", steps: int = 40, **changes) -> Run:
    """A run of an untrained network with 6 latents."""
    made = recipe(model, width=4, latent_dim=6, **changes)
    network = new_model(made).eval()
    with torch.no_grad():  # so that codes differ and matter
        network.encoder[-1].weight[:6] *= 20
        network.decoder[0].weight *= 5
    of = network.at(0.1) if model == "multi_rate" else network
    epochs = [held_out(of, data.test_images, 0.1)] * 2
    curve = [1 + 0.01 * step for step in range(steps)]
    result = Run(made, network, History(curve, curve, epochs), {}, digest)
    result.__dict__["dataset"] = data  # instead of the recipe's
    return result
