"""Whatever a page is given to say is text on it. (The pages themselves: tests/test_browser.py.)"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbformat.v4 import new_notebook

from faults import Campaign, Tried
from vae_nb.commands import handin, literal, rerun_pages
from vae_nb.explorer.widgets import LiveWidget

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "`<img src=x onerror=alert(1)>`",
    "``` <script>alert(1)</script> ```",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><svg onload=alert(1)>",
    '"><b onmouseover=alert(1)>',
    "' onerror='alert(1)",
    "[x](javascript:alert(1))",
    "{{ 7 * 7 }}",
    "\n:::\n<iframe src=x>\n",
    "\n\n# A heading\n\n<i>",
    "`",
    "\\`<i>x</i>`",
    "&lt;i&gt;",
    "{raw}`html <i>`",
]


def _active(page: str) -> list[str]:
    """Tags that do something, or that nobody of ours writes."""
    soup = BeautifulSoup(page, "html.parser")
    tags = ("img", "script", "svg", "iframe", "b", "i", "h1", "h2")
    return [str(tag)[:60] for tag in soup.find_all(tags)] + [
        str(tag)[:60] for tag in soup.find_all("a", href=re.compile("javascript"))
    ]


def group(campaign: Campaign) -> Iterator[Tried]:
    """Notes of a re-run, its index, a hand-in, the JSON of a widget."""
    place = campaign.new("pages")
    for number, text in enumerate(HOSTILE):
        markdown = MarkdownIt("commonmark", {"html": True})
        found = _active(markdown.render(f"Run with {literal(text)}."))
        same = (
            " ".join(text.split())
            == BeautifulSoup(markdown.render(literal(text)), "html.parser").get_text().strip()
        )
        yield Tried(f"literal: {text!r}", f"{found}, the same: {same}" if found or not same else "")

        page = place / f"page-{number}"
        rerun_pages.write_page(page, "x", new_notebook(), text, {"of": text}, alone=True)
        (source,) = json.loads((page / "x.ipynb").read_text())["cells"]
        yield _of("the note of a re-run", text, "".join(source["source"]))

        runs = [{"beta": text, "of": text}, {"beta": 1, "of": text}]
        index = place / f"index-{number}"
        notebooks = {"a": new_notebook(), "b": new_notebook()}
        rerun_pages.write_comparison(index, notebooks, text, runs)
        source = (index / "index.md").read_text().removeprefix("# ")
        yield _of("the index of a re-run", text, source)

        if "/" not in text:
            merged = handin.merge({f"{text}.ipynb": new_notebook()})
            yield _of("a hand-in", text, merged.cells[0].source)

        widget = LiveWidget(None, {"labels": [text]}).html()
        whole = BeautifulSoup(widget, "html.parser")
        scripts = whole.find_all("script", type="application/json")
        kept = len(scripts) == 1 and json.loads(scripts[0].string) == {"labels": [text]}
        comment = "<!--" in str(scripts[0].string)  # the browser would look for its end
        yield Tried(f"a widget: {text!r}", "" if kept and not comment else widget[:200])
        assert html


def _of(where: str, text: str, source: str) -> Tried:
    found = _active(MarkdownIt("commonmark", {"html": True}).render(source))
    found = [tag for tag in found if not tag.startswith(("<h2>What each", "<h2>Side"))]
    return Tried(f"{where}: {text!r}", f"{found}" if found else "")
