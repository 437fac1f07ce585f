"""Figures: colours that differ for every eye, text that a phone shows, words with numbers.

Contrast and colour-blind eyes are computed by coloraide: WCAG 2's contrast, Machado et al. (2009)
for the simulation, CIEDE2000 for the distance.
"""

from __future__ import annotations

import base64
import inspect
import io
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from coloraide import Color
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread
from matplotlib.text import Text

from vae_nb import figures, models, training
from vae_nb.figures import Column, Counts, LiveFigure, Panel, Point, Series
from vae_nb.metrics.intervals import NOT_AVAILABLE, Estimate
from vae_nb.recipe import recipe
from vae_nb.runs import Run
from vae_nb.training import History

GROUNDS = {"light": "#ffffff", "dark": "#000000"}  # asserted of the pages in test_browser.py
REPORT = (0.0, 0.01, 0.1, 0.2, 10.0)
TOGETHER = {
    "models": [*(to_hex(figures.colour(beta)) for beta in REPORT), to_hex(figures.colour(None))],
    "quantities": [figures.RECONSTRUCTION, figures.KL, figures.INK],
}
PHONE = 358  # CSS pixels that are left for a figure on a screen of 390
IMAGES = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))
COLLAPSED = IMAGES[:1].repeat(12, 1, 1, 1)
BETAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.0, 10.0)
PNG = base64.b64encode(figures.samples(IMAGES[:1]).png()).decode()
RATES = (690, 240, 160, 101, 65, 39, 22, 9, 4.5, 0.2, 0.0, 0.0, 0.0)


# --- Colours ---


def as_seen(colour: str, eye: str | None) -> Color:
    return Color(colour).filter(eye, method="machado") if eye else Color(colour)


@pytest.mark.parametrize("eye", [None, "protan", "deutan", "tritan"])
@pytest.mark.parametrize("palette", TOGETHER)
def test_colours_of_one_figure_differ_for_every_eye(palette, eye):
    for one, other in itertools.combinations(TOGETHER[palette], 2):
        distance = as_seen(one, eye).delta_e(as_seen(other, eye), method="2000")
        assert distance > 11, (one, other)


@pytest.mark.parametrize("theme", GROUNDS)
def test_ink_and_colours_stand_out_from_the_page(theme):
    ground = Color(GROUNDS[theme])
    assert ground.contrast(figures.INK, method="wcag21") >= 4.5  # text
    for colour in {each for palette in TOGETHER.values() for each in palette}:
        assert ground.contrast(colour, method="wcag21") >= 3, colour  # lines, bars, points


def test_a_beta_has_its_colour_and_its_neighbours_one_between():
    assert figures.colour(0.0) == figures.colour(1e-5) == figures.colour(1e-7)
    assert figures.colour(1e3) == figures.colour(10.0)
    between = np.array(figures.colour(np.sqrt(0.1 * 0.2)))
    ends = np.array([figures.colour(0.1), figures.colour(0.2)])
    np.testing.assert_allclose(between, ends.mean(axis=0), atol=1e-6)


# --- Every figure: with as much as the book shows at most, with one of each, without values ---


def measured(value: float) -> Estimate:
    return Estimate(value, 0.9 * value, 1.1 * value)


def history(steps: int = 60, epochs: int = 3, kl: float = 0.3) -> History:
    held_out = [{"reconstruction": 0.02 / n, "kl": kl / n} for n in range(1, epochs + 1)]
    losses, rates = np.linspace(0.2, 0.02, steps), np.linspace(0.1 * kl, kl, steps)
    return History(losses.tolist(), rates.tolist(), held_out)


def run(model: str = "vae", beta: float = 0.1, seed: int = 3) -> Run:
    """An untrained network in the place of a fitted one."""
    made = recipe(model, beta, width=2, latent_dim=5, seed=seed)
    return Run(made, training.new_model(made).eval(), history(), {}, "digest")


