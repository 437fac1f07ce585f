"""A chapter that is to be run again: its parameters, checked and completed.

What is checked needs no torch, whose import takes seconds.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_nb import data
from vae_nb import parameters as checks
from vae_nb.data import SPECIFICATIONS
from vae_nb.recipe import Recipe, recipe

SHARED = {"epochs", "images", "seed", "dataset", "profile", "latent_dim"}  # of every chapter


def parameters(source: Path) -> dict[str, str]:
    """Names and defaults (as source) of a chapter's parameters: those of its tagged cell.

    Not by papermill, whose import takes a second: a refused value need not wait for it.
    """
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    tagged = [each for each in cells if "parameters" in each["metadata"].get("tags", [])]
    return checks.assigned("".join(tagged[0]["source"])) if tagged else {}


def check(source: Path, given: dict[str, Any], title: str) -> None:
    """Refuse before a kernel starts what the chapter would refuse, by the same checks and words.

    What only this chapter asks of a value, its own kernel says. Papermill only logs a name that the
    chapter does not know, and runs it at its defaults.
    """
    known = parameters(source)
    for name in given:
        if name not in known:
            raise ValueError(
                f"{source.stem} has no parameter {name!r}; it takes: {', '.join(known) or 'none'}"
            )
    defaults = _defaults(source)
    if defaults is None:
        return
    values = defaults | given
    try:
        shared = checks.checked(**values)
        model = ("vae", values["beta"]) if "beta" in values else ("ae", 0.0)
        recipe(*model, **shared)
        if "lower" in values:
            checks.neighbours(values["beta"], values["lower"], values["higher"])
        if "compared" in values:
            checks.betas("compared", values["compared"])
        if "start_labels" in values:
            classes = SPECIFICATIONS[values["dataset"]].classes
            checks.label_pairs(values["start_labels"], values["end_labels"], classes)
    except ValueError as error:
        raise ValueError(f"{error} ({title})") from None


def is_of_the_book(source: Path) -> bool:
    """Whether it takes what every chapter of this book takes, with literals as defaults."""
    return _defaults(source) is not None


def _defaults(source: Path) -> dict[str, Any] | None:
    """The defaults of a chapter of this book; None for a chapter of a reader's own."""
    known = parameters(source)
    if not known.keys() >= SHARED:
        return None
    try:
        return {name: ast.literal_eval(text) for name, text in known.items()}
    except (ValueError, SyntaxError):  # computed ones
        return None


def _recipes(source: Path, given: dict[str, Any]) -> tuple[list[tuple[str, Recipe]], Recipe | None]:
    """The VAEs that a chapter of the book fits at its beta, by role, and its network of all betas.

    In the order of the page. None of either for a chapter without a beta, or one of a reader's own.
    """
    defaults = _defaults(source)
    if defaults is None or "beta" not in defaults:
        return [], None
    values = defaults | given
    shared = checks.checked(**values)
    betas = [("this", values["beta"]), *(("compared", b) for b in values.get("compared", []))]
    if "lower" in values and values["beta"] > 0:
        low, high = checks.neighbours(values["beta"], values["lower"], values["higher"])
        betas = [("low", low), *betas, ("high", high)]
    vaes = [(role, recipe("vae", beta, **shared)) for role, beta in betas]
    return vaes, recipe("multi_rate", **shared)


def instant_profile(source: Path, parameter_sets: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The profile "instant" as a parameter, where it saves a training, else none.

    That is in a chapter with a beta whose models are neither cached here nor come with the package,
    if the network of all betas is or does. A given number of epochs means new weights.
    """
    if any({"profile", "epochs"} & given.keys() for given in parameter_sets):
        return {}
    recipes = [_recipes(source, given) for given in parameter_sets]
    vaes = {vae for of_one, _ in recipes for _, vae in of_one}
    networks = {network for _, network in recipes if network}
    if not networks:
        return {}
    from vae_nb import runs

    _held("MNIST")

    def at_hand(each: Recipe) -> bool:
        return runs.is_fitted(each) or runs.is_carried(each)

    if all(map(at_hand, vaes)) or not all(map(at_hand, networks)):
        return {}
    return {"profile": "instant"}


_held = functools.cache(data.load)  # each name of a run asks for the set: it is read once


def missing(source: Path, given: dict[str, Any]) -> list[tuple[Recipe, list[str]]]:
    """The VAEs of a page that are not fitted yet, and what the page shows of each."""
    from vae_nb import report, runs

    _held("MNIST")
    questions = [each for each in report.QUESTIONS.values() if each.chapter == source.stem]
    found = []
    for role, vae in _recipes(source, given)[0]:
        if not runs.is_fitted(vae):
            shown = {name for each in questions for name in each.shows(role)}
            found.append((vae, sorted(shown | {"recognised_prior"})))
    return found


def expected_seconds(
    names: Sequence[str], work: Sequence[tuple[Recipe, list[str]]]
) -> dict[str, float]:
    """The parts of a re-run and how long each takes; see :class:`vae_nb.progress.Watcher`."""
    seconds = dict.fromkeys(names, 15.0)
    for vae, _ in work:
        seconds |= {str(vae): 8.0 * vae.epochs * (vae.share or 1.0), f"measuring {vae}": 8.0}
    return seconds


def digest(source: Path, parameter_sets: Sequence[dict[str, Any]]) -> str:
    """A digest of all that decides the pages of a re-run; "" if that is not known.

    It is known for the book's own chapters: the chapter, this package, the book's style, the
    parameters, and what is installed.
    """
    if not is_of_the_book(source):
        return ""
    book, package = source.parent, Path(checks.__file__).parent
    files = [source, *book.glob("_*.*"), *book.glob("*.bib")]
    files += [each for folder in ("_ext", "_static") for each in (book / folder).glob("*.*")]
    files += [each for each in package.rglob("*.*") if each.suffix != ".pyc"]
    files += [each for each in [book / "_build" / "html" / "objects.inv"] if each.is_file()]
    total = hashlib.sha256(json.dumps([repr(each) for each in parameter_sets]).encode())
    for name in ("torch", "matplotlib", "jupyter-book", "myst-nb"):
        total.update(importlib.metadata.version(name).encode())
    for each in sorted(files):
        if each.is_file():
            total.update(f"{each}\n".encode() + each.read_bytes())
    return total.hexdigest()
