"""The playground: what is trained in the page is what PyTorch trains, and the page says what it sees.

Gradients are compared in a real browser, with the same weights and noise; each way of breaking them
is tried as well.
"""

from __future__ import annotations

import base64
import functools
import io
import json
from statistics import mean

import numpy as np
import pytest
import torch
from explorer_examples import few_images, widgets
from matplotlib.image import imread
from PIL import Image
from test_explorer_export import moved_out
from torch import nn

from vae_nb import explorer, objective
from vae_nb.explorer import small_vae
from vae_nb.explorer.widgets import packaged
from vae_nb.metrics.intervals import prediction_interval
from vae_nb.models import Posterior

browser_test = pytest.mark.browser
RELATIVE = 1e-4
TRAINING = packaged("vae.js")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@functools.cache
def recording() -> small_vae.Recording:
    return explorer.record(few_images(), epochs=1)


@functools.cache
def widget():
    return explorer.playground(recording(), "test-playground")


def part() -> dict:
    (text,) = widget().networks.values()
    return json.loads(text)


# --- The same gradients as PyTorch's ---

HEAD = """const t = vaeTraining(), f = (x) => Float32Array.from(x), a = (x) => Array.from(x);
function set(network, weights) {
    network.parameters.forEach(([values], n) => values.set(weights[n]));
}
const gradients = (network) => network.parameters.map(([, gradient]) => a(gradient));
"""


def call(page, body: str, *arguments):
    return page.evaluate(f"(args) => {{ {HEAD} {body} }}", list(arguments))


def off(found, right: torch.Tensor) -> float:
    """The relative error, in the Euclidean norm."""
    apart = torch.as_tensor(found, dtype=torch.float64).flatten() - right.double().flatten()
    return float(apart.norm() / right.double().norm())


def apart_of_layers(page) -> dict[str, float]:
    """The worst relative error of each layer, of outputs and of all gradients."""
    x = torch.randn(5, 12, generator=generator(1)).relu().requires_grad_()  # some inputs are zero
    linear = nn.Linear(12, 7)
    upstream = torch.randn(5, 7, generator=generator(2))
    (y := linear(x)).backward(upstream)
    found = call(
        page,
        """const [x, weights, bias, upstream, passes] = args;
        return ["all", "active", "none"].map((passes) => {
            const layer = new t.layers.Linear(12, 7, passes, new t.Random(0));
            layer.weights.set(weights), layer.bias.set(bias);
            const y = a(layer.forward(f(x))), gx = layer.backward(f(upstream));
            return [y, gx && a(gx), a(layer.weightGradient), a(layer.biasGradient)];
        });""",
        x.flatten().tolist(),
        linear.weight.T.flatten().tolist(),
        linear.bias.tolist(),
        upstream.flatten().tolist(),
    )
    right = [y.detach(), x.grad, linear.weight.grad.T, linear.bias.grad]
    active = [*right]
    active[1] = x.grad * (x > 0)  # what a ReLU before it lets pass
    errors = [off(*pair) for pair in zip(found[0], right, strict=True)]
    errors += [off(*pair) for pair in zip(found[1], active, strict=True)]
    assert found[2][1] is None
    result = {"linear": max(errors)}

    for name, layer in (("Relu", torch.relu), ("Sigmoid", torch.sigmoid)):
        x = torch.randn(35, generator=generator(3), requires_grad=True)
        (y := layer(x)).backward(upstream.flatten())
        found = call(
            page,
            f"""const layer = new t.layers.{name}();
            return [a(layer.forward(f(args[0]))), a(layer.backward(f(args[1])))];""",
            x.tolist(),
            upstream.flatten().tolist(),
        )
        result[name] = max(off(found[0], y.detach()), off(found[1], x.grad))

    x = torch.randn(5, 6, generator=generator(4), requires_grad=True)
    noise, upstream = torch.randn(2, 5, 3, generator=generator(5))
    (y := Posterior(*x.chunk(2, dim=1)).sample(noise)).backward(upstream)
    found = call(
        page,
        """const layer = new t.layers.Sampling(3);
        return [a(layer.forward(f(args[0]), f(args[1]))), a(layer.backward(f(args[2])))];""",
        *(each.flatten().tolist() for each in (x.detach(), noise, upstream)),
    )
    result["sampling"] = max(off(found[0], y.detach()), off(found[1], x.grad))

    images, decoded = torch.rand(2, 4, 1, 28, 28, generator=generator(6))
    decoded.requires_grad_()
    (error := objective.squared_error(images, decoded).mean()).backward()
    found = call(
        page,
        """const gradient = f(args[0]);
        return [[t.squaredError(f(args[0]), f(args[1]), gradient)], a(gradient)];""",
        images.flatten().tolist(),
        decoded.flatten().tolist(),
    )
    result["squared error"] = max(off(found[0], error.detach()), off(found[1], decoded.grad))

    x = torch.randn(5, 6, generator=generator(7), requires_grad=True)
    kl = objective.kl_divergence(Posterior(*x.chunk(2, dim=1)))
    (0.3 * kl.mean(1)).mean().backward()
    found = call(
        page,
        """const gradient = new Float32Array(args[0].length);
        return [a(t.klDivergence(f(args[0]), 3, 0.3, gradient)), a(gradient)];""",
        x.flatten().tolist(),
    )
    result["KL"] = max(off(found[0], kl.detach().mean(0)), off(found[1], x.grad))
    return result