def a_figure_of_each_kind(
    measured: Callable[[float], Estimate] = measured, most: int | None = None
) -> dict[str, LiveFigure]:
    """All functions of the module; ``most`` is how many models and values each gets."""
    some = slice(most)
    models = [("AE", None), *((f"β = {beta:g}", beta) for beta in (0.0, 0.01, 0.1, 0.2))][some]
    labels = [f"β = {beta:g}" for beta in (0.01, 0.1, 0.2)][some]
    images, betas = IMAGES[some], BETAS[some]
    curve = [
        Point(f"β = {beta:g}", measured(rate), measured(0.07 / (1 + rate)), beta)
        for beta, rate in zip(betas, RATES, strict=False)
    ]

    def series(x: Sequence[float], value: float = 0.5) -> list[Series]:
        numbers = {each: measured(value) for each in x[some]}
        return [Series(label, numbers, beta) for label, beta in models]

    by_beta = {beta: measured(1 + beta) for beta in betas}
    two = [Series("importance-weighted", by_beta), Series("ELBO", by_beta)][some]
    columns = [
        Column(f"β = {beta:g}", images[:3], images[-3:], measured(rate), measured(0.0675))
        for beta, rate in zip(betas[-7:], RATES[-7:], strict=False)
    ]
    frames = [Column(f"{beta:g}", images[:1], images[-1:]) for beta in (1e-4, 2e-4, *BETAS)[some]]
    rates = torch.linspace(5, 0, 12 * 64).view(12, 64)[: len(betas[-12:])]
    shown = measured(0.5)
    codes, classes = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    moment = figures.Moment("β = 0.002", codes, classes, images, images, images, 0.05, 3.0)
    return {
        "training_curves": figures.training_curves(history(most or 60, most or 3)),
        "reconstructions": figures.reconstructions(
            images[:8], {"β = 0.01": images[:8]}, errors={"β = 0.01": measured(0.01)}
        ),
        "samples": figures.samples(
            dict.fromkeys(labels, images), recognised=dict.fromkeys(labels, shown)
        ),
        "numbered": figures.numbered(images[:24], "x"),
        "interpolations": figures.interpolations(
            {f"4 to {label}, β = 0.1": images[:11] for label in range(8)[some]},
            strokes={"β = 0.1": shown},
        ),
        "latent_rates": figures.latent_rates(
            dict.fromkeys(labels, torch.linspace(3, 0, most or 64)),
            "x",
            dict.fromkeys(labels, measured(30)),
        ),
        "extra_strokes": figures.extra_strokes(series([0.3, 0.5, 0.7]), "x"),
        "stroke_distribution": figures.stroke_distribution(
            [Counts(label, np.array([0.0, 1.0, 0.5])[some], beta) for label, beta in models], "x"
        ),
        "against_error": figures.against_error(
            [Point(label, measured(0.01), shown, beta) for label, beta in models],
            "extra strokes",
            "x",
            "It is 3.",
        ),
        "rate_distortion": figures.rate_distortion(
            curve,
            "x",
            "It is 3.",
            here=curve[4:8],
            marks=[Point("decoder variance learned", curve[-1].x, curve[-1].y)],
            line=curve,
        ),
        "against_beta": figures.against_beta(
            [Panel("log-likelihood, nats", two, by_beta)] * (most or 6),
            "x",
            "It is 3.",
            {"b": 0.03},
        ),
        "reconstruction_by_beta": figures.reconstruction_by_beta(frames, "x", "It is 3."),
        "latent_map": figures.latent_map(betas[-12:], rates, "x", "It is 3."),
        "latent_planes": figures.latent_planes(
            dict.fromkeys(labels[:2], images[:9]), "x", "Latents 1 and 2"
        ),
        "nearest": figures.nearest(images[:8], images[:8], "x", "It is 3."),
        "bounds": figures.bounds(dict.fromkeys([1, 10, 500], measured(3.0)), "x", "It is 3."),
        "picture_strip": figures.picture_strip(
            {f"β = {beta:g}": [PNG] * (most or 2) for beta in betas}, "x", "It is 3."
        ),
        "label_dots": figures.label_dots(
            [Panel("linear probe", series([10, 100, 1000, 60000]))] * (most or 2), "x", "It is 3."
        ),
        "training_moments": figures.training_moments([moment] * (most or 4), "x"),
        "empty_axes": figures.empty_axes("x", "β", "FID", [("1", 0.2), ("10", 0.8)], 500.0),
        "noise_curves": figures.noise_curves(series([0.0, 0.5, 1.0]), "x", "It is 3."),
        "beta_strip": figures.beta_strip(columns, "x", "It is 3."),
    }


