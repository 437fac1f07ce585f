"""What a student hands in: worked notebooks as one PDF, or as one notebook.

    vae-nb handin exercises/autoencoder.ipynb exercises/beta_ten.ipynb

The notebooks are taken as they were saved: nothing is run. A cell that was not run is refused, and
an exercise that nobody has worked on is named.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vae_nb import cache
from vae_nb.commands import book_folder, pdf

KINDS = (".pdf", ".ipynb")
# MathJax 3 leaves single dollars alone unless it is told.
_MATHS = """<script>MathJax = {tex: {inlineMath: [["$", "$"]]}}</script>"""


def merge(paths: Sequence[Path]) -> NotebookNode:
    """The notebooks one after the other, with the outputs that they have.

    Raises :class:`ValueError` that names a notebook with a cell that was not run or that failed.
    """
    merged = nbformat.v4.new_notebook()
    for number, path in enumerate(paths):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code" and any(o.output_type == "error" for o in cell.outputs):
                raise ValueError(f"{path}: the cell {_begin(cell)!r} ended in an error; mend it")
            if cell.cell_type == "code" and _code(cell) and cell.execution_count is None:
                raise ValueError(
                    f"{path}: the cell {_begin(cell)!r} was not run; run all cells, save, try again"
                )
            cell.id = f"{number}-{cell.id}"[:64]
        merged.cells += copy.deepcopy(notebook.cells)
        merged.metadata = merged.metadata or notebook.metadata
    return merged


def _code(cell: NotebookNode) -> str:
    lines = [line for line in cell.source.splitlines() if not line.strip().startswith("#")]
    return "\n".join(lines).strip()


def _begin(cell: NotebookNode) -> str:
    return cell.source.strip().partition("\n")[0][:60]


def is_unanswered(cell: NotebookNode) -> bool:
    """Whether a cell for an answer is as the student found it."""
    if cell.cell_type == "code":
        return cell.source.startswith("# your code") and not _code(cell)
    return cell.source.strip() == "*Your answer:*"


def write(notebook: NotebookNode, output: Path) -> None:
    """Write it as a notebook, or print it as a PDF (by Chromium), as the suffix says."""
    if output.suffix == ".ipynb":
        cache.write_atomically(output, nbformat.writes(notebook) + "\n")
        return
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(require_js_url="", jquery_url="")
    mathjax = book_folder() / "_vendor" / "mathjax" / "tex-svg-full.js"
    exporter.mathjax_url = mathjax.as_uri()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "hand-in.html"
        html, _ = exporter.from_notebook_node(notebook)
        page.write_text(html.replace("<head>", f"<head>{_MATHS}", 1), encoding="utf-8")
        pdf.print_page(page, output)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb handin``."""
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument(
        "--output", type=Path, default=Path("hand-in.pdf"), help="a .pdf or an .ipynb (%(default)s)"
    )


def run(given: argparse.Namespace) -> int:
    """Write the hand-in, and say what it lacks."""
    if given.output.suffix not in KINDS:
        raise ValueError(f"--output {given.output} is not allowed: it must end in .pdf or .ipynb")
    if given.output.suffix == ".pdf":
        pdf.browser()
    merged = merge(given.notebooks)
    write(merged, given.output)
    print(f"The hand-in: {given.output}")
    if unanswered := sum(map(is_unanswered, merged.cells)):
        print(f"{unanswered} of its cells for answers are still empty")
    return 0
