"""The figures of the book: one function each, from measured records to a :class:`LiveFigure`.

Nothing is measured here; captions and alternative texts stand in ``figures.md``. Figures are
transparent with mid-grey ink, so that they read on a light and on a dark page; images keep their
own grey levels. The colours differ for colour-blind readers as well, and stand out from white and
from black (``tests/test_figures.py`` computes both).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Circle
from torch import Tensor

from vae_nb.metrics import METRICS, number
from vae_nb.metrics.intervals import Estimate
from vae_nb.metrics.paths import PAIRS
from vae_nb.metrics.probes import NOISE_LABELS
from vae_nb.models import sample_prior
from vae_nb.runs import Run
from vae_nb.training import History

INK = "#757575"  # 4.5 to 1 on white and on black, the grounds of the two themes
RECONSTRUCTION, KL = "#05619F", "#8986FF"
# A beta has one colour on all pages; what lies between two of these is mixed of both.
_BETA_COLOURS = {
    1e-5: "#408ED5",  # beta = 0 as well
    1e-2: "#077C46",
    1e-1: "#BF8A00",
    2e-1: "#C81C00",
    1e1: "#835183",
}
# Of labels, on black. The page shows the label itself, so no eye needs to tell all of them apart.
_LABEL_COLOURS = (
    *("#56b4e9", "#e69f00", "#2fc79a", "#f0e442", "#ff7f50"),
    *("#d68fd6", "#ffffff", "#8fa8ff", "#c7b299", "#7fe3e3"),
)
_GROUNDS = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys(_GROUNDS, "none") | dict.fromkeys(_INKED, INK)
_STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# A small legend has 10 points: the smallest text that there is.
_STYLE |= {"font.size": 12, "axes.titlesize": "medium", "legend.fontsize": "small"}
_styled = matplotlib.rc_context(_STYLE)  # a decorator: what the function draws has this style
_DPI = 192  # twice the 96 px of a CSS inch: sharp on a phone
# A phone shows 3.7 inches: a wider figure is shrunk, and its smallest text then has 9 of 13 pixels.
_WIDTH = 5.4
_SAMPLES = 30  # that a figure draws of a run
_MUCH = 0.1  # nats, of one latent
_ZERO = 3e-5  # where beta = 0 stands on a logarithmic axis
_SAME_PLACE = 0.05  # nats: points below this rate are in one place
_LINES = {":": "dotted", "--": "dashed", "-.": "dash-dotted", "-": "solid"}
_BASELINES = {"pixels": ":", "PCA": "--"}  # lines of what has no colour of its own


@dataclasses.dataclass(frozen=True)
class Series:
    """A line: estimates by what the horizontal axis has. Without ``beta`` it is in grey."""

    label: str
    values: Mapping[float, Estimate]
    beta: float | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """A model at two of its measures. Without ``beta`` it is in grey."""

    label: str
    x: Estimate
    y: Estimate
    beta: float | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
    """Lines under one title, and rings for what this build measured (``here``).

    Intervals end at 0, unless the measure is ``signed`` (a log-likelihood). A ``logarithmic`` one
    has no zero.
    """

    title: str
    series: Sequence[Series]
    here: Mapping[float, Estimate] = dataclasses.field(default_factory=dict)
    signed: bool = False
    logarithmic: bool = False


@dataclasses.dataclass(frozen=True)
class Column:
    """Images of one model, each ``(n, 1, 28, 28)``; its rate in nats and its squared error."""

    label: str
    reconstructions: Tensor
    samples: Tensor
    rate: Estimate | None = None
    error: Estimate | None = None


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment of a training with two latents, seen on held-out images.

    ``codes`` are ``(n, 2)`` with ``labels`` ``(n,)``, images ``(n, 1, 28, 28)``; ``error`` is the
    squared error of a posterior sample, ``rate`` the KL in nats.
    """

    title: str
    codes: Tensor
    labels: Tensor
    originals: Tensor
    reconstructions: Tensor
    samples: Tensor
    error: float
    rate: float


@dataclasses.dataclass(frozen=True)
class Counts:
    """A count of each pair of one model, ``(pairs,)``."""

    label: str
    values: np.ndarray
    beta: float | None = None


