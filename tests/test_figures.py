"""Figures: colours that differ for every eye, text that a phone shows, words with numbers.

Contrast and colour-blind eyes are computed by coloraide: WCAG 2's contrast, Machado et al. (2009)
for the simulation, CIEDE2000 for the distance.
"""

from __future__ import annotations

import base64
import io
import itertools
import re

import numpy as np
import pytest
import torch
from coloraide import Color
from matplotlib.colors import to_hex
from matplotlib.image import imread
from matplotlib.text import Text

from vae_nb import figures
from vae_nb.evaluation.interval import Measured
from vae_nb.training import History

GROUNDS = {"light": "#ffffff", "dark": "#000000"}  # asserted of the pages in test_browser.py
REPORT = (0.0, 0.01, 0.1, 0.2, 10.0)
TOGETHER = {
    "models": [*(to_hex(figures.colour(beta)) for beta in REPORT), to_hex(figures.colour(None))],
    "quantities": [figures.RECONSTRUCTION, figures.KL, figures.INK],
}
PHONE = 358  # CSS pixels that are left for a figure on a screen of 390


def seen(colour: str, eye: str | None) -> Color:
    return Color(colour).filter(eye, method="machado") if eye else Color(colour)


@pytest.mark.parametrize("eye", [None, "protan", "deutan", "tritan"])
@pytest.mark.parametrize("palette", TOGETHER)
def test_colours_of_one_figure_differ_for_every_eye(palette, eye):
    for one, other in itertools.combinations(TOGETHER[palette], 2):
        assert seen(one, eye).delta_e(seen(other, eye), method="2000") > 11, (one, other)


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


def measured(value: float) -> Measured:
    return Measured(value, 0.9 * value, 1.1 * value)


def a_figure_of_each_kind() -> dict[str, figures.LiveFigure]:
    """All functions of the module, with as many models and values as the book shows at most."""
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    held_out = [{"mse_sample": 0.02 / n, "kl": 0.1 * n} for n in (1, 2, 3)]
    history = History(
        reconstruction=list(np.linspace(0.2, 0.02, 60)),
        kl=list(np.linspace(0.01, 0.3, 60)),
        held_out=held_out,
    )
    names = {0.0: "β = 0", 0.01: "β = 0.01", 0.1: "β = 0.1", 0.2: "β = 0.2"}
    models = [("AE", None), *((label, beta) for beta, label in names.items())]
    grid = [0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.0, 10.0]
    rates = [690, 240, 160, 101, 65, 39, 22, 9, 4.5, 0.2, 0.0, 0.0, 0.0]
    curve = [
        (beta, measured(rate), measured(0.07 / (1 + rate)))
        for beta, rate in zip(grid, rates, strict=True)
    ]
    by_beta = {beta: measured(1 + beta) for beta in grid}
    counts = {count: measured(0.5) for count in (10, 100, 1000, 60000)}
    png = figures.samples([("β = 1", images, measured(0.5))], "x").png()
    strip = [(f"β = {beta:g}", [base64.b64encode(png).decode()] * 12) for beta in grid]
    columns = [(f"β = {b:g}", images[:3], images[3:6], "< 0.0001 nats\n0.0675") for b in grid[:7]]
    return {
        "training_curves": figures.training_curves(history, "x"),
        "reconstructions": figures.reconstructions(
            images[:8], [("β = 0.01", images[:8], measured(0.01))], "x"
        ),
        "samples": figures.samples(
            [(label, images, measured(0.5)) for label in list(names.values())[1:]], "x"
        ),
        "interpolations": figures.interpolations(
            [("4 to 9, β = 0.1", images[:11])] * 8, "x", [("β = 0.1", measured(0.3))]
        ),
        "latent_rates": figures.latent_rates(
            [(label, torch.linspace(3, 0, 64), measured(30)) for label in list(names.values())[1:]],
            "x",
        ),
        "extra_strokes": figures.extra_strokes(
            [(label, beta, [measured(0.5)] * 3) for label, beta in models], [0.3, 0.5, 0.7], "x"
        ),
        "stroke_distribution": figures.stroke_distribution(
            [(label, beta, np.array([0.0, 1.0, 0.5])) for label, beta in models], "x"
        ),
        "against_error": figures.against_error(
            [(label, beta, measured(0.01), measured(0.5)) for label, beta in models],
            "extra strokes",
            "x",
            "It is 3.",
        ),
        "rate_distortion": figures.rate_distortion(
            curve, curve[4:8], [("decoder variance learned", *curve[3][1:])], "x", "It is 3."
        ),
        "against_beta": figures.against_beta(
            [("log-likelihood, nats", [("importance-weighted", by_beta), ("ELBO", by_beta)])] * 6,
            [by_beta] * 6,
            {"best": 0.03},
            "x",
            "It is 3.",
        ),
        "beta_film": figures.beta_film(
            [(beta, images[0], images[1]) for beta in (0.0001, 0.0002, *grid)], "x", "It is 3."
        ),
        "latent_map": figures.latent_map(
            grid[1:], torch.linspace(5, 0, 12 * 64).view(12, 64), "x", "It is 3."
        ),
        "latent_planes": figures.latent_planes(
            [(label, images[:9]) for label in list(names.values())[:2]], "x", "Latents 1 and 2"
        ),
        "picture_strip": figures.picture_strip(strip, "x", "It is 3."),
        "label_curves": figures.label_curves(
            [("linear probe", [(label, beta, counts) for label, beta in models])] * 2,
            "x",
            "It is 3.",
        ),
        "noise_curves": figures.noise_curves(
            [(label, beta, {0.0: measured(0.9), 1.0: measured(0.5)}) for label, beta in models],
            "x",
            "It is 3.",
        ),
        "beta_strip": figures.beta_strip(columns, "x", "It is 3."),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, figures.LiveFigure]:
    return a_figure_of_each_kind()


def test_every_function_that_makes_a_figure_is_tested_here(drawn):
    made = {
        name
        for name, function in vars(figures).items()
        if getattr(function, "__annotations__", {}).get("return") == "LiveFigure"
        and not name.startswith("_")
    }
    assert made == set(drawn)


def test_no_text_is_smaller_on_a_phone_than_nine_pixels(drawn):
    for name, live in drawn.items():
        shrunk = min(1.0, PHONE / (96 * live.figure.get_figwidth()))
        for text in live.figure.findobj(Text):
            if text.get_text() and text.get_visible():
                pixels = text.get_fontsize() * 96 / 72 * shrunk
                assert pixels >= 9, (name, text.get_text(), pixels)


def test_no_text_is_cut_at_the_edge(drawn):
    for name, live in drawn.items():
        ink = imread(io.BytesIO(live.png()))[..., 3]  # transparent where nothing is drawn
        edge = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert (edge > 0).mean() < 0.02, name


def test_words_for_those_who_cannot_see_a_figure_have_its_numbers_and_are_not_its_caption(drawn):
    for name, live in drawn.items():
        assert re.search(r"\d", live.alt), name
        assert len(live.alt) > 30 and live.alt != live.caption, name


def test_text_is_in_one_ink_and_the_ground_is_the_page(drawn):
    for name, live in drawn.items():
        for text in live.figure.findobj(Text):
            if text.get_text():
                assert to_hex(text.get_color()) == figures.INK, (name, text.get_text())
        corner = imread(io.BytesIO(live.png()))[0, 0]
        assert corner[3] == 0, name
