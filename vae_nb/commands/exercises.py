"""Student versions of the chapters, and a check of the numbers that students find.

In a chapter, a solution is what stands in cells tagged ``solution``, one after the other; in its
place the student finds one empty cell. The answers to "Think first", the takeaway and the summary
are left out as well, and the text is in plain Markdown (:mod:`vae_nb.commands.plain`).

:func:`check` compares a student's number with ours, of which this module holds a digest only.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import itertools
import math
import re
from collections.abc import Collection
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from vae_nb.commands import book_folder, plain

TAG = "solution"
_BEGINS = re.compile(r"^`{3,}\{solution(?:-start)?\}", flags=re.MULTILINE)

Solutions = dict[str, list[NotebookNode]]

# The numbers of an exercise that `check` knows, by name: what each is, and its digest (`seal`).
# They follow from the data or from a formula, so that they are the same for everybody.
CHECKED: dict[str, dict[str, tuple[str, str]]] = {
    "ex-autoencoder-linear": {
        "pca": (
            "held-out squared error of 64 principal components",
            "5454a4e8686eb764",
        ),
    },
    "ex-beta-ten-price": {"nats": ("the most nats that could be paid for", "974fa31f683e7d6a")},
    "ex-beta-ten-constant": {
        "mean": ("held-out squared error of the mean image", "50783ed8bf688841"),
        "median": ("that of the median", "20233d18c4341a96"),
        "no_ink": ("that of a black image", "7f77ffa941c2be5b"),
    },
    "ex-interpolation-sphere": {
        "straight": ("length of the straight midpoint of two draws of N(0, I)", "d8f2f2782ee04e2e"),
        "sphere": ("length of the midpoint along the sphere", "8d821e29c3d8787f"),
    },
    "ex-objective-units": {
        "beta": ("β in the units of this book", "8a214dea525c0903"),
        "s": ("the decoder's standard deviation", "27ec70a44a6dead3"),
    },
}
TOLERANCE = 0.03  # of a number that is checked, relative


def is_solution(cell: NotebookNode) -> bool:
    """Whether a cell, of text or code, is (a part of) a solution."""
    return TAG in cell.metadata.get("tags", [])


def without_solutions(notebook: NotebookNode) -> tuple[NotebookNode, Solutions]:
    """The student version of ``notebook``, and what was taken out of it.

    Each solution is replaced by one cell, of code where the solution has some, with the id of the
    solution's first cell; the solutions are returned by that id. Raises :class:`ValueError` that
    names the cell where a solution stands in a cell without the tag, or beside another one: it
    would reach the students, or take an exercise's cell with it.
    """
    student, solutions = copy.deepcopy(notebook), {}
    student.cells = []
    for solved, group in itertools.groupby(notebook.cells, is_solution):
        cells = [copy.deepcopy(cell) for cell in group]
        begun = sum(len(_BEGINS.findall(cell.source)) for cell in cells)
        if begun != solved:
            raise ValueError(
                f"{begun} solutions begin in the cells {cells[0].id} to {cells[-1].id}; "
                f"each needs cells of its own, all tagged {TAG!r}, with an exercise before them"
            )
        if not solved:
            student.cells += cells
            continue
        place = cells[0].id
        solutions[place] = cells
        student.cells.append(
            new_code_cell(_empty(cells), id=place)
            if any(cell.cell_type == "code" for cell in cells)
            else new_markdown_cell("*Your answer:*", id=place)
        )
    return student, solutions


def _empty(solution: list[NotebookNode]) -> str:
    """The code of an empty cell, with the line that checks its numbers, if they can be checked."""
    label = re.search(r"\{solution(?:-start)?\} (\S+)", solution[0].source)
    names = CHECKED.get(label[1] if label else "", {})
    if not label or not names:
        return "# your code"
    call = f'exercises.check("{label[1]}", {", ".join(f"{name}=..." for name in names)})'
    return f"# your code\n\n# from vae_nb.commands import exercises\n# {call}"


def for_students(
    notebook: NotebookNode, book: Path, folder: Path, beside: Collection[str] = ()
) -> NotebookNode:
    """A chapter without solutions, without what would answer its questions, in plain Markdown.

    A figure that stands beside an answer is shown alone. The chapter is of ``book``; it and those
    named in ``beside`` will lie in ``folder``.
    """
    student, _ = without_solutions(notebook)
    for cell in student.cells:
        if cell.cell_type == "markdown":
            cell.source = plain.markdown(_without_answers(cell.source), book, folder, beside)
        elif "answer" in cell.metadata.get("tags", []):
            cell.source = _figure_alone(cell.source)
    return student


_TAKEAWAY = re.compile(r"^:::\{admonition\} Takeaway\n.*?^:::\n+", re.MULTILINE | re.DOTALL)
_SUMMARY = re.compile(r"^(## Summary\n\n)(?:- [^\n]*\n)+", re.MULTILINE)


def _without_answers(text: str) -> str:
    text = _TAKEAWAY.sub("", text)
    return _SUMMARY.sub(r"\1*Your summary, in three sentences:*\n", text)


def _figure_alone(code: str) -> str:
    """The cell with the figure in place of ``report.answer(question, figure, ...)``, its last line.

    Raises :class:`ValueError` where it ends otherwise.
    """
    last = ast.parse(code).body[-1]
    call = getattr(last, "value", None)
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "report.answer":
        raise ValueError(f"a cell tagged 'answer' has to end in report.answer(...), not {code!r}")
    before = code.splitlines()[: last.lineno - 1]
    return "\n".join([*before, ast.unparse(call.args[1])])


# --- numbers that students find ---


def seal(label: str, name: str, value: float) -> list[str]:
    """Digests of a number and of its neighbours, TOLERANCE apart; the second is that of its own."""
    step = math.floor(math.log(abs(value)) / math.log1p(TOLERANCE)) if value else 0
    sign = math.copysign(1, value)
    parts = [f"{label} {name} {sign:g} {step + shift}" for shift in (-1, 0, 1)]
    return [hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts]


def check(label: str, **numbers: float) -> None:
    """Print whether numbers found in the exercise ``label`` agree with ours.

    Ours are those of MNIST and of a chapter's own parameters. Raises :class:`ValueError` for an
    exercise without such numbers, for a name that it lacks, and for what is not a finite number.
    """
    known = CHECKED.get(label)
    if known is None:
        raise ValueError(f"{label} has no number to check; those that have: {', '.join(CHECKED)}")
    for name, value in numbers.items():
        if name not in known:
            raise ValueError(f"{label} has no number {name!r}; it has {', '.join(known)}")
        try:
            found = float(value)
        except TypeError:
            found = math.nan
        if not math.isfinite(found):
            raise ValueError(f"{name} = {value!r} is not a finite number")
        agrees = known[name][1] in seal(label, name, found)
        print(f"{name}, {known[name][0]}: {'agrees' if agrees else 'does not agree'} with ours")
    for name in known.keys() - numbers.keys():
        print(f"{name}, {known[name][0]}: not given, not checked")
    print(
        f"Agreement is to about {100 * TOLERANCE:.0f} %. How you got there, and what you conclude, "
        "was not checked."
    )


def with_solutions(student: NotebookNode, solutions: Solutions) -> NotebookNode:
    """``student`` with every solution back in its place: the chapter again."""
    chapter = copy.deepcopy(student)
    chapter.cells = [
        copy.deepcopy(part) for cell in student.cells for part in solutions.get(cell.id, [cell])
    ]
    return chapter


def write(output: str | Path = "exercises", book: str | Path | None = None) -> list[Path]:
    """Write the student version of every chapter that has exercises; returns their paths.

    Raises :class:`FileExistsError`, before anything is written, if one is there with another
    content: a student may have worked in it.
    """
    source, folder = book_folder(book), Path(output).resolve()
    read = {path.name: nbformat.read(path, as_version=4) for path in sorted(source.glob("*.ipynb"))}
    with_some = {name: each for name, each in read.items() if any(map(is_solution, each.cells))}
    chapters = {}
    for name, chapter in with_some.items():
        student = for_students(chapter, source, folder, with_some)
        chapters[Path(output) / name] = nbformat.writes(student) + "\n"
    for path, text in chapters.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(
                f"{path} is there already and differs, perhaps by a student's work: "
                "move it away, or write elsewhere with --output"
            )
    for path, text in chapters.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(chapters)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb exercises``."""
    parser.add_argument("--output", default="exercises", help="folder for them (%(default)s)")
    parser.add_argument("--book", help="folder of the chapters, if not beside the package")


def run(given: argparse.Namespace) -> int:
    """Write them, and print their paths."""
    print(*write(given.output, given.book), sep="\n")
    return 0
