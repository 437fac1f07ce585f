"""What the chapter on better samples says of densities: its tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_nb import densities
from vae_nb.archive import Numbers
from vae_nb.metrics import METRICS
from vae_nb.report import tables, templates
from vae_nb.report.templates import shown

MODELS = {"ae": "AE", "learned": "β learned", "0.01": "β = 0.01", "0.1": "β = 0.1"}
OWN, TRAIN, REAL = "own_codes", "train_codes", "real"  # rows that are no density
TARGET_FID, TARGET_RECALL = 5.0, 0.1  # at most, and at most so far below real images
COPIES, NEAR = 0.9, 0.97  # of the distance of copied held-out images
BLURRED = 10.0  # FID of training images' own codes above which a decoder is called the limit
# The columns of the table. A page is not wide enough for seven measures, so pairs share one.
_COLUMNS = {
    "FID": ("fid_prior",),
    "recognised": ("recognised_prior",),
    "precision / recall": ("precision_prior", "recall_prior"),
    "density / coverage": ("density_prior", "coverage_prior"),
    "distance": ("novelty_prior",),
}


def _text(macro: str, **facts: Any) -> str:
    return templates.macro("repairs.md", macro, **facts)


def title(name: str) -> str:
    """What tables call a row."""
    names = {OWN: "held-out images’ own codes", REAL: "real images"}
    names[TRAIN] = "training images’ own codes"
    return names.get(name) or densities.DENSITIES[name].title


def answer(prior: Numbers, repaired: Numbers, density: str, noun: str) -> str:
    """The autoencoder's samples from N(0, I) beside those of a density."""
    facts = {"prior": shown(prior), "repaired": shown(repaired)}
    much = repaired["fid_prior"].value < prior["fid_prior"].value / 2
    return _text("answer", title=title(density), noun=noun, repaired_much=much, **facts)


def _rows(model: str) -> Mapping[str, Any]:
    return densities.archived().get(model, {})


def repairs_table(model: str) -> str:
    """Every archived density of one model, a row each, and real images in the last one."""
    rows = []
    for name in (*densities.DENSITIES, TRAIN, OWN, REAL):
        if row := _rows(model).get(name):
            density = densities.DENSITIES.get(name)
            seconds = f"{row['seconds']:.0f}" if density and name != "prior" else "–"
            cells = [_together(row["measured"], names) for names in _COLUMNS.values()]
            rows.append([title(name), *cells, seconds])
    return tables.markdown(["codes from", *_COLUMNS, "seconds"], rows, "lrrrrrr")


def _together(numbers: Numbers, names: tuple[str, ...]) -> str:
    """Measures in one cell, with one percent sign: "79 / 73 %"."""
    cells = [tables.cell(numbers, name) for name in names]
    return " / ".join([*(each.removesuffix("\u00a0%") for each in cells[:-1]), cells[-1]])


def pictures(model: str) -> dict[str, list[str]]:
    """Unchosen samples of each archived row of a model, as a PNG in base64 by its title."""
    names = (*densities.DENSITIES, TRAIN, REAL)
    rows = {name: row for name in names if "picture" in (row := _rows(model).get(name, {}))}
    return {title(name): [row["picture"]] for name, row in rows.items()}


def fids_table() -> str:
    """The FID of each archived density, a column for each model."""
    archived = {MODELS[key]: rows for key, rows in densities.archived().items()}
    archived = {label: archived[label] for label in MODELS.values() if label in archived}
    rows = []
    for name in (*densities.DENSITIES, TRAIN, OWN):
        found = [rows_of.get(name) for rows_of in archived.values()]
        if sum(map(bool, found)) > 1:
            cells = [
                METRICS["fid_prior"].show(f["measured"]["fid_prior"]) if f else "–" for f in found
            ]
            rows.append([title(name), *cells])
    return tables.markdown(["FID, codes from", *archived], rows, "l" + "r" * len(archived))


def best(model: str) -> str:
    """Which archived density is best by FID, and whether one reaches what was asked for."""
    archived = _rows(model)
    if not {OWN, REAL} < archived.keys():
        return _text("missing")
    real = archived[REAL]["measured"]
    rows = {name: row for name, row in archived.items() if name in densities.DENSITIES}
    least = min(rows, key=lambda name: rows[name]["measured"]["fid_prior"].value)
    fids = {k: row["measured"]["fid_prior"].value for k, row in rows.items()}
    near = [k for k, fid in fids.items() if float(f"{fid:.3g}") <= TARGET_FID]  # as in the table
    recalls = {k: rows[k]["measured"]["recall_prior"] for k in near}
    least_recall = real["recall_prior"].value - TARGET_RECALL
    top = max(recalls.values(), key=lambda each: each.value, default=real["recall_prior"])
    perfect = archived[TRAIN]["measured"] if TRAIN in archived else {}
    perfect_reaches = bool(perfect) and (
        perfect["fid_prior"].value <= TARGET_FID and perfect["recall_prior"].value >= least_recall
    )
    return _text(
        "best",
        title=title(least),
        row=shown(rows[least]["measured"]),
        target=f"{TARGET_FID:g}",
        recall=METRICS["recall_prior"].show(top),
        real=METRICS["recall_prior"].show(real["recall_prior"]),
        reached=[title(k) for k, recall in recalls.items() if recall.value >= least_recall],
        near=[title(k) for k in near],
        points=f"{100 * TARGET_RECALL:g}",
        perfect=shown(perfect),
        perfect_reaches=perfect_reaches,
        seconds=rows[least]["seconds"],
        own=shown(archived[OWN]["measured"]),
        missing=[title(name) for name in densities.DENSITIES if name not in archived],
    )


def decoders() -> str:
    """Which model gains most by local Gaussians, and what each decoder makes of true codes."""
    fids = {
        label: {name: row["measured"]["fid_prior"] for name, row in _rows(key).items()}
        for key, label in MODELS.items()
        if {"prior", "clusters", TRAIN} <= _rows(key).keys()
    }
    if not fids:
        return _text("missing")
    gains = {label: fid["prior"].value / fid["clusters"].value for label, fid in fids.items()}
    most, show = max(gains, key=lambda label: gains[label]), METRICS["fid_prior"].show
    return _text(
        "decoders",
        most=most if len(gains) > 1 else "",
        before=show(fids[most]["prior"]),
        after=show(fids[most]["clusters"]),
        blurred={
            label: {"perfect": show(fid[TRAIN]), "repaired": show(fid["clusters"])}
            for label, fid in fids.items()
            if fid[TRAIN].value > BLURRED
        },
    )


def memory(measured: Numbers) -> str:
    """Whether samples are nearer to training images than copied held-out images are."""
    sample, own = measured["novelty_prior"], _rows("ae").get(OWN)
    copied = own["measured"]["novelty_prior"] if own else None
    share = sample.value / (copied.value if copied else 1)
    facts = shown({"novelty_prior": sample})["novelty_prior"]
    of_copied = copied and shown({"novelty_prior": copied})["novelty_prior"]
    return _text("memory", sample=facts, own=of_copied, copies=share < COPIES, near=share < NEAR)
