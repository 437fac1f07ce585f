"""Recipes are checked, training learns, and the same recipe gives the same weights."""

import dataclasses
import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from vae_nb import data, training
from vae_nb.data import Dataset
from vae_nb.models import BETA_RANGE
from vae_nb.objective import held_out
from vae_nb.training import Recipe, choose_device, recipe, train


@pytest.fixture(scope="module")
def tiny(mnist) -> Dataset:
    return dataclasses.replace(mnist, test_images=mnist.test_images[:200])


def small(**changes) -> Recipe:
    return recipe(
        **dict(model="vae", beta=0.01, width=4, latent_dim=8, epochs=1, images=640, batch_size=128)
        | changes
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beta", -1.0),
        ("beta", math.nan),
        ("beta", math.inf),
        ("beta", "0.5"),
        ("beta", None),
        ("beta", True),
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", "3"),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("width", 0),
        ("latent_dim", -3),
        ("seed", -1),
        ("seed", 0.5),
        ("images", -5),
        ("images", 10),
        ("images", "all"),
        ("model", "gan"),
        ("schedule", "none"),
        ("optimiser", "sgd"),
        ("dataset", "CIFAR10"),
        ("profile", "fast"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(field, value):
    with pytest.raises(ValueError) as caught:
        recipe(**{"model": "vae", "beta": 0.1, field: value})
    message = str(caught.value)
    assert field in message and repr(value) in message and "must be" in message


@pytest.mark.parametrize("model", ["ae", "sigma_vae", "multi_rate"])
def test_models_without_a_given_beta_take_none(model):
    with pytest.raises(ValueError, match="autoencoder"):
        recipe(model, beta=0.1)


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="bta"):
        recipe("vae", 0.1, bta=3)


def test_course_profile_is_the_course_recipe():
    for model, beta, epochs in (
        ("ae", 0, 11),
        ("vae", 0, 5),
        ("vae", 10, 5),
        ("vae", 0.1, 20),
        ("sigma_vae", 0, 20),
    ):
        course = recipe(model, beta, profile="course")
        found = (
            course.epochs,
            course.batch_size,
            course.learning_rate,
            course.schedule,
            course.optimiser,
            course.width,
            course.latent_dim,
        )
        assert found == (epochs, 64, 1.5e-3, "constant", "adam", 48, 64)
    assert recipe("vae", 0.1, profile="course", epochs=2).epochs == 2


def test_a_digest_names_the_recipe():
    assert small(beta=1).digest() == small(beta=1.0).digest()
    names = {small(**{field: value}).digest() for field, value in (("seed", 1), ("beta", 0.2))}
    assert len(names | {small().digest()}) == 3


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().beta = 2.0


def test_training_makes_the_held_out_objective_fall(tiny):
    untrained = training.held_out(training.new_model(small()), tiny.test_images, 0.01)
    _, history = train(small(epochs=4, images=1920), tiny)
    ends = [epoch["objective"] for epoch in history.held_out]
    assert ends[-1] < 0.5 * untrained["objective"]
    assert len(history.reconstruction) == len(history.kl) == 4 * 15
    assert history.steps_per_epoch == 15


def test_same_seed_same_weights_whatever_the_global_state(tiny):
    torch.manual_seed(1)
    one, history = train(small(), tiny)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two, again = train(small(), tiny)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert history == again
    assert torch.equal(state, torch.random.get_rng_state())  # and the caller's state is left alone
    other, _ = train(small(seed=1), tiny)
    assert not torch.equal(one.encoder[0].weight, other.encoder[0].weight)


def test_beta_is_what_is_minimised(tiny):
    _, free = train(small(beta=0.0, epochs=8, images=1920), tiny)
    _, priced = train(small(beta=10.0, epochs=8, images=1920), tiny)
    assert priced.held_out[-1]["kl"] < 0.2 * free.held_out[-1]["kl"]


def test_a_sigma_vae_minimises_the_likelihood_of_the_best_variance(mnist, noise):
    """Its gradient is that of N/2 log MSE + KL (Rybkin et al. 2021, eq. 7), up to a constant."""
    found = small(model="sigma_vae", beta=0.0)
    model = training.new_model(found).train()
    losses = training.terms(model, mnist.train_images[:64], noise(64, 8))
    likelihood = 784 / 2 * losses.reconstruction.log() + 8 * losses.kl
    weights = list(model.parameters())
    ours = torch.autograd.grad(
        losses.total(training._beta(found, losses)), weights, retain_graph=True
    )
    theirs = torch.autograd.grad(likelihood, weights)
    scale = 784 / (2 * losses.reconstruction.item())
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(scale * mine, other, rtol=1e-3, atol=1e-4)


def test_a_sigma_vae_s_beta_is_the_calibrated_one(tiny):
    _, history = train(small(model="sigma_vae", beta=0.0), tiny)
    last = history.held_out[-1]
    beta = 2 * 8 / 784 * last["mse_sample"]
    assert last["objective"] == pytest.approx(last["mse_sample"] + beta * last["kl"])


def test_muon_steps_on_kernels_as_torch_s_muon_does_on_matrices(noise):
    """A kernel in channels-last order is one matrix, a row for each output channel."""
    kernel = torch.nn.Parameter(noise(6, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = torch.nn.Parameter(kernel.detach().permute(0, 2, 3, 1).reshape(6, 36).clone())
    linear, copy = torch.nn.Parameter(noise(5, 7)), torch.nn.Parameter(noise(5, 7))
    ours = training._Muon([kernel, linear], 0.1)
    library = torch.optim.Muon([matrix, copy], lr=0.1, weight_decay=0.0)
    for seed in (1, 2):
        kernel.grad, linear.grad = noise(6, 4, 3, 3, seed=seed), noise(5, 7, seed=seed)
        matrix.grad = kernel.grad.permute(0, 2, 3, 1).reshape(6, 36).clone()
        copy.grad = linear.grad.clone()
        ours.step()
        library.step()
    assert torch.equal(kernel.permute(0, 2, 3, 1).reshape(6, 36), matrix)
    assert torch.equal(linear, copy)


def test_every_weight_has_one_optimiser():
    for model in ("ae", "vae"):
        for optimiser in ("adam", "muon"):
            network = training.new_model(small(model=model, beta=0.0))
            network = network.to(memory_format=torch.channels_last)
            parts = training._optimisers(small(optimiser=optimiser), network)
            counts = [sum(p.numel() for g in o.param_groups for p in g["params"]) for o in parts]
            assert sum(counts) == sum(p.numel() for p in network.parameters())
            assert len(counts) == (2 if optimiser == "muon" else 1)
    # Muon's views share the memory of the kernels: a step on one moves the other.
    view = parts[0].param_groups[0]["params"][0]
    assert view.data_ptr() in {p.data_ptr() for p in network.parameters()}


def test_all_images_are_seen_in_every_epoch(tiny, monkeypatch):
    seen = []
    original = training.terms

    def spy(model, images, noise):
        seen.append(len(images))
        return original(model, images, noise)

    monkeypatch.setattr(training, "terms", spy)
    train(small(images=700), tiny)
    assert sum(seen) == 700 and seen[-1] == 700 % 128
    seen.clear()
    train(small(images=641), tiny)  # a last batch of one image has no variance
    assert sum(seen) == 640


def test_history_is_the_objective_s_terms_in_training_mode(tiny):
    _, history = train(small(), tiny)
    model = training.new_model(small()).train()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(640, generator=generator)[:128]
    noise = torch.randn(128, 8, generator=generator)
    first = training.terms(model, tiny.train_images[chosen], noise)
    assert history.reconstruction[0] == pytest.approx(first.reconstruction.item(), rel=1e-4)
    assert history.kl[0] == pytest.approx(first.kl.item(), rel=1e-4)


def test_a_diverging_run_is_named(tiny):
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(small(learning_rate=1e30, schedule="constant"), tiny)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="tpu"):
        choose_device("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_trains(tiny):
    model, _ = train(small(), tiny, device="cuda")
    assert next(model.parameters()).device.type == "cpu"


def test_progress_is_shown_only_where_it_is_wanted(tiny, capfd, monkeypatch):
    train(small(), tiny, progress=True)
    assert "VAE, β = 0.01" in capfd.readouterr().err
    monkeypatch.setenv("VAE_NB_PROGRESS", "0")
    train(small(), tiny)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kernel", "variables", "wanted"),
    [
        (False, {}, False),  # no terminal
        (True, {}, False),  # papermill or the book: output is kept
        (True, {"JPY_SESSION_NAME": "x.ipynb"}, True),
        (True, {"JPY_SESSION_NAME": "x.ipynb", "VAE_NB_PROGRESS": "0"}, False),
        (False, {"VAE_NB_PROGRESS": "1"}, True),
    ],
)
def test_progress_is_for_somebody_who_looks(kernel, variables, wanted, monkeypatch):
    modules = {name: module for name, module in sys.modules.items() if name != "ipykernel"}
    monkeypatch.setattr(sys, "modules", modules | ({"ipykernel": None} if kernel else {}))
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG", "VAE_NB_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert training._progress_wanted() is wanted


def test_importing_the_package_has_no_side_effects():
    code = """
import random, warnings, numpy, torch, matplotlib
def state():
    return (random.getstate(), numpy.random.get_state()[1].tolist(), warnings.filters[:],
            torch.random.get_rng_state().tolist(), dict(matplotlib.rcParams),
            torch.get_num_threads())
import torchmetrics, sklearn.mixture, sklearn.linear_model, IPython.display, tqdm
import scipy.ndimage
import platformdirs, filelock, safetensors.torch, scipy.stats, torchmetrics.image.fid
before = state()
from vae_nb import answers, claims, data, figures, models, objective, parameters, store, training
from vae_nb.evaluation import measure
assert state() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- one model for every beta ---


def test_drawn_betas_cover_what_the_schedule_has_raised_the_range_to():
    def drawn(progress):
        return training.draw_betas(4096, progress, torch.Generator().manual_seed(0)).double()

    low, high = BETA_RANGE
    for progress in (0.0, 0.1, 0.2, 1.0):
        betas = drawn(progress).log()
        raised = min(1, progress / training.RAISED_OVER)
        top = (1 - raised) * math.log(training.RAISED_FROM) + raised * math.log(high)
        assert betas.min() == pytest.approx(math.log(low), abs=0.02)
        assert betas.max() == pytest.approx(top, abs=0.05) and betas.max() <= top + 1e-6
    assert drawn(0.0).max() < 3.0001e-3 and drawn(1.0).max() > 9
    assert torch.equal(drawn(0.3), drawn(0.3))


def test_drawn_betas_have_their_shares_and_are_log_uniform_between():
    betas = training.draw_betas(100_000, 1.0, torch.Generator().manual_seed(0)).log().numpy()
    knots = np.log(training.BETA_PARTS)
    for low, high, share in zip(knots, knots[1:], training.BETA_SHARES, strict=False):
        part = betas[(betas >= low) & (betas < high)]
        assert len(part) / len(betas) == pytest.approx(share, abs=0.001)
        assert part.mean() == pytest.approx((low + high) / 2, abs=0.01)
        assert part.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.01)
    # And in no order: neighbours in a batch are not neighbours in beta.
    assert abs(np.corrcoef(betas[1:], betas[:-1])[0, 1]) < 0.02


def test_relative_objectives_are_about_one_at_every_beta():
    every_beta = training._EveryBeta(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        betas = training.draw_betas(256, 1.0, generator)
        objectives = betas.sqrt() * (0.5 + torch.rand(256, generator=generator))
        relative = every_beta.relative(objectives, betas)
    for low, high in ((1e-4, 1e-3), (1e-3, 0.1), (0.1, 1.0), (1.0, 10.0)):
        part = relative[(betas >= low) & (betas < high)]
        assert part.mean() == pytest.approx(1, abs=0.25)
    # The running mean carries no gradient: what is minimised is the objective itself, weighed.
    objectives = torch.full((8,), 0.1, requires_grad=True)
    every_beta.relative(objectives, torch.full((8,), 0.1)).sum().backward()
    assert (objectives.grad > 0).all()


def test_one_training_gives_a_curve_that_goes_one_way(multi_rate, mnist):
    betas = [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    points = [held_out(multi_rate.model.at(beta), mnist.test_images, beta) for beta in betas]
    for before, after in pairwise(points):
        assert after["kl"] < 0.9 * before["kl"]
        assert after["mse_sample"] > 0.98 * before["mse_sample"]
    assert points[0]["mse_sample"] < 0.6 * points[-1]["mse_sample"]
    assert 64 * points[-1]["kl"] < 0.5 < 10 < 64 * points[0]["kl"]


def test_a_multi_rate_training_can_be_repeated():
    given = recipe("multi_rate", width=4, epochs=1, images=512, batch_size=128)
    dataset = data.load("MNIST", 512)
    few = dataclasses.replace(dataset, test_images=dataset.test_images[:100])
    one, two = (train(given, few)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_multi_rate_run_at_one_beta_is_a_run_like_others(multi_rate):
    here = multi_rate.at(0.05)
    assert here.beta == 0.05 and here.digest != multi_rate.at(0.06).digest
    values = held_out(multi_rate.model.at(0.05), multi_rate.dataset.test_images, 0.05)
    assert here.history.held_out == [pytest.approx(values, rel=1e-5)]
    # The limit of a free code: what is left of the objective is the error alone.
    free = multi_rate.at(0.0).history.held_out[-1]
    assert free["objective"] == free["mse_sample"] <= values["mse_sample"]
