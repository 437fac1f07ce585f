"""How much sooner the default recipe reaches what the course recipe reaches.

    python benchmarks/time_to_quality.py                    # 20 epochs of the course: an hour
    python benchmarks/time_to_quality.py --course-epochs 5
    python benchmarks/time_to_quality.py --course-epochs 2 --known 5:0.0393 20:0.0372

With ``--known`` the course's levels come from an earlier run, and only its pace from this one.

The held-out loss at beta = 0.1. The course recipe is trained epoch by epoch; between its
epochs the default recipe is trained from scratch with more and more epochs, so that both see the
same minutes of the machine; and so is "instant", which goes on from the network of all betas (whose
own training is not in its times). Times are of training only: for all, the median seconds of an
epoch times the number of epochs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import course
import machine

from vae_nb import data, runs
from vae_nb.objective import held_out
from vae_nb.recipe import recipe
from vae_nb.training import train

BETA = 0.1


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--course-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 3, 4, 6, 8, 10, 12])
    parser.add_argument("--epochs-48", type=int, nargs="+", default=[2, 3, 4, 6, 8])
    parser.add_argument("--epochs-instant", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8])
    parser.add_argument("--known", nargs="*", default=[], metavar="EPOCHS:LOSS")
    given = parser.parse_args()
    dataset = data.load("MNIST")
    # The evaluation after each epoch, which the course's loop has not, is not timed.
    unwatched = replace(dataset, test_images=dataset.test_images[:2])
    print(machine.describe())

    reached: list[float] = []  # by the course recipe, after each epoch
    network = runs.fit(recipe("multi_rate")).model
    asked = {  # by name: how it is trained, and for how many epochs
        "default": ({}, given.epochs),
        "width 48": ({"width": 48}, given.epochs_48),
        "instant": ({"profile": "instant"}, given.epochs_instant),
    }
    pace: dict[str, list[float]] = {name: [] for name in ("course", *asked)}
    found: dict[str, dict[int, float]] = {name: {} for name in asked}
    waiting = [(name, n) for name, (_, counts) in asked.items() for n in counts]
    waiting.sort(key=lambda each: each[1] * (3 if each[0] == "width 48" else 1))
    with tempfile.TemporaryDirectory() as folder:
        course_epochs = course.epochs(Path(folder), BETA)
        for epoch in range(max(given.course_epochs, len(waiting))):
            if epoch < given.course_epochs:
                seconds, model = next(course_epochs)
                pace["course"].append(seconds)
                reached.append(held_out(model, dataset.test_images, BETA)["loss"])
                print(f"course, epoch {epoch + 1}: {seconds:.1f} s, {reached[-1]:.5f}", flush=True)
            if waiting:
                name, count = waiting.pop(0)
                its = recipe("vae", BETA, epochs=count, **asked[name][0])
                begins_as = network.at(BETA) if its.start else None
                start = time.perf_counter()
                model, _ = train(its, unwatched, start=begins_as)
                seconds = (time.perf_counter() - start) / count
                pace[name].append(seconds)
                found[name][count] = held_out(model, dataset.test_images, BETA)["loss"]
                print(
                    f"{name}, {count} epochs: {seconds * count:.1f} s, {found[name][count]:.5f}",
                    flush=True,
                )

    course_pace = statistics.median(pace["course"])
    levels = {
        f"course, {n} epochs": (reached[n - 1], n * course_pace)
        for n in (5, 20)
        if n <= len(reached)
    }
    for known in given.known:
        count, level = known.split(":")
        levels[f"course, {count} epochs (known)"] = float(level), int(count) * course_pace
    print("\n| level | loss | course | by | epochs | time | sooner |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for (label, (level, course_time)), name in itertools.product(levels.items(), found):
        enough = [n for n, loss in sorted(found[name].items()) if loss <= level]
        if not enough:
            print(f"| {label} | {level:.5f} | {course_time:.0f} s | {name} | not reached | | |")
            continue
        ours = enough[0] * statistics.median(pace[name])
        print(
            f"| {label} | {level:.5f} | {course_time:.0f} s | {name} | {enough[0]} | {ours:.0f} s "
            f"| {course_time / ours:.1f} times |"
        )


if __name__ == "__main__":
    main()
