"""Likelihoods that others published: Burda, Grosse & Salakhutdinov (2016), their network and table.

A Bernoulli decoder on binarised MNIST, trained by the ELBO (a VAE) or by the tighter bound of k
samples (an importance-weighted autoencoder, IWAE), and the estimate of its test log-likelihood.
All values are in nats, summed over the pixels of an image.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from vae_nb import cache, models, multirate, optim, progress
from vae_nb import objective as objectives
from vae_nb.data import Dataset
from vae_nb.models import PIXELS, Posterior
from vae_nb.multirate import BetaRange
from vae_nb.objective import kl_divergence
from vae_nb.optim import Optimiser

LATENTS, HIDDEN = 50, 200  # Burda et al. 2016, section 5: one stochastic layer
# Log-likelihood in nats and active units (their table 1).
PUBLISHED = {1: (-86.76, 19), 5: (-85.54, 22), 50: (-84.78, 25)}
PUBLISHED_EPOCHS = 3280  # their section 5: the sum of 3^i for i from 0 to 7
BATCH, LEARNING_RATE = 512, 6e-3  # chosen on held-back training images
EPOCHS = 3  # of the network that the chapter trains itself
# Rate and distortion in nats of binarised MNIST, by beta in the paper's units: of networks for one
# beta each, and of one for all (Bae et al. 2023, the authors' repository: a ResNet, 32 latents).
RATES = {
    0.01: ((129.1, 42.2), (112.2, 47.5)),
    0.1: ((81.7, 45.2), (76.1, 48.9)),
    1.0: ((25.6, 68.7), (30.2, 65.3)),
    10.0: ((3.5, 148.4), (4.7, 141.6)),
}
# From network, pixels, noise and generator to what is maximised, ``(B,)``.
Objective = Callable[[Any, Tensor, Tensor, torch.Generator], Tensor]
_LOG_2_PI = math.log(2 * math.pi)


class BernoulliVAE(nn.Module):
    """784-200-200-50 and back, with tanh; the decoder gives the logits of the pixels.

    Burda et al. 2016, section 5. The prior is N(0, I).
    """

    def __init__(self, latent_dim: int = LATENTS, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(
            *(nn.Flatten(), nn.Linear(PIXELS, hidden), nn.Tanh()),
            *(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent_dim)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()),
            nn.Linear(hidden, PIXELS),
        )

    def posterior(self, images: Tensor) -> Posterior:
        """q(z|x) of images ``(B, 1, 28, 28)``: mean and log-variance, each ``(B, M)``."""
        return Posterior(*self.encoder(images).chunk(2, dim=1))

    def encode(self, images: Tensor) -> Tensor:
        """The posterior mean of each image, ``(B, M)``."""
        return self.posterior(images).mean

    def decode(self, codes: Tensor) -> Tensor:
        """The probability of ink at each pixel, codes ``(B, M)`` to ``(B, 1, 28, 28)``."""
        return torch.sigmoid(self.decoder(codes)).view(-1, 1, 28, 28)


class MultiRateBernoulliVAE(BernoulliVAE):
    """One network for a range of beta: each hidden unit has a gate that beta opens or closes.

    The gate is a sigmoid of an affine function of log beta (Bae et al. 2023, section 4), here twice
    that, so that at first it changes nothing.
    """

    def __init__(self, latent_dim: int = LATENTS, hidden: int = HIDDEN) -> None:
        super().__init__(latent_dim, hidden)
        layers = [each for each in (*self.encoder, *self.decoder) if isinstance(each, nn.Tanh)]
        self.gates = nn.ModuleList(nn.Linear(1, hidden) for _ in layers)
        for weights in self.gates.parameters():
            nn.init.zeros_(weights)

    def at(self, betas: Tensor) -> AtBetas:
        """What the network is for images with these ``betas`` ``(B,)``, or one for all ``(1,)``."""
        return AtBetas(self, betas)


class AtBetas:
    """A network of all betas, each image at its own beta: what :func:`elbo` asks of a model."""

    def __init__(self, network: MultiRateBernoulliVAE, betas: Tensor) -> None:
        self._network = network
        self._gates = [2 * torch.sigmoid(gate(betas.log()[:, None])) for gate in network.gates]

    def posterior(self, images: Tensor) -> Posterior:
        """q(z|x) of images ``(B, 1, 28, 28)``; see :meth:`BernoulliVAE.posterior`."""
        return Posterior(*_gated(self._network.encoder, images, self._gates[:2]).chunk(2, dim=-1))

    def decoder(self, codes: Tensor) -> Tensor:
        """The logits of the pixels, codes ``(k, B, M)`` to ``(k, B, 784)``."""
        return _gated(self._network.decoder, codes, self._gates[2:])


def _gated(network: nn.Sequential, features: Tensor, gates: list[Tensor]) -> Tensor:
    following = iter(gates)
    for layer in network:
        features = layer(features)
        if isinstance(layer, nn.Tanh):
            features = features * next(following)
    return features


def binarised(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel drawn anew: ink with the probability of its grey level; the same shape, 0 or 1."""
    return torch.bernoulli(images, generator=generator)


