"""The commands of ``vae-nb``, one module each, and what several of them need.

A command's module has ``add_arguments(parser)``, ``run(given)`` for the command line, which returns
the exit code, and a function of its own for Python.
"""

from __future__ import annotations

import sys
from pathlib import Path


def build_command(book: str | Path, *options: str) -> list[str]:
    """The command line by which Jupyter Book builds the folder ``book``, with this Python."""
    start = "from jupyter_book.cli.main import main; main()"  # it has no `python -m`
    return [sys.executable, "-c", start, "build", str(book), *options]


def book_folder(book: str | Path | None = None) -> Path:
    """The folder of the chapters: ``book``, or else that beside the package.

    Raises :class:`FileNotFoundError` that says where they come from, if there are none.
    """
    folder = Path(book).resolve() if book else Path(__file__).resolve().parents[2] / "book"
    if not any(folder.glob("*.ipynb")):
        raise FileNotFoundError(
            f"the chapters are not in {folder}: they come with a clone of the repository, not with "
            "an installed vae_nb. Run `pip install -e .` in a clone, or name a folder of notebooks "
            "(book=..., --book ...)"
        )
    return folder
