"""Run a chapter again with other parameters and show the result in the book's style.

``python -m vae_nb.rerun beta_ten --beta 0.5 1 2`` runs ``book/beta_ten.ipynb`` once for each β by
papermill and renders each run as a page of its own; several values get an index that compares them.
The chapters themselves say which parameters and values they take. Nothing that was there before is
touched until the whole re-run has succeeded: it is made in a hidden folder and moved into place.
"""

from __future__ import annotations

import argparse
import ast
import base64
import copy
import hashlib
import html
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

MEASURED = "application/vnd.vae-nb.measured+json"
"""MIME type under which a chapter publishes its measured figures: a flat {name: number}."""

_COMPARED = ("reconstructions", "samples")  # figures that the index shows, by the end of their name
_JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"

_log = logging.getLogger(__name__)


def rerun(
    chapter: str,
    betas: float | Iterable[float] = (),
    /,
    output: str | Path = "rerun",
    *,
    book: str | Path | None = None,
    execute_only: bool = False,
    **parameters: Any,
) -> list[Path]:
    """Run ``chapter`` once for each of ``betas`` and render the pages.

    Args:
        chapter: name of a notebook of the book, without its ending.
        betas: values of the chapter's ``beta``, or a single one; without any, the chapter runs once
            at its own β (or has none).
        output: folder that receives one folder for this re-run: ``index.html``, one page for each
            value, and the executed ``notebooks/``. The same re-run replaces it.
        book: the folder of the chapters, if they are not where this package was installed from.
        execute_only: leave the pages out and make the notebooks only.
        **parameters: any other parameters of the chapter.

    Returns:
        The pages in the order of ``betas``, after the index where there are several; with
        ``execute_only`` the notebooks.

    Raises:
        FileNotFoundError: the chapters are not there.
        ValueError: no such chapter, no such parameter, or the chapter refused a value.
        RuntimeError: a cell failed for another reason, or the page could not be rendered.
    """
    source = _chapter(chapter, book_folder(book))
    if hasattr(betas, "tolist"):  # NumPy and torch: papermill takes plain numbers only
        betas = betas.tolist()
    single = isinstance(betas, str) or not isinstance(betas, Iterable)
    values = [betas] if single else list(dict.fromkeys(betas))
    if values and "beta" in parameters:
        raise ValueError(f"beta is given twice: {values} and {parameters['beta']!r}")
    runs = [{"beta": value, **parameters} for value in values] or [parameters]
    _check_names(source, runs[0])

    output = Path(output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    place = output / _slug(chapter, ({"beta": values} if values else {}) | parameters)
    # Beside its place, so that the last step is a rename.
    with tempfile.TemporaryDirectory(dir=output, prefix=".rerun-") as scratch:
        site = Path(scratch) / "site"
        (site / "notebooks").mkdir(parents=True)
        notebooks = {}
        for run in runs:
            name = _slug(chapter, run)
            _log.info("%s", _title(chapter, run))
            notebooks[name] = _execute(source, site / "notebooks" / f"{name}.ipynb", run, output)
        if not execute_only:
            _log.info("rendering")
            for (name, notebook), run in zip(notebooks.items(), runs, strict=True):
                page = Path(scratch) / name
                _write_page(page, name, notebook, chapter, run, alone=len(runs) == 1)
                _render(page, name, source.parent, site, place)
            if len(runs) > 1:
                page = Path(scratch) / "index"
                _write_comparison(page, notebooks, chapter, runs)
                _render(page, "index", source.parent, site, place)
        if place.exists():
            place.rename(Path(scratch) / "replaced")
        site.rename(place)

    if execute_only:
        return [place / "notebooks" / f"{name}.ipynb" for name in notebooks]
    index = [place / "index.html"] if len(runs) > 1 else []
    return index + [place / f"{name}.html" for name in notebooks]


def book_folder(book: str | Path | None) -> Path:
    """The folder of the chapters: ``book``, or else that beside the package.

    Raises :class:`FileNotFoundError` that says where they come from, if they are not there.
    """
    folder = Path(book).resolve() if book else Path(__file__).resolve().parents[1] / "book"
    if not (folder / "_config.yml").is_file():
        raise FileNotFoundError(
            f"the chapters are not in {folder}: they come with a clone of the repository, not with "
            "an installed vae_nb. Run `pip install -e .` in a clone, or give the book's folder "
            "(book=..., --book ...)."
        )
    return folder


def _chapter(chapter: str, book: Path) -> Path:
    known = {path.stem: path for path in sorted(book.glob("*.ipynb"))}
    if chapter not in known:
        raise ValueError(f"no chapter {chapter!r}; the chapters are: {', '.join(known)}")
    return known[chapter]


def _check_names(source: Path, parameters: dict[str, Any]) -> None:
    # Papermill only logs a name that the chapter does not know, and runs it at its defaults.
    known = papermill.inspect_notebook(source)
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"{source.stem} has no parameter {name!r}; it takes: {', '.join(known) or 'none'}"
            )


