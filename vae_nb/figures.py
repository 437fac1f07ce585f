"""How does it look? One function for each figure; each returns a :class:`LiveFigure`.

Nothing is computed here. Figures are transparent with mid-grey ink, so that they read on a light
and on a dark page; digits keep their own grey levels. Colours are those of Okabe & Ito, which
colour-blind readers tell apart.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_nb.evaluation.interval import Measured
from vae_nb.training import History

INK = "#757575"
RECONSTRUCTION, KL = "#0072B2", "#D55E00"
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
    "font.size": 12,  # a figure of 6 inches is still read on a phone
    "svg.fonttype": "none",
}
_DPI = 192  # twice the 96 px of a CSS inch: sharp on a phone


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
    of_kl = f" and the KL at {last['kl']:.3g} nats per latent" if any(history.kl) else ""
    finding = f"On held-out images the reconstruction loss ends at {last['mse_sample']:.4f}{of_kl}"
    with matplotlib.rc_context(_STYLE):
        panels = [(history.reconstruction, "mse_sample", RECONSTRUCTION, "reconstruction loss")]
        if any(history.kl):  # an autoencoder has none
            panels.append((history.kl, "kl", KL, "KL, nats per latent"))
        figure = _new(3.1 * len(panels), 2.7)
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
            axes.legend(frameon=False, fontsize="small")
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
        "Held-out images (top) and their reconstructions: from the code or the posterior mean, and "
        "in a row named *sample* from a posterior sample. Mean squared error over the whole "
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
    way = "equal steps between their codes" if change > 0.01 else "steps that all look the same"
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
        f"{label}: {units.value:.0f} of {len(rates)}" for label, rates, units in models
    )
    with matplotlib.rc_context(_STYLE):
        figure = _new(6.2, 2.3)
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


def extra_strokes(
    models: Sequence[tuple[str, Sequence[Measured]]], thresholds: Sequence[float], name: str
) -> LiveFigure:
    """Extra strokes at midpoints against the threshold of ink, with intervals, by model."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(5.2, 2.6)
        axes = figure.subplots()
        for index, (label, values) in enumerate(models):
            middle = np.array([each.value for each in values])
            ends = np.array([[each.low, each.high] for each in values]).T
            axes.errorbar(
                np.array(thresholds) + 0.01 * (index - 0.5),
                middle,
                abs(ends - middle),
                fmt="o-",
                capsize=3,
                color=(KL, RECONSTRUCTION)[index % 2],
                label=label,
            )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="threshold of ink", ylabel="extra strokes", xticks=thresholds)
        axes.legend(frameon=False)
    found = "; ".join(
        f"{label}: {', '.join(f'{each.value:+.2f}' for each in values)}" for label, values in models
    )
    return LiveFigure(
        figure,
        name,
        "Strokes at the midpoint beyond those of the ends, mean over 1,000 pairs with 95 % "
        f"intervals, at ink thresholds {', '.join(map(str, thresholds))}: {found}.",
        f"Line chart of extra strokes against the ink threshold: {found}.",
    )


def beta_strip(
    columns: Sequence[tuple[str, Tensor, Tensor, str]], name: str, finding: str
) -> LiveFigure:
    """What beta does: ``(title, reconstructions, samples, words below)`` for each model."""
    with matplotlib.rc_context(_STYLE):
        figure = _new(0.9 * len(columns) + 0.7, 4.4)
        panels = figure.subplots(2, len(columns))
        for (title, decoded, drawn, below), top, bottom in zip(columns, *panels, strict=True):
            _show(top, _tile(decoded, 1))
            _show(bottom, _tile(drawn, 1))
            top.set_title(title)
            bottom.set_xlabel(below, fontsize="small")
        for axes, label in zip(panels[:, 0], ("reconstructions", "samples"), strict=True):
            axes.set_ylabel(label)
    return LiveFigure(
        figure,
        name,
        "The same held-out images, reconstructed from one posterior sample (top), and samples from "
        "N(0, I) (bottom), by model. Below each, its rate and the squared error of such "
        f"reconstructions. {finding}",
        f"A strip of reconstructions and samples by model. {finding}",
    )


def _image_rows(
    rows: Sequence[tuple[str, Tensor]], name: str, caption: str, alt: str, scale: float = 0.6
) -> LiveFigure:
    columns = max(len(images) for _, images in rows)
    with matplotlib.rc_context(_STYLE):
        margin = 0.2 + 0.1 * max(len(label) for label, _ in rows)
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
    picture = np.ma.masked_all(shape)
    for index, image in enumerate(images[:, 0].numpy()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        picture[top : top + height, left : left + width] = image
    return picture
