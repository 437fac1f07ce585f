"""What does the model do under the reader's own hand? Widgets that run the fitted networks.

Each function returns a :class:`LiveWidget`: an HTML output that holds the networks (10-bit weights)
and the script that runs them (``explorer.js``), so that it works in a notebook, in the book and
from a file, without server or network. A static figure of the same models stands in for it on paper
and where no script runs. In the book the weights move into files of their own (``book/_ext``).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import torch
from IPython.display import display
from matplotlib.colors import to_hex
from torch import Tensor, nn

from vae_nb import figures
from vae_nb.data import Dataset
from vae_nb.evaluation import interpolation, latent, reconstruction
from vae_nb.evaluation.measure import measure, measure_curve
from vae_nb.figures import LiveFigure
from vae_nb.models import (
    BETA_RANGE,
    VAE,
    Autoencoder,
    MultiRateVAE,
    in_batches,
    sample_prior,
)
from vae_nb.store import Run

BETAS = tuple(float(f"{beta:.6g}") for beta in np.geomspace(*BETA_RANGE, 161))
"""The betas at which a multi-rate VAE is exported; the page interpolates in their logarithm."""

DIGITS = 20  # held-out images that a widget carries, two of each label
POINTS = 200  # held-out codes that the pad shows
_PADDED = 3.5  # standard deviations of a latent that its slider spans, on either side


# --- Networks as a page can run them ---


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer: ``y = leaky(scale * (weights * x) + shift)``, with ``*`` as PyTorch slides it.

    A convolution, or a transposed one where ``spreads``; a linear layer is one on 1x1 positions.
    ``weights`` is ``(outputs, inputs, kernel, kernel)`` int16; ``scale`` and ``shift`` are
    ``(rows, outputs)`` and hold the weights' step, the bias and the BatchNorm: a row for each of
    several betas, evenly spaced in their logarithm, or one for all. ``size`` and ``out`` are the
    sides of input and output in pixels, ``slope`` is 1 without a nonlinearity.
    """

    weights: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    spreads: bool
    size: int
    out: int
    stride: int
    padding: int
    slope: float

    def described(self) -> dict[str, Any]:
        """All but the numbers themselves, for the script."""
        outputs, inputs, kernel, _ = self.weights.shape
        names = ("spreads", "size", "out", "stride", "padding", "slope")
        fields = {name: getattr(self, name) for name in names}
        counts = {"scales": len(self.scale), "shifts": len(self.shift)}
        return fields | counts | {"outputs": outputs, "inputs": inputs, "kernel": kernel}


class Exported(NamedTuple):
    """Encoder and decoder as layers.

    ``gates`` is ``(rows, M)``, by which codes are multiplied before the decoder. Rows of all
    tables, as many as each needs, cover the range ``betas`` from its first to its last.
    """

    encoder: list[Layer]
    decoder: list[Layer]
    gates: np.ndarray
    betas: tuple[float, float]

    @property
    def latent_dim(self) -> int:
        """M, the number of latents."""
        return self.decoder[0].weights.shape[1]

    def as_json(self) -> str:
        """All of it as JSON, its arrays in base64: of each weight the upper 8 bits (a signed byte)
        and the lower 2 (four weights to a byte, the first one lowest); other numbers as float32.
        """
        layers = [*self.encoder, *self.decoder]
        weights = np.concatenate([layer.weights.ravel() for layer in layers])
        upper, lower = (weights >> 2).astype(np.int8), (weights & 3).astype(np.uint8)
        lower = np.pad(lower, (0, -len(lower) % 4)).reshape(-1, 4) << np.arange(0, 8, 2)
        floats = [part for layer in layers for part in (layer.scale, layer.shift)] + [self.gates]
        arrays = {
            "upper": upper,
            "lower": lower.sum(1).astype(np.uint8),
            "floats": np.concatenate([part.ravel() for part in floats]).astype("<f4"),
        }
        return json.dumps(
            {
                "latents": self.latent_dim,
                "betas": self.betas,
                "gates": len(self.gates),
                "encoder": [layer.described() for layer in self.encoder],
                "decoder": [layer.described() for layer in self.decoder],
            }
            | {name: base64.b64encode(array).decode() for name, array in arrays.items()}
        )


