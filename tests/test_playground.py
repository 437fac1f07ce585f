"""The playground: what is trained in the page is what PyTorch trains, and what the page says of it.

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
PATIENCE = 180_000  # milliseconds: the machine may be busy with something else


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
    its = [torch.tensor(end) - begin.flatten() for end, begin in zip(found, start, strict=True)]
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
        and np.abs(
            np.corrcoef(found.reshape(len(found), -1))[~np.eye(len(found), dtype=bool)]
        ).max()
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
    "sigma is the variance": (
        "Math.exp(x[logVariance] / 2) * noise",
        "Math.exp(x[logVariance]) * noise",
    ),
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
    for value, others in zip(
        its, zip(*map(trained_by_pytorch, range(5)), strict=True), strict=True
    ):
        interval = prediction_interval(others)
        assert interval.low <= value <= interval.high, (value, interval)
    right, wrong = BREAKS["beta is not applied"]
    broken = trained_in_the_page(training_page(TRAINING.replace(right, wrong)))
    assert not interval.low <= broken[1] <= interval.high


# --- What the page carries ---


def test_the_recorded_run_learns_then_lets_its_codes_go_then_collapses():
    frames = recording().frames
    assert len(frames) == 1 + 3 * small_vae.FRAMES == len(recording().pictures)
    assert [frame["beta"] for frame in frames[1 :: small_vae.FRAMES]] == [0.002, 0.0, 1.0]
    ends = [frames[0], *frames[small_vae.FRAMES :: small_vae.FRAMES]]
    errors, rates = ([f["error"] for f in ends], [sum(f["rates"]) for f in ends])
    assert errors[1] < 0.5 * errors[0] and rates[2] > 1.5 * rates[1] > 10 * rates[3]
    again = explorer.record(few_images(), epochs=1)
    assert again.frames == frames and torch.equal(again.pictures, recording().pictures)


def test_the_pictures_are_small_and_what_was_recorded():
    (text,) = widget().networks.values()
    assert len(text) < 1_000_000
    film = Image.open(io.BytesIO(base64.b64decode(part()["film"]))).convert("L")
    frames, number = recording().pictures.shape[:2]
    cells = np.asarray(film).reshape(frames, 28, number, 28).swapaxes(1, 2) / 255
    right = recording().pictures.numpy()
    # What is hardly trained is noise, which a small picture keeps least.
    assert np.abs(cells - right)[3:].mean() < 0.03
    assert np.abs(cells[3:] - right[3:, ::-1]).mean() > 0.06  # of pictures in another order


def test_the_picture_on_paper_says_what_was_measured():
    figure, frames = widget().figure, recording().frames
    assert f"β = 1: squared error {frames[-1]['error']:.3f}" in figure.alt
    assert "plays" in figure.caption and "plays" not in widget().in_print


@browser_test
def test_the_page_unpacks_the_very_images(open_html):
    page = open_html(widget().html())
    found = page.evaluate(
        """async (part) => {
            const { data, recorded } = await vaeExplorer.playground.unpack(part);
            const letter = (byte) => String.fromCharCode(byte);
            const text = (bytes) => btoa(Array.from(bytes, letter).join(""));
            const plane = recorded[1].plane.length;
            return [text(data.train), text(data.heldOut), recorded.length, plane];
        }""",
        part(),
    )
    train, held_out = (np.frombuffer(base64.b64decode(each), np.uint8) for each in found[:2])
    for its, images in (
        (train, few_images().train_images[: small_vae.TRAINED]),
        (held_out, few_images().test_images[: small_vae.HELD_OUT]),
    ):
        np.testing.assert_array_equal(its, (images * 255).round().to(torch.uint8).flatten())
    assert found[2:] == [len(recording().frames), small_vae.GRID**2 * 784]


# --- The page ---


def running(page) -> str:
    return page.locator(".vae-running").inner_text()


def wait_for_step(page, above: int = 0) -> int:
    """The step that is shown, when it is above."""
    page.wait_for_function(
        """(above) => {
            const found = /step ([\\d,]+)/.exec(document.querySelector(".vae-running").textContent);
            return found && Number(found[1].replaceAll(",", "")) > above;
        }""",
        arg=above,
        timeout=PATIENCE,
    )
    return step(page)


def step(page) -> int:
    return int(running(page).split("step ")[1].split(",")[0].replace(",", ""))


def said(page, words: str) -> None:
    page.wait_for_function(
        "(words) => document.querySelector('.vae-says').textContent.includes(words)",
        arg=words,
        timeout=PATIENCE,
    )


def ready(page):
    page.set_default_timeout(PATIENCE)
    page.wait_for_function(
        "document.querySelector('.vae-running')?.textContent.startsWith('Epoch')", timeout=PATIENCE
    )
    return page


@browser_test
def test_a_recorded_run_plays_until_the_reader_takes_over_by_keyboard(open_html):
    page = ready(open_html(widget().html(), viewport={"width": 390, "height": 800}))
    said(page, "Recorded: β = 0.002")
    assert wait_for_step(page, step(page)) > 0  # it moves, and nobody has touched it
    page.get_by_role("button", name="train it yourself").focus()
    page.keyboard.press("Enter")
    said(page, "Training.")
    assert page.locator(".vae-slider output").all_inner_texts() == ["0.002", "0.002"]
    page.wait_for_function("/a second/.test(document.querySelector('.vae-running').textContent)")
    page.get_by_role("slider", name="β").focus()
    page.keyboard.press("End")  # the network is the same, its β another
    assert page.locator(".vae-slider output").first.inner_text() == "10"
    before = step(page)
    wait_for_step(page, before)
    assert page.locator(".vae-slider output").first.inner_text() == "10"
    page.keyboard.press("Home")
    assert page.locator(".vae-slider output").first.inner_text() == "0"
    page.get_by_role("button", name="pause", exact=True).click()
    page.get_by_role("button", name="play", exact=True).wait_for()
    page.wait_for_timeout(1500)
    stopped = step(page)
    page.get_by_role("button", name="one step").click()
    assert wait_for_step(page, stopped) == stopped + 1
    page.get_by_role("button", name="reset").click()
    said(page, "not trained yet")
    page.wait_for_function(
        "document.querySelector('.vae-running').textContent.includes('step 0')", timeout=PATIENCE
    )
    assert page.errors == []
    assert [url for url in page.requested if not url.startswith(("data:", "file:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for picture in page.locator(".vae-widget [role=img]:visible").all():
        assert len(picture.get_attribute("aria-label")) > 8


@browser_test
def test_other_latents_or_an_autoencoder_are_another_network(open_html):
    page = ready(open_html(widget().html()))
    page.get_by_role("radio", name="16", exact=True).check()
    wait_for_step(page)
    page.locator(".is-charts figcaption", has_text="of 16 below").wait_for()
    assert not page.locator(".is-playground > figure").is_visible()  # no plane of 16 latents
    page.get_by_role("radio", name="autoencoder").check()
    page.locator(".is-charts figcaption", has_text="An autoencoder has no KL").first.wait_for()
    assert page.get_by_role("slider", name="β").is_disabled()
    page.get_by_role("radio", name="a Gaussian fitted to the codes").check()
    page.locator("figcaption", has_text="Samples from a Gaussian fitted").wait_for()
    assert page.errors == []


@browser_test
def test_a_learning_rate_that_is_too_high_stops_training_and_says_so(open_html):
    page = ready(open_html(widget().html()))
    # From the first step: a network that has learned may only become bad, and stay finite.
    page.get_by_role("button", name="reset").click()
    page.get_by_role("slider", name="learning rate").fill("0")  # its power of ten
    page.get_by_role("button", name="play", exact=True).click()
    said(page, "The learning rate is too high. Lower it, then press reset.")
    assert page.get_by_role("button", name="play", exact=True).is_disabled()
    page.get_by_role("button", name="reset").click()
    page.get_by_role("button", name="play", exact=True).wait_for()
    assert page.get_by_role("button", name="play", exact=True).is_enabled()
    assert page.errors == []


NO_WORKER = {
    "none": "<script>globalThis.Worker = undefined</script>",
    "refused": """<script>globalThis.Worker = class {
        constructor() { setTimeout(() => this.onerror({ message: "refused" })); }
        postMessage() {}
        terminate() {}
    }</script>""",
}


@browser_test
@pytest.mark.parametrize("way", NO_WORKER)
def test_without_a_worker_the_recorded_run_is_left(open_html, way):
    page = ready(open_html(NO_WORKER[way] + widget().html()))
    page.get_by_role("button", name="train it yourself").click()
    said(page, "it refuses a worker")
    assert page.get_by_role("button", name="train it yourself").is_disabled()
    page.get_by_role("button", name="play the recorded run").click()
    before = step(page)
    page.wait_for_function(
        "(before) => !document.querySelector('.vae-running').textContent.includes(before)",
        arg=f"step {before}",
    )


@browser_test
def test_on_paper_and_without_script_there_are_four_moments(open_html):
    page = open_html(widget().html(), java_script_enabled=False)
    assert page.locator(".vae-still").is_visible() and not page.locator(".vae-widget").is_visible()
    page = ready(open_html(widget().html()))
    page.emulate_media(media="print")
    assert page.locator(".vae-still").is_visible() and not page.locator(".vae-widget").is_visible()


@browser_test
def test_who_asks_for_less_motion_starts_the_recorded_run_by_hand(open_html):
    page = ready(open_html(widget().html(), reduced_motion="reduce"))
    page.get_by_role("button", name="play the recorded run").wait_for()
    page.wait_for_timeout(1500)
    assert "step 0" in running(page)


@browser_test
def test_a_hidden_tab_does_not_train(open_html):
    page = ready(open_html(widget().html()))
    page.get_by_role("button", name="train it yourself").click()
    wait_for_step(page)
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(1500)
    stopped = step(page)
    page.wait_for_timeout(1500)
    assert step(page) == stopped
    page.evaluate(hide, False)
    wait_for_step(page, stopped)


@browser_test
def test_a_link_keeps_the_settings_and_says_what_it_may_not_have(open_html):
    page = ready(open_html(widget().html()))
    page.get_by_role("radio", name="8", exact=True).check()
    page.get_by_role("radio", name="100", exact=True).check()
    page.get_by_label("4", exact=True).last.uncheck()
    page.get_by_role("slider", name="β").fill("-1")
    page.get_by_role("button", name="copy a link").click()
    page.wait_for_function("location.hash.length > 10")
    fragment = page.evaluate("location.hash")
    assert "beta=0.1&" in fragment and "labels=0.1.2.3.5.6.7.8.9" in fragment
    address = page.url

    page.goto("about:blank")
    page.goto(address)
    ready(page)
    said(page, "Press play.")
    assert page.get_by_role("radio", name="8", exact=True).is_checked()
    assert page.get_by_role("radio", name="100", exact=True).is_checked()
    assert not page.get_by_label("4", exact=True).last.is_checked()
    assert page.locator(".vae-slider output").first.inner_text() == "0.1"

    page.goto("about:blank")
    page.goto(
        f"{address.split('#')[0]}#playground&beta=-1&latents=3&model=gan&labels=4.77&rate=0.01"
    )
    ready(page)
    said(page, "Not allowed in the link")
    words = page.locator(".vae-says").inner_text()
    for refused in ("beta = -1", "latents = 3", "model = gan", "labels = 4.77"):
        assert refused in words
    assert page.locator(".vae-slider output").all_inner_texts() == ["0.002", "0.01"]


@browser_test
def test_the_samples_are_saved_as_a_picture(open_html, tmp_path):
    page = ready(open_html(widget().html()))
    page.get_by_role("button", name="pause the recorded run").click()
    with page.expect_download() as caught:
        page.get_by_role("button", name="save the samples").click()
    caught.value.save_as(tmp_path / "samples.png")
    assert imread(tmp_path / "samples.png").shape[:2] == (3 * 28, 8 * 28)


# A view, settings and past for which each challenge is done, and a change after which it is not.
ACTIVE, HALF = [0.5] * 8, [0.5] * 4 + [0.01] * 4
DONE = [
    ({"rates": HALF, "steps": 300}, {"latents": 8}, {"stepsAtBeta": 300}, {"rates": ACTIVE}),
    ({"coverage": 0.8, "steps": 300}, {"variational": False, "latents": 16}, {}, {"coverage": 0.5}),
    ({"rates": [0.8, 0.7]}, {}, {"collapsed": True}, {"rates": [0.3, 0.2]}),
    ({"error": 0.06, "trainError": 0.03, "steps": 300}, {}, {}, {"trainError": 0.05}),
    ({"error": 0.05, "unknown": 0.07, "steps": 300}, {}, {}, {"unknown": None}),
]


@browser_test
def test_each_challenge_knows_when_it_is_solved(open_html):
    page = open_html(widget().html())
    check = """([index, view, settings, seen]) => {
        const all = vaeExplorer.playground.challenges("digit");
        return [all.length, Boolean(all[index].done(view, settings, seen))];
    }"""
    for index, (view, settings, past, change) in enumerate(DONE):
        settings = {"latents": 2, "variational": True} | settings
        assert page.evaluate(check, [index, view, settings, past]) == [len(DONE), True]
        assert page.evaluate(check, [index, view | change, settings, past])[1] is False


@browser_test
def test_a_challenge_is_solved_in_the_page_and_explained_afterwards(open_html):
    page = ready(open_html(widget().html()))
    explained = page.locator(".vae-why")
    assert not explained.nth(3).is_visible()
    page.get_by_role("radio", name="16", exact=True).check()
    page.get_by_role("radio", name="100", exact=True).check()
    page.locator(".vae-mark.is-solved").wait_for(timeout=PATIENCE)  # by heart
    assert page.locator(".vae-challenges li").nth(3).locator(".is-solved").count() == 1
    assert explained.nth(3).is_visible() and not explained.nth(0).is_visible()
    page.get_by_role("button", name="explain").first.click()
    assert explained.nth(0).is_visible()


@browser_test
def test_in_the_book_its_script_is_a_file_of_its_own_after_that_of_all(open_html, tmp_path):
    parts = moved_out(tmp_path, widgets()["pad"].html(), widget().html())
    assert [part.count("<script defer") for part in parts] == [1, 1]
    page = ready(open_html("".join(parts)))
    assert page.errors == []
    assert len([url for url in page.requested if "/explorer-" in url]) == 2
    alone = moved_out(tmp_path, widget().html())
    assert alone[0].count("<script defer") == 2 and ready(open_html(alone[0])).errors == []


def test_an_epoch_of_python_s_training_has_each_image_once():
    images = torch.arange(130.0).view(-1, 1, 1, 1) / 130 * torch.ones(1, 1, 28, 28)
    model = small_vae.new_network(2)
    seen = []
    model.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][:, 0, 0, 0]))
    errors = list(small_vae.train(model, images, lambda _: 0.0, 4))
    assert len(errors) == 4 and mean(errors[2:]) < errors[0]
    for first in (0, 2):
        assert len(torch.cat(seen[first : first + 2]).unique()) == 128
