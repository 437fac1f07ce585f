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
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from vae_nb import cache
from vae_nb.commands import book_folder, plain

TAG = "solution"
# What a student finds in the place of what he is to write.
CODE, ANSWER, PREDICTION = "# your code", "*Your answer:*", "*Your prediction, and why:*"
SUMMARY = "*Your summary, in three sentences:*"
_BEGINS = re.compile(r"^`{3,}\{solution(?:-start)?\}", flags=re.MULTILINE)

Solutions = dict[str, list[NotebookNode]]

# The numbers of an exercise that `check` knows, by name: what each is, and its digest (`seal`).
# They follow from the data or from a formula, so that they are the same for everybody.
CHECKED: dict[str, dict[str, tuple[str, str]]] = {
    "ex-autoencoder-linear": {
        "pca": (
            "held-out squared error of 64 principal components",
            "ff0d716c3bb1a71b",
        ),
    },
    "ex-beta-ten-price": {"nats": ("the most nats that could be paid for", "2cd1e6317123fdf3")},
    "ex-beta-ten-constant": {
        "mean": ("held-out squared error of the mean image", "cacc4b84d332ae02"),
        "median": ("that of the median", "76781495dfa8c1b3"),
        "no_ink": ("that of a black image", "b45e86aa30536e4d"),
    },
    "ex-interpolation-sphere": {
        "straight": ("length of the straight midpoint of two draws of N(0, I)", "745ada1fafe81846"),
        "sphere": ("length of the midpoint along the sphere", "3f15012099a1a4ff"),
    },
    "ex-objective-units": {
        "beta": ("β in the units of this book", "072342196c0565ad"),
        "variance": ("the decoder's variance s²", "b111ebf737bf08ce"),
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
            new_code_cell(source, id=place)
            if (source := _empty(cells))
            else new_markdown_cell(ANSWER, id=place)
        )
    return student, solutions


def _empty(solution: list[NotebookNode]) -> str:
    """The code of an empty cell, with a line that checks numbers; "" where words are asked for."""
    label = re.search(r"\{solution(?:-start)?\} (\S+)", solution[0].source)
    names = CHECKED.get(label[1] if label else "", {})
    if label and names:
        call = f'exercises.check("{label[1]}", {", ".join(f"{name}=..." for name in names)})'
        return f"{CODE}\n\n# from vae_nb.commands import exercises\n# {call}"
    return CODE if any(cell.cell_type == "code" for cell in solution) else ""


def is_unanswered(cell: NotebookNode) -> bool:
    """Whether a cell for an answer is as the student found it."""
    if cell.cell_type == "code":
        lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
        return lines[:1] == [CODE] and all(line.startswith("#") for line in lines)
    return bool({ANSWER, PREDICTION, SUMMARY} & set(cell.source.splitlines()))


def for_students(
    notebook: NotebookNode, book: Path, folder: Path, beside: Collection[str] = ()
) -> NotebookNode:
    """A chapter without solutions, without what would answer its questions, in plain Markdown.

    A figure that stands beside an answer is shown alone. The chapter is of ``book``; it and those
    named in ``beside`` will lie in ``folder``.
    """
    student, _ = without_solutions(notebook)
    cells, student.cells = student.cells, []
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if "remove-cell" in tags and "parameters" not in tags:
            continue  # numbers for programs
        if "answer" in tags:
            cell.source = _figure_alone(cell.source)
        student.cells.append(cell)
        if cell.cell_type == "markdown":
            asks = "{admonition} Think first" in cell.source
            cell.source = plain.markdown(_without_answers(cell.source), book, folder, beside)
            if asks:
                student.cells.append(new_markdown_cell(PREDICTION, id=f"{cell.id}-prediction"))
    return student


_TAKEAWAY = re.compile(r"^:::\{admonition\} Takeaway\n.*?^:::\n+", re.MULTILINE | re.DOTALL)
_ANSWERS = ("report.answer", "report.answer_beside")  # the figure is the second argument
_PAPERMILL = re.compile(r",? or call `papermill [^`]*`")  # it would run the chapter with answers
_SUMMARY = re.compile(r"^(## Summary\n\n)(?:- [^\n]*\n)+", re.MULTILINE)


def _without_answers(text: str) -> str:
    for pattern in (_TAKEAWAY, _PAPERMILL):
        text = pattern.sub("", text)
    return _SUMMARY.sub(rf"\1{SUMMARY}\n", text)


def _figure_alone(code: str) -> str:
    """The cell with the figure in place of ``report.answer(question, figure, ...)``, its last line.

    Raises :class:`ValueError` where it ends otherwise.
    """
    last = ast.parse(code).body[-1]
    call = getattr(last, "value", None)
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in _ANSWERS:
        raise ValueError(f"a cell tagged 'answer' has to end in report.answer(...), not {code!r}")
    before = code.splitlines()[: last.lineno - 1]
    return "\n".join([*before, ast.unparse(call.args[1])])


# --- numbers that students find ---


def seal(label: str, name: str, value: float) -> list[str]:
    """Digests of a number and of those about TOLERANCE around it; its own is in the middle."""
    step = TOLERANCE / 4
    own = math.floor(math.log(abs(value)) / step) if value else 0
    sign = math.copysign(1, value)
    parts = [f"{label} {name} {sign:g} {own + shift}" for shift in range(-4, 5)]
    return [hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts]


def check(label: str, **numbers: Any) -> None:
    """Print whether numbers found in the exercise ``label`` agree with ours.

    Ours are those of MNIST and of a chapter's own parameters. An ``Estimate`` is taken by its
    value. Raises :class:`ValueError` for an exercise without such numbers, for a name that it
    lacks, and for what is not one finite number.
    """
    known = CHECKED.get(str(label))
    if known is None:
        raise ValueError(f"{label!r} has no number to check; those that have: {', '.join(CHECKED)}")
    for name, given in numbers.items():
        if name not in known:
            raise ValueError(f"{label} has no number {name!r}; it has {', '.join(known)}")
        agrees = known[name][1] in seal(label, name, _number(name, given))
        print(f"{name}, {known[name][0]}: {'agrees' if agrees else 'does not agree'} with ours")
    for name in known:
        if name not in numbers:
            print(f"{name}, {known[name][0]}: not given, not checked")
    print(
        f"Ours are of MNIST, at the chapter's own parameters; agreement is to about "
        f"{100 * TOLERANCE:.0f} %. How you got there, and what you conclude, was not checked."
    )


def _number(name: str, given: Any) -> float:
    value = getattr(given, "value", given)
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # as NumPy and torch have it
        found = math.nan
    if not math.isfinite(found):
        shown = " ".join(repr(value).split())
        shown = shown if len(shown) < 40 else f"{shown[:40]}…"
        raise ValueError(f"{name} = {shown} is not one finite number")
    return found


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
    folder.mkdir(parents=True, exist_ok=True)
    for dead in folder.glob(".*.ipynb-????????"):  # of a killed process
        dead.unlink()
    for path, text in chapters.items():
        cache.write_atomically(path, text)
    return list(chapters)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb exercises``."""
    parser.add_argument(
        "--output",
        default="exercises",
        help="folder for them (%(default)s); a notebook that was worked in is never overwritten",
    )
    parser.add_argument("--book", help="folder of the chapters, if not beside the package")


def run(given: argparse.Namespace) -> int:
    """Write them, and print their paths."""
    print(*write(given.output, given.book), sep="\n")
    return 0
