"""How long a chapter takes to be run again, and what its instant models are worth.

    python benchmarks/rerun.py              # from the command to the page, an hour
    python benchmarks/rerun.py --quality    # instant models beside the archive's, 15 minutes
    python benchmarks/rerun.py --course     # the course's recipe as well, hours

Times are of whole processes, from the command to the page, in a store of their own that has what
the package brings (the archived models) and nothing else at first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

from vae_nb import archive, runs
from vae_nb.objective import Terms
from vae_nb.recipe import recipe

BETA = 0.37  # of no model that the package brings
FIRST_LOOK = ("-p", "images", "5000", "-p", "epochs", "1")


def quality(seeds: range) -> None:
    """The objective of instant models over the median of the archive's separate trainings."""
    archived = archive.load()
    print("| β | at(β) | instant, by seed | seconds |\n| ---: | ---: | --- | ---: |")
    for beta in [beta for beta in archived.betas if beta > 0]:
        rows = [row.measured for row in archived.of("vae", beta)]
        latents = archived.rows[0].recipe.latent_dim
        usual = statistics.median(
            Terms(row["mse_sample"].value, row["rate"].value / latents).loss(beta) for row in rows
        )
        made = [runs.fit(recipe("vae", beta, "instant", seed=seed)) for seed in seeds]
        ratios = [run.history.held_out[-1]["loss"] / usual for run in made]
        networks = [runs.fit(run.recipe.begins_as) for run in made]
        before = [network.at(beta).history.held_out[-1]["loss"] / usual for network in networks]
        seconds = statistics.median(run.made["seconds"] for run in made)
        by_seed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"| {beta:g} | {statistics.mean(before):.3f} | {by_seed} | {seconds:.0f} |", flush=True
        )


def times(with_course: bool) -> None:
    """Seconds from the command to the page."""
    print("| what | seconds |\n| --- | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"VAE_NB_CACHE": f"{folder}/store"}

        def timed(what: str, *command: str, code: int = 0) -> None:
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != code:
                sys.exit(done.stdout + done.stderr)
            print(f"| {what} | {time.perf_counter() - start:.1f} |", flush=True)

        rerun = ("vae_nb", "rerun")
        timed("a bad value refused", *rerun, "beta_ten", "--beta", "-1", code=1)
        timed("beta_ten, first on this machine", *rerun, "beta_ten", "--beta", "0.6")
        timed(f"beta_ten at β = {BETA}", *rerun, "beta_ten", "--beta", str(BETA))
        timed("the same again", *rerun, "beta_ten", "--beta", str(BETA))
        timed("beta_tuned at β = 0.15, three models", *rerun, "beta_tuned", "--beta", "0.15")
        timed("beta_ten, a first look", *rerun, "beta_ten", "--beta", "0.5", *FIRST_LOOK)
        chapter = str(Path(__file__).resolve().parents[1] / "book" / "beta_ten.ipynb")
        mill = ("papermill", chapter, "out.ipynb", "--no-progress-bar", "-p", "beta", str(BETA))
        where = ("--cwd", str(Path(chapter).parent))
        timed("papermill, default profile, no page", *mill, *where)
        if with_course:
            timed(
                "papermill, the course's recipe, no page", *mill, *where, "-p", "profile", "course"
            )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--course", action="store_true")
    given = parser.parse_args()
    print(machine.describe())
    if given.quality:
        quality(range(given.seeds))
    else:
        times(given.course)


if __name__ == "__main__":
    main()
