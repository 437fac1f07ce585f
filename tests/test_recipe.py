"""Recipes are checked and printed; a model is one entry."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from vae_nb import data
from vae_nb.objective import FixedBeta
from vae_nb.recipe import MODELS, Kind, Recipe, recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beta", -1.0),
        ("beta", math.nan),
        ("beta", math.inf),
        ("beta", "0.5"),
        ("beta", None),
        ("beta", True),
        ("beta", [0.1, 1.0]),
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
        ("seed", 10**23),
        ("train_images", 0),
        ("train_images", 10),
        ("train_images", "all"),
        ("model", "gan"),
        ("schedule", "none"),
        ("optimiser", "sgd"),
        ("dataset", "CIFAR10"),
        ("start", "vae"),
        ("start", ["multi_rate"]),
        ("profile", "fast"),
        ("profile", ["course"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(field, value):
    with pytest.raises(ValueError) as caught:
        recipe(**{"model": "vae", "beta": 0.1, field: value})
    message = str(caught.value)
    assert field in message and repr(value) in message and "must be" in message
    assert "\n" not in message


@pytest.mark.parametrize("model", ["ae", "sigma_vae", "multi_rate"])
def test_models_without_a_given_beta_take_none(model):
    with pytest.raises(ValueError, match="beta must be 0 for every model but vae"):
        recipe(model, beta=0.1)


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="bta"):
        recipe("vae", 0.1, bta=3)


@pytest.mark.parametrize(
    ("model", "beta", "epochs"),
    [("ae", 0, 11), ("vae", 0, 5), ("vae", 10, 5), ("vae", 0.1, 20), ("sigma_vae", 0, 20)],
)
def test_course_profile_is_the_course_recipe(model, beta, epochs):
    course = recipe(model, beta, profile="course")
    assert course.as_dict() == dict(
        model=model,
        beta=beta,
        epochs=epochs,
        batch_size=64,
        learning_rate=1.5e-3,
        schedule="constant",
        optimiser="adam",
        width=48,
        latent_dim=64,
        seed=0,
        dataset="MNIST",
        train_images=None,
    )
    assert recipe(model, beta, profile="course", epochs=2).epochs == 2
    assert recipe(model, beta).epochs == 5


@pytest.mark.parametrize(
    ("beta", "epochs", "share"),
    [
        *[(1e-4, 1, 0.5), (0.02, 1, 0.5), (0.3, 1, 0.5), (10, 1, 0.5)],
        *[
            (0.03, 1, None),
            (0.049, 1, None),
            (0.2, 1, None),
            (0.05, 2, None),
            (0.1, 2, None),
            (0.15, 2, None),
        ],
    ],
)
def test_an_instant_vae_goes_on_from_the_network_of_all_betas(beta, epochs, share):
    given = recipe("vae", beta, "instant", seed=3, train_images=5000, latent_dim=8)
    assert (given.epochs, given.schedule, given.start) == (epochs, "linear", "multi_rate")
    assert given.share == share and ("of 50% of the images" in str(given)) == (share is not None)
    asked = recipe("vae", beta, "instant", epochs=7)
    assert (asked.epochs, asked.share) == (7, None)
    assert given.begins_as == recipe("multi_rate", seed=3, train_images=5000, latent_dim=8)
    assert "from the network of every β" in str(given)
    assert Recipe(**given.as_dict()) == given


@pytest.mark.parametrize(
    "key", [("ae", 0.0), ("vae", 0.0), ("sigma_vae", 0.0), ("multi_rate", 0.0)]
)
def test_what_no_network_of_all_betas_can_begin_is_the_default_instead(key):
    assert recipe(*key, "instant") == recipe(*key)
    assert recipe(*key).begins_as is None
    assert not {"start", "share"} & recipe(*key).as_dict().keys()


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.5, math.nan, True, "0.5"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"share = .* is not allowed: share must be None \(all\)"):
        recipe("vae", 0.1, share=share)


@pytest.mark.parametrize(("model", "beta"), [("ae", 0.0), ("vae", 0.0)])
def test_a_start_that_is_none_is_refused(model, beta):
    with pytest.raises(ValueError, match="start = 'multi_rate' is not allowed: start must be None"):
        recipe(model, beta, start="multi_rate")


def test_one_number_has_one_spelling():
    one, other = recipe("vae", 1, epochs=3), recipe("vae", 1.0, epochs=torch.tensor(3).numpy()[()])
    assert repr(one) == repr(other)
    assert type(other.epochs) is int and type(one.beta) is float


def test_a_printed_recipe_says_what_is_not_as_usual():
    assert str(recipe("vae", 0.1)) == "VAE, β = 0.1 (width 16, 5 epochs, seed 0)"
    changed = recipe("ae", seed=3, latent_dim=2, train_images=5000, dataset="KMNIST")
    told = "autoencoder (width 16, 2 latents, 5 epochs, seed 3, 5,000 images, KMNIST)"
    assert str(changed) == told


# --- an entry of MODELS is all that a model needs ---


@dataclasses.dataclass(frozen=True)
class Bernoulli(FixedBeta):
    """Binary cross-entropy, mean over the pixels: the negative ELBO of Bernoulli pixels."""

    @staticmethod
    def error(images, reconstructions):
        loss = torch.nn.functional.binary_cross_entropy(reconstructions, images, reduction="none")
        return loss.flatten(1).mean(1)


@pytest.fixture
def bernoulli(monkeypatch):
    its = ("Bernoulli VAE, β = {beta:g}", "vae_nb.models:VAE", Bernoulli, {"default": {None: 3}})
    kind = Kind(*its, takes_beta=True)
    monkeypatch.setitem(MODELS, "bernoulli", kind)
    small = dict(width=4, latent_dim=8, epochs=1, batch_size=32, train_images=512)
    return recipe("bernoulli", 1 / 12.25, **small)


def test_a_bernoulli_vae_is_one_entry(bernoulli, monkeypatch, mnist, tmp_path):
    from vae_nb import runs

    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    few = dataclasses.replace(mnist, test_images=mnist.test_images[:100])
    monkeypatch.setattr(data, "load", lambda *_: few)
    assert recipe("bernoulli", 1.0).epochs == 3
    assert str(bernoulli).startswith("Bernoulli VAE, β = 0.0816327 (width 4")
    with pytest.raises(ValueError, match="for every model but vae, bernoulli"):
        recipe("ae", 0.1)

    run = runs.fit(bernoulli)
    assert run.beta == bernoulli.beta
    assert run.encode(few.test_images).shape == (100, 8)
    last = run.history.held_out[-1]
    # An untrained network has log 2 nats a pixel; a mean squared error is far below.
    assert 0.1 < last["reconstruction"] < math.log(2)
    assert last["mse_mean"] < 0.25 < run.history.reconstruction[0] <= math.log(2) * 1.1
    assert last["loss"] == pytest.approx(last["reconstruction"] + run.beta * last["kl"])
    # It is fitted once, and is no VAE with a squared error.
    monkeypatch.setattr(runs.training, "train", lambda *_: pytest.fail("it trained again"))
    assert runs.fit(bernoulli).history == run.history
    assert runs.digest(dataclasses.replace(bernoulli, model="vae")) != run.digest


def test_an_entry_s_objective_is_made_anew_for_each_training():
    given = recipe("multi_rate")
    assert given.objective() is not given.objective()


def test_a_recipe_for_a_new_data_set_needs_only_its_specification(monkeypatch):
    letters = SimpleNamespace(name="Letters")
    monkeypatch.setitem(data.SPECIFICATIONS, "Letters", letters)
    assert isinstance(recipe("vae", 0.1, dataset="Letters"), Recipe)
