"""A chapter run again with other parameters, shown in the book's style.

``vae-nb rerun beta_ten --beta 0.5 1 2`` runs ``book/beta_ten.ipynb`` once for each β by papermill
and renders each run as a page of its own; several values get an index that compares them. The
chapters themselves say which parameters and values they take. Nothing that was there before is
touched until the whole re-run has succeeded: it is made in a hidden folder and moved into place.

It is quick where it can be. A VAE goes on from the network of all betas, where one is kept (the
profile "instant"); where no book was built on this machine, models that the package brings serve
instead of being trained; and pages that would come out the same are left as they are.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vae_nb.commands import book_folder, light_imports, rerun_chapter, rerun_kernel
from vae_nb.progress import Watcher

if TYPE_CHECKING:
    from nbformat import NotebookNode

_SCRATCH = ".rerun-"
_REPLACED = "replaced"  # in a scratch folder: the last re-run, until the new one is in its place
_LOCK = "lock"  # in a scratch folder: held as long as somebody works there
_DIGEST = "digest.json"  # in a finished re-run: a digest of all that decides its pages
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
            value, and the executed ``notebooks/``. The same re-run replaces it, or leaves it as
            it is where all that decides its pages is the same.
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
    parameter_sets = [{"beta": value, **parameters} for value in values] or [parameters]
    for its in parameter_sets:
        rerun_chapter.check(source, its, _title(chapter, its))
    with contextlib.ExitStack() as stack:
        stack.enter_context(light_imports())
        ready = None
        if rerun_chapter.is_of_the_book(source):  # its kernel imports while we do
            ready = stack.enter_context(rerun_kernel.started(source))
        if profile := rerun_chapter.instant_profile(source, parameter_sets):
            parameters |= profile
            parameter_sets = [its | profile for its in parameter_sets]

        output = Path(output).resolve()
        output.mkdir(parents=True, exist_ok=True)
        place = output / _slug(chapter, ({"beta": values} if values else {}) | parameters)
        names = [_slug(chapter, its) for its in parameter_sets]
        digest = rerun_chapter.digest(source, parameter_sets)
        if not execute_only and digest and _digest_in(place) == digest:
            _log.info("nothing has changed since; delete %s to run it again", place)
            return _pages(place, names)
        # Imported now, as they take a second: a refused value need not wait for them.
        from vae_nb import archived_models
        from vae_nb.commands import rerun_ahead, rerun_pages

        # Beside its place, so that the last step is a rename.
        scratch = stack.enter_context(_scratch(output))
        if rerun_chapter.is_of_the_book(source):
            stack.enter_context(_environment(archived_models.environment()))
        by_name = dict(zip(names, parameter_sets, strict=True))
        work = [each for its in parameter_sets for each in rerun_chapter.missing(source, its)]
        work = list({vae: (vae, shown) for vae, shown in work}.values())
        expected = rerun_chapter.expected_seconds(names, work)
        watcher = stack.enter_context(Watcher(expected, _log.info))
        stack.enter_context(_environment(watcher.environment))
        if len(work) > 1:
            stack.enter_context(_environment({"OMP_NUM_THREADS": "1"}))
            stack.enter_context(rerun_ahead.helpers(work))
        site = scratch / "site"
        (site / "notebooks").mkdir(parents=True)
        if not execute_only:
            renderer = rerun_pages.renderer(source.parent, site, place)
            render = stack.enter_context(renderer)
        notebooks = {}
        for name, its in by_name.items():
            _log.info("%s", _title(chapter, its))
            target = site / "notebooks" / f"{name}.ipynb"
            notebooks[name] = _execute(source, target, its, output, ready)
            ready = None
            watcher.finish(name, "rendering" if name == names[-1] and not execute_only else "")
        if not execute_only:
            alone = len(by_name) == 1
            for name, notebook in notebooks.items():
                page = scratch / name
                rerun_pages.write_page(page, name, notebook, chapter, by_name[name], alone=alone)
                render(page, name)
            if not alone:
                rerun_pages.write_comparison(scratch / "index", notebooks, chapter, parameter_sets)
                render(scratch / "index", "index")
            (site / _DIGEST).write_text(json.dumps(digest))
        _replace(place, site, scratch / _REPLACED)

    if execute_only:
        return [place / "notebooks" / f"{name}.ipynb" for name in notebooks]
    return _pages(place, names)


def _pages(place: Path, names: Sequence[str]) -> list[Path]:
    index = ["index"] if len(names) > 1 else []
    return [place / f"{name}.html" for name in (*index, *names)]


def _chapter(chapter: str, book: Path) -> Path:
    known = {path.stem: path for path in sorted(book.glob("*.ipynb"))}
    if chapter not in known:
        raise ValueError(f"no chapter {chapter!r}; the chapters are: {', '.join(known)}")
    return known[chapter]


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """These variables in the environment of kernels."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _digest_in(place: Path) -> str:
    """The digest of the finished re-run in ``place``; "" if there is none."""
    try:
        return str(json.loads((place / _DIGEST).read_text()))
    except (OSError, ValueError):
        return ""


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


def _execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    output: Path,
    ready: rerun_kernel.Kernel | None,
) -> NotebookNode:
    """Run a chapter; ``ready`` is a kernel that has imported what it needs, if there is one."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    title = _title(source.stem, parameters)
    options: dict[str, Any] = {"extra_arguments": rerun_kernel.QUIET}
    if ready:
        options = {"km": ready.handed_over()}
    try:
        return papermill.execute_notebook(
            source,
            target,
            parameters,
            cwd=source.parent,  # where the book's own kernels run
            progress_bar=False,  # it would count cells, and most of the time is spent in one
            **options,
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
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # what it may raise
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