@pytest.fixture(scope="module")
def full() -> dict[str, LiveFigure]:
    return a_figure_of_each_kind()


@pytest.fixture(scope="module")
def pictures_of(full) -> dict[str, np.ndarray]:
    return {name: imread(io.BytesIO(live.png())) for name, live in full.items()}


@pytest.fixture(scope="module")
def single() -> dict[str, LiveFigure]:
    return a_figure_of_each_kind(most=1)


@pytest.fixture(scope="module")
def without_values() -> dict[str, LiveFigure]:
    return a_figure_of_each_kind(lambda value: NOT_AVAILABLE, most=2)


def public_functions() -> set[str]:
    return {
        name
        for name, function in vars(figures).items()
        if inspect.isfunction(function)
        and function.__annotations__.get("return") == "LiveFigure"
        and not name.startswith("_")
    }


def test_every_function_that_makes_a_figure_is_tested_here(full):
    assert public_functions() == set(full)


def test_every_figure_has_a_macro_for_its_caption_and_one_for_its_alternative_text():
    source = Path(figures.__file__).with_suffix(".md").read_text(encoding="utf-8")
    macros = dict(re.findall(r"macro (\w+)(\(.*?\))", source))
    for name in public_functions():
        assert macros[name] == macros[f"{name}_alt"]


def test_a_fact_that_a_caption_lacks_is_an_error(full):
    with pytest.raises(jinja2.UndefinedError):
        figures._live(full["samples"].figure, "x", "latent_planes", count=2)


def test_no_text_is_smaller_on_a_phone_than_nine_pixels(full):
    for name, live in full.items():
        shrunk = min(1.0, PHONE / (96 * live.figure.get_figwidth()))
        for text in live.figure.findobj(Text):
            if text.get_text() and text.get_visible():
                pixels = text.get_fontsize() * 96 / 72 * shrunk
                assert pixels >= 9, (name, text.get_text(), pixels)


def test_no_figure_is_wider_than_a_column_and_no_text_is_cut_at_its_edge(full, pictures_of):
    for name, live in full.items():
        picture = pictures_of[name]
        width, height = 192 * live.figure.get_size_inches()
        np.testing.assert_allclose(picture.shape[:2], (height, width), atol=1, err_msg=name)
        assert width <= 192 * 5.4 + 1, name
        ink = picture[..., 3]  # transparent where nothing is drawn
        edge = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert (edge > 0).mean() < 0.02, name


def test_text_is_in_one_ink_and_the_ground_is_the_page(full, pictures_of):
    for name, live in full.items():
        for text in live.figure.findobj(Text):
            if text.get_text():
                assert to_hex(text.get_color()) == figures.INK, (name, text.get_text())
        assert pictures_of[name][0, 0, 3] == 0, name


def test_the_same_figure_has_the_same_bytes():
    first, second = (figures.latent_rates({"AE": torch.ones(9)}, "x") for _ in range(2))
    assert first.png() == first.png() == second.png()


@pytest.mark.parametrize("kind", ["full", "single", "without_values"])
def test_words_are_whole_lines_of_text_whatever_was_measured(kind, request):
    for name, live in request.getfixturevalue(kind).items():
        for words in (live.caption, live.alt):
            assert re.fullmatch(r"[^ \n]+( [^ \n]+)*", words), (name, words)
            assert words.endswith(".") and not re.search(r"nan|None|\{|\.\.| [.,:;]", words), words


@pytest.mark.parametrize("kind", ["single", "without_values"])
def test_a_figure_of_one_model_or_without_values_can_be_drawn(kind, request):
    for live in request.getfixturevalue(kind).values():
        live.figure.draw_without_rendering()


def test_words_for_those_who_cannot_see_a_figure_have_its_numbers_and_are_not_its_caption(full):
    for name, live in full.items():
        assert re.search(r"\d", live.alt), name
        assert len(live.alt) > 30 and live.alt != live.caption, name


def test_an_estimate_that_is_not_available_is_a_dash(without_values):
    for name in ("reconstructions", "samples", "interpolations", "extra_strokes"):
        assert "–" in without_values[name].caption, name
    assert "– active" in without_values["latent_rates"].caption
    assert "–\n–" in [text.get_text() for text in without_values["beta_strip"].figure.findobj(Text)]


