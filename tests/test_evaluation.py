"""Every metric on a case with a known answer, or against a second library."""

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from sklearn.neighbors import NearestNeighbors

from vae_nb.evaluation import downstream, interpolation, interval, latent, reconstruction, samples
from vae_nb.evaluation.measure import measure
from vae_nb.models import Autoencoder, Posterior

# --- intervals ---


def test_interval_of_a_mean_covers_it_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 12))
    covered = [m.low <= 3.0 <= m.high for m in map(interval.of_mean, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="n >= 2"):
        interval.of_mean([1.0])


def test_interval_of_a_ratio_covers_it():
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(800):
        bottom = generator.normal(5.0, 1.0, 400)
        top = 0.4 * bottom + generator.normal(0.0, 0.5, 400)
        found = interval.of_ratio(top, bottom)
        covered.append(found.low <= 0.4 <= found.high)
    assert 0.925 < np.mean(covered) < 0.975


def test_interval_of_a_share_is_wilson_s():
    hits = np.arange(50) < 10
    z = stats.norm.ppf(0.975)
    centre = (0.2 + z**2 / 100) / (1 + z**2 / 50)
    half = z / (1 + z**2 / 50) * np.sqrt(0.2 * 0.8 / 50 + z**2 / (4 * 50**2))
    assert interval.of_share(hits) == pytest.approx((0.2, centre - half, centre + half))


def test_slope_of_a_noisy_line():
    generator = np.random.default_rng(2)
    x = np.linspace(0, 1, 400)
    found = interval.of_slope(x, 3 * x + generator.normal(0, 0.1, 400))
    assert found.low < 3 < found.high and found.high - found.low < 0.3


def test_a_slope_needs_three_points():
    assert interval.of_slope([0, 1, 2], [0, 2, 4]).value == pytest.approx(2)
    assert np.isnan(interval.of_slope([0, 1], [0, 2]).value)


def test_jackknife_of_a_mean_is_its_t_interval_and_covers():
    generator = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        draws = generator.normal(3.0, 2.0, 400)
        found = interval.by_jackknife(lambda rows, draws=draws: draws[rows].mean(), 400)
        covered.append(found.low <= 3.0 <= found.high)
    assert 0.92 < np.mean(covered) < 0.98
    assert found.high - found.value == pytest.approx(2.09 * 2.0 / 20, rel=0.6)


# --- reconstruction ---


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.test_images[:400]


def test_perfect_and_mean_image_reconstructions(images):
    mean = images.mean(0, keepdim=True).expand_as(images)
    assert reconstruction.mse(images, images).value == 0
    assert reconstruction.r_squared(images, images).value == pytest.approx(1)
    assert reconstruction.r_squared(images, mean).value == pytest.approx(0, abs=1e-6)
    variance = reconstruction.mse(images, mean).value
    assert reconstruction.pixel_variance(images) == pytest.approx(variance, rel=1e-5)
    assert reconstruction.ssim(images, images).value == pytest.approx(1)


def test_pixel_variance_of_mnist_is_the_known_one(mnist):
    assert reconstruction.pixel_variance(mnist.test_images) == pytest.approx(0.0673, abs=5e-4)


def test_r_squared_is_scikit_learn_s(images, noise):
    from sklearn.metrics import r2_score

    other = images + 0.1 * noise(*images.shape)
    # Over all pixels together; a pixel that never varies has no score of its own.
    ours = reconstruction.r_squared(images, other).value
    flat, theirs = images.flatten(1).numpy(), other.flatten(1).numpy()
    moving = flat.std(0) > 0
    weights = flat[:, moving].var(0)
    library = r2_score(flat[:, moving], theirs[:, moving], multioutput=weights)
    still = ((flat - theirs)[:, ~moving] ** 2).sum(0).sum() / len(flat) / weights.sum()
    assert ours == pytest.approx(library - still, abs=1e-4)


def test_ssim_is_scikit_image_s(images, noise):
    from skimage.metrics import structural_similarity

    other = (images[:20] + 0.2 * noise(20, 1, 28, 28)).clamp(0, 1)
    library = [
        structural_similarity(
            a[0].numpy(),
            b[0].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,  # torchmetrics does not cut the border off
        )[1].mean()
        for a, b in zip(images[:20], other, strict=True)
    ]
    assert reconstruction.ssim(images[:20], other).value == pytest.approx(
        np.mean(library), abs=0.005
    )


def test_sharpness_falls_with_blur_and_ignores_the_level(images):
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    assert reconstruction.sharpness(images, images).value == pytest.approx(1)
    assert reconstruction.sharpness(blurred, images).value < 0.5
    assert reconstruction.sharpness(images * 0.5 + 0.3, images).value == pytest.approx(0.25)
    # A step edge of height one: one unit of energy a row, over 28 x 28 pixels.
    edge = torch.zeros(2, 1, 28, 28)
    edge[..., 14:] = 1
    assert reconstruction.gradient_energy(edge).tolist() == pytest.approx([28 / (28 * 27)] * 2)


def test_mean_and_sample_are_not_confused(run, images):
    """With the posterior's variance forced up, sampled reconstructions are worse, means are not."""
    noisy = type(run.model)(8)
    noisy.load_state_dict(run.model.state_dict())
    with torch.no_grad():
        noisy.encoder[-1].bias[64:] += 4.0
    before = reconstruction.mse(images, reconstruction.reconstruct(run.model, images))
    of_mean = reconstruction.mse(images, reconstruction.reconstruct(noisy.eval(), images))
    of_sample = reconstruction.mse(images, reconstruction.reconstruct_sampled(noisy, images))
    assert of_mean.value == pytest.approx(before.value, rel=1e-4)
    assert of_sample.low > of_mean.high


def test_an_autoencoder_s_sampled_codes_are_its_codes(images):
    model = Autoencoder(8, 4).eval()
    assert torch.equal(reconstruction.sampled_codes(model, images[:9]), model.code(images[:9]))


# --- samples ---


def test_fid_of_identical_sets_is_zero_and_of_shifted_gaussians_the_shift(noise):
    first, second = noise(4000, 6), noise(4000, 6, seed=1)
    assert samples.fid(first, first).value == pytest.approx(0, abs=1e-6)
    # Equal covariances: only the distance of the means counts.
    shifted = samples.fid(first, second + 2.0)
    assert shifted.value == pytest.approx(6 * 4.0, rel=0.05)


def test_fid_is_the_closed_form(noise):
    first, second = noise(500, 4), noise(500, 4, seed=1) @ torch.diag(torch.tensor([1.0, 2, 3, 4]))
    a, b = np.cov(first.T.double()), np.cov(second.T.double())
    gap = (first.mean(0) - second.mean(0)).square().sum().item()
    expected = gap + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert samples.fid(first, second).value == pytest.approx(expected, rel=1e-3)


def test_kid_is_unbiased_and_sees_a_shift(noise):
    first, second = noise(2000, 8), noise(2000, 8, seed=1)
    same = samples.kid(first, second, 500)
    assert abs(same.value) < 0.02 and same.low < same.value < same.high
    assert samples.kid(first, second + 1.0, 500).low > 0.5
    state = torch.random.get_rng_state()
    samples.kid(first, second, 500)
    assert torch.equal(state, torch.random.get_rng_state())


def test_precision_and_recall_of_known_sets(noise):
    real = noise(600, 2)
    precision, recall = samples.precision_and_recall(real, noise(600, 2, seed=1))
    assert precision.value > 0.9 and recall.value > 0.9
    far = samples.precision_and_recall(real, noise(600, 2, seed=1) + 100)
    assert [each.value for each in far] == [0, 0]
    # One mode of two: what is drawn is right (precision), half is missing (recall).
    modes = torch.cat([noise(300, 2), noise(300, 2, seed=2) + 100])
    precision, recall = samples.precision_and_recall(modes, noise(600, 2, seed=1))
    assert precision.value > 0.9 and recall.value == pytest.approx(0.5, abs=0.05)


def test_precision_is_that_of_scikit_learn_s_neighbours(noise):
    real, drawn = noise(200, 3), 1.5 * noise(200, 3, seed=1)
    search = NearestNeighbors().fit(real.numpy())
    radii = search.kneighbors(real.numpy(), 4)[0][:, 3]  # itself and three neighbours
    distances = np.linalg.norm(drawn.numpy()[:, None] - real.numpy()[None], axis=2)
    expected = (distances <= radii).any(1).mean()
    assert samples.precision_and_recall(real, drawn)[0].value == pytest.approx(expected)


def test_class_balance_and_confidence():
    even = torch.eye(10).repeat(3, 1)
    assert samples.class_balance(even) == pytest.approx(1)
    assert samples.class_balance(even[:1].repeat(9, 1)) == pytest.approx(0)
    unsure = torch.full((30, 10), 0.1)
    assert samples.confident_share(torch.cat([even, unsure])).value == pytest.approx(0.5)


def test_mixture_samples_follow_the_codes(mnist):
    """An 'autoencoder' whose decoder shows its code: mixture samples look like codes."""

    class Shows(torch.nn.Module):
        latent_dim = 2

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.encoder = lambda images: torch.cat([codes, torch.full_like(codes, -30.0)], 1)

        def decode(self, codes):
            return codes[:, :, None, None]

    generator = torch.Generator().manual_seed(0)
    side = torch.randint(0, 2, (1000, 1), generator=generator) * 20.0
    codes = side + torch.randn(1000, 2, generator=generator)
    drawn = samples.from_mixture(Shows(), torch.zeros(1000, 1, 28, 28), 1000, components=2)
    found = drawn[:, :, 0, 0]
    near = (found.abs().max(1).values < 5) | ((found - 20).abs().max(1).values < 5)
    assert near.all() and 0.4 < (found[:, 0] > 10).float().mean() < 0.6


# --- latent ---


def test_distance_to_the_prior(noise):
    assert latent.distance_to_prior(noise(50_000, 4)) == pytest.approx(0, abs=1e-3)
    assert latent.distance_to_prior(noise(50_000, 4) + 2) == pytest.approx(4, rel=0.02)
    assert latent.distance_to_prior(3 * noise(50_000, 4)) == pytest.approx(4, rel=0.02)
    mixed = noise(50_000, 3) @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 0.5]])
    covariance = np.cov(mixed.T.double())
    expected = np.trace(covariance + np.eye(3) - 2 * linalg.sqrtm(covariance).real) / 3
    assert latent.distance_to_prior(mixed) == pytest.approx(expected, rel=0.01)


