"""What a student hands in: worked notebooks as one PDF, or as one notebook.

    vae-nb handin exercises/autoencoder.ipynb exercises/beta_ten.ipynb

The notebooks are taken as they were saved: nothing is run. One that nobody has worked on is left
out, a cell that was not run is refused, and answers that are still empty are named.
"""

from __future__ import annotations

import argparse
import copy
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vae_nb import cache
from vae_nb.commands import book_folder, literal, pdf
from vae_nb.commands.exercises import is_unanswered

# For the printed page. MathJax 3 leaves single dollars alone unless it is told; no line of code is
# cut, no heading stands alone, and each notebook begins a page.
_HEAD = """<script>MathJax = {tex: {inlineMath: [["$", "$"]]}}</script>
<style>@media print {
  pre, pre * { white-space: pre-wrap !important; overflow-wrap: anywhere; }
  .jp-OutputArea, .jp-OutputArea-output, .jp-RenderedHTMLCommon { overflow: visible !important; }
  table { font-size: 70% !important; }
  h1, h2, h3 { break-after: avoid; }
  .hand-in { break-before: page; }
}</style>"""
_OWN = "application/vnd.vae-nb.measured+json"  # numbers for programs: nothing to print


def worked_on(notebook: NotebookNode) -> bool:
    """Whether some cell was run, or some answer given."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return any(cell.execution_count for cell in code) or any(
        cell.source.startswith("# your code") and not is_unanswered(cell) for cell in code
    )


def merge(notebooks: dict[str, NotebookNode]) -> NotebookNode:
    """The notebooks, by name, one after the other, with the outputs that they have.

    Raises :class:`ValueError` that names a notebook with a cell that was not run or that failed.
    """
    merged = nbformat.v4.new_notebook()
    for number, (name, notebook) in enumerate(notebooks.items()):
        text = f'<div class="hand-in"></div>\n\n{literal(Path(name).name)}'
        merged.cells.append(nbformat.v4.new_markdown_cell(text, id=f"{number}-name"))
        for cell in copy.deepcopy(notebook.cells):
            if cell.cell_type == "code":
                _check(name, cell)
                for output in cell.outputs:
                    output.get("data", {}).pop(_OWN, None)
            cell.id = f"{number}-{cell.id}"[:64]
            merged.cells.append(cell)
        merged.metadata = merged.metadata or notebook.metadata
    return merged


def _check(name: str, cell: NotebookNode) -> None:
    begin = cell.source.strip().partition("\n")[0][:60]
    if any(output.output_type == "error" for output in cell.outputs):
        raise ValueError(f"{name}: the cell {begin!r} ended in an error; mend it, run it, save")
    lines = [line for line in cell.source.splitlines() if not line.strip().startswith("#")]
    if "".join(lines).strip() and cell.execution_count is None:
        raise ValueError(f"{name}: the cell {begin!r} was not run; run all cells, save, try again")


def unanswered(notebook: NotebookNode) -> list[str]:
    """Of the answers that are as the student found them: the exercise, or the section."""
    found, heading = [], ""
    for cell in notebook.cells:
        headings = re.findall(r"^#+ (.+)$", cell.source, flags=re.MULTILINE)
        if cell.cell_type == "markdown" and headings:
            heading = headings[-1].replace("`", "")
        if is_unanswered(cell):
            found.append(heading)
    return found


def write(notebook: NotebookNode, output: Path) -> None:
    """Write it as a notebook, or print it as a PDF (by Chromium), as the suffix says."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() == ".ipynb":
        cache.write_atomically(output, nbformat.writes(notebook) + "\n")
        return
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(require_js_url="", jquery_url="")
    mathjax = book_folder() / "_vendor" / "mathjax" / "tex-svg-full.js"
    exporter.mathjax_url = mathjax.as_uri()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "hand-in.html"
        html, _ = exporter.from_notebook_node(notebook)
        page.write_text(html.replace("<head>", f"<head>{_HEAD}", 1), encoding="utf-8")
        pdf.print_page(page, output)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb handin``."""
    parser.add_argument(
        "notebooks",
        nargs="+",
        type=Path,
        metavar="NOTEBOOK",
        help="worked notebooks, run and saved; this command runs nothing",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("hand-in.pdf"), help="a .pdf or an .ipynb (%(default)s)"
    )


def run(given: argparse.Namespace) -> int:
    """Write the hand-in, and say what it lacks."""
    output: Path = given.output
    if output.suffix.lower() not in (".pdf", ".ipynb"):
        raise ValueError(f"--output {output} is not allowed: it must end in .pdf or .ipynb")
    if missing := [str(path) for path in given.notebooks if not path.is_file()]:
        raise FileNotFoundError(f"there is no notebook {', '.join(missing)}")
    if output.resolve() in [path.resolve() for path in given.notebooks]:
        raise ValueError(f"--output {output} is one of the notebooks; name another file")
    read = {str(path): nbformat.read(path, as_version=4) for path in _once(given.notebooks)}
    worked = {name: notebook for name, notebook in read.items() if worked_on(notebook)}
    if not worked:
        raise ValueError(f"nobody has worked on {', '.join(read)}: no cell was run")
    merged = merge(worked)
    if output.suffix.lower() == ".pdf":
        pdf.browser()
    write(merged, output)
    print(f"The hand-in: {output}")
    if left_out := [name for name in read if name not in worked]:
        print(f"left out, since no cell was run: {', '.join(left_out)}")
    for name, notebook in worked.items():
        if empty := unanswered(notebook):
            print(f"{name}: still empty: {'; '.join(empty)}")
    return 0


def _once(paths: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(paths))
