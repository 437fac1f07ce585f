"""Errors and sharpness, on cases with a known answer and against scikit-learn."""

import pytest
import torch
import toys
from sklearn.metrics import r2_score

from vae_nb import data
from vae_nb.metrics import reconstruction
from vae_nb.metrics.record import Record


@pytest.fixture(scope="module")
def images():
    return data.load().test_images[:400].clone()


def test_perfect_and_mean_image_reconstructions(images):
    mean = images.mean(0, keepdim=True).expand_as(images)
    assert reconstruction.mse(images, images).value == 0
    assert reconstruction.r_squared(images, images).value == pytest.approx(1)
    assert reconstruction.r_squared(images, mean).value == pytest.approx(0, abs=1e-6)
    variance = reconstruction.mse(images, mean).value
    assert reconstruction.pixel_variance(images) == pytest.approx(variance, rel=1e-5)


def test_pixel_variance_of_mnist_is_the_known_one():
    assert reconstruction.pixel_variance(data.load().test_images) == pytest.approx(0.0674, abs=1e-4)


def test_r_squared_is_scikit_learn_s(images):
    other = images + 0.1 * toys.noise(*images.shape)
    # Over all pixels together; a pixel that never varies has no score of its own.
    flat, theirs = images.flatten(1).numpy(), other.flatten(1).numpy()
    moving = flat.std(0) > 0
    weights = flat[:, moving].var(0)
    library = r2_score(flat[:, moving], theirs[:, moving], multioutput=weights)
    still = ((flat - theirs)[:, ~moving] ** 2).sum(0).sum() / len(flat) / weights.sum()
    ours = reconstruction.r_squared(images, other)
    assert ours.value == pytest.approx(library - still, abs=1e-4)
    assert ours.low < ours.value < ours.high


def test_sharpness_falls_with_blur_and_ignores_the_level(images):
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    assert reconstruction.sharpness(images, images).value == pytest.approx(1)
    assert reconstruction.sharpness(blurred, images).value < 0.5
    assert reconstruction.sharpness(images * 0.5 + 0.3, images).value == pytest.approx(0.25)
    # A step edge of height one: one unit of energy a row, over 28 x 28 pixels.
    edge = torch.zeros(2, 1, 28, 28)
    edge[..., 14:] = 1
    assert reconstruction.gradient_energy(edge).tolist() == pytest.approx([28 / (28 * 27)] * 2)


def test_mean_and_sample_are_not_confused():
    """With the posterior's variance forced up, sampled reconstructions change, means do not."""
    toy = toys.dataset(20, 200)
    run, noisy = toys.run(toy), toys.run(toy)
    with torch.no_grad():
        noisy.model.encoder[-1].bias[6:] += 8.0
    before, after = (Record(toy, each) for each in (run, noisy))
    for measure in (reconstruction.measure_mse, reconstruction.measure_sharpness):
        here, there = (measure(record, "mean").interval for record in (after, before))
        assert here == pytest.approx(there, rel=1e-4)
        mean, sample = measure(after, "mean"), measure(after, "sample")
        assert sample.high < mean.low or sample.low > mean.high
    direct = reconstruction.reconstruct_sampled(run, toy.test_images)
    assert torch.equal(direct, before.sampled_reconstructions())
    assert torch.equal(reconstruction.reconstruct(run, toy.test_images), before.reconstructions())


def test_a_reconstruction_keeps_its_label_or_does_not():
    toy = toys.dataset(20, 30)

    class OfBrightness(torch.nn.Module):
        """Label 0 or 1: dark or bright."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def features(self, images):
            return images.flatten(1).mean(1, keepdim=True)

        def logits(self, features):
            return torch.cat([0.5 - features, features - 0.5], 1)

    images = torch.linspace(0, 0.96, 30)[:, None, None, None].expand(-1, 1, 28, 28)
    toy = data.Dataset("MNIST", images, toy.train_labels, images, toy.test_labels, "levels")
    given = {("classifier",): OfBrightness, ("reconstructions",): lambda: images + 0.34}
    record = Record(toy, given=given)
    expected = ((images > 0.5) == (images + 0.34 > 0.5)).flatten(1)[:, 0].double().mean().item()
    assert reconstruction.measure_same_label(record).value == pytest.approx(expected)
