"""The k-th call of the system fails, for every k: one clear error, or it goes on; nothing is lost.

In the manner of SQLite's tests. What Python calls is replaced: ``open`` (in both forms), ``write``,
``fsync``, ``replace`` and ``rename``, ``mkdir``, ``unlink``. A call counts if it is about the
folder of the case.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import papermill

from faults import Campaign, Child, Tried, store_folder, toys
from vae_nb import cache, runs
from vae_nb.commands import exercises, rerun, sweep

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)
CALLS = ("open", "write", "fsync", "rename", "mkdir", "unlink")


class Edge:
    """Counts calls, and lets one of them fail."""

    def __init__(self, folder: Path, call: str = "", number: int = 0, code: int = 0) -> None:
        self.folder, self.call, self.number, self.code = str(folder), call, number, code
        self.counts = dict.fromkeys(CALLS, 0)
        self.files: set[int] = set()

    def pass_(self, call: str, path: Any) -> None:
        """A call about ``path``; raises if it is the one that fails."""
        if isinstance(path, int):
            ours = path in self.files
        else:
            ours = str(path).startswith(self.folder) or not str(path).startswith("/")
        if ours and not str(path).endswith(".pyc"):
            self.counts[call] += 1
            if (call, self.counts[call]) == (self.call, self.number):
                raise OSError(self.code, os.strerror(self.code), str(path))

    def install(self) -> None:
        """Replace the calls, for good: this is a fork."""
        os_open, io_open = os.open, io.open

        def open_descriptor(path: Any, *arguments: Any, **options: Any) -> int:
            self.pass_("open", path)
            descriptor = os_open(path, *arguments, **options)
            if str(path).startswith(self.folder):
                self.files.add(descriptor)
            return descriptor

        def open_file(path: Any, *arguments: Any, **options: Any) -> Any:
            self.pass_("open", path)
            file = io_open(path, *arguments, **options)
            if not isinstance(path, int) and str(path).startswith(self.folder):
                write = file.write

                def counted(content: Any) -> int:
                    self.pass_("write", path)
                    return write(content)

                with contextlib.suppress(AttributeError):
                    file.write = counted
            return file

        os.open, io.open, builtins.open = open_descriptor, open_file, open_file
        for name, call in (
            ("fsync", "fsync"),
            ("replace", "rename"),
            ("rename", "rename"),
            ("mkdir", "mkdir"),
            ("unlink", "unlink"),
        ):
            setattr(os, name, self._passing(call, getattr(os, name)))
        runs.save_file = self._saving(runs.save_file)  # type: ignore[assignment]

    def _passing(self, call: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def passing(path: Any, *arguments: Any, **options: Any) -> Any:
            self.pass_(call, path)
            return original(path, *arguments, **options)

        return passing

    def _saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def saving(tensors: Any, path: Any) -> Any:
            self.pass_("write", path)  # it is not Python that writes here
            return original(tensors, path)

        return saving


def group(campaign: Campaign) -> Iterator[Tried]:
    """A fit, measured values, an archive's writing, a re-run, and the exercises."""
    place = campaign.new("calls")
    data = str(toys.small_set(place / "data"))
    for name, work, sound in (
        ("fit", functools.partial(toys.fit, 0), _sound_fit),
        ("values", _values, _sound_values),
        ("archive", _archive, _sound_archive),
        ("rerun", functools.partial(_rerun, toys.toy_book(place)), _sound_rerun),
        ("exercises", _exercises, _sound_exercises),
    ):
        whole = campaign.new("whole")
        counts = place / "counts.json"
        environment = store_folder(whole) | {"VAE_NB_DATA": data}
        child = Child(
            functools.partial(_counted, work, whole, counts), place / "log", **environment
        )
        if child.wait():
            yield Tried(f"{name}, undisturbed", child.said)
            continue
        cases = [
            (call, number, code)
            for call, count in json.loads(counts.read_text()).items()
            for number in range(1, count + 1)
            for code in CODES
        ]
        for call, number, code in campaign.some(cases, 6):
            store = campaign.new(name)
            environment = store_folder(store) | {"VAE_NB_DATA": data}
            edge = Edge(store, call, number, code)
            child = Child(functools.partial(_failing, work, edge), place / "log", **environment)
            ended = child.wait()
            lost = "" if ended in (0, 1) else f"ended with {ended}: {child.said}"
            child = Child(work, place / "log", **environment)
            if again := child.wait():
                lost += f" the next one ended with {again}: {child.said}"
            lost = lost or sound(store)
            yield Tried(f"{name}: {call} {number} fails with {errno.errorcode[code]}", lost)
            shutil.rmtree(store)


def _counted(work: Callable[[], Any], folder: Path, counts: Path) -> None:
    text = counts.open("w")
    edge = Edge(folder)
    edge.install()
    work()
    text.write(json.dumps(edge.counts))
    text.close()


def _failing(work: Callable[[], Any], edge: Edge) -> int:
    edge.install()
    try:
        work()
    except OSError as error:  # one line of `vae-nb`
        return 73 if "\n" in str(error) else 1
    return 0


def _sound_fit(store: Path) -> str:
    return toys.unsound(store) or toys.leftovers(store)


def _values() -> None:
    place = cache.folder() / "measured" / "x"
    for names in (["a"], ["a", "b"]):  # one file, written and then added to
        cache.values(place, names, lambda missing: dict.fromkeys(missing, 1))


def _sound_values(store: Path) -> str:
    kept = cache.is_cached(store / "measured" / "x", ["a", "b"])
    return toys.leftovers(store) if kept else "values are lost"


def _archive() -> None:
    kept = {"digest": "x", "runs": [{"n": 1}], "controls": {}, "claims": {}}
    sweep.write(cache.folder() / "table.json", kept)


def _sound_archive(store: Path) -> str:
    return "" if json.loads((store / "table.json").read_text())["runs"] else "no rows"


def _rerun(book: Path) -> None:
    """A re-run whose chapter is not run."""
    papermill.execute_notebook = lambda source, target, *_, **__: shutil.copy(source, target)
    rerun.rerun("index", 2, cache.folder() / "out", book=book, execute_only=True)


def _sound_rerun(store: Path) -> str:
    found = [path for path in (store / "out").iterdir()]
    whole = (store / "out" / "index-beta-2" / "notebooks" / "index-beta-2.ipynb").is_file()
    young = [path for path in found if path.name.startswith(".rerun-")]
    return "" if whole and len(found) - len(young) == 1 else f"{found}"


def _exercises() -> None:
    exercises.write(cache.folder() / "out")


def _sound_exercises(store: Path) -> str:
    return toys.leftovers(store) or ("" if len(list((store / "out").iterdir())) > 5 else "missing")
