"""Student versions of the chapters: the solutions taken out, everything else as it is.

In a chapter, a solution is what stands in cells tagged ``solution``, one after the other; in its
place the student finds one empty cell.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from vae_nb.commands import book_folder

TAG = "solution"
_BEGINS = re.compile(r"^`{3,}\{solution(?:-start)?\}", flags=re.MULTILINE)

Solutions = dict[str, list[NotebookNode]]


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
            new_code_cell("# your code", id=place)
            if any(cell.cell_type == "code" for cell in cells)
            else new_markdown_cell("*Your answer:*", id=place)
        )
    return student, solutions


def with_solutions(student: NotebookNode, solutions: Solutions) -> NotebookNode:
    """``student`` with every solution back in its place: the chapter again."""
    chapter = copy.deepcopy(student)
    chapter.cells = [
        copy.deepcopy(part) for cell in student.cells for part in solutions.get(cell.id, [cell])
    ]
    return chapter


def write(output: str | Path = "exercises", book: str | Path | None = None) -> list[Path]:
    """Write the student version of every chapter that has solutions; returns their paths.

    Raises :class:`FileExistsError`, before anything is written, if one is there with another
    content: a student may have worked in it.
    """
    chapters = {}
    for path in sorted(book_folder(book).glob("*.ipynb")):
        student, solutions = without_solutions(nbformat.read(path, as_version=4))
        if solutions:
            chapters[Path(output) / path.name] = nbformat.writes(student) + "\n"
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
