"""What the chapter on likelihood says: tables of others beside ours."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_nb import likelihood
from vae_nb.metrics.intervals import Estimate, mean_ci
from vae_nb.report import tables, templates

ARCHIVE = Path(likelihood.__file__).with_name("likelihood.json")
RATES = ARCHIVE.with_suffix(".rates.json")
Rates = dict[float, tuple[tuple[float, float], tuple[float, float]]]  # as likelihood.RATES


def archived(path: Path = ARCHIVE) -> list[dict[str, Any]]:
    """The rows that ``benchmarks/likelihood.py`` has made, by k and seed."""
    rows = json.loads(path.read_text(encoding="utf-8")).values()
    return sorted(rows, key=lambda row: (row["k"], row["seed"]))


def over_seeds(rows: list[dict[str, Any]]) -> Estimate:
    """The mean log-likelihood over seeds; of one seed alone, over its images."""
    if len(rows) == 1:
        return Estimate.read(rows[0]["log_likelihood"])
    return mean_ci([row["log_likelihood"][0] for row in rows])


def likelihood_table(rows: list[dict[str, Any]]) -> str:
    """Log-likelihoods and active units, published and ours, a row for each k."""
    lines = []
    for k, (nats, units) in likelihood.PUBLISHED.items():
        own = [row for row in rows if row["k"] == k]
        name = f"{'VAE' if k == 1 else 'IWAE'}, k\u00a0=\u00a0{k}"
        line = [name, f"{nats:.2f}", str(units)]
        if own:
            estimate = over_seeds(own)
            line += [
                f"{estimate:.2f}",
                ", ".join(str(row["active_units"]) for row in own),
                str(len(own)),
                ", ".join(sorted({f"{row['samples']:,} × {row['images']:,}" for row in own})),
                f"{sum(row['cpu_seconds'] for row in own) / len(own):,.0f}",
            ]
        lines.append(line + ["–"] * (8 - len(line)))
    head = ["", "published", "active", "ours", "active", "seeds", "samples × images", "seconds"]
    return tables.markdown(head, lines, "l" + "r" * 7)


def difference(rows: list[dict[str, Any]]) -> str:
    """How far ours is from the published value, row by row, and what is missing."""
    by_k = {k: own for k in likelihood.PUBLISHED if (own := [row for row in rows if row["k"] == k])}
    found = []
    for k, own in by_k.items():
        start, gap = own[0]["continued"], over_seeds(own).value - likelihood.PUBLISHED[k][0]
        fact = {"k": k, "gap": gap, "side": "below" if gap < 0 else "above"}
        found.append(fact | {"epochs": own[0]["epochs"], "start": start and start.split(":")[0]})
    return templates.macro(
        "published.md",
        "difference",
        rows=found,
        missing=[k for k in likelihood.PUBLISHED if k not in by_k],
        alone=[k for k, own in by_k.items() if len(own) == 1],
        published_epochs=likelihood.PUBLISHED_EPOCHS,
    )


def bounds(gains: Mapping[int, Estimate], elbo: float) -> str:
    """How far the bound of the most samples is above the ELBO of the same network."""
    k = max(gains)
    facts = {"k": k, "gain": gains[k], "gains": gains[k].low > 0, "elbo": elbo}
    return templates.macro("published.md", "bounds", **facts)


def archived_rates(path: Path = RATES) -> Rates:
    """Rates and distortions by beta: of our networks for one beta each, and of that for all."""
    rows = json.loads(path.read_text(encoding="utf-8"))

    def pair(row: Mapping[str, Any], beta: float) -> tuple[float, float]:
        return row[f"{beta:g}"]["rate"][0], row[f"{beta:g}"]["distortion"][0]

    return {b: (pair(rows[f"{b:g}"], b), pair(rows["all"], b)) for b in likelihood.RATES}


def rates_table(ours: Rates) -> str:
    """Rate R, distortion D and the objective D + beta R, published and ours."""
    lines = []
    for beta, published in likelihood.RATES.items():
        for name, theirs, own in zip(("one β", "all β"), published, ours[beta], strict=True):
            both = [
                f"{number:.1f}"
                for rate, distortion in (theirs, own)
                for number in (rate, distortion, distortion + beta * rate)
            ]
            lines.append([f"{beta:g}", name, *both])
    head = ["β", "trained for", "published: R", "D", "D + β R", "ours: R", "D", "D + β R"]
    return tables.markdown(head, lines, "rl" + "r" * 6)


def who_wins(ours: Rates) -> str:
    """At which betas the networks for one beta are the better ones, by D + beta R and by D."""
    facts = {}
    for whose, rates in (("published", likelihood.RATES), ("ours", ours)):
        for by, weight in (("objective", 1.0), ("distortion", 0.0)):
            scores = {
                beta: [distortion + weight * beta * rate for rate, distortion in pair]
                for beta, pair in rates.items()
            }
            facts[f"{whose}_{by}"] = [beta for beta, (one, every) in scores.items() if one < every]
            facts[f"{whose}_{by}_all"] = [b for b, (one, every) in scores.items() if one >= every]
    order = {"ours_fall": _falls(ours), "betas": list(likelihood.RATES)}
    return templates.macro("published.md", "who_wins", **facts, **order)


def _falls(rates: Rates) -> bool:
    """Whether the rate falls and the distortion rises with beta, for either kind of network."""
    kinds = list(zip(*rates.values(), strict=True))
    return all(
        one[0] > other[0] and one[1] < other[1]
        for kind in kinds
        for one, other in itertools.pairwise(kind)
    )
