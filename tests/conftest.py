"""What several tests share: a cache of their own, small data, and a small fitted run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from pytest_notebook.nb_regression import NBRegressionFixture

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """No test reads or writes the user's cache; all tests of a session share one."""
    given = {name: os.environ.get(name) for name in ("VAE_NB_CACHE", "VAE_NB_PROGRESS")}
    os.environ["VAE_NB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["VAE_NB_PROGRESS"] = "0"
    yield Path(os.environ["VAE_NB_CACHE"])
    for name, value in given.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def mnist():
    from vae_nb import data

    return data.load("MNIST", 2000)


@pytest.fixture(scope="session")
def run():
    """A small VAE, fitted in seconds."""
    from vae_nb import store
    from vae_nb.training import recipe

    return store.fit(recipe("vae", 0.01, width=8, epochs=2, images=2000, batch_size=64))


@pytest.fixture(scope="session")
def multi_rate():
    """A small multi-rate VAE, fitted in seconds."""
    from vae_nb import store
    from vae_nb.training import recipe

    return store.fit(recipe("multi_rate", width=8, epochs=8, images=2000, batch_size=64))


@pytest.fixture
def noise():
    def make(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return make


JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
# Of a kernel where two run at once. A run is the same again with as many threads, not with others.
THREADS = str(max(1, (os.cpu_count() or 1) // 2))
QUICK = {"images": 512, "epochs": 1}  # a chapter runs in seconds, and its digits look like it


@pytest.fixture(scope="session")
def quick_chapter(tmp_path_factory: pytest.TempPathFactory):
    """``quick_chapter(name) -> path`` of a chapter with quick parameters set, not run yet."""
    import papermill

    folder = tmp_path_factory.mktemp("chapters")

    def prepare(name: str, **parameters: object) -> Path:
        path = folder / f"{name}-{len(list(folder.iterdir()))}.ipynb"
        papermill.execute_notebook(
            ROOT / "book" / f"{name}.ipynb",
            path,
            parameters=QUICK | parameters,
            prepare_only=True,
            progress_bar=False,
        )
        return path

    return prepare


# What papermill and nbclient write that says nothing about what a notebook computes.
NOT_COMPARED = (
    "/metadata/language_info",
    "/metadata/widgets",
    "/metadata/papermill",
    "/cells/*/metadata/papermill",
    "/cells/*/metadata/execution",
    "/cells/*/metadata/tags",
    "/cells/*/execution_count",
)


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory, quick_chapter) -> Callable[[str], Path]:
    """``executed(name) -> path`` of a page with its outputs, run once a session by pytest-notebook.

    With quick parameters, where it has any.
    """
    folder = tmp_path_factory.mktemp("executed")
    regression = NBRegressionFixture(
        exec_cwd=str(ROOT / "book"),
        exec_timeout=900,
        diff_ignore=(*NOT_COMPARED, "/cells/*/outputs"),
    )

    def run(name: str) -> Path:
        path = folder / f"{name}.ipynb"
        if not path.exists():
            source = ROOT / "book" / f"{name}.ipynb"
            if '"parameters"' in source.read_text():  # the tag
                source = quick_chapter(name)
            nbformat.write(regression.check(str(source)).nb_final, path)
        return path

    return run


@pytest.fixture(scope="session")
def quick_book(tmp_path_factory: pytest.TempPathFactory, executed) -> Path:
    """The folder of the HTML of the whole book with quick parameters, warnings as errors.

    It shows the outputs of the pages that `executed` has run.
    """
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("_build"))
    (root / "vae_nb").symlink_to(ROOT / "vae_nb")
    # Two at once, as a build runs them, the page that needs all models last.
    pages = sorted((root / "book").glob("*.ipynb"), key=lambda path: path.stem == "index")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("OMP_NUM_THREADS", THREADS)
        for path, ran in zip(pages, pool.map(executed, [p.stem for p in pages]), strict=True):
            shutil.copy(ran, path)
    config = root / "book" / "_config.yml"
    cached = "execute_notebooks: cache"
    assert cached in config.read_text()
    config.write_text(config.read_text().replace(cached, 'execute_notebooks: "off"'))
    build = subprocess.run(
        [sys.executable, "-c", JUPYTER_BOOK, "build", "-W", "--keep-going", str(root / "book")],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout[-4000:] + build.stderr[-4000:]
    return root / "book" / "_build" / "html"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; without it the tests that ask for it are skipped, with a reason."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: tests/chromium.sh installs it where it can")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium, driven by playwright."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    options = {"executable_path": chromium, "args": flags}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as chrome:
        yield chrome
