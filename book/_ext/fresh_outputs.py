"""Outputs that are never stale, and a failing cell that is always named.

jupyter-cache knows a page by its cells and its kernel; it does not see that a module which they
import has changed. So a digest of the page's modules, and of those that these import, is put beside
the kernel's name: after an edit of a module the pages that import it run again (runs that were
fitted before come from the cache of the package).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from myst_nb.core.execute import ExecutionError, NotebookClientCache
from nbclient.exceptions import CellExecutionError, DeadKernelError
from sphinx.errors import SphinxError
from sphinx.util import logging

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

LOGGER = logging.getLogger(__name__)
BOOK = Path(__file__).resolve().parents[1]
ROOT = BOOK.parent
PACKAGE = "vae_nb"
REFERENCE = "api"
KEPT = 100  # outputs of pages, the last ones that were used
OUTPUTS = ".jupyter_cache"  # where, in the folder of the built book
EXECUTED = "executed"  # where in there jupyter-cache has the notebooks
SUMS = ".checksums.json"  # beside it: of what a build leaves for the next one
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class PageFailed(SphinxError):
    """A cell of a page failed."""

    category = "Page failed"


class FolderRefused(SphinxError):
    """The folder of the built book cannot be used."""

    category = "Folder refused"


def enter(app: Sphinx, config: Config) -> None:
    """Keep a second build out, and let nobody else's files in: Sphinx keeps its pages as pickles.

    Reading a pickle runs what is in it. (Outputs, in jupyter-cache, are notebooks.)
    """
    build, kept = Path(app.outdir).parent, Path(app.doctreedir)
    for place in (build, kept, kept / "environment.pickle") if hasattr(os, "getuid") else ():
        if not place.exists():
            continue
        if (found := place.stat()).st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
            raise FolderRefused(
                f"{place} belongs to somebody else, or everybody may write there; a build would "
                "run what they put in. Remove it (make clean) and build again"
            )
    lock = FileLock(build / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderRefused(f"another build is at work in {build}; wait until it ends") from None
    discard_damaged(build, kept)
    app.connect("build-finished", lambda app, error: error or note_sums(build, kept))
    app.connect("build-finished", lambda app, error: lock.release())


def sums(folder: Path) -> dict[str, str]:
    """Digests of all files in a folder, by path within it; "" for what is no plain file."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in sorted(folder.rglob("*"))
    }


def note_sums(build: Path, kept: Path) -> None:
    """Note what a build that has succeeded leaves for the next one."""
    found = {"pages": sums(kept), "outputs": sums(build / OUTPUTS / EXECUTED)}
    beside = build / f"{SUMS}.new"
    beside.write_text(json.dumps(found), encoding="utf-8")
    if (build / SUMS).is_dir():
        _remove(build / SUMS)
    os.replace(beside, build / SUMS)


def discard_damaged(build: Path, kept: Path) -> None:
    """Remove what the last build did not leave so: Sphinx would unpickle it, or pages show it.

    What Sphinx keeps has to be that of the last build which succeeded. Outputs may be newer, and
    then have to be notebooks.
    """
    try:
        known = json.loads((build / SUMS).read_text(encoding="utf-8"))
        pages, outputs = dict(known["pages"]), dict(known["outputs"])
    except (OSError, ValueError, TypeError, LookupError):
        pages, outputs = {}, {}
    if kept.exists() and (not kept.is_dir() or sums(kept) != pages):
        LOGGER.info("pages kept by an earlier build are not as it left them: all are read again")
        _remove(kept)
    place = build / OUTPUTS
    if place.exists() and _damaged(place, outputs):
        LOGGER.info("outputs kept by an earlier build are damaged and removed")
        _remove(place)


def _damaged(place: Path, known: dict[str, str]) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(place / "global.db")) as database:
            if database.execute("pragma integrity_check").fetchone() != ("ok",):
                return True
            for (name,) in database.execute("select hashkey from nbcache"):
                if not (place / EXECUTED / name / "base.ipynb").is_file():
                    return True
        for path, digest in sums(place / EXECUTED).items():
            if path in known and known[path] != digest:
                return True
            if path not in known and path.endswith("base.ipynb"):
                nbformat.read(place / EXECUTED / path, as_version=4)
    except Exception:  # whatever a wrong file leads to
        return True
    return False


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def note_size(app: Sphinx, error: Exception | None) -> None:
    """Say when the cache of models has grown large."""
    try:
        from vae_nb.commands.cache import note
    except ImportError:  # a book whose package is not ours
        return
    if error is None and (text := note()):
        LOGGER.info(text)


def digest(files: Iterable[Path]) -> str:
    """Return 16 hex digits that change with the bytes or the names (under ROOT) of `files`."""
    total = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        total.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return total.hexdigest()[:16]


