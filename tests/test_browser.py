"""The built book in a real browser: no error, no request elsewhere, nothing wider than a phone."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGES = (
    "index",
    "autoencoder",
    "beta_zero",
    "beta_ten",
    "beta_tuned",
    "interpolation",
    "representations",
    "explorer",
    "objective",
    "metrics",
    "data",
    "rerun",
    "glossary",
    "instructors",
    "api",
    "colophon",
    "references",
)


@pytest.fixture
def open_page(browser, quick_book):
    contexts = []

    def open_(name: str, width: int, dark: bool = False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.seen_errors, page.seen_requests = [], []
        page.on("pageerror", lambda error: page.seen_errors.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and page.seen_errors.append(message.text),
        )
        page.on("request", lambda request: page.seen_requests.append(request.url))
        page.goto((quick_book / f"{name}.html").as_uri(), wait_until="load")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_from_a_file_without_error_or_request_elsewhere(open_page, name):
    page = open_page(name, 1400)
    assert page.seen_errors == []
    assert [url for url in page.seen_requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_scrolls_down_only(open_page, name):
    page = open_page(name, 390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", PAGES[1:7])
def test_the_answer_is_beside_its_figure_on_a_desktop_and_above_it_on_a_phone(open_page, name):
    def boxes(width):
        page = open_page(name, width)
        cell = page.locator(".cell.tag_answer > .cell_output")
        return (
            cell.locator("> .vae-answer").bounding_box(),
            cell.locator("> .vae-figure").bounding_box(),
        )

    answer, figure = boxes(1400)
    assert answer["x"] + answer["width"] <= figure["x"] and abs(answer["y"] - figure["y"]) < 40
    answer, figure = boxes(390)
    assert answer["y"] + answer["height"] <= figure["y"] + 1


def test_dark_mode_leaves_the_grey_levels_alone(open_page):
    page = open_page("beta_ten", 1400, dark=True)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    style = page.locator("img.dark-light").first.evaluate(
        "image => [getComputedStyle(image).filter, getComputedStyle(image).backgroundColor]"
    )
    assert style == ["none", "rgba(0, 0, 0, 0)"]


def test_maths_is_typeset_without_a_network(open_page):
    page = open_page("objective", 1400)
    page.wait_for_selector("mjx-container svg", timeout=20000)
    assert page.locator("mjx-container").count() > 5
