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
from vae_nb.commands import exercises, plain
from vae_nb.metrics.intervals import exactly

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = (*OF_THE_REPORT, "every_beta", "better_samples", "likelihood", "objective")
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
    checked = set(labels(chapter, "exercise")) & exercises.CHECKED.keys()
    assert sum("# exercises.check(" in source for source in empty) == len(checked)
    with_code = checked | set(coding(name))
    assert sum(source.startswith("# your code") for source in empty) == len(with_code)
    assert all(exercises.is_unanswered(cell) for cell in student.cells if cell.id in taken)


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


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_student_reads_plain_markdown_with_links_that_lead_somewhere(name, tmp_path):
    names = [f"{each}.ipynb" for each in CHAPTERS]
    student = exercises.for_students(read(name), BOOK, tmp_path, names)
    text = "\n".join(cell.source for cell in student.cells if cell.cell_type == "markdown")
    assert not re.findall(r"^:::|^:label:|^```\{|\{[a-z:]+\}`", text, flags=re.MULTILINE)
    assert text.count("### Exercise `ex-") == text.count("<summary>Hint</summary>")
    assert text.count("### Exercise `ex-") == len(labels(read(name), "exercise"))
    links = re.findall(r"\[[^\]]+\]\((?!http)([^)#]+)", text)
    assert links
    for link in links:
        assert link in names or (tmp_path / link).resolve().is_file(), link


@pytest.mark.parametrize("name", OF_THE_REPORT)
def test_a_student_sees_the_figure_and_not_the_answer(name):
    student = exercises.for_students(read(name), BOOK, BOOK)
    text = "\n".join(cell.source for cell in student.cells)
    assert "report.answer" not in text and "Takeaway" not in text and "Think first" in text
    (own,) = (cell for cell in student.cells if "answer" in cell.metadata.get("tags", []))
    assert own.source.splitlines()[-1] in ("figure", "pair")
    assert "report.publish" not in text and "papermill" not in text
    place = next(i for i, cell in enumerate(student.cells) if "Think first" in cell.source)
    assert student.cells[place + 1].source == exercises.PREDICTION
    assert exercises.is_unanswered(student.cells[place + 1])
    summary = text.partition("## Summary")[2]
    (last,) = (cell for cell in student.cells if exercises.SUMMARY in cell.source)
    assert exercises.is_unanswered(last)
    assert "Your summary" in summary and "\n- " not in summary


def test_citations_and_terms_become_words():
    text = "A {term}`VAE` {cite:p}`burda2016` as {cite:t}`lucas2019` say, {term}`nats <nat>`."
    assert plain.markdown(text, BOOK, BOOK) == (
        "A VAE (Burda et al., 2016) as Lucas et al. (2019) say, nats."
    )
    with pytest.raises(ValueError, match="the role numref has no plain form"):
        plain.markdown("{numref}`ex-a`", BOOK, BOOK)
    with pytest.raises(ValueError, match="the directive figure has no plain form"):
        plain.markdown(":::{figure} a.png\ntext\n:::", BOOK, BOOK)


def numbers_that_are_right() -> dict[str, dict[str, float]]:
    from vae_nb import data

    images = data.load("MNIST")
    train, test = (part.flatten(1).numpy() for part in (images.train_images, images.test_images))
    model = PCA(64, svd_solver="covariance_eigh").fit(train)
    median = np.quantile(train, 0.5, axis=0, method="lower")

    def error(picture) -> float:
        return float(np.mean((test - picture) ** 2))

    return {
        "ex-autoencoder-linear": {"pca": error(model.inverse_transform(model.transform(test)))},
        "ex-beta-ten-price": {"nats": 0.067 / (10 / 64)},
        "ex-beta-ten-constant": {
            "mean": error(train.mean(0)),
            "median": error(median),
            "no_ink": error(0.0),
        },
        "ex-interpolation-sphere": {"straight": math.sqrt(32), "sphere": 8.0},
        "ex-objective-units": {"beta": 4 / (784 / 2) * 10, "variance": 4.0},
    }


def test_numbers_of_students_are_checked_and_not_told(capsys):
    right = numbers_that_are_right()
    assert right.keys() == exercises.CHECKED.keys()
    for label, numbers in right.items():
        for factor, agreed in (
            (1.0, True),
            (1.02, True),
            (0.98, True),
            (1.04, False),
            (0.96, False),
        ):
            exercises.check(label, **{name: factor * value for name, value in numbers.items()})
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == len(numbers) + 1 and "was not checked" in lines[-1]
            for line in lines[:-1]:
                assert line.endswith("agrees with ours") == agreed, (label, factor)
                assert not re.search(r"0\.0|\d{3}", line)
    exercises.check("ex-objective-units", variance=-4.0)
    said = capsys.readouterr().out
    assert "variance, the decoder's variance s²: does not agree" in said
    assert "beta, β in the units of this book: not given, not checked" in said
    exercises.check("ex-objective-units", variance=exactly(4.0), beta=np.float32(0.102))
    assert capsys.readouterr().out.count("agrees with ours") == 2


