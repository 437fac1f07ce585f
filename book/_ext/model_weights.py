"""The explorer's networks, in files of their own: a page is read without waiting for them.

A `vae_nb.explorer.LiveWidget` is one piece of HTML that holds all it needs, so that it works in any
notebook. Here its parts move, when a page is written, into files named by their content, which all
pages share: a network, or the data of the playground, becomes a script that explorer.js loads when
the reader comes near (plain scripts, because fetch and modules are blocked for pages opened from a
file), the explorer's code one deferred script (a widget's own code another), the static figure an
image. The style stays, once for each page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "_explorer"
_NETWORK = re.compile(r'<script type="text/plain" data-model="(\w+)">(.*?)</script>', re.DOTALL)
_CODE = re.compile(r'<script class="vae-code">(.*?)</script>', re.DOTALL)
_STILL = re.compile(r'(<img class="vae-still[^"]*" src=")data:image/png;base64,([^"]+)"')
_STYLE = re.compile(r"<style>.*?</style>\n?", re.DOTALL)


def move_out(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Move the parts of the page's widgets into files of the output folder."""
    folder = Path(app.outdir) / FOLDER
    up = "../" * page.count("/")

    def keep(name: str, content: bytes) -> str:
        file = folder / name
        if not file.exists():
            folder.mkdir(exist_ok=True)
            file.write_bytes(content)
        return f"{up}{FOLDER}/{name}"

    def network(match: re.Match[str]) -> str:
        digest, content = match.groups()
        script = f'vaeExplorer.receive("{digest}", {content});\n'
        file = keep(f"network-{digest}.js", script.encode())
        return f'<script type="text/plain" data-model="{digest}" data-file="{file}"></script>'

    codes = set()  # of this page

    def code(match: re.Match[str]) -> str:
        content = match[1].encode()
        if content in codes:
            return ""
        codes.add(content)
        return f'<script defer src="{keep(f"explorer-{_digest(content)}.js", content)}"></script>'

    def still(match: re.Match[str]) -> str:
        content = base64.b64decode(match[2])
        return f'{match[1]}{keep(f"still-{_digest(content)}.png", content)}"'

    raw = (node for node in doctree.findall(nodes.raw) if node.get("format") == "html")
    widgets = [node for node in raw if '<div class="vae-explorer">' in node.astext()]
    for index, node in enumerate(widgets):
        text = node.astext()
        if index:  # the page's first widget has it
            text = _STYLE.sub("", text)
        text = _STILL.sub(still, _CODE.sub(code, _NETWORK.sub(network, text)))
        node.replace_self(nodes.raw("", text, format="html"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx: pages are resolved for every builder, also from a kept environment."""
    app.connect("doctree-resolved", move_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
