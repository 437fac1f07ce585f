"""The built book in a real browser: offline, in both themes, on a phone, by keyboard, for axe.

Each page is opened once in each of the ways of `WAYS`, and what is seen is kept for all tests.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from test_book import CHAPTERS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]

_TOC = yaml.safe_load((Path(__file__).resolve().parents[1] / "book" / "_toc.yml").read_text())
PAGES = [_TOC["root"], *(each["file"] for part in _TOC["parts"] for each in part["chapters"])]
PAGES += ["search", "genindex"]
WAYS = {  # name: (width, theme)
    "desktop": (1400, "light"),
    "desktop, dark": (1400, "dark"),
    "phone": (390, "light"),
}
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(0, 0, 0)"}  # as in test_figures.py

# What scrolls sideways, and whether a keyboard reaches it and a reader of screens names it.
_SCROLLING = """() => [...document.querySelectorAll('.bd-article *')]
  .filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
               && e.scrollWidth > e.clientWidth + 1 && e.checkVisibility())
  .map(e => ({what: e.tagName + '.' + e.className, reached: e.tabIndex === 0,
              named: !!e.getAttribute('aria-label'),
              begins: [...e.children].every(child => child.getBoundingClientRect().left
                      >= e.getBoundingClientRect().left - 1),  // or its start is out of sight
              faded: getComputedStyle(e).maskImage !== 'none'}))"""
_IMAGES = """() => [...document.querySelectorAll('figure.vae-figure img')].map(e => ({
  alt: e.alt, caption: e.closest('figure').querySelector('.caption-text').innerText,
  loaded: e.naturalWidth > 0, filter: getComputedStyle(e).filter,
  ground: getComputedStyle(e).backgroundColor}))"""

_AXE = {"preload": False, "resultTypes": ["violations"]}  # no reading of style sheets by requests


@dataclasses.dataclass
class Visit:
    """What was seen of one page, opened in one way."""

    errors: list[str]
    elsewhere: list[str]  # requests that left the folder of the book
    scroll_width: int
    theme: str
    ground: str
    images: list[dict[str, Any]]
    scrolling: list[dict[str, Any]]
    violations: list[dict[str, Any]]


@pytest.fixture(scope="module")
def open_page(browser: Browser, quick_book: Path) -> Iterator[Callable[..., Page]]:
    """``open_page(name, width, theme) -> page``, from a file and without a network."""
    contexts = {}

    def open_(name: str, width: int = 1400, theme: str = "light") -> Page:
        if (width, theme) not in contexts:
            contexts[width, theme] = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
            )
        page = contexts[width, theme].new_page()
        page.seen_errors, page.seen_requests = _watch(page)
        page.goto((quick_book / f"{name}.html").as_uri(), wait_until="load")
        page.wait_for_function("!window.MathJax?.startup || MathJax.startup.promise")
        if page.locator(".math").count():
            page.wait_for_selector("mjx-container svg", timeout=20000)
        return page

    yield open_
    for context in contexts.values():
        context.close()


def _watch(page: Page) -> tuple[list[str], list[str]]:
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    page.on("request", lambda request: requests.append(request.url))
    return errors, requests


@pytest.fixture(scope="module")
def visit(open_page) -> Callable[[str, str], Visit]:
    from axe_playwright_python.sync_playwright import Axe

    @functools.cache
    def visit_(name: str, way: str) -> Visit:
        page = open_page(name, *WAYS[way])
        seen = Visit(
            errors=list(page.seen_errors),
            elsewhere=[u for u in page.seen_requests if not u.startswith(("file:", "data:"))],
            scroll_width=page.evaluate("document.documentElement.scrollWidth"),
            theme=page.evaluate("document.documentElement.dataset.theme"),
            ground=page.evaluate("getComputedStyle(document.body).backgroundColor"),
            images=page.evaluate(_IMAGES),
            scrolling=page.evaluate(_SCROLLING),
            violations=Axe().run(page, options=_AXE).response["violations"],
        )
        page.close()
        return seen

    return visit_


every_page = pytest.mark.parametrize("name", PAGES)
every_way = pytest.mark.parametrize("way", WAYS)


@every_way
@every_page
def test_a_page_loads_from_a_file_without_a_network_and_without_error(visit, name, way):
    seen = visit(name, way)
    assert seen.errors == []
    assert seen.elsewhere == []


@every_way
@every_page
def test_axe_finds_nothing_serious(visit, name, way):
    found = [
        (violation["id"], node["html"][:200])
        for violation in visit(name, way).violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert found == []


@every_page
def test_a_phone_scrolls_down_only_and_what_is_wider_says_so(visit, name):
    seen = visit(name, "phone")
    assert seen.scroll_width <= WAYS["phone"][0]
    for box in seen.scrolling:
        assert box["reached"] and box["named"] and box["faded"] and box["begins"], box


def test_something_is_wider_than_a_phone(visit):
    """Else the test above says nothing."""
    assert visit("objective", "phone").scrolling and visit("beta_tuned", "phone").scrolling


@every_way
@every_page
def test_the_theme_is_that_of_the_system_and_images_stand_on_the_page(visit, name, way):
    seen = visit(name, way)
    assert (seen.theme, seen.ground) == (WAYS[way][1], GROUNDS[WAYS[way][1]])
    for image in seen.images:
        assert image["loaded"]
        assert (image["filter"], image["ground"]) == ("none", "rgba(0, 0, 0, 0)")


@every_page
def test_every_figure_says_its_finding_to_those_who_cannot_see_it(visit, name):
    for image in visit(name, "desktop").images:
        assert re.search(r"\d", image["alt"]), image
        assert ".png" not in image["alt"] and len(image["alt"]) > 40
        assert image["alt"].strip() != image["caption"].strip()


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_answer_is_beside_its_figure_on_a_desktop_and_above_it_on_a_phone(open_page, name):
    page = open_page(name)
    cell = page.locator(".cell.tag_answer > .cell_output").first

    def boxes(width: int) -> tuple[dict[str, float], dict[str, float]]:
        page.set_viewport_size({"width": width, "height": 900})
        parts = [cell.locator(f"> .vae-{part}").first for part in ("answer", "figure")]
        return tuple(part.bounding_box() for part in parts)

    answer, figure = boxes(1400)
    assert answer["x"] + answer["width"] <= figure["x"] and abs(answer["y"] - figure["y"]) < 40
    answer, figure = boxes(390)
    assert answer["y"] + answer["height"] <= figure["y"] + 1
    page.close()


def test_answers_are_folded_until_they_are_asked_for_and_the_page_remembers(open_page):
    page = open_page("beta_zero")
    answer, figure = page.locator(".vae-answer"), page.locator("#fig-beta-zero-samples")
    assert answer.is_visible() and not page.get_by_role("button", name="Show the answer").count()
    page.get_by_role("button", name="Hide answers").click()
    assert not answer.is_visible() and not figure.is_visible()
    page.reload()
    assert not answer.is_visible()
    page.emulate_media(media="print")
    assert answer.is_visible()
    page.emulate_media(media="screen")
    page.get_by_role("button", name="Show the answer").focus()
    page.keyboard.press("Enter")
    assert answer.is_visible() and figure.is_visible()
    assert not page.get_by_role("button", name="Show the answer").is_visible()
    page.get_by_role("button", name="Show all answers").click()
    page.reload()
    assert answer.is_visible()
    assert page.seen_errors == []
    page.close()


def test_on_paper_the_tests_of_claims_are_unfolded(open_page):
    page = open_page("claims")
    tests = page.locator(".vae-claims details")
    assert tests.count() >= 18 and not tests.first.evaluate("e => e.open")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(tests.evaluate_all("all => all.map((each) => each.open)"))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not any(tests.evaluate_all("all => all.map((each) => each.open)"))
    page.close()


def test_the_button_turns_the_page_dark_and_leaves_the_grey_levels_of_digits(open_page):
    page = open_page("beta_ten")
    digits = page.locator("#fig-beta-ten-reconstructions img")

    def look() -> tuple[str, np.ndarray]:
        theme = page.evaluate("document.documentElement.dataset.theme")
        return theme, imread(io.BytesIO(digits.screenshot()))[..., :3].mean(axis=-1)

    before, light = look()
    button = page.locator("button.theme-switch-button:visible").first
    for _ in range(3):  # it goes round light, dark, and as the system says
        button.click()
        if page.evaluate("document.documentElement.dataset.theme") != before:
            break
    page.mouse.move(700, 880)
    after, dark = look()
    assert (before, after) == ("light", "dark")
    stroke = dark > 0.8  # the ground is black and the ink is darker than this
    assert stroke.sum() > 500
    np.testing.assert_allclose(light[stroke], dark[stroke], atol=2 / 255)
    page.close()


def test_the_keyboard_scrolls_a_wide_table(open_page):
    page = open_page("beta_tuned", 390)
    table = page.locator(".vae-more-right").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "e => e.scrollLeft > 1 && e.classList.contains('vae-more-left')",
        arg=page.locator(":focus").element_handle(),
    )
    page.close()


def test_over_http_nothing_is_missing_and_no_request_leaves_the_server(browser, quick_book):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(quick_book))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        page = browser.new_page()
        errors, requests = _watch(page)
        page.on("response", lambda got: got.status >= 400 and errors.append(got.url))
        for name in PAGES:
            page.goto(f"{address}{name}.html", wait_until="networkidle")  # a network may be loading
        page.close()
        server.shutdown()
    assert len(requests) > len(PAGES)
    assert [url for url in requests if not url.startswith((address, "data:"))] == []
    # The console says once more, without the address, what was answered with 404.
    known = ("favicon.ico", "Failed to load resource")  # browsers ask for an icon by themselves
    assert [error for error in errors if not any(each in error for each in known)] == []


def test_maths_is_typeset_and_read_out(open_page):
    page = open_page("objective")
    formulas = page.locator("mjx-container").count()
    assert formulas > 5
    assert page.locator("mjx-container mjx-assistive-mml math").count() == formulas
    page.close()


# What a page that is not ours would do, tried in a page: all of it is refused, and said.
_INTRUDE = """async () => {
  const refused = [];
  addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
  const settled = (promise) => promise.then(() => "went", () => "refused");
  const loaded = (element) => new Promise((resolve, reject) => {
    element.onload = resolve;
    element.onerror = reject;
    document.body.append(element);
  });
  const made = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
  const address = "http://127.0.0.1:9/x";
  const ways = [
    fetch(address), loaded(made("img", {src: address})), loaded(made("script", {src: address})),
    loaded(made("link", {rel: "stylesheet", href: address})),
  ];
  const outcomes = await Promise.all(ways.map(settled));
  const worker = new Worker(URL.createObjectURL(new Blob(["postMessage(6 * 7)"])));
  const answer = await new Promise((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = reject;
  });
  return {outcomes, refused: refused.sort(), answer};
}"""


def test_a_page_reaches_no_network_but_trains_in_a_worker(open_page):
    page = open_page("index")
    seen = page.evaluate(_INTRUDE)
    assert seen["outcomes"] == ["refused"] * 4
    assert seen["refused"] == ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    assert seen["answer"] == 42


@pytest.mark.parametrize("name", ["index", "explorer", "search"])
def test_what_stands_in_a_links_fragment_is_not_run(open_page, name):
    page = open_page(name)
    hostile = "<img src=x onerror=window.intruded=1>"
    page.goto(f"{page.url.partition('#')[0]}?q={hostile}#{hostile}", wait_until="load")
    page.wait_for_timeout(500)
    assert page.evaluate("window.intruded === undefined")
    assert page.locator("article img[src=x]").count() == 0
