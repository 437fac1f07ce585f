"""The verdicts of this build against those that the chapters were written for.

The report's models are fitted at the defaults (or taken from the cache) and joined with the
archived seeds. A verdict that contradicts the expected one is a failure, and so is a run outside of
what the archive predicts: then the prose wants reading again, or the change of the code does. A
verdict that has become undecided is reported, but contradicts nothing: another processor trains
another model, and an interval near its threshold may reach over it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from vae_nb import archive, metrics, report, runs
from vae_nb.archive import Numbers
from vae_nb.metrics import METRICS
from vae_nb.recipe import recipe
from vae_nb.report import CLAIMS, QUESTIONS, Verdict
from vae_nb.report.question import Claim, Seeds
from vae_nb.runs import Run

Key = tuple[str, float]  # a model and its beta


def measured_models() -> tuple[dict[Key, Run], dict[Key, Numbers], Numbers]:
    """The report's models at the defaults, their numbers, and those of real images."""
    fitted = {key: runs.fit(recipe(*key)) for key in report.models()}
    probed = QUESTIONS[
        "Q6"
    ].models.values()  # no other question reads the probes, which take longest
    without = [name for name, metric in METRICS.items() if metric.section != "probes"]
    numbers: dict[Key, Numbers] = {
        key: metrics.of(run, None if key in probed else without) for key, run in fitted.items()
    }
    return fitted, numbers, metrics.of_real(next(iter(fitted.values())).dataset)


def seeds_by_claim(seeds: Mapping[str, Seeds]) -> list[tuple[Claim, Seeds]]:
    """Each claim with the evidence of every seed; ``seeds`` has it by question."""
    question = {claim.name: each.name for each in QUESTIONS.values() for claim in each.claims}
    return [(claim, seeds[question[claim.name]]) for claim in CLAIMS]


def differences(seeds: Mapping[str, Seeds]) -> list[tuple[Claim, Verdict]]:
    """The claims whose verdict is not the expected one, with the verdict that was found.

    ``seeds`` has the evidence of every seed, by question.
    """
    found = [(claim, claim.verdict(evidence)) for claim, evidence in seeds_by_claim(seeds)]
    return [(claim, verdict) for claim, verdict in found if verdict is not claim.expected]


def outliers(fitted: Mapping[Key, Run], numbers: Mapping[Key, Numbers]) -> list[str]:
    """A line for each number outside of what the archive predicts."""
    return [
        f"{run.recipe}: {METRICS[name].title} is {METRICS[name].show(value)}, outside of "
        f"{METRICS[name].show(expected.low)} to {METRICS[name].show(expected.high)}"
        for key, run in fitted.items()
        for name, (value, expected) in archive.outliers(run, numbers[key]).items()
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``vae-nb verify`` takes none."""


def run(given: argparse.Namespace) -> int:
    """Print verdicts and checks; returns 1 after a contradiction or an outlier."""
    fitted, numbers, real = measured_models()
    seeds = report.seeds_of(fitted, numbers, real)
    for claim, evidence in seeds_by_claim(seeds):
        print(f"{claim.name}: {claim.verdict(evidence).value}")
        for check in claim.checks(evidence):
            text = str(check).replace("**", "")
            print(f"      {text}, {check.outcome.value}")
    rows = [row for each in fitted.values() for row in archive.others(each.recipe)]
    if stale := archive.stale(rows):
        print(f"{len(stale)} of the {len(rows)} archived runs were made by other code than today's")
    found, lines = differences(seeds), outliers(fitted, numbers)
    contradicted = any(verdict is not Verdict.UNDECIDED for _, verdict in found)
    failed = contradicted or bool(lines)
    for claim, verdict in found:
        lines.append(f"{claim.name}: {verdict.value}, written for: {claim.expected.value}")
    print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr)
    return int(failed)
