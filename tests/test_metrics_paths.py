"""Paths between codes, and strokes that break on them."""

import numpy as np
import pytest
import torch
import toys
from scipy import ndimage
from scipy.spatial import geometric_slerp

from vae_nb import data
from vae_nb.metrics import paths, reconstruction
from vae_nb.metrics.record import Record


@pytest.fixture(scope="module")
def digits():
    return data.load().test_images[:200].clone()


@pytest.fixture(scope="module")
def run():
    return toys.run(toys.dataset(20, 100))


def test_paths_have_both_ends_decoded_and_equal_steps(run, digits):
    start, end = digits[:3], digits[3:6]
    path = paths.interpolate(run, start, end, steps=5)
    assert torch.allclose(path[:, 0], reconstruction.reconstruct(run, start), atol=1e-5)
    assert torch.allclose(path[:, -1], reconstruction.reconstruct(run, end), atol=1e-5)
    code = 0.75 * run.encode(start) + 0.25 * run.encode(end)
    assert torch.allclose(path[:, 1], run.decode(code), atol=1e-5)
    codes = run.encode(start), run.encode(end)
    for spherical in (False, True):
        path = paths.interpolate(run, start, end, 5, spherical)
        midpoint = paths.between(run, *codes, torch.tensor([0.5]), spherical)
        assert torch.allclose(midpoint[:, 0], path[:, 2], atol=1e-5)


def test_a_record_has_midpoints_of_all_pairs_and_whole_paths_of_the_first(run, monkeypatch):
    monkeypatch.setattr(paths, "PAIRS", 7)
    dataset, record = run.dataset, Record(run.dataset, run)
    for different in (True, False):
        start, end = paths.pairs_of_images(record, different)
        labels = dataset.test_labels
        assert ((labels[start] != labels[end]) == different).all()
        whole, midpoints = paths.paths(record, different), paths.midpoints(record, different, False)
        assert whole.shape == (7, paths.STEPS, 1, 28, 28) and len(midpoints) == 100
        assert torch.allclose(whole[:, 5], midpoints[:7], atol=1e-6)
        images = dataset.test_images
        direct = paths.interpolate(run, images[start[:7]], images[end[:7]], paths.STEPS)
        assert torch.allclose(whole, direct, atol=1e-5)
    start, end = (record.codes()[indices] for indices in paths.pairs_of_images(record, True))
    around = run.decode(paths.slerp(start, end, torch.tensor(0.5)))
    assert torch.allclose(paths.midpoints(record, True, True), around, atol=1e-6)


def test_pairs_have_the_labels_that_are_asked_for():
    labels = torch.arange(2000) % 10
    for different in (True, False):
        start, end = paths.pairs(labels, 500, different)
        assert ((labels[start] != labels[end]) == different).all() and (start != end).all()
        assert len(start) == len(end) == 500
    with pytest.raises(ValueError, match="ask for fewer"):
        paths.pairs(torch.zeros(50), 10)


def test_images_of_given_labels_are_the_first_ones_and_none_twice():
    labels = torch.tensor([2, 5, 2, 7, 5, 5, 2])
    start, end = paths.with_labels(labels, [(2, 7), (5, 5), (2, 5)])
    assert start.tolist() == [0, 1, 2] and end.tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="too few images have the label 7"):
        paths.with_labels(labels, [(7, 7)])


def test_strokes_are_counted():
    images = torch.zeros(4, 1, 28, 28)
    images[:2, 0, 5:20, 10:12] = 1  # a stroke
    images[1, 0, 11:13] = 0  # the same with a break
    images[2, 0, 3, 3] = 1  # a speck
    images[3, 0, range(10), range(10)] = 1  # touching corners
    assert paths.strokes(images, 0.5).tolist() == [1, 2, 0, 1]
    assert paths.strokes(0.4 * images, 0.5).tolist() == [0, 0, 0, 0]
    path = torch.stack([images[0], images[1], images[0]])[None]
    assert paths.extra_strokes(path.expand(4, -1, -1, -1, -1)).value == 1


def test_euler_number_sees_a_torn_loop_that_strokes_do_not():
    ring = torch.zeros(1, 28, 28)
    ring[0, 8:20, 8:20] = 1
    ring[0, 10:18, 10:18] = 0
    torn = ring.clone()
    torn[0, 12:16, 8:10] = 0
    pieces = ring.clone()
    pieces[0, 12:16] = 0
    images = torch.stack([ring, torn, pieces])
    assert paths.euler_numbers(images, 0.5).tolist() == [0, 1, 2]
    path = torch.stack([ring, torn, ring])[None].expand(4, -1, -1, -1, -1)
    assert paths.extra_strokes(path).value == 0
    assert paths.extra_euler(path).value == 1


