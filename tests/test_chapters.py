"""Every chapter runs, twice the same, and refuses what it cannot do with one clear error."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import NOT_COMPARED, QUICK, THREADS

from vae_nb.metrics import METRICS

BOOK = Path(__file__).resolve().parents[1] / "book"
PAGES = sorted(path.stem for path in BOOK.glob("*.ipynb"))
CHAPTERS = [name for name in PAGES if name not in ("index", "objective")]
QUESTIONS = {"autoencoder", "beta_zero", "beta_ten", "beta_tuned", "interpolation"}
QUESTIONS |= {"representations"}  # of row R8


def cells(name: str, kind: str = "code") -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def tagged(name: str, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in cells(name) if tag in cell.metadata.get("tags", [])]


# --- what they are made of ---


def test_the_chapters_of_the_report_are_there():
    assert set(CHAPTERS) >= QUESTIONS


@pytest.mark.parametrize("name", PAGES)
def test_cells_are_short(name):
    assert all(len(cell.source.splitlines()) <= 15 for cell in cells(name))


@pytest.mark.parametrize("name", [*CHAPTERS, "index"])
def test_parameters_are_literals_with_a_comment_each_and_come_first(name):
    (parameters,) = tagged(name, "parameters")
    assert cells(name)[0] == parameters
    for statement in ast.parse(parameters.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assert all("  # " in line for line in parameters.source.splitlines())


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_a_question_is_asked_before_it_is_answered(name):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    (answer,) = (
        i for i, cell in enumerate(notebook.cells) if "answer" in cell.metadata.get("tags", [])
    )
    asked = [i for i, cell in enumerate(notebook.cells) if "Think first" in cell.source]
    assert len(asked) == 1 and asked[0] < answer
    assert "hide-input" in notebook.cells[answer].metadata.tags


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_prose_has_no_typed_results(name):
    """A decimal number in a page's prose is a setting or a constant, never a measured value."""
    allowed = {"0.0001", "0.5", "0.03", "0.067", "0.156", "0.1", "0.01", "0.2", "1.5", "0.006"}
    allowed |= {"0.001", "1.5e-3", "1.1"}
    prose = " ".join(cell.source for cell in cells(name, "markdown"))
    assert set(re.findall(r"(?<!C)\b\d+\.\d+(?:e-?\d+)?", prose)) <= allowed


@pytest.mark.parametrize("name", PAGES)
def test_jupyterlab_folds_what_the_book_folds(name):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        tags, folded = set(cell.metadata.get("tags", [])), cell.metadata.get("jupyter", {})
        solution, code = "solution" in tags, cell.cell_type == "code"
        hidden = solution or bool(tags & {"hide-input", "remove-input", "remove-cell"})
        # A box that the extension for MyST folds itself; and parameters are there to be changed.
        own = not code and ":class: dropdown" in cell.source or "parameters" in tags
        assert folded.get("source_hidden", False) == (hidden and not own), cell.id
        assert folded.get("outputs_hidden", False) == (solution and code), cell.id


def test_figure_names_are_unique():
    names = [
        found
        for name in PAGES
        for cell in cells(name)
        for found in re.findall(rf'"({name.replace("_", "-")}-\w+)"', cell.source)
    ]
    assert len(names) == len(set(names)) >= 15


def test_every_reference_is_cited_where_it_is_used():
    known = set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.MULTILINE))
    texts = [cell.source for name in PAGES for cell in cells(name, "markdown")]
    texts += [path.read_text() for path in BOOK.glob("*.md") if path.stem != "glossary"]
    texts += [metric.about for metric in METRICS.values()]
    texts += [path.read_text() for path in (BOOK.parent / "vae_nb/report").glob("*.md")]
    keys = re.findall(r"\{cite(?::[pt])?\}`([^`]+)`", "\n".join(texts))
    assert {key.strip() for group in keys for key in group.split(",")} == known
    assert len(known) >= 15


# --- running them ---


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_runs_twice_in_one_kernel_and_is_otherwise_left_as_it_was(name, executed):
    notebook = nbformat.read(executed(name), as_version=4)  # compared by pytest-notebook
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source)
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds and kinds & {"display_data", "stream"}


