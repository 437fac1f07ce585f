"""The one command line: ``vae-nb COMMAND`` or ``python -m vae_nb COMMAND``.

A command's module is imported only when it is asked for: ``vae-nb --help`` loads none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

COMMANDS = {
    "preview": "build the whole book from archived models, without any training",
    "rerun": "run a chapter with other parameters and render it as a page",
    "sweep": "train and measure a grid of betas with several seeds, as one table",
    "verify": "compare the verdicts with those that the chapters were written for",
    "exercises": "write the chapters for students, without the solutions",
    "handin": "make one PDF, or one notebook, of worked exercises",
    "pdf": "print the whole book as one PDF, by Chromium",
    "cache": "list, measure or clear out what is kept on disk",
}

_CACHE = "vae_nb.commands.cache"

# What a user can mend. Anything else is a fault of this package, and its traceback is wanted.
_EXPECTED = (
    ValueError,
    OSError,
    RuntimeError,
    ArithmeticError,
    ImportError,
    subprocess.SubprocessError,
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors here."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` explains)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, 1 after an error, 2 for wrong usage, 130 when interrupted.

    When it is asked to end (SIGTERM), it ends what it has started first; then the code is 143.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that spin while they wait slow down every other process, those that do not spin at all
    # are slow themselves: they spin for microseconds. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    prefix = " ".join(["vae-nb", *arguments[:1]])
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # signals belong to the main thread
        signal.signal(signal.SIGTERM, _end)
    try:
        given = _parser(arguments).parse_args(arguments)
        code = given.run(given)
        if arguments[0] != "cache" and (large := importlib.import_module(_CACHE).note()):
            print(f"{prefix}: {large}", file=sys.stderr)
        return code
    except (*_EXPECTED, KeyboardInterrupt) as error:
        # Up to Python 3.11, what interrupts the making of a class is the cause of another error.
        stop = error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else error
        if isinstance(stop, KeyboardInterrupt):
            print(f"\n{prefix}: interrupted{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
            return 130
        print(f"{prefix}: {error}", file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the one that is asked for."""
    parser = _Parser(prog="vae-nb", description="The commands of an executable book on VAEs.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        description = f"{about[0].upper()}{about[1:]}."
        command = commands.add_parser(name, help=about, description=description)
        if name in arguments[:1]:
            module = importlib.import_module(f"vae_nb.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
