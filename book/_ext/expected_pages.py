"""A chapter without a live figure or a table of claims, or one that is missing, fails the build.

The part "Chapters" of `_toc.yml` says which there are to be. A page that has lost its figures would
look finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes
from sphinx.errors import SphinxError

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def chapters(toc: dict[str, Any]) -> list[str]:
    """The pages of the part "Chapters"."""
    parts = [part for part in toc.get("parts", []) if part.get("caption") == "Chapters"]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def check(app: Sphinx, error: Exception | None) -> None:
    """Raise SphinxError that names the chapters in want of a page or of a figure."""
    toc = app.srcdir / "_toc.yml"
    if error is not None or app.builder.format != "html" or not toc.is_file():
        return
    expected = chapters(yaml.safe_load(toc.read_text(encoding="utf-8")))
    built = [name for name in expected if name in app.env.found_docs]
    if missing := sorted(set(expected) - set(built)):
        raise SphinxError(f"_toc.yml names chapters that are not there: {', '.join(missing)}")
    bare = [name for name in built if not any(map(is_live, app.env.get_doctree(name).findall()))]
    if bare:
        raise SphinxError(f"chapters without a live figure or a table of claims: {', '.join(bare)}")


def is_live(node: nodes.Node) -> bool:
    """Whether it is a figure, or a table of claims, that its page has computed."""
    classes = node["classes"] if isinstance(node, nodes.Element) else []
    return "vae-figure" in classes or "vae-claims" in classes


def setup(app: Sphinx) -> dict[str, bool]:
    """Look when all pages are written."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
