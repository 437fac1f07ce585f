"""What is an encoder, a decoder, an autoencoder, a VAE? The course's convolutional networks.

Shapes are written ``(B, channels, height, width)`` with B the batch. Images are in [0, 1] and
28x28; ``width`` is the number of channels after the first convolution (the course has 48) and every
later layer doubles it; ``latent_dim`` is M, the number of latents (the course has 64).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGE_SHAPE = (1, 28, 28)
PIXELS = 28 * 28
BETA_RANGE = (1e-4, 10.0)  # of a multi-rate VAE


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
            nn.Conv2d(1, width, kernel_size=4, stride=2),  # 28x28 => 13x13
            nn.LeakyReLU(),
            nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1),  # => 6x6
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(),
            nn.Conv2d(2 * width, 4 * width, kernel_size=4, stride=2),  # => 2x2
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(),
            nn.Conv2d(4 * width, 8 * width, kernel_size=3, stride=2, padding=1),  # => 1x1
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
            nn.ConvTranspose2d(
                8 * width, 4 * width, kernel_size=3, stride=2, padding=1, output_padding=1
            ),  # 1x1 => 2x2
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=4, stride=2),  # => 6x6
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(
                2 * width, width, kernel_size=4, stride=2, padding=1, output_padding=1
            ),  # => 13x13
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2),  # => 28x28
            nn.Sigmoid(),
        )


class Autoencoder(nn.Module):
    """Encoder and decoder with a plain code of M numbers between them; nothing is random."""

    def __init__(self, width: int = 16, latent_dim: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = Encoder(width, latent_dim)
        self.decoder = Decoder(width, latent_dim)

    def code(self, images: Tensor) -> Tensor:
        """The code of each image, ``(B, 1, 28, 28)`` to ``(B, M)``."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code, ``(B, M)`` to ``(B, 1, 28, 28)``."""
        return self.decoder(codes)


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

    def code(self, images: Tensor) -> Tensor:
        """The posterior mean of each image, ``(B, M)``: what reconstructions are decoded from."""
        return self.posterior(images).mean

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code, ``(B, M)`` to ``(B, 1, 28, 28)``."""
        return self.decoder(codes)


class MultiRateVAE(nn.Module):
    """A VAE that is told beta: one model for a whole range (Bae et al. 2023, "Multi-Rate VAE").

    Encoder and decoder are those of :class:`VAE`. What beta changes in them is learned: a small
    network of log beta scales and shifts the features after each batch normalisation, and each
    latent has a gate that closes at a beta of its own. With beta fixed all of it is linear in what
    is there already: :meth:`at` gives an ordinary :class:`VAE`.
    """

    def __init__(self, width: int = 16, latent_dim: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = Encoder(width, 2 * latent_dim)
        self.decoder = Decoder(width, latent_dim)
        self.embedding = nn.Sequential(
            nn.Linear(5, 32), nn.LeakyReLU(), nn.Linear(32, 32), nn.LeakyReLU()
        )
        self.responses = nn.ModuleList(
            nn.Linear(32, 2 * norm.num_features) for norm in _norms(self.encoder, self.decoder)
        )
        for response in self.responses:  # at first beta changes nothing
            nn.init.zeros_(response.weight)
            nn.init.zeros_(response.bias)
        # The log of the beta at which each latent is switched off.
        self.log_threshold = nn.Parameter(torch.linspace(math.log(1e-3), 0.0, latent_dim))

    def gates(self, beta: Tensor) -> Tensor:
        """How far each latent is open, in [0, 1]: betas ``(B,)`` to ``(B, M)``.

        In a linear VAE the information of latent j has the factor ``1 - beta / beta_j`` up to
        beta_j and is none beyond (Lucas et al. 2019; Bae et al. 2023, section 3); the corner is
        rounded here, so that a closed gate can open again.
        """
        response = 1 - beta[:, None] / self.log_threshold.exp()
        return nn.functional.softplus(response, beta=10).clamp(max=1)

    def _scales_and_shifts(self, beta: Tensor) -> list[Tensor]:
        """For each batch normalisation, ``(B, 2, channels)``; no scale is a scale of 0."""
        low, high = map(math.log, BETA_RANGE)
        u = (2 * beta.log() - low - high) / (high - low)  # in [-1, 1]
        powers = torch.stack([u, u**2, u**3, torch.sin(3 * u), torch.cos(3 * u)], dim=1)
        embedded = self.embedding(powers)
        return [response(embedded).unflatten(1, (2, -1)) for response in self.responses]

    def forward(self, images: Tensor, beta: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstructions decoded from one posterior sample, and q(z|x), each image at its beta.

        ``images`` is ``(B, 1, 28, 28)``, ``beta`` ``(B,)``, ``noise`` standard normal ``(B, M)``.
        """
        changes = iter(self._scales_and_shifts(beta))
        gates = self.gates(beta)
        outputs = _changed(self.encoder, images, changes).unflatten(1, (2, -1)) * gates[:, None]
        posterior = Posterior(*outputs.unbind(1))
        codes = posterior.sample(noise)
        return _changed(self.decoder, codes * gates, changes), posterior

    @torch.no_grad()
    def at(self, beta: float) -> VAE:
        """The ordinary VAE that this model is at one beta, in eval mode; exact, with its own copy.

        A beta outside of BETA_RANGE is taken as the range's nearest end (beta = 0 as 0.0001).
        Raises :class:`ValueError` for one that is negative or not a number.
        """
        if not beta >= 0:
            raise ValueError(f"beta = {beta!r} is not allowed: beta must be a number, 0 or more")
        width = self.encoder[0].out_channels
        vae = VAE(width, self.latent_dim).to(self.log_threshold.device)
        vae.encoder.load_state_dict(self.encoder.state_dict())
        vae.decoder.load_state_dict(self.decoder.state_dict())
        where = self.log_threshold.new_tensor([min(max(beta, BETA_RANGE[0]), BETA_RANGE[1])])
        for norm, change in zip(
            _norms(vae.encoder, vae.decoder), self._scales_and_shifts(where), strict=True
        ):
            scale, shift = change[0]
            norm.weight.mul_(1 + scale)
            norm.bias.mul_(1 + scale).add_(shift)
        gates = self.gates(where)[0]
        vae.encoder[-1].weight.mul_(gates.repeat(2)[:, None])
        vae.encoder[-1].bias.mul_(gates.repeat(2))
        vae.decoder[0].weight.mul_(gates)
        return vae.eval()


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def _norms(*networks: nn.Sequential) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    return [layer for network in networks for layer in network if isinstance(layer, _NORMS)]


def _changed(network: nn.Sequential, features: Tensor, changes: Iterator[Tensor]) -> Tensor:
    """``network`` with the features of each image scaled and shifted after each normalisation."""
    for layer in network:
        features = layer(features)
        if isinstance(layer, _NORMS):
            change = next(changes)
            scale, shift = change.view(*change.shape, *[1] * (features.ndim - 2)).unbind(1)
            features = features * (1 + scale) + shift
    return features


def sample_prior(count: int, latent_dim: int, seed: int) -> Tensor:
    """``count`` codes from the prior N(0, I), shape ``(count, M)``; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, latent_dim, generator=generator)


def in_batches(
    model: nn.Module, function: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = 1000
) -> Tensor:
    """``function`` (a method of ``model``) over any number of inputs ``(n, ...)``.

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
