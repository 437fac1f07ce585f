"""Roles that docutils and the theme write and that readers of screens stumble over.

Found by axe-core (tests/test_browser.py). Docutils gives each entry of a bibliography a role that
ARIA has withdrawn, inside a "list" that must have list items; without both, it is read as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

_WITHDRAWN = (' role="doc-biblioentry"', ' role="list"')


def mend_roles(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Take the withdrawn roles out of the page's body."""
    for role in _WITHDRAWN:
        if "body" in context:
            context["body"] = context["body"].replace(role, "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("html-page-context", mend_roles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
