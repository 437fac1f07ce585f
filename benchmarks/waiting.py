"""How fast a training is when its threads spin while they wait, alone and beside other work.

    python benchmarks/waiting.py

Each policy trains the default VAE in a process of its own, with a thread for each processor; in the
second column another process keeps one processor busy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time

import machine

SPINS = ("300", "1000", "2000", "5000", "20000")  # GOMP_SPINCOUNT
POLICIES = {
    "never": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"{count} turns": {"GOMP_SPINCOUNT": count} for count in SPINS},
    "as libgomp does": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = "while True: pass"


def train(images: int) -> None:
    """Train twice, and print the images a second of the second time."""
    import dataclasses

    from vae_nb import data, training
    from vae_nb.recipe import recipe

    some = data.load().first(images)
    some = dataclasses.replace(some, test_images=some.test_images[:500])
    for _ in range(2):
        start = time.perf_counter()
        training.train(recipe("vae", 0.1, epochs=1), some)
        seconds = time.perf_counter() - start
    print(f"{images / seconds:,.0f}")


def measured(policy: dict[str, str], images: int, most: float) -> str:
    """Images a second under a policy; a bound where that takes more than ``most`` seconds."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in names} | policy
    command = [sys.executable, __file__, "--images", str(images), "--train"]
    try:
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=most
        ).stdout.strip()
    except subprocess.TimeoutExpired:
        return f"below {2 * images / most:,.0f}"


def main() -> None:
    """Measure, and print the table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--images", type=int, default=10_000)
    asked.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.train:
        train(given.images)
        return
    print(machine.describe())
    print("| threads spin | alone | beside other work |\n| --- | ---: | ---: |")
    for name, policy in POLICIES.items():
        alone = measured(policy, given.images, 120)
        with contextlib.ExitStack() as stack:
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(busy.kill)
            beside = measured(policy, given.images, 60)
        print(f"| {name} | {alone} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
