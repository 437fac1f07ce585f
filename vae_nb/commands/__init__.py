"""The commands of ``vae-nb``, one module each, and what several of them need.

A command's module has ``add_arguments(parser)``, ``run(given)`` for the command line, which returns
the exit code, and a function of its own for Python.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# A child ends with whoever started it, also if that was killed: as kernels do, once they have
# started, it looks whether its parent is still there.
_FOLLOW = """
import os, threading, time
def follow():
    while os.getppid() == {parent}:
        time.sleep(1)
    os._exit(143)
if hasattr(os, "getppid") and os.name != "nt":
    threading.Thread(target=follow, daemon=True).start()
"""


# jsonschema imports it where it is there, for addresses in schemas. To build its grammar takes two
# seconds, and no notebook has such an address.
_SLOW = "rfc3987_syntax"


@contextlib.contextmanager
def light_imports() -> Iterator[None]:
    """Let notebooks be read, as long as this is entered, without a module that takes seconds."""
    if _SLOW in sys.modules:
        yield
        return
    sys.modules[_SLOW] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_SLOW]


def following() -> str:
    """Code that ends its process with ours."""
    return _FOLLOW.format(parent=os.getpid())


def child_command(code: str, *arguments: str) -> list[str]:
    """The command line that runs ``code`` by this Python, for a child that ends with us."""
    light = f"import sys\nsys.modules[{_SLOW!r}] = None\n"
    return [sys.executable, "-c", following() + light + code, *arguments]


def build_command(book: str | Path, *options: str) -> list[str]:
    """The command line by which Jupyter Book builds the folder ``book``, with this Python.

    It is for a child of this process, and ends with it.
    """
    start = "from jupyter_book.cli.main import main\nmain()"  # it has no `python -m`
    return child_command(start, "build", str(book), *options)


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
