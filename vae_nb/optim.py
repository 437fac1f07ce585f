"""How weights move: Muon in float32 for matrices, Adam for the rest, and the schedules of rates.

``torch.optim.Muon`` orthogonalises in bfloat16, which most laptops' processors emulate, at up to
ten times the cost. In float32 it is as fast everywhere, and all processors agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

MUON_LR_FACTOR = 5  # Muon's learning rate over Adam's
MOMENTUM = 0.95
WARM_UP = 10  # steps of the linear schedule
# Of the quintic iteration (Jordan et al. 2024): steep at 0, and near 1 from .7 to 1.2 in the end.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalised(matrix: Tensor) -> Tensor:
    """U V^T of ``matrix`` = U S V^T ``(m, n)``, approximately: all singular values near 1.

    Newton–Schulz iteration (Jordan et al. 2024), in the matrix's own precision.
    """
    a, b, c = _COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), for matrices and kernels of convolutions.

    A kernel ``(o, i, h, w)`` is taken as the matrix ``(o, i * h * w)``. Nesterov momentum; no
    weight decay. The rate is multiplied by ``sqrt(max(1, rows / columns))``.
    """

    def __init__(self, kernels: Iterable[Tensor], lr: float) -> None:
        super().__init__(list(kernels), {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every kernel against its gradient."""
        for group in self.param_groups:
            for kernel in group["params"]:
                matrix = kernel.grad.flatten(1)
                momentum = self.state[kernel].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix, 1 - MOMENTUM)
                update = orthogonalised(matrix.lerp(momentum, MOMENTUM))
                rate = group["lr"] * math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                kernel.sub_(update.reshape(kernel.shape), alpha=rate)


def _adam(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)]


def _muon(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    networks = (*model.encoder.parameters(), *model.decoder.parameters())
    # A kernel to or from a single channel is a list of numbers more than a matrix.
    matrices = [p for p in networks if p.ndim >= 2 and min(p.shape[:2]) > 1]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    adam = torch.optim.Adam(rest, lr=learning_rate, fused=True)
    return [Muon(matrices, MUON_LR_FACTOR * learning_rate), adam]


def _one_cycle(optimiser: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=optimiser.param_groups[0]["lr"],
        total_steps=steps,
        cycle_momentum=False,
    )


def _constant(optimiser: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _linear(optimiser: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """To 0, after a rise of WARM_UP steps: for a network that is trained already."""

    def factor(step: int) -> float:
        return min((step + 1) / WARM_UP, max(0.0, (steps - step) / max(1, steps - WARM_UP)))

    return lr_scheduler.LambdaLR(optimiser, factor)


OPTIMISERS = {"adam": _adam, "muon": _muon}
SCHEDULES = {"one_cycle": _one_cycle, "constant": _constant, "linear": _linear}


class Optimiser:
    """An optimiser by name with its schedule: ``zero_grad``, backward, ``step``."""

    def __init__(
        self, model: nn.Module, name: str, learning_rate: float, schedule: str, steps: int
    ) -> None:
        self._model = model
        self._parts = OPTIMISERS[name](model, learning_rate)
        self._schedules = [SCHEDULES[schedule](part, steps) for part in self._parts]

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self._model.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the weights, then the learning rates."""
        for part in self._parts:
            part.step()
        for schedule in self._schedules:
            schedule.step()
