"""Networks and widgets that the tests of the explorer share. Nothing here was ever trained."""

from __future__ import annotations

import dataclasses
import functools
import math
from unittest import mock

import torch
from torch import Tensor, nn

from vae_nb import data, explorer, metrics
from vae_nb.data import Dataset
from vae_nb.explorer.widgets import LiveWidget
from vae_nb.metrics.intervals import Estimate
from vae_nb.models import VAE, Autoencoder
from vae_nb.multirate import BETA_RANGE, MultiRateVAE
from vae_nb.recipe import recipe
from vae_nb.runs import Run
from vae_nb.training import History

WIDTH = 16  # that of the book
PIXEL = 1e-3  # what 16-bit weights may change a pixel by, in grey levels
CODE = 3e-3  # and a code, as a share of the codes' standard deviation
BETAS = (1e-4, 0.00237, 0.0823, 0.91, 10.0)


@functools.cache
def network(kind: str) -> Autoencoder | VAE | MultiRateVAE:
    """A network in eval mode, whose activations and images vary as those of a trained one do."""
    torch.manual_seed(0)
    model = {"ae": Autoencoder, "vae": VAE, "multi_rate": MultiRateVAE}[kind](WIDTH, 64)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-0.5, 0.5)
                module.momentum = None  # running statistics are the mean over all batches
            elif name.startswith("responses."):
                nn.init.normal_(module.weight, std=0.1)
                nn.init.normal_(module.bias, std=0.1)
        model.decoder[-2].weight.mul_(5)
        model.train()
        for _ in range(3):
            inputs = [torch.rand(64, 1, 28, 28), torch.randn(64, 64)]
            if kind == "multi_rate":
                inputs.append(torch.logspace(-4, 1, 64).clamp(*BETA_RANGE))
            model(*inputs)
    return model.eval()


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def codes(count: int) -> Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(4))


@functools.cache
def few_images() -> Dataset:
    """MNIST with 300 held-out images."""
    whole = data.load("MNIST", 2000)
    return dataclasses.replace(
        whole, test_images=whole.test_images[:300], test_labels=whole.test_labels[:300]
    )


def a_run(kind: str, beta: float = 0.0, dataset: Dataset | None = None) -> Run:
    dataset = dataset or few_images()
    made = recipe(kind, beta, dataset=dataset.name)
    run = Run(made, network(kind), History([], [], [{"reconstruction": 0.01}]), {}, f"test-{kind}")
    run.__dict__["dataset"] = dataset  # where the property is cached
    return run


def made_up(run: Run, names: tuple[str, ...]) -> dict[str, Estimate]:
    """In place of metrics.of: nothing is measured."""
    values = {"rate": 9.5, "mse_mean": 0.0123, "fid_prior": 45.6, "extra_strokes_0.5": 0.7}
    wanted = [name for name in names if metrics.METRICS[name].applies(run.recipe)]
    return {name: Estimate(*[values[name]] * 3) for name in wanted}


def unmeasured():
    return mock.patch("vae_nb.metrics.of", made_up)


def judging(threshold: float, sign: int = 1):
    """A made-up classifier in place of the data set's: what is darker than that shows a digit.

    With ``sign`` -1, what is brighter.
    """

    def means(of: object, pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(1, 2, 3))

    return mock.patch.multiple(
        "vae_nb.explorer.widgets",
        classifier=lambda dataset: None,
        features=means,
        probabilities=lambda of, features: features,
        recognised=lambda features: sign * features < sign * threshold,
    )


@functools.cache
def judged() -> tuple[LiveWidget, list[bool]]:
    """Six pictures of three sources, and what a made-up classifier says of them, as shown."""
    dataset = few_images()
    sources = {"real": dataset.test_images[:2], "AE": images(2), "β = 0.1": images(4)[2:]}

    with judging(0.3):  # noise is brighter
        widget = explorer.judge(sources, dataset, "test-judge", seed=1)
    return widget, [each["recognised"] for each in widget.spec["pictures"]]


DRAWN = {"N(0, I)": codes(20), "halved": codes(20) / 2}


@functools.cache
def widgets() -> dict[str, LiveWidget]:
    """All of networks; what they measure of the runs is made up."""
    runs = {"AE": a_run("ae"), "β = 0.1": a_run("vae", 0.1)}
    with unmeasured():
        return {
            "pad": explorer.latent_pad(runs, "test-pad"),
            "interpolate": explorer.interpolate(runs, "test-interpolate"),
            "samples": explorer.samples(runs["AE"], DRAWN, "test-samples"),
            "beta": explorer.beta_slider(a_run("multi_rate"), "test-beta"),
            "draw": explorer.draw(runs, "test-draw"),
        }


# Lowest at .1; the reader walks over five points.
MEASURED = {0.001: 400.0, 0.01: 150.0, 0.1: 80.0, 1.0: 500.0, 10.0: 800.0}


@functools.cache
def drawn_first() -> LiveWidget:
    ticks = (0.001, 0.1, 10)
    return explorer.draw_first(MEASURED, "test-first", "β", "FID", ticks, math.log10)
