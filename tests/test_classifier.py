"""The classifier: fitted once to whatever data set there is, and good enough to measure with."""

import pytest
import torch
from toys import dataset

from vae_nb import data
from vae_nb.metrics import classifier, paths, samples


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    toy = data.Specification("Toy", ("a", "b", "c"), "bar")
    monkeypatch.setitem(data.SPECIFICATIONS, "Toy", toy)


def accuracy(fitted, images, labels):
    predicted = classifier.probabilities(fitted, classifier.features(fitted, images)).argmax(1)
    return (predicted == labels).double().mean().item()


def test_it_has_the_classes_of_the_data_set_and_is_fitted_once_to_all_of_it(monkeypatch):
    toy = dataset(400, 100, classes=3, name="Toy")
    fitted = classifier.classifier(toy.first(1))
    features = classifier.features(fitted, toy.test_images)
    assert classifier.probabilities(fitted, features).shape == (100, 4)  # and "none"
    assert accuracy(fitted, toy.test_images, toy.test_labels) == 1
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "_fit", None)
        again = classifier.classifier(toy)
    assert torch.equal(classifier.features(again, toy.test_images), features)
    other = classifier.classifier(dataset(400, 100, classes=3, name="Toy", seed=1))
    assert not torch.equal(other.logits.weight, again.logits.weight)


@pytest.mark.parametrize(
    ("toy", "reason"),
    [
        (dataset(100, 20, classes=3, name="Toy"), "got 100, "),
        (dataset(400, 20, classes=2, name="Toy"), "none of c"),
    ],
)
def test_a_data_set_that_it_cannot_be_fitted_to_is_refused_in_one_sentence(toy, reason):
    with pytest.raises(ValueError, match=f"no classifier can be fitted to Toy.*{reason}"):
        classifier.classifier(toy)


def test_it_classifies_digits_and_its_features_tell_real_from_broken():
    """Noise instead of its features fails here."""
    mnist = data.load()
    some = data.Dataset(
        "MNIST",
        mnist.train_images[:4000],
        mnist.train_labels[:4000],
        mnist.test_images[::5],
        mnist.test_labels[::5],
        "a part",
    )
    fitted = classifier.classifier(some)
    assert accuracy(fitted, some.test_images, some.test_labels) > 0.88
    real, other = some.test_images[::2], some.test_images[1::2]
    places = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    shuffled = other.flatten(2)[..., places].unflatten(2, (28, 28))
    of_real = classifier.features(fitted, real)
    baseline, soft, noise = (
        samples.fid(of_real, classifier.features(fitted, images)).value
        for images in (other, paths.blur(other, 1.0), shuffled)
    )
    assert baseline < 0.4 * soft < soft < noise


def test_made_pictures_are_as_many_of_each_way_and_of_different_labels():
    toy = dataset(400, 20, classes=3, name="Toy")
    generator = torch.Generator().manual_seed(0)
    made = classifier.made_pictures(toy.train_images, toy.train_labels, 64, generator)
    assert made.shape == (64, 1, 28, 28) and 0 <= made.min() <= made.max() <= 1
    some = classifier._of_different_labels(toy.train_images, toy.train_labels, 500, generator)
    across = [images.sum((1, 2)).argmax(1) for images in some[:2]]  # where the bar is
    assert (across[0] != across[1]).float().mean() > 0.9
    for way, make in enumerate(classifier.MADE):
        assert make(some, generator).shape == some[0].shape, way


@pytest.mark.parametrize("name", classifier.SPACES)
def test_features_of_each_space_have_their_form_and_tell_images_apart(name):
    toy = dataset(400, 100, classes=3, name="Toy")
    of_images = classifier.SPACES[name](toy)(toy.test_images)
    assert of_images.shape == (100, {"components": classifier.COMPONENTS}.get(name, 128))
    apart = torch.cdist(of_images, of_images)
    same = toy.test_labels[:, None] == toy.test_labels
    assert apart[same].mean() < 0.8 * apart[~same].mean()


def test_principal_components_are_scikit_learn_s():
    from sklearn.decomposition import PCA

    toy = dataset(400, 100, classes=3, name="Toy")
    ours = classifier.SPACES["components"](toy)(toy.test_images).double()
    theirs = PCA(2).fit(toy.train_images.flatten(1).double().numpy())  # three classes: two matter
    theirs = torch.from_numpy(theirs.transform(toy.test_images.flatten(1).double().numpy()))
    assert torch.allclose(ours[:, -2:].flip(1).abs(), theirs.abs(), atol=0.01)  # signs are free
