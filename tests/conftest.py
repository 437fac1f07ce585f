"""What several tests share: a cache of their own, small data, and a small fitted run."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import torch

if TYPE_CHECKING:  # no test needs a browser's driver to be collected
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]


# Where tests run side by side, the files of these share one built book; others run file by file.
OF_THE_BOOK = {"test_book.py", "test_browser.py", "test_chapters.py", "test_exercises.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0].rpartition("/")[2]
            return "of the book" if file in OF_THE_BOOK else file

    return Scheduling(config, log)


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
    from vae_nb import runs
    from vae_nb.recipe import recipe

    return runs.fit(recipe("vae", 0.01, width=8, epochs=2, train_images=2000, batch_size=64))


@pytest.fixture(scope="session")
def multi_rate():
    """A small multi-rate VAE, fitted in seconds."""
    from vae_nb import runs
    from vae_nb.recipe import recipe

    return runs.fit(recipe("multi_rate", width=8, epochs=8, train_images=2000, batch_size=64))


@pytest.fixture
def noise():
    def make(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return make


# Of a kernel where two run at once. A run is the same again with as many threads, not with others.
THREADS = str(max(1, (os.cpu_count() or 1) // 2))
# A chapter runs in seconds, on a `small_set`, until its models are better than the mean image.
QUICK = {"dataset": "KMNIST", "epochs": 32}


@pytest.fixture(scope="session")
def quick_chapter(tmp_path_factory: pytest.TempPathFactory, small_set):
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
def small_set(own_cache) -> str:
    """The name of a set of 1,000 training and 500 test images (of MNIST), put into the cache."""
    from vae_nb import data

    specification = data.SPECIFICATIONS[QUICK["dataset"]]
    mnist = data.load("MNIST")
    parts = {
        "train": (mnist.train_images[:1000], mnist.train_labels[:1000]),
        "test": (mnist.test_images[:500], mnist.test_labels[:500]),
    }
    raw = data.folder(specification)
    raw.mkdir(parents=True)
    for part, tensors in parts.items():
        for file, tensor in zip(specification.files(part), tensors, strict=True):
            images = tensor.ndim > 1
            shape = (len(tensor), 28, 28)[: 3 if images else 1]
            head = b"".join(n.to_bytes(4, "big") for n in (0x800 + len(shape), *shape))
            content = (tensor * 255 if images else tensor).round().to(torch.uint8)
            (raw / file).write_bytes(head + content.numpy().tobytes())
    return specification.name


def twice(notebook: nbformat.NotebookNode, changes: str) -> nbformat.NotebookNode:
    """``notebook`` after its own code, run with ``changes`` to its parameters.

    So a reader runs a chapter, changes a parameter, has variables of his own, and runs it again.
    """
    code = [cell for cell in copy.deepcopy(notebook.cells) if cell.cell_type == "code"]
    parameters = [i for i, c in enumerate(code) if PARAMETERS & set(c.metadata.get("tags", []))]
    own = 'mine, shares, text = 3, [0.1], "a reader\'s"'
    code.insert(parameters[-1] + 1, nbformat.v4.new_code_cell(f"{changes}\n{own}"))
    for index, cell in enumerate(code):
        cell.id = f"before-{index}"
    doubled = copy.deepcopy(notebook)
    doubled.cells = [*code, *doubled.cells]
    return doubled


PARAMETERS = {"parameters", "injected-parameters"}


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory, quick_chapter) -> Callable[[str], Path]:
    """``executed(name) -> path`` of a page with its outputs, run once a session by pytest-notebook.

    A page with parameters is run twice in one kernel: first with another beta, after a training
    that has not finished, then with quick parameters. The outputs are those of the second time.
    """
    from pytest_notebook.nb_regression import NBRegressionFixture

    folder = tmp_path_factory.mktemp("executed")
    regression = NBRegressionFixture(
        exec_cwd=str(ROOT / "book"),
        exec_timeout=900,
        diff_ignore=(*NOT_COMPARED, "/cells/*/outputs"),
    )

    def run(name: str) -> Path:
        path = folder / f"{name}.ipynb"
        if path.exists():
            return path
        source = ROOT / "book" / f"{name}.ipynb"
        if '"parameters"' not in source.read_text():  # the tag
            nbformat.write(regression.check(str(source)).nb_final, path)
            return path
        once = nbformat.read(quick_chapter(name), as_version=4)
        doubled = folder / f"{name}-twice.ipynb"
        nbformat.write(twice(once, "beta, images, epochs = 0.3, 512, 1"), doubled)
        final = regression.check(str(doubled)).nb_final
        final.cells = final.cells[-len(once.cells) :]
        nbformat.write(final, path)
        return path

    return run


@pytest.fixture(scope="session")
def quick_book(tmp_path_factory: pytest.TempPathFactory, executed) -> Path:
    """The folder of the HTML of the whole book with quick parameters, warnings as errors.

    It shows the outputs of the pages that `executed` has run.
    """
    from vae_nb.commands import build_command

    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("_build"))
    (root / "vae_nb").symlink_to(ROOT / "vae_nb")
    # Two at once, as a build runs them (one beside other tests), and the first page last.
    pages = sorted((root / "book").glob("*.ipynb"), key=lambda path: path.stem == "index")
    at_once = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(at_once) as pool:
        patch.setenv("OMP_NUM_THREADS", THREADS)
        for path, ran in zip(pages, pool.map(executed, [p.stem for p in pages]), strict=True):
            shutil.copy(ran, path)
    config = root / "book" / "_config.yml"
    cached = "execute_notebooks: cache"
    assert cached in config.read_text()
    config.write_text(config.read_text().replace(cached, 'execute_notebooks: "off"'))
    build = subprocess.run(
        build_command(root / "book", "-W", "--keep-going"),
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
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    options = {"executable_path": chromium, "args": flags}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as chrome:
        yield chrome


@pytest.fixture
def open_html(browser, tmp_path):
    """``open_html(body)`` opens a page from a file and records its errors and requests."""
    contexts = []

    def open_(body: str, **context):
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.errors, page.requested = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        page.on("request", lambda request: page.requested.append(request.url))
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title>'
        head += '<meta name="viewport" content="width=device-width">'
        (tmp_path / "page.html").write_text(f"{head}<body>{body}</body></html>", encoding="utf-8")
        page.goto((tmp_path / "page.html").as_uri(), wait_until="load")
        return page

    yield open_
    for context in contexts:
        context.close()
