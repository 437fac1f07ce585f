"""When does each of 300 students have a model of their own β? By simulation, nothing is trained.

    python benchmarks/class_of_300.py

Every student asks for one training and its measures (a row of ``vae-nb sweep --scheduler``), at a
random moment of the first ten minutes. A worker takes one at a time, the first that was asked for.
How long a row takes is drawn from the archive's rows, which were made on one thread each.
"""

from __future__ import annotations

import heapq

import numpy as np

from vae_nb import archive

STUDENTS, ARRIVAL, SIMULATIONS = 300, 600.0, 200
WORKERS = (8, 16, 32, 64, 128)


def waits(workers: int, seconds: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Of each student, how long from asking to having it."""
    asked = np.sort(draws.uniform(0, ARRIVAL, STUDENTS))
    free = [0.0] * workers
    done = []
    for moment, length in zip(asked, draws.choice(seconds, STUDENTS), strict=True):
        end = max(moment, heapq.heappop(free)) + length
        heapq.heappush(free, end)
        done.append(end - moment)
    return np.array(done)


def main() -> None:
    """Print a row for each number of workers: minutes, mean over simulations."""
    rows = [row.made for row in archive.load().rows if row.made.get("threads") == 1]
    seconds = np.array([made["seconds"] + made["measuring"] for made in rows])
    draws = np.random.default_rng(0)
    print(f"{len(seconds)} archived rows, median {np.median(seconds):.0f} s of one core each\n")
    print("| workers (one core each) | half have theirs after | nine in ten | the last |")
    print("| ---: | ---: | ---: | ---: |")
    for workers in WORKERS:
        sorted_waits = [np.sort(waits(workers, seconds, draws)) for _ in range(SIMULATIONS)]
        half, most, last = np.mean(sorted_waits, axis=0)[[149, 269, 299]] / 60
        print(f"| {workers} | {half:.0f} min | {most:.0f} min | {last:.0f} min |")


if __name__ == "__main__":
    main()
