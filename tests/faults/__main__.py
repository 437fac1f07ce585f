"""Run the campaign: a line for each group, `faults.json`, and how many were lost."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

GROUPS = {
    "kills": "killed, asked to end, interrupted",
    "damage": "damaged files",
    "calls": "system calls that fail",
    "races": "many at once",
    "inputs": "bad input",
    "pages": "what a page is given to say",
    "rights": "who may",
    "reproduced": "the same again",
}


def main() -> int:
    """The exit code: 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases (%(default)s: all)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--output", type=Path, default=Path("faults.json"))
    parser.add_argument("--folder", type=Path, help="where to work; kept (a temporary one is not)")
    given = parser.parse_args()
    os.environ |= {"VAE_NB_PROGRESS": "0", "OMP_NUM_THREADS": "1"}
    folder = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["VAE_NB_CACHE"] = str(folder / "cache")
    from faults import Campaign

    report = {"seed": given.seed, "share": given.share, "groups": {}}
    tried = lost = 0
    try:
        for name in given.only:
            group = importlib.import_module(f"faults.{name}").group
            _import_what_is_slow()
            rng = random.Random(f"{given.seed} {name}")
            start, found = time.perf_counter(), []
            for each in group(Campaign(rng, folder / name, given.share)):
                found.append(each)
                if each.lost:
                    print(f"  LOST {each.what}: {each.lost}", flush=True)
            seconds = time.perf_counter() - start
            missed = [each for each in found if each.lost]
            print(
                f"{name}, {GROUPS[name]}: {len(found)} tried, {len(missed)} lost, {seconds:.0f} s",
                flush=True,
            )
            report["groups"][name] = {
                "tried": len(found),
                "seconds": round(seconds, 1),
                "lost": {each.what: each.lost for each in missed},
                "cases": [each.what for each in found],
            }
            tried, lost = tried + len(found), lost + len(missed)
    finally:
        given.output.write_text(json.dumps(report, indent=1), encoding="utf-8")
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{tried} faults tried, {lost} lost")
    return int(lost > 0)


def _import_what_is_slow() -> None:
    """So that a fork has it."""
    import torch

    torch.set_num_threads(1)
    for name in ("vae_nb.commands.rerun", "vae_nb.commands.preview", "vae_nb.commands.sweep"):
        importlib.import_module(name)
    for name in ("vae_nb.commands.exercises", "jupyter_book.cli.main", "sphinx.application"):
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("myst_nb.sphinx_ext")


if __name__ == "__main__":
    sys.exit(main())
