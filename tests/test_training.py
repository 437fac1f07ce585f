"""Training learns, repeats itself, and records what it minimises."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from vae_nb import data, training
from vae_nb.objective import FixedBeta, held_out, terms
from vae_nb.recipe import MODELS, Recipe, recipe
from vae_nb.training import choose_device, train


@pytest.fixture(scope="module")
def tiny(mnist) -> data.Dataset:
    return dataclasses.replace(mnist, test_images=mnist.test_images[:200])


def small(**changes) -> Recipe:
    given = dict(model="vae", beta=0.01, width=4, latent_dim=8, epochs=1, batch_size=128)
    return recipe(**given | {"train_images": 640} | changes)


def test_training_makes_the_held_out_objective_fall(tiny):
    untrained = held_out(training.new_model(small()), tiny.test_images, 0.01)
    _, history = train(small(epochs=8, batch_size=64), tiny)
    ends = [epoch["loss"] for epoch in history.held_out]
    assert ends[-1] < 0.5 * untrained["loss"]
    assert len(history.reconstruction) == len(history.kl) == 8 * 10
    assert history.steps_per_epoch == 10 and len(ends) == 8


@pytest.mark.parametrize("model", list(MODELS))
def test_same_seed_same_weights_whatever_the_global_state(model, tiny):
    given = small(model=model, beta=0.01 if model == "vae" else 0.0)
    torch.manual_seed(1)
    one, history = train(given, tiny)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two, again = train(given, tiny)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert history == again
    assert torch.equal(state, torch.random.get_rng_state())  # and the caller's state is left alone
    other, _ = train(dataclasses.replace(given, seed=1), tiny)
    assert not torch.equal(one.encoder[0].weight, other.encoder[0].weight)


def test_beta_is_what_is_minimised(tiny):
    _, free = train(small(beta=0.0, epochs=6, batch_size=64), tiny)
    _, priced = train(small(beta=10.0, epochs=6, batch_size=64), tiny)
    assert priced.held_out[-1]["kl"] < 0.2 * free.held_out[-1]["kl"]


def test_the_history_of_a_learned_variance_is_at_the_calibrated_beta(tiny):
    _, history = train(small(model="sigma_vae", beta=0.0), tiny)
    last = history.held_out[-1]
    beta = 2 * 8 / 784 * last["reconstruction"]
    assert last["loss"] == pytest.approx(last["reconstruction"] + beta * last["kl"])


@pytest.fixture
def batches(monkeypatch):
    """The images and the noise of every training step."""
    seen = []
    original = FixedBeta.__call__

    def spy(self, model, images, noise, generator, progress):
        seen.append((images, noise, progress))
        return original(self, model, images, noise, generator, progress)

    monkeypatch.setattr(FixedBeta, "__call__", spy)
    return seen


def test_all_images_are_in_every_epoch_once_and_in_another_order(tiny, batches):
    train(small(train_images=700, epochs=2), tiny)
    epochs = [torch.cat([images for images, *_ in part]) for part in (batches[:6], batches[6:])]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert len(epoch) == 700 and len(batches[5][0]) == 700 % 128
        assert epoch.double().mean() == pytest.approx(tiny.train_images[:700].double().mean())
        assert len(epoch.flatten(1).unique(dim=0)) == 700
    batches.clear()
    train(small(train_images=641), tiny)  # a last batch of one image has no variance
    assert sum(len(images) for images, *_ in batches) == 640


def test_the_noise_of_every_step_is_new_and_standard_normal(tiny, batches):
    calls = []
    train(small(epochs=2), tiny, on_step=lambda: calls.append(1))
    noise = torch.cat([noise for _, noise, _ in batches])
    assert noise.shape == (2 * 640, 8) and len(noise.unique(dim=0)) == 2 * 640
    assert noise.mean().abs() < 0.05 and (noise.std() - 1).abs() < 0.05
    assert [progress for *_, progress in batches] == [step / 10 for step in range(10)]
    assert len(calls) == 10


def test_history_is_the_terms_of_the_batch_in_training_mode(tiny):
    model, history = train(small(), tiny)
    assert not model.training
    model = training.new_model(small()).train()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(640, generator=generator)[:128]
    noise = torch.randn(128, 8, generator=generator)
    first = terms(model, tiny.train_images[chosen], noise)
    assert history.reconstruction[0] == pytest.approx(first.reconstruction.mean().item(), rel=1e-4)
    assert history.kl[0] == pytest.approx(first.kl.mean().item(), rel=1e-4)


def test_held_out_values_are_those_of_the_model_that_is_returned(tiny):
    model, history = train(small(beta=0.5), tiny)
    again = FixedBeta(0.5).held_out(model, tiny.test_images)
    assert history.held_out[-1] == pytest.approx(again, rel=1e-4)


def test_training_goes_on_from_a_network_that_is_given(tiny):
    first, history = train(small(beta=0.5, epochs=3), tiny)
    slow = small(beta=0.5, schedule="constant", optimiser="adam", learning_rate=1e-9)
    again, further = train(slow, tiny, start=first)
    assert again is first
    # The same batch: after three epochs, now, and of a new network.
    _, new = train(slow, tiny)
    assert (
        further.reconstruction[0] < 0.9 * new.reconstruction[0] == 0.9 * history.reconstruction[0]
    )


def test_a_diverging_run_is_named(tiny):
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(small(learning_rate=1e30, schedule="constant"), tiny)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="tpu"):
        choose_device("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("model", list(MODELS))
def test_cuda_trains_as_the_cpu_does(model, tiny):
    given = small(model=model, beta=0.01 if model == "vae" else 0.0)
    found, history = train(given, tiny, device="cuda")
    assert next(found.parameters()).device.type == "cpu"
    _, cpu = train(given, tiny, device="cpu")
    assert history.held_out[-1]["loss"] == pytest.approx(cpu.held_out[-1]["loss"], rel=0.05)


def test_importing_the_package_has_no_side_effects():
    code = """
import random, warnings, numpy, torch, matplotlib
def state():
    return (random.getstate(), numpy.random.get_state()[1].tolist(), warnings.filters[:],
            torch.random.get_rng_state().tolist(), dict(matplotlib.rcParams),
            torch.get_num_threads())
import tqdm, platformdirs, filelock, safetensors.torch, scipy.stats, IPython.display
before = state()
from vae_nb import archive, cache, data, figures, metrics, models, multirate, objective, optim
from vae_nb import explorer, parameters, progress, recipe, report, runs, training
assert state() == before
import sys
heavy = {"torchmetrics", "sklearn", "skimage", "torchvision", "dask", "papermill", "nbclient"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
