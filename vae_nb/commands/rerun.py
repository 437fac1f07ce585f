"""A chapter run again with other parameters, shown in the book's style.

``vae-nb rerun beta_ten --beta 0.5 1 2`` runs ``book/beta_ten.ipynb`` once for each β by papermill
and renders each run as a page of its own; several values get an index that compares them. The
chapters themselves say which parameters and values they take. Nothing that was there before is
touched until the whole re-run has succeeded: it is made in a hidden folder and moved into place.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import papermill
from filelock import FileLock, Timeout
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from vae_nb import parameters as checks
from vae_nb.commands import book_folder, rerun_pages
from vae_nb.data import SPECIFICATIONS
from vae_nb.recipe import recipe

SHARED = {"epochs", "images", "seed", "dataset", "profile", "latent_dim"}  # of every chapter
_SCRATCH = ".rerun-"
_REPLACED = "replaced"  # in a scratch folder: the last re-run, until the new one is in its place
_LOCK = "lock"  # in a scratch folder: held as long as somebody works there
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_REAL = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)", re.ASCII | re.IGNORECASE)

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
    given: Any = betas
    if hasattr(given, "tolist"):  # NumPy and torch: papermill takes plain numbers only
        given = given.tolist()
    single = isinstance(given, str) or not isinstance(given, Iterable)
    values = [given] if single else list(dict.fromkeys(given))
    if values and "beta" in parameters:
        raise ValueError(f"beta is given twice: {values} and {parameters['beta']!r}")
    runs = [{"beta": value, **parameters} for value in values] or [parameters]
    for run in runs:
        _check(source, run)

    output = Path(output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    place = output / _slug(chapter, ({"beta": values} if values else {}) | parameters)
    with _scratch(output) as scratch:  # beside its place, so that the last step is a rename
        site = scratch / "site"
        (site / "notebooks").mkdir(parents=True)
        notebooks = {}
        for run in runs:
            name = _slug(chapter, run)
            _log.info("%s", _title(chapter, run))
            notebooks[name] = _execute(source, site / "notebooks" / f"{name}.ipynb", run, output)
        if not execute_only:
            _log.info("rendering")
            for (name, notebook), run in zip(notebooks.items(), runs, strict=True):
                page = scratch / name
                rerun_pages.write_page(page, name, notebook, chapter, run, alone=len(runs) == 1)
                rerun_pages.render(page, name, source.parent, site, place)
            if len(runs) > 1:
                rerun_pages.write_comparison(scratch / "index", notebooks, chapter, runs)
                rerun_pages.render(scratch / "index", "index", source.parent, site, place)
        _replace(place, site, scratch / _REPLACED)

    if execute_only:
        return [place / "notebooks" / f"{name}.ipynb" for name in notebooks]
    index = [place / "index.html"] if len(runs) > 1 else []
    return index + [place / f"{name}.html" for name in notebooks]


def _chapter(chapter: str, book: Path) -> Path:
    known = {path.stem: path for path in sorted(book.glob("*.ipynb"))}
    if chapter not in known:
        raise ValueError(f"no chapter {chapter!r}; the chapters are: {', '.join(known)}")
    return known[chapter]


def _check(source: Path, parameters: dict[str, Any]) -> None:
    """Refuse before a kernel starts what the chapter would refuse, by the same checks and words.

    What only this chapter asks of a value, its own kernel says. Papermill only logs a name that the
    chapter does not know, and runs it at its defaults.
    """
    known = papermill.inspect_notebook(source)
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"{source.stem} has no parameter {name!r}; it takes: {', '.join(known) or 'none'}"
            )
    if not known.keys() >= SHARED:
        return  # not a chapter of this book
    try:
        defaults = {name: ast.literal_eval(each["default"]) for name, each in known.items()}
    except (ValueError, SyntaxError):
        return  # a reader's own chapter, whose defaults are computed
    values = defaults | parameters
    try:
        shared = checks.checked(**values)
        model = ("vae", values["beta"]) if "beta" in values else ("ae", 0.0)
        recipe(*model, **shared)
        if "lower" in values:
            checks.neighbours(values["beta"], values["lower"], values["higher"])
        if "compared" in values:
            checks.betas("compared", values["compared"])
        if "start_labels" in values:
            classes = SPECIFICATIONS[values["dataset"]].classes
            checks.label_pairs(values["start_labels"], values["end_labels"], classes)
    except ValueError as error:
        raise ValueError(f"{error} ({_title(source.stem, parameters)})") from None


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


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A hidden folder in ``output``, locked and in the end removed; dead ones are removed first."""
    for dead in output.glob(f"{_SCRATCH}*"):
        if not (dead / _LOCK).exists() and time.time() - dead.stat().st_mtime < 60:
            continue  # just made
        with contextlib.suppress(Timeout, OSError), FileLock(dead / _LOCK, timeout=0):
            for kept in dead.glob(f"{_REPLACED}/*"):
                with contextlib.suppress(OSError):  # killed before the new one was in its place
                    kept.rename(output / kept.name)
            shutil.rmtree(dead, ignore_errors=True)  # its process was killed
    with tempfile.TemporaryDirectory(dir=output, prefix=_SCRATCH) as name:
        folder = Path(name)
        with FileLock(folder / _LOCK):
            yield folder


def _replace(place: Path, site: Path, replaced: Path) -> None:
    """Move ``site`` to ``place``; what is there, perhaps from another process, moves away."""
    replaced.mkdir()
    while True:
        with contextlib.suppress(FileNotFoundError):
            place.rename(replaced / place.name)
        try:
            site.rename(place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(replaced / place.name, ignore_errors=True)


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


def number(text: str) -> float:
    """A number as a reader of the book writes it: 3, 0.5, 1e-3, inf, nan.

    Python's further spellings (1_0, 0x1, digits of other scripts) are refused, as they are rather
    slips. Raises :class:`argparse.ArgumentTypeError` that says so.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    hint = "; a decimal point is a point, as in 0.5" if "," in text else ""
    raise argparse.ArgumentTypeError(f"{text!r} is not a plain number{hint}")


def value(text: str) -> Any:
    """A parameter from the command line: a plain number, a literal of Python, or else the text.

    Raises :class:`argparse.ArgumentTypeError` for a number in another spelling.
    """
    with contextlib.suppress(argparse.ArgumentTypeError):
        return number(text)
    try:
        tree = ast.parse(text, mode="eval")
        found = ast.literal_eval(tree)
    except (ValueError, SyntaxError):
        with contextlib.suppress(ValueError):
            float(text)  # digits of another script
            number(text)
        return text
    if isinstance(found, tuple):
        hint = "a decimal point is a point, as in 0.5, and a list stands in brackets, as in [0, 5]"
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a list: {hint}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, complex):
            number(ast.get_source_segment(text, node) or text)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb rerun``."""
    parser.add_argument("chapter", help="name of a chapter, such as beta_ten")
    parser.add_argument("--beta", nargs="+", type=number, default=[], help="one page for each")
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


def run(given: argparse.Namespace) -> int:
    """Re-run, and print the paths of what was made."""
    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    try:
        parameters = {name: value(text) for name, text in given.parameters}
    except argparse.ArgumentTypeError as error:
        raise ValueError(error) from None
    made = rerun(
        given.chapter,
        given.beta,
        given.output,
        book=given.book,
        execute_only=given.execute_only,
        **parameters,
    )
    print(*made, sep="\n")
    return 0
