"""What the chapter on likelihood says: tables of others beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_nb import likelihood
from vae_nb.metrics.intervals import Estimate, mean_ci
from vae_nb.report import tables, templates

ARCHIVE = Path(likelihood.__file__).with_name("likelihood.json")


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
        name = f"{'VAE' if k == 1 else 'IWAE'}, k = {k}"
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
    found = []
    for k, (nats, _) in likelihood.PUBLISHED.items():
        if own := [row for row in rows if row["k"] == k]:
            start = own[0]["continued"]
            gap = over_seeds(own).value - nats
            found.append(
                {
                    "k": k,
                    "gap": gap,
                    "side": "below" if gap < 0 else "above",
                    "epochs": own[0]["epochs"],
                    "seeds": len(own),
                    "start": start and start.split(":")[0],
                    "further": own[0]["epochs"],
                    "published_epochs": likelihood.PUBLISHED_EPOCHS,
                }
            )
    missing = [k for k in likelihood.PUBLISHED if k not in {row["k"] for row in rows}]
    return templates.macro(
        "published.md", "difference", rows=found, missing=missing, samples=likelihood.PUBLISHED
    )


def bounds(gains: Mapping[int, Estimate], elbo: float) -> str:
    """How far the bound of the most samples is above the ELBO of the same network."""
    k = max(gains)
    facts = {"k": k, "gain": gains[k], "gains": gains[k].low > 0, "elbo": elbo}
    return templates.macro("published.md", "bounds", **facts)
