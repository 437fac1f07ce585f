"""Every metric on a case with a known answer, or against a second library."""

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage, stats
from scipy.spatial import geometric_slerp
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from vae_nb import store
from vae_nb.evaluation import (
    classifier,
    downstream,
    interpolation,
    interval,
    latent,
    reconstruction,
    samples,
)
from vae_nb.evaluation import measure as measures
from vae_nb.evaluation.interval import Measured
from vae_nb.evaluation.measure import measure, represent
from vae_nb.models import Autoencoder, Posterior
from vae_nb.training import recipe

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


def test_interval_over_seeds_covers_seeds_and_images():
    """Value of a seed: 3 + its own error; each seed's number has an error of its own images."""
    generator = np.random.default_rng(4)
    covered = []
    for _ in range(1500):
        values = 3 + generator.normal(0, 0.5, 3) + generator.normal(0, 0.2)  # the same images
        found = interval.over_seeds([Measured(v, v - 0.4, v + 0.4) for v in values])
        covered.append(found.low <= 3 <= found.high)
    assert 0.94 < np.mean(covered) < 0.985
    alike = interval.over_seeds([Measured(2.0, 1.9, 2.2)] * 3)
    assert alike == pytest.approx((2.0, 1.9, 2.2))
    assert interval.over_seeds([Measured(2.0, 1.9, 2.2)]) == (2.0, 1.9, 2.2)


def test_interval_for_one_more_value_holds_it_in_95_of_100_cases():
    draws = np.random.default_rng(5).normal(1.0, 3.0, (4000, 4))
    found = [interval.of_next(draw[:3]) for draw in draws]
    held = [m.low <= draw[3] <= m.high for m, draw in zip(found, draws, strict=True)]
    assert 0.935 < np.mean(held) < 0.965


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


