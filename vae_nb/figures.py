"""How does it look? One function for each figure; each returns a :class:`LiveFigure`.

Nothing is computed here. Figures are transparent with mid-grey ink, so that they read on a light
and on a dark page; digits keep their own grey levels. The colours differ for colour-blind readers
as well, and stand out from white and from black (tests/test_figures.py computes both).
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor

from vae_nb.evaluation.interval import Measured
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
_STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "font.size": 12,
    "legend.fontsize": "small",  # 10: the smallest that there is
    "legend.frameon": False,
    "svg.fonttype": "none",
}
_DPI = 192  # twice the 96 px of a CSS inch: sharp on a phone
# A phone shows 3.7 inches: a wider figure is shrunk, and its smallest text then has 9 of 13 pixels.
_WIDTH = 5.4


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

    def png(self) -> bytes:
        """The figure as PNG, two pixels for each CSS pixel; the same bytes for the same figure."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


def _new(width: float, height: float) -> Figure:
    """An empty figure in our style, in CSS inches; outside pyplot, so nothing is left open."""
    return Figure(figsize=(width, height), layout="constrained")


def training_curves(history: History, name: str) -> LiveFigure:
    """Reconstruction loss and KL at every step (thin: the batch; thick: a running mean).

    Dots are the held-out values after each epoch.
    """
    last = history.held_out[-1]
    kl = f"{last['kl']:.3g}" if last["kl"] >= 1e-4 else "less than 0.0001"
    of_kl = f" and the KL at {kl} nats per latent" if any(history.kl) else ""
    finding = f"On held-out images the reconstruction loss ends at {last['mse_sample']:.4f}{of_kl}"
    with matplotlib.rc_context(_STYLE):
        panels = [(history.reconstruction, "mse_sample", RECONSTRUCTION, "reconstruction loss")]
        if any(history.kl):  # an autoencoder has none
            panels.append((history.kl, "kl", KL, "KL, nats per latent"))
        figure = _new(min(3.4 * len(panels), _WIDTH), 2.7)
        epochs = np.arange(1, len(history.held_out) + 1)
        places = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (values, held_out, colour, title) in zip(places, panels, strict=True):
            x = (np.arange(len(values)) + 1) / history.steps_per_epoch
            ends = [epoch[held_out] for epoch in history.held_out]
            axes.plot(x, values, color=colour, alpha=0.3, linewidth=0.8)
            axes.plot(x, _running_mean(values), color=colour, linewidth=1.8, label="training")
            axes.plot(epochs, ends, "o", color=colour, markeredgecolor="white", label="held out")
            axes.set(xlabel="epoch", title=title)
            # The first steps are far off the scale of all that follows.
            top = max(np.quantile(values, 0.97), *ends)
            axes.set_ylim(0, 1.15 * top if top > 0 else 1)
            axes.legend()
    return LiveFigure(
        figure,
        name,
        f"Training curves, with held-out values after each epoch as dots. {finding}.",
        f"Line charts over the epochs of training. {finding}.",
    )


