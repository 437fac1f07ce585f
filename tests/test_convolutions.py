"""Convolutions as matrix products, against torch's own."""

import pytest
import torch
from torch import nn

from vae_nb import convolutions

# As in the course's networks, and others that are few windows: input side, channels, and layer.
LAYERS = [
    (6, (5, 7), {"kernel_size": 4, "stride": 2}),
    (2, (5, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (13, (5, 7), {"kernel_size": 4, "stride": 2, "padding": 1}),  # many windows: torch's
    (4, (3, 2), {"kernel_size": 3, "stride": 1, "padding": 0}),
]
TRANSPOSED = [
    (1, (7, 5), {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    (2, (7, 5), {"kernel_size": 4, "stride": 2}),
    (6, (7, 5), {"kernel_size": 4, "stride": 2, "padding": 1, "output_padding": 1}),
    (13, (5, 1), {"kernel_size": 4, "stride": 2}),
    (3, (5, 1), {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
]


@pytest.mark.parametrize(
    ("name", "side", "channels", "settings"),
    [("Conv2d", *each) for each in LAYERS] + [("ConvTranspose2d", *each) for each in TRANSPOSED],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_gradients_are_torch_s(name, side, channels, settings, memory_format, noise):
    torch.manual_seed(0)
    theirs = getattr(nn, name)(*channels, **settings).double()
    ours = getattr(convolutions, name)(*channels, **settings).double()
    ours.load_state_dict(theirs.state_dict())
    images = noise(3, channels[0], side, side).double().to(memory_format=memory_format)
    found = []
    for layer in (ours, theirs):
        layer.to(memory_format=memory_format)
        inputs = images.clone().requires_grad_()
        outputs = layer(inputs)
        (outputs * torch.arange(outputs.numel()).view(outputs.shape).sin()).sum().backward()
        found.append((outputs, inputs.grad, layer.weight.grad, layer.bias.grad))
    for our, their in zip(*found, strict=True):
        assert our.shape == their.shape
        assert torch.allclose(our, their, rtol=1e-9, atol=1e-9)


def test_the_course_s_layers_of_few_windows_are_matrix_products(monkeypatch, noise):
    def refuse(*_):
        raise AssertionError("torch's convolution was used")

    monkeypatch.setattr(nn.Conv2d, "forward", refuse)
    monkeypatch.setattr(nn.ConvTranspose2d, "forward", refuse)
    few = (("Conv2d", LAYERS[:2]), ("ConvTranspose2d", [*TRANSPOSED[:2], TRANSPOSED[3]]))
    for name, layers in few:
        for side, channels, settings in layers:
            getattr(convolutions, name)(*channels, **settings)(noise(2, channels[0], side, side))
