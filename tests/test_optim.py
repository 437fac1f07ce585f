"""Muon in float32, against the singular value decomposition and torch's own in bfloat16."""

import math

import pytest
import torch
from torch import nn

from vae_nb import optim
from vae_nb.models import VAE, Autoencoder
from vae_nb.multirate import MultiRateVAE
from vae_nb.optim import Muon, Optimiser, orthogonalised

BFLOAT16 = 2**-7  # twice its rounding error; five iterations of sums of products add to it


def muon_of_torch(matrix: torch.Tensor) -> torch.Tensor:
    """The orthogonalised gradient as ``torch.optim.Muon`` has it: a step without momentum."""
    weights = nn.Parameter(torch.zeros_like(matrix))
    weights.grad = matrix.clone()
    library = torch.optim.Muon([weights], lr=1.0, weight_decay=0, momentum=0, nesterov=False)
    library.step()
    return -weights.detach() / math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))


def with_singular_values(values: torch.Tensor, rows: int, columns: int, noise) -> torch.Tensor:
    left, _ = torch.linalg.qr(noise(rows, len(values), seed=1).double())
    right, _ = torch.linalg.qr(noise(columns, len(values), seed=2).double())
    return (left * values.double()) @ right.T


@pytest.mark.parametrize("shape", [(6, 6), (5, 12), (12, 5), (32, 144), (144, 32)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape, noise):
    matrix = noise(*shape)
    found = orthogonalised(matrix)
    assert found.shape == shape and found.dtype == torch.float32
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    # In the basis of the singular vectors of the matrix it is diagonal ...
    inner = left.T @ found @ right.T
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4
    # ... with the values of the quintic that was iterated, which are near 1 (Jordan et al. 2024).
    expected = values.double() / values.double().norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    assert torch.allclose(inner.diagonal().double(), expected, atol=1e-4)
    large = values > 0.02 * values.norm()
    assert inner.diagonal()[large].min() > 0.65 and inner.diagonal().max() < 1.21


def test_the_size_of_the_gradient_does_not_matter_and_zero_stays_zero(noise):
    matrix = noise(4, 9)
    assert torch.allclose(orthogonalised(1e-3 * matrix), orthogonalised(1e3 * matrix), atol=1e-4)
    assert torch.equal(orthogonalised(torch.zeros(4, 9)), torch.zeros(4, 9))


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_it_is_torch_s_within_the_error_of_bfloat16(shape, noise):
    rank = min(shape)
    matrix = with_singular_values(torch.linspace(1, 2, rank), *shape, noise).float()
    difference = orthogonalised(matrix) - muon_of_torch(matrix)
    assert difference.norm() / math.sqrt(rank) < 3 * BFLOAT16


def test_for_an_ill_conditioned_gradient_float32_is_exact_where_bfloat16_is_not(noise):
    matrix = with_singular_values(torch.logspace(0, -6, 16), 16, 64, noise)
    exact = orthogonalised(matrix)
    assert exact.dtype == torch.float64
    assert (orthogonalised(matrix.float()) - exact).abs().max() < 1e-4
    assert (muon_of_torch(matrix.float()) - exact).abs().max() > 1e-2


def test_steps_on_matrices_are_torch_s_within_the_error_of_bfloat16(noise):
    """Momentum, Nesterov's step and the rate of tall matrices; kernels are one row per channel."""
    values = torch.linspace(1, 2, 6)
    kernel = nn.Parameter(noise(6, 4, 3, 3))
    tall = nn.Parameter(noise(20, 6))
    starts = kernel.detach().permute(0, 2, 3, 1).reshape(6, 36), tall.detach().clone()
    copies = [nn.Parameter(start.clone()) for start in starts]
    ours = Muon([kernel, tall], lr=0.1)
    library = torch.optim.Muon(copies, lr=0.1, weight_decay=0.0)
    for seed in (1, 2, 3):
        gradient = with_singular_values(values.roll(seed), 6, 36, noise).float()
        copies[0].grad = gradient
        kernel.grad = gradient.view(6, 3, 3, 4).permute(0, 3, 1, 2)
        tall.grad = with_singular_values(values.roll(seed), 20, 6, noise).float()
        copies[1].grad = tall.grad.clone()
        ours.step()
        library.step()
    ends = kernel.detach().permute(0, 2, 3, 1).reshape(6, 36), tall.detach()
    for start, end, copy in zip(starts, ends, copies, strict=True):
        moved, expected = end - start, copy.detach() - start
        assert moved.norm() > 0.1
        assert (moved - expected).norm() / expected.norm() < 3 * BFLOAT16


def test_a_kernel_moves_the_same_in_either_layout(noise):
    kernels = [
        nn.Parameter(noise(6, 4, 3, 3).contiguous(memory_format=layout))
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    for layout in (torch.channels_last, torch.contiguous_format):  # of the gradients: the other
        for kernel in kernels:
            kernel.grad = noise(6, 4, 3, 3, seed=1).contiguous(memory_format=layout)
            Muon([kernel], lr=0.1).step()
    assert kernels[1].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(*kernels) and not torch.equal(kernels[0], noise(6, 4, 3, 3))


def test_a_step_goes_down_and_keeps_its_momentum(noise):
    """On a quadratic both optimisers come near the lowest point; momentum outlives a step."""
    target, weights = noise(5, 7), nn.Parameter(torch.zeros(5, 7))
    muon = Muon([weights], lr=0.05)
    for _ in range(200):
        weights.grad = weights.detach() - target
        muon.step()
    assert (weights - target).abs().mean() < 0.1 * target.abs().mean()
    weights.grad = torch.zeros(5, 7)
    before = weights.detach().clone()
    muon.step()
    assert not torch.equal(weights, before)


@pytest.mark.parametrize("network", [Autoencoder, VAE, MultiRateVAE])
@pytest.mark.parametrize("name", ["adam", "muon"])
def test_every_weight_has_one_optimiser(network, name):
    model = network(4, 6)
    parts = optim.OPTIMISERS[name](model, 1e-3)
    held = [p for part in parts for group in part.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    if name == "muon":
        muon, adam = parts
        assert muon.param_groups[0]["lr"] == pytest.approx(5 * adam.param_groups[0]["lr"])
        matrices = muon.param_groups[0]["params"]
        assert all(p.ndim in (2, 4) and min(p.shape[:2]) > 1 for p in matrices)
        assert len(matrices) == 8  # of 5 + 5 layers with kernels two have a single channel


def test_schedules_end_low_or_stay_and_all_gradients_are_forgotten(noise):
    for schedule, end in (("one_cycle", 0.001), ("constant", 1.0), ("linear", 0.05)):
        model = VAE(4, 6)
        optimiser = Optimiser(model, "muon", 0.01, schedule, steps=30)
        rates = []
        for _ in range(30):
            optimiser.zero_grad()
            assert all(p.grad is None for p in model.parameters())
            model(torch.rand(2, 1, 28, 28), noise(2, 6))[0].sum().backward()
            rates.append([part.param_groups[0]["lr"] for part in optimiser._parts])
            optimiser.step()
        assert max(muon for muon, _ in rates) == pytest.approx(0.05, rel=0.05)
        assert max(adam for _, adam in rates) == pytest.approx(0.01, rel=0.05)
        assert rates[-1][1] <= end * 0.01
        assert (rates[-1] == rates[0]) is (schedule == "constant")
        if schedule == "linear":  # for ten steps up, then down
            assert rates[0][1] == pytest.approx(0.001) and rates[9][1] == pytest.approx(0.01)
            assert rates[20][1] == pytest.approx(0.01 * 10 / 20)
