"""Progress bars, shown where somebody waits and left out where output is kept.

No digest covers this module: a bar changes no number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

# What JupyterLab, VS Code and Colab set for the kernel of a notebook that somebody looks at.
_LIVE_NOTEBOOK = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")


def is_wanted() -> bool:
    """Whether to show bars: in a terminal and in a live notebook, not in a book or by papermill.

    ``VAE_NB_PROGRESS=0`` turns them off everywhere, and any other value on.
    """
    if wanted := os.environ.get("VAE_NB_PROGRESS"):
        return wanted != "0"
    if "ipykernel" in sys.modules:
        return any(name in os.environ for name in _LIVE_NOTEBOOK)
    return sys.stderr.isatty()


@contextmanager
def bar(total: int, what: str, unit: str = "step", show: bool | None = None) -> Iterator[Callable]:
    """A bar of ``total`` steps; calling what it yields advances it by one."""
    show = is_wanted() if show is None else show
    with tqdm(total=total, desc=what, unit=unit, disable=not show, leave=False) as shown:
        yield shown.update
