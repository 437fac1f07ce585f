"""Do the verdicts still say what the book's prose was written for?

    python -m vae_nb.gate

Fits (or takes from the store) the report's models at the defaults, joins them with the archived
seeds, and compares the verdict of every claim with the one that it was written down with. A
contradiction ends with exit code 1, and so does a run that lies where the archive does not expect
it: then the prose wants reading again, or the change of the code does. A verdict that has become
undecided is said, but contradicts nothing: another processor trains another model, and an interval
near its threshold may reach over it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from vae_nb import answers, archive, claims, store
from vae_nb.claims import CLAIMS, Claim, Evidence, Verdict
from vae_nb.evaluation.measure import measure, measure_floor, represent
from vae_nb.store import Run
from vae_nb.training import recipe


def runs_of_report() -> dict[tuple[str, float], Run]:
    """The models of the claims at the defaults, by kind and beta."""
    keys = sorted({key for roles in claims.ROLES.values() for key in roles.values()})
    return {(model, beta): store.fit(recipe(model, beta)) for model, beta in keys}


def differences(seeds: Mapping[str, Sequence[Evidence]]) -> list[tuple[Claim, Verdict]]:
    """The claims whose verdict is not the expected one, with that which was found.

    ``seeds`` has the evidence of every seed, by question.
    """
    found = [(claim, claim.verdict(seeds[claim.question])) for claim in CLAIMS]
    return [(claim, verdict) for claim, verdict in found if verdict is not claim.expected]


def main() -> int:
    """Print the verdicts and what differs; the exit code says whether anything does."""
    runs = runs_of_report()
    measured = {key: measure(run, run.dataset) for key, run in runs.items()}
    for key in set(claims.ROLES["Q5"].values()):
        measured[key] |= represent(runs[key], runs[key].dataset)
    floor = measure_floor(next(iter(runs.values())).dataset)
    seeds = answers.seeds_of(runs, measured, floor)
    for claim in CLAIMS:
        print(f"{claim.name}: {claim.verdict(seeds[claim.question]).value}")
        for check in claim.checks(seeds[claim.question]):
            print(f"      {check}, {check.verdict().value}")
    found = differences(seeds)
    wrong = [claim for claim, verdict in found if verdict is not Verdict.UNDECIDED]
    for claim, verdict in found:
        print(
            f"{claim.name}: {verdict.value}, but its prose was written for: {claim.expected.value}",
            file=sys.stderr,
        )
    strays = {key: archive.strays(run, measured[key]) for key, run in runs.items()}
    for (model, beta), names in strays.items():
        for name, (live, expected) in names.items():
            print(f"{model} {beta:g}: {name} is {live}, expected {expected}", file=sys.stderr)
    return 1 if wrong or any(strays.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