# --- Measurements are optional, and a run makes its own images ---


def pictures(live: LiveFigure) -> list[np.ndarray]:
    return [axes.images[0].get_array() for axes in live.figure.axes]


def test_images_alone_make_a_figure():
    live = figures.samples(IMAGES)
    assert live.caption == "Samples, not chosen by hand."
    assert live.alt == "A grid of 12 sampled images."
    live = figures.reconstructions(IMAGES[:1], IMAGES[1:2])
    assert live.caption == "Held-out images (top) and their reconstructions."
    original, reconstruction = pictures(live)
    np.testing.assert_array_equal(original, IMAGES[0, 0])
    np.testing.assert_array_equal(reconstruction, IMAGES[1, 0])
    live = figures.interpolations({"4 to 9": IMAGES})
    assert live.caption.endswith("both ends are reconstructions.")
    live = figures.latent_rates({"β = 1": torch.tensor([2.0, 0.05])}, "x")
    assert live.caption.endswith("β = 1: of 2 latents 1 above 0.1 nats.")
    live = figures.beta_strip([Column("AE", IMAGES[:3], IMAGES[3:6])], "x", "It is 3.")
    assert "Below" not in live.caption
    assert not any("nats" in text.get_text() for text in live.figure.findobj(Text))


def test_a_run_draws_samples_of_its_prior_with_its_own_seed():
    of_run = run(seed=3)
    (picture,) = pictures(figures.samples(of_run))
    expected = models.decode(of_run.model, models.sample_prior(30, 5, seed=3))
    assert picture.shape == (5 * 30 - 2, 6 * 30 - 2)  # 30 images with gaps of two pixels
    np.testing.assert_array_equal(picture[:28, 30:58], expected[1, 0])
    np.testing.assert_array_equal(picture[-28:, -28:], expected[29, 0])
    (picture,) = pictures(figures.samples(of_run, columns=4))
    assert picture.shape == (7 * 30 - 2, 4 * 30 - 2)  # whole rows


def test_a_run_reconstructs_and_has_its_name():
    of_run = run()
    live = figures.reconstructions(IMAGES[:1], of_run, errors={"β = 0.1": measured(0.0123)})
    assert live.caption.endswith(": β = 0.1: 0.0123.")
    np.testing.assert_array_equal(pictures(live)[1], of_run.decode(of_run.encode(IMAGES[:1]))[0, 0])
    live = figures.reconstructions(IMAGES[:1], run("ae", 0.0))
    assert live.figure.axes[1].get_ylabel() == "AE"
    live = figures.samples({"here": of_run, "elsewhere": IMAGES})
    assert live.alt.startswith("A grid of 30 sampled images for each of: here, elsewhere.")


def test_training_curves_of_a_run_of_a_history_and_of_one_without_curves():
    of_run = figures.training_curves(run())
    assert of_run.caption == figures.training_curves(history()).caption
    assert "the KL at 0.1 nats per latent" in of_run.caption
    assert "the KL at <\u00a00.0001 nats" in figures.training_curves(history(kl=1e-5)).caption
    (panel,) = figures.training_curves(history(kl=0.0)).figure.axes  # an autoencoder's
    assert panel.get_title() == "reconstruction loss"
    at_one_beta = History([], [], [{"reconstruction": 0.01, "kl": 0.2}])
    assert "ends at 0.01." in figures.training_curves(at_one_beta).caption


# --- Collapsed models, and numbers that cannot be negative ---


def test_a_figure_of_a_collapsed_model_says_so():
    live = figures.samples({"β = 10": COLLAPSED, "AE": IMAGES}, recognised={"β = 10": measured(1)})
    assert "All samples are identical (β = 10)." in live.caption
    assert "All samples are identical." in figures.samples(COLLAPSED).alt
    live = figures.reconstructions(IMAGES, {"β = 10": COLLAPSED})
    assert "All reconstructions are identical (β = 10)." in live.caption
    live = figures.interpolations({"2 to 0": COLLAPSED, "7 to 3": COLLAPSED})
    assert live.caption == "The way from one image to another: all frames are identical."
    assert "identical" not in figures.interpolations({"a": COLLAPSED, "b": IMAGES}).caption