@pytest.mark.parametrize(
    ("label", "numbers", "message"),
    [
        ("ex-objective-elbo", {}, "has no number to check; those that have: ex-autoencoder-linear"),
        ("ex-objective-units", {"b": 1}, "has no number 'b'; it has beta, variance"),
        ("ex-objective-units", {"beta": ...}, "beta = Ellipsis is not one finite number"),
        ("ex-objective-units", {"beta": math.nan}, "beta = nan is not one finite number"),
        ("ex-objective-units", {"beta": "0.1"}, "beta = '0.1' is not one finite number"),
        ("ex-objective-units", {"beta": np.ones(9)}, "beta = array([1., 1., "),
    ],
)
def test_what_cannot_be_checked_is_said(label, numbers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        exercises.check(label, **numbers)


def worked(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def ran(source: str, text: str = "") -> nbformat.NotebookNode:
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
    return nbformat.v4.new_code_cell(source, execution_count=1, outputs=outputs)


def test_a_hand_in_is_all_notebooks_that_were_worked_on_with_their_outputs(tmp_path, capsys):
    text = nbformat.v4.new_markdown_cell
    empty = nbformat.v4.new_code_cell("# your code\n\n# a hint")
    first = worked(text("# One"), ran("print(6 * 7)", "42\n"), text("*Your answer:*"))
    second = worked(text("# Two\n\n### Exercise `ex-a`"), ran("1"), empty, text("Mine"))
    third = worked(text("# Three"), nbformat.v4.new_code_cell("print(1)"))
    paths = [tmp_path / f"{name}.ipynb" for name in ("one", "two", "three")]
    for path, notebook in zip(paths, (first, second, third), strict=True):
        nbformat.write(notebook, path)
    output = tmp_path / "new" / "all.ipynb"
    assert main(["handin", *map(str, paths), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert f"left out, since no cell was run: {paths[2]}" in said
    assert f"{paths[0]}: still empty: One\n" in said
    assert f"{paths[1]}: still empty: Exercise ex-a\n" in said
    merged = nbformat.read(output, as_version=4)
    nbformat.validate(merged)
    sources = [cell.source for cell in merged.cells if "hand-in" not in cell.source]
    assert sources == [cell.source for each in (first, second) for cell in each.cells]
    assert merged.cells[2].outputs[0].text == "42\n"
    assert merged.cells[0].source.endswith("`one.ipynb`")
    before = paths[0].read_bytes()
    assert main(["handin", *map(str, paths), "--output", str(paths[0])]) == 1
    assert "is one of the notebooks; name another file" in capsys.readouterr().err
    assert paths[0].read_bytes() == before
    assert main(["handin", str(paths[2]), "--output", str(output)]) == 1
    assert "nobody has worked on" in capsys.readouterr().err
    assert main(["handin", "nothere.ipynb"]) == 1
    assert "there is no notebook nothere.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (nbformat.v4.new_code_cell("x = 1"), "the cell 'x = 1' was not run; run all cells"),
        (
            nbformat.v4.new_code_cell(
                "1 / 0",
                execution_count=1,
                outputs=[nbformat.v4.new_output("error", ename="ZeroDivisionError")],
            ),
            "the cell '1 / 0' ended in an error",
        ),
    ],
)
def test_a_hand_in_that_was_not_run_is_refused(cell, message, tmp_path, capsys):
    nbformat.write(worked(ran("0"), cell), tmp_path / "one.ipynb")
    assert main(["handin", str(tmp_path / "one.ipynb"), "--output", str(tmp_path / "a.ipynb")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.ipynb").exists()
    assert main(["handin", str(tmp_path / "one.ipynb"), "--output", "a.txt"]) == 1
    assert "--output a.txt is not allowed: it must end in .pdf or .ipynb" in capsys.readouterr().err


@pytest.mark.browser
def test_a_hand_in_prints_text_outputs_and_formulas(tmp_path, chromium):
    from pypdf import PdfReader

    formula = nbformat.v4.new_markdown_cell("# Mine\n\nBy $\\sqrt{32}$ it is shorter.")
    long = "values = [" + ", ".join(f"number_{n}" for n in range(40)) + ", the_last]"
    cells = formula, ran("print(6 * 7)", "forty-two\n"), ran(long)
    nbformat.write(worked(*cells), tmp_path / "one.ipynb")
    output = tmp_path / "hand-in.pdf"
    assert main(["handin", str(tmp_path / "one.ipynb"), "--output", str(output)]) == 0
    text = "\n".join(page.extract_text() for page in PdfReader(output).pages)
    assert "Mine" in text and "forty-two" in text and "it is shorter" in text
    assert "sqrt" not in text  # it is a formula
    assert "the_last" in text.replace("\n", "")  # no line is cut


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
