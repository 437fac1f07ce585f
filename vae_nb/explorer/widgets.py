"""Widgets that run the fitted networks under the reader's own hand.

Each function returns a :class:`LiveWidget`: an HTML output that holds the networks and the script
that runs them, so that it works in a notebook, in the book and from a file, without server or
network. A static figure of the same models stands in for it on paper and where no script runs. In
the book the networks move into files of their own (``book/_ext/model_weights.py``).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import torch
from matplotlib.colors import to_hex
from torch import Tensor

from vae_nb import figures, metrics
from vae_nb.data import Dataset
from vae_nb.explorer.export import export
from vae_nb.figures import Column, LiveFigure
from vae_nb.metrics.classifier import classifier, features, probabilities, recognised
from vae_nb.metrics.paths import with_labels
from vae_nb.models import PIXELS, VAE, decode, posterior, sample_prior, sampled_codes
from vae_nb.objective import kl_divergence
from vae_nb.runs import Run

CARRIED = 20  # held-out images that a widget carries, as many of each class
POINTS = 200  # held-out codes that the pad shows
FACTS = ("rate", "mse_mean", "fid_prior")  # metrics beside the pad
STROKES = "extra_strokes_0.5"
SPAN = 3.5  # standard deviations of a latent on either side of its slider's middle


@dataclasses.dataclass(frozen=True)
class LiveWidget:
    """A widget with the static figure that stands in for it.

    As the last line of a cell it shows itself. ``spec`` is what the script needs but the networks,
    ``networks`` are their JSON, by digest; both end up in one HTML output. Without a figure it has
    neither number nor caption, and nothing stands in for it. ``in_print`` is what the caption says
    of the figure, where only that is seen. ``code`` is a script of its own, run after that of all.
    """

    figure: LiveFigure | None
    spec: dict[str, Any]
    networks: dict[str, str] = dataclasses.field(default_factory=dict)
    in_print: str = ""
    code: str = ""

    def html(self) -> str:
        """The whole widget as HTML: style, stand-in, description, networks, script."""
        still = self._still() if self.figure else ""
        networks = "".join(
            f'<script type="text/plain" data-model="{digest}">{network}</script>\n'
            for digest, network in self.networks.items()
        )
        spec = json.dumps(self.spec).replace("<", "\\u003c")  # a label must not end the script
        scripts = "\n".join(
            f'<script class="vae-code">{code}</script>' for code in (script(), self.code) if code
        )
        return (
            f'<div class="vae-explorer">\n<style>{packaged("explorer.css")}</style>\n{still}'
            '<div class="vae-widget"></div>\n'
            f'<script type="application/json">{spec}</script>\n'
            f"{networks}{scripts}\n</div>"
        )

    def _still(self) -> str:
        assert self.figure is not None
        png = base64.b64encode(self.figure.png()).decode()
        return (
            f'<img class="vae-still dark-light" src="data:image/png;base64,{png}" '
            f'width="{round(self.figure.figure.get_figwidth() * 96)}" '
            f'alt="{html.escape(self.figure.alt)}">\n'
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        figure = self.figure
        if figure is None:
            bundle = {"text/html": self.html(), "text/plain": "a widget of the book's pages"}
            display(bundle, raw=True)
            return
        caption = figure.caption
        if self.in_print:
            caption += f" [*In print:* {self.in_print}]{{.vae-in-print}}"
        words = {"name": f"fig-{figure.name}", "caption": caption, "alt": figure.alt}
        bundle = {"text/html": self.html(), "text/plain": figure.alt}
        display(bundle, raw=True, metadata={"text/html": {"vae_nb": words}})
        figure.display_caption()


def script() -> str:
    """The explorer's JavaScript, one piece for all widgets."""
    return packaged("networks.js") + packaged("explorer.js")


@functools.cache
def packaged(name: str) -> str:
    """The text of a script or style sheet of the explorer."""
    return resources.files("vae_nb.explorer").joinpath(name).read_text(encoding="utf-8")


