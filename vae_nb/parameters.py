"""Validated parameters of a chapter.

Papermill sets any name that it is given, also one that no chapter reads, and only logs it. So the
first line after a parameters cell hands the parameters to :func:`checked`, which looks for other
names in the cell that papermill has put in. Variables of the reader's own are nobody's business.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from typing import Any

from vae_nb.recipe import is_integer, is_number, require

_INJECTED = "# Parameters"  # how papermill begins the cell that it puts in, the second of a chapter


def checked(
    *,
    epochs: object,
    images: object,
    seed: object,
    dataset: object,
    profile: object,
    latent_dim: object,
    **own: object,
) -> dict[str, Any]:
    """The parameters that all chapters share, as keyword arguments of ``recipe.recipe``.

    ``own`` are the chapter's further parameters; values are checked where they are used. Raises
    :class:`ValueError` that names a parameter which papermill has set and the chapter does not
    have, and for an ``images`` that is no whole number from 0 (0: all training images).
    """
    shared = {"epochs": epochs, "seed": seed, "dataset": dataset, "profile": profile}
    shared["latent_dim"] = latent_dim
    known = (*own, "images", *shared)
    for name, value in _injected().items():
        if name not in known:
            raise ValueError(
                f"unknown parameter {name!r} (= {value}): this chapter takes {', '.join(known)}"
            )
    require(is_integer(images, 0), "images", images, "0 (all) or how many training images to use")
    return shared | {"train_images": images or None}


def _injected() -> dict[str, Any]:
    """Names and values of papermill's cell, if this kernel has run one at the start."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    for source in (shell.user_ns.get("In", []) if shell else [])[1:3]:
        if source.startswith(_INJECTED):
            return assigned(source)
    return {}


def assigned(source: str) -> dict[str, str]:
    """Names and values, both as source, that the statements of a cell of parameters assign."""
    return {
        target.id: ast.unparse(statement.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def label_pairs(
    start_labels: Any, end_labels: Any, classes: Sequence[str]
) -> list[tuple[int, int]]:
    """Start and end labels of interpolations as pairs; each is one label or a list of labels.

    Raises :class:`ValueError` for a label that is not one of the ``classes`` (a whole number from
    0), and for lists of different lengths.
    """
    lists = {}
    for name, given in (("start_labels", start_labels), ("end_labels", end_labels)):
        lists[name] = list(given) if isinstance(given, list | tuple) else [given]
        for label in lists[name]:
            ok = is_integer(label, 0) and label < len(classes)
            allowed = f"a label from 0 to {len(classes) - 1}, or a list of such labels"
            require(ok, name, given, allowed)
    starts, ends = lists.values()
    if len(starts) != len(ends) or not starts:
        raise ValueError(
            f"start_labels = {start_labels!r} and end_labels = {end_labels!r} must have the same "
            "number of labels, at least one"
        )
    return list(zip(starts, ends, strict=True))


def neighbours(beta: Any, lower: Any, higher: Any) -> tuple[float, float]:
    """A lower and a higher beta to compare with: ``lower * beta`` and ``higher * beta``.

    Raises :class:`ValueError` for factors that are not on their side of 1, and for beta = 0, which
    has no lower neighbour.
    """
    require(is_number(lower) and 0 < lower < 1, "lower", lower, "a number between 0 and 1")
    require(is_number(higher) and higher > 1, "higher", higher, "a number above 1")
    require(is_number(beta) and beta > 0, "beta", beta, "a finite number above 0 here")
    return float(f"{lower * beta:.6g}"), float(f"{higher * beta:.6g}")


def within_range(beta: Any) -> float:
    """A beta that a multi-rate VAE is trained for.

    Raises :class:`ValueError` for anything but a number in BETA_RANGE.
    """
    from vae_nb.multirate import BETA_RANGE  # with torch, which takes seconds

    low, high = BETA_RANGE
    ok = is_number(beta) and low <= beta <= high
    require(ok, "beta", beta, f"a number from {low:g} to {high:g} here")
    return float(beta)


def betas(name: str, values: Any) -> list[float]:
    """Further values of beta, from a chapter's parameter of that ``name``.

    Raises :class:`ValueError` unless it is a list of finite numbers from 0.
    """
    ok = isinstance(values, list | tuple) and all(is_number(b) and b >= 0 for b in values)
    require(ok, name, values, "a list of finite numbers from 0")
    return [float(beta) for beta in values]
