"""Run the campaign: a line for each group, `faults.json`, and how many were lost."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

GROUPS = {  # what takes longest is begun first
    "kills": "killed, asked to end, interrupted",
    "calls": "system calls that fail",
    "damage": "damaged files",
    "reproduced": "the same again",
    "races": "many at once",
    "inputs": "bad input",
    "rights": "who may",
    "pages": "what a page is given to say",
}


def main() -> int:
    """The exit code: 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases (%(default)s: all)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--output", type=Path, default=Path("faults.json"))
    parser.add_argument("--folder", type=Path, help="where to work; kept (a temporary one is not)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="groups at once (%(default)s)")
    given = parser.parse_args()
    os.environ |= {"VAE_NB_PROGRESS": "0", "OMP_NUM_THREADS": "1"}
    folder = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    _import_what_is_slow()
    start, groups = time.perf_counter(), {}
    work = functools.partial(_group, given.seed, given.share, folder)
    fork = multiprocessing.get_context("fork")
    try:
        with concurrent.futures.ProcessPoolExecutor(given.jobs, fork) as pool:
            names = [name for name in GROUPS if name in given.only]
            for name, found in zip(names, pool.map(work, names), strict=True):
                groups[name] = found
    finally:
        report = {"seed": given.seed, "share": given.share, "groups": groups}
        given.output.write_text(json.dumps(report, indent=1), encoding="utf-8")
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)
    tried = sum(found["tried"] for found in groups.values())
    lost = sum(len(found["lost"]) for found in groups.values())
    print(f"All of it took {time.perf_counter() - start:.0f} s, {given.jobs} groups at once.")
    print(f"{tried} faults tried, {lost} lost")
    return int(lost > 0)


def _group(seed: int, share: float, folder: Path, name: str) -> dict[str, object]:
    """Try all of a group; what is lost is printed at once."""
    from faults import Campaign

    os.environ["VAE_NB_CACHE"] = str(folder / name / "cache")
    group = importlib.import_module(f"faults.{name}").group
    start, found = time.perf_counter(), []
    for each in group(Campaign(random.Random(f"{seed} {name}"), folder / name, share)):
        found.append(each)
        if each.lost:
            print(f"  LOST {each.what}: {each.lost}", flush=True)
    seconds = time.perf_counter() - start
    missed = [each for each in found if each.lost]
    print(
        f"{name}, {GROUPS[name]}: {len(found)} tried, {len(missed)} lost, {seconds:.0f} s",
        flush=True,
    )
    return {
        "tried": len(found),
        "seconds": round(seconds, 1),
        "lost": {each.what: each.lost for each in missed},
        "cases": [each.what for each in found],
    }


def _import_what_is_slow() -> None:
    """So that a fork has it."""
    import torch

    torch.set_num_threads(1)
    for name in ("vae_nb.commands.rerun", "vae_nb.archived_models", "vae_nb.commands.sweep"):
        importlib.import_module(name)
    for name in ("vae_nb.commands.exercises", "jupyter_book.cli.main", "sphinx.application"):
        importlib.import_module(name)
    for name in ("torchvision.datasets", "distributed", "myst_nb.sphinx_ext"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
