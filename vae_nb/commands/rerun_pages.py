"""The pages of a re-run: each run as a page of the book, and an index that compares several."""

from __future__ import annotations

import base64
import contextlib
import copy
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from vae_nb.commands import child_command, literal

_COMPARED = ("reconstructions", "samples")  # figures that the index shows, by the end of their name
_RENDER = """
import os, sys
from jupyter_book.cli.main import main
from myst_nb import sphinx_ext
import pydata_sphinx_theme, sphinx.builders.html, sphinx.ext.autodoc, sphinxcontrib.bibtex
if page := os.fsdecode(sys.stdin.buffer.read()):
    main(["build", page, "-q"])
"""


def write_page(
    page: Path,
    name: str,
    notebook: NotebookNode,
    chapter: str,
    parameters: dict[str, Any],
    *,
    alone: bool,
) -> None:
    """Put the notebook into the folder ``page``, with a note below its title on what it is."""
    notebook = nbformat.v4.upgrade(copy.deepcopy(notebook))
    given = ", ".join(literal(f"{name} = {value!r}") for name, value in parameters.items())
    note = (
        f":::{{admonition}} A re-run of {literal(chapter)}\n"
        f"Run with {given or 'the parameters of the book'}. The text is the chapter's; every "
        "figure, number, answer and verdict is this run's."
    )
    if not alone:
        note += ' <a href="index.html">Compare all values</a>.'
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"{note}\n:::"))
    if "{cite" in nbformat.writes(notebook):  # in the book, a page of its own lists them
        references = "```{bibliography}\n:filter: docname in docnames\n```"
        notebook.cells.append(nbformat.v4.new_markdown_cell(references))
    page.mkdir()
    nbformat.write(notebook, page / f"{name}.ipynb")


def write_comparison(
    page: Path, notebooks: dict[str, NotebookNode], chapter: str, runs: list[dict[str, Any]]
) -> None:
    """Put ``index.md`` and the images that it shows into the folder ``page``."""
    (page / "images").mkdir(parents=True)
    betas = [run["beta"] for run in runs]
    others = ", ".join(literal(f"{k} = {v!r}") for k, v in runs[0].items() if k != "beta")
    shown = [html.escape(" ".join(str(beta).split())) for beta in betas]
    links = [f'<a href="{n}.html">{b}</a>' for n, b in zip(notebooks, shown, strict=True)]
    text = [
        f"# {literal(chapter)} at β = {', '.join(shown)}",
        f"The chapter was run once for each β{f' with {others}' if others else ''}. "
        "Each value leads to its page, with all figures, answers and verdicts.",
    ]
    if pictures := _pictures(page / "images", notebooks, links):
        text += ["## Side by side", _list_table(pictures)]
    if verdicts := _by_run([_verdicts(notebook) for notebook in notebooks.values()]):
        text += ["## Verdicts on the report's claims", _list_table([["claim", *links], *verdicts])]
    text.append("## What each run measured")
    if numbers := _by_run([_measured(notebook) for notebook in notebooks.values()]):
        text.append(_list_table([["β", *links], *numbers]))
    else:
        text.append("The chapter publishes no measured numbers.")
    (page / "index.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _pictures(
    folder: Path, notebooks: dict[str, NotebookNode], links: list[str]
) -> list[list[str]]:
    """A row for each run with its figures, after a head; the images are written to ``folder``."""
    shown = [_images(notebook) for notebook in notebooks.values()]
    figures = sorted({n for found in shown for n in found}, key=lambda n: (n.rpartition("-")[2], n))
    if not figures:
        return []
    # The part of a name before its last word is the chapter's own: needed only to tell apart.
    kinds = [figure.rpartition("-")[2] for figure in figures]
    rows = [["β", *(kinds if len(set(kinds)) == len(kinds) else figures)]]
    for name, link, found in zip(notebooks, links, shown, strict=True):
        row = [link]
        for figure in figures:
            if figure not in found:
                row.append("–")
                continue
            png, alt = found[figure]
            image = f"{name}-{figure}.png"
            (folder / image).write_bytes(png)
            row.append(
                f"```{{image}} images/{image}\n:alt: {json.dumps(alt, ensure_ascii=False)}\n"
                f":class: dark-light\n:width: 340px\n:target: {name}.html#{figure}\n```"
            )
        rows.append(row)
    return rows


def _images(notebook: NotebookNode) -> dict[str, tuple[bytes, str]]:
    """Name to (PNG, alternative text) of the figures that the index compares."""
    found = {}
    for metadata, data in _outputs(notebook):
        about = metadata.get("image/png", {}).get("vae_nb", {})
        name = about.get("name", "")
        if name.endswith(_COMPARED) and "image/png" in data:
            found[name] = (base64.b64decode(data["image/png"]), about["alt"])
    return found


def _verdicts(notebook: NotebookNode) -> dict[str, str]:
    """Claim to verdict, as the notebook's tables of claims show them."""
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for metadata, data in _outputs(notebook)
        if metadata.get("vae_nb") == "claims"
        for line in data.get("text/markdown", "").splitlines()
    ]
    return {row[0]: row[-1] for row in rows if 'class="verdict-' in row[-1]}


