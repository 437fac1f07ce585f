"""The commands of ``vae-nb``, one module each, and what several of them need.

A command's module has ``add_arguments(parser)``, ``run(given)`` for the command line, which returns
the exit code, and a function of its own for Python.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# Jupyter Book has no `python -m`. A build ends with whoever started it, also if that was killed:
# its kernels look whether it is still there, as it does here.
_START = """
import os, threading, time
def follow():
    while os.getppid() == {parent}:
        time.sleep(1)
    os._exit(143)
if hasattr(os, "getppid") and os.name != "nt":
    threading.Thread(target=follow, daemon=True).start()
from jupyter_book.cli.main import main
main()
"""


def build_command(book: str | Path, *options: str) -> list[str]:
    """The command line by which Jupyter Book builds the folder ``book``, with this Python.

    It is for a child of this process, and ends with it.
    """
    start = _START.format(parent=os.getpid())
    return [sys.executable, "-c", start, "build", str(book), *options]


def literal(text: object) -> str:
    """Any text as a code span of Markdown, in which nothing is markup."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


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
