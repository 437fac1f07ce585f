"""Networks as a page can run them: layers with 16-bit weights, in one piece of JSON.

``networks.js`` reads what :func:`export` writes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_nb.models import VAE, Autoencoder
from vae_nb.multirate import BETA_RANGE, MultiRateVAE

LARGEST = 32767  # of an int16


@dataclasses.dataclass
class Layer:
    """One layer: ``y = leaky(scale * (weights * x) + shift)``, with ``*`` as PyTorch slides it.

    A convolution, or a transposed one where ``spreads``; a linear layer is a convolution to 1x1
    positions. ``weights`` is int16 ``(outputs, inputs, kernel, kernel)``; ``scale`` and ``shift``,
    ``(outputs,)``, hold the step of the weights, the bias and the BatchNorm. ``size`` and ``out``
    are the sides of input and output in pixels; ``slope`` is 1 without a nonlinearity. In a
    multi-rate VAE ``response`` is the layer from beta's embedding to what changes after the
    BatchNorm: ``y * (1 + s) + t``, first all s, then all t.
    """

    weights: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    spreads: bool
    size: int
    out: int
    stride: int
    padding: int
    slope: float = 1.0
    response: Layer | None = None

    def as_dict(self) -> dict[str, Any]:
        """The layer for JSON: its weights in base64, little-endian."""
        outputs, inputs, kernel, _ = self.weights.shape
        return vars(self) | {
            "outputs": outputs,
            "inputs": inputs,
            "kernel": kernel,
            "weights": base64.b64encode(self.weights.astype("<i2").tobytes()).decode(),
            "scale": _rounded(self.scale),
            "shift": _rounded(self.shift),
            "response": self.response and self.response.as_dict(),
        }


def export(model: Autoencoder | VAE | MultiRateVAE) -> str:
    """The networks of a model as JSON.

    BatchNorm is folded in with its running statistics, as in eval mode. Raises :class:`TypeError`
    for a layer that the page cannot run.
    """
    conditioning = None
    responses: Iterator[Layer] = iter(())
    if isinstance(model, MultiRateVAE):
        responses = iter(_layers(model.responses, 1))
        conditioning = {
            "betas": BETA_RANGE,
            "logThresholds": _rounded(model.log_threshold.detach().cpu().numpy()),
            "embedding": [layer.as_dict() for layer in _layers(model.embedding, 1)],
        }
    networks = {
        "encoder": _layers(model.encoder, 28, responses),
        "decoder": _layers(model.decoder, 1, responses),
    }
    layers = {name: [layer.as_dict() for layer in network] for name, network in networks.items()}
    return json.dumps({"latents": model.latent_dim, **layers, "conditioning": conditioning})


def quantised(kernels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """16-bit weights and the step of each output: ``(outputs, ...)`` to int16 and ``(outputs,)``.

    The largest weight of an output is LARGEST steps, so that no weight is off by more than half a
    step.
    """
    largest = kernels.flatten(1).abs().amax(1)
    step = torch.where(largest > 0, largest, 1) / LARGEST
    weights = (kernels / step.view(-1, *[1] * (kernels.ndim - 1))).round()
    return weights.to(torch.int16).numpy(), step.numpy()


def _layers(
    modules: Iterable[nn.Module], size: int, responses: Iterable[Layer] = ()
) -> list[Layer]:
    """The layers of modules that follow each other, from an input of ``size`` pixels a side.

    Each BatchNorm takes the next one of ``responses``, off an iterator that networks may share.
    """
    responses = iter(responses)
    layers: list[Layer] = []
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layers.append(_layer(module, size))
            size = layers[-1].out
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            layer = layers[-1]
            gain = _numbers(module.weight) / np.sqrt(_numbers(module.running_var) + module.eps)
            layer.scale = layer.scale * gain
            layer.shift = (layer.shift - _numbers(module.running_mean)) * gain
            layer.shift += _numbers(module.bias)
            layer.response = next(responses, None)
        elif isinstance(module, nn.LeakyReLU):
            layers[-1].slope = module.negative_slope
        elif not isinstance(module, nn.Flatten | nn.Unflatten | nn.Sigmoid):
            raise TypeError(f"a page cannot run {type(module).__name__}: add it to networks.js")
    return layers


def _layer(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, size: int) -> Layer:
    """A layer without BatchNorm and nonlinearity."""
    kernels, spreads = module.weight.detach().cpu().double(), False
    if isinstance(module, nn.Linear):
        kernels, stride, padding, out = kernels.unflatten(1, (-1, size, size)), 1, 0, 1
    else:
        stride, padding = module.stride[0], int(module.padding[0])
        out = module(module.weight.new_zeros(1, module.in_channels, size, size)).shape[-1]
        if spreads := isinstance(module, nn.ConvTranspose2d):
            kernels = kernels.transpose(0, 1)  # PyTorch has them (inputs, outputs, ...)
    # Only those taps of a kernel that ever touch a pixel: at 1x1 and 2x2 pixels many never do.
    slides, touches = (size, out) if spreads else (out, size)
    places = range(-padding, slides * stride - padding, stride)
    taps = range(kernels.shape[-1])
    used = [tap for tap in taps if any(0 <= place + tap < touches for place in places)]
    kernels = kernels[..., used[0] : used[-1] + 1, used[0] : used[-1] + 1]
    weights, step = quantised(kernels)
    bias = _numbers(module.bias)
    return Layer(weights, step, bias, spreads, size, out, stride, padding - used[0])


def _numbers(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None  # no layer here lacks a bias or running statistics
    return tensor.detach().cpu().double().numpy()


def _rounded(numbers: np.ndarray) -> list[float]:
    """To the seven digits that a float32 has."""
    return [float(f"{number:.7g}") for number in numbers]
