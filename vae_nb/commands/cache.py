"""What is kept on disk: listed, measured, and cleared out.

The cache has a folder for each kind of content (runs, measurements, data sets, ...), and in each
one entry, a folder or a file, for each thing that was computed once. All of it can be computed or
downloaded again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import time
from collections import defaultdict
from pathlib import Path

from filelock import FileLock, Timeout

from vae_nb import cache

DAYS = 30  # unused for so long, an entry is pruned


def entries() -> list[Path]:
    """All entries, by kind and name; those of killed processes and damaged ones are among them."""
    return sorted(
        entry
        for kind in cache.folder().glob("*")
        if kind.is_dir()
        for entry in kind.iterdir()
        if entry.suffix != ".lock"
    )


def size(entry: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(path.stat().st_size for path in _files(entry))


def days_unused(entry: Path) -> float:
    """Days since any of its files was read or written, as far as the file system notes it."""
    read = [path.stat().st_atime for path in _files(entry)]
    return (time.time() - max([entry.stat().st_mtime, *read])) / 86400


def prune(days: float = DAYS, dry_run: bool = False) -> list[Path]:
    """Remove entries unused for ``days``, damaged ones, and what killed processes left behind.

    Returns what was removed (or would be). An entry that is being computed is left alone.
    """
    removed = []
    for entry in entries():
        # A folder in the making is named after its entry, whose lock its process holds.
        unfinished = entry.name.startswith(".")
        name = entry.name[1:].rpartition("-")[0] if unfinished else entry.name
        if not (unfinished or name.startswith("damaged-") or days_unused(entry) >= days):
            continue
        with contextlib.suppress(Timeout), FileLock(entry.with_name(f"{name}.lock"), timeout=0):
            removed.append(entry)
            if not dry_run:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return removed


def _files(entry: Path) -> list[Path]:
    return [path for path in (entry, *entry.rglob("*")) if path.is_file()]


def _about(entry: Path) -> str:
    """The recipe of a run; looking at it is no use of it."""
    path = entry / "recipe.json"
    try:
        times = path.stat()
        recipe = json.loads(path.read_text())["recipe"]
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    except (OSError, ValueError, KeyError):
        return ""
    return ", ".join(f"{name} {recipe[name]}" for name in ("model", "beta", "seed", "dataset"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``vae-nb cache``."""
    parser.add_argument("action", choices=("list", "size", "prune"))
    parser.add_argument(
        "--days", type=float, default=DAYS, help="prune what was not used for so long (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say only what prune would remove")


def run(given: argparse.Namespace) -> int:
    """List, measure or prune."""
    folder = cache.folder()
    if given.action == "list":
        for entry in entries():
            name = entry.relative_to(folder).as_posix()
            used = f"{days_unused(entry):.0f} days ago"
            print(f"{_megabytes(size(entry))}  {used:>13}  {name}  {_about(entry)}".rstrip())
    elif given.action == "size":
        kinds: dict[str, list[int]] = defaultdict(list)
        for entry in entries():
            kinds[entry.parent.name].append(size(entry))
        for kind, sizes in kinds.items():
            print(f"{_megabytes(sum(sizes))}  {kind} ({len(sizes)})")
        print(f"{_megabytes(sum(map(sum, kinds.values())))}  {folder}")
    else:
        total = {entry: size(entry) for entry in entries()}
        removed = prune(given.days, given.dry_run)
        for entry in removed:
            print(f"{_megabytes(total[entry])}  {entry.relative_to(folder).as_posix()}")
        freed = _megabytes(sum(total[entry] for entry in removed)).strip()
        print(f"{freed} {'would be' if given.dry_run else 'are'} free, {len(removed)} entries")
    return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:9.1f} MB"
