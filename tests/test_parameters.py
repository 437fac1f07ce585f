"""Parameters of a chapter: unknown and bad ones are named, a reader's own variables pass."""

import sys
from types import SimpleNamespace

import pytest

from vae_nb import parameters
from vae_nb.recipe import recipe

SHARED = dict(epochs=0, images=0, seed=0, dataset="MNIST", profile="default", latent_dim=64)
FIRST = "# How it is trained\nepochs = 0  # 0: the profile's own\nbeta = 0.1  # weight of the KL"
INJECTED = "# Parameters\n{}\n"


@pytest.fixture
def kernel(monkeypatch):
    """``kernel(cells)``: this process has run them, as the history of a kernel has it."""

    def run(*cells: str, **variables: object) -> None:
        shell = SimpleNamespace(user_ns={"In": ["", *cells], **variables})
        ipython = SimpleNamespace(get_ipython=lambda: shell)
        monkeypatch.setitem(sys.modules, "IPython", ipython)

    return run


def test_the_shared_parameters_are_the_fields_of_a_recipe():
    shared = parameters.checked(**SHARED, beta=0.5)
    assert shared == dict(
        epochs=0, train_images=None, seed=0, dataset="MNIST", profile="default", latent_dim=64
    )
    assert recipe("vae", 0.5, **shared) == recipe("vae", 0.5)
    assert parameters.checked(**SHARED | {"images": 512})["train_images"] == 512


@pytest.mark.parametrize("images", [-5, 1.5, "all", None, True])
def test_images_that_are_no_count_are_named(images):
    with pytest.raises(ValueError) as caught:
        parameters.checked(**SHARED | {"images": images})
    assert f"images = {images!r} is not allowed: images must be 0 (all)" in str(caught.value)


def test_a_parameter_that_papermill_sets_and_the_chapter_does_not_have_is_named(kernel):
    kernel(FIRST, INJECTED.format('epochs = 3\nbta = "much"'), "shared = parameters.checked(...)")
    with pytest.raises(ValueError) as caught:
        parameters.checked(**SHARED, beta=0.5)
    allowed = "this chapter takes beta, images, epochs, seed, dataset, profile, latent_dim"
    assert str(caught.value) == f"unknown parameter 'bta' (= 'much'): {allowed}"


@pytest.mark.parametrize(
    "cells",
    [
        (FIRST, INJECTED.format("epochs = 3\nbeta = 0.2"), "shared = ..."),
        (FIRST, "mine = 3"),
        (FIRST, INJECTED.format("beta = 0.2"), "mine = 3", "# Parameters\nother = 4"),
        (FIRST, "shared = ...", "mine = 3", "# Parameters\nother = 4"),
        (FIRST, INJECTED.format("")),
        (FIRST, "%%time\nmine = 3"),
        (),
    ],
)
def test_known_parameters_and_variables_of_the_readers_own_pass(cells, kernel):
    kernel(*cells, mine=3, shared={}, bta=0.5)
    for _ in range(2):  # and again in the same kernel
        assert parameters.checked(**SHARED, beta=0.5)["epochs"] == 0
        kernel(*cells, FIRST, "shared = parameters.checked(...)", mine=3, shared={}, bta=0.5)


def test_outside_of_a_kernel_there_is_nothing_to_look_at(monkeypatch):
    for ipython in (None, SimpleNamespace(get_ipython=lambda: None)):
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert parameters.checked(**SHARED)["seed"] == 0


# --- parameters of single chapters ---


def test_labels_pair_up():
    assert parameters.label_pairs(0, 9, range(10)) == [(0, 9)]
    assert parameters.label_pairs([0, 25], (3, 4), range(26)) == [(0, 3), (25, 4)]


@pytest.mark.parametrize(
    ("starts", "ends", "message"),
    [
        (10, 3, "start_labels = 10 is not allowed: start_labels must be a label from 0 to 9"),
        (0, -1, "end_labels = -1"),
        (0, True, "end_labels = True"),
        ([0, "1"], [1, 2], "start_labels = \\[0, '1'\\]"),
        ([0, 1], [1], "must have the same number of labels"),
        ([], [], "at least one"),
    ],
)
def test_labels_that_do_not_pair_up_are_named(starts, ends, message):
    with pytest.raises(ValueError, match=message):
        parameters.label_pairs(starts, ends, range(10))


def test_neighbours_are_factors_of_beta():
    assert parameters.neighbours(0.1, 0.3, 3) == (0.03, 0.3)  # without 0.30000000000000004


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.3, 3), "beta = 0.0"),
        ((0.1, 1.5, 3), "lower = 1.5"),
        ((0.1, 0, 3), "lower = 0"),
        ((0.1, 0.3, 0.5), "higher = 0.5"),
        ((0.1, 0.3, float("inf")), "higher = inf"),
    ],
)
def test_neighbours_on_the_wrong_side_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        parameters.neighbours(*arguments)


def test_betas_and_the_range_of_betas():
    assert parameters.within_range(10) == 10.0
    for beta in (0.0, 11, float("nan"), "0.1"):
        with pytest.raises(ValueError, match=f"beta = {beta!r} .*from 0.0001 to 10 here"):
            parameters.within_range(beta)
    assert parameters.betas("compared", [0, 0.5]) == [0.0, 0.5]
    for values in (0.1, [0.1, -1], ["0.1"], None):
        with pytest.raises(ValueError, match="compared = .* must be a list of finite numbers"):
            parameters.betas("compared", values)
