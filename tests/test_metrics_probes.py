"""Probes read what is there and nothing else; against scikit-learn and counts by hand."""

import numpy as np
import pytest
import torch
import toys
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from toys import noise

from vae_nb.metrics import probes
from vae_nb.metrics.record import Record


@pytest.fixture(scope="module")
def separable():
    labels = torch.arange(3000) % 3
    return torch.nn.functional.one_hot(labels, 3).float() + 0.1 * noise(3000, 3), labels


@pytest.mark.parametrize("kind", ["probe", "knn"])
def test_probes_read_what_is_there_and_nothing_else(kind, separable):
    codes, labels = separable
    useful = probes.few_labels(kind, codes, labels, codes, labels, 100)
    useless = probes.few_labels(kind, noise(3000, 3), labels, noise(3000, 3), labels, 100)
    assert useful.value > 0.99
    assert useless.value == pytest.approx(1 / 3, abs=0.05)
    assert probes.all_labels(kind, codes, labels, codes, labels).value > 0.99


def test_neighbours_are_those_of_a_count_by_hand(separable):
    codes, labels = separable
    scores = []
    for chosen in probes.draws(labels, 10, probes.COUNTS[10]):
        nearest = torch.cdist(codes, codes[chosen]).argmin(1)  # of so few, the nearest one decides
        scores.append((labels[chosen][nearest] == labels).double().mean().item())
    estimate = probes.few_labels("knn", codes, labels, codes, labels, 10)
    assert estimate.value == pytest.approx(np.mean(scores), abs=1e-3)


@pytest.mark.parametrize(
    ("count", "classes", "k"), [(10, 10, 1), (100, 10, 5), (60, 10, 3), (60, 26, 1), (30, 3, 5)]
)
def test_as_many_neighbours_vote_as_there_are_labels_of_a_class(count, classes, k):
    assert probes.nearest_neighbours(count, classes).n_neighbors == k


def test_draws_have_as_many_of_each_label_as_can_be():
    labels = torch.cat([torch.zeros(90, dtype=int), torch.ones(5, dtype=int)])
    few, again = (list(probes.draws(labels, 8, 3)) for _ in range(2))
    assert all((labels[draw] == 1).sum() == 4 and len(set(draw)) == 8 for draw in few)
    assert all(np.array_equal(a, b) for a, b in zip(few, again, strict=True))
    assert not np.array_equal(few[0], few[1])
    (many,) = probes.draws(labels, 40, 1)
    assert (labels[many] == 1).sum() == 5 and len(set(many)) == 40
    (all_of_them,) = probes.draws(labels, 1000, 1)
    assert sorted(all_of_them) == list(range(95))


def test_scaling_leaves_the_relative_spread_alone():
    codes = noise(2000, 3) * torch.tensor([10.0, 1.0, 0.01]) + 5
    scaled, test = probes.scaled(codes, codes[:10])
    assert scaled.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert scaled.square().mean().item() == pytest.approx(1)
    assert (scaled.std(0) / scaled.std(0)[0]).tolist() == pytest.approx([1, 0.1, 0.001], rel=0.1)
    assert torch.equal(test, scaled[:10])


def test_noise_in_the_code(separable):
    codes, labels = separable
    clean = probes.few_labels("probe", codes, labels, codes, labels, 1000)
    none, some, much = (
        probes.under_noise(codes, labels, codes, labels, level) for level in (0.0, 0.5, 1000.0)
    )
    assert none.interval == pytest.approx(clean.interval)
    assert much.value < some.value < none.value
    assert much.value == pytest.approx(1 / 3, abs=0.05)
    # In proportion to each latent's own spread: a scale changes nothing but the probe's penalty.
    larger = probes.under_noise(100 * codes, labels, 100 * codes, labels, 0.5)
    assert larger.value == pytest.approx(some.value, abs=0.02)


def test_principal_components_are_those_of_an_svd():
    toy = toys.dataset(500, 50)
    codes, test_codes = probes.principal_components(toy.train_images, toy.test_images, 5)
    mean = toy.train_images.flatten(1).mean(0)
    *_, axes = torch.linalg.svd(toy.train_images.flatten(1) - mean, full_matrices=False)
    expected = (toy.test_images.flatten(1) - mean) @ axes[:5].T
    assert torch.allclose(test_codes.abs(), expected.abs(), atol=1e-2)
    assert codes.shape == (500, 5)


def test_what_is_probed_are_posterior_means():
    toy = toys.dataset(300, 100)
    run = toys.run(toy)
    record = Record(toy, run)
    with torch.inference_mode():
        codes, test_codes = (
            run.model.posterior(images).mean for images in (toy.train_images, toy.test_images)
        )
    centre = codes.mean(0)
    scale = (codes - centre).square().mean().sqrt()
    codes, test_codes = (codes - centre) / scale, (test_codes - centre) / scale
    for kind, library in (("probe", LogisticRegression(max_iter=2000)), ("knn", None)):
        library = library or KNeighborsClassifier(5)
        expected = library.fit(codes, toy.train_labels).score(test_codes, toy.test_labels)
        assert probes.measure_accuracy(record, kind, "all").value == pytest.approx(expected)
    direct = probes.few_labels("knn", codes, toy.train_labels, test_codes, toy.test_labels, 100)
    assert probes.measure_accuracy(record, "knn", 100).interval == pytest.approx(direct.interval)
