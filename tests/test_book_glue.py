"""The book's Sphinx glue (book/_ext, _static, _config.yml), tried on tiny books."""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vae_nb import cache, runs
from vae_nb.commands import build_command
from vae_nb.recipe import recipe

if TYPE_CHECKING:  # no test needs a browser's driver to be collected
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"

TOY_PACKAGE = '''
"""A stand-in for the real package: publishes what LiveFigure and the answers publish."""
from IPython.display import display

def live_figure(png, name, caption, alt):
    about = {"name": name, "caption": caption, "alt": alt}
    display(
        {"image/png": png, "text/plain": alt},
        raw=True,
        metadata={"image/png": {"vae_nb": about, "width": 320}},
    )
    display({"text/markdown": f"*{caption}*"}, raw=True, metadata={"vae_nb": "caption"})

def markdown(text, role):
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata={"vae_nb": role})
'''


def png(width: int = 64, height: int = 32) -> str:
    """Return a grey image, Base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([117]) * width) * height)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


FIGURE = f"""\
from vae_nb import live_figure
caption = r"A *grey* square at $\\beta = 10$, see {{doc}}`index`."
live_figure("{png()}", "fig-toy", caption, "All grey.")
"""

ANSWER = f"""\
from vae_nb import live_figure, markdown
markdown("The error is **0.067**, $R^2 = 0$.\\n\\nMore in {{numref}}`fig-answer`.", "answer")
live_figure("{png()}", "fig-answer", "Samples are grey.", "A grey image of samples.")
markdown('''\
| claim | measured | verdict |
| --- | --- | --- |
| C3.1 | 0.0673 | <span class="verdict-holds">holds</span> |
| C3.3 | none | [does not hold]{{.verdict-fails}} |
| C3.4 | half | <span class="verdict-part">holds in part</span> |
| C3.5 | – | <span class="verdict-undecided">undecided</span> |
''', "claims")
"""

WIDE = "0.123456789 | " * 9
NUMBERS = f"""\
from IPython.display import display
from vae_nb import markdown
numbers = {{"application/vnd.vae-nb.measured+json": {{"mse": 0.0673}}}}
display(numbers, raw=True, metadata={{"vae_nb": "measured"}})
markdown("| {WIDE}\\n| {"--- | " * 9}\\n| {WIDE}", "claims")
"""

PLAIN_IMAGE = f"""\
from IPython.display import display
display({{"image/png": "{png()}"}}, raw=True)
"""


def code(source: str, tags: list[str] | None = None, **metadata: object) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"tags": tags or [], **metadata})


def write_page(book: Path, name: str, *cells: nbformat.NotebookNode, **metadata: object) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(
        cells=[new_markdown_cell(f"# Page {name}"), *cells],
        metadata={"kernelspec": kernel, "language_info": {"name": "python"}, **metadata},
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"
    nbformat.write(notebook, book / f"{name}.ipynb")


def make_book(root: Path, *pages: str) -> Path:
    """Return the book folder of a toy repository with our glue; its index page is there."""
    book = root / "book"
    for folder in ("_ext", "_static", "_vendor"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(BOOK / folder, book / folder, ignore=ignored)
    for name in ("_config.yml", "references.bib", "references.md"):
        shutil.copy(BOOK / name, book / name)
    chapters = "".join(f"      - file: {page}\n" for page in pages)
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n  - numbered: true\n    chapters:\n" + chapters
    )
    (book / "index.md").write_text("# Toy\n\nNo equation here.\n")
    (root / "vae_nb").mkdir()
    (root / "vae_nb" / "__init__.py").write_text(TOY_PACKAGE)
    return book


def build(book: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `jupyter-book build`; stdout holds both streams."""
    return subprocess.run(
        build_command(book, *options),
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


def page(book: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((book / "_build/html" / f"{name}.html").read_text("utf-8"), "html.parser")


def words(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with everything that the glue does, built with warnings as errors."""
    book = make_book(tmp_path_factory.mktemp("toy"), "one", "two", "references")
    (book / "index.md").write_text(
        "# Toy\n\nNo equation here; {numref}`fig-toy` and {cite:t}`kingma2014`.\n"
    )
    write_page(book, "one", code(FIGURE), code(ANSWER, ["answer", "hide-input"]))
    write_page(
        book,
        "two",
        code("print('stream stays', 6 * 7)"),
        code(NUMBERS),
        code(PLAIN_IMAGE, mystnb={"image": {"alt": "Alt from the cell."}}),
    )
    run = build(book, "-W", "--keep-going")
    assert run.returncode == 0, run.stdout
    return book


@pytest.mark.slow
def test_live_figure_takes_everything_from_the_output(built: Path) -> None:
    figure = page(built, "one").find("figure", id="fig-toy")
    image = figure.find("img")
    assert image["alt"] == "All grey."
    assert "dark-light" in image["class"]
    assert "width: 320px" in image["style"]
    assert (built / "_build/html" / image["src"]).read_bytes() == base64.b64decode(png())
    caption = figure.find("figcaption")
    assert words(caption).startswith("Fig. 1.1 A grey square at")
    assert caption.find("em").get_text() == "grey"
    assert caption.find("span", class_="math").get_text() == r"\(\beta = 10\)"
    assert caption.find("a", href="index.html")


@pytest.mark.slow
def test_caption_appears_once_and_other_outputs_are_untouched(built: Path) -> None:
    soup = page(built, "one")
    for source in soup.select(".cell_input"):
        source.decompose()
    assert words(soup.find("article")).count("Samples are grey.") == 1
    assert words(soup.find("article")).count("grey square") == 1

    other = page(built, "two")
    assert "stream stays 42" in words(other.find("article"))
    outputs = [words(output) for output in other.select(".cell_output")]
    assert len(outputs) == 3 and not [text for text in outputs if "0.0673" in text]
    assert other.find("img", alt="Alt from the cell.").find_parent("figure") is None


@pytest.mark.slow
def test_figures_are_cited_by_number_from_another_page(built: Path) -> None:
    link = page(built, "index").find("a", href="one.html#fig-toy")
    assert link.get_text() == "Fig. 1.1"
    assert page(built, "one").find("a", href="#fig-answer").get_text() == "Fig. 1.2"


@pytest.mark.slow
def test_answer_cell_has_the_structure_that_the_style_lays_out(built: Path) -> None:
    cell = page(built, "one").find(class_="tag_answer")
    source, output = cell.find_all(recursive=False)
    assert source.name == "details" and "open" not in source.attrs
    assert "live_figure" in source.get_text()
    answer, figure, claims = output.find_all(recursive=False)
    assert "vae-answer" in answer["class"]
    assert [words(p) for p in answer.find_all("p")] == [
        r"The error is 0.067, \(R^2 = 0\).",
        "More in Fig. 1.2.",
    ]
    assert answer.find("span", class_="math")
    assert figure.name == "figure" and figure["id"] == "fig-answer"
    assert "vae-claims" in claims["class"]
    verdicts = {
        row.find_all("td")[2].find("span")["class"][0]: row for row in claims.select("tbody tr")
    }
    assert list(verdicts) == ["verdict-holds", "verdict-fails", "verdict-part", "verdict-undecided"]
    assert words(verdicts["verdict-fails"]).endswith("does not hold")


@pytest.mark.slow
def test_references_are_complete_and_linked(built: Path) -> None:
    keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf-8"), re.MULTILINE)
    entries = page(built, "references").select(".citation")
    assert len(entries) == len(keys) >= 15
    link = page(built, "index").find("a", href=re.compile(r"^references\.html#"))
    target = page(built, "references").find(id=link["href"].partition("#")[2])
    assert "Kingma and Max Welling" in target.get_text()


@pytest.mark.slow
def test_built_pages_load_nothing_from_a_network(built: Path) -> None:
    html = built / "_build/html"
    for file in html.glob("*.html"):
        soup = BeautifulSoup(file.read_text("utf-8"), "html.parser")
        loaded = [tag["src"] for tag in soup.find_all(src=True)]
        loaded += [tag["href"] for tag in soup.select("link[rel=stylesheet], link[rel=preload]")]
        for address in loaded:
            assert not re.match(r"\w+:|//", address), f"{file.name} loads {address}"
            assert (html / re.split("[?#]", address)[0]).is_file(), f"{file.name}: no {address}"
        for script in soup.find_all("script", src=False):
            assert "://" not in script.get_text(), f"{file.name}: {script.get_text()}"
    for style in html.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text("utf-8")), (
            style
        )


@pytest.mark.slow
def test_mathjax_is_ours_and_only_where_there_are_equations(built: Path) -> None:
    def scripts(name: str) -> list[str]:
        return [s["src"].split("?")[0] for s in page(built, name).find_all("script", src=True)]

    ours = "_static/mathjax/tex-svg-full.js"
    assert ours in scripts("one")
    assert not [name for name in scripts("two") if "mathjax" in name]
    vendored = (BOOK / "_vendor/mathjax/tex-svg-full.js").read_bytes()
    assert (built / "_build/html" / ours).read_bytes() == vendored
    assert (built / "_build/html/_static/mathjax/LICENSE").is_file()


@pytest.mark.slow
def test_no_button_leads_nowhere(built: Path) -> None:
    html = built / "_build/html"
    buttons = page(built, "one").select(".article-header-buttons a[href]")
    assert buttons, "the download of the notebook is expected"
    for button in buttons:
        assert (html / button["href"]).is_file(), button
    assert not page(built, "one").find(href=re.compile("github.com/executablebooks"))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", "https://github.com/somebody/vae_nb"])
def test_launch_buttons_are_there_as_soon_as_there_is_an_address(tmp_path: Path, url: str) -> None:
    book = make_book(tmp_path, "one", "references")
    write_page(book, "one", code("1"))
    config = (book / "_config.yml").read_text()
    assert config.count('  url: ""') == 1
    (book / "_config.yml").write_text(config.replace('  url: ""', f"  url: {url!r}"))
    done = build(book, "-W", "-n", "--keep-going")
    assert done.returncode == 0, done.stdout
    leads = {a["href"] for a in page(book, "one").find_all("a", href=re.compile("^http"))}
    assert leads == {
        address
        for address in (
            "https://mybinder.org/v2/gh/somebody/vae_nb/main?urlpath=lab/tree/book/one.ipynb",
            "https://colab.research.google.com/github/somebody/vae_nb/blob/main/book/one.ipynb",
        )
        if url
    }


@pytest.mark.slow
def test_the_next_build_shows_every_edit(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two", "three", "api")
    (book / "two.md").write_text("# Two\n\nSee {numref}`fig-toy`.\n")
    automodule = "# Reference\n\n```{eval-rst}\n.. automodule:: vae_nb.inner\n```\n"
    (book / "api.md").write_text(automodule)
    show = code("from vae_nb.inner import VALUE\nprint(VALUE)")
    inner = tmp_path / "vae_nb" / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("""'First words.'\nVALUE = 'first value'\n""")
    write_page(book, "one", show, code(FIGURE))
    write_page(book, "three", code("import uuid\nprint('three', uuid.uuid4())"))
    assert build(book).returncode == 0
    assert "First words." in words(page(book, "api").find("article"))
    assert "first value" in words(page(book, "one").find("article"))
    assert "See Fig. 1.1." in words(page(book, "two").find("article"))

    # the style: outputs come from the cache
    with (book / "_static/vae_nb.css").open("a") as style:
        style.write("/* edited */")
    restyled = build(book)
    assert restyled.returncode == 0
    assert "Executing notebook" not in restyled.stdout
    assert (book / "_build/html/_static/vae_nb.css").read_text().endswith("/* edited */")

    # a page: the number that another page cites has changed; the reference is not read for it
    write_page(book, "one", show, code(FIGURE.replace("fig-toy", "fig-new")), code(FIGURE))
    edited = build(book)
    assert edited.returncode == 0
    assert "See Fig. 1.2." in words(page(book, "two").find("article"))
    assert re.search(r"reading sources.*two", edited.stdout)
    assert not re.search(r"reading sources.*api", edited.stdout)

    # a module: pages that import it run again, others do not
    three = words(page(book, "three").find("article"))
    (inner / "__init__.py").write_text("""'Second words.'\nVALUE = 'second value'\n""")
    assert build(book).returncode == 0
    assert "Second words." in words(page(book, "api").find("article"))
    article = words(page(book, "one").find("article"))
    assert "second value" in article and "first value" not in article
    assert words(page(book, "three").find("article")) == three

    # back to what it was: outputs of that time are still right, and found
    (inner / "__init__.py").write_text("""'First words.'\nVALUE = 'first value'\n""")
    write_page(book, "one", show, code(FIGURE))
    restored = build(book)
    assert restored.returncode == 0 and "Executing notebook" not in restored.stdout
    assert "first value" in words(page(book, "one").find("article"))


@pytest.fixture
def fresh_outputs(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    return importlib.import_module("fresh_outputs")


def test_a_page_depends_on_what_it_imports_directly_or_not(fresh_outputs) -> None:
    def names(code: str) -> set[str]:
        package = ROOT / "vae_nb"
        return {path.relative_to(package).as_posix() for path in fresh_outputs.sources(code)}

    drawn = names("from vae_nb import figures as f, models\nimport numpy")
    assert {"__init__.py", "figures.py", "figures.md", "models.py", "cache.py"} <= drawn
    assert not [name for name in drawn if name.startswith(("report/", "explorer/", "commands/"))]
    widgets = names("def late():\n    import vae_nb.explorer.widgets")
    assert {"explorer/explorer.js", "explorer/explorer.css", "explorer/__init__.py"} <= widgets
    answers = names("from vae_nb.report import answer")
    assert {"report/q1_autoencoder.md", "report/shared.md", "archive.json"} <= answers
    assert names("print(1)") == set()
    every = {path.relative_to(ROOT / "vae_nb") for path in (ROOT / "vae_nb").rglob("*.py")}
    assert names("%matplotlib inline") == {path.as_posix() for path in every}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "metadata", "reason"),
    [
        ("1 / 0", {}, "ZeroDivisionError: division by zero"),
        ("import time; time.sleep(60)", {"execution": {"timeout": 1}}, "CellTimeoutError: "),
        ("import os, time; time.sleep(0.5); os._exit(1)", {}, "DeadKernelError: Kernel died"),
    ],
)
def test_a_failing_cell_fails_the_build_every_time_and_is_named(
    tmp_path: Path, source: str, metadata: dict[str, object], reason: str
) -> None:
    book = make_book(tmp_path, "one", "two")
    write_page(book, "one", code("'fine'"))
    write_page(book, "two", code("'fine'"), code(source), code("'never run'"), **metadata)
    twice = ([], ["-W"]) if source == "1 / 0" else ([],)
    for options in twice:
        run = build(book, *options)
        assert run.returncode != 0
        message = re.search(r"Page failed:\S*\n(.*\n.*)", run.stdout)
        assert message, run.stdout
        assert message[1].startswith("two.ipynb: cell 3 of 4 (id 'two-2') failed.\n" + reason)


def test_pages_are_begun_in_the_order_in_which_nobody_waits(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    from side_by_side import in_turn

    contents = ["index", "one", "two", "metrics", "three"]
    assert in_turn(contents, contents) == ["metrics", "one", "two", "three", "index"]
    assert in_turn(contents, {"index", "two"}) == ["two", "index"]


WAIT = """\
import pathlib, time
pathlib.Path("here-{0}").touch()
while not pathlib.Path("here-{1}").exists():
    time.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor: one page after the other")
def test_pages_run_side_by_side_and_share_the_processors(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two")
    show = code("import os; print('threads', os.environ['OMP_NUM_THREADS'])")
    limit = {"execution": {"timeout": 40}}  # one after the other, the first would wait in vain
    write_page(book, "one", code(WAIT.format("one", "two")), show, **limit)
    write_page(book, "two", code(WAIT.format("two", "one")), show, **limit)
    run = build(book, "-W")
    assert run.returncode == 0, run.stdout
    for name in ("one", "two"):
        assert f"threads {max(1, os.cpu_count() // 2)}" in words(page(book, name))
    assert "Executing notebook" not in run.stdout, "MyST-NB has nothing left to run"


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor: one page after the other")
def test_a_failing_page_ends_those_beside_it(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two")
    write_page(book, "one", code("import os, pathlib, time"), code(WAIT.format("one", "nobody")))
    wait = "while not pathlib.Path('here-one').exists(): pass"
    write_page(book, "two", code(f"import pathlib\n{wait}\n1 / 0"))
    run = build(book)  # which would otherwise last longer than `build` allows
    assert run.returncode != 0
    assert "two.ipynb: cell 2 of 2 (id 'two-1') failed." in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_build_and_its_kernels(tmp_path: Path, number: int) -> None:
    book = make_book(tmp_path, "one", "two")
    note = "import os, pathlib; from vae_nb import markdown"
    note += "\npathlib.Path('pid-{0}').write_text(str(os.getpid()))"
    for name in ("one", "two"):
        write_page(book, name, code(note.format(name)), code(WAIT.format(name, "nobody")))
    with (tmp_path / "log").open("w") as log:
        # Who starts the tests in the background may have interrupts ignored, also by children.
        heeded = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(build_command(book), stdout=log, stderr=log, preexec_fn=heeded)
        _wait_for(lambda: (book / "here-one").exists() and (book / "here-two").exists())
        process.send_signal(number)
        code_ = process.wait(20)
    assert code_ in ((1, 130, -2) if number == signal.SIGINT else (-number, 128 + number))
    for name in ("one", "two"):
        pid = int((book / f"pid-{name}").read_text())
        _wait_for(lambda pid=pid: not _alive(pid))
    assert "Traceback" not in (tmp_path / "log").read_text()


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kernels are forked on Linux only")
def test_kernels_are_forked_from_a_process_that_has_the_package(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two")
    (tmp_path / "vae_nb" / "slow.py").write_text("import os\nloaded_by = os.getpid()\n")
    show = "import os\nfrom vae_nb import slow\nprint('loaded by', slow.loaded_by)"
    show += "\nprint('kernel', os.getpid(), os.getsid(0), 'folder', os.getcwd())"
    for name in ("one", "two"):
        noise = f"import numpy  # {name}\nprint('first', numpy.random.rand())"
        write_page(book, name, code(show), code(noise))
    run = build(book, "-W")
    assert run.returncode == 0, run.stdout
    said = [words(page(book, name)) for name in ("one", "two")]
    loaded = {re.search(r"loaded by (\d+)", each)[1] for each in said}
    kernels = [re.search(r"kernel (\d+) (\d+) folder (\S+)", each).groups() for each in said]
    assert len(loaded) == 1, "it was imported once, for all"
    assert len({re.search(r"first (\S+)", each)[1] for each in said}) == 2, "no common noise"
    assert len({loaded.pop(), kernels[0][0], kernels[1][0]}) == 3
    assert all(pid == session and folder == str(book) for pid, session, folder in kernels)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kernels are forked on Linux only")
def test_kernels_start_as_always_where_what_forks_them_has_ended(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two")
    ends = "import os, sys\nif sys.argv[0] == '-c':\n    os._exit(1)\n"
    (tmp_path / "vae_nb" / "slow.py").write_text(ends)
    for name in ("one", "two"):
        write_page(
            book, name, code(f"import sys\nfrom vae_nb import slow\nprint({name!r}, sys.argv[0])")
        )
    run = build(book, "-W")
    assert run.returncode == 0, run.stdout
    for name in ("one", "two"):
        assert re.search(rf"{name} \S+ipykernel_launcher.py", words(page(book, name)))


@pytest.mark.slow
def test_an_image_without_alternative_text_is_a_warning(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one", "two")
    write_page(book, "one", code(PLAIN_IMAGE))
    write_page(book, "two", code(FIGURE.replace("All grey.", " ")))
    run = build(book, "-W", "--keep-going")
    assert run.returncode != 0
    assert "one.ipynb" in run.stdout and "two.ipynb" in run.stdout
    assert run.stdout.count("an image of cell 2 has no alt") == 2


@pytest.mark.slow
def test_an_outlier_is_a_warning_and_on_the_page(tmp_path: Path):
    book = make_book(tmp_path, "one")
    outlier = "VAE: rate is **500**, outside of what the archive predicts"
    write_page(book, "one", code(f'from vae_nb import markdown\nmarkdown("{outlier}", "outlier")'))
    run = build(book)
    assert run.returncode == 0 and "WARNING" in run.stdout and outlier in run.stdout
    assert "500" in page(book, "one").select_one(".vae-outlier strong").text


@pytest.fixture
def open_page(built: Path, browser: Browser) -> Iterator[Callable[..., BrowserPage]]:
    """Open a page of the toy book as a file, in a window of a width and a theme."""
    contexts = []

    def opened(name: str, width: int = 1400, theme: str = "light") -> BrowserPage:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
        )
        contexts.append(context)
        tab = context.new_page()
        tab.goto((built / f"_build/html/{name}.html").as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()


def boxes(tab: BrowserPage) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return the boxes of the answer, its figure and its claims."""
    answer, figure, claims = (
        tab.locator(f".tag_answer > .cell_output > {selector}").bounding_box()
        for selector in (".vae-answer", "figure", ".vae-claims")
    )
    return answer, figure, claims


@pytest.mark.browser
@pytest.mark.parametrize("width", [960, 1400, "print", "code shown"])
def test_answer_is_beside_its_figure(open_page: Callable[..., BrowserPage], width: object) -> None:
    tab = open_page("one", width if isinstance(width, int) else 1200)
    if width == "print":
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": 680, "height": 900})
        assert not tab.locator(".bd-sidebar-primary").is_visible()
    if width == "code shown":
        tab.locator(".tag_answer summary").click()
        assert tab.locator(".tag_answer pre").is_visible()
    answer, figure, claims = boxes(tab)
    assert answer["x"] + answer["width"] <= figure["x"]
    assert answer["y"] == pytest.approx(figure["y"], abs=2)
    assert claims["y"] >= max(box["y"] + box["height"] for box in (answer, figure))
    assert claims["x"] == answer["x"]


@pytest.mark.browser
def test_answer_is_above_its_figure_on_a_phone(open_page: Callable[..., BrowserPage]) -> None:
    tab = open_page("one", 390)
    answer, figure, claims = boxes(tab)
    assert answer["y"] + answer["height"] <= figure["y"]
    assert figure["y"] + figure["height"] <= claims["y"]
    assert answer["width"] == figure["width"] == claims["width"] > 300
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
def test_a_wide_table_scrolls_in_itself_on_a_phone(open_page: Callable[..., BrowserPage]) -> None:
    tab = open_page("two", 390)
    assert tab.locator(".vae-claims table").bounding_box()["width"] > 390
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
def test_maths_is_set_without_a_network(built: Path, browser: Browser) -> None:
    tab = browser.new_page()
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append((message.type, message.text)))
    tab.on("pageerror", lambda error: said.append(("error", str(error))))
    tab.goto((built / "_build/html/one.html").as_uri())
    tab.wait_for_selector(".vae-answer mjx-container svg")
    assert tab.locator("figcaption mjx-container mjx-assistive-mml").count() == 1
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert not [text for kind, text in said if kind in ("error", "warning")]
    tab.close()


@pytest.mark.browser
def test_grey_levels_are_left_alone_in_the_dark(open_page: Callable[..., BrowserPage]) -> None:
    tab = open_page("one", theme="dark")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    style = tab.locator("figure#fig-toy img").evaluate(
        "i => (({filter, backgroundColor, padding}) => [filter, backgroundColor, padding])"
        "(getComputedStyle(i))"
    )
    assert style == ["none", "rgba(0, 0, 0, 0)", "0px"]


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_verdicts_can_be_read(open_page: Callable[..., BrowserPage], theme: str) -> None:
    tab = open_page("one", theme=theme)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    for name in ("holds", "part", "fails", "undecided"):
        text, ground = tab.locator(f".verdict-{name}").evaluate(
            "e => (s => [s.color, s.backgroundColor])(getComputedStyle(e))"
        )
        dark, light = sorted(map(luminance, (text, ground)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{name}: {text} on {ground}"


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of a computed colour, `rgb(r, g, b)`."""
    channels = [int(value) / 255 for value in re.fullmatch(r"rgb\((.*)\)", colour)[1].split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.browser
def test_print_is_light(open_page: Callable[..., BrowserPage]) -> None:
    tab = open_page("one", theme="dark")
    tab.evaluate(
        "addEventListener('beforeprint', () => {"
        " window.printed = document.documentElement.dataset.theme })"
    )
    tab.pdf()
    assert tab.evaluate("window.printed") == "light"
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


def test_top_level_files_are_those_of_the_book() -> None:
    for name in ("_config.yml", "_toc.yml"):
        top = (ROOT / name).read_text("utf-8")
        # where a checkout turns links into text files, the link's target is the text
        assert top in ((BOOK / name).read_text("utf-8"), f"book/{name}")


@pytest.mark.slow
def test_a_chapter_without_a_figure_or_without_a_page_fails_the_build(tmp_path: Path) -> None:
    book = make_book(tmp_path, "one")
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n  - caption: Chapters\n    chapters:\n"
        "      - file: one\n      - file: two\n"
    )
    write_page(book, "one", code(FIGURE))
    run = build(book)
    assert run.returncode != 0 and "two" in run.stdout
    write_page(book, "two", code("print('no figure')"))
    run = build(book)
    assert run.returncode != 0
    assert "chapters without a live figure or a table of claims: two" in run.stdout
    write_page(book, "two", code(FIGURE.replace("fig-toy", "fig-two")))
    assert build(book).returncode == 0


@pytest.mark.slow
def test_every_page_of_a_preview_says_that_its_models_are_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_NB_PREVIEW", "1")
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path / "cache"))
    book = make_book(tmp_path, "one")
    write_page(book, "one", code(FIGURE))
    assert build(book).returncode == 0
    for name in ("index", "one"):
        assert "A preview with archived models" in words(page(book, name))
    assert cache.is_cached(tmp_path / "cache" / "runs" / runs.digest(recipe("ae"))), "unpacked"


@pytest.mark.slow
def test_every_page_allows_no_network(built: Path) -> None:
    for name in ("index", "one", "genindex", "search"):
        head = page(built, name).find("head")
        (policy,) = head.find_all("meta", attrs={"http-equiv": "Content-Security-Policy"})
        rules = dict(rule.split(" ", 1) for rule in policy["content"].split("; "))
        assert rules.pop("default-src") == "'none'" and "connect-src" not in rules
        allowed = {word for rule in rules.values() for word in rule.split()}
        assert allowed == {"'self'", "file:", "data:", "blob:", "'unsafe-inline'", "'none'"}
        first = head.find(["script", "link"])
        assert policy.sourceline < first.sourceline or policy in first.find_all_previous("meta")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", ".doctrees", ".doctrees/environment.pickle"])
def test_pickles_that_others_may_write_are_not_read(place: str, tmp_path: Path) -> None:
    book = make_book(tmp_path, "references")
    kept = book / "_build" / ".doctrees" / "environment.pickle"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"cos\nsystem\n(S'touch READ'\ntR.")
    (book / "_build" / place).chmod(0o777)
    run = build(book)
    assert run.returncode and "everybody may write there" in run.stdout
    assert not list(tmp_path.rglob("READ")) and not Path("READ").exists()


@pytest.mark.slow
def test_what_an_earlier_build_did_not_leave_so_is_not_read(tmp_path: Path) -> None:
    book = make_book(tmp_path, "references")
    kept = book / "_build" / ".doctrees" / "environment.pickle"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"cos\nsystem\n(S'touch READ'\ntR.")  # nobody else may write there
    run = build(book)
    assert run.returncode == 0 and "all are read again" in run.stdout
    assert not list(tmp_path.rglob("READ")) and not Path("READ").exists()
    run = build(book)
    assert run.returncode == 0 and "read again" not in run.stdout
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    run = build(book)
    assert run.returncode == 0 and "all are read again" in run.stdout
    assert kept.read_bytes() != content


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["database", "missing", "turned", "no notebook"])
def test_outputs_that_are_damaged_are_computed_again(damage: str, tmp_path: Path) -> None:
    book = make_book(tmp_path, "one")
    write_page(book, "one", code("11"))
    assert build(book).returncode == 0
    outputs = book / "_build" / ".jupyter_cache"
    (notebook,) = outputs.rglob("base.ipynb")
    before = notebook.read_text("utf-8")
    if damage == "database":
        (outputs / "global.db").write_bytes(b"")
    elif damage == "missing":
        notebook.unlink()
    elif damage == "turned":  # a notebook still, with another number
        notebook.write_text(before.replace('"11"', '"77"'), "utf-8")
    else:
        (book / "_build" / ".checksums.json").unlink()  # as after a build that was killed
        notebook.write_text("null", "utf-8")
    write_page(book, "one", code("11"), new_markdown_cell("An edit: the page is read again."))
    run = build(book)
    assert run.returncode == 0 and "are damaged and removed" in run.stdout
    (notebook,) = outputs.rglob("base.ipynb")
    assert nbformat.reads(notebook.read_text("utf-8"), 4).cells
    assert "77" not in page(book, "one").find("article").text
    assert "are damaged and removed" not in build(book).stdout


@pytest.mark.slow
def test_a_second_build_in_one_folder_is_refused(tmp_path: Path) -> None:
    book = make_book(tmp_path, "references")
    (book / "_build").mkdir()
    with FileLock(book / "_build" / ".lock"):
        run = build(book)
    assert run.returncode and "another build is at work in" in run.stdout