def export(model: Autoencoder | VAE) -> Exported:
    """The networks of a model as layers with 10-bit weights.

    BatchNorm is folded in with its running statistics, as in eval mode.
    """
    encoder, decoder = _layers([model.encoder], 28), _layers([model.decoder], 1)
    return Exported(encoder, decoder, np.ones((1, model.latent_dim)), BETA_RANGE)


def export_any_beta(model: MultiRateVAE, betas: Sequence[float] = BETAS) -> Exported:
    """The networks of a multi-rate VAE: one set of weights, its changes in a row for each beta.

    ``betas`` are evenly spaced in their logarithm. The VAEs ``model.at(beta)`` may differ in their
    BatchNorms, in biases, and by a factor for each row of a layer or column of the decoder's first;
    for any other difference :class:`ValueError` is raised.
    """
    vaes = [model.at(beta) for beta in betas]
    first = [vae.decoder[0].weight.detach().double() for vae in vaes]
    base, gates = _proportional(torch.stack(first).transpose(1, 2), "the decoder's first columns")
    encoder = _layers([vae.encoder for vae in vaes], 28)
    decoder = _layers([vae.decoder for vae in vaes], 1, first=base.T)
    return Exported(encoder, decoder, _thinned(gates.numpy()), (betas[0], betas[-1]))


