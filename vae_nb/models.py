"""The course's convolutional networks: encoder, decoder, autoencoder, VAE.

Shapes are written ``(B, channels, height, width)`` with B the batch. Images are in [0, 1] and
28x28; ``width`` is the number of channels after the first convolution (the course has 48) and every
later layer doubles it; ``latent_dim`` is M, the number of latents (the course has 64).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vae_nb.convolutions import Conv2d, ConvTranspose2d

PIXELS = 28 * 28


class Posterior(NamedTuple):
    """The encoder's Gaussian q(z|x) with diagonal covariance (Kingma & Welling 2014, eq. 9).

    Both fields have shape ``(B, M)``; ``log_variance`` is log sigma^2, in nats.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparametrised sample ``mean + sigma * noise``, shape ``(B, M)``.

        ``noise`` is standard normal and comes from outside, so that the randomness is the
        caller's and the gradient reaches mean and variance (Kingma & Welling 2014, section 2.4).
        """
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class Encoder(nn.Sequential):
    """Four convolutions and a linear layer: images ``(B, 1, 28, 28)`` to ``(B, outputs)``."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(
            Conv2d(1, width, kernel_size=4, stride=2),  # 28x28 => 13x13
            nn.LeakyReLU(),
            Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1),  # => 6x6
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(),
            Conv2d(2 * width, 4 * width, kernel_size=4, stride=2),  # => 2x2
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(),
            Conv2d(4 * width, 8 * width, kernel_size=3, stride=2, padding=1),  # => 1x1
            nn.BatchNorm2d(8 * width),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(8 * width, outputs),
        )


class Decoder(nn.Sequential):
    """The encoder's mirror: codes ``(B, M)`` to images ``(B, 1, 28, 28)`` in (0, 1)."""

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, 8 * width),
            nn.BatchNorm1d(8 * width),
            nn.LeakyReLU(),
            nn.Unflatten(1, (8 * width, 1, 1)),
            ConvTranspose2d(
                8 * width, 4 * width, kernel_size=3, stride=2, padding=1, output_padding=1
            ),  # 1x1 => 2x2
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(),
            ConvTranspose2d(4 * width, 2 * width, kernel_size=4, stride=2),  # => 6x6
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(),
            ConvTranspose2d(
                2 * width, width, kernel_size=4, stride=2, padding=1, output_padding=1
            ),  # => 13x13
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            ConvTranspose2d(width, 1, kernel_size=4, stride=2),  # => 28x28
            nn.Sigmoid(),
        )


class Autoencoder(nn.Module):
    """Encoder and decoder with a plain code of M numbers between them; nothing is random."""

    def __init__(self, width: int = 16, latent_dim: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = Encoder(width, latent_dim)
        self.decoder = Decoder(width, latent_dim)

    def encode(self, images: Tensor) -> Tensor:
        """The code of each image, ``(B, 1, 28, 28)`` to ``(B, M)``."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code, ``(B, M)`` to ``(B, 1, 28, 28)``."""
        return self.decoder(codes)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, None]:
        """Reconstructions; there is no posterior, and the noise is not used."""
        return self.decode(self.encode(images)), None


class VAE(nn.Module):
    """The same encoder and decoder, but the encoder gives a Gaussian q(z|x) instead of a point.

    Kingma & Welling 2014. The prior p(z) is N(0, I) in M dimensions.
    """

    def __init__(self, width: int = 16, latent_dim: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = Encoder(width, 2 * latent_dim)
        self.decoder = Decoder(width, latent_dim)

    def posterior(self, images: Tensor) -> Posterior:
        """q(z|x) of each image: mean and log-variance, each ``(B, M)``."""
        return Posterior(*self.encoder(images).chunk(2, dim=1))

    def encode(self, images: Tensor) -> Tensor:
        """The posterior mean of each image, ``(B, M)``: what figures decode."""
        return self.posterior(images).mean

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code, ``(B, M)`` to ``(B, 1, 28, 28)``."""
        return self.decoder(codes)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstructions decoded from one posterior sample each, and q(z|x).

        ``noise`` is standard normal, ``(B, M)``.
        """
        posterior = self.posterior(images)
        return self.decode(posterior.sample(noise)), posterior


# --- Any number of inputs: in batches, in eval mode, without gradients, results on the CPU. ---
# `model` is a network, or whatever has one as its `model` (a run).


def network(model: Any) -> Any:
    """The network itself, of a network or of a run."""
    return getattr(model, "model", model)


def encode(model: Any, images: Tensor) -> Tensor:
    """Codes (AE) or posterior means (VAE) of images ``(n, 1, 28, 28)``: ``(n, M)``."""
    return in_batches(network(model), network(model).encode, images)


def decode(model: Any, codes: Tensor) -> Tensor:
    """Images ``(n, 1, 28, 28)`` of codes ``(n, M)``."""
    return in_batches(network(model), network(model).decode, codes)


def posterior(model: Any, images: Tensor) -> Posterior:
    """q(z|x) of every image under a VAE: mean and log-variance, each ``(n, M)``."""
    return Posterior(*in_batches(network(model), network(model).encoder, images).chunk(2, dim=1))


def sampled_codes(model: Any, images: Tensor, seed: int = 0) -> Tensor:
    """One sample of q(z|x) for each image, ``(n, M)``: together, the aggregate posterior.

    An autoencoder has no posterior: its codes are returned.
    """
    if not hasattr(network(model), "posterior"):
        return encode(model, images)
    q = posterior(model, images)
    return q.sample(sample_prior(len(images), q.mean.shape[1], seed))


def sample_prior(count: int, latent_dim: int, seed: int = 0) -> Tensor:
    """``count`` codes from the prior N(0, I), shape ``(count, M)``; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, latent_dim, generator=generator)


def in_batches(
    model: nn.Module, function: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = 1000
) -> Tensor:
    """``function`` (a method of the network ``model``) over any number of inputs ``(n, ...)``.

    In eval mode and without gradients; the result ``(n, ...)`` is on the CPU and does not depend on
    ``batch_size``.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        parts = [function(part.to(device)).cpu() for part in inputs.split(batch_size)]
    return torch.cat(parts)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in eval mode; it gets its own mode back afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