def sources(code: str, found: set[Path] | None = None) -> set[Path]:
    """The files of the package that Python source imports, directly or not, and their data files.

    All of it for source that is not plain Python.
    """
    found = set() if found is None else found
    if (names := _imports(code)) is None:
        return set((ROOT / PACKAGE).rglob("*.py"))
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            place = ROOT.joinpath(*parts[:depth])
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file() and file not in found:
                    found.add(file)
                    # A file of data belongs to the module of its name, or to all of its folder.
                    pattern = f"{file.stem}.*" if file.parent == ROOT / PACKAGE else "*"
                    data = (".md", ".json", ".js", ".css")
                    found |= {each for each in file.parent.glob(pattern) if each.suffix in data}
                    sources(file.read_text("utf-8"), found)
    return found


@functools.lru_cache(1000)  # pages share most modules
def _imports(code: str) -> frozenset[str] | None:
    """What Python source may import of the package; None for source that is not plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return None
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)


def sources_of(notebook: NotebookNode) -> set[Path]:
    """The files of the package that a notebook's cells import, and their data files."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return sources(code)


def mark(notebook: NotebookNode) -> NotebookNode:
    """Put the digest of its modules into a notebook, where jupyter-cache looks for a difference."""
    notebook.metadata.setdefault("kernelspec", {})["modules"] = digest(sources_of(notebook))
    return notebook


def read(page: Path) -> NotebookNode:
    """A page's notebook, marked."""
    return mark(nbformat.read(page, as_version=4))


def prepare(app: Sphinx, config: Config) -> None:
    """Give kernels this checkout's package, and the build a cache that belongs to its source."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    sys.path.insert(0, str(ROOT))  # for autodoc, which imports it into this process
    os.environ["VAE_NB_PROGRESS"] = "0"  # a progress bar is for a reader who waits
    # Threads that spin while they wait make every other process on the machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # but for microseconds: twice as fast alone

    # PageFailed, below, says it better, and under -W this warning would come first.
    config.suppress_warnings = [*config.suppress_warnings, "mystnb.exec"]

    # Both values are of Sphinx's kind "env": when one changes, every page is read again.
    config.book_digest = digest(
        file for folder in ("_ext", "_static") for file in (BOOK / folder).glob("*.*")
    )
    if config.nb_execution_mode != "cache":
        return
    path = Path(app.outdir).parent / OUTPUTS
    config.nb_execution_cache_path = str(path)
    get_cache(path).change_cache_limit(KEPT)


def read_together(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """Read all pages when one has changed: they cite each other's figures, numbers and glue.

    But not the reference, which cites none and would import the whole package for it. It is read
    when one of the package's sources has changed.
    """
    before = getattr(env, "digests_of_modules", {})
    env.digests_of_modules = {
        name: read(path).metadata.kernelspec.modules
        for name in env.found_docs
        if (path := Path(env.doc2path(name))).suffix == ".ipynb"
    } | {REFERENCE: digest((ROOT / PACKAGE).rglob("*.py"))}
    stale = {
        name
        for name, found in env.digests_of_modules.items()
        if name in env.found_docs and found != before.get(name)
    }
    if added or changed or removed or stale - {REFERENCE}:
        stale |= env.found_docs - {REFERENCE}
    return stale - added


def describe_failure(notebook: NotebookNode, page: Path, error: Exception) -> str:
    """Say which cell of which page failed and how, with its traceback or else its source."""
    number, cell = max(  # the last one that was started
        (pair for pair in enumerate(notebook.cells, 1) if pair[1].get("execution_count")),
        key=lambda pair: pair[1].execution_count,
        default=(1, notebook.cells[0]),
    )
    if isinstance(error, CellExecutionError):
        reason = f"{error.ename}: {error.evalue}"
        details = "\n".join(
            line
            for output in cell.outputs
            if output.output_type == "error"
            for line in output.traceback
        )
    else:  # out of time, or the kernel died
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        details = cell.source
    heading = f"{page.name}: cell {number} of {len(notebook.cells)} (id {cell.get('id')!r}) failed."
    return _ANSI.sub("", f"{heading}\n{reason}\n\n{details}\n")


_start_client = NotebookClientCache.start_client


def start_client(self: NotebookClientCache) -> None:
    """Run a page as MyST-NB does, but name the failing cell; MyST-NB names the file only.

    Raises PageFailed, which ends the build, also with --keep-going, and every time: a build
    that ended so saves no environment, and a page that failed enters no cache.
    """
    for cell in self.notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None  # a count then says: started by this build
    mark(self.notebook)
    try:
        _start_client(self)
    except ExecutionError as error:
        raise PageFailed(describe_failure(self.notebook, self.path, error.__cause__)) from None
    except DeadKernelError as error:
        raise PageFailed(describe_failure(self.notebook, self.path, error)) from None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_config_value("book_digest", "", "env")
    app.connect("config-inited", enter)
    app.connect("config-inited", prepare)
    app.connect("build-finished", note_size)
    app.connect("env-get-outdated", read_together)
    NotebookClientCache.start_client = start_client  # MyST-NB has no hook for this
    return {"parallel_read_safe": True, "parallel_write_safe": True}