def _running_mean(values: Sequence[float], share: float = 0.02) -> np.ndarray:
    window = max(1, round(share * len(values)))
    padded = np.pad(values, (window // 2, (window - 1) // 2), mode="edge")
    return np.convolve(padded, np.ones(window) / window, mode="valid")


def reconstructions(
    originals: Tensor, decoded: Sequence[tuple[str, Tensor, Measured]], name: str
) -> LiveFigure:
    """Held-out images over their reconstructions: rows ``(label, (n, 1, 28, 28), MSE of all)``."""
    rows = [("original", originals), *((label, images) for label, images, _ in decoded)]
    errors = ", ".join(f"{label}: {error.value:.4f}" for label, _, error in decoded)
    return _image_rows(
        rows,
        name,
        "Held-out images (top) and their reconstructions. Mean squared error over the whole "
        f"held-out set: {errors}.",
        f"{len(originals)} images and below them their reconstructions. Mean squared error: "
        f"{errors}.",
    )


def samples(
    grids: Sequence[tuple[str, Tensor, Measured]], name: str, columns: int = 6
) -> LiveFigure:
    """Grids of samples side by side: ``(title, (n, 1, 28, 28), confident share of 10,000)``."""
    shares = ", ".join(f"{title}: {100 * share.value:.0f}\u00a0%" for title, _, share in grids)
    return _image_grids(
        [(title, images) for title, images, _ in grids],
        name,
        "Samples, not chosen by hand. Share of 10,000 such samples that our classifier gives a "
        f"label with at least 95 % confidence: {shares}.",
        f"Grids of sampled images. Share that the classifier names with confidence: {shares}.",
        columns,
    )


def interpolations(
    rows: Sequence[tuple[str, Tensor]], name: str, strokes: Sequence[tuple[str, Measured]]
) -> LiveFigure:
    """Paths between two images: rows ``(label, (steps, 1, 28, 28))``, both ends decoded.

    ``strokes`` are the extra strokes at the midpoint, by model, over all pairs.
    """
    breaks = ", ".join(f"{label}: {extra.value:+.2f}" for label, extra in strokes)
    change = max((path - path[:1]).abs().mean(dim=(1, 2, 3)).max().item() for _, path in rows)
    way = (
        "equal steps between their codes"
        if change > 0.01
        else "steps that all show one picture, in which nothing can break"
    )
    return _image_rows(
        rows,
        name,
        f"From one image to another in {way}; both ends are "
        f"reconstructions. Extra strokes at the midpoint, mean over 1,000 pairs: {breaks}.",
        f"{len(rows)} rows, each from one image to another in {way}. Extra strokes at the "
        f"midpoint: {breaks}.",
        scale=0.55,
    )


def latent_rates(models: Sequence[tuple[str, Tensor, Measured]], name: str) -> LiveFigure:
    """KL of every latent, largest first: ``(label, (M,) in nats, active units)`` for each model."""
    found = ", ".join(
        f"{label}: {units.value:.0f} of {len(rates)} ({int((rates > 0.1).sum())} above 0.1 nats)"
        for label, rates, units in models
    )
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 2.3)
        panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
        for axes, (label, rates, _) in zip(panels, models, strict=True):
            ordered = rates.sort(descending=True).values.numpy()
            axes.bar(np.arange(1, len(ordered) + 1), ordered, color=KL, width=0.9)
            axes.set(title=label, xlabel="latent")
            if ordered[0] < 1e-3:
                axes.text(0.5, 0.5, "all below 0.001 nats", transform=axes.transAxes, ha="center")
        panels[0].set_ylabel("KL, nats")
        # A collapsed model's KL is noise: do not blow it up to the height of the panel.
        panels[0].set_ylim(0, max(0.1, 1.05 * max(float(rates.max()) for _, rates, _ in models)))
    return LiveFigure(
        figure,
        name,
        f"The KL of each latent on held-out images, largest first. Active units: {found}.",
        f"Bar charts of the KL of each latent, falling from left to right. Active: {found}.",
    )


def colour(beta: float | None) -> tuple[float, float, float]:
    """The colour of the VAE with this beta; None is the autoencoder or whatever has none."""
    if beta is None:
        return to_rgb(INK)
    nodes = np.log10(list(_BETA_COLOURS))
    place = np.clip(np.log10(max(beta, 1e-9)), nodes[0], nodes[-1])
    channels = np.array([to_rgb(each) for each in _BETA_COLOURS.values()]).T
    return tuple(float(np.interp(place, nodes, channel)) for channel in channels)


def _with_interval(
    axes: Axes, x: Sequence[float], values: Sequence[Measured], **style: object
) -> None:
    middle = np.array([each.value for each in values])
    ends = np.array([[each.low, each.high] for each in values]).T
    axes.errorbar(x, middle, abs(ends - middle), **({"capsize": 2.5, "marker": "o"} | style))


# Models are passed as (label, beta or None, values).
Model = tuple[str, float | None, Sequence[Measured]]


def extra_strokes(models: Sequence[Model], thresholds: Sequence[float], name: str) -> LiveFigure:
    """Extra strokes at midpoints against the threshold of ink, with intervals, by model."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 2.8)
        axes = figure.subplots()
        for index, (label, beta, values) in enumerate(models):
            x = np.array(thresholds) + 0.008 * (index - len(models) / 2)
            _with_interval(axes, x, values, color=colour(beta), label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="threshold of ink", ylabel="extra strokes", xticks=thresholds)
        _legend_outside(axes)
    found = "; ".join(
        f"{label}: {', '.join(f'{each.value:+.2f}' for each in values)}"
        for label, _, values in models
    )
    return LiveFigure(
        figure,
        name,
        "Strokes at the midpoint beyond those of the ends, mean over 1,000 pairs with 95 % "
        f"intervals, at ink thresholds {', '.join(map(str, thresholds))}: {found}.",
        f"Line chart of extra strokes against the ink threshold: {found}.",
    )


def _legend_outside(axes: Axes, **options: object) -> None:
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(**(place | options))


def stroke_distribution(
    models: Sequence[tuple[str, float | None, np.ndarray]], name: str
) -> LiveFigure:
    """How many pairs gain or lose how many strokes: ``(label, beta, (pairs,))`` for each model."""
    bins = np.arange(-1.25, 2.5, 0.5)
    centres = (bins[:-1] + bins[1:]) / 2
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 2.8)
        axes = figure.subplots()
        width = 0.44 / len(models)
        for index, (label, beta, extra) in enumerate(models):
            shares = np.histogram(np.clip(extra, -1, 2), bins)[0] / len(extra)
            x = centres + width * (index - (len(models) - 1) / 2)
            axes.bar(x, 100 * shares, width, color=colour(beta), label=label)
        axes.set(xlabel="strokes at the midpoint beyond its ends", ylabel="% of pairs")
        axes.set_xticks(centres, ["≤ -1", "-½", "0", "½", "1", "1½", "≥ 2"])
        _legend_outside(axes)
    torn = ", ".join(
        f"{label}: {100 * np.mean(extra > 0):.0f}\u00a0%" for label, _, extra in models
    )
    return LiveFigure(
        figure,
        name,
        "All pairs: how many strokes the midpoint has beyond the mean of its two ends. Share of "
        f"pairs whose midpoint has more: {torn}.",
        f"Bar chart of extra strokes over all pairs. Share of pairs with more strokes: {torn}.",
    )


def against_error(
    models: Sequence[tuple[str, float | None, Measured, Measured]],
    what: str,
    name: str,
    finding: str,
) -> LiveFigure:
    """A number against the squared error, ``(label, beta, error, number)`` for each model.

    Models at one error stand above each other, so that blur cannot pass for a virtue.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 3.0)
        axes = figure.subplots()
        for label, beta, error, value in models:
            spread = [[error.value - error.low], [error.high - error.value]]
            _with_interval(
                axes,
                [error.value],
                [value],
                xerr=spread,
                color=colour(beta),
                marker="D" if beta is None else "o",
                label=label,
            )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="squared error of reconstructions", ylabel=what, xscale="log")
        axes.set_xticks([0.005, 0.01, 0.02, 0.05], ["0.005", "0.01", "0.02", "0.05"])
        axes.minorticks_off()
        _legend_outside(axes)
    found = ", ".join(
        f"{label}: {value.value:+.2f} at {error.value:.4f}" for label, _, error, value in models
    )
    return LiveFigure(
        figure,
        name,
        f"{what.capitalize()} against the squared error of the model's reconstructions, archived "
        f"runs with 95 % intervals. {finding}",
        f"Scatter of {what} against the error. {found}.",
    )


