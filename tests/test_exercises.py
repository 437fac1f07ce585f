"""Exercises: every chapter has some, their solutions are true, and students do not get them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from sklearn.decomposition import PCA
from test_book import CHAPTERS as OF_THE_REPORT

from vae_nb.__main__ import main
from vae_nb.commands import exercises

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = (*OF_THE_REPORT, "every_beta", "objective")
DIRECTIVE = r"^`{{3,}}\{{{}\}}(?:\n:label:)? (\S+)$"


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(BOOK / f"{name}.ipynb", as_version=4)


def labels(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(DIRECTIVE.format(kind), text, flags=re.MULTILINE)


def coding(name: str) -> list[str]:
    """The exercises of a chapter whose solution is code, by the cells in the notebook."""
    return labels(read(name), "solution-start")


# --- what they are made of ---


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_exercise_has_one_solution_and_some_have_code(name):
    notebook = read(name)
    asked, solved = labels(notebook, "exercise"), labels(notebook, "solution(?:-start)?")
    assert len(asked) >= 2 and asked == solved
    assert all(label.startswith(f"ex-{name.replace('_', '-')}-") for label in asked)
    assert coding(name)
    codes = [c for c in notebook.cells if exercises.is_solution(c) and c.cell_type == "code"]
    assert len(codes) == len(coding(name)) == len(labels_of_ends(notebook))
    assert all(cell.metadata.tags == ["solution"] for cell in codes)


def labels_of_ends(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.id for cell in notebook.cells if cell.source.endswith("```{solution-end}\n```")]


# --- in the built book ---


@pytest.fixture(scope="module")
def solutions(quick_book) -> dict[str, Tag]:
    """The solutions of the built book, by the label of their exercise."""
    found = {}
    for name in CHAPTERS:
        page = BeautifulSoup((quick_book / f"{name}.html").read_text(), "html.parser")
        for solution in page.select("div.solution"):
            found[solution.select_one(".admonition-title a")["href"].lstrip("#")] = solution
    return found


@pytest.fixture(scope="module")
def said(solutions) -> Callable[[str], list[float]]:
    """All numbers that the code of a solution printed, in order."""

    def numbers(label: str) -> list[float]:
        text = "\n".join(output.text for output in solutions[label].select(".output.stream"))
        return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]

    return numbers


@pytest.mark.slow
def test_solutions_are_folded_and_hold_their_code_and_its_output(solutions):
    assert set(solutions) == {
        label for name in CHAPTERS for label in labels(read(name), "exercise")
    }
    for name in CHAPTERS:
        for label in coding(name):
            assert "dropdown" in solutions[label]["class"]
            (cell,) = solutions[label].select(".cell.tag_solution")
            assert cell.select_one(".cell_input") and cell.select_one(".cell_output")
            assert not cell.select(".traceback, .stderr"), label


@pytest.mark.slow
def test_no_solution_is_seen_outside_of_its_fold(solutions, quick_book):
    for name in CHAPTERS:
        page = BeautifulSoup((quick_book / f"{name}.html").read_text(), "html.parser")
        for cell in page.select(".cell.tag_solution"):
            assert cell.find_parent("div", class_="solution"), name


@pytest.mark.slow
def test_principal_components_are_those_of_scikit_learn(said):
    from conftest import QUICK

    from vae_nb import data

    images = data.load(QUICK["dataset"])
    train, test = (part.flatten(1).numpy() for part in (images.train_images, images.test_images))
    model = PCA(64, svd_solver="full").fit(train)
    error = np.mean((test - model.inverse_transform(model.transform(test))) ** 2)
    assert said("ex-autoencoder-linear")[0] == pytest.approx(error, abs=6e-5)


@pytest.mark.slow
def test_monte_carlo_agrees_with_the_closed_form(said):
    estimate, error, closed = said("ex-beta-zero-kl")[:3]
    assert 0 < error < 0.1 * closed
    assert abs(estimate - closed) < 5 * error + 1e-3


@pytest.mark.slow
def test_the_mean_is_the_best_constant_picture(said):
    from conftest import QUICK

    from vae_nb import data

    images = data.load(QUICK["dataset"])
    train, test = images.train_images.numpy(), images.test_images.numpy()
    expected = [
        np.mean((test - picture) ** 2)
        for picture in (train.mean(0), np.quantile(train, 0.5, axis=0, method="lower"), 0.0)
    ]
    found = said("ex-beta-ten-constant")[:3]
    assert found == pytest.approx(expected, abs=6e-5)
    assert found == sorted(found)


@pytest.mark.slow
def test_bisection_finds_the_variance_that_training_learns(said):
    found, learned = said("ex-beta-tuned-sigma")
    assert found == pytest.approx(learned, rel=0.25)


@pytest.mark.slow
def test_a_midpoint_in_64_dimensions_is_shorter_by_the_root_of_two(said):
    numbers = said("ex-interpolation-sphere")
    ends, straight, sphere = numbers[numbers.index(0) + 1 :][:3]  # behind the 0 of N(0, I)
    assert ends == pytest.approx(8, rel=0.02)
    assert straight == pytest.approx(8 / math.sqrt(2), rel=0.02)
    assert sphere == pytest.approx(8, rel=0.02)


@pytest.mark.slow
def test_labels_without_meaning_are_learned_by_heart_and_read_nothing(said):
    numbers = said("ex-representations-shuffled")
    lines = [numbers[i : i + 3] for i in range(0, len(numbers), 3)]
    for (count, own, new), (_, own_shuffled, new_shuffled) in (lines[:2], lines[2:]):
        assert new > 30 and new_shuffled < 20, count
        assert own_shuffled > new_shuffled and own >= own_shuffled


@pytest.mark.slow
def test_our_objective_is_the_elbo_but_for_a_factor_and_a_constant(said):
    by_library, by_ours = said("ex-objective-elbo")
    assert by_library == pytest.approx(by_ours, abs=0.01)


# --- the students' chapters ---


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_solution_put_back_makes_the_chapter_again(name):
    chapter = read(name)
    student, taken = exercises.without_solutions(chapter)
    assert len(taken) == len(labels(chapter, "exercise"))
    assert student != chapter
    assert exercises.with_solutions(student, taken) == chapter
    back = nbformat.writes(exercises.with_solutions(student, taken)) + "\n"
    assert back == (BOOK / f"{name}.ipynb").read_text()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_student_gets_every_exercise_and_nothing_of_a_solution(name):
    chapter = read(name)
    student, taken = exercises.without_solutions(chapter)
    nbformat.validate(student)
    assert labels(student, "exercise") == labels(chapter, "exercise")
    kept = [cell for cell in chapter.cells if not exercises.is_solution(cell)]
    assert [cell for cell in student.cells if cell.id not in taken] == kept
    text = "\n".join(cell.source for cell in student.cells)
    own = {line.strip() for cell in kept for line in cell.source.splitlines()}
    for line in {
        line.strip() for cells in taken.values() for c in cells for line in c.source.splitlines()
    }:
        assert line in own or len(line) < 12 or line not in text, line
    assert "{solution" not in text
    empty = [cell.source for cell in student.cells if cell.id in taken]
    assert empty.count("# your code") == len(coding(name))


def test_a_solution_that_would_reach_students_is_refused():
    cell = nbformat.v4.new_markdown_cell("```{exercise}\n```\n\n```{solution} ex\nIt is 4.\n```")
    with pytest.raises(ValueError, match=cell.id):
        exercises.without_solutions(nbformat.v4.new_notebook(cells=[cell]))
    pair = [
        nbformat.v4.new_markdown_cell(
            f"```{{solution}} {label}\n```", metadata={"tags": ["solution"]}
        )
        for label in ("ex-a", "ex-b")
    ]
    with pytest.raises(ValueError, match="with an exercise before them"):
        exercises.without_solutions(nbformat.v4.new_notebook(cells=pair))


def test_the_command_writes_chapters_for_students_and_keeps_their_work(tmp_path, capsys):
    folder = tmp_path / "for students"
    assert main(["exercises", "--output", str(folder)]) == 0
    assert {path.stem for path in folder.glob("*.ipynb")} == set(CHAPTERS)
    assert capsys.readouterr().out.split("\n")[:-1] == sorted(map(str, folder.iterdir()))
    assert main(["exercises", "--output", str(folder)]) == 0  # nothing has changed
    work = folder / "objective.ipynb"
    changed = json.loads(work.read_text())
    changed["cells"][-1]["source"] = ["mine"]
    work.write_text(json.dumps(changed))
    assert main(["exercises", "--output", str(folder)]) == 1
    assert str(work) in capsys.readouterr().err and "mine" in work.read_text()
