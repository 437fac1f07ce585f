"""What may a chapter be asked? The names and values of its parameters cell, checked.

Papermill sets any name that it is given, also one that no chapter reads, and only logs it. So the
first line after a parameters cell hands its names over to :func:`checked`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from vae_nb.models import BETA_RANGE

SHARED = ("epochs", "images", "seed", "dataset", "profile")
_LITERALS = (numbers.Number, str, list, tuple, dict, type(None))
_IPYTHON = ("In", "Out")


def checked(namespace: Mapping[str, Any], *own: str) -> dict[str, Any]:
    """The values of the parameters that all chapters share, for :func:`vae_nb.training.recipe`.

    ``namespace`` is the chapter's ``globals()`` when nothing but its parameters and its imports has
    run; ``own`` are the names of this chapter's further parameters. Raises :class:`ValueError` that
    names a parameter that the chapter does not have. Values are checked where they are used.
    """
    known = (*own, *SHARED)
    for name, value in namespace.items():
        hidden = name.startswith("_") or name in _IPYTHON
        if isinstance(value, _LITERALS) and not hidden and name not in known:
            raise ValueError(
                f"unknown parameter {name!r} (= {value!r}): this chapter takes {', '.join(known)}"
            )
    return {name: namespace[name] for name in SHARED}


def label_pairs(start_labels: object, end_labels: object) -> list[tuple[int, int]]:
    """Start and end labels of interpolations as pairs; each is one label or a list of labels.

    Raises :class:`ValueError` for a label that is not a whole number from 0 to 9, and for lists of
    different lengths.
    """
    lists = {}
    for name, given in (("start_labels", start_labels), ("end_labels", end_labels)):
        lists[name] = given if isinstance(given, list | tuple) else [given]
        for label in lists[name]:
            whole = isinstance(label, numbers.Integral) and not isinstance(label, bool)
            if not whole or not 0 <= label <= 9:
                raise ValueError(
                    f"{name} = {given!r} is not allowed: {name} must be a label from 0 to 9, "
                    "or a list of such labels"
                )
    starts, ends = lists.values()
    if len(starts) != len(ends) or not starts:
        raise ValueError(
            f"start_labels = {start_labels!r} and end_labels = {end_labels!r} must have the same "
            "number of labels, at least one"
        )
    return list(zip(starts, ends, strict=True))


def neighbours(beta: float, lower: float, higher: float) -> tuple[float, float]:
    """A lower and a higher beta to compare with: ``lower * beta`` and ``higher * beta``.

    Raises :class:`ValueError` for factors that are not on their side of 1, and for beta = 0, which
    has no lower neighbour.
    """
    for name, value, ok, allowed in (
        ("lower", lower, _is_number(lower) and 0 < lower < 1, "a number between 0 and 1"),
        ("higher", higher, _is_number(higher) and 1 < higher < math.inf, "a number above 1"),
        ("beta", beta, _is_number(beta) and 0 < beta < math.inf, "a finite number above 0 here"),
    ):
        if not ok:
            raise ValueError(f"{name} = {value!r} is not allowed: {name} must be {allowed}")
    return float(f"{lower * beta:.6g}"), float(f"{higher * beta:.6g}")


def within_range(beta: object) -> float:
    """A beta that a multi-rate VAE is trained for.

    Raises :class:`ValueError` for anything but a number in BETA_RANGE.
    """
    low, high = BETA_RANGE
    if not (_is_number(beta) and low <= beta <= high):
        raise ValueError(
            f"beta = {beta!r} is not allowed: beta must be a number from {low:g} to {high:g} here"
        )
    return float(beta)


def betas(name: str, values: object) -> list[float]:
    """Further values of beta, from a chapter's parameter of that ``name``.

    Raises :class:`ValueError` unless it is a list of finite numbers from 0.
    """
    right = isinstance(values, list | tuple) and all(
        _is_number(beta) and 0 <= beta < math.inf for beta in values
    )
    if not right:
        raise ValueError(
            f"{name} = {values!r} is not allowed: {name} must be a list of finite numbers from 0"
        )
    return [float(beta) for beta in values]


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