def test_active_units_are_counted_by_variance(noise):
    codes = noise(5000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert latent.active_units(codes) == 2  # variances 1, 0.04, 0.0025, 0


def test_rate_is_the_sum_over_latents():
    posterior = Posterior(torch.ones(10, 3), torch.zeros(10, 3))
    assert latent.rate(posterior).value == pytest.approx(1.5)  # 3 latents of mean^2 / 2
    assert latent.rate_of_each_latent(posterior).tolist() == [0.5, 0.5, 0.5]


# --- interpolation ---


def test_paths_have_both_ends_decoded_and_equal_steps(run, mnist):
    start, end = mnist.test_images[:3], mnist.test_images[3:6]
    paths = interpolation.interpolate(run.model, start, end, steps=5)
    assert torch.allclose(paths[:, 0], reconstruction.reconstruct(run.model, start), atol=1e-5)
    assert torch.allclose(paths[:, -1], reconstruction.reconstruct(run.model, end), atol=1e-5)
    with torch.inference_mode():
        code = 0.75 * run.model.code(start) + 0.25 * run.model.code(end)
        assert torch.allclose(paths[:, 1], run.model.decode(code), atol=1e-5)


def test_strokes_are_counted():
    images = torch.zeros(3, 1, 28, 28)
    images[0, 0, 5:20, 10:12] = 1  # a stroke
    images[1, 0, 5:20, 10:12] = 1
    images[1, 0, 11:13] = 0  # the same with a break
    images[2, 0, 3, 3] = 1  # a speck
    assert interpolation.strokes(images, 0.5).tolist() == [1, 2, 0]
    paths = torch.stack([images[0], images[1], images[0]])[None]
    more = interpolation.extra_strokes(paths.expand(4, -1, -1, -1, -1))
    assert more.value == 1.0


def test_touching_corners_are_one_stroke():
    image = torch.zeros(1, 1, 28, 28)
    for i in range(10):
        image[0, 0, i, i] = 1
    assert interpolation.strokes(image, 0.5).tolist() == [1]


def test_pairs_have_the_labels_that_are_asked_for(mnist):
    for different in (True, False):
        start, end = interpolation.pairs(mnist.test_labels, 500, different)
        labels = mnist.test_labels
        assert ((labels[start] != labels[end]) == different).all() and (start != end).all()
        assert len(start) == 500
    start, end = interpolation.with_labels(mnist.test_labels, [(2, 7), (5, 5), (2, 5)])
    assert mnist.test_labels[start].tolist() == [2, 5, 2]
    assert mnist.test_labels[end].tolist() == [7, 5, 5]
    assert len({*start.tolist(), *end.tolist()}) == 6


def test_evenness_of_even_and_jumping_paths():
    even = torch.linspace(0, 1, 11)[None, :, None].expand(2, -1, 3)
    assert interpolation.evenness(even).value == pytest.approx(1)
    jump = (torch.arange(11) > 5).float()[None, :, None].expand(2, -1, 3)
    assert interpolation.evenness(jump).value == pytest.approx(0.1)


# --- downstream ---


def test_probe_reads_what_is_linear_and_nothing_else(noise):
    labels = torch.arange(3000) % 3
    codes = torch.nn.functional.one_hot(labels, 3).float() + 0.1 * noise(3000, 3)
    useful = downstream.linear_probe(codes, labels, codes, labels, count=200, draws=3)
    useless = downstream.linear_probe(noise(3000, 3), labels, noise(3000, 3), labels, 200, 3)
    assert useful.value > 0.99
    assert useless.value == pytest.approx(1 / 3, abs=0.15)


# --- all of it ---


@pytest.mark.slow
def test_measure_is_whole_and_remembered(run, mnist):
    found = measure(run, mnist)
    assert all(each.low <= each.value <= each.high for each in found.values())
    direct = reconstruction.reconstruct(run.model, mnist.test_images)
    expected = (direct - mnist.test_images).square().mean().item()
    assert found["mse_mean"].value == pytest.approx(expected, rel=1e-5)
    assert found["mse_sample"].value == pytest.approx(run.history.held_out[-1]["mse_sample"], 1e-4)
    assert found["rate"].value == pytest.approx(64 * run.history.held_out[-1]["kl"], rel=1e-4)
    assert measure(run, mnist) == found