class Linear(torch.nn.Module):
    """A model whose likelihood is known: x = W z + noise of variance s^2, in 784 dimensions."""

    latent_dim = 2

    def __init__(self, variance: float, error: float = 0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(0.1 * torch.randn(784, 2, generator=generator))
        precision = self.weight.T @ self.weight / variance + torch.eye(2)
        # The exact posterior has correlations; these weights have none by construction.
        with torch.no_grad():
            self.weight[:, 1] -= self.weight[:, 0] * (
                self.weight[:, 0] @ self.weight[:, 1] / self.weight[:, 0].square().sum()
            )
        precision = (self.weight.T @ self.weight / variance + torch.eye(2)).diagonal()
        self.log_variance, self.gain = -precision.log(), self.weight / variance / precision
        self.error = error

    def encoder(self, images):
        mean = images.flatten(1) @ self.gain + self.error
        return torch.cat([mean, self.log_variance.expand_as(mean)], 1)

    def decode(self, codes):
        return (codes @ self.weight.T).unflatten(1, (1, 28, 28))


def test_likelihood_bounds_of_a_model_whose_likelihood_is_known(noise):
    variance, model = 0.5, Linear(0.5)
    weight = model.weight.detach()
    images = noise(40, 2) @ weight.T + variance**0.5 * noise(40, 784, seed=1)
    covariance = (weight @ weight.T + variance * torch.eye(784)).double().numpy()
    exact = stats.multivariate_normal(np.zeros(784), covariance).logpdf(images.double()).mean()
    pictures = images.unflatten(1, (1, 28, 28))
    # With the exact posterior every weight is p(x): both bounds are tight.
    for bound in latent.log_likelihood(model, pictures, variance):
        assert bound.value == pytest.approx(exact, abs=0.05)
    elbo, weighted = latent.log_likelihood(Linear(0.5, error=0.3), pictures, variance)
    assert elbo.value < weighted.value - 0.1 and weighted.value < exact + 0.05


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


def test_euler_number_sees_a_torn_loop_that_strokes_do_not():
    ring = torch.zeros(1, 28, 28)
    ring[0, 8:20, 8:20] = 1
    ring[0, 10:18, 10:18] = 0
    torn = ring.clone()
    torn[0, 12:16, 8:10] = 0
    pieces = ring.clone()
    pieces[0, 12:16] = 0
    images = torch.stack([ring, torn, pieces])
    assert interpolation.euler_numbers(images, 0.5).tolist() == [0, 1, 2]
    paths = torch.stack([ring, torn, ring])[None].expand(4, -1, -1, -1, -1)
    assert interpolation.extra_strokes(paths).value == 0
    assert interpolation.extra_euler(paths).value == 1


def test_euler_number_is_components_minus_holes(mnist):
    """On real digits, against scipy: holes are the components of the background but the outer."""
    for image, euler in zip(
        mnist.test_images[:50, 0].numpy() > 0.5,
        interpolation.euler_numbers(mnist.test_images[:50], 0.5),
        strict=True,
    ):
        components = ndimage.label(image, np.ones((3, 3)))[1]
        holes = ndimage.label(np.pad(~image, 1, constant_values=True))[1] - 1
        assert euler == components - holes


def test_slerp_is_scipy_s_and_keeps_to_the_shell(noise):
    both = noise(5, 8).double(), noise(5, 8, seed=1).double()
    first, last = (each / each.norm(dim=-1, keepdim=True) for each in both)
    ways = torch.linspace(0, 1, 7, dtype=torch.float64)
    ours = interpolation.slerp(first[:, None], last[:, None], ways[None, :, None])
    for start, end, path in zip(first, last, ours, strict=True):
        assert np.allclose(path, geometric_slerp(start.numpy(), end.numpy(), ways.numpy()))
    assert torch.allclose(ours.norm(dim=-1), torch.ones(5, 7).double())
    # Codes in one direction are joined straight.
    half = torch.tensor(0.5).double()
    assert torch.allclose(interpolation.slerp(first, 3 * first, half), 2 * first, atol=1e-5)


def test_paths_between_codes_are_those_between_images(run, mnist):
    start, end = mnist.test_images[:3], mnist.test_images[3:6]
    with torch.inference_mode():
        codes = run.model.code(start), run.model.code(end)
    for spherical in (False, True):
        straight = interpolation.interpolate(run.model, start, end, 5, spherical)
        middle = interpolation.between(run.model, *codes, torch.tensor([0.5]), spherical)
        assert torch.allclose(middle[:, 0], straight[:, 2], atol=1e-5)


def test_blur_brings_a_model_to_the_error_that_is_asked_for(run, mnist):
    images = mnist.test_images[:200]
    decoded = reconstruction.reconstruct(run.model, images)
    error = reconstruction.mse(images, decoded).value
    sigma = interpolation.blur_to_error(run.model, images, 1.2 * error)
    blurred = interpolation.blur(decoded, sigma)
    assert reconstruction.mse(images, blurred).value == pytest.approx(1.2 * error, rel=0.01)
    assert np.isnan(interpolation.blur_to_error(run.model, images, 0.5 * error))
    library = torch.from_numpy(ndimage.gaussian_filter(decoded[0, 0].numpy(), sigma))
    assert torch.allclose(blurred[0, 0], library, atol=1e-6)


def test_blur_hides_breaks():
    """The reason for matching errors: a gap of one pixel closes under blur."""
    path = torch.zeros(1, 3, 1, 28, 28)
    path[..., 5:23, 12:15] = 1
    path[:, 1, :, 14] = 0
    path = path.expand(2, -1, -1, -1, -1)
    assert interpolation.extra_strokes(path, 0.5).value == 1
    assert interpolation.extra_strokes(interpolation.blur(path, 1.0), 0.5).value == 0


# --- downstream ---


@pytest.fixture
def separable(noise):
    labels = torch.arange(3000) % 3
    return torch.nn.functional.one_hot(labels, 3).float() + 0.1 * noise(3000, 3), labels


@pytest.mark.parametrize("kind", ["probe", "knn"])
def test_readers_read_what_is_there_and_nothing_else(kind, separable, noise):
    codes, labels = separable
    useful = downstream.few_labels(kind, codes, labels, codes, labels, 100)
    useless = downstream.few_labels(kind, noise(3000, 3), labels, noise(3000, 3), labels, 100)
    assert useful.value > 0.99
    assert useless.value == pytest.approx(1 / 3, abs=0.05)
    assert downstream.all_labels(kind, codes, labels, codes, labels).value > 0.99


def test_neighbours_are_those_of_a_count_by_hand(separable):
    codes, labels = separable
    (chosen,) = downstream.draws(labels, 10, 1)
    nearest = torch.cdist(codes, codes[chosen]).argmin(1)  # of so few, the nearest one decides
    scores = []
    for chosen in downstream.draws(labels, 10, downstream.COUNTS[10]):
        nearest = torch.cdist(codes, codes[chosen]).argmin(1)
        scores.append((labels[chosen][nearest] == labels).double().mean().item())
    found = downstream.few_labels("knn", codes, labels, codes, labels, 10)
    assert found.value == pytest.approx(np.mean(scores), abs=1e-3)


def test_draws_have_as_many_of_each_label_as_can_be():
    labels = torch.cat([torch.zeros(90, dtype=int), torch.ones(5, dtype=int)])
    few, again = (list(downstream.draws(labels, 8, 3)) for _ in range(2))
    assert all((labels[draw] == 1).sum() == 4 and len(set(draw)) == 8 for draw in few)
    assert all(np.array_equal(a, b) for a, b in zip(few, again, strict=True))
    assert not np.array_equal(few[0], few[1])
    (many,) = downstream.draws(labels, 40, 1)
    assert (labels[many] == 1).sum() == 5 and len(set(many)) == 40


def test_scaling_leaves_the_relative_spread_alone(noise):
    codes = noise(2000, 3) * torch.tensor([10.0, 1.0, 0.01]) + 5
    scaled, test = downstream.scaled(codes, codes[:10])
    assert scaled.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert scaled.square().mean().item() == pytest.approx(1)
    assert (scaled.std(0) / scaled.std(0)[0]).tolist() == pytest.approx([1, 0.1, 0.001], rel=0.1)
    assert torch.equal(test, scaled[:10])


def test_noise_in_the_code(separable):
    codes, labels = separable
    clean = downstream.few_labels("probe", codes, labels, codes, labels, 1000)
    none, some, much = (
        downstream.under_noise(codes, labels, codes, labels, level) for level in (0.0, 0.5, 1000.0)
    )
    assert none == pytest.approx(clean)
    assert much.value < some.value < none.value
    assert much.value == pytest.approx(1 / 3, abs=0.05)
    # In proportion to each latent's own spread: a scale changes nothing but the probe's penalty.
    larger = downstream.under_noise(100 * codes, labels, 100 * codes, labels, 0.5)
    assert larger.value == pytest.approx(some.value, abs=0.02)


def test_principal_components_are_those_of_an_svd(mnist):
    images, test = mnist.train_images[:500], mnist.test_images[:50]
    codes, test_codes = downstream.principal_components(images, test, 5)
    mean = images.flatten(1).mean(0)
    *_, axes = torch.linalg.svd(images.flatten(1) - mean, full_matrices=False)
    expected = (test.flatten(1) - mean) @ axes[:5].T
    assert torch.allclose(test_codes.abs(), expected.abs(), atol=1e-2)
    assert codes.shape == (500, 5)


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


@pytest.mark.slow
def test_the_judge_reads_digits_and_its_features_tell_real_from_broken(mnist):
    """The classifier is fitted to all of MNIST; noise instead of its features fails here."""
    judge = classifier.classifier(mnist)
    assert classifier.accuracy(judge, mnist.test_images, mnist.test_labels) >= 0.99
    half, other = mnist.test_images[::2], mnist.test_images[1::2]  # its first half is the neater
    real = classifier.features(judge, half)
    places = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    shuffled = other.flatten(2)[..., places].unflatten(2, (28, 28))
    blurred = interpolation.blur(other, 1.0)
    floor, soft, noise = (
        samples.fid(real, classifier.features(judge, images)).value
        for images in (other, blurred, shuffled)
    )
    assert floor < 0.2 * soft < soft < noise


@pytest.mark.slow
def test_what_is_probed_are_posterior_means(run, mnist):
    found = represent(run, mnist)
    with torch.inference_mode():
        codes, test_codes = (
            run.model.posterior(images).mean for images in (mnist.train_images, mnist.test_images)
        )
    codes, test_codes = (
        (part - codes.mean(0)) / (codes - codes.mean(0)).square().mean().sqrt()
        for part in (codes, test_codes)
    )
    probe = LogisticRegression(max_iter=2000).fit(codes, mnist.train_labels)
    assert found["probe_all"].value == pytest.approx(
        probe.score(test_codes, mnist.test_labels), abs=0.002
    )
    voters = KNeighborsClassifier(5).fit(codes, mnist.train_labels)
    assert found["knn_all"].value == pytest.approx(
        voters.score(test_codes, mnist.test_labels), abs=0.002
    )
    assert found["probe_noise_1"].high < found["probe_noise_0.5"].low


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_run_of_few_steps_is_measured_too(steps):
    short = store.fit(recipe("vae", 0.1, width=4, epochs=1, batch_size=32, images=32 * steps))
    rate = np.array(short.history.kl)
    assert len(rate) == steps
    for start in (-3, 0, steps):
        found = measures._window(rate, start, 4)
        assert np.isnan(found.value) if steps == 1 else found.value == pytest.approx(rate.mean())