@pytest.mark.slow
def test_two_runs_with_stores_of_their_own_have_the_same_outputs(
    quick_chapter, nb_regression, tmp_path, monkeypatch, own_cache
):
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS)
    first = tmp_path / "first.ipynb"
    papermill.execute_notebook(quick_chapter("beta_zero"), first, cwd=BOOK, progress_bar=False)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for kept in ("data", "classifiers"):  # not what is tested here; the run is fitted again
        (fresh / kept).symlink_to(own_cache / kept)
    monkeypatch.setenv("VAE_NB_CACHE", str(fresh))
    nb_regression.exec_cwd = str(BOOK)
    nb_regression.exec_timeout = 900
    nb_regression.diff_ignore = NOT_COMPARED
    nb_regression.check(str(first))
    assert len([path for path in (fresh / "runs").iterdir() if path.is_dir()]) == 2


@pytest.mark.slow
def test_papermill_runs_a_chapter_from_any_folder_with_any_beta(tmp_path, small_set):
    out = tmp_path / "out.ipynb"
    arguments = ["-p", "beta", "0.5"]
    for name, value in QUICK.items():
        arguments += ["-p", name, str(value)]
    command = [sys.executable, "-m", "papermill", str(BOOK / "beta_ten.ipynb"), str(out)]
    subprocess.run([*command, *arguments], cwd=tmp_path, check=True, capture_output=True)
    notebook = nbformat.read(out, as_version=4)
    shown = [
        output.data.get("text/markdown", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "display_data"
    ]
    assert any("β = 0.5 (the report has 10)" in text for text in shown)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "message"),
    [
        ("beta_ten", "latent_dim", 0, "latent_dim = 0"),
        ("beta_ten", "beta", -1, "beta = -1"),
        ("beta_ten", "beta", math.nan, "beta = nan"),
        ("beta_ten", "beta", math.inf, "beta = inf"),
        ("interpolation", "beta", "high", "beta = 'high'"),
        ("beta_zero", "epochs", -2, "epochs = -2"),
        ("beta_zero", "seed", 0.5, "seed = 0.5"),
        ("autoencoder", "images", "all", "images = 'all'"),
        ("autoencoder", "dataset", "CIFAR10", "dataset = 'CIFAR10'"),
        ("autoencoder", "profile", "fast", "profile = 'fast'"),
        ("interpolation", "start_labels", 11, "start_labels = 11"),
        ("beta_tuned", "higher", 0.5, "higher = 0.5"),
        ("interpolation", "compared", [0.1, -1], "compared = [0.1, -1]"),
        ("representations", "compared", 0.1, "compared = 0.1"),
        ("every_beta", "beta", 0.0, "beta = 0.0"),
        ("every_beta", "beta", 11, "beta = 11"),
        ("better_samples", "density", "copula", "density = 'copula'"),
        ("better_samples", "beta", -1, "beta = -1"),
        ("likelihood", "samples", 0, "samples = 0"),
        ("likelihood", "seed", -1, "seed = -1"),
    ],
)
def test_a_bad_parameter_stops_a_chapter_before_it_trains(
    name, parameter, value, message, monkeypatch
):
    from vae_nb import training

    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("it trained"))
    given, first = cells(name)[:2]
    namespace = {"__name__": "__main__"}
    exec(given.source, namespace)
    namespace[parameter] = value  # as papermill's injected cell does
    with pytest.raises(ValueError) as caught:
        exec(first.source, namespace)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [("bta", "0.5", "unknown parameter 'bta'"), ("beta", "nan", "beta = nan")],
)
def test_papermill_ends_with_that_error(parameter, value, message, tmp_path):
    command = [sys.executable, "-m", "papermill", str(BOOK / "beta_ten.ipynb")]
    run = subprocess.run(
        [*command, str(tmp_path / "out.ipynb"), "-p", parameter, value],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    last = [line for line in run.stderr.splitlines() if line.strip()][-1]
    assert last.startswith("ValueError") and message in last
