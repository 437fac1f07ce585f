"""Convolutions of few windows as matrix products: on a processor, several times as fast.

The course's last maps are 2x2 and 1x1, and its last kernel has one output channel. There the
general convolution spends its time on packing. The layers below are ``torch.nn``'s, with the same
weights and, up to rounding, the same results.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

FEW_WINDOWS = 4  # up to which the matrix product is faster (measured, widths 16 and 48)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` of square kernels and images, ``(B, i, h, h)`` to ``(B, o, n, n)``.

    With a stride and a padding of zeros; neither groups nor a dilation.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The convolution; see ``torch.nn.Conv2d``."""
        size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        side = (images.shape[-1] + 2 * padding - size) // stride + 1
        if side**2 > FEW_WINDOWS or not images.is_cpu:
            return super().forward(images)
        padded = functional.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
        starts = itertools.product(range(0, side * stride, stride), repeat=2)
        windows = [padded[:, i : i + size, j : j + size].flatten(1) for i, j in starts]
        kernels = self.weight.permute(0, 2, 3, 1).flatten(1)
        outputs = functional.linear(torch.stack(windows, dim=1), kernels, self.bias)
        return outputs.unflatten(1, (side, side)).permute(0, 3, 1, 2)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` of square kernels and images: see :class:`Conv2d`.

    With a bias.
    """

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """The transposed convolution; see ``torch.nn.ConvTranspose2d``."""
        few = images.shape[-1] ** 2 <= FEW_WINDOWS or self.out_channels == 1
        if not few or not images.is_cpu:
            return super().forward(images)
        size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        side = images.shape[-1]
        full = (side - 1) * stride + size + int(self.output_padding[0])  # with the padding
        kernels = self.weight.permute(0, 2, 3, 1).flatten(1)
        patches = images.permute(0, 2, 3, 1) @ kernels  # (B, side, side, size * size * o)
        if self.out_channels == 1:
            columns = patches.flatten(1, 2).transpose(1, 2)
            outputs = functional.fold(columns, (full, full), size, stride=stride)
        else:
            patches = patches.unflatten(-1, (size, size, self.out_channels))
            placed = []
            for i, j in itertools.product(range(side), repeat=2):
                top, left = i * stride, j * stride
                around = (left, full - left - size, top, full - top - size)
                placed.append(functional.pad(patches[:, i, j], (0, 0, *around)))
            outputs = sum(placed[1:], placed[0]).permute(0, 3, 1, 2)
        inner = outputs[:, :, padding : full - padding, padding : full - padding]
        return inner + self.bias[:, None, None]
