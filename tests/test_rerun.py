"""Re-runs, with a toy chapter in a toy book: what they show, what they refuse, what they leave."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vae_nb import cache, commands, report, runs
from vae_nb.__main__ import main
from vae_nb.commands import rerun as module
from vae_nb.commands import rerun_ahead, rerun_chapter, rerun_kernel, rerun_pages
from vae_nb.commands.rerun import rerun
from vae_nb.recipe import recipe
from vae_nb.report.display import MEASURED
from vae_nb.report.question import Verdict

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
title: The toy book
execute: {execute_notebooks: force}
repository: {url: ""}
sphinx: {local_extensions: {toy_ext: _ext}}
"""

# A page of the re-run bears this only if the book's own extension was found and loaded.
EXTENSION = """
def setup(app):
    def mark(app, page, template, context, doctree):
        context["body"] = context.get("body", "") + '<p id="toy-ext"></p>'
    app.connect("html-page-context", mark)
"""

TITLE = """# A toy at β = 10

More in [the objective](objective.md#units) and in [the data](data.md), or [](objective.md),
or {ref}`price`.
"""

CHECK = """
import math, os, uuid
from IPython.display import display
if not (isinstance(beta, (int, float)) and math.isfinite(beta) and beta >= 0):
    raise ValueError(f"beta = {beta!r} is not allowed:\\nbeta must be finite and >= 0")
if "TOY_FAILS" in os.environ:
    raise KeyError("toy")
if "TOY_SLEEPS" in os.environ:
    import time
    time.sleep(60)
print(f"run {uuid.uuid4()} at beta {beta}")
"""

FIGURES = """
for name in ("fig-toy-curves", "fig-toy-reconstructions", "fig-toy-samples"):
    about = {"name": name, "caption": "c", "alt": f'{name}: "grey"\\nat {beta}'}
    data = {"image/png": PNG[beta > 1], "text/plain": "alt"}
    display(data, raw=True, metadata={"image/png": {"vae_nb": about}})
"""

# As `report.display` publishes it; the toy's kernel does without the package.
PUBLISHED = f"""
numbers = {{"beta": beta, "mse_mean": 0.012345678 * beta, "active_units": 6, "of_its_own": 1.5}}
if beta > 1:
    numbers["rate"] = 7.0
display({{"{MEASURED}": numbers, "text/plain": ""}}, raw=True)
pill = '{Verdict.HOLDS.pill}' if beta > 1 else '{Verdict.FAILS.pill}'
for table in (
    f"| claim | verdict |\\n| --- | --- |\\n| C3.1 | {{pill}} |",
    "| model | rate |\\n| --- | --- |\\n| AE | – |",
):
    display({{"text/markdown": table}}, raw=True, metadata={{"vae_nb": "claims"}})
"""


