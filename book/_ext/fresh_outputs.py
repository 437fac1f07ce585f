"""Outputs that are never stale, and a failing cell that is always named.

jupyter-cache knows a page by its cells; it does not see that the package which they import has
changed. So the cache lives in a folder named by a digest of that package, and an edit of it makes
every page run again at the next build (runs that were fitted before come from the store).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from myst_nb.core.execute import ExecutionError, NotebookClientCache
from nbclient.exceptions import CellExecutionError, DeadKernelError
from sphinx.errors import SphinxError

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

BOOK = Path(__file__).resolve().parents[1]
ROOT = BOOK.parent
REFERENCE = "api"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class PageFailed(SphinxError):
    """A cell of a page failed."""

    category = "Page failed"


def digest(files: Iterable[Path]) -> str:
    """Return 16 hex digits that change with the bytes or the names (under ROOT) of `files`."""
    total = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        total.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return total.hexdigest()[:16]


def prepare(app: Sphinx, config: Config) -> None:
    """Give kernels this checkout's package, and the build a cache that belongs to its source."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    sys.path.insert(0, str(ROOT))  # for autodoc, which imports it into this process
    os.environ["VAE_NB_PROGRESS"] = "0"  # a progress bar is for a reader who waits
    # Threads that spin while they wait make every other process on the machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    # PageFailed, below, says it better, and under -W this warning would come first.
    config.suppress_warnings = [*config.suppress_warnings, "mystnb.exec"]

    # Both values are of Sphinx's kind "env": when one changes, every page is read again.
    config.book_digest = digest(
        file for folder in ("_ext", "_static") for file in (BOOK / folder).glob("*.*")
    )
    if config.nb_execution_mode != "cache":
        return
    caches = Path(app.outdir).parent / ".jupyter_cache"
    package = ROOT / "vae_nb"
    sources = [file for kind in ("*.py", "*.js", "*.css") for file in package.rglob(kind)]
    current = caches / digest(sources)
    config.nb_execution_cache_path = str(current)
    for other in caches.glob("[0-9a-f]" * 16):
        if other != current:
            shutil.rmtree(other)


def read_together(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """Read all pages when one has changed: they cite each other's figures, numbers and glue.

    But not the reference, which cites none and would import the whole package for it. It is read
    when one of the package's sources has changed.
    """
    return env.found_docs - added - {REFERENCE} if added or changed or removed else set()


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
    try:
        _start_client(self)
    except ExecutionError as error:
        raise PageFailed(describe_failure(self.notebook, self.path, error.__cause__)) from None
    except DeadKernelError as error:
        raise PageFailed(describe_failure(self.notebook, self.path, error)) from None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_config_value("book_digest", "", "env")
    app.connect("config-inited", prepare)
    app.connect("env-get-outdated", read_together)
    NotebookClientCache.start_client = start_client  # MyST-NB has no hook for this
    return {"parallel_read_safe": True, "parallel_write_safe": True}