def latent_pad(
    models: Mapping[str, Run], name: str, first: str = "", sliders: int = 4
) -> LiveWidget:
    """Move in the latent space of each of ``models`` (label to run), beginning with ``first``.

    A pad over the two latents with the largest KL (of an autoencoder: variance) and as many
    further ``sliders``. Beside it are the model's metrics. Raises :class:`ValueError` if ``first``
    is none of the labels.
    """
    labels = list(models)
    first = first or labels[0]
    if first not in models:
        raise ValueError(f"first = {first!r} is not allowed: it must be one of {labels}")
    details = {label: _latents(run, 2 + sliders) | _facts(run) for label, run in models.items()}
    pairs = {label: details[label]["latents"][:2] for label in (first, labels[0], labels[-1])}
    planes = {label: _plane(models[label], pair) for label, pair in pairs.items()}
    axes = "; ".join(
        f"{label}: {' and '.join(latent['label'] for latent in pair)}"
        for label, pair in pairs.items()
    )
    return _widget(
        "latentPad",
        models,
        figures.latent_planes(planes, name, axes),
        "What a model decodes at the dot. Dashed: one and two standard deviations of N(0, I). "
        f"Small labels: the codes of {POINTS} held-out images.",
        details,
        first=labels.index(first),
    )


def interpolate(
    models: Mapping[str, Run], name: str, labels: tuple[int, int] = (4, 9)
) -> LiveWidget:
    """Walk between two held-out images in each of ``models`` (label to run), side by side.

    It begins with two images of these ``labels``, start and end.
    """
    dataset = _dataset(models)
    carried = _carried(dataset)
    start, end = map(int, with_labels(dataset.test_labels[carried], [labels]))
    images = dataset.test_images[carried[[start, end]]]
    steps = torch.linspace(0, 1, 9)[:, None]
    rows = {}
    for label, run in models.items():
        first, last = run.encode(images)
        rows[label] = run.decode(torch.lerp(first, last, steps))
    strokes = {label: metrics.of(run, [STROKES])[STROKES] for label, run in models.items()}
    return _widget(
        "interpolate",
        models,
        figures.interpolations(rows, name, strokes),
        "The straight line between the codes of two held-out images of your choice. A stroke is "
        "a connected group of at least three pixels above one half.",
        chosen=[start, end],
    )


def samples(run: Run, codes: Mapping[str, Tensor], name: str) -> LiveWidget:
    """Draw codes from two distributions, and walk from draw to draw, in one decoder.

    ``codes`` are draws ``(n, M)`` by the title of what they are drawn from; the page shows a few
    at a time, in their order.
    """
    draws = [
        {"title": title, "codes": [[round(z, 4) for z in code] for code in of.tolist()]}
        for title, of in codes.items()
    ]
    grids = {title: run.decode(of[:12]) for title, of in codes.items()}
    return _widget(
        "samples",
        {"": run},
        figures.samples(grids, name, columns=4),
        "Codes that are drawn from two distributions, decoded by one decoder; none chosen by hand.",
        draws=draws,
        images=[],
    )


def draw(models: Mapping[str, Run], name: str) -> LiveWidget:
    """Draw an image and see what each of ``models`` (label to run) makes of it."""
    dataset = _dataset(models)
    images = dataset.test_images[_carried(dataset)][::2]
    errors = {label: metrics.of(run, ["mse_mean"])["mse_mean"] for label, run in models.items()}
    words = f"A {dataset.noun} of your own, encoded and decoded by each model. Below each: "
    if any(map(_is_vae, models.values())):
        words += "the squared error and the KL. A VAE decodes its posterior mean."
    else:
        words += "the squared error."
    return _widget("draw", models, figures.reconstructions(images, models, name, errors), words)


def telling_codes(run: Run, beta: float = 0.1, count: int = 3, tried: int = 300) -> Tensor:
    """Codes from N(0, I), ``(count, M)``, that show what a multi-rate VAE gains by a larger beta.

    The first of ``tried`` draws that the classifier recognises at ``beta`` and not at the lowest
    one; where there are too few, draws of any kind.
    """
    codes, evaluator = sample_prior(tried, run.latent_dim), classifier(run.dataset)
    at_beta, at_lowest = (
        recognised(probabilities(evaluator, features(evaluator, decode(run.model.at(b), codes))))
        for b in (beta, min(metrics.curve(run)))
    )
    first = (at_beta & ~at_lowest).int().argsort(descending=True, stable=True)
    return codes[first[:count]]


