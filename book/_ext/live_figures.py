"""Figures whose caption, number, name and alternative text come from the run.

MyST-NB takes these from a cell's metadata, where they are fixed before the cell has run. A
`vae_nb.figures.LiveFigure` sends them with its picture instead:

- image/png with metadata {"image/png": {"vae_nb": {"name", "caption", "alt"}, "width"}}: a numbered
  figure with the caption as MyST, cited from any page by {numref}`name`;
- text/html with metadata {"text/html": {"vae_nb": ...}}, a `vae_nb.explorer.LiveWidget`: such a
  figure, too, but live (see model_weights for what becomes of its networks);
- text/markdown with metadata {"vae_nb": "caption"}: the same caption for readers without this
  extension, so nothing here; nor for {"vae_nb": "measured"}, numbers for programs;
- text/markdown with metadata {"vae_nb": "answer"}, "claims", "basis" or "outlier": wrapped for
  the layout in _static/vae_nb.css; "outlier", a number outside of what the archive predicts, is a
  warning of the build as well.

Everything else is MyST-NB's; but an image without an alternative text is a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer, load_mime_renders

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class LiveOutputs:
    """A MyST-NB plug-in for outputs: returns nodes, or None to leave the output to MyST-NB."""

    mime_priority_overrides: tuple[Any, ...] = ()

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """Render one representation (one MIME type) of one output."""
        role = data.output_metadata.get("vae_nb")
        if role in ("caption", "measured"):
            return []
        if role == "outlier" and data.mime_type == "text/markdown":
            renderer.logger.warning(data.string, subtype="archive", line=data.line)
        if role in ("answer", "claims", "basis", "outlier") and data.mime_type == "text/markdown":
            return [nodes.container("", *renderer.render_markdown(data), classes=[f"vae-{role}"])]
        is_image = data.mime_type.startswith("image/")
        live = data.output_metadata.get(data.mime_type, {}).get("vae_nb")
        if not is_image and (live is None or data.mime_type != "text/html"):
            return None
        if live is None or inline:
            options = renderer.renderer.get_cell_level_config(
                "render_image_options", data.cell_metadata, line=data.line
            )
            _warn_if_missing(renderer, data, ["alt"], options)
            return None
        _warn_if_missing(renderer, data, ["name", "caption", "alt"], live)
        if is_image:
            (content,) = renderer.render_image(data)  # writes the file, takes the width
            content["alt"] = live.get("alt", "")
            content["classes"] += ["dark-light"]  # the theme then leaves its grey levels alone
        else:
            content = nodes.raw("", data.string, format="html")
        return [live_figure(renderer, data, live, content)]


def live_figure(
    renderer: NbElementRenderer, data: MimeData, live: dict[str, str], content: nodes.Element
) -> nodes.figure:
    """Return the figure node: the content, and its caption parsed as a line of MyST."""
    figure = nodes.figure("", content, classes=["vae-figure"])

    text = live.get("caption", "")
    caption = nodes.caption(text, "")
    with renderer.renderer.current_node_context(caption):
        renderer.renderer.nested_render_text(text, data.line or 0, inline=True)
    figure += caption

    if live.get("name"):
        figure["names"].append(nodes.fully_normalize_name(live["name"]))
        renderer.renderer.document.note_explicit_target(figure, figure)
    return figure


def _warn_if_missing(
    renderer: NbElementRenderer, data: MimeData, keys: list[str], given: dict[str, str]
) -> None:
    missing = [key for key in keys if not str(given.get(key) or "").strip()]
    if missing:
        renderer.logger.warning(
            f"an image of cell {(data.cell_index or 0) + 1} has no {', no '.join(missing)}; "
            "show it as a LiveFigure",
            subtype="image",
            line=data.line,
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the plug-in. The official way, an entry point, would need an installed package."""
    if LiveOutputs not in load_mime_renders():
        load_mime_renders().append(LiveOutputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
