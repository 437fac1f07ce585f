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
LARGE = 2 * 2**30  # bytes of a cache that is worth a word


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
    return sum(path.lstat().st_size for path in _files(entry))


def note() -> str:
    """A word on a cache that has grown large, "" while it has not."""
    try:
        total = sum(map(size, entries()))
    except OSError:  # another process removes what this one counts
        return ""
    if total < LARGE:
        return ""
    return f"the cache holds {_megabytes(total).strip()}; `vae-nb cache prune` clears it out"


def days_unused(entry: Path) -> float:
    """Days since any of its files was read or written, as far as the file system notes it."""
    read = [path.lstat().st_atime for path in _files(entry)]
    return (time.time() - max([entry.lstat().st_mtime, *read])) / 86400


def prune(days: float = DAYS, dry_run: bool = False) -> list[Path]:
    """Remove entries unused for ``days``, damaged ones, and what killed processes left behind.

    Returns what was removed (or would be). An entry that is being computed is left alone.
    """
    removed = []
    for entry in entries():
        # A folder in the making is named after its entry, whose lock its process holds.
        unfinished = entry.name.startswith(".")
        name = entry.name[1:].rpartition("-")[0] if unfinished else entry.name
        broken = unfinished or name.startswith("damaged-")
        # Gone meanwhile, or in use: its own lock is held, or (data sets) one of those inside.
        with contextlib.suppress(Timeout, FileNotFoundError), contextlib.ExitStack() as stack:
            if not broken and days_unused(entry) < days:
                continue
            for lock in (entry.with_name(f"{name}.lock"), *entry.rglob("*.lock")):
                stack.enter_context(FileLock(lock, timeout=0))
            if broken or days_unused(entry) >= days:  # not used while the lock was held
                if not dry_run:
                    is_file = entry.is_symlink() or not entry.is_dir()
                    entry.unlink() if is_file else shutil.rmtree(entry)
                removed.append(entry)
    return removed


def _files(entry: Path) -> list[Path]:
    return [path for path in (entry, *entry.rglob("*")) if path.is_symlink() or path.is_file()]


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
        if not given.days >= 0:  # nan as well
            raise ValueError(f"--days {given.days:g} is not allowed: it must be 0 or more")
        removed = prune(given.days, given.dry_run)
        for entry in removed:
            print(f"{_megabytes(total.get(entry, 0))}  {entry.relative_to(folder).as_posix()}")
        freed = _megabytes(sum(total.get(entry, 0) for entry in removed)).strip()
        print(f"{freed} {'would be' if given.dry_run else 'are'} free, {len(removed)} entries")
    return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:9.1f} MB"
