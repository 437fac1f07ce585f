"""Texts from Jinja templates, and how numbers are written in them.

The templates lie beside this module as Markdown. A name that is not defined is an error. Estimates
of a metric print in the format of the metric: ``{{ ae.mse_mean }}``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from vae_nb.metrics import METRICS, number
from vae_nb.metrics.intervals import Estimate


def listing(values: Iterable[object]) -> str:
    """ "0.01, 0.03 and 0.1"; numbers in their shortest form."""
    *most, last = [f"{v:g}" if isinstance(v, float | int) else str(v) for v in values]
    return f"{', '.join(most)} and {last}" if most else last


@dataclasses.dataclass(frozen=True)
class Shown:
    """An estimate of a metric, as a template writes it."""

    name: str
    estimate: Estimate

    @property
    def value(self) -> float:
        """The number itself."""
        return self.estimate.value

    @property
    def range(self) -> str:
        """The 95 % interval: "[83, 88]"; "" of what is counted."""
        _, *ends = map(METRICS[self.name].show, self.estimate.interval)
        return "" if self.estimate.is_exact else f"[{', '.join(ends)}]"

    def __str__(self) -> str:
        return METRICS[self.name].show(self.estimate)


def shown(numbers: Mapping[str, Estimate]) -> dict[str, Shown]:
    """The numbers of one run for a template."""
    return {name: Shown(name, estimate) for name, estimate in numbers.items() if name in METRICS}


_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # Markdown
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "number": number,
    "percent": lambda share: f"{share:.0%}".replace("%", "\u00a0%"),
    "points": lambda share: f"{100 * share.value:.0f} percentage points",
    "shortest": lambda value: f"{value:g}",
    "listing": listing,
}


def reads(file: str, role: str) -> set[str]:
    """The names that the template ``file`` reads of a role: ``{{ ae.mse_mean }}`` reads one."""
    tree = _environment.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    return {
        found.attr
        for found in tree.find_all(jinja2.nodes.Getattr)
        if isinstance(found.node, jinja2.nodes.Name) and found.node.name == role
    }


def render(file: str, **facts: Any) -> str:
    """The template ``file`` (such as ``q1_autoencoder.md``) filled with facts."""
    return _environment.get_template(file).render(facts).strip()


def macro(file: str, name: str, **facts: Any) -> str:
    """The macro ``name`` of the template ``file``, filled, on one line for each paragraph."""
    text = getattr(_environment.get_template(file).module, name)(**facts)
    paragraphs = re.split(r"\n{2,}", text.strip())
    return "\n\n".join(re.sub(r"[ \n]+", " ", each).strip() for each in paragraphs)
