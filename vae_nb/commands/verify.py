"""The verdicts of the report's claims against those that the chapters were written for.

The report's models are fitted at the defaults (or taken from the cache), measured, and joined with
the archived seeds; the verdict of a claim is that of the report's own recipe, where the archive has
it. A failure is a verdict that is not the expected one (then the prose wants reading again), a run
outside of what the archive predicts, an archived row that other code made, and a test of a claim
that was changed after the archive was made without a word on the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from vae_nb import archive, metrics, report, runs
from vae_nb.archive import Archive, Numbers
from vae_nb.metrics import METRICS
from vae_nb.recipe import recipe
from vae_nb.report import CLAIMS, QUESTIONS, Verdict
from vae_nb.report.question import Claim, Seeds
from vae_nb.runs import Run

Key = tuple[str, float]  # a model and its beta


def measured_models() -> tuple[dict[Key, Run], dict[Key, Numbers], Numbers]:
    """The report's models at the defaults, what is read of them, and the numbers of real images."""
    fitted = {key: runs.fit(recipe(*key)) for key in report.models()}
    compared = set(archive.COMPARED)
    numbers: dict[Key, Numbers] = {
        key: metrics.of(run, report.reads(*key) | compared) for key, run in fitted.items()
    }
    return fitted, numbers, metrics.of_real(next(iter(fitted.values())).dataset)


def columns_by_claim(
    columns: Mapping[str, Mapping[str, Seeds]],
) -> list[tuple[Claim, Mapping[str, Seeds]]]:
    """Each claim with the evidence of every seed by column; ``columns`` has it by question."""
    question = {claim.name: each.name for each in QUESTIONS.values() for claim in each.claims}
    return [(claim, columns[question[claim.name]]) for claim in CLAIMS]


def differences(columns: Mapping[str, Mapping[str, Seeds]]) -> list[tuple[Claim, Verdict]]:
    """The claims whose verdict is not the expected one, with the verdict that was found.

    ``columns`` has the evidence of every seed, by question and column; the first column decides.
    """
    found = [
        (claim, claim.verdict(next(iter(of_claim.values()))))
        for claim, of_claim in columns_by_claim(columns)
    ]
    return [(claim, verdict) for claim, verdict in found if verdict is not claim.expected]


def changed_tests(archived: Archive) -> list[str]:
    """A line for each claim whose tests are not those of the archive, nor listed as changed."""
    then, now = archived.claims["tests"], report.tests()
    return [
        f"{name}: its tests were changed after the archive was made (commit "
        f"{archived.claims['commit'] or 'unknown'}): list it in vae_nb.report.CHANGED and say why"
        for name in now
        if then.get(name) != now[name] and name not in report.CHANGED
    ]


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
    """Print verdicts and checks; returns 1 if anything is not as the pages say."""
    fitted, numbers, real = measured_models()
    columns = report.columns_of(fitted, numbers, real)
    for claim, of_claim in columns_by_claim(columns):
        for title, seeds in of_claim.items():
            print(f"{claim.name}, {title}, {len(seeds)} seeds: {claim.verdict(seeds).value}")
            for check in claim.checks(seeds):
                text = str(check).replace("**", "")
                print(f"      {text}, {check.outcome.value}")
    archived = archive.read()
    lines = outliers(fitted, numbers) + changed_tests(archived)
    lines += [f"{row.recipe}: made by other code" for row in archive.stale(archived.rows)]
    lines += [
        f"{claim.name}: {verdict.value}, written for: {claim.expected.value}"
        for claim, verdict in differences(columns)
    ]
    print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr)
    return int(bool(lines))
