"""The explorer in a real browser: its networks are PyTorch's, and all of it works by keyboard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explorer_examples import (
    BETAS,
    CODE,
    DRAWN,
    MEASURED,
    PIXEL,
    a_run,
    codes,
    drawn_first,
    few_images,
    images,
    judged,
    network,
    widgets,
)
from scipy import ndimage
from sklearn.metrics import cohen_kappa_score
from test_explorer_export import moved_out

from vae_nb import explorer, objective
from vae_nb.explorer.export import export
from vae_nb.explorer.widgets import script
from vae_nb.metrics import paths

pytestmark = pytest.mark.browser


# --- The networks ---

DECODE = """async ([codes, beta]) => {
    const network = await vaeExplorer.load("it");
    return codes.map((code) => Array.from(network.decode(Float32Array.from(code), beta)));
}"""
ENCODE = """async ([images, beta]) => {
    const network = await vaeExplorer.load("it");
    return images.map((image) => {
        const { mean, logVariance } = network.encode(Float32Array.from(image), beta);
        return [...mean, ...(logVariance ?? [])];
    });
}"""


def with_network(kind: str, code: str = "") -> str:
    exported = export(network(kind))
    code = code or script()
    return f'<script type="text/plain" data-model="it">{exported}</script><script>{code}</script>'


def worst(page, kind: str, beta: float = 1.0, count: int = 20) -> tuple[float, float]:
    """The worst pixel that is decoded, and the worst number of a code, in standard deviations."""
    model = network(kind)
    model = model.at(beta) if kind == "multi_rate" else model
    with torch.no_grad():
        decoded, encoded = model.decode(codes(count)).flatten(1), model.encoder(images(count))
    pixels = np.array(page.evaluate(DECODE, [codes(count).tolist(), beta]))
    numbers = np.array(page.evaluate(ENCODE, [images(count).flatten(1).tolist(), beta]))
    spread = max(float(encoded.std()), 1e-6)  # at the largest beta all gates are closed
    return np.abs(pixels - decoded.numpy()).max(), np.abs(numbers - encoded.numpy()).max() / spread


@pytest.mark.parametrize("kind", ["vae", "ae"])
def test_the_page_decodes_and_encodes_like_pytorch(open_html, kind):
    pixel, number = worst(open_html(with_network(kind)), kind, count=50)
    assert pixel < PIXEL and number < CODE


def test_the_page_runs_every_beta_like_pytorch(open_html):
    page = open_html(with_network("multi_rate"))
    for beta in BETAS:
        pixel, number = worst(page, "multi_rate", beta, count=5)
        assert pixel < PIXEL and number < CODE


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("vae", "* wideSide + kx;", "* wideSide + kx + 1;"),  # a shifted index
        ("vae", " + shift[channel]", ""),  # no bias
        ("vae", "value * slope", "value * 0.2"),  # another slope
        ("multi_rate", " + change[outputs + c]", ""),  # beta shifts nothing
        ("multi_rate", "(z, j) => z * gates[j]", "(z) => z"),  # all gates are open
    ],
)
def test_an_error_in_the_script_would_be_seen(open_html, kind, right, wrong):
    assert script().count(right) == 1
    pixel, _ = worst(open_html(with_network(kind, script().replace(right, wrong))), kind, count=5)
    assert not pixel < 10 * PIXEL  # not a number is an error, too


def test_one_decode_fits_into_a_frame(open_html):
    page = open_html(with_network("vae"))
    times = page.evaluate(
        """async (codes) => {
            const network = await vaeExplorer.load("it");
            return codes.map((code) => {
                const start = performance.now();
                network.decode(Float32Array.from(code));
                return performance.now() - start;
            });
        }""",
        codes(100).tolist(),
    )
    assert np.median(times) <= 16  # milliseconds


def test_strokes_are_counted_as_in_the_chapters(open_html):
    page = open_html(f"<script>{script()}</script>")
    noise = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(5)) ** 3
    pictures = torch.cat([few_images().test_images[:30], noise])
    counts = page.evaluate(
        "(all) => all.map((one) => vaeNetworks.strokes(Float32Array.from(one)))",
        pictures.flatten(1).tolist(),
    )
    assert counts == paths.strokes(pictures, 0.5).tolist()
    assert len(set(counts)) > 3


def test_a_drawing_is_scaled_and_centred_like_mnist(open_html):
    page = open_html(f"<script>{script()}</script>")
    call = """([digit, times, top, left]) => {
        const ink = new Float32Array(280 * 280);
        digit.forEach((row, y) => row.forEach((value, x) => {
            for (let dy = 0; dy < times; dy++) {
                const start = (top + y * times + dy) * 280 + left + x * times;
                ink.fill(value, start, start + times);
            }
        }));
        return Array.from(vaeNetworks.centred(ink, 280));
    }"""

    def centred(digit, times, top, left):
        return np.array(page.evaluate(call, [digit.tolist(), times, top, left])).reshape(28, 28)

    for image in few_images().test_images[:10, 0].numpy():
        ink = np.where(image > 0.05, image, 0)
        rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
        digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        places = ((10, 0, 0), (10, 70, 80), (5, 33, 4), (13, 2, 9))
        results = [centred(digit, *place) for place in places]
        for result in results:  # wherever and however large it was drawn
            assert np.abs(result - results[0]).max() < 1e-3
        if max(digit.shape) == 20:  # then it is what MNIST has
            assert np.abs(results[0] - ink).max() < 1e-5
        place = ndimage.center_of_mass(results[0])
        assert all(13.5 <= each < 14.5 for each in place)
        assert max(np.ptp(np.argwhere(results[0] > 0), axis=0)) + 1 == 20
    assert not centred(np.zeros((2, 2)), 1, 0, 0).any()


# --- The widgets ---

GREY = """canvas => [...canvas.getContext("2d").getImageData(0, 0, 28, 28).data]
    .filter((_, n) => n % 4 === 0)"""
LARGE = ".vae-picture.is-large canvas"


def picture(page, place: str) -> str:
    return page.locator(place).first.evaluate("canvas => canvas.toDataURL()")


def wait_for_picture(page, place: str, other_than: str = "") -> str:
    """The picture there, once it is drawn and another one than before."""
    page.wait_for_function(
        """([place, before]) => {
            const canvas = document.querySelector(place);
            const words = canvas?.getAttribute("aria-label");
            return words && words !== "not computed yet" && canvas.toDataURL() !== before;
        }""",
        arg=[place, other_than],
        timeout=10000,
    )
    return picture(page, place)


@pytest.mark.parametrize("name", ["pad", "interpolate", "samples", "beta", "draw"])
def test_a_widget_alone_starts_without_error_or_request_and_fits_a_phone(open_html, name):
    page = open_html(widgets()[name].html(), viewport={"width": 390, "height": 800})
    page.wait_for_function("document.querySelector('.vae-says').textContent.length > 20")
    assert page.errors == []
    assert [url for url in page.requested if not url.startswith(("data:", "file:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.locator(".vae-still").is_visible()
    for canvas in page.locator(".vae-widget [role=img]").all():
        assert len(canvas.get_attribute("aria-label")) > 10
    page.emulate_media(media="print")
    assert page.locator(".vae-still").is_visible()
    assert not page.locator(".vae-widget").is_visible()


def test_without_script_the_picture_stands_in(open_html):
    pad = widgets()["pad"]
    page = open_html(pad.html(), java_script_enabled=False)
    assert page.locator(".vae-still").is_visible() and not page.locator(".vae-widget").is_visible()
    assert page.locator(".vae-still").get_attribute("alt") == pad.figure.alt


def test_jupyterlab_takes_no_key_and_bends_no_fact(open_html):
    style = ".lab dt { float: left; width: 20%; font-weight: bold } .lab dd { width: 20% }"
    page = open_html(
        f"<style>{style}</style><div class='lab'>{widgets()['pad'].html()}</div>"
        "<script>var taken = []; addEventListener('keydown', (e) => taken.push(e.key))</script>"
    )
    wait_for_picture(page, LARGE)
    page.locator("input[type=range]").first.focus()
    for key in ("ArrowDown", "b"):
        page.keyboard.press(key)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("x")
    assert page.evaluate("taken") == ["x"]
    for row in page.locator(".vae-facts :is(dt, dd)").all():
        assert row.bounding_box()["height"] < 30  # one line


def test_latents_move_by_keyboard_and_by_pointer(open_html):
    page = open_html(widgets()["pad"].html())
    before = wait_for_picture(page, LARGE)
    first = page.locator("input[type=range]").first
    first.focus()
    value = float(first.input_value())
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    moved = wait_for_picture(page, LARGE, before)
    assert float(first.input_value()) < value
    dot = page.locator(".vae-here")
    place = dot.bounding_box()
    box = page.locator(".vae-plane").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + 40, steps=3)
    page.mouse.up()
    wait_for_picture(page, LARGE, moved)
    there = dot.bounding_box()
    assert there["x"] + there["width"] / 2 == pytest.approx(box["x"] + 30, abs=2)
    assert there["y"] + there["height"] / 2 == pytest.approx(box["y"] + 40, abs=2)
    assert there != place
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('moved')")
    assert page.errors == []


def test_each_model_decodes_the_same_code_and_shows_its_metrics(open_html):
    page = open_html(widgets()["pad"].html())
    before = wait_for_picture(page, LARGE)
    assert "0.0123" in page.locator(".vae-facts").inner_text()
    page.get_by_role("button", name="zero").click()
    for name, kind, has_kl in (("AE", "ae", False), ("β = 0.1", "vae", True)):
        page.get_by_role("radio", name=name).check()
        before = wait_for_picture(page, LARGE, before)
        grey = page.locator(LARGE).evaluate(GREY)
        with torch.no_grad():
            right = network(kind).decode(torch.zeros(1, 64)).flatten().numpy()
        assert np.abs(np.array(grey) / 255 - right).max() < 0.5 / 255 + PIXEL
        assert ("rate" in page.locator(".vae-facts").inner_text()) == has_kl
        assert ("nats" in page.locator(".vae-slider label").first.inner_text()) == has_kl


def test_the_line_between_two_images_is_walked_by_keyboard(open_html):
    page = open_html(widgets()["interpolate"].html())
    before = wait_for_picture(page, LARGE)
    page.locator("input[type=range]").focus()
    page.keyboard.press("End")
    at_end = wait_for_picture(page, LARGE, before)
    assert at_end == picture(page, ".vae-path .vae-pictures > :last-child canvas")
    page.keyboard.press("Home")
    at_start = wait_for_picture(page, LARGE, at_end)
    page.locator("input[type=radio]:checked").first.focus()
    page.keyboard.press("ArrowRight")
    wait_for_picture(page, LARGE, at_start)
    assert "stroke" in page.locator(".vae-path").first.inner_text()


def test_draws_are_decoded_and_the_way_between_them_is_walked_by_keyboard(open_html):
    page = open_html(widgets()["samples"].html())

    def shown(place: str) -> np.ndarray:
        rows = [row.locator(place) for row in page.locator(".vae-path").all()]
        return np.array([canvas.evaluate(GREY) for row in rows for canvas in row.all()]) / 255

    def off(place: str, wanted: list) -> float:
        with torch.no_grad():
            right = network("ae").decode(torch.stack(wanted)).flatten(1).numpy()
        return np.abs(shown(place) - right).max()

    def said(start: str) -> None:
        words = "(start) => document.querySelector('.vae-says').textContent.startsWith(start)"
        page.wait_for_function(words, arg=start)

    small, tolerance = ".is-grid canvas", 0.5 / 255 + PIXEL
    last = ".vae-path:last-of-type .is-grid > :last-child canvas"
    before = wait_for_picture(page, last)
    assert off(small, [code for of in DRAWN.values() for code in of[:8]]) < tolerance
    assert off(LARGE, [of[0] for of in DRAWN.values()]) < tolerance
    page.locator("input[type=range]").focus()
    for _ in range(5):  # half a way
        page.keyboard.press("ArrowRight")
    said("At 50 % of the way from draw 1 to 2: N(0, I), ")
    assert off(LARGE, [of[:2].mean(0) for of in DRAWN.values()]) < tolerance
    assert page.locator(".is-end").count() == 4  # two of each
    middle = torch.from_numpy(shown(LARGE)).view(2, 1, 28, 28)
    for side, strokes in enumerate(paths.strokes(middle, 0.5).tolist()):
        assert f"{strokes} stroke" in page.locator(".vae-path").nth(side).inner_text()
    page.keyboard.press("PageUp")
    said("At draw 2:")
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "draw 2"
    page.keyboard.press("End")
    said("At draw 8:")
    assert off(LARGE, [of[7] for of in DRAWN.values()]) < tolerance
    page.get_by_role("button", name="draw 8 others").click()
    said("At draw 9:")
    before = wait_for_picture(page, last, before)
    assert off(small, [code for of in DRAWN.values() for code in of[8:16]]) < tolerance
    assert off(LARGE, [of[8] for of in DRAWN.values()]) < tolerance
    page.get_by_role("button", name="draw 8 others").click()  # of 20: after the last, the first
    wait_for_picture(page, last, before)
    rest = [code for of in DRAWN.values() for code in torch.cat([of[16:], of[:4]])]
    assert off(small, rest) < tolerance
    assert "\n20\n1\n" in page.locator(".vae-path").first.inner_text()
    assert page.errors == []


def test_beta_moves_the_pictures_and_the_dot(open_html):
    page = open_html(widgets()["beta"].html())
    decoded = [f".vae-picture:nth-child({n}) canvas" for n in (2, 3, 4, 5, 6)]
    before = [wait_for_picture(page, place) for place in decoded]
    assert len(set(before)) == 5
    dot = page.locator(".vae-here").bounding_box()
    page.locator("input[type=range]").focus()
    page.keyboard.press("End")
    for place, old in zip(decoded, before, strict=True):
        wait_for_picture(page, place, old)
    assert page.locator(".vae-slider output").inner_text() == "10"
    page.wait_for_function("document.querySelector('.vae-says').textContent.startsWith('β = 10:')")
    rate = widgets()["beta"].spec["curve"][-1][1]
    assert f"{rate:.1f} nats" in page.locator(".vae-says").inner_text()
    assert page.locator(".vae-here").bounding_box() != dot


def test_the_slider_begins_with_the_codes_that_it_is_given(open_html):
    widget = explorer.beta_slider(a_run("multi_rate"), "x", codes=codes(3))
    page = open_html(widget.html())
    places = [f".vae-picture:nth-child({n}) canvas" for n in (4, 5, 6)]
    before = [wait_for_picture(page, place) for place in places]
    with torch.no_grad():
        right = network("multi_rate").at(0.1).decode(codes(3)).flatten(1).numpy()
    for place, expected in zip(places, right, strict=True):
        grey = np.array(page.locator(place).evaluate(GREY)) / 255
        assert np.abs(grey - expected).max() < 0.5 / 255 + PIXEL
    page.get_by_role("button", name="other noise").click()
    for place, old in zip(places, before, strict=True):
        wait_for_picture(page, place, old)


@pytest.mark.parametrize("by", ["pointer", "keyboard"])
def test_a_drawing_takes_the_place_of_the_example_and_each_model_reconstructs_it(open_html, by):
    page = open_html(widgets()["draw"].html())
    places = [f".vae-pictures.is-grid > :nth-child({n}) canvas" for n in (1, 2, 3)]
    before = [wait_for_picture(page, place) for place in places]
    sheet = page.locator(".vae-sheet")
    if by == "pointer":
        box = sheet.bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + 62, box["y"] + 215, steps=5)
        page.mouse.up()
    else:
        sheet.focus()
        for key in (" ", *["ArrowDown"] * 12):
            page.keyboard.press(key)
    for place, old in zip(places, before, strict=True):
        wait_for_picture(page, place, old)
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('drawing')")
    ink = np.array(page.locator(places[0]).evaluate(GREY)).reshape(28, 28) > 128
    assert np.ptp(np.flatnonzero(ink.any(1))) >= 18 and 1 <= ink.sum(1).max() <= 4  # one stroke
    numbers = page.locator(".vae-numbers").all_inner_texts()
    assert ["nats" in each for each in numbers] == [False, True]
    page.get_by_role("button", name="clear").click()
    page.wait_for_function("!document.querySelector('.vae-numbers').textContent")
    assert page.errors == []


# --- You be the judge ---


@pytest.mark.parametrize("by", ["keyboard", "pointer"])
def test_the_reader_s_answers_are_compared_with_the_classifier_s(open_html, by):
    widget, recognised = judged()
    page = open_html(widget.html(), viewport={"width": 390, "height": 800})
    said = [True, *([False] * 5)]  # and once changed one's mind
    page.locator(".vae-widget").focus()
    for place, answer in enumerate(said):
        assert f"Picture {place + 1} of 6" in page.locator(LARGE).get_attribute("aria-label")
        steps = ["Y", "B", "N"] if place == 2 else ["Y" if answer else "N"]
        for key in steps:
            if by == "keyboard":
                page.keyboard.press(key.lower())
            else:
                page.get_by_role("button", name=f"({key})").click()
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('agree')")
    agreed = sum(one == other for one, other in zip(said, recognised, strict=True))
    words = page.locator(".vae-says").inner_text().replace("\u2212", "-")
    assert f"agree on {agreed} of 6" in words
    kappa = cohen_kappa_score(said, recognised)
    assert f"kappa is {kappa:.2f}" in words and 0 < abs(kappa) < 1
    rows = [row.inner_text().split() for row in page.locator(".vae-results tbody tr").all()]
    assert [row[0] for row in rows] == ["real", "AE", "β"]
    shown = widget.spec["pictures"]
    for source, row in enumerate(rows):
        own = [n for n, each in enumerate(shown) if each["source"] == source]
        yes, its = sum(said[n] for n in own), sum(recognised[n] for n in own)
        both = sum(said[n] == recognised[n] for n in own)
        assert row[-3:] == [f"{yes}/2", f"{its}/2", f"{both}/2"]
    assert page.locator(".is-other").count() == 6 - agreed
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="again").click()
    assert "Picture 1 of 6" in page.locator(LARGE).get_attribute("aria-label")
    assert page.errors == [] and len(page.requested) == len(set(page.requested))


def test_kappa_is_cohen_s(open_html):
    page = open_html(f"<script>{script()}</script>")
    draws = np.random.default_rng(0).random((20, 2, 24)) < [[0.7], [0.4]]
    for one, other in draws:
        found = page.evaluate(
            "([a, b]) => vaeExplorer.cohensKappa(a, b)",
            [*map(list, (one.tolist(), other.tolist()))],
        )
        assert found == pytest.approx(cohen_kappa_score(one, other))
    same = page.evaluate("Number.isNaN(vaeExplorer.cohensKappa([true, true], [true, true]))")
    assert same is True


# --- What does your beta mean? ---

PAGES = {0.0: "beta_zero", 0.1: "beta_tuned", 10.0: "beta_ten"}
AS_WRITTEN = [  # half, mean over pixels, mean over latents; and the beta that this book would write
    (False, True, True, lambda beta: beta),
    (True, False, False, lambda beta: beta * 2 * 64 / 784),
    (False, False, False, lambda beta: beta * 64 / 784),
    (False, True, False, lambda beta: beta * 64),
    (False, False, True, lambda beta: beta / 784),
]


def test_a_beta_is_translated_as_the_package_does(open_html):
    page = open_html(f"<script>{script()}</script>")
    for half, mean_pixels, mean_latents, ours in AS_WRITTEN:
        given = {"beta": 4, "half": half, "meanPixels": mean_pixels, "meanLatents": mean_latents}
        given |= {"pixels": 784, "latents": 64}
        found = page.evaluate("(given) => vaeExplorer.translated(given)", given)
        assert found["ours"] == pytest.approx(ours(4))
        variance = objective.decoder_variance(found["ours"])
        assert found["deviation"] == pytest.approx(variance**0.5)
    half = page.evaluate(
        "(beta) => vaeExplorer.translated({beta, half: true, pixels: 784, latents: 64}).ours",
        objective.beta_of_half_squared_error(0.1),
    )
    assert half == pytest.approx(0.1)


def test_the_translator_works_by_keyboard_and_says_what_it_cannot_translate(open_html):
    page = open_html(explorer.translator(PAGES).html(), viewport={"width": 390, "height": 800})
    answer = page.locator(".vae-answer-of")
    assert "β = 0.102 in this book" in answer.inner_text()  # as the page's first exercise has it
    assert "off by s = 2" in answer.inner_text()
    assert answer.locator("a").get_attribute("href") == "beta_tuned.html"
    assert "10/784" in page.locator(".vae-formula").inner_text()
    page.get_by_label("their β").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("0")
    assert answer.locator("a").get_attribute("href") == "beta_zero.html"
    page.keyboard.press("Control+A")
    page.keyboard.type("-1")
    assert "zero or more" in answer.inner_text() and not answer.locator("a").count()
    page.keyboard.press("Control+A")
    page.keyboard.type("1000")
    assert answer.locator("a").get_attribute("href") == "beta_ten.html"
    page.get_by_role("radio", name="½ squared").focus()
    page.keyboard.press("ArrowRight")
    assert "no squared error" in answer.inner_text()
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('entropy')")
    assert page.errors == [] and page.evaluate("document.documentElement.scrollWidth") <= 390


# --- In the book ---


def test_networks_are_loaded_when_the_reader_comes_near(open_html, tmp_path):
    pad, draw = moved_out(tmp_path, *(widgets()[name].html() for name in ("pad", "draw")))
    page = open_html(f"{pad}<div style='height: 4000px'></div>{draw}")
    wait_for_picture(page, LARGE)
    requested = [url for url in page.requested if "network-" in url]
    assert len(requested) == 1 and requested[0].startswith("file:")
    page.locator(".vae-sheet").scroll_into_view_if_needed()
    wait_for_picture(page, ".vae-pictures.is-grid > :nth-child(3) canvas")
    requested = [url for url in page.requested if "network-" in url]
    assert len(requested) == len(set(requested)) == 2
    assert page.errors == []


def test_the_first_picture_is_there_within_a_second(open_html, tmp_path):
    (pad,) = moved_out(tmp_path, widgets()["pad"].html())
    times = []
    for _ in range(3):  # the machine may be busy with something else
        page = open_html(pad)
        wait_for_picture(page, LARGE)
        times.append(page.evaluate("performance.now()"))
    assert min(times) < 1000  # milliseconds after the page was asked for


# --- Draw the curve first ---


def drawing(page) -> dict:
    """Guess and measured curve, as lists of places; and what is said."""
    paths = page.evaluate(
        """() => [".vae-guess", ".vae-curve"].map((kind) => {
            const path = document.querySelector(kind);
            return [path.getAttribute("visibility") ?? "visible", path.getAttribute("d")];
        })"""
    )

    def places(d):
        pairs = (d or "").removeprefix("M").split("L")
        return [tuple(map(float, pair.split(","))) for pair in pairs if pair]

    (_, mine), (seen, its) = paths
    said = page.locator(".vae-says").inner_text()
    return {"mine": places(mine), "its": places(its), "seen": seen == "visible", "said": said}


def test_a_curve_is_drawn_by_pointer_and_the_measured_one_comes_when_asked(open_html):
    page = open_html(drawn_first().html())
    show = page.get_by_role("button", name="show what was measured")
    assert show.is_disabled() and not drawing(page)["seen"]
    box = page.locator(".vae-chart").bounding_box()
    width, height = box["width"], box["height"]
    page.mouse.move(box["x"] + 0.2 * width, box["y"] + 0.3 * height)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * width, box["y"] + 0.3 * height)  # points are passed by
    page.mouse.up()
    mine = drawing(page)["mine"]
    assert len(mine) == len(MEASURED) and len({round(y) for _, y in mine}) == 1
    assert mine[0][1] == pytest.approx(0.3 * 220, abs=2)  # of the view box
    assert not drawing(page)["seen"]
    show.click()
    found = drawing(page)
    assert found["seen"] and [x for x, _ in found["its"]] == pytest.approx([x for x, _ in mine])
    zero = 220 - 38  # the axis
    heights = [zero - y for _, y in found["its"]]
    assert [h / heights[-1] for h in heights] == pytest.approx([y / 800 for y in MEASURED.values()])
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('lowest')")
    assert "measured at 0.1" in drawing(page)["said"]
    page.get_by_role("button", name="draw again").click()
    assert drawing(page)["mine"] == [] and not drawing(page)["seen"] and show.is_disabled()


def test_a_curve_is_drawn_by_keyboard_and_its_error_is_said(open_html):
    page = open_html(drawn_first().html())
    dot = page.get_by_role("slider")
    dot.focus()
    page.keyboard.press("ArrowUp")
    for key in ("ArrowRight", "ArrowRight", "PageDown", "ArrowRight", "PageUp", "ArrowRight"):
        page.keyboard.press(key)
    assert dot.get_attribute("aria-valuetext").startswith("β 10: you say ")
    heights = [-y for _, y in drawing(page)["mine"]]
    assert len(heights) == 5 and heights[0] == heights[1] and heights.index(min(heights)) == 2
    page.get_by_role("button", name="show what was measured").click()
    page.wait_for_function("document.querySelector('.vae-says').textContent.includes('lowest')")
    scale = 880 / (220 - 38 - 6)  # of the axis to its top
    own = [(220 - 38 + y) * scale for y in heights]
    off = np.mean([abs(a - b) for a, b in zip(own, MEASURED.values(), strict=True)])
    said = drawing(page)["said"]
    assert f"off by {float(f'{off:.2g}'):g} on average" in said
    assert "yours at 0.1, measured at 0.1" in said


def test_without_script_there_are_empty_axes_to_draw_into(open_html):
    page = open_html(drawn_first().html(), java_script_enabled=False)
    still = page.locator(".vae-still")
    assert still.is_visible() and still.get_attribute("alt") == (
        "Empty axes: β across, FID from 0 to 8.8e+02 up."
    )