def _proportional(kernels: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Rows ``(rows, n)`` and factors ``(betas, rows)`` whose products are ``(betas, rows, n)``.

    The rows are those of the beta at which they are longest.
    """
    longest = kernels.norm(dim=2).argmax(0)
    base = kernels[longest, torch.arange(len(longest))]
    factors = (kernels * base).sum(2) / base.square().sum(1).clamp(min=1e-30)
    if (kernels - factors[..., None] * base).abs().max() > 1e-4 * base.abs().max():
        raise ValueError(
            f"the VAEs of different betas differ in {what} by more than a factor each: the page "
            "cannot run them with one set of weights. Fold only BatchNorm, rows of the encoder's "
            "last and columns of the decoder's first linear layer"
        )
    return base, factors


def _layers(
    networks: Sequence[nn.Sequential], size: int, first: Tensor | None = None
) -> list[Layer]:
    """The layers of networks that share their weights, one network for each beta.

    ``size`` is the side of the input; ``first`` replaces the first layer's weights.
    """
    layers: list[Layer] = []
    for modules in zip(*networks, strict=True):
        module = modules[0]
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            kernels = torch.stack([each.weight.detach().double() for each in modules])
            if first is not None and not layers:
                kernels = first[None].expand(len(modules), -1, -1)
            biases = torch.stack([each.bias.detach().double() for each in modules])
            layers.append(_layer(module, kernels, biases, size))
            size = layers[-1].out
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            layers[-1] = _normalised(layers[-1], modules)
        elif isinstance(module, nn.LeakyReLU):
            layers[-1] = dataclasses.replace(layers[-1], slope=module.negative_slope)
        elif not isinstance(module, nn.Flatten | nn.Unflatten | nn.Sigmoid):
            raise TypeError(f"a page cannot run {type(module).__name__}: teach explorer.js")
    return [
        dataclasses.replace(each, scale=_thinned(each.scale), shift=_thinned(each.shift))
        for each in layers
    ]


def _layer(module: nn.Module, kernels: Tensor, biases: Tensor, size: int) -> Layer:
    """A layer without its BatchNorm; ``kernels`` and ``biases`` have one entry for each beta."""
    spreads = isinstance(module, nn.ConvTranspose2d)
    if isinstance(module, nn.Linear):
        kernels, stride, padding, out = kernels[..., None, None], 1, 0, 1
    else:
        stride, padding = module.stride[0], module.padding[0]
        if spreads:
            kernels = kernels.transpose(1, 2)  # PyTorch has them (inputs, outputs, ...)
        reach = kernels.shape[-1]
        out = (
            (size - 1) * stride - 2 * padding + reach + module.output_padding[0]
            if spreads
            else (size + 2 * padding - reach) // stride + 1
        )
    live = _live_taps(kernels.shape[-1], size, out, stride, padding, spreads)
    kernels, padding = kernels[..., live, live], padding - live.start
    base, factors = _proportional(kernels.flatten(2), f"the weights of a {type(module).__name__}")
    weights, step = quantised(base.unflatten(1, kernels.shape[2:]).numpy())
    scale = factors.numpy() * step
    return Layer(weights, scale, biases.numpy(), spreads, size, out, stride, padding, slope=1.0)


def _live_taps(kernel: int, size: int, out: int, stride: int, padding: int, spreads: bool) -> slice:
    """The taps of a kernel that ever touch a pixel; at 1x1 and 2x2 pixels many never do."""
    slides, touches = (size, out) if spreads else (out, size)
    live = [
        tap
        for tap in range(kernel)
        if any(0 <= place * stride + tap - padding < touches for place in range(slides))
    ]
    return slice(live[0], live[-1] + 1)


def _normalised(layer: Layer, norms: Sequence[nn.Module]) -> Layer:
    """``layer`` with the BatchNorm that follows it folded into its scale and shift."""
    scales, shifts = [], []
    for n, norm in enumerate(norms):
        gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().numpy()
        mean, offset = (x.detach().double().numpy() for x in (norm.running_mean, norm.bias))
        scales.append(layer.scale[n] * gain)
        shifts.append((layer.shift[n] - mean) * gain + offset)
    return dataclasses.replace(layer, scale=np.stack(scales), shift=np.stack(shifts))


def _thinned(rows: np.ndarray, tolerance: float = 0.015) -> np.ndarray:
    """As few evenly spaced ``rows`` as the others can be interpolated from linearly.

    That is within ``tolerance`` of the largest number; a single row if all are alike.
    """
    allowed = tolerance * np.abs(rows).max()
    if np.abs(rows - rows[:1]).max() <= 1e-6 * np.abs(rows).max():
        return rows[:1]
    while len(rows) % 2 and len(rows) > 2:
        missed = (rows[:-1:2] + rows[2::2]) / 2 - rows[1::2]
        if np.abs(missed).max() > allowed:
            break
        rows = rows[::2]
    return rows


def quantised(kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """10-bit weights and the step of each output: ``(outputs, ...)`` to int16 and ``(outputs,)``.

    The largest weight of an output is 511 steps, so that no weight is off by more than half a step.
    """
    largest = np.abs(kernels).reshape(len(kernels), -1).max(1)
    step = np.where(largest > 0, largest, 1) / 511
    weights = np.rint(kernels / step.reshape(-1, *[1] * (kernels.ndim - 1)))
    return weights.astype(np.int16), step


# --- Widgets ---


@dataclasses.dataclass(frozen=True)
class LiveWidget:
    """A widget with the static figure that stands in for it.

    As the last line of a cell it shows itself. ``spec`` is what the script needs but the networks,
    ``networks`` are :meth:`Exported.as_json` by digest; both end up in one HTML output.
    """

    figure: LiveFigure
    spec: dict[str, Any]
    networks: dict[str, str]

    def html(self) -> str:
        """The whole widget as HTML: style, stand-in, description, networks, script."""
        still = base64.b64encode(self.figure.png()).decode()
        width = round(self.figure.figure.get_figwidth() * 96)
        networks = "".join(
            f'<script type="text/plain" data-model="{digest}">{network}</script>\n'
            for digest, network in self.networks.items()
        )
        spec = json.dumps(self.spec).replace("</", "<\\/")  # a label must not end the script
        return (
            f'<div class="vae-explorer">\n<style>{_packaged("explorer.css")}</style>\n'
            f'<img class="vae-still dark-light" src="data:image/png;base64,{still}" '
            f'width="{width}" alt="{html.escape(self.figure.alt)}">\n'
            '<div class="vae-widget"></div>\n'
            f'<script type="application/json">{spec}</script>\n'
            f'{networks}<script class="vae-code">{_packaged("explorer.js")}</script>\n</div>'
        )

    def _ipython_display_(self) -> None:
        figure = self.figure
        words = {"name": f"fig-{figure.name}", "caption": figure.caption, "alt": figure.alt}
        bundle = {"text/html": self.html(), "text/plain": figure.alt}
        display(bundle, raw=True, metadata={"text/html": {"vae_nb": words}})
        figure.display_caption()


@functools.cache
def _packaged(name: str) -> str:
    return (resources.files("vae_nb") / name).read_text(encoding="utf-8")


def latent_pad(
    models: Mapping[str, Run], dataset: Dataset, name: str, first: str = "", sliders: int = 4
) -> LiveWidget:
    """Move in the latent space of each of ``models`` (label to run), beginning with ``first``.

    A pad over the two latents with the largest KL (of an autoencoder: variance) and as many
    further ``sliders``. Beside it are the model's measured values.
    """
    labels = list(models)
    first = first or labels[0]
    if first not in models:
        raise ValueError(f"first = {first!r} is not allowed: it must be one of {labels}")
    exports = _Exports()
    described = {}
    for label, run in models.items():
        axes, points = _latents(run.model, dataset, 2 + sliders)
        network = exports.add(label, run)
        facts = _facts(measure(run, dataset))
        described[label] = network | {"latents": axes, "points": points, "facts": facts}
    planes = [
        (label, _plane(models[label].model, described[label]["latents"][:2]))
        for label in dict.fromkeys([first, labels[0], labels[-1]])
    ]
    axes = "; ".join(
        f"{label}: {' and '.join(axis['label'] for axis in described[label]['latents'][:2])}"
        for label, _ in planes
    )
    spec = {
        "widget": "latentPad",
        "first": labels.index(first),
        "models": list(described.values()),
    }
    return LiveWidget(
        _live(
            figures.latent_planes(planes, name, axes),
            "What a model decodes at the dot. Dashed: one and two standard deviations of the prior "
            f"N(0, I). Small digits: the codes of {POINTS} held-out images, by label.",
        ),
        spec | _digits(dataset),
        exports.networks,
    )


def interpolate(
    models: Mapping[str, Run], dataset: Dataset, name: str, labels: tuple[int, int] = (4, 9)
) -> LiveWidget:
    """Walk between two held-out digits in each of ``models`` (label to run), side by side.

    It begins with two digits of these ``labels``, start and end.
    """
    exports = _Exports()
    described = [exports.add(label, run) for label, run in models.items()]
    carried = _chosen(dataset)
    start, end = interpolation.with_labels(dataset.test_labels[carried], [labels])
    images = dataset.test_images[carried]
    rows, strokes = [], []
    for label, run in models.items():
        path = interpolation.interpolate(run.model, images[start], images[end], steps=9)
        rows.append((label, path[0]))
        strokes.append((label, measure(run, dataset)["extra_strokes_0.5"]))
    spec = {"widget": "interpolate", "models": described, "chosen": [int(start), int(end)]}
    return LiveWidget(
        _live(
            figures.interpolations(rows, name, strokes),
            "The straight way between the codes of two held-out digits, of your choice. A stroke "
            "is a connected piece of at least three pixels above one half.",
        ),
        spec | _digits(dataset),
        exports.networks,
    )


def draw(models: Mapping[str, Run], dataset: Dataset, name: str) -> LiveWidget:
    """Draw a digit and see what each of ``models`` (label to run) makes of it."""
    exports = _Exports()
    described = [exports.add(label, run) for label, run in models.items()]
    images = dataset.test_images[_chosen(dataset)][::2]
    rows = [
        (label, reconstruction.reconstruct(run.model, images), measure(run, dataset)["mse_mean"])
        for label, run in models.items()
    ]
    return LiveWidget(
        _live(
            figures.reconstructions(images, rows, name),
            "A digit of your own, encoded and decoded (from the posterior mean) by each model. "
            "Below each: its squared error and its KL.",
        ),
        {"widget": "draw", "models": described} | _digits(dataset),
        exports.networks,
    )


def any_beta(run: Run, dataset: Dataset, name: str, beta: float = 0.1) -> LiveWidget:
    """Move beta itself, over the range of a multi-rate VAE, beginning at ``beta``.

    The same digit and the same noise at every beta, and where it stands on the measured curve of
    rate and distortion (on all held-out images, kept in the store).
    """
    exports = _Exports()
    described = exports.put("any β", None, export_any_beta(run.model))
    curve = [
        (b, its["rate"].value, its["mse_sample"].value)
        for b, its in measure_curve(run, dataset).items()
    ]
    some = dataset.test_images[_chosen(dataset)[[4, 10, 16]]]
    columns = []
    for b, rate, distortion in curve[::4]:
        vae = run.model.at(b)
        decoded = reconstruction.reconstruct_sampled(vae, some)
        drawn = in_batches(vae, vae.decode, sample_prior(3, vae.latent_dim, seed=0))
        columns.append((f"β = {b:.2g}", decoded, drawn, f"{rate:.1f} nats\n{distortion:.4f}"))
    (low, rate_low, error_low), (high, rate_high, error_high) = curve[0], curve[-1]
    finding = (
        f"One network for every β: from β = {low:g} to {high:g} its rate goes from {rate_low:.1f} "
        f"to {rate_high:.1f} nats and its squared error from {error_low:.4f} to {error_high:.4f}."
    )
    spec = {"widget": "anyBeta", "models": [described], "curve": curve, "beta": beta}
    return LiveWidget(
        _live(
            figures.beta_strip(columns, name, finding),
            "The same held-out digit and the same noise as β moves, by one network. The dot is "
            "where β stands on the measured curve of rate and squared error.",
        ),
        spec | _digits(dataset),
        exports.networks,
    )


def _live(figure: LiveFigure, words: str) -> LiveFigure:
    """A stand-in whose caption begins with what the live widget shows."""
    return dataclasses.replace(figure, caption=f"{words} *In print:* {figure.caption}")


class _Exports:
    """The networks of one widget, by digest."""

    def __init__(self) -> None:
        self.networks: dict[str, str] = {}

    def add(self, label: str, run: Run) -> dict[str, Any]:
        beta = None if isinstance(run.model, Autoencoder) else run.beta
        return self.put(label, beta, export(run.model))

    def put(self, label: str, beta: float | None, exported: Exported) -> dict[str, Any]:
        network = exported.as_json()
        digest = hashlib.sha256(network.encode()).hexdigest()[:16]
        self.networks[digest] = network
        return {"name": label, "digest": digest, "colour": to_hex(figures.colour(beta))}


def _chosen(dataset: Dataset) -> Tensor:
    """Indices of the held-out images that a widget carries: the first two of each label."""
    labels = dataset.test_labels
    first = [(labels == label).nonzero().flatten()[: DIGITS // 10] for label in range(10)]
    return torch.cat(first)


def _digits(dataset: Dataset) -> dict[str, Any]:
    carried = _chosen(dataset)
    pixels = (dataset.test_images[carried] * 255).round().to(torch.uint8).flatten(1).numpy()
    return {
        "digits": [
            {"label": int(label), "pixels": base64.b64encode(image.tobytes()).decode()}
            for label, image in zip(dataset.test_labels[carried], pixels, strict=True)
        ]
    }


def _latents(
    model: Autoencoder | VAE, dataset: Dataset, count: int
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """The ``count`` most active latents, their sliders, and where held-out digits lie in two."""
    codes = in_batches(model, model.code, dataset.test_images)
    if isinstance(model, Autoencoder):
        activity, unit = codes.var(dim=0), "variance {:.2f}"
    else:
        activity = latent.rate_of_each_latent(latent.posterior(model, dataset.test_images))
        unit = "{:.2f} nats"
    spread, centre = codes.std(dim=0), codes.mean(dim=0)
    axes = []
    for index in activity.argsort(descending=True)[:count].tolist():
        # At least as wide as the prior, so that a latent without any KL can be moved, too.
        low, high = (float(centre[index] + sign * _PADDED * spread[index]) for sign in (-1, 1))
        label = f"latent {index} ({unit.format(float(activity[index]))})"
        low, high = round(min(low, -_PADDED), 2), round(max(high, _PADDED), 2)
        axes.append({"index": index, "label": label, "low": low, "high": high})
    two = codes[:POINTS, [axis["index"] for axis in axes[:2]]].tolist()
    labels = dataset.test_labels[:POINTS].tolist()
    points = [[label, round(x, 2), round(y, 2)] for label, (x, y) in zip(labels, two, strict=True)]
    return axes, points


def _plane(model: Autoencoder | VAE, axes: Sequence[dict[str, Any]], steps: int = 7) -> Tensor:
    """What is decoded on a grid over two latents, all others zero; the second one grows upwards."""
    across, up = (torch.linspace(axis["low"], axis["high"], steps) for axis in axes)
    codes = torch.zeros(steps, steps, model.latent_dim)
    codes[..., axes[0]["index"]] = across
    codes[..., axes[1]["index"]] = up.flip(0)[:, None]
    return in_batches(model, model.decode, codes.flatten(0, 1))


def _facts(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    rate = f"{measured['rate'].value:.1f} nats" if "rate" in measured else "no KL"
    return [
        ("rate", rate),
        ("MSE of the mean" if "rate" in measured else "MSE", f"{measured['mse_mean'].value:.4f}"),
        ("FID of samples", f"{measured['fid_prior'].value:.1f}"),
    ]