def test_euler_number_is_components_minus_holes(digits):
    """On real digits, against scipy: holes are the components of the background but the outer."""
    numbers = paths.euler_numbers(digits[:50], 0.5)
    for ink, euler in zip(digits[:50, 0].numpy() > 0.5, numbers, strict=True):
        components = ndimage.label(ink, np.ones((3, 3)))[1]
        holes = ndimage.label(np.pad(~ink, 1, constant_values=True))[1] - 1
        assert euler == components - holes


def test_slerp_is_scipy_s_and_keeps_to_the_shell():
    both = toys.noise(5, 8).double(), toys.noise(5, 8, seed=1).double()
    first, last = (each / each.norm(dim=-1, keepdim=True) for each in both)
    weights = torch.linspace(0, 1, 7, dtype=torch.float64)
    ours = paths.slerp(first[:, None], last[:, None], weights[None, :, None])
    for start, end, path in zip(first, last, ours, strict=True):
        assert np.allclose(path, geometric_slerp(start.numpy(), end.numpy(), weights.numpy()))
    # Codes in one direction are joined straight.
    half = torch.tensor(0.5).double()
    assert torch.allclose(paths.slerp(first, 3 * first, half), 2 * first, atol=1e-5)


def test_blur_brings_reconstructions_to_the_error_that_is_asked_for(digits):
    reconstructions = (digits + 0.05 * toys.noise(*digits.shape)).clamp(0, 1)
    error = reconstruction.mse(digits, reconstructions).value
    sigma = paths.blur_to_error(digits, reconstructions, 0.01)
    blurred = paths.blur(reconstructions, sigma)
    assert reconstruction.mse(digits, blurred).value == pytest.approx(0.01, rel=0.01)
    assert paths.blur_to_error(digits, reconstructions, 0.5 * error) is None
    library = torch.from_numpy(ndimage.gaussian_filter(reconstructions[0, 0].numpy(), sigma))
    assert torch.allclose(blurred[0, 0], library, atol=1e-6)


def test_blur_hides_breaks():
    """The reason for matching errors: a gap of one pixel closes under blur."""
    path = torch.zeros(1, paths.STEPS, 1, 28, 28)
    path[..., 5:23, 12:15] = 1
    path[:, paths.STEPS // 2, :, 14] = 0
    path = path.expand(2, -1, -1, -1, -1)
    assert paths.extra_strokes(path, 0.5).value == 1
    assert paths.extra_strokes(paths.blur(path, 1.0), 0.5).value == 0
    # The same of a record, whose reconstructions are sharp, or softer than the error.
    bars = path[:, 0]
    dataset = data.Dataset("MNIST", bars, torch.arange(2), bars, torch.arange(2), "bars")
    given = {("paths", True): lambda: path, ("reconstructions",): lambda: bars}
    sharp = paths.measure_matched_strokes(Record(dataset, given=given), 0.5, 0.01)
    assert sharp is not None and sharp.value == 0
    given[("reconstructions",)] = lambda: 0.5 * bars
    assert paths.measure_matched_strokes(Record(dataset, given=given), 0.5, 0.01) is None


def test_uniformity_of_even_and_jumping_paths():
    even = torch.linspace(0, 1, 11)[None, :, None].expand(2, -1, 3)
    assert paths.uniformity(even).value == pytest.approx(1)
    jump = (torch.arange(11) > 5).float()[None, :, None].expand(2, -1, 3)
    assert paths.uniformity(jump).value == pytest.approx(0.1)


def test_entropy_and_sharpness_of_midpoints(run):
    class Undecided(torch.nn.Module):
        """Between four labels of ten, and none of them as likely as all together."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def logits(self, features):
            none = [float(np.log(4))]
            return torch.tensor([0.0] * 4 + [-100.0] * 6 + none).expand(len(features), -1)

    images = run.dataset.test_images
    start, _ = paths.pairs(run.dataset.test_labels, len(images))
    given = {
        ("classifier",): Undecided,
        ("midpoint_features", True, False, "classifier"): lambda: torch.zeros(100, 1),
        ("midpoints", True, False): lambda: 0.5 * images[start],
    }
    record = Record(run.dataset, run, given)
    assert paths.measure_midpoint_entropy(record).value == pytest.approx(np.log(4))
    assert paths.measure_midpoint_recognised(record).value == 0  # "none" is likelier than each
    assert paths.measure_midpoint_sharpness(record).value == pytest.approx(0.25)


def test_sets_of_many_classes_have_pairs_with_equal_labels():
    labels = torch.arange(5200) % 26
    start, end = paths.pairs(labels, len(labels), different=False)
    assert len(start) == len(labels)
    assert (labels[start] == labels[end]).all() and (start != end).all()
