"""The metrics of a run: one entry each, measured once and cached.

All are measured on the held-out images, in eval mode and with fixed noise, and do not depend on the
batch size. To add a metric, add an entry to METRICS, and its function if it is new. What decides a
number lies in the modules of this package, whose digests say when it is measured again; the words
about it lie here, in no digest.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_nb import cache, progress
from vae_nb.metrics import controls, curves, latent, paths, probes, reconstruction, samples
from vae_nb.metrics.classifier import COMPONENTS, FEATURES
from vae_nb.metrics.controls import CONTROLS, LIKE, NEW, SHARP, SHOWS, VARIED, ControlRecord
from vae_nb.metrics.curves import CURVE
from vae_nb.metrics.intervals import Estimate
from vae_nb.metrics.record import Record

if TYPE_CHECKING:
    from vae_nb.data import Dataset
    from vae_nb.recipe import Recipe
    from vae_nb.runs import Run


def any_run(recipe: Recipe) -> bool:
    """Of a metric that every run has."""
    return True


def vae(recipe: Recipe) -> bool:
    """Of a metric that asks for a posterior: a VAE has one, and a multi-rate VAE at each beta."""
    return any(hasattr(recipe.kind.network, name) for name in ("posterior", "at"))


def no_run(recipe: Recipe) -> bool:
    """Of a metric of real images alone."""
    return False


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric: how it is computed, and what is said of it.

    ``compute`` takes a :class:`Record` and the keyword arguments ``of``; it gives None where the
    run does not have the metric. ``better`` is "lower", "higher" or "". ``format`` is "number",
    "percent" or a format specification. ``about`` (MyST) is shared by metrics that one row of the
    book's page describes. ``asks`` is what a measure of samples asks of them, to be tried on the
    controls (see ``metrics.controls``); such metrics are measured on real images as well.
    ``applies`` says of a recipe whether its runs have it.
    """

    name: str
    title: str
    compute: Callable[..., Estimate | None]
    of: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    _: dataclasses.KW_ONLY
    section: str
    about: str
    best: str = ""
    unit: str = ""
    better: str = ""
    format: str = "number"
    asks: str = ""
    applies: Callable[[Recipe], bool] = any_run

    def show(self, value: Estimate | float) -> str:
        """The value as a reader wants it: "0.0228", "97 %", without its interval and unit."""
        value = value.value if isinstance(value, Estimate) else value
        value = max(value, self.bounds[0])  # a KL of -1e-8 is a rounding
        if self.format == "number" or math.isnan(value):
            return number(value)
        percent = ".1%" if 0.99 < value < 1 else ".0%"  # 100 % means all
        return f"{value:{percent if self.format == 'percent' else self.format}}".replace(
            "%", "\u00a0%"
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """What is possible: no share below 0 or above 1, no distance below 0."""
        if self.format.startswith("+") or "slope" in self.name or self.unit == "nats per image":
            return -math.inf, math.inf
        share = self.format.endswith(("percent", "%")) and "relative to" not in self.about
        least = -math.inf if self.name == "r_squared" else 0.0
        return least, 1.0 if share else math.inf

    @functools.cached_property
    def identity(self) -> str:
        """A digest of all that decides its number, but the run: where it changes, so may that."""
        parts = [_digest(self.compute.__module__), self.compute.__qualname__]
        return _short(*parts, json.dumps(dict(self.of), sort_keys=True))


_family = functools.partial  # of metrics that one row of the book's page describes


def number(value: float) -> str:
    """Three significant digits, as a reader wants them: no powers of ten, no noise behind zero."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 1e-4:
        return "<\u00a00.0001" if value > 0 else ">\u00a0-0.0001"  # never on two lines
    rounded = float(f"{value:.3g}") if abs(value) >= 1e-3 else round(value, 4)
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.12f}".rstrip("0").rstrip(".")


# --- The metrics, by section of the book's page ---

_rec = _family(Metric, section="reconstructions")
_mse = _family(
    _rec,
    about=r"$\frac1N \sum_i (x_i - \hat x_i)^2$, mean over images. *Of the mean*: decoded from the "
    "posterior mean; *of a sample*: from one posterior sample, as the objective has it",
    best="0",
    unit="grey level²",
    better="lower",
)
_sharpness = _family(
    Metric,
    about="squared differences of neighbouring pixels (gradient energy), relative to those of real "
    "images ({term}`sharpness`). Blur lowers it; broken strokes do not",
    best="near 100 %",
    format="percent",
)
_RECONSTRUCTIONS = [
    _rec(
        "pixel_variance",
        "pixel variance",
        reconstruction.measure_pixel_variance,
        about="variance of a pixel over the images, mean over pixels: the squared error of always "
        "answering with the mean image",
        unit="grey level²",
    ),
    *(
        _mse(f"mse_{code}", f"MSE of {title}", reconstruction.measure_mse, {"code": code})
        for code, title in (("mean", "the mean"), ("sample", "a sample"))
    ),
    _rec(
        "r_squared",
        "share of pixel variance explained",
        reconstruction.measure_r_squared,
        about=r"$R^2 = 1 - \mathrm{MSE} / \mathrm{variance}$: 0 is always answering with the mean "
        "image",
        best="100 %",
        better="higher",
        format="percent",
    ),
    *(
        _sharpness(
            name, title, reconstruction.measure_sharpness, {"code": code}, section="reconstructions"
        )
        for name, title, code in (
            ("sharpness_reconstructions", "sharpness of reconstructions", "mean"),
            ("sharpness_sampled", "sharpness of sampled reconstructions", "sample"),
        )
    ),
    _rec(
        "same_label",
        "classified as the original",
        reconstruction.measure_same_label,
        about="share of reconstructions to which our classifier gives the label that it gives the "
        "original",
        best="100 %",
        better="higher",
        format="percent",
    ),
]

_sample = _family(Metric, section="samples", best="that of real images", better="higher")
_SPACES = {
    "classifier": ("", f"the {FEATURES} features of the classifier's last hidden layer"),
    "components": (
        ", principal components",
        f"the first {COMPONENTS} principal components of the pixels",
    ),
    "untrained": (
        ", untrained features",
        "the features of the same network before any training (each in units of its spread)",
    ),
}
# Of each source of samples: what titles call it, and the section. The mixture of many Gaussians
# takes long: it has a section of its own.
_SOURCES = {
    "prior": ("samples", "samples", "codes from N(0, I)"),
    "mixture": (
        "mixture samples",
        "samples",
        f"codes from {samples.COMPONENTS} Gaussians (a {{term}}`Gaussian mixture`) that are fitted "
        f"to the codes of {samples.MIXTURE_IMAGES:,} training images {{cite:p}}`ghosh2020`",
    ),
    "mixture_100": (
        "samples of a large mixture",
        "densities",
        f"codes from {samples.MANY_COMPONENTS} Gaussians that are fitted to the codes of all "
        "training images",
    ),
}


def _fids(source: str) -> list[Metric]:
    title, section, of = _SOURCES[source]
    return [
        _sample(
            f"fid_{source}" + (f"_{space}" if suffix else ""),
            f"FID of {title}{suffix}",
            samples.measure_fid,
            {"source": source, "space": space},
            section=section,
            about="Fréchet distance between held-out images and as many samples, both as "
            f"{features} {{cite:p}}`heusel2017` ({{term}}`FID`). For {of}. Not comparable with "
            "FIDs of other features",
            better="lower",
            asks=LIKE,
        )
        for space, (suffix, features) in _SPACES.items()
    ]


def _of_source(source: str) -> list[Metric]:
    title, section, of = _SOURCES[source]
    neighbourhood = _family(
        _sample,
        compute=samples.measure_neighbourhood,
        section=section,
        about="*precision* is the share of samples within the ball of some real image, *recall* "
        "that of real images within the ball of some sample; a ball reaches to the third nearest "
        "neighbour {cite:p}`kynkaanniemi2019` ({term}`precision and recall`). *Density* counts in "
        "how many fifths of a real image's ball a sample lies, *coverage* is the share of real "
        "images with a sample in their ball; these balls reach to the fifth neighbour "
        f"{{cite:p}}`naeem2020`. In the classifier's features, for {of}",
        format="percent",
    )
    return [
        *_fids(source),
        _sample(
            f"recognised_{source}",
            f"{title} recognised",
            samples.measure_recognised,
            {"source": source},
            section=section,
            about="share of samples that the classifier takes for one of the classes, and not for "
            f"none of them. For {of}",
            format="percent",
            asks=SHOWS,
        ),
        *(
            neighbourhood(
                name=f"{which}_{source}",
                title=f"{which} of {title}",
                of={"source": source, "which": which},
                asks=asks,
            )
            for which, asks in (
                ("precision", SHOWS),
                ("recall", VARIED),
                ("density", SHOWS),
                ("coverage", VARIED),
            )
        ),
        _sharpness(
            f"sharpness_{source}",
            f"sharpness of {title}",
            samples.measure_sharpness,
            {"source": source},
            section=section,
            asks=SHARP,
            better="higher",
        ),
        _sample(
            f"novelty_{source}",
            f"distance of {title} to training images",
            samples.measure_novelty,
            {"source": source},
            section=section,
            about=f"distance in pixels from each of {samples.NEAREST:,} samples to the nearest "
            "training image, relative to that of held-out images: far below 100 %, samples are "
            f"copies. For {of}",
            best="100 %",
            format="percent",
            asks=NEW,
        ),
    ]


_SAMPLES = [
    _sample(
        "accuracy",
        "accuracy of the classifier",
        samples.measure_accuracy,
        about="share of held-out images to which our classifier gives their label. It has three "
        "convolutions and two linear layers, and is fitted once to the training images of the set, "
        "and to as many made pictures that are none of its classes",
        best="100 %",
        format=".1%",
        applies=no_run,
    ),
    *(metric for source in _SOURCES for metric in _of_source(source)),
]

_code = _family(Metric, section="codes")
_likelihood = _family(
    _code,
    about=rf"bounds of $\log p(x)$ over {latent.LIKELIHOOD_IMAGES} images, for a Gaussian decoder "
    "whose variance is the model's own error: importance-weighted with "
    f"{latent.LIKELIHOOD_DRAWS} posterior samples each {{cite:p}}`burda2016,rybkin2021`; the ELBO "
    "is the same with one sample",
    best="high",
    unit="nats per image",
    better="higher",
    applies=vae,
)
_growth = _family(
    _code,
    about="mean rate over the last tenth of an epoch, and over as many steps at half of the "
    "training; *slope*: of the rate over the last epoch, as a share of it",
    applies=vae,
)
_CODES = [
    _code(
        "active_units",
        "active units",
        latent.measure_active_units,
        about="latents whose posterior mean varies over the images with a variance above "
        f"{latent.ACTIVE_VARIANCE:g} ({{term}}`active unit`) {{cite:p}}`burda2016`",
    ),
    _code(
        "prior_distance",
        "Fréchet distance to the prior",
        latent.measure_distance_to_prior,
        about="Fréchet distance between the codes (for a VAE, one posterior sample per image) and "
        "$N(0, I)$, from mean and covariance, divided by $M$",
        best="0",
        better="lower",
    ),
    _code(
        "rate",
        "rate",
        latent.measure_rate,
        about=r"$\mathrm{KL}(q(z \mid x) \,\Vert\, N(0, I))$, summed over the latents, mean over "
        "images ({term}`rate`) {cite:p}`alemi2018`",
        unit="nats",
        applies=vae,
    ),
    _likelihood("elbo", "ELBO", latent.measure_elbo),
    _likelihood("log_likelihood", "log-likelihood", latent.measure_log_likelihood),
    _growth(
        "rate_slope",
        "slope of the rate in the last epoch",
        curves.measure_rate_slope,
        format="+.1%",
    ),
    *(
        _growth(f"rate_at_{when}", title, curves.measure_rate_at, {"when": when}, unit="nats")
        for when, title in (("half", "rate at half-time"), ("end", "rate at the end"))
    ),
]

_path = _family(Metric, section="interpolations", best="0", better="lower")
_strokes = _family(
    _path,
    about="connected groups of at least 3 pixels above the threshold of ink at the midpoint, minus "
    f"the mean of the two decoded ends, over {paths.PAIRS:,} random pairs of held-out images with "
    "different (or equal) labels",
    format="+.2f",
)
_midpoint_fid = _family(
    _path,
    about="{term}`FID` of the midpoints of as many random pairs as there are held-out images, with "
    "different (or equal) labels; *spherical*: of a path along the sphere instead of the straight "
    "line {cite:p}`white2016`",
    best="that of real images",
)
_INTERPOLATIONS = [
    *(
        _strokes(
            f"extra_strokes_{ink:g}",
            f"extra strokes, ink above {ink:g}",
            paths.measure_extra_strokes,
            {"threshold": ink},
        )
        for ink in paths.THRESHOLDS
    ),
    _strokes(
        "extra_strokes_0.5_equal",
        "extra strokes, ink above 0.5, equal labels",
        paths.measure_extra_strokes,
        {"threshold": 0.5, "different": False},
    ),
    _path(
        "extra_strokes_0.5_matched",
        "extra strokes at one error",
        paths.measure_matched_strokes,
        {"threshold": 0.5, "error": paths.MATCHED_ERROR},
        about="extra strokes after every picture has been blurred until the model's "
        f"reconstructions have a squared error of {paths.MATCHED_ERROR:g}. A model that is softer "
        "than that is left out",
        format="+.2f",
    ),
    _path(
        "extra_euler_0.5",
        "extra Euler number, ink above 0.5",
        paths.measure_extra_euler,
        {"threshold": 0.5},
        about="components minus holes at the midpoint, minus the mean of the two ends: it also "
        "counts loops that are torn open",
        format="+.2f",
    ),
    _path(
        "uniformity",
        "uniformity of the path",
        paths.measure_uniformity,
        about="mean step over longest step along the path, in the classifier's features: 1 is "
        f"uniform, {1 / (paths.STEPS - 1):g} one jump in {paths.STEPS - 1} steps",
        best="1",
        better="higher",
    ),
    *(
        _midpoint_fid(
            "midpoint_fid" + (f"_{space}" if suffix else ""),
            f"FID of midpoints{suffix}",
            paths.measure_midpoint_fid,
            {"space": space},
        )
        for space, (suffix, _) in _SPACES.items()
    ),
    _midpoint_fid(
        "midpoint_fid_spherical",
        "FID of midpoints, spherical",
        paths.measure_midpoint_fid,
        {"spherical": True},
    ),
    _midpoint_fid(
        "midpoint_fid_equal",
        "FID of midpoints, equal labels",
        paths.measure_midpoint_fid,
        {"different": False},
    ),
    _path(
        "midpoint_recognised",
        "midpoints recognised",
        paths.measure_midpoint_recognised,
        about="share of midpoints that the classifier takes for one of the classes",
        best="100 %",
        better="higher",
        format="percent",
    ),
    _path(
        "midpoint_entropy",
        "predictive entropy at midpoints",
        paths.measure_midpoint_entropy,
        about="entropy of the classifier's label at the midpoint, given that it is a class",
        unit="nats",
    ),
    _sharpness(
        "midpoint_sharpness",
        "sharpness of midpoints",
        paths.measure_midpoint_sharpness,
        section="interpolations",
    ),
]

_accuracy = _family(Metric, section="probes", best="100 %", better="higher", format=".1%")
_READERS = {
    "probe": _family(
        _accuracy,
        about="held-out accuracy of logistic regression (scikit-learn's default penalty) on the "
        "codes of few or of all labelled images ({term}`probe`)",
    ),
    "knn": _family(
        _accuracy,
        about=f"held-out accuracy of the vote of the {probes.NEIGHBOURS} nearest labelled codes "
        "(of fewer, where few of each class are labelled)",
    ),
}
_TITLES = {"probe": "linear probe", "knn": "nearest neighbours"}
_PROBES = [
    *(
        _READERS[kind](
            f"{kind}_{count}",
            f"{_TITLES[kind]}, {'all' if count == 'all' else f'{count:,}'} labels",
            probes.measure_accuracy,
            {"kind": kind, "count": count},
        )
        for kind in _READERS
        for count in (*probes.COUNTS, "all")
    ),
    *(
        _accuracy(
            f"probe_noise_{noise:g}",
            f"linear probe, noise of {noise:g} standard deviations",
            probes.measure_under_noise,
            {"noise": noise},
            about=f"accuracy of the probe with {probes.NOISE_LABELS:,} labels when each latent is "
            "disturbed by Gaussian noise, in proportion to its own standard deviation",
            best="that without noise",
        )
        for noise in probes.NOISE
    ),
]

METRICS = {
    metric.name: metric
    for metric in (*_RECONSTRUCTIONS, *_SAMPLES, *_CODES, *_INTERPOLATIONS, *_PROBES)
}


# The measures of samples that are tried on the controls.
JUDGED = [m.name for m in METRICS.values() if m.asks and m.of["source"] == "prior"]


def names(*sections: str) -> list[str]:
    """The names of the metrics of some sections: what a page shows, to be measured and no more."""
    return [name for name, metric in METRICS.items() if metric.section in sections]


# --- measuring ---


def of(run: Run, names: Iterable[str] | None = None) -> dict[str, Estimate]:
    """The metrics of a run, or those of ``names`` that it has; only missing ones are computed.

    They are kept in the cache under the run's digest. Raises :class:`ValueError` for an unknown
    name, and for a multi-rate run that is not taken at one beta.
    """
    if not hasattr(run.model, "encode"):
        raise ValueError("a multi-rate model is measured at one beta: metrics.of(run.at(beta))")
    wanted = _wanted(run.recipe, names)
    return kept(run.digest, wanted, lambda: Record(run.dataset, run), str(run.recipe))


def of_real(dataset: Dataset) -> dict[str, Estimate]:
    """The real-against-real baseline: one half of the held-out images in place of samples.

    Compared with the other half, so that the classifier has seen neither. The names are those of
    what it is the baseline of. A Fréchet distance of half as many images is a little larger.
    """
    return of_control(dataset, "real", [*JUDGED, "accuracy"])


def of_control(
    dataset: Dataset, name: str, names: Iterable[str] | None = None
) -> dict[str, Estimate]:
    """The measures of samples, of a control in their place; see :mod:`vae_nb.metrics.controls`."""
    digest = f"{dataset.digest}-{_digest(controls.__name__)}"
    title = f"{dataset.name}, {CONTROLS[name].title}"
    wanted = JUDGED if names is None else list(names)
    return kept(f"{name}-{digest}", wanted, lambda: ControlRecord(dataset, name), title)


def of_baseline(dataset: Dataset, kind: str) -> dict[str, Estimate]:
    """The probes on grey levels ("pixels") or on principal components ("components").

    Grey levels are not disturbed by noise: that of each latent has no counterpart there.
    """
    wanted = [
        metric.name
        for metric in METRICS.values()
        if metric.section == "probes"
        and (kind != "pixels" or metric.compute is not probes.measure_under_noise)
    ]
    place = f"{kind}-{dataset.digest}-{len(dataset.train_images)}"
    return kept(place, wanted, lambda: probes.baseline(dataset, kind), dataset.name)


def curve(run: Run, betas: Sequence[float] = CURVE) -> dict[float, dict[str, Estimate]]:
    """Rate and distortion of a multi-rate run at each of ``betas``, ascending; cached.

    By name: ``mse_mean``, ``mse_sample``, ``rate`` and ``active_units`` as in METRICS, and from the
    second beta on ``mse_step`` and ``rate_step``, see :func:`curves.rate_distortion`.
    """
    key = f"curve-{_short(_digest(curves.__name__), json.dumps(list(betas)))}"

    def compute(missing: list[str]) -> dict[str, Any]:
        return {key: curves.rate_distortion(run, betas)}

    def read(points: Any) -> dict[float, Any]:
        return {
            beta: {name: _read(value) for name, value in point.items()}
            for beta, point in zip(betas, points, strict=True)
        }

    return cache.values(_place(run.digest), [key], compute, read)[key]


def measure(
    record: Record,
    names: Iterable[str] | None = None,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Estimate | None]:
    """Metrics of a record (all that its run has), computed now and not cached.

    ``advance`` is called after each.
    """
    values = {}
    for name in _wanted(record.run.recipe, None) if names is None else names:
        values[name] = METRICS[name].compute(record, **METRICS[name].of)
        advance()
    return values


def code(run_or_recipe: Run | Recipe | None = None) -> dict[str, str]:
    """What measured: a digest for each module that computes metrics (those of this run).

    It covers all modules of this package that the module builds upon.
    """
    recipe: Any = getattr(run_or_recipe, "recipe", run_or_recipe)
    modules = {
        metric.compute.__module__
        for metric in METRICS.values()
        if recipe is None or metric.applies(recipe)
    }
    return {module.rpartition(".")[2]: _digest(module) for module in sorted(modules)}


def _wanted(recipe: Recipe, names: Iterable[str] | None) -> list[str]:
    wanted = set(METRICS if names is None else names)
    if unknown := wanted - METRICS.keys():
        raise ValueError(f"no metric is called {', '.join(unknown)}: {', '.join(METRICS)}")
    return [name for name in METRICS if name in wanted and METRICS[name].applies(recipe)]


def _place(name: str) -> Path:
    return cache.folder() / "measured" / name


def kept(
    place: str, names: Sequence[str], record: Callable[[], Record], what: str
) -> dict[str, Estimate]:
    """Metrics of a record, kept in the cache under the name ``place``; missing ones are computed.

    ``what`` says whose they are while they are measured. Those that it does not have are left out.
    """
    keys = {f"{name}-{METRICS[name].identity}": name for name in names}

    def compute(missing: list[str]) -> dict[str, Any]:
        with progress.bar(len(missing), f"measuring {what}", "metric") as advance:
            values = measure(record(), [keys[key] for key in missing], advance)
        return {key: values[keys[key]] for key in missing}

    values = cache.values(_place(place), list(keys), compute, _read)
    return {name: values[key] for key, name in keys.items() if values[key] is not None}


def _read(kept: Any) -> Estimate | None:
    """An estimate from what JSON keeps of it; raises for anything else."""
    if kept is None:
        return None
    estimate = Estimate.read(kept)
    sum((*estimate.interval, *estimate.parts), 0.0)  # all are numbers
    return estimate


def _digest(module: str) -> str:
    """A digest of a module's source and of what it builds upon in this package."""
    return cache.source_digest(*_sources(Path(str(sys.modules[module].__file__))))[:16]


def _sources(path: Path, known: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """``known`` and, if new, ``path`` with the modules of this package that it builds upon."""
    if path in known or not path.exists():
        return known
    known += (path,)
    for name in _imported(path):
        known = _sources(Path(__file__).with_name(f"{name}.py"), known)
    return known


@functools.cache
def _imported(path: Path) -> list[str]:
    """The names of the modules of this package that a source file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{__name__}."):
            package = node.module == __name__
            modules = [alias.name for alias in node.names] if package else [str(node.module)]
            names += [module.rpartition(".")[2] for module in modules]
    return names


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
