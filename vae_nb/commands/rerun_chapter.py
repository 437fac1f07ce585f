"""A chapter that is to be run again: its parameters, checked and completed."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_nb import data, runs
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
    if not known.keys() >= SHARED:
        return  # not a chapter of this book
    try:
        defaults = {name: ast.literal_eval(each) for name, each in known.items()}
    except (ValueError, SyntaxError):
        return  # a reader's own chapter, whose defaults are computed
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
    """Whether it takes what every chapter of this book takes."""
    return parameters(source).keys() >= SHARED


def _recipes(source: Path, given: dict[str, Any]) -> tuple[list[Recipe], Recipe]:
    """The VAEs that a chapter of the book with a beta asks for, and its network of all betas."""
    defaults = {name: ast.literal_eval(text) for name, text in parameters(source).items()}
    values = defaults | given
    shared = checks.checked(**values)
    betas = [values["beta"], *values.get("compared", [])]
    if "lower" in values and values["beta"] > 0:
        betas += checks.neighbours(values["beta"], values["lower"], values["higher"])
    return [recipe("vae", beta, **shared) for beta in betas], recipe("multi_rate", **shared)


def instant(source: Path, asked: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The profile "instant" as a parameter, where it saves a training, else none.

    That is in a chapter with a beta whose models are neither kept here nor come with the package,
    if the network of all betas is or does. Who names a number of epochs means new weights.
    """
    if not parameters(source).keys() >= SHARED | {"beta"}:
        return {}
    if any({"profile", "epochs"} & given.keys() for given in asked):
        return {}
    of_all = [_recipes(source, given) for given in asked]
    vaes = {each for some, _ in of_all for each in some}
    networks = {network for _, network in of_all}
    if all(map(_is_at_hand, vaes)) or not all(map(_is_at_hand, networks)):
        return {}
    return {"profile": "instant"}


_held = functools.cache(data.load)  # each name of a run asks for the set: it is read once


def _is_at_hand(recipe: Recipe) -> bool:
    _held("MNIST")
    return runs.is_fitted(recipe) or runs.is_carried(recipe)


def work(source: Path, asked: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """What a re-run has to do, in seconds; see :class:`vae_nb.progress.Watcher`."""
    found = dict.fromkeys(asked, 15.0)
    if parameters(source).keys() >= SHARED | {"beta"}:
        for given in asked.values():
            for each in _recipes(source, given)[0]:
                if not runs.is_fitted(each):
                    found |= {str(each): 8.0 * each.epochs, f"measuring {each}": 8.0}
    return found


def made_of(source: Path, asked: Sequence[dict[str, Any]]) -> str:
    """A digest of all that decides the pages of a re-run; "" if that is not known.

    It is known for the book's own chapters: the chapter, this package, the book's style, the
    parameters, and what is installed.
    """
    if not parameters(source).keys() >= SHARED:
        return ""
    book, package = source.parent, Path(checks.__file__).parent
    files = [source, *book.glob("_*.*"), *book.glob("*.bib")]
    files += [each for folder in ("_ext", "_static") for each in (book / folder).glob("*.*")]
    files += [each for each in package.rglob("*.*") if each.suffix != ".pyc"]
    files += [each for each in [book / "_build" / "html" / "objects.inv"] if each.is_file()]
    total = hashlib.sha256(json.dumps([repr(each) for each in asked]).encode())
    for name in ("torch", "matplotlib", "jupyter-book", "myst-nb"):
        total.update(importlib.metadata.version(name).encode())
    for each in sorted(files):
        if each.is_file():
            total.update(f"{each}\n".encode() + each.read_bytes())
    return total.hexdigest()
