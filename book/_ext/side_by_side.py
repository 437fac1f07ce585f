"""Pages that have to be run are run side by side, each with its share of the processors.

MyST-NB runs one page after the other. A page keeps one processor busy while its kernel starts, a
figure is drawn or a probe is fitted, and a small network trains hardly faster on two processors
than on one. So what is stale is run here before the pages are read, and MyST-NB finds all outputs
in the cache. Where two pages need the same model, one fits it and the other waits (vae_nb.cache).
Meanwhile one bar shows how far all of it is, or a line each model and page that is finished.

jupyter-cache has a parallel executor of its own, which takes every processor, runs all pages to
the end after one has failed, and can name neither the failing cell nor the threads of a kernel.
"""

from __future__ import annotations

import asyncio
import logging as stdlib_logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import forked_kernels
from fresh_outputs import ROOT, PageFailed, describe_failure, read, sources_of
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from sphinx.util import logging

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from jupyter_cache.base import JupyterCacheAbstract
    from jupyter_client import AsyncKernelManager
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

    from vae_nb.progress import Watcher

LOGGER = logging.getLogger(__name__)
AT_ONCE = 4  # pages, at most: each is a process of about a gigabyte
# What modules of the package import only where they need it, but most pages do.
LATER = ("matplotlib.pyplot", "scipy.stats", "sklearn.linear_model", "sklearn.mixture")
LATER += ("sklearn.neighbors", "torchvision.datasets")


def run_stale_pages(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    """Run the pages among `names` that are not in the cache."""
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    paths = [Path(env.doc2path(name)) for name in in_turn(app.config.external_site_map, names)]
    stale = [path for path in paths if path.suffix == ".ipynb" and not _is_cached(cache, path)]
    if not stale:
        return
    at_once = min(AT_ONCE, len(stale), os.cpu_count() or 1)
    with forked_kernels.managers(_modules(stale)) as manager:  # it imports while we do
        from vae_nb.progress import Watcher

        if os.environ.get("VAE_NB_PREVIEW"):
            _unpack_models()
        with Watcher(_work(stale), LOGGER.info) as watcher:
            work = _run_all(app, cache, stale, at_once, watcher, manager)
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(work)


def in_turn(contents: Iterable[str], names: Container[str]) -> list[str]:
    """The pages among ``names`` in the order in which they are begun: that of the contents.

    But the first comes last, as it sums up what the others fit. And the page on metrics comes
    first: it fits the classifier, for which all others would wait, while their models train.
    """
    first, *others = contents
    others.sort(key=lambda name: name != "metrics")
    return [name for name in (*others, first) if name in names]


class _Loop(asyncio.SelectorEventLoop):
    """A loop that leaves signals to Python: a signal ends the build, and kernels end with it.

    nbclient would end the kernel of one page of several instead, and then fail.
    """

    def add_signal_handler(self, *_: object) -> None:
        raise RuntimeError("signals are not handled here")


def _modules(paths: list[Path]) -> list[str]:
    """What the pages import of the package, and what most of them import later."""
    files = set().union(*(sources_of(read(path)) for path in paths))
    names = sorted(
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if file.suffix == ".py"
    )
    return [*names, *LATER] if names else []


def _work(paths: list[Path]) -> dict[str, float]:
    """What is to be done, in seconds of one processor core on the machine where it was measured.

    A page's own are those without its models.
    """
    from vae_nb import archived_models, data, runs

    held = data.load()  # not once for each model
    missing = [recipe for recipe in archived_models.shown() if not runs.is_fitted(recipe)]
    own = {"better_samples": 30.0}
    if missing:  # then what these pages fit is missing as well
        own |= {"metrics": 95.0, "representations": 75.0, "likelihood": 20.0}
    work = {path.name: own.get(path.stem, 6.0) for path in paths}
    for recipe in missing:
        work[str(recipe)] = 15.0 * recipe.epochs
        work[f"measuring {recipe}"] = 60.0 if recipe.model == "ae" else 16.0
    del held
    return work


def _unpack_models() -> None:
    from vae_nb import archived_models, cache

    for name in archived_models.unpack(cache.folder()):
        LOGGER.info("%s: the archived model is of other code; it is trained now", name)


def _is_cached(cache: JupyterCacheAbstract, path: Path) -> bool:
    try:
        cache.match_cache_notebook(read(path))
    except KeyError:
        return False
    return True


async def _run_all(
    app: Sphinx,
    cache: JupyterCacheAbstract,
    paths: list[Path],
    at_once: int,
    watcher: Watcher,
    manager: type[AsyncKernelManager],
) -> None:
    """Run each page and put it into the cache. The first that fails ends the others."""
    free = asyncio.Semaphore(at_once)
    # Libraries that take every processor for themselves would fight for them.
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    environment = {"OMP_NUM_THREADS": threads} | os.environ | watcher.environment

    async def run(path: Path) -> None:
        async with free:
            start = time.perf_counter()
            watcher.begin(path.name)
            notebook = await _run(app, path, environment, manager)
            seconds = time.perf_counter() - start
            bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            watcher.finish(path.name, f"{path.name}: run in {seconds:.0f} s")

    try:
        async with asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(run(path))
    except* PageFailed as failed:
        raise failed.exceptions[0] from None


async def _run(
    app: Sphinx, path: Path, environment: dict[str, str], manager: type[AsyncKernelManager]
) -> NotebookNode:
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None  # a count then says: started by this build
    its_own = notebook.metadata.get("execution", {})
    client = NotebookClient(
        notebook,
        timeout=its_own.get("timeout", app.config.nb_execution_timeout),
        allow_errors=its_own.get("allow_errors", app.config.nb_execution_allow_errors),
        kernel_manager_class=manager,
        record_timing=False,  # times in the metadata of cells, by which the cache knows a page
    )
    # Each kernel would warn that it talks plain TCP, to nobody but this process.
    client.extra_arguments = ["--log-level=CRITICAL"]
    try:
        await client.async_execute(cwd=str(path.parent), env=environment)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        task = asyncio.current_task()
        if task and task.cancelling():  # which nbclient takes for the death of the kernel
            stdlib_logging.getLogger("asyncio").setLevel(stdlib_logging.CRITICAL)  # and tells so
            raise asyncio.CancelledError from None
        raise PageFailed(describe_failure(notebook, path, error)) from None
    return notebook


def write_side_by_side(app: Sphinx, env: BuildEnvironment) -> None:
    """Let pages be written on all processors, once all are read: what is read stays in one."""
    app.parallel = 1 + (os.cpu_count() or 1)  # this one only hands out


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("env-before-read-docs", run_stale_pages)
    app.connect("env-updated", write_side_by_side)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