def log_bernoulli(pixels: Tensor, logits: Tensor) -> Tensor:
    """log p(x|z) of ``pixels`` ``(..., N)`` under ``logits`` ``(..., N)``: shape ``(...)``."""
    error = functional.binary_cross_entropy_with_logits(
        logits, pixels.expand_as(logits), reduction="none"
    )
    return -error.sum(-1)


def log_normal(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log-density of a diagonal Gaussian at ``values`` ``(..., M)``: shape ``(...)``."""
    squares = (values - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + _LOG_2_PI).sum(-1)


def log_weights(model: Any, pixels: Tensor, noise: Tensor) -> Tensor:
    """log p(x, z) - log q(z|x) of z drawn from q(z|x): ``(k, B)``.

    ``pixels`` is ``(B, 1, 28, 28)``, zeros and ones; ``noise`` standard normal ``(k, B, M)``.
    """
    q = model.posterior(pixels)
    codes = q.sample(noise)
    of_pixels = log_bernoulli(pixels.flatten(1), model.decoder(codes))
    zero = torch.zeros_like(q.mean)
    return of_pixels + log_normal(codes, zero, zero) - log_normal(codes, *q)


def bound(weights: Tensor) -> Tensor:
    """The bound of k samples, log of the mean weight: log-weights ``(k, B)`` to ``(B,)``.

    Burda et al. 2016, eq. 8. Its mean is at most log p(x) and never falls as k grows.
    """
    return weights.logsumexp(0) - math.log(len(weights))


def elbo(model: Any, pixels: Tensor, noise: Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """The ELBO of each image with the KL in closed form, ``(B,)``; ``noise`` is ``(k, B, M)``.

    ``beta`` weighs the KL, in the paper's units: 1 is the ELBO itself.
    """
    distortion, rate = distortion_and_rate(model, pixels, noise)
    return -distortion - beta * rate


def distortion_and_rate(model: Any, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(x|z), mean over the draws, and the KL, of each image in nats: ``(B,)`` each."""
    q = model.posterior(pixels)
    of_pixels = log_bernoulli(pixels.flatten(1), model.decoder(q.sample(noise)))
    return -of_pixels.mean(0), kl_divergence(q).sum(1)


def objective_of(samples: int) -> Objective:
    """What :func:`train` maximises for k ``samples``: the ELBO at 1, the bound of k above."""
    if samples == 1:
        return lambda model, pixels, noise, generator: elbo(model, pixels, noise)
    return lambda model, pixels, noise, generator: bound(log_weights(model, pixels, noise))


def weighted(beta: float) -> Objective:
    """The ELBO with a weight of the KL, for :func:`train`."""
    return lambda model, pixels, noise, generator: elbo(model, pixels, noise, beta)


def of_all_betas(low: float, high: float) -> Objective:
    """The ELBO of each image at a beta of its own: to train a :class:`MultiRateBernoulliVAE`.

    Log-uniform, stratified within a batch; values are relative to the usual one at that beta, so
    that every beta counts alike.
    """
    usual = BetaRange()

    def objective(model: Any, pixels: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
        count = len(pixels)
        places = (torch.rand(count, generator=generator) + torch.arange(count)) / count
        betas = torch.exp(math.log(low) + places * math.log(high / low))
        betas = betas[torch.randperm(count, generator=generator)]
        return -usual.relative(-elbo(model.at(betas), pixels, noise, betas), betas)

    return objective


def new(images: Tensor, seed: int = 0, network: type[BernoulliVAE] = BernoulliVAE) -> BernoulliVAE:
    """An untrained network, whose decoder begins with what it would say of ``images`` unseen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    mean = images.flatten(1).mean(0).clamp(1e-3, 1 - 1e-3)
    model.decoder[-1].bias.data = mean.logit()
    return model


def train(
    images: Tensor,
    samples: int,
    epochs: int,
    seed: int = 0,
    start: BernoulliVAE | None = None,
    on_epoch: Callable[[int, BernoulliVAE, float], object] = lambda *_: None,
    batch_size: int = BATCH,
    on_step: Callable[[], object] = lambda: None,
    objective: Objective | None = None,
    learning_rate: float = LEARNING_RATE,
) -> BernoulliVAE:
    """A network fitted to grey ``images`` ``(n, 1, 28, 28)``, binarised anew at each draw.

    ``samples`` is k: the ELBO at 1, the bound of k samples above. Muon and Adam; ``learning_rate``
    is Adam's (Muon's is five times it), and falls linearly to 0. ``start`` is the network to go on
    with (trained in place); ``on_epoch`` is called with the number of epochs done, the network, and
    the mean bound of the epoch in nats; ``on_step`` after each step. ``objective`` is what is
    maximised instead, from network, pixels ``(B, 1, 28, 28)``, noise ``(k, B, M)`` and generator to
    ``(B,)``.

    Raises :class:`ValueError` for samples, epochs or a batch size below 1 and for grey levels
    outside 0 to 1, and :class:`FloatingPointError` where the bound is not finite.
    """
    require_positive(samples=samples, epochs=epochs, batch_size=batch_size)
    _require_grey(images)
    objective = objective or objective_of(samples)
    model = start or new(images, seed)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(images) / batch_size) * epochs
    optimiser = Optimiser(model, "muon", learning_rate, "linear", steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator).split(batch_size):
            pixels = binarised(images[batch], generator)
            noise = torch.randn(samples, len(batch), model.latent_dim, generator=generator)
            values = objective(model, pixels, noise, generator)
            optimiser.zero_grad()
            (-values.mean()).backward()
            optimiser.step()
            on_step()
            total += values.sum().item()
        if not math.isfinite(total):
            raise FloatingPointError(
                f"the bound is {total} after epoch {epoch + 1} (seed {seed}): take a learning_rate "
                f"below {learning_rate:g}"
            )
        on_epoch(epoch + 1, model, total / len(images))
    return model.eval()


def fit(dataset: Dataset, samples: int = 1, epochs: int = EPOCHS, seed: int = 0) -> BernoulliVAE:
    """What :func:`train` makes of the training images: kept in the cache, and trained once."""

    def write(folder: Path) -> None:
        steps = epochs * math.ceil(len(dataset.train_images) / BATCH)
        with progress.bar(steps, f"Bernoulli VAE, k = {samples}") as advance:
            model = train(dataset.train_images, samples, epochs, seed, on_step=advance)
        save_file(model.state_dict(), folder / "weights.safetensors")

    def read(folder: Path) -> BernoulliVAE:
        model = BernoulliVAE()
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        return model.eval()

    return cache.compute_once(place(dataset, samples, epochs, seed), write, read)


def place(dataset: Dataset, samples: int = 1, epochs: int = EPOCHS, seed: int = 0) -> Path:
    """The folder of what :func:`fit` keeps: named by the data, its arguments, and this code."""
    files = [
        Path(__file__),
        *(Path(inspect.getfile(each)) for each in (models, multirate, objectives, optim)),
    ]
    parts = [dataset.digest, len(dataset.train_images), samples, epochs, seed]
    name = json.dumps([*parts, cache.source_digest(*files)])
    return cache.folder() / "likelihood" / hashlib.sha256(name.encode()).hexdigest()[:24]


def log_likelihood(
    model: Any, pixels: Tensor, samples: int, seed: int = 0, rows: int = 4000
) -> Tensor:
    """The estimate of log p(x) by ``samples`` draws of q(z|x): the bound of that many, ``(n,)``.

    ``pixels`` is ``(n, 1, 28, 28)``, zeros and ones; ``rows`` is how many codes are decoded at
    once. Raises :class:`ValueError` for pixels that are not binarised, and for no samples.
    """
    require_positive(samples=samples, rows=rows)
    _require_binarised(pixels)
    generator = torch.Generator().manual_seed(seed)
    images = max(1, rows // samples)
    # One tensor for all: small ones that are kept between large ones that are not would leave
    # memory in pieces, megabytes for each image.
    found = torch.empty(len(pixels))
    with torch.inference_mode():
        for place, part in zip(found.split(images), pixels.split(images), strict=True):
            q = model.posterior(part)
            total = torch.full((len(part),), -math.inf)
            for done in range(0, samples, rows):
                count = min(rows, samples - done)
                noise = torch.randn(count, len(part), model.latent_dim, generator=generator)
                codes = q.sample(noise)
                inputs = codes.flatten(0, 1)
                weights = _log_bernoulli_of_codes(model.decoder, part, inputs, count)
                # log N(z; 0, I) - log q(z|x): what the two densities share cancels
                prior = -0.5 * codes.square().sum(-1)
                posterior = -0.5 * (noise.square().sum(-1) + q.log_variance.sum(-1))
                total = torch.logaddexp(total, (weights + prior - posterior).logsumexp(0))
            place.copy_(total - math.log(samples))
    return found


def _log_bernoulli_of_codes(
    decoder: nn.Sequential, pixels: Tensor, codes: Tensor, k: int
) -> Tensor:
    """log p(x|z), ``(k, B)``, without a logarithm for each pixel: a third of the time.

    ``sum log(1 + e^l) = sum max(l, 0) + log prod (1 + e^-|l|)``; 16 factors of at most 2 are far
    from any overflow.
    """
    logits = decoder(codes).view(k, len(pixels), -1)
    inked = torch.einsum("kbn,bn->kb", logits, pixels.flatten(1))
    positive = logits.clamp(min=0).sum(-1)
    product = logits.abs_().neg_().exp_().add_(1)
    for _ in range(4):
        half = product.shape[-1] // 2
        product = product[..., :half] * product[..., half:]
    return inked - positive - product.log_().sum(-1)


def require_positive(**values: Any) -> None:
    """Raise :class:`ValueError` that names the first value which is no whole number from 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name} = {value!r} is not allowed: {name} must be a whole number, 1 or more"
            )


def _require_grey(images: Tensor) -> None:
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):  # so that what is no number is refused, too
        raise ValueError(
            f"images have values from {low:g} to {high:g}: a grey level is the probability of ink "
            "and must be from 0 to 1 (divide by 255?)"
        )


def _require_binarised(pixels: Tensor) -> None:
    if wrong := pixels[(pixels != 0) & (pixels != 1)].flatten()[:1].tolist():
        raise ValueError(
            f"pixels hold {wrong[0]:g}, and a Bernoulli likelihood is of zeros and ones: draw them "
            "by likelihood.binarised first"
        )
