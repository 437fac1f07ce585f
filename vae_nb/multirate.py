"""A VAE conditioned on beta (Bae et al. 2023), its objective, and how beta is drawn in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_nb.models import VAE, Decoder, Encoder, Posterior
from vae_nb.objective import Terms, held_out, kl_divergence, squared_error

BETA_RANGE = (1e-4, 10.0)  # for which it is trained

# Most betas are drawn from the middle of the range, where the rate–distortion curve bends most:
# this share of the images in each part of the range.
BETA_PARTS = (BETA_RANGE[0], 0.03, 0.3, BETA_RANGE[1])
BETA_SHARES = (0.32, 0.61, 0.07)
# Latents that a large beta has made inactive do not come back for a small one. So the largest beta
# is raised from BETA_MAX_START to the end of the range, over this share of the steps.
BETA_MAX_START, BETA_MAX_RISE = 3e-3, 0.25
WATCHED_BETA = 0.1  # at which the history has its held-out values


class MultiRateVAE(nn.Module):
    """A VAE conditioned on beta: one model for a whole range (Bae et al. 2023).

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
        for weights in self.responses.parameters():  # at first beta changes nothing
            nn.init.zeros_(weights)
        # The log of the beta at which each latent becomes inactive.
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

    def forward(self, images: Tensor, noise: Tensor, beta: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstructions decoded from one posterior sample, and q(z|x), each image at its beta.

        ``images`` is ``(B, 1, 28, 28)``, ``noise`` standard normal ``(B, M)``, ``beta`` ``(B,)``.
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
        first: Any = self.encoder[0]
        with torch.random.fork_rng(devices=[]):  # its first weights, all replaced, are random
            vae: Any = VAE(first.out_channels, self.latent_dim).to(self.log_threshold.device)
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


def draw_betas(count: int, progress: float, generator: torch.Generator) -> Tensor:
    """``count`` betas of BETA_RANGE for a batch, ``(count,)``, at ``progress`` in [0, 1].

    Log-uniform within each of BETA_PARTS, up to the largest beta of that moment;
    stratified, so that every batch has the whole range.
    """
    knots = np.log(BETA_PARTS)
    shares = np.concatenate([[0.0], np.cumsum(BETA_SHARES)])
    raised = min(1.0, progress / BETA_MAX_RISE)
    top = (1 - raised) * math.log(BETA_MAX_START) + raised * knots[-1]
    strata = (torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(count)) / count
    drawn = np.interp(strata * np.interp(top, knots, shares), shares, knots)
    return torch.from_numpy(np.exp(drawn)).float()[torch.randperm(count, generator=generator)]


class BetaRange:
    """The objective of all betas at once, each image at its own (Bae et al. 2023).

    The objective is twenty times larger at one end of the range than at the other. Each image's is
    divided by the running mean at about its beta, so that every beta counts alike.
    """

    def __init__(self, bins: int = 20) -> None:
        self._edges = torch.linspace(math.log(BETA_RANGE[0]), math.log(BETA_RANGE[1]), bins + 1)[
            1:-1
        ]
        self._usual = torch.full((bins,), 0.05)  # a usual value to begin with

    def __repr__(self) -> str:
        return "BetaRange()"

    def __call__(
        self,
        model: MultiRateVAE,
        images: Tensor,
        noise: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, Terms]:
        """The loss of a batch, and its terms image by image."""
        betas = draw_betas(len(images), progress, generator).to(images.device)
        reconstructions, posterior = model(images, noise, betas)
        terms = Terms(squared_error(images, reconstructions), kl_divergence(posterior).mean(1))
        return self.relative(terms.loss(betas), betas).mean(), terms

    def relative(self, losses: Tensor, betas: Tensor) -> Tensor:
        """``losses`` of images, ``(B,)``, divided by the usual one at their ``betas``."""
        usual, edges = self._usual.to(losses.device), self._edges.to(losses.device)
        bins = torch.bucketize(betas.log(), edges)
        in_bin = nn.functional.one_hot(bins, len(usual)).to(losses.dtype)
        counts = in_bin.sum(0)
        mean = (losses.detach() @ in_bin) / counts.clamp(min=1)
        self._usual = torch.where(counts > 0, 0.9 * usual + 0.1 * mean, usual)
        return losses / self._usual[bins]

    def held_out(self, model: MultiRateVAE, images: Tensor) -> dict[str, float]:
        """The values at WATCHED_BETA; see :func:`vae_nb.objective.held_out`."""
        return held_out(model.at(WATCHED_BETA), images, WATCHED_BETA)

    def fitted_beta(self, held_out: dict[str, float], latent_dim: int) -> float:
        """None of its own: nan."""
        return math.nan
