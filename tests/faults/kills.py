"""Killed, asked to end, or interrupted at a random moment: nothing half, nobody left, no work lost.

Files are looked at after each kill. What takes seconds to start is killed several times in one
folder before it may end there; what is quick ends after each kill.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults import Campaign, Child, Tried, store_folder, toys

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# 0: it was done already. A library's own answer to an interrupt is 1 (Jupyter Book's: "Aborted!").
CODES = {
    signal.SIGKILL: (0, -9),
    signal.SIGTERM: (0, -15, 143),
    signal.SIGINT: (0, -2, 130, 1),
}


def command(*arguments: object) -> int:
    """``vae-nb`` with these arguments."""
    from vae_nb.__main__ import main

    return main([str(each) for each in arguments])


def jupyter_book(book: Path) -> None:
    """``jupyter-book build``, as `make book` has it."""
    from jupyter_book.cli.main import main

    main(["build", str(book)])


def group(campaign: Campaign) -> Iterator[Tried]:
    """At least 100 of each signal in the whole campaign."""
    for entry, whole in (
        (fits, 100),
        (exercises, 20),
        (reruns, 20),
        (builds, 12),
        (previews, 5),
        (sweeps, 2),
        (pdfs, 3),
    ):
        least = 1 if entry in (fits, exercises, reruns) else 0
        count = campaign.count(whole, least)
        if count and (campaign.share >= 1 or least):
            for number in SIGNALS:
                yield from entry(campaign, number, count)


def _killed(
    campaign: Campaign,
    name: str,
    number: int,
    count: int,
    work: Callable[[], Any],
    check: Callable[[], str],
    finish: Callable[[], str],
    log: Path,
    environment: dict[str, str],
    each: bool = False,
    takes: float = 0,
) -> Iterator[Tried]:
    """Kill ``work`` ``count`` times; ``check`` after each, ``finish`` after each or in the end.

    It is done once before, to know how long it takes, unless that is given.
    """
    if not takes:
        start = time.monotonic()
        first = Child(work, log, **environment)
        code, takes = first.wait(), time.monotonic() - start
        if code or (lost := finish()):
            yield Tried(f"{name}, undisturbed", f"{code}: {first.said or lost}")
            return
    for _ in range(count):
        moment = campaign.rng.uniform(0, takes)
        child = Child(work, log, **environment)
        code = child.kill(number, moment)
        lost = "" if code in CODES[number] else f"exit code {code}: {child.said}"
        if still := child.left():
            lost += f" still at work: {still}"
        lost += check() or (finish() if each else "")
        yield Tried(f"{name}, {signal.Signals(number).name} after {moment:.2f} s", lost)
    if not each and (lost := finish()):
        yield Tried(f"{name}, after {count} kills", lost)


def fits(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``runs.fit`` of three recipes, of which one is there already."""
    place = campaign.new("fit")
    log = place / "log"
    environment = {"VAE_NB_DATA": str(toys.small_set(place / "data"))}
    for index in range(count):
        store = place / str(index)
        environment |= store_folder(store)
        kept: dict[str, int] = {}

        def runs_there(store: Path = store) -> dict[str, int]:
            found = (store / "runs").glob("[0-9a-f]*")
            return {path.name: path.stat().st_mtime_ns for path in found if path.is_dir()}

        first = Child(functools.partial(toys.fit, 0), log, **environment)
        if code := first.wait():
            yield Tried("fit, undisturbed", f"{code}: {first.said}")
            return
        kept |= runs_there()
        moment = campaign.rng.uniform(0, 0.25)
        child = Child(functools.partial(toys.fit, 0, 1, 2), log, **environment)
        code = child.kill(number, moment)
        lost = "" if code in CODES[number] else f"exit code {code}: {child.said}"
        lost += toys.unsound(store)
        kept |= runs_there()
        again = Child(functools.partial(toys.fit, 0, 1, 2), log, **environment)
        if code := again.wait():
            lost += f"the next run: {code}: {again.said}"
        if lost_runs := kept.items() - runs_there().items():
            lost += f" done twice: {lost_runs}"
        lost += toys.unsound(store) + toys.leftovers(store)
        yield Tried(f"fit, {signal.Signals(number).name} after {moment:.2f} s", lost)


