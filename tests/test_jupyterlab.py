"""A chapter in a real JupyterLab: it reads well, runs with one beta and another, has its keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IDLE = "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
OUTPUTS = """() => jupyterapp.shell.currentWidget.content.widgets
    .filter((cell) => cell.model.type === "code").map((cell) => cell.model.sharedModel.outputs)"""


@pytest.fixture(scope="module")
def chapter(quick_chapter, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lab") / "beta_ten.ipynb"
    shutil.copy(quick_chapter("beta_ten"), path)
    return path


@pytest.fixture(scope="module")
def lab(chapter, tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab that serves the folder of the chapter."""
    runtime, settings = tmp_path_factory.mktemp("runtime"), tmp_path_factory.mktemp("settings")
    paths = {"JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTERLAB_SETTINGS_DIR": str(settings)}
    options = ["--no-browser", "--allow-root", "--expose-app-in-browser", "--ServerApp.port=0"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={chapter.parent}"]
    with subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=os.environ | paths,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            yield _address(runtime)
        finally:
            server.terminate()


def _address(runtime: Path) -> str:
    for _ in range(300):
        for path in runtime.glob("jpserver-*.json"):
            return json.loads(path.read_text())["url"]
        time.sleep(0.2)
    raise TimeoutError("JupyterLab did not start within a minute")


@pytest.fixture(scope="module")
def page(browser, lab, chapter):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{lab}lab/tree/{chapter.name}")
    page.locator(".jp-Notebook .jp-MarkdownCell h1").wait_for()
    page.wait_for_function(IDLE)
    yield page
    context.close()


def run_all(page) -> list[list[dict]]:
    """The outputs of every cell of code, after all were run."""
    page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        "jupyterapp.shell.currentWidget.content.widgets.every((cell) =>"
        " cell.model.type !== 'code' || cell.model.executionCount)",
        timeout=900_000,
    )
    page.wait_for_function(IDLE)
    return page.evaluate(OUTPUTS)


def text_of(outputs: list[list[dict]]) -> str:
    return json.dumps(outputs, ensure_ascii=False)


def test_text_is_rendered_and_solutions_are_folded(page):
    page.locator("aside.admonition, aside[class*=callout], aside").first.wait_for()
    raw = page.locator(".jp-RenderedMarkdown:visible").all_inner_texts()
    assert not re.findall(r":::|\{(?:term|numref|admonition|exercise|solution)\S*", "\n".join(raw))
    folded, open_ = page.evaluate(
        """() => {
            const { widgets } = jupyterapp.shell.currentWidget.content;
            const tagged = (cell) => Boolean(cell.model.getMetadata("jupyter")?.source_hidden);
            const there = widgets.filter((cell) => cell.isAttached); // near enough to be drawn
            const wrong = there.filter((cell) => cell.inputHidden !== tagged(cell)).length;
            return [there.filter(tagged).length, wrong];
        }"""
    )
    assert folded >= 2 and open_ == 0


def test_it_runs_and_runs_again_with_another_beta(page):
    first = run_all(page)
    assert not [each for outputs in first for each in outputs if each["output_type"] == "error"]
    assert "β = 0.37" not in text_of(first)
    page.evaluate(
        """() => {
            const cells = jupyterapp.shell.currentWidget.content.widgets;
            const set = cells.findLast((c) => /^epochs = /m.test(c.model.sharedModel.source));
            set.model.sharedModel.source += "\\nbeta = 0.37";
        }"""
    )
    again = run_all(page)
    assert not [each for outputs in again for each in outputs if each["output_type"] == "error"]
    assert "β = 0.37" in text_of(again)


def test_keys_on_a_slider_move_it_and_no_cell(page):
    page.evaluate(  # into view, or it is not in the page
        """() => {
            const { content } = jupyterapp.shell.currentWidget;
            const has = (cell) => cell.model.sharedModel.source.includes("explorer.latent_pad");
            content.scrollToItem(content.widgets.findIndex(has), "start"); // never mind when
        }"""
    )
    slider = page.locator(".vae-widget input[type=range]").first
    slider.scroll_into_view_if_needed()
    slider.focus()
    cells = "jupyterapp.shell.currentWidget.content.widgets.length"
    active = "jupyterapp.shell.currentWidget.content.activeCellIndex"
    before, place, count = slider.input_value(), page.evaluate(active), page.evaluate(cells)
    for key in ("ArrowLeft", "ArrowLeft", "b", "ArrowDown", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    assert slider.input_value() != before
    assert page.evaluate(active) == place and page.evaluate(cells) == count