def test_no_bar_of_a_kl_is_negative_and_a_collapsed_model_says_that_all_are_small():
    live = figures.latent_rates({"β = 10": torch.tensor([1e-5, -1e-5, 0.0])}, "x")
    (axes,) = live.figure.axes
    assert min(bar.get_height() for bar in axes.patches) >= 0
    assert axes.get_ylim() == (0, 0.1)
    assert "all below 0.001 nats" in [text.get_text() for text in axes.texts]


def test_dots_of_a_code_stand_in_its_row_and_the_numbers_of_labels_above_the_first():
    values = {10.0: measured(0.5), 100.0: measured(0.7), 60000.0: measured(0.9)}
    series = [Series("AE", values), Series("pixels", {x: measured(0.4) for x in values})]
    axes = figures.label_dots([Panel("probe", series)], "x", "It is 3.").figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in lines] == [[50, 70, 90], [40, 40, 40]]
    assert [set(line.get_ydata()) for line in lines] == [{0}, {1}]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["AE", "pixels"]
    assert {t.get_text(): t.xy for t in axes.texts} == {
        "10": (50, 0),
        "100": (70, 0),
        "all": (90, 0),
    }


def lowest_end(live: LiveFigure) -> float:
    """Of all vertical error bars."""
    bars = [each for each in live.figure.axes[0].collections if isinstance(each, LineCollection)]
    return min(np.min(segment[:, 1]) for each in bars for segment in each.get_segments())


def test_error_bars_of_counts_and_shares_end_at_zero_and_those_of_differences_do_not():
    wide = {0.1: Estimate(0.5, -1.0, 2.0), 1.0: Estimate(0.4, 0.3, 0.5)}
    series = [Series("a", wide)]
    for panel, low in (
        (Panel("active units", series), 0),
        (Panel("nats", series, signed=True), -1),
    ):
        live = figures.against_beta([panel], "x", "It is 3.")
        assert lowest_end(live) == low
    dots = figures.label_dots([Panel("probe", series)], "x", "It is 3.")
    (bars, *_) = (c for c in dots.figure.axes[0].collections if isinstance(c, LineCollection))
    assert min(np.min(segment[:, 0]) for segment in bars.get_segments()) == 0
    assert lowest_end(figures.extra_strokes(series, "x")) == -1
    point = Point("a", wide[0.1], wide[0.1], 0.1)
    assert lowest_end(figures.rate_distortion([point], "x", "It is 3.")) == 0
    assert lowest_end(figures.against_error([point], "strokes", "x", "It is 3.")) == -1


def test_an_interval_beside_its_value_or_without_an_end_is_drawn():
    odd = {0.1: Estimate(0.5, 0.6, 0.7), 1.0: Estimate(0.5, math.nan, 0.6)}
    assert figures.against_beta([Panel("odd", [Series("a", odd)])], "x", "It is 3.").png()


def test_betas_alike_in_rate_share_one_label():
    points = [Point("", measured(0.0), measured(0.07), beta) for beta in (1.0, 10.0)]
    live = figures.rate_distortion(
        [*points, Point("", measured(9.0), measured(0.01), 0.1)], "x", ""
    )
    assert [text.get_text() for text in live.figure.axes[0].texts] == ["0.1", "1, 10"]


# --- In a notebook ---


def test_a_figure_shows_itself_with_its_words_and_then_its_caption(monkeypatch):
    outputs = []
    monkeypatch.setattr(figures, "display", lambda data, **rest: outputs.append((data, rest)))
    live = figures.samples(IMAGES, "some-samples")
    live._ipython_display_()
    (image, of_image), (caption, of_caption) = outputs
    words = {"name": "fig-some-samples", "caption": live.caption, "alt": live.alt}
    assert base64.b64decode(image["image/png"]) == live.png()
    assert of_image["metadata"]["image/png"] == {"vae_nb": words, "width": 307}
    assert caption["text/markdown"] == f"*{live.caption}*"
    assert of_caption["metadata"] == {"vae_nb": "caption"}


def test_importing_the_module_imports_neither_pyplot_nor_what_measures():
    unwanted = ("matplotlib.pyplot", "sklearn", "skimage", "torchmetrics", "torchvision")
    code = f"import sys, vae_nb.figures; print([m for m in {unwanted} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