def beta_slider(run: Run, name: str, beta: float = 0.1, codes: Tensor | None = None) -> LiveWidget:
    """Move beta itself, over the range of a multi-rate VAE, beginning at ``beta``.

    The same image and the same noise at every beta, and where it stands on the measured curve of
    rate and distortion (on all held-out images). ``codes`` ``(3, M)`` are those that it begins with
    (such as :func:`telling_codes`); None draws them.
    """
    curve = metrics.curve(run)
    images = run.dataset.test_images[_carried(run.dataset)[4::6][:3]]
    started = sample_prior(len(images), run.latent_dim) if codes is None else codes
    columns = []
    for b in list(curve)[::4]:
        vae = run.model.at(b)
        decoded = decode(vae, sampled_codes(vae, images)), decode(vae, started)
        columns.append(Column(f"β = {b:.2g}", *decoded, curve[b]["rate"], curve[b]["mse_sample"]))
    points = [(b, its["rate"].value, its["mse_sample"].value) for b, its in curve.items()]
    (low, rate_low, error_low), (high, rate_high, error_high) = points[0], points[-1]
    finding = (
        f"One network, conditioned on β: from β = {low:g} to {high:g} its rate goes from "
        f"{rate_low:.1f} to {rate_high:.1f} nats and its squared error from {error_low:.4f} to "
        f"{error_high:.4f}."
    )
    return _widget(
        "betaSlider",
        {"conditioned on β": run},
        figures.beta_strip(columns, name, finding),
        "The same held-out image and the same noise as β moves, by one network. The dot is where β "
        "stands on the measured curve of rate and squared error.",
        curve=points,
        beta=beta,
        codes=[] if codes is None else [[round(z, 4) for z in code] for code in codes.tolist()],
    )


def judge(pictures: Mapping[str, Tensor], dataset: Dataset, name: str, seed: int = 0) -> LiveWidget:
    """Say of shuffled pictures what they show, and see how far the data set's classifier agrees.

    ``pictures`` are images ``(n, 1, 28, 28)`` by their source, in grey levels; ``seed`` decides
    their order.
    """
    images, sources = torch.cat(list(pictures.values())), []
    for source, of_source in enumerate(pictures.values()):
        sources += [source] * len(of_source)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    evaluator = classifier(dataset)
    is_one = recognised(probabilities(evaluator, features(evaluator, images)))
    shown = [
        {"pixels": _pixels(images[n]), "source": sources[n], "recognised": bool(is_one[n])}
        for n in order.tolist()
    ]
    figure = figures.numbered(images[order], name, dataset.noun)
    spec = {"widget": "judge", "noun": dataset.noun, "sources": list(pictures), "pictures": shown}
    return LiveWidget(figure, spec)


def draw_first(
    curve: Mapping[float, float],
    name: str,
    across: str,
    up: str,
    ticks: Sequence[float],
    scale: Callable[[float], float] = math.asinh,
) -> LiveWidget:
    """Draw the curve that you expect, and see the measured one on top.

    ``curve`` is measured: what is ``across`` to what is ``up``, zero or more. ``scale`` places a
    number across, and ``ticks`` are numbers there.
    """
    ends = [scale(min(curve)), scale(max(curve))]

    def place(x: float) -> float:
        return round((scale(x) - ends[0]) / (ends[1] - ends[0]), 4)

    marks = [(f"{x:g}", place(x)) for x in ticks]
    points = [(f"{x:.3g}", place(x), float(f"{y:.4g}")) for x, y in sorted(curve.items())]
    spec = {"widget": "drawFirst", "points": points, "ticks": marks, "across": across, "up": up}
    return LiveWidget(figures.empty_axes(name, across, up, marks, max(curve.values())), spec)


def translator(pages: Mapping[float, str]) -> LiveWidget:
    """Say how another text counts, and get its beta in this book's units.

    ``pages`` are the book's pages by the beta of the model that they show, zero among them.
    """
    models = [{"beta": beta, "page": page} for beta, page in pages.items() if beta > 0]
    spec = {"widget": "translator", "pixels": PIXELS, "models": models, "zero": pages[0.0]}
    return LiveWidget(None, spec)


def judge_key(widget: LiveWidget) -> str:
    """Of the pictures of :func:`judge`, in Markdown: their numbers by source, and the verdicts."""
    spec, rows = widget.spec, []
    for place, source in enumerate(spec["sources"]):
        numbers = [
            f"**{n}**" if each["recognised"] else f"{n}"
            for n, each in enumerate(spec["pictures"], 1)
            if each["source"] == place
        ]
        rows.append(f"- {source}: {', '.join(numbers)}")
    return "\n".join([f"Bold: the classifier takes it for a {spec['noun']}.", "", *rows])


