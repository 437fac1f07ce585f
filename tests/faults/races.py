"""Many at once: one computes, nobody meets half of anything."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults import Campaign, Child, Tried, calls, kills, store_folder, toys
from vae_nb import cache, runs, training
from vae_nb.commands import cache as command

AT_ONCE = 8


def group(campaign: Campaign) -> Iterator[Tried]:
    """Runs, re-runs, builds, pruning; and locks that fail as those of NFS do."""
    place = campaign.new("races")
    data = str(toys.small_set(place / "data"))
    for index in range(campaign.count(20, 2)):
        environment = store_folder(place / f"run-{index}") | {"VAE_NB_DATA": data}
        count = place / f"count-{index}"
        lost = _together([functools.partial(_counted_fit, count)] * AT_ONCE, place, environment)
        trained = len(count.read_text()) if count.exists() else 0
        yield Tried(
            f"{AT_ONCE} for one run", lost or ("" if trained == 1 else f"{trained} trained")
        )
    book = toys.toy_book(place)
    for index in range(campaign.count(20, 2)):
        environment = store_folder(place / f"rerun-{index}")
        work = functools.partial(calls._rerun, book)
        lost = _together([work] * AT_ONCE, place, environment)
        lost = lost or calls._sound_rerun(place / f"rerun-{index}")
        yield Tried(f"{AT_ONCE} for one re-run's folder", lost)
    for index in range(campaign.count(10, 1)):
        environment = store_folder(place / f"prune-{index}") | {"VAE_NB_DATA": data}
        fits = [functools.partial(_fit_often, seed % 2) for seed in range(4)]
        lost = _together([*fits, _prune_often, _prune_often], place, environment)
        yield Tried("pruning against fits", lost)
    for code in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE):
        environment = store_folder(place / f"lock-{code}") | {"VAE_NB_DATA": data}
        child = Child(functools.partial(_without_locks, code), place / "log", **environment)
        ended = child.wait()
        lost = "" if ended == 0 else f"ended with {ended}: {child.said}"
        yield Tried(f"locks that fail with {errno.errorcode[code]}", lost)
    if campaign.share >= 1:
        yield from _builds(place)


def _together(works: list[Callable[[], Any]], place: Path, environment: dict[str, str]) -> str:
    children = [
        Child(work, place / f"log-{number}", **environment) for number, work in enumerate(works)
    ]
    ended = [child.wait() for child in children]
    said = [child.said for child, code in zip(children, ended, strict=True) if code]
    return f"ended with {ended}: {said[0]}" if said else ""


def _counted_fit(count: Path) -> None:
    original = training.train

    def counted(*arguments: Any) -> Any:
        with count.open("a") as file:
            file.write("x")
        return original(*arguments)

    training.train = counted
    toys.fit(0)


def _fit_often(seed: int) -> None:
    for _ in range(10):
        toys.fit(seed)


def _prune_often() -> None:
    for _ in range(200):
        command.prune(days=0)
        time.sleep(0.005)


def _without_locks(code: int) -> None:
    """A lock that the system refuses is an error at once, or filelock finds another way."""

    def refused(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    fcntl.flock = refused  # type: ignore[assignment]
    try:
        runs.fit(toys.tiny(), show_progress=False)  # filelock may warn that it locks otherwise
    except cache.CacheError as error:
        assert "VAE_NB_CACHE" in str(error), error


def _builds(place: Path) -> Iterator[Tried]:
    """Two builds in one folder: the second says so. A build and `make clean`: the next is whole."""
    book = toys.toy_book(place / "two", wait=4)
    page = book / "_build" / "html" / "page1.html"
    work = functools.partial(kills.jupyter_book, book)
    first = Child(work, place / "first")
    while not (book / "_build" / ".lock").exists() and first.poll() is None:
        time.sleep(0.05)
    second = Child(work, place / "second")
    ended = second.wait()
    lost = "" if ended and "another build is at work" in second.said else f"{ended}: {second.said}"
    lost += "" if first.wait() == 0 and page.exists() else f" the first: {first.said}"
    yield Tried("two builds in one folder", lost)
    first = Child(work, place / "first")
    time.sleep(2)
    shutil.rmtree(book / "_build", ignore_errors=True)
    first.wait()
    lost = kills._finish(work, page, place / "third")
    yield Tried("a build and `make clean`", lost or str(first.left() or ""))