def rate_distortion(
    curve: Sequence[tuple[float, Measured, Measured]],
    live: Sequence[tuple[float, Measured, Measured]],
    marks: Sequence[tuple[str, Measured, Measured]],
    name: str,
    finding: str,
    line: Sequence[tuple[float, Measured, Measured]] = (),
) -> LiveFigure:
    """Distortion against rate: ``(beta, rate, distortion)`` of the archive and of this build.

    ``marks`` are named points; ``line`` has many betas of one multi-rate model. Without it a line
    joins the archived points.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 3.8)
        axes = figure.subplots()
        by_rate = sorted(line or curve, key=lambda point: point[1].value)
        axes.plot(
            [rate.value for _, rate, _ in by_rate],
            [distortion.value for _, _, distortion in by_rate],
            color=INK,
            linewidth=1,
            zorder=0,
            label="one model for every β" if line else None,
        )
        for index, (beta, rate, distortion) in enumerate(curve):
            spread = [[rate.value - rate.low], [rate.high - rate.value]]
            _with_interval(
                axes, [rate.value], [distortion], xerr=spread, color=colour(beta), capsize=0
            )
            # Neighbours at low beta are close: their labels stand on three levels.
            way = ((3, 6, "left"), (-4, -16, "center"), (3, 6, "left"), (-4, -27, "center"))
            right, up, align = way[index % 4]
            if rate.value >= 0.05:
                axes.annotate(
                    f"{beta:g}",
                    (rate.value, distortion.value),
                    (right, up),
                    textcoords="offset points",
                    ha=align,
                    fontsize="small",
                )
        silent = [point for point in curve if point[1].value < 0.05]  # all in one place
        if silent:
            label = ", ".join(f"{beta:g}" for beta, _, _ in silent)
            place = max(distortion.value for _, _, distortion in silent)
            axes.annotate(label, (0, place), (5, 6), textcoords="offset points", fontsize="small")
        for beta, rate, distortion in live:
            axes.plot(
                rate.value,
                distortion.value,
                "o",
                markersize=11,
                fillstyle="none",
                color=colour(beta),
                label="this build" if beta == live[0][0] else None,
            )
        for label, rate, distortion in marks:
            axes.plot(rate.value, distortion.value, "*", markersize=14, color=INK, label=label)
        axes.set_xscale("symlog", linthresh=5)  # most points lie above 5 nats
        axes.set(xlim=(-0.6, None), ylim=(-0.008, None))  # room for the labels below
        ticks = [0, 2, 5, 10, 30, 100, 300, 1000]
        high = axes.get_xlim()[1]
        axes.set_xticks([t for t in ticks if t <= high], [f"{t:g}" for t in ticks if t <= high])
        axes.minorticks_off()
        axes.set(xlabel="rate, nats", ylabel="distortion (squared error)")
        axes.legend()
    return LiveFigure(
        figure,
        name,
        "Rate and distortion, a point for each β (archived runs with 95 % intervals over seeds"
        + ("; rings: this build" if live else "")
        + ("; line: one model for every β, fitted in this build" if line else "")
        + f"). {finding}",
        f"The rate–distortion curve. {finding}",
    )


def against_beta(
    panels: Sequence[tuple[str, Sequence[tuple[str, dict[float, Measured]]]]],
    live: Sequence[dict[float, Measured]],
    marks: dict[str, float],
    name: str,
    finding: str,
) -> LiveFigure:
    """Numbers against beta, a panel each: ``(title, ((label, {beta: number}), ...))``.

    ``live`` has the first number of each panel as this build measured it; ``marks`` are betas to
    be pointed out in all panels.
    """
    zero = 3e-5  # where beta = 0 stands on the logarithmic axis
    styles = ({"color": RECONSTRUCTION}, {"color": KL, "marker": "s", "linestyle": "--"})
    with matplotlib.rc_context(_STYLE):
        rows = -(-len(panels) // 2)
        figure = _new(_WIDTH, 2.4 * rows + 0.3)
        places = figure.subplots(rows, 2, sharex=True).ravel()
        for axes, (title, lines), now in zip(places, panels, live, strict=False):
            for (label, values), style in zip(lines, styles, strict=False):
                x = [max(beta, zero) for beta in values]
                _with_interval(
                    axes, x, list(values.values()), label=label, markersize=4, capsize=2, **style
                )
            axes.plot(
                [max(beta, zero) for beta in now],
                [value.value for value in now.values()],
                "o",
                markersize=10,
                fillstyle="none",
                color=INK,
            )
            for index, beta in enumerate(marks.values()):
                axes.axvline(beta, color=INK, linewidth=1, linestyle=(":", "--", "-.", "-")[index])
            axes.set(xscale="log")
            if all(value.low >= 0 for _, values in lines for value in values.values()):
                axes.set_ylim(0, None)
            narrow = min(min(values) for _, values in lines) >= 0.1
            ticks = [0.1, 1, 10] if narrow else [0, 1e-3, 1e-1, 10]
            axes.set_xticks([max(tick, zero) for tick in ticks], [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            if len(lines) == 1:
                axes.set_title(title)
            else:  # above the panel: there is no empty corner in all of them
                above = axes.legend(
                    title=title,
                    loc="lower center",
                    bbox_to_anchor=(0.5, 0.97),
                    ncols=2,
                    handlelength=1.3,
                    handletextpad=0.4,
                    columnspacing=0.8,
                )
                above.get_title().set_fontsize("medium")
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        for axes in places[max(0, len(panels) - 2) : len(panels)]:
            axes.set_xlabel("β")
            axes.tick_params(labelbottom=True)
    lines = ("dotted", "dashed", "dash-dotted", "solid")
    key = ", ".join(
        f"{line}: {label} ({beta:.2g})"
        for line, (label, beta) in zip(lines, marks.items(), strict=False)
    )
    return LiveFigure(
        figure,
        name,
        "Archived runs with 95 % intervals over seeds; rings: this build. Vertical lines: "
        f"{key}. {finding}",
        f"Line charts against β: {', '.join(title for title, _ in panels)}. {finding}",
    )


def picture_strip(rows: Sequence[tuple[str, Sequence[str]]], name: str, words: str) -> LiveFigure:
    """Rows of small pictures, ``(label, PNGs in base64)``, as the sweep keeps them."""
    with matplotlib.rc_context(_STYLE):
        columns = max(len(pictures) for _, pictures in rows)
        figure = _new(_WIDTH, 0.4 * len(rows) + 0.1)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, (label, pictures) in zip(grid, rows, strict=True):
            for axes, picture in zip(line, pictures, strict=True):
                _show(axes, imread(io.BytesIO(base64.b64decode(picture))))
            line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    labels = f"{rows[0][0]} to {rows[-1][0]}" if len(rows) > 1 else rows[0][0]
    alt = f"{len(rows)} rows of {columns} small pictures each, {labels}. {words}"
    return LiveFigure(figure, name, words, alt)


def beta_film(
    frames: Sequence[tuple[float, Tensor, Tensor]], name: str, finding: str, columns: int = 5
) -> LiveFigure:
    """``(beta, reconstruction, sample)`` by beta, each image ``(1, 28, 28)``, row by row."""
    with matplotlib.rc_context(_STYLE):
        rows = -(-len(frames) // columns)
        figure = _new(1.06 * columns, 0.75 * rows)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (beta, decoded, drawn) in zip(places, frames, strict=False):
            _show(axes, _tile(torch.stack([decoded, drawn]), 2))
            axes.set_title(f"{beta:g}", fontsize="small", pad=3)
        for axes in places[len(frames) :]:
            axes.set_visible(False)
    return LiveFigure(
        figure,
        name,
        "One held-out digit, reconstructed (left of each pair), and one code of N(0, I), decoded "
        f"(right), by β. {finding}",
        f"Pairs of pictures by β. {finding}",
    )


def latent_map(betas: Sequence[float], rates: Tensor, name: str, finding: str) -> LiveFigure:
    """The KL of each latent by beta: ``rates`` is ``(len(betas), M)``, in nats, columns sorted."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(5.4, 3.4)
        axes = figure.subplots()
        edges = np.sqrt(np.multiply(betas[1:], betas[:-1]))
        edges = [betas[0] ** 2 / edges[0], *edges, betas[-1] ** 2 / edges[-1]]
        latents = np.arange(rates.shape[1] + 1) + 0.5
        shown = axes.pcolormesh(
            edges,
            latents,
            rates.T.clamp(min=1e-3).numpy(),
            norm=LogNorm(1e-2, max(1.0, float(rates.max()))),
            cmap="cividis",
        )
        axes.set(xscale="log", xlabel="β", ylabel="latent")
        axes.invert_yaxis()
        figure.colorbar(shown, ax=axes, label="KL, nats", extend="min")
    return LiveFigure(
        figure,
        name,
        f"The KL of each latent (a row) by β: dark is silent. {finding}",
        f"A map of the KL of each latent against β. {finding}",
    )


