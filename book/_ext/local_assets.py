"""The book's own style and MathJax, from this folder: a built page asks no network for anything.

Paths are made absolute, so that pages from elsewhere (re-runs) built with this extension look and
cite like the book. MathJax is not in _static: Jupyter Book loads every script of that folder on
every page, Sphinx loads MathJax (`mathjax_path`) only where there are equations.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.config import Config

BOOK = Path(__file__).resolve().parents[1]


def use_own_files(app: Sphinx, config: Config) -> None:
    """Point Sphinx to the book's style, MathJax and bibliography."""
    config.html_static_path = [str(BOOK / "_static"), str(BOOK / "_vendor")]
    config.html_css_files = sorted(file.name for file in (BOOK / "_static").glob("*.css"))
    config.html_js_files = sorted(file.name for file in (BOOK / "_static").glob("*.js"))
    config.bibtex_bibfiles = [str(BOOK / name) for name in config.bibtex_bibfiles]


def no_dead_buttons(app: Sphinx, config: Config) -> None:
    """Leave the launch buttons out while `repository.url` is empty: they would lead nowhere.

    (The theme would stop with an error.)
    """
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options["launch_buttons"] = {}


def say_preview(app: Sphinx, config: Config) -> None:
    """Let every page of `vae-nb preview` say that its models were not trained for it."""
    if os.environ.get("VAE_NB_PREVIEW"):
        config.html_theme_options["announcement"] = (
            "A preview with archived models. <b>make book</b> trains them here."
        )


# A page takes from its own place and from itself, and asks nothing of a network; scripts that train
# in the page run in workers made of its own text.
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self' file: 'unsafe-inline'" for kind in ("script", "style")),
        "img-src 'self' file: data: blob:",
        "font-src 'self' file: data:",
        "worker-src blob:",
        "form-action 'self' file:",
        "base-uri 'none'",
    ]
)


def forbid_network(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Put the policy at the head of every page."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    context["metatags"] = policy + context.get("metatags", "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, before it turns the lists of files into its own form (at 800)."""
    app.connect("config-inited", use_own_files)
    app.connect("config-inited", no_dead_buttons)
    app.connect("config-inited", say_preview)
    app.connect("html-page-context", forbid_network)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
