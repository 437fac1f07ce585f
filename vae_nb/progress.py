"""Progress bars, shown where somebody waits and left out where output is kept.

What a kernel does, its own output does not show. Where REPORTED names a folder, bars are written
there instead, and a :class:`Watcher` in the process that started the kernels shows them: one bar
in a terminal, else a line for each that has ended. No digest covers this module: a bar changes no
number.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

# What JupyterLab, VS Code and Colab set for the kernel of a notebook that somebody looks at.
_LIVE_NOTEBOOK = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
REPORTED = "VAE_NB_PROGRESS_FOLDER"  # in the environment: where bars are written for a Watcher
_OFTEN = 0.5  # seconds between two lines of a bar, and between two looks of a Watcher
_SOON = 20.0  # seconds until a Watcher knows enough to say how long it will take


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
    if folder := os.environ.get(REPORTED):
        with _reported(Path(folder), total, what) as advance:
            yield advance
        return
    show = is_wanted() if show is None else show
    with tqdm(total=total, desc=what, unit=unit, disable=not show, leave=False) as shown:
        yield shown.update


@contextmanager
def _reported(folder: Path, total: int, what: str) -> Iterator[Callable]:
    start = last = time.monotonic()
    done = 0

    def write(ended: bool = False) -> None:
        seconds = time.monotonic() - start
        line = {"what": what, "done": done, "total": total, "seconds": seconds, "ended": ended}
        with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def advance() -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last > _OFTEN:
            last = time.monotonic()
            write()

    write()
    try:
        yield advance
    finally:
        write(ended=True)


class Watcher:
    """Shows what other processes report, as long as it is entered.

    ``work`` names all that is to be done, as the bars do, with the seconds that each takes on some
    machine: only how they compare with each other matters. ``say`` prints a line where there is no
    terminal. Its ``environment`` is for the processes to be watched.
    """

    def __init__(
        self, work: Mapping[str, float], say: Callable[[str], object], terminal: bool | None = None
    ) -> None:
        self.work = dict(work)
        self._say = say
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._share = dict.fromkeys(self.work, 0.0)  # of each that is done
        self._begun: dict[str, float] = {}  # when, of what no bar reports
        self._now: dict[Path, dict[str, Any]] = {}  # the last line of each process
        self._read: dict[Path, int] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Watcher:
        self._folder = tempfile.TemporaryDirectory(prefix="vae-nb-progress-")
        self.environment = {REPORTED: self._folder.name}
        self._start = time.monotonic()
        layout = "{desc} |{bar}| {percentage:.0f} %{postfix}"
        total = sum(self.work.values()) or 1.0
        self._bar = tqdm(total=total, bar_format=layout, disable=not self._terminal, leave=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self._bar.close()
        self._folder.cleanup()

    def begin(self, name: str) -> None:
        """Say that a piece of the work has begun which no bar reports.

        It counts as done as far as its seconds have gone, up to nine tenths.
        """
        self._begun[name] = time.monotonic()

    def finish(self, name: str, text: str) -> None:
        """Say (or not, with "") that a piece of the work has ended which no bar reports."""
        self._share[name] = 1.0
        self._line(text)

    def left(self) -> float | None:
        """The seconds that are left, if the rest goes on as it went; None while that is open."""
        elapsed, done = time.monotonic() - self._start, self._done_seconds()
        total = sum(self.work.values())
        return elapsed * (total - done) / done if done and elapsed >= _SOON else None

    def _done_seconds(self) -> float:
        now = time.monotonic()
        done = {name: self.work[name] * share for name, share in self._share.items()}
        for name, begun in list(self._begun.items()):  # more may begin meanwhile
            done[name] = max(done[name], min(now - begun, 0.9 * self.work[name]))
        return sum(done.values())

    def _watch(self) -> None:
        while not self._ended.wait(_OFTEN):
            self._look()

    def _look(self) -> None:
        for path in sorted(Path(self._folder.name).glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in map(json.loads, whole.splitlines()):
                self._now[path] = line
                if line["what"] in self.work:
                    share = 1.0 if line["ended"] else line["done"] / max(1, line["total"])
                    self._share[line["what"]] = max(self._share[line["what"]], share)
                if line["ended"]:
                    del self._now[path]
                    self._line(f"{line['what']}: {line['seconds']:.0f} s")
        self._draw()

    def _draw(self) -> None:
        if not self._terminal:
            return
        going = [f"{n['what']} {n['done']}/{n['total']}" for n in self._now.values()]
        self._bar.set_description_str("; ".join(going)[:80], refresh=False)
        left = self.left()
        self._bar.set_postfix_str("" if left is None else duration(left), refresh=False)
        self._bar.n = self._done_seconds()
        self._bar.refresh()

    def _line(self, text: str) -> None:
        if not text:
            return
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        else:
            self._say(text)


def duration(seconds: float) -> str:
    """What is left, as one says it: "about 3 min left"."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s left"
    return f"about {seconds / 60:.0f} min left"