def label_curves(
    panels: Sequence[tuple[str, Sequence[tuple[str, float | None, dict[int, Measured]]]]],
    name: str,
    finding: str,
) -> LiveFigure:
    """Accuracy against the number of labels, ``(label, beta, {labels: accuracy})`` by panel.

    A line without a beta is a baseline or the autoencoder.
    """
    dashes = {"AE": "-", "pixels": ":", "PCA": "--"}
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 3.2)
        places = figure.subplots(1, len(panels), sharey=True)
        for axes, (title, lines) in zip(places, panels, strict=True):
            for index, (label, beta, values) in enumerate(lines):
                x = np.array(list(values)) * 1.05 ** (index - len(lines) / 2)
                _with_interval(
                    axes,
                    x,
                    [Measured(*(100 * part for part in value)) for value in values.values()],
                    color=colour(beta),
                    linestyle=dashes.get(label, "-"),
                    label=label,
                    markersize=4,
                )
            axes.set(title=title, xscale="log", xlabel="labelled images")
            axes.set_xticks(list(values), [f"{count:,}" for count in values])
            axes.minorticks_off()
        places[0].set_ylabel("held-out accuracy, %")
        places[-1].legend(loc="lower right")
    return LiveFigure(
        figure,
        name,
        "Held-out accuracy against the number of labelled images, with 95 % intervals over draws "
        f"of them (for all, over held-out images). {finding}",
        f"Line charts of accuracy against the number of labels. {finding}",
    )