def _measured(notebook: NotebookNode) -> dict[str, Any]:
    """The numbers that the notebook publishes, all cells together; β itself left out."""
    from vae_nb.report.display import MEASURED

    found: dict[str, Any] = {}
    for _, data in _outputs(notebook):
        found |= data.get(MEASURED, {})
    found.pop("beta", None)
    return found


def _outputs(notebook: NotebookNode) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [
        (output.metadata, output.data)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]


def _by_run(runs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each name that any run has: its title, and each run's value or a dash."""
    from vae_nb.metrics import METRICS, number

    rows = []
    for name in dict.fromkeys(name for run in runs for name in run):
        title, show = name.replace("_", " "), number
        if name in METRICS:
            metric = METRICS[name]
            title, show = ", ".join(filter(None, (metric.title, metric.unit))), metric.show
        values = ["–" if run.get(name) is None else run[name] for run in runs]
        rows.append([title, *(each if isinstance(each, str) else show(each) for each in values)])
    return rows


def _list_table(rows: list[list[str]]) -> str:
    lines = ["````{list-table}", ":header-rows: 1"]
    for row in rows:
        for first, cell in enumerate(row):
            start = "* - " if first == 0 else "  - "
            lines.append(start + cell.replace("\n", "\n    "))
    return "\n".join([*lines, "````"])


@contextlib.contextmanager
def renderer(book: Path, site: Path, place: Path) -> Iterator[Callable[[Path, str], None]]:
    """A function that renders a page, by a process that imports what it needs from now on.

    Of a folder and the name of its page it builds a book of one page in the style of ``book``, into
    ``site``. One Sphinx build for each page: in one build for all, the re-runs of a chapter would
    share the labels of its figures and equations, and each page's references would lead to another
    page. ``place`` is where the site will be: links to the built book are relative to it.
    """
    started = [_start()]

    def render(page: Path, root: str) -> None:
        _configure(page, root, book, place)
        if started[-1].returncode is not None:  # the last one has had its page
            started.append(_start())
        said = b"".join(started[-1].communicate(os.fsencode(page)))
        built = page / "_build" / "html"
        if started[-1].returncode or not (built / f"{root}.html").is_file():
            text = said.decode(errors="replace").strip()
            raise RuntimeError(f"the page {root} could not be rendered; jupyter-book said:\n{text}")
        _mend_links(built / f"{root}.html", book, place)
        shutil.copytree(built, site, dirs_exist_ok=True)

    try:
        yield render
    finally:  # nobody writes into the folder that is removed next
        for process in started:
            process.kill()
            with process:
                pass


def _start() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(child_command(_RENDER), stdin=pipe, stdout=pipe, stderr=pipe)


def _configure(page: Path, root: str, book: Path, place: Path) -> None:
    config: dict[str, Any] = {"title": "A re-run"}  # where a folder holds chapters only
    if (book / "_config.yml").is_file():
        config = yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    sphinx = config.setdefault("sphinx", {})
    # From where they are, they find the book's style, MathJax and bibliography.
    extensions = sphinx.get("local_extensions") or {}
    sphinx["local_extensions"] = {k: str((book / v).resolve()) for k, v in extensions.items()}
    whole = book / "_build" / "html"
    if (whole / "objects.inv").is_file():
        to_book = os.path.relpath(whole, place).replace(os.sep, "/")
        mapping = {"book": [to_book, str(whole / "objects.inv")]}
        sphinx.setdefault("config", {})["intersphinx_mapping"] = mapping
    (page / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    toc = {"format": "jb-book", "root": root}
    (page / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")


def _mend_links(page: Path, book: Path, place: Path) -> None:
    """Lead links to other pages of the book to the built book; where it is not built, to nowhere.

    MyST leaves ``[text](objective.md)`` as a link to ``#objective.md`` where there is no such page,
    and for ``[](objective.md)`` makes the file's name the text, where the book has a title.
    """

    def mend(link: re.Match[str]) -> str:
        text = link["text"]
        if "<code" in text and re.sub("<[^>]*>", "", text) == link["file"] + link["anchor"]:
            text = _heading(book / link["file"])
        target = book / "_build" / "html" / f"{Path(link['file']).stem}.html"
        if not target.is_file():
            return text
        href = os.path.relpath(target, place).replace(os.sep, "/") + link["anchor"]
        return f'<a class="reference internal" href="{href}">{text}</a>'

    pattern = (
        r'<a class="reference internal" href="#(?P<file>[\w-]+\.(?:md|ipynb))'
        r'(?P<anchor>(?:#[^"]*)?)">(?P<text>.*?)</a>'
    )
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(pattern, mend, text, flags=re.DOTALL), encoding="utf-8")


def _heading(source: Path) -> str:
    """The title of a page of the book, as HTML; the name of its file where it has none."""
    text = ""
    if source.is_file():
        text = source.read_text(encoding="utf-8")
        if source.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    return html.escape(heading[1].strip() if heading else source.name)