def _slug(chapter: str, parameters: dict[str, Any]) -> str:
    """Name of a file: the chapter and its parameters, as far as a file system is happy with."""
    words = [chapter]
    for name, value in parameters.items():
        words += [name, *map(str, value if isinstance(value, list) else [value])]
    slug = re.sub(r"[^\w.+-]+", "-", "-".join(words))
    if len(slug) <= 100:
        return slug
    return f"{slug[:80]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"


def _title(chapter: str, parameters: dict[str, Any]) -> str:
    given = ", ".join(f"{name} = {value!r}" for name, value in parameters.items())
    return f"{chapter}: {given}" if given else chapter


def _execute(source: Path, target: Path, parameters: dict[str, Any], output: Path) -> NotebookNode:
    title = _title(source.stem, parameters)
    try:
        return papermill.execute_notebook(
            source,
            target,
            parameters,
            cwd=source.parent,  # where the book's own kernels run
            progress_bar=sys.stderr.isatty(),
            # Each kernel would warn that it talks plain TCP, and some that they were stopped.
            extra_arguments=["--log-level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        reason = " ".join(error.evalue.split())
        where = f"({title}; In [{error.exec_count}]"
        if error.ename == "ValueError":  # a refused parameter, as a rule
            raise ValueError(f"{reason} {where})") from None
        kept = output / "failed" / target.name
        kept.parent.mkdir(exist_ok=True)
        os.replace(target, kept)
        raise RuntimeError(f"{error.ename}: {reason} {where}; traceback in {kept})") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise RuntimeError(f"{error} ({title})") from None


def _write_page(
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
    given = ", ".join(f"`{name} = {value!r}`" for name, value in parameters.items())
    note = (
        f":::{{admonition}} A re-run of `{chapter}`\n"
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


def _write_comparison(
    page: Path, notebooks: dict[str, NotebookNode], chapter: str, runs: list[dict[str, Any]]
) -> None:
    """Put ``index.md`` and the images that it shows into the folder ``page``."""
    images = page / "images"
    images.mkdir(parents=True)
    betas = [run["beta"] for run in runs]
    others = ", ".join(f"`{k} = {v!r}`" for k, v in runs[0].items() if k != "beta")
    links = [f'<a href="{n}.html">{b}</a>' for n, b in zip(notebooks, betas, strict=True)]

    measured = [_measured(notebook) for notebook in notebooks.values()]
    names = list(dict.fromkeys(name for figures in measured for name in figures))
    text = [
        f"# `{chapter}` at β = {', '.join(map(str, betas))}",
        f"The chapter was run once for each β{f' with {others}' if others else ''}. "
        "Each value leads to its page, with all figures, answers and verdicts.",
        "## What each run measured",
    ]
    rows = [["β", *links]]
    for name in names:
        rows.append([name.replace("_", " "), *(_number(figures.get(name)) for figures in measured)])
    text.append(_list_table(rows))
    if not names:
        text.append("The chapter publishes no measured figures.")

    shown = [_images(notebook) for notebook in notebooks.values()]
    figures = sorted({n for found in shown for n in found}, key=lambda n: (n.rpartition("-")[2], n))
    if figures:
        # The part of a name before its last word is the chapter's own: needed only to tell apart.
        kinds = [figure.rpartition("-")[2] for figure in figures]
        unique = len(set(kinds)) == len(kinds)
        rows = [["β", *(kinds if unique else figures)]]
        for name, link, found in zip(notebooks, links, shown, strict=True):
            row = [link]
            for figure in figures:
                if figure not in found:
                    row.append("–")
                    continue
                png, alt = found[figure]
                image = f"{name}-{figure}.png"
                (images / image).write_bytes(png)
                row.append(
                    f"```{{image}} images/{image}\n:alt: {json.dumps(alt, ensure_ascii=False)}\n"
                    f":class: dark-light\n:width: 340px\n:target: {name}.html#{figure}\n```"
                )
            rows.append(row)
        text += ["## Side by side", _list_table(rows)]
    (page / "index.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _measured(notebook: NotebookNode) -> dict[str, Any]:
    """What the notebook published under ``MEASURED``, all cells together; β itself left out."""
    found: dict[str, Any] = {}
    for _, data in _outputs(notebook):
        found |= data.get(MEASURED, {})
    found.pop("beta", None)
    return found


def _images(notebook: NotebookNode) -> dict[str, tuple[bytes, str]]:
    """Name to (PNG, alternative text) of the figures that the index compares."""
    found = {}
    for metadata, data in _outputs(notebook):
        about = metadata.get("image/png", {}).get("vae_nb", {})
        name = about.get("name", "")
        if name.endswith(_COMPARED) and "image/png" in data:
            found[name] = (base64.b64decode(data["image/png"]), about["alt"])
    return found


def _outputs(notebook: NotebookNode) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [
        (output.metadata, output.data)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]


def _number(value: Any) -> str:
    if value is None or value != value:  # not measured, or not a number
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _list_table(rows: list[list[str]]) -> str:
    lines = ["````{list-table}", ":header-rows: 1"]
    for row in rows:
        for first, cell in enumerate(row):
            start = "* - " if first == 0 else "  - "
            lines.append(start + cell.replace("\n", "\n    "))
    return "\n".join([*lines, "````"])


def _render(page: Path, root: str, book: Path, site: Path, place: Path) -> None:
    """Build the folder ``page`` as a book of one page in the style of ``book``, into ``site``.

    One Sphinx build for each page: in one build for all, the re-runs of a chapter would share the
    labels of its figures and equations, and each page's references would lead to another page.
    ``place`` is where the site will be: links to the built book are relative to it.
    """
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

    done = subprocess.run(
        [sys.executable, "-c", _JUPYTER_BOOK, "build", str(page), "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    built = page / "_build" / "html"
    if done.returncode or not (built / f"{root}.html").is_file():
        said = (done.stdout + done.stderr).strip()
        raise RuntimeError(f"the page {root} could not be rendered; jupyter-book said:\n{said}")
    _mend_links(built / f"{root}.html", book, place)
    shutil.copytree(built, site, dirs_exist_ok=True)


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


def _value(text: str) -> Any:
    """A parameter from the command line: a Python literal where it is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return float(text)  # nan and inf: the chapter says what it thinks of them
    except ValueError:
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 1 after an error, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m vae_nb.rerun",
        description="Run a chapter of the book with other parameters and render it as a page.",
    )
    parser.add_argument("chapter", help="name of a chapter, such as beta_ten")
    parser.add_argument("--beta", nargs="+", type=_value, default=[], help="one page for each")
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        dest="parameters",
        metavar=("NAME", "VALUE"),
        help="another parameter of the chapter; may be repeated",
    )
    parser.add_argument("--output", default="rerun", help="folder for the results (%(default)s)")
    parser.add_argument("--execute-only", action="store_true", help="make no pages")
    parser.add_argument("--book", help="folder of the chapters, if not beside the package")
    given = parser.parse_args(arguments)

    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    parameters = {name: _value(value) for name, value in given.parameters}
    try:
        made = rerun(
            given.chapter,
            given.beta,
            given.output,
            book=given.book,
            execute_only=given.execute_only,
            **parameters,
        )
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(*made, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
