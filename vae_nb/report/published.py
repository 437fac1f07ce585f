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
        ours, theirs = over_seeds(own), likelihood.PUBLISHED[k][0]
        fact = {"k": k, "gap": ours.value - theirs, "even": ours.low <= theirs <= ours.high}
        side = "lower" if ours.value < theirs else "higher"
        found.append(fact | {"side": side, "passes": passes(own[0], rows)})
    return templates.macro(
        "published.md",
        "difference",
        rows=found,
        reached=[row["k"] for row in found if _reaches(row)],
        short=[row["k"] for row in found if not _reaches(row)],
        goes_on=any(row["continued"] for row in rows),
        missing=[k for k in likelihood.PUBLISHED if k not in by_k],
        alone=[k for k, own in by_k.items() if len(own) == 1],
        published_epochs=likelihood.PUBLISHED_EPOCHS,
    )


def _reaches(row: Mapping[str, Any]) -> bool:
    return row["even"] or row["side"] == "higher"


def passes(row: dict[str, Any], rows: list[dict[str, Any]]) -> int:
    """How often a row's network has seen each image, with the network that it goes on from."""
    by_name = {f"{each['k']}:{each['seed']}": each for each in rows}
    before = by_name.get(row["continued"])
    return row["epochs"] + (passes(before, rows) if before else 0)


def bounds(gains: Mapping[int, Estimate], elbo: float) -> str:
    """How far the bound of the most samples is above the ELBO of the same network."""
    k = max(gains)
    facts = {"k": k, "gain": gains[k], "gains": gains[k].low > 0, "elbo": elbo}
    return templates.macro("published.md", "bounds", first=gains.get(10), **facts)


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


def who_wins(ours: Rates, trained: tuple[int, int]) -> str:
    """At which betas the same network wins in both, by D + beta R and by D alone.

    ``trained`` are passes over the images: of a network for one beta, and of that for all.
    """

    def winner(pair: tuple[tuple[float, float], ...], weight: float) -> int:
        one, every = (round(distortion + weight * rate, 1) for rate, distortion in pair)
        return (one > every) - (one < every)  # 0 where the table shows the same number

    facts: dict[str, Any] = {"passes": trained[0], "passes_all": trained[1]}
    for by, weighs in (("objective", 1.0), ("distortion", 0.0)):
        wins = {
            beta: (winner(pair, weighs * beta), winner(ours[beta], weighs * beta))
            for beta, pair in likelihood.RATES.items()
        }
        facts[by] = [beta for beta, (theirs, own) in wins.items() if own and theirs == own]
        facts[f"{by}_level"] = [beta for beta, (_, own) in wins.items() if not own]
        facts[f"{by}_not"] = [beta for beta in wins if beta not in facts[by]]
    return templates.macro("published.md", "who_wins", ours_fall=_falls(ours), **facts)


def archived_passes(path: Path = RATES) -> tuple[int, int]:
    """Passes over the images of our networks for one beta, and of that for all."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return next(row["epochs"] for name, row in rows.items() if name != "all"), rows["all"]["epochs"]


def _falls(rates: Rates) -> bool:
    """Whether the rate falls and the distortion rises with beta, for either kind of network."""
    kinds = list(zip(*rates.values(), strict=True))
    return all(
        one[0] > other[0] and one[1] < other[1]
        for kind in kinds
        for one, other in itertools.pairwise(kind)
    )