def noise_curves(
    lines: Sequence[tuple[str, float | None, dict[float, Measured]]], name: str, finding: str
) -> LiveFigure:
    """Accuracy of a probe against the noise in the code, ``(label, beta, {noise: accuracy})``."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(_WIDTH, 2.8)
        axes = figure.subplots()
        for label, beta, values in lines:
            accuracy = [Measured(*(100 * part for part in value)) for value in values.values()]
            dashed = {"linestyle": "--"} if label == "PCA" else {}
            _with_interval(axes, list(values), accuracy, color=colour(beta), label=label, **dashed)
        axes.set(xlabel="noise, in standard deviations of each latent", ylabel="accuracy, %")
        _legend_outside(axes)
    return LiveFigure(
        figure,
        name,
        "Accuracy of a probe, fitted to 1,000 clean codes, when the codes that it reads are "
        f"disturbed. {finding}",
        f"Line chart of accuracy against noise. {finding}",
    )


def beta_strip(
    columns: Sequence[tuple[str, Tensor, Tensor, str]], name: str, finding: str
) -> LiveFigure:
    """What beta does: ``(title, reconstructions, samples, words below)`` for each model."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(min(0.7 * len(columns) + 0.5, _WIDTH), 4.4)
        panels = figure.subplots(2, len(columns))
        for (title, decoded, drawn, below), top, bottom in zip(columns, *panels, strict=True):
            _show(top, _tile(decoded, 1))
            _show(bottom, _tile(drawn, 1))
            top.set_title(title, fontsize="small")
            rate, error = below.split("\n")
            bottom.set_xlabel(f"{rate.removesuffix(' nats')}\n{error}", fontsize="small")
        for axes, label in zip(panels[:, 0], ("reconstructions", "samples"), strict=True):
            axes.set_ylabel(label)
        panels[1, 0].annotate(
            "nats\nerror",
            (0, 0),
            (-6, -4),  # level with the numbers below the columns
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize="small",
        )
    return LiveFigure(
        figure,
        name,
        "The same held-out images, reconstructed from one posterior sample (top), and samples from "
        "N(0, I) (bottom), by model. Below each, its rate and the squared error of such "
        f"reconstructions. {finding}",
        f"A strip of reconstructions and samples by model. {finding}",
    )