@dataclasses.dataclass(frozen=True)
class LiveFigure:
    """A figure with the words that belong to it.

    ``name`` is its label in the book (``{numref}`fig-name```), ``caption`` says what to see (MyST
    Markdown), ``alt`` says the finding to those who cannot see it. As the last line of a cell it
    shows itself: an image, and its caption for readers outside the book.
    """

    figure: Figure
    name: str
    caption: str
    alt: str

    def _ipython_display_(self) -> None:
        words = {"name": f"fig-{self.name}", "caption": self.caption, "alt": self.alt}
        width = round(self.figure.get_figwidth() * 96)
        bundle = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": self.alt}
        display(bundle, raw=True, metadata={"image/png": {"vae_nb": words, "width": width}})
        self.display_caption()

    def display_caption(self) -> None:
        """Show the caption as Markdown, which the book leaves out: there it is the figure's."""
        display(
            {"text/markdown": f"*{self.caption}*", "text/plain": self.caption},
            raw=True,
            metadata={"vae_nb": "caption"},
        )

    @_styled
    def png(self) -> bytes:
        """The figure as PNG, two pixels for each CSS pixel; the same bytes for the same figure."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


def colour(beta: float | None) -> tuple[float, float, float]:
    """The colour (red, green, blue) of the VAE with this beta; None is grey, as the autoencoder."""
    if beta is None:
        return to_rgb(INK)
    nodes = np.log10(list(_BETA_COLOURS))
    channels = np.array([to_rgb(each) for each in _BETA_COLOURS.values()]).T
    red, green, blue = (np.interp(np.log10(max(beta, 1e-9)), nodes, each) for each in channels)
    return float(red), float(green), float(blue)


# --- Training ---


@_styled
def training_curves(run: Run | History, name: str = "training-curves") -> LiveFigure:
    """Reconstruction loss and KL at every step (thin: the batch; thick: a running mean).

    Dots are the held-out values after each epoch.
    """
    history = run.history if isinstance(run, Run) else run
    panels = [(history.reconstruction, "reconstruction", RECONSTRUCTION, "reconstruction loss")]
    if any(history.kl):  # an autoencoder has none
        panels.append((history.kl, "kl", KL, "KL, nats per latent"))
    figure, places = _subplots(min(3.4 * len(panels), _WIDTH), 2.7, 1, len(panels))
    for axes, (values, key, ink, title) in zip(places[0], panels, strict=True):
        ends = [epoch[key] for epoch in history.held_out]
        if values:  # a run at one beta of many has no curves
            x = (np.arange(len(values)) + 1) / history.steps_per_epoch
            axes.plot(x, values, color=ink, alpha=0.3, linewidth=0.8)
            axes.plot(x, _running_mean(values), color=ink, linewidth=1.8, label="training")
        epochs = np.arange(1, len(ends) + 1)
        axes.plot(epochs, ends, "o", color=ink, markeredgecolor="white", label="held out")
        axes.set(xlabel="epoch", title=title)
        # The first steps are far off the scale of all that follows.
        top = np.nanmax([0.0, np.quantile(values or [0.0], 0.97), *ends])
        axes.set_ylim(0, 1.15 * top if top > 0 else 1)
        axes.legend()
    end = history.held_out[-1]
    facts = {"error": end["reconstruction"], "kl": end["kl"] if len(panels) > 1 else None}
    return _live(figure, name, "training_curves", epochs=len(history.held_out), **facts)


def _running_mean(values: Sequence[float], share: float = 0.02) -> np.ndarray:
    window = max(1, round(share * len(values)))
    padded = np.pad(values, (window // 2, (window - 1) // 2), mode="edge")
    return np.convolve(padded, np.ones(window) / window, mode="valid")


# --- Images ---


def reconstructions(
    originals: Tensor,
    rows: Tensor | Run | Mapping[str, Tensor | Run],
    name: str = "reconstructions",
    errors: Mapping[str, Estimate] = {},
) -> LiveFigure:
    """Held-out images ``(n, 1, 28, 28)`` over their reconstructions, a row for each label.

    A run makes its own, a VAE from the posterior mean. ``errors`` are mean squared errors over the
    whole held-out set, by label.
    """
    images = _by_label(rows, "reconstruction", lambda run: run.decode(run.encode(originals)))
    return _image_rows(
        {"original": originals} | images,
        name,
        "reconstructions",
        count=len(originals),
        errors=errors,
        identical=_identical(images),
    )


def samples(
    grids: Tensor | Run | Mapping[str, Tensor | Run],
    name: str = "samples",
    recognised: Mapping[str, Estimate] = {},
    columns: int = 6,
) -> LiveFigure:
    """Grids of samples ``(n, 1, 28, 28)`` side by side, one for each label.

    A run draws its own from N(0, I), with its recipe's seed. ``recognised`` are the shares that the
    classifier takes for one of the classes, by label.
    """

    def draw(run: Run) -> Tensor:
        count = max(columns, _SAMPLES // columns * columns)  # whole rows
        return run.decode(sample_prior(count, run.latent_dim, run.recipe.seed))

    images = _by_label(grids, "", draw)
    return _image_grids(
        images,
        name,
        "samples",
        columns,
        count=max(map(len, images.values())),
        labels=[label for label in images if label],
        recognised=recognised,
        identical=_identical(images),
    )


def nearest(samples: Tensor, images: Tensor, name: str, finding: str) -> LiveFigure:
    """Samples ``(n, 1, 28, 28)`` over the training image that is nearest to each."""
    rows = {"sample": samples, "nearest": images}
    return _image_rows(rows, name, "nearest", count=len(samples), finding=finding)


def interpolations(
    rows: Mapping[str, Tensor], name: str = "interpolations", strokes: Mapping[str, Estimate] = {}
) -> LiveFigure:
    """Paths between two images, ``(steps, 1, 28, 28)`` by label, both ends decoded.

    ``strokes`` are the extra strokes at the midpoint over all pairs, by model.
    """
    identical = len(_identical(rows)) == len(rows)
    facts = {"count": len(rows), "identical": identical, "strokes": strokes, "pairs": PAIRS}
    return _image_rows(rows, name, "interpolations", 0.55, **facts)


def latent_planes(planes: Mapping[str, Tensor], name: str, axes: str) -> LiveFigure:
    """What models decode on a square grid over two latents, ``(n * n, 1, 28, 28)`` by label.

    ``axes`` says which latents of which model lead across and up.
    """
    columns = round(max(map(len, planes.values())) ** 0.5)
    return _image_grids(planes, name, "latent_planes", columns, 0.29, count=len(planes), axes=axes)


@_styled
def training_moments(moments: Sequence[Moment], name: str) -> LiveFigure:
    """Codes by label, reconstructions and samples, a column for each moment of one training."""
    figure, places = _subplots(_WIDTH, 3.6, 3, len(moments), height_ratios=(3, 2, 2))
    reach = max([3.0, *(float(moment.codes.abs().quantile(0.98)) for moment in moments)])
    for (plane, above, below), moment in zip(places.T, moments, strict=True):
        colours = [_LABEL_COLOURS[label % len(_LABEL_COLOURS)] for label in moment.labels.tolist()]
        plane.scatter(*moment.codes.T.numpy(), s=3, color=colours)
        for radius in (1, 2):
            circle = Circle((0, 0), radius, fill=False, linestyle="--", edgecolor="white")
            plane.add_patch(circle)
        plane.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
        plane.set_facecolor("black")  # of the page's own widget: colours are chosen for it
        plane.set_title(moment.title, fontsize="small")
        pairs = torch.cat([moment.originals[:3], moment.reconstructions[:3]])
        _show(above, _tile(pairs, 3))
        _show(below, _tile(moment.samples[:6], 3))
    for axes, label in zip(places[:, 0], ("codes", "reconstructed", "samples"), strict=True):
        axes.set_ylabel(label, fontsize="small")
    return _live(figure, name, "training_moments", moments=moments, reach=reach)


@_styled
def numbered(images: Tensor, name: str, noun: str = "digit", columns: int = 6) -> LiveFigure:
    """Pictures ``(n, 1, 28, 28)`` with their numbers from 1 on, and nothing else said of them."""
    rows = -(-len(images) // columns)
    figure, places = _subplots(0.75 * columns, rows, rows, columns)
    for axes in places.flat[len(images) :]:
        axes.set_visible(False)
    for place, (axes, image) in enumerate(zip(places.flat, images, strict=False), 1):
        _show(axes, image[0].detach().numpy())
        axes.set_title(str(place), pad=2)
    return _live(figure, name, "numbered", count=len(images), noun=noun)


@_styled
def empty_axes(
    name: str, across: str, up: str, ticks: Sequence[tuple[str, float]], top: float
) -> LiveFigure:
    """Axes to draw into; ``ticks`` lie at shares of the width of ``across``, ``up`` ends at top."""
    figure, axes = _plot(3.2)
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.1 * top))
    axes.set_xticks([place for _, place in ticks], [label for label, _ in ticks])
    return _live(figure, name, "empty_axes", across=across, up=up, top=1.1 * top)


@_styled
def picture_strip(
    rows: Mapping[str, Sequence[str]], name: str, finding: str, height: float = 0.4
) -> LiveFigure:
    """Rows of small pictures, PNGs in base64 by label, as the archive keeps them.

    ``height`` is that of a row, in inches.
    """
    columns = max(map(len, rows.values()))
    figure, places = _subplots(_WIDTH, height * len(rows) + 0.1, len(rows), columns)
    for line, (label, pictures) in zip(places, rows.items(), strict=True):
        for axes, picture in zip(line, pictures, strict=False):
            _show(axes, imread(io.BytesIO(base64.b64decode(picture))))
        for axes in line[len(pictures) :]:
            axes.set_visible(False)
        words = textwrap.fill(label, 16)
        line[0].set_ylabel(words, rotation=0, ha="right", va="center")
        for axes in line:
            axes.set_anchor("E")  # space that is left over goes to the labels
    facts = {"labels": list(rows), "columns": columns, "finding": finding}
    return _live(figure, name, "picture_strip", **facts)


@_styled
def reconstruction_by_beta(
    frames: Sequence[Column], name: str, finding: str, columns: int = 5
) -> LiveFigure:
    """One reconstruction beside one sample by beta, row by row; frames of one image each."""
    rows = -(-len(frames) // columns)
    figure, places = _subplots(1.06 * columns, 0.75 * rows, rows, columns)
    for axes, frame in zip(places.flat, frames, strict=False):
        _show(axes, _tile(torch.cat([frame.reconstructions, frame.samples]), 2))
        axes.set_title(frame.label, fontsize="small", pad=3)
    for axes in places.flat[len(frames) :]:
        axes.set_visible(False)
    return _live(figure, name, "reconstruction_by_beta", count=len(frames), finding=finding)


@_styled
def beta_strip(columns: Sequence[Column], name: str, finding: str) -> LiveFigure:
    """What beta does: reconstructions over samples, a column for each model."""
    width = min(0.7 * len(columns) + 0.5, _WIDTH)
    figure, (tops, bottoms) = _subplots(width, 4.4, 2, len(columns))
    measured = any(column.rate or column.error for column in columns)
    for column, top, bottom in zip(columns, tops, bottoms, strict=True):
        _show(top, _tile(column.reconstructions, 1))
        _show(bottom, _tile(column.samples, 1))
        top.set_title(column.label, fontsize="small")
        if measured:
            numbers = _shown(column.rate, "rate"), _shown(column.error, "mse_sample")
            bottom.set_xlabel("\n".join(numbers), fontsize="small")
    tops[0].set_ylabel("reconstructions")
    bottoms[0].set_ylabel("samples")
    if measured:  # level with the numbers below the columns
        offset = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        bottoms[0].annotate("nats\nerror", (0, 0), (-6, -4), ha="right", fontsize="small", **offset)
    facts = {"count": len(columns), "measured": measured, "finding": finding}
    return _live(figure, name, "beta_strip", **facts)


# --- Latents ---


@_styled
def latent_rates(
    rates: Mapping[str, Tensor], name: str, active: Mapping[str, Estimate] = {}
) -> LiveFigure:
    """The KL of each latent in nats, ``(M,)``, and the ``active`` units, both by label."""
    figure, places = _subplots(_WIDTH, 2.3, 1, len(rates), sharey=True)
    for axes, (label, of_latents) in zip(places[0], rates.items(), strict=True):
        # An estimated KL below 0 is noise.
        ordered = of_latents.sort(descending=True).values.clamp(min=0).numpy()
        axes.bar(np.arange(1, len(ordered) + 1), ordered, color=KL, width=0.9)
        axes.set(title=label, xlabel="latent")
        if ordered[0] < 1e-3:
            axes.text(0.5, 0.5, "all below 0.001 nats", transform=axes.transAxes, ha="center")
    places[0, 0].set_ylabel("KL, nats")
    # A collapsed model's KL is noise: do not blow it up to the height of the panel.
    places[0, 0].set_ylim(0, max(0.1, 1.05 * max(float(each.max()) for each in rates.values())))
    above = {label: int((each > _MUCH).sum()) for label, each in rates.items()}
    facts = {"rates": rates, "above": above, "much": _MUCH, "active": active}
    return _live(figure, name, "latent_rates", **facts)


@_styled
def latent_map(betas: Sequence[float], rates: Tensor, name: str, finding: str) -> LiveFigure:
    """The KL of each latent by beta: ``rates`` is ``(len(betas), M)``, in nats, columns sorted."""
    figure, axes = _plot(3.4)
    logs = np.log(np.maximum(betas, _ZERO))
    half = np.diff(logs) / 2 if len(logs) > 1 else np.array([0.1])
    edges = np.exp([logs[0] - half[0], *(logs[:-1] + half), logs[-1] + half[-1]])
    latents = np.arange(rates.shape[1] + 1) + 0.5
    norm = LogNorm(1e-2, max(1.0, float(rates.max())))
    values = rates.T.clamp(min=1e-3).numpy()
    mesh = axes.pcolormesh(edges, latents, values, norm=norm, cmap="cividis")
    axes.set(xscale="log", xlabel="β", ylabel="latent")
    axes.invert_yaxis()
    figure.colorbar(mesh, ax=axes, label="KL, nats", extend="min")
    return _live(figure, name, "latent_map", latents=rates.shape[1], finding=finding)


# --- Lines and points ---


@_styled
def extra_strokes(series: Sequence[Series], name: str) -> LiveFigure:
    """Extra strokes at midpoints by the threshold of ink, with intervals, a line for each model."""
    figure, axes = _plot(2.8)
    for index, each in enumerate(series):
        _line(axes, each, _x(each) + 0.008 * (index - len(series) / 2))
    axes.axhline(0, color=INK, linewidth=0.8)
    thresholds = _union(series)
    axes.set(xlabel="threshold of ink", ylabel="extra strokes", xticks=thresholds)
    _legend_outside(axes)
    facts = {"series": series, "thresholds": thresholds, "pairs": PAIRS}
    return _live(figure, name, "extra_strokes", **facts)


@_styled
def stroke_distribution(counts: Sequence[Counts], name: str) -> LiveFigure:
    """How many pairs gain or lose how many strokes at the midpoint, bars for each model."""
    bins = np.arange(-1.25, 2.5, 0.5)
    centres = (bins[:-1] + bins[1:]) / 2
    figure, axes = _plot(2.8)
    width = 0.44 / len(counts)
    for index, each in enumerate(counts):
        shares = np.histogram(np.clip(each.values, -1, 2), bins)[0] / len(each.values)
        x = centres + width * (index - (len(counts) - 1) / 2)
        axes.bar(x, 100 * shares, width, color=colour(each.beta), label=each.label)
    axes.set(xlabel="strokes at the midpoint beyond its ends", ylabel="% of pairs")
    axes.set_xticks(centres, ["≤ -1", "-½", "0", "½", "1", "1½", "≥ 2"])
    _legend_outside(axes)
    more = {each.label: float(np.mean(each.values > 0)) for each in counts}
    pairs = max(len(each.values) for each in counts)
    return _live(figure, name, "stroke_distribution", more=more, pairs=pairs)


@_styled
def against_error(points: Sequence[Point], what: str, name: str, finding: str) -> LiveFigure:
    """A measure (y, in words ``what``) against the squared error (x) of each model.

    Models at one error stand above each other, so that blur cannot pass for a virtue.
    """
    figure, axes = _plot(3.0)
    for point in points:
        marker = "o" if point.beta is not None else "D"
        _cross(axes, point, marker=marker)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="squared error of reconstructions", ylabel=what, xscale="log")
    _ticks(axes, [0.005, 0.01, 0.02, 0.05])
    _legend_outside(axes)
    return _live(figure, name, "against_error", points=points, what=what, finding=finding)


@_styled
def rate_distortion(
    archived: Sequence[Point],
    name: str,
    finding: str,
    here: Sequence[Point] = (),
    marks: Sequence[Point] = (),
    line: Sequence[Point] = (),
) -> LiveFigure:
    """Distortion (y) against rate in nats (x) of the archive, by beta; ``here`` is this build.

    ``marks`` are named points; ``line`` has many betas of one multi-rate model. Without it a line
    joins the archived points.
    """
    figure, axes = _plot(3.8)
    joined = sorted((point.x.value, point.y.value) for point in line or archived)
    curve = "one model conditioned on β" if line else None
    axes.plot(*np.reshape(joined, (-1, 2)).T, color=INK, linewidth=1, zorder=0, label=curve)
    # Neighbours at low beta are close: their labels stand on three levels.
    levels = cycle(((3, 6, "left"), (-4, -16, "center"), (3, 6, "left"), (-4, -27, "center")))
    together: dict[str, float] = {}  # labels of the points in one place
    for point, (right, up, align) in zip(archived, levels, strict=False):
        rate, distortion = point.x.value, point.y.value
        label = point.label if point.beta is None else f"{point.beta:g}"
        _cross(axes, point, least=0, capsize=0, label=None)
        if rate < _SAME_PLACE:
            together[label] = distortion
        elif not math.isnan(rate + distortion):
            _annotate(axes, label, (rate, distortion), (right, up), align)
    if together:
        _annotate(axes, ", ".join(together), (0, max(together.values())), (5, 6))
    for index, point in enumerate(here):
        ring = {"color": colour(point.beta), "label": None if index else "this build"}
        _rings(axes, [point.x.value], [point.y], 11, **ring)
    for point in marks:
        axes.plot(point.x.value, point.y.value, "*", markersize=14, color=INK, label=point.label)
    axes.set_xscale("symlog", linthresh=5)  # most points lie above 5 nats
    axes.set(xlim=(-0.6, None), ylim=(-0.008, None))  # space for the labels below
    high = axes.get_xlim()[1]
    _ticks(axes, [tick for tick in (0, 2, 5, 10, 30, 100, 300, 1000) if tick <= high])
    axes.set(xlabel="rate, nats", ylabel="distortion (squared error)")
    if here or marks or line:
        axes.legend()
    parts = {"archived": bool(archived), "here": bool(here), "line": bool(line)}
    return _live(figure, name, "rate_distortion", **parts, finding=finding)


@_styled
def against_beta(
    panels: Sequence[Panel], name: str, finding: str, marks: Mapping[str, float] = {}
) -> LiveFigure:
    """Measures against beta, a panel each; ``marks`` are betas to be pointed out in all of them."""
    styles: Sequence[dict[str, Any]]
    styles = ({"color": RECONSTRUCTION}, {"color": KL, "marker": "s", "linestyle": "--"})
    rows = -(-len(panels) // 2)
    figure, places = _subplots(_WIDTH, 2.4 * rows + 0.3, rows, 2, sharex=True)
    for axes, panel in zip(places.flat, panels, strict=False):
        least = -math.inf if panel.signed else 0
        for series, style in zip(panel.series, cycle(styles), strict=False):
            x = np.maximum(_x(series), _ZERO)
            _line(axes, series, x, least, markersize=4, capsize=2, **style)
        _rings(axes, np.maximum([*panel.here], _ZERO), panel.here.values(), 10, color=INK)
        for beta, line in zip(marks.values(), cycle(_LINES), strict=False):
            axes.axvline(beta, color=INK, linewidth=1, linestyle=line)
        axes.set(xscale="log")
        estimates = [each for series in panel.series for each in series.values.values()]
        if panel.logarithmic:
            axes.set_yscale("log")
        elif not any((each.low if panel.signed else each.value) < 0 for each in estimates):
            axes.set_ylim(0, None)
        narrow = min(_union(panel.series), default=0) >= 0.1
        _ticks(axes, [0.1, 1, 10] if narrow else [0, 1e-3, 1e-1, 10], least=_ZERO)
        if len(panel.series) == 1:
            axes.set_title(panel.title)
        elif panel.series:  # above the panel: there is no empty corner in all of them
            spacing = {"handlelength": 1.3, "handletextpad": 0.4, "columnspacing": 0.8}
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.97)}
            above = axes.legend(title=panel.title, ncols=2, **place, **spacing)
            above.get_title().set_fontsize("medium")
    for axes in places.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in places.flat[max(0, len(panels) - 2) : len(panels)]:
        axes.set_xlabel("β")
        axes.tick_params(labelbottom=True)
    return _live(
        figure,
        name,
        "against_beta",
        titles=[panel.title for panel in panels],
        here=any(panel.here for panel in panels),
        marks=[(line, *mark) for line, mark in zip(cycle(_LINES.values()), marks.items())],
        finding=finding,
    )


@_styled
def label_dots(panels: Sequence[Panel], name: str, finding: str) -> LiveFigure:
    """Accuracy (a share) of each code, a row each, by number of labels; a panel for each probe.

    A row without a beta is a baseline or the autoencoder.
    """
    rows = len(panels[0].series)
    # One above the other, and narrow: it stands beside an answer.
    height = (0.32 * rows + 0.8) * len(panels) + 0.2
    figure, places = _subplots(0.72 * _WIDTH, height, len(panels), 1, sharex=True)
    for axes, panel in zip(places[:, 0], panels, strict=True):
        for row, series in enumerate(panel.series):
            value, spread = _spread(series.values.values(), 0, 100)
            style = {"color": colour(series.beta), "fmt": "o", "capsize": 2}
            axes.errorbar(value, [row] * len(value), xerr=spread, **style)
        # The numbers of labels stand once, above the dots of the first row.
        heights = cycle((6, 18))  # those of many labels are close to one another
        for (count, accuracy), up in zip(panel.series[0].values.items(), heights, strict=False):
            text = "all" if count == max(panel.series[0].values) else f"{count:,.0f}"
            if not math.isnan(accuracy.value):
                _annotate(axes, text, (100 * accuracy.value, 0), (0, up), "center")
        axes.set(title=panel.title, ylim=(rows - 0.5, -1.2))
        axes.set_yticks(range(rows), [series.label for series in panel.series])
        axes.grid(axis="y", alpha=0.4)
    places[-1, 0].set_xlabel("held-out accuracy, %")
    titles = [panel.title for panel in panels]
    return _live(figure, name, "label_dots", titles=titles, finding=finding)


@_styled
def noise_curves(series: Sequence[Series], name: str, finding: str) -> LiveFigure:
    """Accuracy (a share) of a probe against the noise in the code, a line for each code."""
    figure, axes = _plot(2.8)
    for each in series:
        _line(axes, each, _x(each), least=0, scale=100)
    axes.set(xlabel="noise, in standard deviations of each latent", ylabel="accuracy, %")
    _legend_outside(axes)
    return _live(figure, name, "noise_curves", labels=NOISE_LABELS, finding=finding)


@_styled
def bounds(gains: Mapping[int, Estimate], name: str, finding: str) -> LiveFigure:
    """How far the bound of k importance samples is above the ELBO, in nats, against k."""
    figure, axes = _plot(2.6)
    _line(axes, Series("", {float(k): each for k, each in gains.items()}), list(gains))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="importance samples k", ylabel="above the ELBO, nats", xscale="log")
    _ticks(axes, list(gains))
    return _live(figure, name, "bounds", ks=list(gains), finding=finding)


# --- Shared by the figures ---


def _subplots(
    width: float, height: float, rows: int, columns: int, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in CSS inches and its axes ``(rows, columns)``; no pyplot: nothing is left open."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _plot(height: float) -> tuple[Figure, Axes]:
    figure, places = _subplots(_WIDTH, height, 1, 1)
    return figure, places[0, 0]


@functools.cache
def _words() -> Any:
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"shown": _shown, "number": number}
    return environment.from_string(Path(__file__).with_suffix(".md").read_text("utf-8")).module


def _live(figure: Figure, name: str, macro: str, **facts: Any) -> LiveFigure:
    """The figure with the words of two macros in ``figures.md``, which both take all ``facts``."""
    texts = (getattr(_words(), each)(**facts) for each in (macro, f"{macro}_alt"))
    return LiveFigure(figure, name, *(re.sub("[ \n]+", " ", text).strip() for text in texts))


def _shown(value: Estimate | float | None, metric: str) -> str:
    """The value as its metric is written; "–" where there is none."""
    return METRICS[metric].show(math.nan if value is None else value)


def _by_label(
    given: Tensor | Run | Mapping[str, Tensor | Run],
    unlabelled: str,
    images: Callable[[Run], Tensor],
) -> dict[str, Tensor]:
    """Images by label: tensors as they are, those that ``images`` makes of a run."""
    if isinstance(given, Run):
        label = "AE" if given.recipe.model == "ae" else f"β = {given.beta:.3g}"
        given = {label: given}
    elif isinstance(given, Tensor):
        given = {unlabelled: given}
    return {label: images(each) if isinstance(each, Run) else each for label, each in given.items()}


def _identical(images: Mapping[str, Tensor], most: float = 0.01) -> list[str]:
    """Labels whose images differ from the first one by ``most`` grey levels at most, on average."""
    return [
        label
        for label, each in images.items()
        if len(each) > 1 and (each - each[:1]).abs().mean(dim=(1, 2, 3)).max() <= most
    ]


def _spread(estimates: Iterable[Estimate], least: float, scale: float = 1) -> tuple[Any, Any]:
    """Values, and how far their intervals reach below and above; not below ``least``."""
    value, low, high = scale * np.array([each.interval for each in estimates]).reshape(-1, 3).T
    low = np.minimum(value, np.maximum(low, least))
    return value, [value - low, np.maximum(value, high) - value]


def _line(
    axes: Axes, series: Series, x: Any, least: float = -math.inf, scale: float = 1, **style: Any
) -> None:
    value, spread = _spread(series.values.values(), least, scale)
    line: dict[str, Any] = {"color": colour(series.beta), "label": series.label, "marker": "o"}
    line |= {"linestyle": _BASELINES.get(series.label, "-"), "capsize": 2.5}
    axes.errorbar(x, value, spread, **(line | style))


def _cross(axes: Axes, point: Point, least: float = -math.inf, **style: Any) -> None:
    """A point with both of its intervals; what is on the horizontal axis is not negative."""
    x, across = _spread([point.x], least=0)
    line = Series(point.label, {0: point.y}, point.beta)
    _line(axes, line, x, least, xerr=across, **style)


def _rings(axes: Axes, x: Any, estimates: Iterable[Estimate], size: float, **style: Any) -> None:
    y = [each.value for each in estimates]
    axes.plot(x, y, "o", markersize=size, fillstyle="none", **style)


def _annotate(
    axes: Axes, text: str, place: tuple[float, float], offset: tuple[int, int], align: str = "left"
) -> None:
    axes.annotate(text, place, offset, textcoords="offset points", ha=align, fontsize="small")


def _x(series: Series) -> np.ndarray:
    return np.array(list(series.values), dtype=float)


def _union(series: Iterable[Series]) -> list[float]:
    return sorted({x for each in series for x in each.values})


def _ticks(axes: Axes, ticks: Sequence[float], spec: str = "g", least: float = -math.inf) -> None:
    """Ticks at these places alone, none of them left of ``least``."""
    axes.set_xticks([max(tick, least) for tick in ticks], [f"{tick:{spec}}" for tick in ticks])
    axes.minorticks_off()


def _legend_outside(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


@_styled
def _image_rows(
    rows: Mapping[str, Tensor], name: str, macro: str, scale: float = 0.6, **facts: Any
) -> LiveFigure:
    columns = max(map(len, rows.values()))
    margin = 0.2 + 0.1 * max(map(len, rows))
    scale = min(scale, (_WIDTH - margin) / columns)
    figure, places = _subplots(scale * columns + margin, scale * len(rows) + 0.1, len(rows), 1)
    for axes, (label, images) in zip(places[:, 0], rows.items(), strict=True):
        _show(axes, _tile(images, len(images)))
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    return _live(figure, name, macro, **facts)


@_styled
def _image_grids(
    grids: Mapping[str, Tensor],
    name: str,
    macro: str,
    columns: int,
    scale: float = 0.5,
    **facts: Any,
) -> LiveFigure:
    rows = -(-max(map(len, grids.values())) // columns)
    scale = min(scale, (_WIDTH - 0.2) / (columns * len(grids)))
    width = scale * columns * len(grids) + 0.2
    figure, places = _subplots(width, scale * rows + 0.4, 1, len(grids))
    for axes, (label, images) in zip(places[0], grids.items(), strict=True):
        _show(axes, _tile(images, columns))
        axes.set_title(label)
    return _live(figure, name, macro, **facts)


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _tile(images: Tensor, columns: int, gap: int = 2) -> np.ma.MaskedArray:
    """Images ``(n, 1, h, w)`` on a grid with transparent gaps, as one picture."""
    height, width = images.shape[2:]
    rows = -(-len(images) // columns)
    cells = np.ma.array(np.zeros((rows * columns, height + gap, width + gap)), mask=True)
    cells[: len(images), :height, :width] = images[:, 0].detach().cpu().numpy()
    grid = cells.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return grid.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]
