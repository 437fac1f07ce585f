"""Models of a re-run that are fitted and measured ahead, beside the kernel that asks for them.

A small network trains hardly faster on two threads than on one, so that several of them are trained
side by side: the kernel takes them in the order of the page, helpers begin with what takes longest.
Where they meet, one waits for the other, or finds it done (see :mod:`vae_nb.cache`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from vae_nb.commands import child_command
from vae_nb.recipe import Recipe

_CODE = "from vae_nb.commands.rerun_ahead import main\nmain()"
Work = tuple[Recipe, list[str]]  # a model, and the metrics of it that its page shows


@contextlib.contextmanager
def helpers(work: Sequence[Work]) -> Iterator[None]:
    """Processes that do this ``work`` as long as this is entered: one for each processor.

    Beside them the kernel mostly waits. They say nothing: what goes wrong there goes wrong in the
    kernel as well, which says so.
    """
    count = min(len(work) - 1, os.cpu_count() or 1)
    longest = sorted(work, key=lambda each: -each[0].epochs * (each[0].share or 1.0))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = []
    try:
        for first in range(count):
            its = [*longest[first:], *longest[:first]]
            text = json.dumps([(dataclasses.asdict(recipe), names) for recipe, names in its])
            command = child_command(_CODE, text)
            null = subprocess.DEVNULL
            process = subprocess.Popen(command, env=environment, stdout=null, stderr=null)
            processes.append(process)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def main() -> None:
    """Do the work that is given as JSON, but nothing that somebody else is at."""
    from vae_nb import metrics, runs

    work = [(Recipe(**fields), names) for fields, names in json.loads(sys.argv[1])]
    for recipe, _ in work:
        if not runs.is_being_fitted(recipe):
            runs.fit(recipe, show_progress=False)
    for recipe, names in work:
        if runs.is_fitted(recipe) and not runs.is_being_fitted(recipe):
            metrics.of(runs.fit(recipe), names)
