"""The whole book as one page (`--builder singlehtml`), from which `vae-nb pdf` prints the report.

Sphinx's own builder needs four repairs here:

- A node that one extension registers for "singlehtml" hides all that others register for "html".
- Pages are put in below the first one's title; here they stand one after the other.
- Sections of two pages may have the same id ("summary"); those get the page's name before it.
- The page begins with a title and a table of contents. Browsers cannot count pages in it: the
  printer writes the numbers into the empty `<span data-page-of="ID">`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.builders.singlehtml import SingleFileHTMLBuilder
from sphinx.util.console import darkgreen
from sphinx.util.i18n import format_date
from sphinx.util.nodes import inline_all_toctrees

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Numbers = dict[str, tuple[int, ...]]


class OnePage(SingleFileHTMLBuilder):
    """Sphinx's builder with these repairs."""

    html_scaled_image_link = False  # a link to the image's own file leads nowhere on paper

    def assemble_doctree(self) -> nodes.document:
        """All pages in one tree, side by side, after a title and the contents."""
        root = self.config.root_doc
        tree = inline_all_toctrees(self, set(), root, self.env.get_doctree(root), darkgreen, [root])
        tree["docname"] = root
        self.env.resolve_references(tree, root, self)

        pages = list(tree.findall(addnodes.start_of_file))
        for page in pages:
            page.parent.remove(page)
        first = addnodes.start_of_file("", *tree.children, docname=root)
        tree.children = []
        tree += [first, *pages]
        self._make_ids_unique(tree)
        self.fix_refuris(tree)
        tree.insert(0, nodes.raw("", self._title_and_contents(), format="html"))
        return tree

    def _make_ids_unique(self, tree: nodes.document) -> None:
        """Put the page's name before ids that several pages have, and into links to them."""
        pages = {page["docname"]: page for page in tree.findall(addnodes.start_of_file)}
        found = Counter(
            each
            for page in pages.values()
            for each in {each for node in page.findall(nodes.Element) for each in node["ids"]}
        )
        self.new_ids = {
            (name, each): f"{name}-{each}"
            for name in pages
            for each, count in found.items()
            if count > 1
        }
        for name, page in pages.items():
            for node in page.findall(nodes.Element):
                for attribute in ("ids", "backrefs"):
                    node[attribute] = [self._id(name, each) for each in node.get(attribute, [])]
                if "refid" in node:
                    node["refid"] = self._id(name, node["refid"])

    def _id(self, page: str, old: str) -> str:
        return self.new_ids.get((page, old), old)

    def fix_refuris(self, tree: nodes.Node) -> None:
        """Lead references to `#document-PAGE#ID`, as Sphinx writes them, to that id."""
        for reference in tree.findall(nodes.reference):
            page, between, old = (
                reference.get("refuri", "").removeprefix("#document-").partition("#")
            )
            if between and page in self.env.all_docs:
                reference["refuri"] = f"#{self._id(page, old)}"

    def assemble_toc_secnumbers(self) -> dict[str, Numbers]:
        """Numbers of sections by `PAGE/#ID`, where Sphinx looks them up."""
        return {
            self.config.root_doc: {
                f"{page}/{'#' * bool(anchor)}{self._id(page, anchor[1:])}": number
                for page, numbers in self.env.toc_secnumbers.items()
                for anchor, number in numbers.items()
            }
        }

    def _title_and_contents(self) -> str:
        config = self.config
        date = format_date(config.html_last_updated_fmt or "%d %B %Y", language=config.language)
        lines = [
            '<div class="vae-title-page">',
            f'<p class="vae-title">{escape(config.html_title)}</p>',
            f"<p>{escape(config.author)}, {escape(date.lstrip('0'))}</p>",
            '<nav aria-label="Contents">',
            *self._contents(),
            "</nav></div>",
        ]
        return "\n".join(lines)

    def _contents(self) -> Iterator[str]:
        root = self.config.root_doc
        yield f"<ul>{self._entry(root)}</ul>"
        for toctree in self.env.get_doctree(root).findall(addnodes.toctree):
            if toctree.get("caption"):
                yield f"<p>{escape(toctree['caption'])}</p>"
            yield f"<ul>{''.join(self._entry(page) for _, page in toctree['entries'])}</ul>"

    def _entry(self, page: str) -> str:
        number = self.env.toc_secnumbers.get(page, {}).get("", ())
        title = " ".join([*(f"{each}." for each in number), self.env.titles[page].astext()])
        place = f"document-{page}"
        return (
            f'<li><a href="#{place}"><span>{escape(title)}</span>'
            f'<span data-page-of="{place}"></span></a></li>'
        )


def share_translations(app: Sphinx) -> None:
    """Give the builder all nodes that are registered for "html"."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers.get("html", {}) | handlers.get("singlehtml", {})


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the builder in the place of Sphinx's own."""
    app.add_builder(OnePage, override=True)
    app.connect("builder-inited", share_translations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