def weights(model: small_vae.SmallNetwork, which: str = "data") -> list[torch.Tensor]:
    """In the order of vae.js, which has matrices transposed."""
    found = [getattr(each, which) for each in model.parameters()]
    return [each.T if each.ndim == 2 else each for each in found]


def batches(latents: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = few_images().train_images[: 16 * count].view(count, 16, 1, 28, 28)
    return images, torch.randn(count, 16, latents, generator=generator(8))


def apart_of_network(page, latents: int, variational: bool, beta: float = 0.05) -> float:
    """The worst relative error of the gradients of one batch, parameter by parameter."""
    model = small_vae.new_network(latents, variational, seed=1)
    images, noise = (each[0] for each in batches(latents, 1))
    objective.terms(model, images, noise).loss(beta).mean().backward()
    found = call(
        page,
        """const [latents, variational, weights, images, noise, beta] = args;
        const network = new t.Network({ latents, variational });
        set(network, weights);
        network.gradients(f(images), f(noise), beta);
        return gradients(network);""",
        latents,
        variational,
        [each.flatten().tolist() for each in weights(model)],
        images.flatten().tolist(),
        noise.flatten().tolist(),
        beta,
    )
    return max(off(*pair) for pair in zip(found, weights(model, "grad"), strict=True))


def apart_after_adam(page, steps: int = 10, beta: float = 0.05) -> float:
    """The worst relative error of how far ten steps move the parameters."""
    model = small_vae.new_network(2, seed=1)
    start = [each.clone() for each in weights(model)]
    images, noise = batches(2, steps)
    adam = torch.optim.Adam(model.parameters(), lr=small_vae.RATE)
    for batch in range(steps):
        adam.zero_grad()
        objective.terms(model, images[batch], noise[batch]).loss(beta).mean().backward()
        adam.step()
    found = call(
        page,
        """const [weights, images, noise, beta, rate] = args;
        const network = new t.Network({ latents: 2, variational: true });
        set(network, weights);
        const adam = new t.Adam(network.parameters, rate);
        images.forEach((batch, n) => {
            network.gradients(f(batch), f(noise[n]), beta);
            adam.step();
        });
        return network.parameters.map(([values]) => a(values));""",
        [each.flatten().tolist() for each in start],
        images.flatten(1).tolist(),
        noise.flatten(1).tolist(),
        beta,
        small_vae.RATE,
    )
    moved = [end - begin for end, begin in zip(weights(model), start, strict=True)]
    its = [
        torch.tensor(end) - begin.flatten() for end, begin in zip(found, start, strict=True)
    ]
    return max(off(*pair) for pair in zip(its, moved, strict=True))


KINDS = [(2, True), (16, True), (2, False)]


@pytest.fixture
def training_page(open_html):
    """``training_page(code)`` opens a page that has nothing but the training."""
    return lambda code=TRAINING: open_html(f"<script>{code}</script>")


@browser_test
def test_every_layer_and_both_losses_have_the_gradients_of_pytorch(training_page):
    apart = apart_of_layers(training_page())
    assert max(apart.values()) < RELATIVE, apart


@browser_test
@pytest.mark.parametrize(("latents", "variational"), KINDS)
def test_a_network_has_the_gradients_of_the_book_s_objective(training_page, latents, variational):
    assert apart_of_network(training_page(), latents, variational) < RELATIVE


@browser_test
def test_ten_steps_of_adam_lead_where_pytorch_s_lead(training_page):
    assert apart_after_adam(training_page()) < 10 * RELATIVE  # it divides by small gradients


def noises(page, steps: int = 6) -> np.ndarray:
    """The noise that the loop hands to its network, step by step, as ``(steps, 64, 2)``."""
    found = call(
        page,
        """const [steps] = args;
        const bytes = (n) => Uint8Array.from({ length: n * 784 }, (_, i) => i % 251);
        const data = { train: bytes(128), heldOut: bytes(8), labels: Array(136).fill(0) };
        const settings = { beta: 0.1, rate: 0.001, digits: 128, labels: [0], latents: 2 };
        const trainer = new t.Trainer(data, { ...settings, variational: true, seed: 0 });
        const seen = [], right = trainer.network.gradients.bind(trainer.network);
        trainer.network.gradients = (images, noise, beta) => {
            seen.push(a(noise));
            return right(images, noise, beta);
        };
        for (let n = 0; n < steps; n++) trainer.step();
        return seen;""",
        steps,
    )
    return np.array(found).reshape(steps, -1, 2)


def noise_is_new(found: np.ndarray) -> bool:
    numbers = found.flatten()
    return (
        len(np.unique(numbers)) == numbers.size
        and abs(numbers.mean()) < 0.15
        and 0.85 < numbers.std() < 1.15
        and np.abs(np.corrcoef(found.reshape(len(found), -1))[~np.eye(len(found), dtype=bool)]).max()
        < 0.4
    )


@browser_test
def test_every_step_has_standard_normal_noise_of_its_own(training_page):
    assert noise_is_new(noises(training_page(), 20))


def is_right(page) -> bool:
    return (
        max(apart_of_layers(page).values()) < RELATIVE
        and all(apart_of_network(page, *kind) < RELATIVE for kind in KINDS)
        and apart_after_adam(page) < 10 * RELATIVE
        and noise_is_new(noises(page))
    )


BREAKS = {
    "a factor in the KL is missing": ("beta * 0.5 * (variance - 1)", "beta * (variance - 1)"),
    "the KL is a sum over latents": ("const count = x.length / 2;", "const count = x.length / 4;"),
    "a sign in the KL": ("(beta * x[mean]) / count", "(-beta * x[mean]) / count"),
    "a sign in the error": ("(2 * off) / count", "(-2 * off) / count"),
    "beta is not applied": ("(beta * x[mean]) / count", "x[mean] / count"),
    "beta is not passed on": ("this.latents, beta, gradient)", "this.latents, 1, gradient)"),
    "noise is reused": (
        "const noise = random.normals(",
        "const noise = this.once ??= random.normals(",
    ),
    "noise is left out": ("gradient[z] * noise[z] * Math", "gradient[z] * Math"),
    "sigma is the variance": ("Math.exp(x[logVariance] / 2) * noise", "Math.exp(x[logVariance]) * noise"),
    "the slope of the sigmoid": ("*= this.y[n] * (1 - this.y[n])", "*= this.y[n]"),
    "no bias correction": ("this.rate / (1 - beta1 ** this.steps)", "this.rate"),
    "a bias that is not trained": ("biasGradient[n % outputs] += gradient[n]", ""),
}


@browser_test
@pytest.mark.parametrize("way", BREAKS)
def test_training_that_is_broken_on_purpose_is_found(training_page, way):
    right, wrong = BREAKS[way]
    assert TRAINING.count(right) == 1
    assert not is_right(training_page(TRAINING.replace(right, wrong)))


# --- A whole training ends where PyTorch's do ---

RUN = {"beta": 0.002, "rate": small_vae.RATE, "digits": 1000, "latents": 2, "variational": True}
EPOCHS = 10


def trained_by_pytorch(seed: int) -> tuple[float, float]:
    """Held-out error of a posterior sample, and KL in nats."""
    data = few_images()
    model = small_vae.new_network(2, seed=seed)
    steps = EPOCHS * (RUN["digits"] // small_vae.BATCH)
    for _ in small_vae.train(model, data.train_images[:1000], lambda _: RUN["beta"], steps, seed):
        pass
    with torch.no_grad():
        images = data.test_images[: small_vae.HELD_OUT]
        posterior = model.posterior(images)
        noise = torch.randn(len(images), 2, generator=generator(seed))
        error = objective.squared_error(images, model.decoder(posterior.sample(noise))).mean()
        return error.item(), objective.kl_divergence(posterior).sum(1).mean().item()


def trained_in_the_page(page, seed: int = 0) -> tuple[float, float]:
    data = few_images()

    def grey(images):
        return base64.b64encode((images * 255).round().to(torch.uint8).numpy().tobytes()).decode()

    labels = [*data.train_labels[:1000].tolist(), *data.test_labels[: small_vae.HELD_OUT].tolist()]
    found = call(
        page,
        """const [train, heldOut, labels, settings, steps] = args;
        const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const data = { train: bytes(train), heldOut: bytes(heldOut), labels };
        const trainer = new t.Trainer(data, settings);
        for (let n = 0; n < steps; n++) trainer.step();
        const { error, rates } = trainer.heldOut();
        return [error, rates.reduce((x, y) => x + y)];""",
        grey(data.train_images[:1000]),
        grey(data.test_images[: small_vae.HELD_OUT]),
        labels,
        RUN | {"labels": list(range(10)), "seed": seed},
        EPOCHS * (RUN["digits"] // small_vae.BATCH),
    )
    return tuple(found)


@browser_test
@pytest.mark.slow
def test_a_training_in_the_page_ends_within_the_interval_of_five_of_pytorch(training_page):
    its = trained_in_the_page(training_page())
    for value, others in zip(its, zip(*map(trained_by_pytorch, range(5)), strict=True), strict=True):
        interval = prediction_interval(others)
        assert interval.low <= value <= interval.high, (value, interval)
    right, wrong = BREAKS["beta is not applied"]
    broken = trained_in_the_page(training_page(TRAINING.replace(right, wrong)))
    assert not interval.low <= broken[1] <= interval.high
