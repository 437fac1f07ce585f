"""How long the book takes to build, cold, warm and after an edit, and how heavy it is.

    python benchmarks/build.py

In a copy of the repository with a cache of its own: a cold build (nothing fitted, nothing
executed), a warm one, and one after an edit of a page's prose, of a figure and of the objective
(which trains all models again). Peak memory is that of all processes of the cold build together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import machine

from vae_nb.commands import build_command

ROOT = Path(__file__).resolve().parents[1]


def memory_of(process: int) -> int:
    """Bytes that a process and its descendants hold alone or in shares (Linux)."""
    total, waiting = 0, [process]
    while waiting:
        number = waiting.pop()
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
            total += 1024 * next(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
            children = Path(f"/proc/{number}/task/{number}/children").read_text()
            waiting += map(int, children.split())
        except (OSError, StopIteration):
            continue
    return total


def build(copy: Path, store: Path) -> tuple[float, int]:
    """``(seconds, peak bytes)`` of one build; its output is shown if it fails."""
    environment = os.environ | {"VAE_NB_CACHE": str(store), "PYTHONPATH": str(copy)}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    start, peak, done = time.perf_counter(), 0, threading.Event()
    with tempfile.TemporaryFile("w+") as log:
        command = build_command("book")
        process = subprocess.Popen(command, cwd=copy, env=environment, stdout=log, stderr=log)

        def watch() -> None:
            nonlocal peak
            while not done.wait(1.0):
                peak = max(peak, memory_of(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        done.set()
        watcher.join()
        if code:
            log.seek(0)
            sys.exit(log.read()[-3000:])
    return time.perf_counter() - start, peak


def edit(path: Path, text: str) -> None:
    """Append a line to a file."""
    with path.open("a") as file:
        file.write(text)


def main() -> None:
    """Build five times, and print the times, the memory and the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-objective", action="store_true", help="skip the last build")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="build there, and keep it")
    given = parser.parse_args()
    print(machine.describe())
    with contextlib.ExitStack() as stack:
        folder = given.keep or stack.enter_context(tempfile.TemporaryDirectory())
        copy, store = Path(folder) / "copy", Path(folder) / "store"
        ignored = shutil.ignore_patterns(".git", ".venv", "_build", "__pycache__", "rerun")
        shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
        print("| build | seconds | peak memory |\n| --- | ---: | ---: |")

        def report(name: str) -> None:
            seconds, peak = build(copy, store)
            print(f"| {name} | {seconds:.0f} | {peak / 2**30:.2f} GiB |", flush=True)

        report("cold")
        report("warm")
        edit(copy / "book" / "glossary.md", "\nOne more sentence.\n")
        report("after an edit of prose")
        edit(copy / "vae_nb" / "figures.py", "\nEDITED = True\n")
        report("after an edit of a figure")
        if not given.without_objective:
            edit(copy / "vae_nb" / "objective.py", "\nEDITED = True\n")
            report("after an edit of the objective")

        html = copy / "book" / "_build" / "html"
        weights = {path: path.stat().st_size for path in html.rglob("*") if path.is_file()}
        pages = {path.name: size for path, size in weights.items() if path.suffix == ".html"}
        heaviest = max(pages, key=pages.__getitem__)
        print(f"\nall files: {sum(weights.values()) / 2**20:.1f} MiB")
        print(f"heaviest page: {heaviest}, {pages[heaviest] / 2**10:.0f} KiB")
        for page in sorted(html.glob("*.html")):
            print(f"| {page.name} | {page.stat().st_size / 2**10:.0f} KiB |")


if __name__ == "__main__":
    main()
