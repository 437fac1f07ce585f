"""What a student would take from the shelf, pythae, beside this book: the same seconds for each.

    pip install --no-deps pythae && pip install pydantic     # in an environment of your own
    python benchmarks/shelf.py [--seconds 300] [--rows 1 5]

The network of Burda et al. 2016 is trained as a VAE (k = 1) and as an IWAE, by this book and by
pythae (Adam at 1e-3, batches of 100, the same first weights), on one thread each and one after the
other. The score is the likelihood of the first test images in nats, by the same estimate for all.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import tempfile
import time
from typing import Any

import machine
import torch
from torch import nn

from vae_nb import data, likelihood
from vae_nb.likelihood import BernoulliVAE


def main() -> None:
    """A table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--seconds", type=float, default=300)
    asked.add_argument("--rows", type=int, nargs="+", default=[1, 5], help="k")
    asked.add_argument("--images", type=int, default=2000, help="test images")
    asked.add_argument("--samples", type=int, default=1000, help="importance samples")
    args = asked.parse_args()
    torch.set_num_threads(1)
    dataset = data.load()
    test = dataset.test_images[: args.images]
    pixels = likelihood.binarised(test, torch.Generator().manual_seed(0))
    print(machine.describe(), end="\n\n")
    print("| | k | seconds | passes | nats |\n| --- | ---: | ---: | ---: | ---: |")
    for k in args.rows:
        for name, train in (("this book", ours), ("pythae", theirs)):
            begun = time.perf_counter()
            model, passes = train(dataset.train_images, k, args.seconds)
            took = time.perf_counter() - begun
            nats = likelihood.log_likelihood(model, pixels, args.samples).mean().item()
            print(f"| {name} | {k} | {took:.0f} | {passes} | {nats:.2f} |", flush=True)


def ours(images: torch.Tensor, k: int, seconds: float) -> tuple[BernoulliVAE, int]:
    """Trained with as many passes as fit: how long one takes is tried on a tenth of the images."""
    end = time.perf_counter() + seconds
    for _ in range(2):  # the first one is slow
        begun = time.perf_counter()
        likelihood.train(images[: len(images) // 10], k, 1)
    spent = time.perf_counter() - begun
    passes = max(1, math.floor((end - time.perf_counter()) / (10 * spent)))
    return likelihood.train(images, k, passes), passes


def theirs(images: torch.Tensor, k: int, seconds: float) -> tuple[BernoulliVAE, int]:
    """The same network in pythae, stopped after the epoch in which the time is over."""
    from pythae.data.datasets import DatasetOutput
    from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.INFO)
    network = likelihood.new(images)

    class Drawn(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return DatasetOutput(data=torch.bernoulli(images[index]))

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.layers = network.encoder

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_variance = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.layers = nn.Sequential(network.decoder, nn.Sigmoid())

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    class Stop(TrainingCallback):
        passes, end = 0, time.perf_counter() + seconds

        def on_epoch_end(self, training_config: Any, **_: Any) -> None:
            self.passes += 1
            if time.perf_counter() > self.end:
                raise TimeoutError

    options: dict[str, Any] = {"input_dim": (1, 28, 28), "latent_dim": network.latent_dim}
    options["reconstruction_loss"] = "bce"
    if k == 1:
        model = VAE(VAEConfig(**options), Encoder(), Decoder())
    else:
        model = IWAE(IWAEConfig(**options, number_samples=k), Encoder(), Decoder())
    stop = Stop()
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=10_000,
            learning_rate=1e-3,
            per_device_train_batch_size=100,
            no_cuda=True,
        )
        with contextlib.suppress(TimeoutError):
            BaseTrainer(model, Drawn(), training_config=config, callbacks=[stop]).train()
    return network.eval(), stop.passes


if __name__ == "__main__":
    main()