def png(grey: int) -> bytes:
    """An image of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, grey]))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


PNGS = [png(50), png(200)]  # at β = 0.5, at β = 2


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "book"
    (folder / "_ext").mkdir(parents=True)
    (folder / "_config.yml").write_text(CONFIG, encoding="utf-8")
    (folder / "_ext" / "toy_ext.py").write_text(EXTENSION, encoding="utf-8")
    images = f"PNG = {[base64.b64encode(image).decode() for image in PNGS]}"
    parameters = new_code_cell(
        "beta = 10.0  # weight\nepochs = 0\n", metadata={"tags": ["parameters"]}
    )
    cells = [new_markdown_cell(TITLE), parameters]
    cells += [new_code_cell(source) for source in (CHECK, images + FIGURES, PUBLISHED)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "toy.ipynb")
    # Of the pages that the chapter leads to, one has been built.
    (folder / "objective.md").write_text("(units)=\n# Price & worth\n", encoding="utf-8")
    built = folder / "_build" / "html" / "objective.html"
    built.parent.mkdir(parents=True)
    built.write_text("built", encoding="utf-8")
    built.with_name("objects.inv").write_bytes(
        b"# Sphinx inventory version 2\n# Project: toy\n# Version: \n"
        b"# The remainder of this file is compressed using zlib.\n"
        + zlib.compress(b"price std:label -1 objective.html#price The price\n")
    )
    return folder


@pytest.fixture(scope="module")
def pages(book, tmp_path_factory) -> list[Path]:
    return rerun("toy", [0.5, 2], tmp_path_factory.mktemp("out"), book=book, epochs=1)


@pytest.fixture
def no_kernel(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("it ran the chapter")

    monkeypatch.setattr(papermill, "execute_notebook", refuse)


def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def words(tag) -> str:
    return " ".join(tag.get_text().split())


def notebook_of(page: Path):
    return nbformat.read(page.parent / "notebooks" / f"{page.stem}.ipynb", as_version=4)


@pytest.mark.slow
def test_there_is_a_page_for_each_value_and_an_index_before_them(pages):
    assert [page.name for page in pages] == [
        "index.html",
        "toy-beta-0.5-epochs-1.html",
        "toy-beta-2-epochs-1.html",
    ]
    assert len({page.parent for page in pages}) == 1
    out = pages[0].parents[1]
    assert [path.name for path in out.iterdir()] == [pages[0].parent.name]  # no scratch is left


@pytest.mark.slow
def test_a_page_shows_its_own_run_and_is_not_executed_again(pages):
    for page, beta in zip(pages[1:], ("0.5", "2"), strict=True):
        (output,) = (
            output.text
            for cell in notebook_of(page).cells
            for output in cell.get("outputs", [])
            if output.output_type == "stream"
        )
        assert output.endswith(f"at beta {beta}\n")
        assert output.strip() in words(soup(page))


@pytest.mark.slow
def test_a_page_says_below_its_title_that_it_is_a_rerun_of_what(pages):
    for page, beta in zip(pages[1:], ("0.5", "2"), strict=True):
        note = soup(page).select_one("h1 ~ .admonition")
        assert "A re-run of toy" in words(note)
        assert f"Run with beta = {beta}, epochs = 1." in words(note)
        assert [link["href"] for link in note.find_all("a")] == ["index.html"]


@pytest.mark.slow
def test_pages_have_the_books_config_and_extensions(pages):
    for page in pages:
        assert soup(page).find(id="toy-ext") is not None
        assert "The toy book" in soup(page).find("title").get_text()


@pytest.mark.slow
def test_links_to_other_pages_lead_to_the_built_book_or_are_plain_text(pages, book):
    for page in pages[1:]:
        body = soup(page).find("article")
        assert "the objective and in the data, or Price & worth, or The price." in words(body)
        (link,) = (a for a in body.find_all("a") if words(a) == "the objective")
        href, _, anchor = link["href"].partition("#")
        assert (page.parent / href).resolve() == book / "_build" / "html" / "objective.html"
        assert anchor == "units"
        (titled,) = (a for a in body.find_all("a") if words(a) == "Price & worth")
        assert titled["href"] == href
        (label,) = (a for a in body.find_all("a") if words(a) == "The price")
        assert label["href"] == f"{href}#price"
        assert not [a for a in body.find_all("a") if words(a) == "the data"]


@pytest.mark.slow
def test_pages_need_nothing_that_is_not_beside_them(pages):
    for page in pages:
        html = soup(page)
        paths = [tag["src"] for tag in html.find_all(src=True)]
        paths += [tag["href"] for tag in html.find_all("link", href=True, rel="stylesheet")]
        paths += [tag["href"] for tag in html.select("article table a")]
        local = [path.partition("#")[0].partition("?")[0] for path in paths if "//" not in path]
        assert local
        for path in local:
            assert (page.parent / path).is_file(), f"{page.name}: {path}"


def rows_of(table) -> list[list[str]]:
    return [[words(cell) for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]


@pytest.mark.slow
def test_the_index_compares_pictures_then_verdicts_then_numbers(pages):
    page = soup(pages[0])
    headings = ["Side by side", "Verdicts on the report's claims", "What each run measured"]
    assert [words(h).rstrip("#").replace("’", "'") for h in page.find_all("h2")][-3:] == headings
    _, verdicts, numbers = page.find("article").find_all("table")
    assert rows_of(verdicts) == [["claim", "0.5", "2"], ["C3.1", "does not hold", "holds"]]
    assert verdicts.find(class_="verdict-holds")
    assert rows_of(numbers) == [
        ["β", "0.5", "2"],
        ["MSE of the mean, grey level²", "0.00617", "0.0247"],
        ["active units", "6", "6"],
        ["of its own", "1.5", "1.5"],
        ["rate, nats", "–", "7"],
    ]
    for table in (verdicts, numbers):
        assert [a["href"] for a in table.find_all("a")] == [page.name for page in pages[1:]]
    assert "The chapter was run once for each β with epochs = 1" in words(page)


@pytest.mark.slow
def test_the_index_shows_the_figures_side_by_side(pages):
    table = soup(pages[0]).find("table")
    head, *rows = table.find_all("tr")
    assert [words(cell) for cell in head.find_all("th")] == ["β", "reconstructions", "samples"]
    for row, page, png_bytes, beta in zip(rows, pages[1:], PNGS, ("0.5", "2"), strict=True):
        images = row.find_all("img")
        names = ["fig-toy-reconstructions", "fig-toy-samples"]
        assert [image["alt"] for image in images] == [f'{n}: "grey" at {beta}' for n in names]
        for image, name in zip(images, names, strict=True):
            assert (page.parent / image["src"]).read_bytes() == png_bytes
            assert "dark-light" in image["class"]
            assert image.find_parent("a")["href"] == f"{page.name}#{name}"


def test_the_index_does_without_published_figures(tmp_path):
    runs = [{"beta": 1}, {"beta": 2}]
    empty = {"a": new_notebook(), "b": new_notebook()}
    rerun_pages.write_comparison(tmp_path / "index", empty, "toy", runs)
    text = (tmp_path / "index" / "index.md").read_text(encoding="utf-8")
    assert "publishes no measured numbers" in text
    assert "image" not in text and "Verdicts" not in text


@pytest.mark.slow
def test_one_value_makes_one_page_without_an_index_to_lead_to(book, tmp_path):
    (page,) = rerun("toy", 0.5, tmp_path, book=book)
    assert page == tmp_path / "toy-beta-0.5" / "toy-beta-0.5.html"
    note = soup(page).select_one("h1 ~ .admonition")
    assert "Run with beta = 0.5." in words(note)
    assert not note.find_all("a")


@pytest.mark.slow
def test_a_failed_rerun_leaves_the_last_one_as_it_was(book, tmp_path, monkeypatch):
    def run() -> list[Path]:
        return rerun("toy", output=tmp_path, book=book, execute_only=True)

    (notebook,) = run()
    assert notebook == tmp_path / "toy" / "notebooks" / "toy.ipynb"
    first = notebook.read_bytes()

    monkeypatch.setenv("TOY_FAILS", "1")
    with pytest.raises(RuntimeError, match=r"^KeyError: 'toy' \(toy; In \[2\]; traceback in "):
        run()
    assert notebook.read_bytes() == first
    assert "KeyError" in (tmp_path / "failed" / "toy.ipynb").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"toy", "failed"}

    monkeypatch.delenv("TOY_FAILS")
    assert run() == [notebook]
    assert notebook.read_bytes() != first


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_rerun_leaves_no_half_page_and_the_next_one_clears_up(book, tmp_path):
    out = tmp_path / "out"
    command = ["toy", "--beta", "1", "--book", str(book), "--output", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_nb", "rerun", *command],
        env=os.environ | {"TOY_SLEEPS": "1", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.*/site/notebooks/*.ipynb")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    (scratch,) = out.iterdir()
    assert rerun("toy", output=out, book=book, execute_only=True)
    assert scratch.exists()  # somebody works there
    process.kill()
    process.wait()
    assert {path.name for path in out.iterdir()} == {scratch.name, "toy"}
    rerun("toy", output=out, book=book, execute_only=True)
    assert {path.name for path in out.iterdir()} == {"toy"}


def test_only_what_nobody_works_in_is_cleared(tmp_path):
    names = (".rerun-used", ".rerun-left", ".rerun-empty", "mine")
    for name in names:
        (tmp_path / name).mkdir()
    for name in (".rerun-used", ".rerun-left", "mine"):
        (tmp_path / name / "lock").touch()
    with FileLock(tmp_path / ".rerun-used" / "lock"), module._scratch(tmp_path) as scratch:
        left = {path.name for path in tmp_path.iterdir()} - {scratch.name}
    assert left == {".rerun-used", ".rerun-empty", "mine"} and not scratch.exists()


@pytest.mark.parametrize("value", ["-1", "nan"])
@pytest.mark.slow
def test_a_refused_value_is_one_line_and_an_exit_code(value, book, tmp_path, capfd):
    code = main(
        ["rerun", "toy", "--beta", "1", value, "--book", str(book), "--output", str(tmp_path)]
    )
    assert code == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("vae-nb")]  # no progress
    assert lines == [
        f"vae-nb rerun: beta = {value} is not allowed: beta must be finite and >= 0 "
        f"(toy: beta = {value}; In [3])"
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_prints_what_it_made(book, tmp_path, capsys):
    arguments = ["rerun", "toy", "--book", str(book), "--output", str(tmp_path), "--execute-only"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'toy' / 'notebooks' / 'toy.ipynb'}\n"


@pytest.mark.usefixtures("no_kernel")
def test_an_unknown_chapter_names_the_known_ones(book, tmp_path):
    with pytest.raises(ValueError, match=r"no chapter 'tyo'; the chapters are: toy$"):
        rerun("tyo", 1, tmp_path, book=book)
    with pytest.raises(ValueError, match="no chapter '../book/toy'"):
        rerun("../book/toy", 1, tmp_path, book=book)


@pytest.mark.usefixtures("no_kernel")
def test_an_unknown_parameter_names_the_known_ones(book, tmp_path):
    # Also one that is a name of the function's own: a chapter may have it.
    for name in ("epoch", "betas"):
        with pytest.raises(ValueError, match=rf"no parameter '{name}'; it takes: beta, epochs$"):
            rerun("toy", 1, tmp_path, book=book, **{name: 3})


@pytest.mark.usefixtures("no_kernel")
def test_beta_is_given_once(book, tmp_path):
    with pytest.raises(ValueError, match=r"beta is given twice: \[1\] and 2"):
        rerun("toy", 1, tmp_path, book=book, beta=2)


@pytest.mark.usefixtures("no_kernel")
def test_an_installation_without_the_book_says_so(tmp_path, monkeypatch, capsys):
    package = tmp_path / "site-packages" / "vae_nb" / "commands"
    monkeypatch.setattr(commands, "__file__", str(package / "__init__.py"))
    assert main(["rerun", "beta_ten", "--output", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert f"the chapters are not in {tmp_path / 'site-packages' / 'book'}" in message
    assert "pip install -e ." in message and "--book" in message
    assert len(message.splitlines()) == 1


def test_the_default_book_is_this_repositorys():
    assert commands.book_folder() == ROOT / "book"


@pytest.mark.slow
def test_a_folder_of_nothing_but_a_chapter_is_a_book(book, tmp_path):
    alone = tmp_path / "chapters"
    alone.mkdir()
    (alone / "mine.ipynb").write_bytes((book / "toy.ipynb").read_bytes())
    (page,) = rerun("mine", 2, tmp_path / "out", book=alone)
    assert "at beta 2" in words(soup(page))


@pytest.mark.parametrize(
    ("betas", "wanted"),
    [
        (0.5, [0.5]),
        ([0.5, 1, 0.5, 1.0], [0.5, 1]),
        (np.array([0.5, 1.0]), [0.5, 1.0]),
        (np.float32(0.5), [0.5]),
        ((), [None]),
    ],
)
def test_values_reach_the_chapter_once_each_as_plain_numbers(
    betas, wanted, book, tmp_path, monkeypatch
):
    asked = []

    def note(source, target, parameters, **_):
        asked.append(parameters)
        return new_notebook()

    monkeypatch.setattr(papermill, "execute_notebook", note)
    rerun("toy", betas, tmp_path, book=book, execute_only=True, epochs=2)
    assert [parameters.get("beta") for parameters in asked] == wanted
    assert {type(parameters.get("beta")) for parameters in asked} <= {float, int, type(None)}
    assert all(parameters["epochs"] == 2 for parameters in asked)


def test_parameters_of_the_command_line_are_numbers_lists_or_text(monkeypatch):
    asked = {}

    def note(chapter, values, output, **others):
        asked.update(others, chapter=chapter, values=values, output=output)
        return []

    monkeypatch.setattr(module, "rerun", note)
    command = "toy --beta 0.5 1 1e-3 -1 inf --output o -p dataset KMNIST -p images 10 -p betas"
    assert main(["rerun", *command.split(), "[3, 5]"]) == 0
    assert asked == {
        "chapter": "toy",
        "values": [0.5, 1, 0.001, -1, float("inf")],
        "output": "o",
        "book": None,
        "execute_only": False,
        "dataset": "KMNIST",
        "images": 10,
        "betas": [3, 5],
    }
    assert [type(value) for value in asked["values"]] == [float, int, float, int, float]


@pytest.mark.parametrize("text", ["{{ 1 }}", "{[]: 1}", "(" * 300])
def test_what_is_no_literal_of_python_is_text(text):
    assert module.value(text) == text


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,5", "a decimal point is a point, as in 0.5"),
        ("1_0", "'1_0' is not a plain number"),
        ("0x1", "'0x1' is not a plain number"),
        ("٣", "'٣' is not a plain number"),
        ("1j", "'1j' is not a plain number"),
    ],
)
def test_a_number_in_another_spelling_is_refused(text, reason, book, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["rerun", "toy", "--book", str(book), "--beta", text])
    beta = capsys.readouterr().err
    code = main(["rerun", "toy", "--book", str(book), "-p", "epochs", text])
    parameter = capsys.readouterr().err
    assert code == 1
    for message in (beta, parameter):
        assert message.startswith("vae-nb rerun: ") and message.count("\n") == 1
        assert reason in message


def test_names_of_files_are_short_and_safe():
    assert module._slug("toy", {"beta": 0.5, "name": "a/b c"}) == "toy-beta-0.5-name-a-b-c"
    many = [module._slug("toy", {"beta": [*range(60), last]}) for last in (1, 2)]
    assert len(set(many)) == 2
    assert all(len(name) <= 100 for name in many)


def test_the_appendix_lists_every_parameter_of_every_chapter():
    table = (ROOT / "book" / "rerun.md").read_text(encoding="utf-8").partition("## Parameters")[2]
    for chapter in sorted((ROOT / "book").glob("*.ipynb")):
        for name in papermill.inspect_notebook(chapter):
            assert f"`{name}`" in table, f"{chapter.name}: {name}"


@pytest.mark.parametrize(
    ("chapter", "betas", "parameters", "message"),
    [
        ("beta_ten", [0.5, -1], {}, "beta = -1 is not allowed: beta must be a finite number"),
        ("beta_ten", [0.5], {"dataset": "CIFAR"}, "dataset must be one of MNIST, "),
        ("beta_ten", [0.5], {"start_labels": 11}, "start_labels must be a label from 0 to 9"),
        ("beta_tuned", [0.5], {"lower": 2}, "lower must be a number between 0 and 1"),
        ("interpolation", [0.5], {"compared": [0.1, -1]}, "compared must be a list of finite"),
        ("autoencoder", [], {"images": 0.5}, "images must be 0 (all) or how many"),
        ("representations", [0.5], {"latent_dim": 0}, "latent_dim must be"),
    ],
)
def test_what_a_chapter_would_refuse_is_refused_before_a_kernel_starts(
    chapter, betas, parameters, message, tmp_path, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("papermill.execute_notebook", refuse)
    with pytest.raises(ValueError, match=re.escape(message)):
        rerun(chapter, betas, tmp_path, **parameters)
    assert list(tmp_path.iterdir()) == []


def test_a_chapter_with_computed_defaults_is_left_to_its_kernel(tmp_path):
    lines = ["beta = 1 / 2", "epochs = 0", "images = 0", "seed = 0", "latent_dim = 64"]
    lines += ['dataset = "MNIST"', 'profile = "default"']
    cell = new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    own = new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(own, tmp_path / "own.ipynb")
    path = tmp_path / "own.ipynb"
    rerun_chapter.check(path, {"seed": -1}, "own")
    assert rerun_chapter.instant_profile(path, [{"beta": 0.3}]) == {}
    assert rerun_chapter.missing(path, {"beta": 0.3}) == []
    assert rerun_chapter.digest(path, [{"beta": 0.3}]) == ""


TEN, TUNED = (ROOT / "book" / f"{name}.ipynb" for name in ("beta_ten", "beta_tuned"))


def test_parameters_are_those_that_papermill_finds():
    for chapter in sorted((ROOT / "book").glob("*.ipynb")):
        expected = papermill.inspect_notebook(chapter)
        assert rerun_chapter.parameters(chapter).keys() == expected.keys(), chapter.name


@pytest.mark.parametrize(
    ("chapter", "given", "instant"),
    [
        ("beta_ten", {"beta": 0.5}, True),
        ("beta_ten", {"beta": 0.5, "start_labels": 3, "end_labels": 5}, True),
        ("beta_tuned", {"lower": 0.5}, True),
        ("interpolation", {"compared": [0.1, 0.3]}, True),
        ("beta_ten", {}, False),  # its model comes with the package
        ("beta_tuned", {}, False),
        ("beta_ten", {"profile": "default", "beta": 0.5}, False),
        ("beta_ten", {"beta": 0.5, "epochs": 1}, False),  # meant from new weights
        ("beta_ten", {"images": 5000}, False),  # another network of all betas, kept nowhere
        ("beta_ten", {"seed": 3}, False),
        ("autoencoder", {}, False),  # has no beta
    ],
)
def test_a_rerun_is_instant_where_the_network_of_all_betas_is_at_hand(chapter, given, instant):
    found = rerun_chapter.instant_profile(ROOT / "book" / f"{chapter}.ipynb", [given])
    assert found == ({"profile": "instant"} if instant else {})


def test_a_rerun_is_not_instant_where_the_archived_network_is_of_other_code(monkeypatch):
    monkeypatch.setattr("vae_nb.runs.code", lambda recipe: "other")
    assert rerun_chapter.instant_profile(TEN, [{"beta": 0.5}]) == {}


def test_what_a_page_lacks_is_known_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    found = rerun_chapter.missing(TUNED, {"beta": 0.2, "profile": "instant"})
    assert [vae.beta for vae, _ in found] == [0.02, 0.2, 0.4]  # in the order of the page
    assert all(vae.start == "multi_rate" for vae, _ in found)
    low, this, high = (set(shown) for _, shown in found)
    for role, shown in (("low", low), ("this", this), ("high", high)):
        assert report.shows("Q4", role) <= shown
    seconds = rerun_chapter.expected_seconds(["page"], found)
    assert seconds.keys() >= {"page", *(str(vae) for vae, _ in found)}
    assert seconds[str(found[0][0])] < seconds[str(found[1][0])]  # half of the images
    fitted = found[0][0]
    monkeypatch.setattr("vae_nb.runs.is_fitted", lambda recipe: recipe == fitted)
    assert rerun_chapter.missing(TUNED, {"beta": 0.2, "profile": "instant"}) == found[1:]


@pytest.mark.slow
def test_helpers_fit_and_measure_ahead_and_leave_what_others_are_at(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    small = dict(width=2, latent_dim=2, epochs=1, train_images=256)
    one, two, three = (recipe("vae", beta, **small) for beta in (0.1, 0.2, 0.3))
    work = [(each, ["mse_mean"]) for each in (one, two, three)]

    def done(each):
        place = tmp_path / "measured" / runs.digest(each)
        return runs.is_fitted(each) and place.exists()

    with cache.locked(runs.folder() / runs.digest(one)), rerun_ahead.helpers(work):
        until = time.monotonic() + 120
        while not (done(two) and done(three)) and time.monotonic() < until:
            time.sleep(0.2)
        assert done(two) and done(three) and not done(one)
    with rerun_ahead.helpers(work[:1]):  # one model is the kernel's own
        assert not runs.is_being_fitted(one)


PROBE = """
import os, sys, torch
print(os.environ["VAE_NB_CACHE"], torch.get_num_threads(), "vae_nb.report" in sys.modules)
print(os.getcwd(), len(In), sorted({"vae_nb", "report"} & set(dir())))
"""


def test_a_kernel_that_was_started_early_has_the_environment_of_later(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with rerun_kernel.started(TEN) as kernel:
        monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        manager = kernel.handed_over()
        client = manager.blocking_client()
        client.start_channels()
        said = []
        client.execute_interactive(PROBE, output_hook=lambda m: said.append(m["content"]))
        client.stop_channels()
    words = "".join(each.get("text", "") for each in said).split()
    assert words == [str(tmp_path), "1", "True", str(TEN.parent), "2", "[]"]
    assert not manager.is_alive()


STARTED = """
import sys, time
from pathlib import Path
from vae_nb.commands import rerun_kernel
rerun_kernel._IMPORTS = "__import__('time').sleep(120)"  # it would look for its parent afterwards
with rerun_kernel.started(Path(sys.argv[1])) as kernel:
    print(kernel._manager.provisioner.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc on this system")
def test_a_kernel_that_still_imports_ends_with_the_killed_command():
    command = [sys.executable, "-c", STARTED, str(TEN)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    number = process.stdout.readline().strip()
    assert Path(f"/proc/{number}").exists()
    process.kill()
    process.wait()
    process.stdout.close()  # the kernel has it as well: its end would wait for that of the kernel
    until = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and time.monotonic() < until:
        if "Z" in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2][:3]:
            break
        time.sleep(0.1)
    else:
        assert not Path(f"/proc/{number}").exists()


REFUSED = """
import sys
from vae_nb.__main__ import main
assert main(["rerun", "beta_tuned", "--beta", "-1", "--output", sys.argv[1]]) == 1
assert main(["rerun", "beta_ten", "-p", "seed", "x", "--output", sys.argv[1]]) == 1
assert main(["rerun", "interpolation", "-p", "start_labels", "77", "--output", sys.argv[1]]) == 1
heavy = {"torch", "papermill", "jupyter_client", "nbformat", "matplotlib"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_a_bad_value_is_refused_before_anything_heavy_is_imported(tmp_path):
    command = [sys.executable, "-c", REFUSED, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is not allowed") == 3 and not (tmp_path / "out").exists()


def test_all_that_decides_a_page_is_in_its_digest(tmp_path, monkeypatch):
    one = rerun_chapter.digest(TEN, [{"beta": 0.5}])
    assert one == rerun_chapter.digest(TEN, [{"beta": 0.5}]) != ""
    others = [
        rerun_chapter.digest(TUNED, [{"beta": 0.5}]),
        rerun_chapter.digest(TEN, [{"beta": 0.6}]),
        rerun_chapter.digest(TEN, [{"beta": 0.5}, {"beta": 0.6}]),
    ]
    monkeypatch.setattr(rerun_chapter.importlib.metadata, "version", lambda name: "0.0")
    others.append(rerun_chapter.digest(TEN, [{"beta": 0.5}]))
    assert len({one, *others}) == 5
    for name in ("beta_ten.ipynb", "_config.yml"):  # an edit of the chapter, and of the style
        copy = tmp_path / name / "book"
        copy.mkdir(parents=True)
        for path in (TEN, ROOT / "book" / "_config.yml"):
            (copy / path.name).write_bytes(path.read_bytes())
        before = rerun_chapter.digest(copy / "beta_ten.ipynb", [{}])
        (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
        assert rerun_chapter.digest(copy / "beta_ten.ipynb", [{}]) != before


def test_pages_that_would_come_out_the_same_are_left(tmp_path, monkeypatch):
    def made(source, target, parameters, **_):
        nbformat.write(new_notebook(), target)
        runs.append(parameters)
        return new_notebook()

    def renderer(book, site, place):
        return contextlib.nullcontext(
            lambda page, root: (site / f"{root}.html").write_text("page"),
        )

    runs: list[dict] = []
    monkeypatch.setattr(papermill, "execute_notebook", made)
    monkeypatch.setattr(rerun_kernel, "started", lambda source: contextlib.nullcontext())
    monkeypatch.setattr(rerun_pages, "write_page", lambda *_, **__: None)
    monkeypatch.setattr(rerun_pages, "renderer", renderer)
    first = rerun("beta_ten", 0.5, tmp_path)
    assert rerun("beta_ten", 0.5, tmp_path) == first and first[0].is_file()
    assert runs == [{"beta": 0.5, "profile": "instant"}]
    monkeypatch.setattr(rerun_chapter, "digest", lambda *_: "after an edit")
    assert rerun("beta_ten", 0.5, tmp_path) == first
    (first[0].parent / "digest.json").write_text("cut")
    rerun("beta_ten", 0.5, tmp_path)
    assert len(runs) == 3


def test_what_renders_ends_with_an_interrupt(tmp_path, monkeypatch):
    """Else it would write into the folder that is being removed."""
    monkeypatch.setattr(rerun_pages, "_RENDER", "import time\ntime.sleep(60)")
    monkeypatch.setattr(rerun_pages, "_configure", lambda *_: None)
    start, started = rerun_pages._start, []
    monkeypatch.setattr(rerun_pages, "_start", lambda: started.append(start()) or started[-1])

    def interrupted(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        rerun_pages.renderer(tmp_path, tmp_path, tmp_path) as render,
    ):
        render(tmp_path, "toy")
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_kernels_use_archived_models_where_no_book_was_built(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_NB_CACHE", str(tmp_path))
    monkeypatch.setattr(rerun_kernel, "started", lambda source: contextlib.nullcontext())
    asked = []
    monkeypatch.setattr(
        papermill,
        "execute_notebook",
        lambda *_, **__: asked.append(os.environ["VAE_NB_CACHE"]) or new_notebook(),
    )
    rerun("beta_ten", 0.5, tmp_path / "out", execute_only=True)
    assert asked == [str(tmp_path / "preview")] and os.environ["VAE_NB_CACHE"] == str(tmp_path)
    monkeypatch.setattr("vae_nb.runs.is_fitted", lambda recipe: True)
    rerun("beta_ten", 0.6, tmp_path / "out", execute_only=True)
    assert asked[1:] == [str(tmp_path)]


def test_a_rerun_killed_while_it_was_moved_is_put_back(tmp_path):
    dead = tmp_path / ".rerun-dead"
    (dead / "replaced" / "toy").mkdir(parents=True)
    (dead / "replaced" / "toy" / "page").touch()
    (dead / "lock").touch()
    young = tmp_path / ".rerun-young"  # its process has not yet locked it
    young.mkdir()
    with module._scratch(tmp_path):
        assert (tmp_path / "toy" / "page").exists() and not dead.exists() and young.exists()
    os.utime(young, (1e9, 1e9))
    with module._scratch(tmp_path):
        assert not young.exists()


def test_of_two_that_move_at_once_both_end_well(tmp_path, monkeypatch):
    site, place, replaced = (tmp_path / name for name in ("site", "place", "replaced"))
    site.mkdir()
    (site / "mine").touch()
    rename = Path.rename

    def another_comes_between(path: Path, target: Path) -> Path:
        if path == site and not replaced.joinpath("place").exists() and not place.exists():
            place.mkdir()
            (place / "another's").touch()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", another_comes_between)
    module._replace(place, site, replaced)
    assert [path.name for path in place.iterdir()] == ["mine"]
