"""A campaign of faults: what is tried, and that nothing is lost by it.

    make faults                                  # all groups, at most 20 minutes on two cores
    python -m faults --only kills races --seed 3 # in tests/: some, by another seed

A group is a generator of :class:`Tried`. It works in a folder of its own, with a cache of its own;
what may die is a fork of this process, which has imported all that is slow. Nothing is trained in
this process itself: after a training, torch cannot be forked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MARK = "VAE_NB_FAULTS_CASE"  # in the environment of all that a case has started
_CAUGHT = {signal.SIGINT, signal.SIGTERM}
PATIENCE = 600  # seconds that a case may take, on a busy machine as well; more is a hang


@dataclasses.dataclass
class Tried:
    """One fault, and what was lost by it ("": nothing)."""

    what: str
    lost: str = ""


@dataclasses.dataclass
class Campaign:
    """What a group gets: a random generator, a folder, and how much of everything it tries."""

    rng: random.Random
    folder: Path
    share: float  # 1: all; 0.02: the short form

    def count(self, whole: int, least: int = 1) -> int:
        """How many of ``whole`` cases."""
        return max(least, round(self.share * whole))

    def some(self, cases: list[Any], least: int = 1) -> list[Any]:
        """A random part of ``cases``; all of them in the whole campaign."""
        if self.share >= 1:
            return cases
        return self.rng.sample(cases, min(len(cases), max(least, round(self.share * len(cases)))))

    def new(self, name: str) -> Path:
        """A new folder."""
        place = self.folder / f"{name}-{uuid.uuid4().hex[:8]}"
        place.mkdir(parents=True)
        return place


class Child:
    """A fork that does ``work``; all that it starts can be found again."""

    def __init__(self, work: Callable[[], Any], log: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)  # no fork may come back here
        self.pid = os.fork()
        if not self.pid:
            self._run(work, environment | {MARK: self.mark})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self, work: Callable[[], Any], environment: dict[str, str]) -> None:
        code = 70  # a traceback
        try:
            try:
                os.setsid()
                os.environ.update(environment)
                output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                for stream in (1, 2):
                    os.dup2(output, stream)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)
                code = work() or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except KeyboardInterrupt:
                code = 130
            except BaseException as error:
                if isinstance(error.__cause__, KeyboardInterrupt):  # so Python 3.11 has it
                    code = 130
                else:
                    traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """Its exit code, minus a signal, or None while it works."""
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The same, after at most so long; None is a hang, and is killed."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None and time.monotonic() < end:
            time.sleep(0.005)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        return code

    def kill(self, number: int, after: float) -> int | None:
        """Send it a signal after so many seconds, unless it is done. An interrupt is for all."""
        end = time.monotonic() + after
        while time.monotonic() < end:
            if (code := self.poll()) is not None:
                return code
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):  # it has only just been forked
            (os.killpg if number == signal.SIGINT else os.kill)(self.pid, number)
        return self.wait()

    def left(self, seconds: float = 10) -> list[str]:
        """What it started and what is still there after so long; that is killed."""
        end = time.monotonic() + seconds
        while (found := list(self._alive())) and time.monotonic() < end:
            time.sleep(0.05)
        for pid, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [command for _, command in found]

    def _alive(self) -> Iterator[tuple[int, str]]:
        mark = f"{MARK}={self.mark}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (place / "environ").read_bytes():
                    yield int(place.name), (place / "cmdline").read_text().replace("\0", " ")[:80]

    @property
    def said(self) -> str:
        """What it wrote, or the end of it."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


def done(work: Callable[[], Any], log: Path, **environment: str) -> str:
    """Do it in a fork; "" if it ended well, else what it said."""
    child = Child(work, log, **environment)
    code = child.wait()
    return "" if code == 0 else f"ended with {code}: {child.said}"


def store_folder(place: Path) -> dict[str, str]:
    """The environment of a case whose cache is ``place``."""
    return {"VAE_NB_CACHE": str(place)}