def exercises(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``vae-nb exercises``: every notebook whole or not there."""
    place = campaign.new("exercises")
    out, whole = place / "out", {}
    work = functools.partial(command, "exercises", "--output", out)

    def check() -> str:
        found = {path.name: path.read_bytes() for path in out.glob("*.ipynb")}
        return ", ".join(name for name in found if whole and found[name] != whole[name])

    def finish() -> str:
        child = Child(work, place / "log")
        if code := child.wait():
            return f"the next run: {code}: {child.said}"
        if not whole:
            whole.update({path.name: path.read_bytes() for path in out.glob("*.ipynb")})
        lost = check() + toys.leftovers(out)
        for path in out.iterdir():
            path.unlink()
        return lost if whole else "nothing was written"

    yield from _killed(
        campaign, "exercises", number, count, work, check, finish, place / "log", {}, each=True
    )


def reruns(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``vae-nb rerun`` of a toy chapter: the last one stays until the new one is whole."""
    place = campaign.new("rerun")
    out = place / "out"
    arguments = ("index", "--beta", 2, "--book", toys.toy_book(place), "--output", out)
    work = functools.partial(command, "rerun", *arguments)

    def check() -> str:
        there = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        wrong = [path for path in out.glob("index*/*/*.ipynb") if "an answer" not in _text(path)]
        return f"{wrong}" if wrong or len(there) > 1 else ""

    def finish() -> str:
        child = Child(work, place / "log")
        if code := child.wait():
            return f"the next run: {code}: {child.said}"
        found = [path.name for path in out.iterdir()]
        return check() or ("" if found == ["index-beta-2"] else f"left behind: {found}")

    yield from _killed(campaign, "rerun", number, count, work, check, finish, place / "log", {})


def builds(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``jupyter-book build`` of pages that are run side by side; each build has a stale one."""
    place = campaign.new("build")
    book = toys.toy_book(place, pages=3)
    page = book / "_build" / "html" / "page1.html"

    def work() -> None:
        source = book / "page1.ipynb"
        source.write_text(_text(source).replace("an answer", f"an answer, {time.time()}", 1))
        jupyter_book(book)

    yield from _killed(
        campaign,
        "build",
        number,
        count,
        work,
        lambda: "",
        functools.partial(_finish, functools.partial(jupyter_book, book), page, place / "log"),
        place / "log",
        {},
    )


def previews(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``vae-nb preview``: its cache is whole, its build ends with it."""
    place = campaign.new("preview")
    store = place / "cache"
    arguments = ("preview", "--book", toys.toy_book(place), "--output", place / "out")
    work = functools.partial(command, *arguments)
    page = place / "out" / "_build" / "html" / "page1.html"
    environment = store_folder(store)
    yield from _killed(
        campaign,
        "preview",
        number,
        count,
        work,
        lambda: toys.unsound(store / "preview"),
        functools.partial(_finish, work, page, place / "log", environment),
        place / "log",
        environment,
    )


def sweeps(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``vae-nb sweep`` on an embedded dask cluster: the table is whole or not there.

    All signals hit one sweep, which each time goes on from the rows that are finished.
    """
    place = campaign.folder / "sweep"
    out, data = place / "table.json", place / "data"
    if not place.exists():
        toys.small_set(data, train=600, test=600)
    environment = store_folder(place / "cache") | {"VAE_NB_DATA": str(data)}
    arguments = ["sweep", "--betas", "0.1", "--seeds", "5", "--epochs", "1"]
    arguments += ["--dataset", toys.SET, "--scheduler", "--workers", "2", "--output", str(out)]

    def work() -> int:
        from vae_nb.commands import sweep

        sweep.controls = dict  # of MNIST, for minutes
        return command(*arguments)

    def check() -> str:
        half = out.exists() and '"seed": 5' not in _text(out)
        return "half a table" if half else toys.unsound(place / "cache")

    finish = functools.partial(_finish, work, out, place / "log", environment, '"seed": 5')
    yield from _killed(
        campaign,
        "sweep",
        number,
        count,
        work,
        check,
        finish if number == SIGNALS[-1] else lambda: "",
        place / "log",
        environment,
        takes=30,
    )


def pdfs(campaign: Campaign, number: int, count: int) -> Iterator[Tried]:
    """``vae-nb pdf``: no half PDF."""
    from vae_nb.commands import pdf

    place = campaign.new("pdf")
    book = toys.toy_book(place)
    out = book / "_build" / "pdf" / "report.pdf"
    try:
        pdf.browser()
    except FileNotFoundError as error:
        yield Tried(f"pdf: not tried: {error}")
        return

    def check() -> str:
        return "half a PDF" if out.exists() and b"%%EOF" not in out.read_bytes()[-64:] else ""

    work = functools.partial(command, "pdf", "--book", book)
    finish = functools.partial(_finish, work, out, place / "log", {}, "%%EOF")
    yield from _killed(campaign, "pdf", number, count, work, check, finish, place / "log", {})


def _finish(
    work: Callable[[], Any],
    made: Path,
    log: Path,
    environment: dict[str, str] | None = None,
    holds: str = "an answer",
) -> str:
    child = Child(work, log, **environment or {})
    if code := child.wait():
        return f"the next run: {code}: {child.said}"
    return "" if holds in _text(made) else f"{made.name} lacks {holds!r}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