def _widget(
    kind: str,
    models: Mapping[str, Run],
    figure: LiveFigure,
    words: str,
    details: Mapping[str, Mapping[str, Any]] = {},
    **spec: Any,
) -> LiveWidget:
    """A widget of explorer.js with the networks of ``models`` and ``details`` of each, by label.

    Its caption begins with ``words``, on what the live widget shows.
    """
    dataset = _dataset(models)
    networks, described = {}, []
    for label, run in models.items():
        network = export(run.model)
        digest = hashlib.sha256(network.encode()).hexdigest()[:16]
        networks[digest] = network
        colour = to_hex(figures.colour(run.beta if _is_vae(run) else None))
        names = {"name": label, "digest": digest, "colour": colour}
        described.append(names | dict(details.get(label, {})))
    common = {"widget": kind, "noun": dataset.noun, "images": _images(dataset), "models": described}
    live = dataclasses.replace(figure, caption=words)
    return LiveWidget(live, common | spec, networks, figure.caption)


def _is_vae(run: Run) -> bool:
    """Whether it has a posterior, and one beta."""
    return isinstance(run.model, VAE)


def _dataset(models: Mapping[str, Run]) -> Dataset:
    names = sorted({run.recipe.dataset for run in models.values()})
    if len(names) != 1:
        raise ValueError(f"a widget shows models of one data set, not of {names}")
    return next(iter(models.values())).dataset


def _carried(dataset: Dataset) -> Tensor:
    """Indices of the held-out images that a widget carries: the first ones of each class."""
    each = max(2, CARRIED // len(dataset.classes))
    labels = range(len(dataset.classes))
    return torch.cat([(dataset.test_labels == x).nonzero().flatten()[:each] for x in labels])


def _images(dataset: Dataset) -> list[dict[str, str]]:
    carried = _carried(dataset)
    labels = [dataset.classes[label] for label in dataset.test_labels[carried]]
    images = dataset.test_images[carried]
    return [
        {"label": label, "pixels": _pixels(image)}
        for label, image in zip(labels, images, strict=True)
    ]


def _pixels(image: Tensor) -> str:
    grey = (image * 255).round().to(torch.uint8).flatten().numpy()
    return base64.b64encode(grey.tobytes()).decode()


def _latents(run: Run, count: int) -> dict[str, Any]:
    """The ``count`` most active latents, their sliders, and where held-out codes lie in two."""
    images, classes = run.dataset.test_images, run.dataset.classes
    codes = run.encode(images)
    if _is_vae(run):
        activity, unit = kl_divergence(posterior(run, images)).mean(0), "{:.2f} nats"
    else:
        activity, unit = codes.var(dim=0), "variance {:.2f}"
    spread, centre = codes.std(dim=0), codes.mean(dim=0)
    axes = []
    for index in activity.argsort(descending=True)[:count].tolist():
        # At least as wide as N(0, I), so that a latent without any KL can be moved, too.
        low, high = (float(centre[index] + sign * SPAN * spread[index]) for sign in (-1, 1))
        label = f"latent {index} ({unit.format(float(activity[index]))})"
        low, high = round(min(low, -SPAN), 2), round(max(high, SPAN), 2)
        axes.append({"index": index, "label": label, "low": low, "high": high})
    # A long name of a class does not fit into the plane: then its number.
    marks = classes if max(map(len, classes)) <= 3 else list(map(str, range(len(classes))))
    places = codes[:POINTS, [axis["index"] for axis in axes[:2]]].tolist()
    points = [
        (marks[label], round(x, 2), round(y, 2))
        for label, (x, y) in zip(run.dataset.test_labels[:POINTS], places, strict=True)
    ]
    return {"latents": axes, "points": points}


def _facts(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Titles and values of the metrics that it has."""
    rows = []
    for name, value in metrics.of(run, FACTS).items():
        metric = metrics.METRICS[name]
        title = metric.title if _is_vae(run) else metric.title.removesuffix(" of the mean")
        rows.append((title, f"{metric.show(value)} {metric.unit}".rstrip()))
    return {"facts": rows}


def _plane(run: Run, axes: Sequence[Mapping[str, Any]], steps: int = 7) -> Tensor:
    """Images decoded on a grid over two latents, all others zero; the second one grows upwards."""
    across, up = (torch.linspace(axis["low"], axis["high"], steps) for axis in axes)
    codes = torch.zeros(steps, steps, run.latent_dim)
    codes[..., axes[0]["index"]] = across
    codes[..., axes[1]["index"]] = up.flip(0)[:, None]
    return run.decode(codes.flatten(0, 1))