def latent_planes(planes: Sequence[tuple[str, Tensor]], name: str, axes: str) -> LiveFigure:
    """What models decode on a square grid over two latents: ``(title, (n * n, 1, 28, 28))``.

    ``axes`` says which latents of which model lead across and up.
    """
    return _image_grids(
        planes,
        name,
        f"Pictures decoded over two latents (across and up), all others zero. {axes}.",
        f"Grids of images decoded over two latents, all others zero. {axes}.",
        columns=round(len(planes[0][1]) ** 0.5),
        scale=0.29,
    )


def _image_rows(
    rows: Sequence[tuple[str, Tensor]], name: str, caption: str, alt: str, scale: float = 0.6
) -> LiveFigure:
    columns = max(len(images) for _, images in rows)
    with matplotlib.rc_context(_STYLE):
        margin = 0.2 + 0.1 * max(len(label) for label, _ in rows)
        scale = min(scale, (_WIDTH - margin) / columns)
        figure = _new(scale * columns + margin, scale * len(rows) + 0.1)
        grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, (label, images) in zip(grid, rows, strict=True):
            _show(axes, _tile(images, len(images)))
            axes.set_ylabel(label, rotation=0, ha="right", va="center")
    return LiveFigure(figure, name, caption, alt)


def _image_grids(
    grids: Sequence[tuple[str, Tensor]],
    name: str,
    caption: str,
    alt: str,
    columns: int,
    scale: float = 0.5,
) -> LiveFigure:
    rows = -(-max(len(images) for _, images in grids) // columns)
    with matplotlib.rc_context(_STYLE):
        scale = min(scale, (_WIDTH - 0.2) / (columns * len(grids)))
        figure = _new(scale * columns * len(grids) + 0.2, scale * rows + 0.4)
        panels = figure.subplots(1, len(grids), squeeze=False)[0]
        for axes, (title, images) in zip(panels, grids, strict=True):
            _show(axes, _tile(images, columns))
            axes.set_title(title)
    return LiveFigure(figure, name, caption, alt)


def _show(axes: Axes, picture: np.ma.MaskedArray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _tile(images: Tensor, columns: int, gap: int = 2) -> np.ma.MaskedArray:
    """Images ``(n, 1, h, w)`` on a grid with transparent gaps, as one picture."""
    height, width = images.shape[2:]
    rows = -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    picture = np.ma.array(np.zeros(shape), mask=True)
    for index, image in enumerate(images[:, 0].numpy()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        picture[top : top + height, left : left + width] = image
    return picture
